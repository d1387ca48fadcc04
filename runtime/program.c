/* SPDX-License-Identifier: Apache-2.0 */
/* program: a fused graph and its kernels become a list of steps over memory.
 *
 * Every input and every result of a fusion is a slot.  Then, in this order:
 *
 *     bind       an output finds its home.  One that replaces a param or state is written right
 *                where that lives, if its kernel allows and nobody reads the old value later; else
 *                into planned memory, with a copy at the end of the run.  A plain output that a
 *                kernel makes is written where the caller reads it; anything else is copied.
 *     order      walk the steps.  A step needs a barrier before it when it touches a slot that
 *                another thread may have touched since the last barrier, one of the two writing.
 *                Serial steps are all thread 0's, so between them program order is enough.  The
 *                barriers cut the run into epochs.
 *     plan       a planned slot lives from the first to the last epoch that touches it; memplan
 *                lays those out in one block, and the kernels' workspaces in another.
 *
 * Memory is shared only by slots that no epoch has in common, so reuse never asks for a barrier
 * that the dataflow does not ask for already. */
#include "runtime/program_state.h"

#include <stdlib.h>
#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"
#include "ir/text.h"

/* Runs under way on a device that works by itself, where nobody says; and how many of them have
 * inputs that wait to be brought there, where all of them would take more than so many bytes. */
enum { DEPTH = 4, INPUTS = 4, INPUT_BYTES = 4 << 20, STAGE_BYTES = 256 << 10 };

/* ------------------------------------------------------------ slots */

static int32_t slot_add(Bind *b, Type type)
{
    arena_grow(b->arena, b->slot, b->nslot, b->slot_cap);
    b->slot[b->nslot] = (Slot){ .type = type,
                                .bytes = type_bytes(&type),
                                .root = (int32_t)b->nslot,
                                .plan = -1,
                                .read = { -1, -1 },
                                .written = { -1, -1 },
                                .first = INT32_MAX,
                                .last = -1 };
    return (int32_t)b->nslot++;
}

/* The slot of a value: an input or a get. */
static int32_t slot_of(const Bind *b, Ref r)
{
    const Node *n = &b->g->node[r];
    if (n->op == OP_get)
        return b->slot_base[n->arg[0]] + (int32_t)n->attr.get.index;
    return b->slot_base[r];
}

static int32_t root_of(const Bind *b, int32_t slot)
{
    return b->slot[slot].root;
}

void *program_own(Bind *b, int64_t bytes)
{
    GtcProgram *p = b->p;
    void *at = p->d->ops->alloc(p->d, MEMORY_DEVICE, bytes > 64 ? bytes : 64);
    if (at) {
        arena_grow(p->arena, p->owned, p->nowned, p->owned_cap);
        p->owned[p->nowned++] = (ProgramBlock){ at, bytes };
    }
    return at;
}

static void *pin(Bind *b, int64_t bytes)
{
    GtcProgram *p = b->p;
    void *at = p->d->ops->alloc(p->d, MEMORY_PINNED, bytes > 64 ? bytes : 64);
    if (at) {
        arena_grow(p->arena, p->pinned, p->npinned, p->pinned_cap);
        p->pinned[p->npinned++] = at;
    }
    return at;
}

/* Where the device has its own memory, all batch inputs lie in one block there, which one copy
 * fills, and all outputs in another.  Each has its like on the host: one for the caller, one in
 * each slot. */
static Status ports_alloc(Bind *b, PortBlock *block, int64_t bytes, int depth, Transfer **slots,
                          int *nslot)
{
    GtcProgram *p = b->p;
    if (!p->d->ops->copy || bytes == 0)
        return ST_OK;
    Transfer *t = *slots = arena_array(p->arena, Transfer, depth);
    char *ring = pin(b, size_mul(bytes, depth + 1));
    block->device = program_own(b, bytes);
    if (!ring || !block->device)
        return FAIL(b->cx, MEMORY, "no memory for a batch and its results: %lld bytes%s",
                    (long long)bytes, p->d->trouble);
    block->host = ring + bytes * depth;
    for (int k = 0; k < depth; k++)
        t[k] = (Transfer){ ring + bytes * k, block->device, bytes };
    *nslot = 1;
    return ST_OK;
}

enum { PORT_ALIGN = 256 };

static int64_t port_bytes(const Type *t)
{
    const int64_t bytes = type_bytes(t);
    return size_round_up(bytes > 0 ? bytes : 1, PORT_ALIGN);
}

static void depth_choose(Schedule *s, int wanted, int64_t in_bytes)
{
    s->depth = s->in_depth = wanted > 0 ? wanted : DEPTH;
    if (s->depth > INPUTS && size_mul(in_bytes, s->depth) > INPUT_BYTES) {
        s->in_depth = INPUTS;
        s->depth = s->depth / INPUTS * INPUTS;
    }
}

/* Two more blocks for inputs that are worth it. */
static Status stage_make(Bind *b, int64_t bytes, int64_t least)
{
    GtcProgram *p = b->p;
    if (!b->in.device || bytes < (least > 0 ? least : STAGE_BYTES))
        return ST_OK;
    for (int i = 0; i < 2; i++) {
        p->schedule.stage[i] = program_own(b, bytes);
        if (!p->schedule.stage[i])
            return FAIL(b->cx, MEMORY, "no memory for batches that wait: %lld bytes%s",
                        (long long)bytes, p->d->trouble);
        p->info.arena_bytes = size_add(p->info.arena_bytes, bytes);
    }
    return ST_OK;
}

static Status ports_make(Bind *b, const GtcOptions *opt)
{
    const Graph *g = b->g;
    GtcProgram *p = b->p;
    Schedule *s = &p->schedule;
    int64_t in = 0, out = 0;
    for (uint32_t i = 0; i < g->ninput; i++)
        if (g->node[g->input[i]].attr.input.kind == INPUT_batch)
            in = size_add(in, port_bytes(&g->node[g->input[i]].type));
    for (uint32_t i = 0; i < g->nout; i++)
        if (!g->out[i].replaces) {
            const Type t = graph_result_type(g, g->out[i].value, 0);
            out = size_add(out, port_bytes(&t));
        }
    depth_choose(s, p->d->ops->copy ? opt->depth : 1, in);
    TRY(ports_alloc(b, &b->in, in, s->in_depth, &s->in, &s->nin));
    TRY(ports_alloc(b, &b->out, out, s->depth, &s->out, &s->nout));
    TRY(stage_make(b, in, opt->stage_bytes));
    p->in_host = b->in.host;
    p->out_host = b->out.host;
    return ST_OK;
}

/* The place of the next input or output on the device, and where the caller sees it. */
static void *port_place(Bind *b, PortBlock *block, const Type *t, void **host)
{
    if (!b->p->d->ops->copy)
        return *host = program_own(b, type_bytes(t));
    const int64_t at = block->used;
    block->used += port_bytes(t);
    *host = block->host + at;
    return block->device + at;
}

static Status bind_input(Bind *b, Ref r)
{
    const Node *n = &b->g->node[r];
    const int32_t at = b->slot_base[r] = slot_add(b, n->type);
    Slot *s = &b->slot[at];
    GtcProgram *p = b->p;

    if (n->attr.input.kind != INPUT_batch) {
        TRY(store_tensor(b->cx, b->store, n->name, n->attr.input.kind, &n->type, &s->fixed));
        int64_t *sum = n->attr.input.kind == INPUT_const ? &p->info.data_bytes
                                                         : &p->info.weight_bytes;
        *sum = size_add(*sum, s->bytes);
        return ST_OK;
    }
    void *host;
    s->fixed = port_place(b, &b->in, &n->type, &host);
    if (!s->fixed)
        return FAIL(b->cx, MEMORY, "no memory for input %s: %s%s", n->name, type_str(&n->type),
                    p->d->trouble);
    p->info.arena_bytes = size_add(p->info.arena_bytes, s->bytes);
    p->in[p->nin++] = (Port){ { arena_strdup(p->arena, n->name), INPUT_batch, n->type, host }, at };
    return ST_OK;
}

static Status find_slots(Bind *b)
{
    const Graph *g = b->g;
    int nk = 0;
    b->slot_base = arena_array(b->arena, int32_t, g->nnode);
    b->fusion = arena_array(b->arena, Ref, b->nk);
    b->p->in = arena_array(b->p->arena, Port, g->ninput);
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        if (n->op == OP_input) {
            TRY(bind_input(b, r));
        } else if (n->op == OP_fusion) {
            if (nk == b->nk)
                return FAIL(b->cx, INTERNAL, "program: more fusions than the %d kernels", b->nk);
            b->slot_base[r] = (int32_t)b->nslot;
            for (uint32_t i = 0; i < graph_result_count(g, r); i++)
                slot_add(b, graph_result_type(g, r, i));
            const Kernel *k = &b->k[nk];
            if (k->nin != n->nargs || k->nout != graph_result_count(g, r))
                return FAIL(b->cx, INTERNAL, "program: kernel %s does not fit node %%%u", k->name,
                            r);
            b->fusion[nk++] = r;
        } else if (n->op != OP_get || g->node[n->arg[0]].op != OP_fusion) {
            return FAIL(b->cx, INTERNAL, "program: %s stands outside of every fusion",
                        op_info[n->op].name);
        }
    }
    if (nk != b->nk)
        return FAIL(b->cx, INTERNAL, "program: %d fusions for %d kernels", nk, b->nk);
    return ST_OK;
}

/* ------------------------------------------------------------ outputs */

static void copy_add(Bind *b, int32_t from, int32_t to)
{
    arena_grow(b->arena, b->copy, b->ncopy, b->copy_cap);
    b->copy[b->ncopy++] = (Copy){ from, to };
}

static bool is_output(const Bind *b, Ref r)
{
    for (uint32_t i = 0; i < b->g->nout; i++)
        if (b->g->out[i].value == r)
            return true;
    return false;
}

/* May result i of kernel number `at` be written over the input w? */
static bool may_overwrite(const Bind *b, int at, uint32_t i, Ref w)
{
    const Node *n = &b->g->node[b->fusion[at]];
    uint32_t uses = 0, where = 0;
    for (uint32_t a = 0; a < n->nargs; a++)
        if (n->arg[a] == w) {
            uses++;
            where = a;
        }
    const int32_t inplace = b->code[at].from == CODE_CALL ? -1 : b->k[at].inplace[i];
    if (uses > 1 || (uses == 1 && inplace != (int32_t)where) || is_output(b, w))
        return false;
    for (int later = at + 1 + BUG(60); later < b->nk; later++) {
        const Node *m = &b->g->node[b->fusion[later]];
        for (uint32_t a = 0; a < m->nargs; a++)
            if (m->arg[a] == w)
                return false;
    }
    return true;
}

static void bind_replacing(Bind *b, const Output *o)
{
    const Node *v = &b->g->node[o->value];
    const int32_t from = slot_of(b, o->value), to = slot_of(b, o->replaces);
    int at = 0;

    if (o->value == o->replaces)
        return;
    if (v->op == OP_get && root_of(b, from) == from) {
        while (b->fusion[at] != v->arg[0])
            at++;
        if (may_overwrite(b, at, v->attr.get.index, o->replaces)) {
            b->slot[from].root = to;
            return;
        }
    }
    copy_add(b, from, to);
}

static Status bind_plain(Bind *b, const Output *o, GtcTensor *t, int32_t *slot)
{
    Slot *s = &b->slot[slot_of(b, o->value)];
    int32_t at = slot_of(b, o->value);
    if (s->fixed || s->root != at) { /* an input, in the store, or an output already */
        const int32_t from = at;
        at = slot_add(b, s->type);
        copy_add(b, from, at);
        s = &b->slot[at];
    }
    s->fixed = port_place(b, &b->out, &s->type, &t->data);
    if (!s->fixed)
        return FAIL(b->cx, MEMORY, "no memory for output %s: %s%s", t->name, type_str(&t->type),
                    b->p->d->trouble);
    b->p->info.arena_bytes = size_add(b->p->info.arena_bytes, s->bytes);
    *slot = at;
    return ST_OK;
}

static Status bind_outputs(Bind *b)
{
    const Graph *g = b->g;
    GtcProgram *p = b->p;
    p->out = arena_array(p->arena, Port, g->nout);
    p->nout = (int)g->nout;
    for (uint32_t i = 0; i < g->nout; i++)
        if (g->out[i].replaces)
            bind_replacing(b, &g->out[i]);
    for (uint32_t i = 0; i < g->nout; i++) {
        const Output *o = &g->out[i];
        const Node *from = o->replaces ? &g->node[o->replaces] : NULL;
        Port *port = &p->out[i];
        const char *name = o->name ? o->name : from ? from->name : NULL;
        port->slot = -1;
        port->tensor = (GtcTensor){ .name = name ? arena_strdup(p->arena, name)
                                                 : arena_printf(p->arena, "out%u", i),
                                    .kind = from ? from->attr.input.kind : INPUT_batch,
                                    .type = b->slot[slot_of(b, o->value)].type };
        if (!o->replaces)
            TRY(bind_plain(b, o, &port->tensor, &port->slot));
    }
    return ST_OK;
}

/* A copy whose source another copy writes (two states that swap) goes through memory of its own,
 * and those come first. */
static void stage_copies(Bind *b)
{
    const unsigned n = b->ncopy;
    Copy *old = b->copy;
    b->copy = NULL;
    b->ncopy = b->copy_cap = 0;
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < n; j++)
            if (root_of(b, old[i].from) == root_of(b, old[j].to)) {
                const int32_t stage = slot_add(b, b->slot[old[i].from].type);
                copy_add(b, old[i].from, stage);
                old[i].from = stage;
                break;
            }
    for (unsigned i = 0; i < n - (BUG(70) && n > 1); i++)
        copy_add(b, old[i].from, old[i].to);
}

/* ------------------------------------------------------------ barriers and epochs */

/* Has a thread that may not be ours touched it in this epoch? */
static bool touched(const Bind *b, const int32_t at[2], bool serial)
{
    return at[0] == b->epoch || (at[1] == b->epoch && !serial && !BUG(61));
}

static bool conflicts(const Bind *b, int32_t slot, bool writes, bool serial)
{
    const Slot *s = &b->slot[root_of(b, slot)];
    return touched(b, s->written, serial) || (writes && touched(b, s->read, serial));
}

static void touch(Bind *b, int32_t slot, bool writes, bool serial)
{
    Slot *s = &b->slot[root_of(b, slot)];
    (writes ? s->written : s->read)[serial] = b->epoch;
    if (s->first > b->epoch)
        s->first = b->epoch;
    s->last = b->epoch;
}

/* Gives the step its epoch.  A team of one and a GPU need no barrier, and each step is an epoch. */
static void order_step(Bind *b, Step *s, const int32_t *slot, uint32_t nin, uint32_t n)
{
    const Target *t = &b->p->d->target;
    const bool alone = t->threads == 1 || t->smem_bytes > 0; /* a GPU: in the order of the list */
    bool clash = false;
    for (uint32_t i = 0; i < n; i++)
        clash |= conflicts(b, slot[i], i >= nin, s->serial);
    if (clash || (alone && s != b->p->schedule.step))
        b->epoch++;
    s->barrier = clash && !alone;
    s->epoch = b->epoch;
    for (uint32_t i = 0; i < n; i++)
        touch(b, slot[i], i >= nin, s->serial);
}

static void order_steps(Bind *b, const Code *code, int32_t **slots)
{
    GtcProgram *p = b->p;
    Schedule *sched = &p->schedule;
    sched->step = arena_array(p->arena, Step, b->nk + (int)b->ncopy);
    for (int i = 0; i < b->nk; i++) {
        const Kernel *k = &b->k[i];
        const Node *n = &b->g->node[b->fusion[i]];
        Step *s = &sched->step[sched->nstep++];
        *s = (Step){ .fn = code[i].fn, .nin = k->nin, .nout = k->nout, .kernel = i };
        s->serial = k->serial || code[i].from == CODE_NONE;
        if (code[i].from == CODE_NONE)
            s->body = p->bodies->node[b->fusion[i]].attr.fusion.body;
        int32_t *slot = slots[i] = arena_array(b->arena, int32_t, k->nin + k->nout);
        for (uint32_t a = 0; a < k->nin; a++)
            slot[a] = slot_of(b, n->arg[a]);
        for (uint32_t o = 0; o < k->nout; o++)
            slot[k->nin + o] = b->slot_base[b->fusion[i]] + (int32_t)o;
        order_step(b, s, slot, k->nin, k->nin + k->nout);
    }
    for (unsigned i = 0; i < b->ncopy; i++) {
        Step *s = &sched->step[sched->nstep++];
        int32_t *slot = slots[b->nk + (int)i] = arena_array(b->arena, int32_t, 2);
        *s = (Step){ .nin = 1, .nout = 1, .kernel = -1 };
        s->copy_bytes = b->slot[b->copy[i].from].bytes;
        slot[0] = b->copy[i].from;
        slot[1] = b->copy[i].to;
        order_step(b, s, slot, 1, 2);
    }
}

/* The interpreter needs the bodies for as long as the program lives, so it reads them back from the
 * text into the program's own arena. */
static Status keep_graph(Bind *b, const Code *code)
{
    GtcProgram *p = b->p;
    Strbuf text = { 0 };
    bool interpret = false;
    graph_print(b->g, &text);
    p->fused_text = arena_strdup(p->arena, strbuf_str(&text));
    strbuf_free(&text);
    for (int i = 0; i < b->nk; i++)
        interpret |= code[i].from == CODE_NONE;
    if (interpret)
        TRY(graph_parse(b->cx, p->arena, "fused graph", p->fused_text, &p->bodies));
    return ST_OK;
}

static Status program_build(Bind *b, const GtcOptions *opt)
{
    GtcProgram *p = b->p;
    Code *code = arena_array(b->arena, Code, b->nk);
    TRY(ports_make(b, opt));
    TRY(find_slots(b));
    const char **layers = program_layers(b);
    const LoadCall call = { b->k, layers, b->nk, opt->no_cache, b->g, b->fusion, b->arena };
    TRY(p->d->ops->load(b->cx, p->d, &call, code, &p->schedule.module));
    b->code = code;
    TRY(keep_graph(b, code));
    program_describe(b, code, layers);
    TRY(bind_outputs(b));
    stage_copies(b);
    int32_t **slots = arena_array(b->arena, int32_t *, b->nk + (int)b->ncopy);
    order_steps(b, code, slots);
    return program_place(b, slots);
}

Status program_create(Ctx *cx, GtcDevice *d, GtcStore *s, const Graph *fused, const Kernel *k,
                      int n, const GtcOptions *opt, GtcProgram **out)
{
    *out = NULL;
    GtcProgram *p = calloc(1, sizeof *p);
    if (!p)
        return FAIL(cx, MEMORY, "no memory for a program");
    p->d = d;
    p->arena = arena_new();
    Bind b = { .cx = cx, .p = p, .store = s, .g = fused, .nk = n, .arena = arena_new() };
    b.k = arena_array(b.arena, Kernel, n);
    if (n)
        memcpy(b.k, k, (size_t)n * sizeof *k);
    const Status status = program_build(&b, opt);
    arena_free(b.arena);
    if (status != ST_OK) {
        gtc_program_destroy(p);
        return status;
    }
    *out = p;
    return ST_OK;
}

void gtc_program_destroy(GtcProgram *p)
{
    if (!p)
        return;
    p->d->ops->unload(p->d, p->schedule.module); /* first: it waits for what is under way */
    for (unsigned i = 0; i < p->nowned; i++)
        p->d->ops->release(p->d, MEMORY_DEVICE, p->owned[i].at);
    for (unsigned i = 0; i < p->npinned; i++)
        p->d->ops->release(p->d, MEMORY_PINNED, p->pinned[i]);
    arena_free(p->arena);
    free(p);
}
