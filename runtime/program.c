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
#include "runtime/program.h"

#include <stdlib.h>
#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"
#include "ir/text.h"

enum { DEPTH = 4 }; /* runs under way on a device that works by itself */

typedef struct Slot {
    Type type;
    int64_t bytes;
    int32_t root; /* the slot whose memory it is; itself unless bound in place */
    void *fixed;  /* memory that is not planned, or NULL */
    int32_t plan; /* index of its MemBuf, -1: none */
    /* The last epoch in which it was touched, -1: never; [serial]. */
    int32_t read[2], written[2], first, last;
} Slot;

typedef struct Port { /* a batch input or an output, as the caller sees it */
    GtcTensor tensor;
    int32_t slot; /* -1: its value lives in the store */
} Port;

typedef struct Copy {
    int32_t from, to;
} Copy;

struct GtcProgram {
    GtcDevice *d;
    Arena *arena;
    const char *fused_text;
    Graph *bodies; /* the fused graph again, read back, when a kernel is interpreted; else NULL */
    GtcKernelInfo *kernel;
    Schedule schedule;
    Port *in, *out;
    int nin, nout;
    const Kernel *code; /* [info.kernels]: of each name, source and launches */
    ProgramBlock *owned; /* memory to give back, the device's */
    void **pinned;       /* and the host's */
    unsigned nowned, owned_cap, npinned, pinned_cap;
    int64_t submitted, collected; /* runs */
    char *in_host, *out_host;     /* what the caller sees of schedule.in and out */
    GtcProgramInfo info;
};

typedef struct PortBlock { /* all batch inputs, or all outputs */
    char *device, *host;
    int64_t used;
} PortBlock;

/* What binding works with; in its own arena. */
typedef struct Bind {
    Ctx *cx;
    GtcProgram *p;
    GtcStore *store;
    const Graph *g;
    const Kernel *k;
    int nk;
    Arena *arena;
    Ref *fusion;        /* [nk] */
    int32_t *slot_base; /* by Ref: an input's slot, a fusion's first */
    Slot *slot;
    unsigned nslot, slot_cap;
    PortBlock in, out;
    Copy *copy;
    unsigned ncopy, copy_cap;
    MemBuf *buf, *work;
    int32_t nbuf, nwork;
    int32_t epoch;
} Bind;

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

static void *own(Bind *b, int64_t bytes)
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
static Status ports_alloc(Bind *b, PortBlock *block, int64_t bytes, Transfer **slots, int *nslot)
{
    GtcProgram *p = b->p;
    if (!p->d->ops->copy || bytes == 0)
        return ST_OK;
    Transfer *t = *slots = arena_array(p->arena, Transfer, DEPTH);
    bool room = (block->device = own(b, bytes)) != NULL && (block->host = pin(b, bytes)) != NULL;
    for (int k = 0; k < DEPTH && room; k++) {
        t[k] = (Transfer){ pin(b, bytes), block->device, bytes };
        room = t[k].host != NULL;
    }
    if (!room)
        return FAIL(b->cx, MEMORY, "no memory for a batch and its results: %lld bytes%s",
                    (long long)bytes, p->d->trouble);
    *nslot = 1;
    return ST_OK;
}

enum { PORT_ALIGN = 256 };

static int64_t port_bytes(const Type *t)
{
    const int64_t bytes = type_bytes(t);
    return size_round_up(bytes > 0 ? bytes : 1, PORT_ALIGN);
}

static Status ports_make(Bind *b)
{
    const Graph *g = b->g;
    GtcProgram *p = b->p;
    Schedule *s = &p->schedule;
    int64_t in = 0, out = 0;
    s->depth = p->d->ops->copy ? DEPTH : 1;
    for (uint32_t i = 0; i < g->ninput; i++)
        if (g->node[g->input[i]].attr.input.kind == INPUT_batch)
            in = size_add(in, port_bytes(&g->node[g->input[i]].type));
    for (uint32_t i = 0; i < g->nout; i++)
        if (!g->out[i].replaces) {
            const Type t = graph_result_type(g, g->out[i].value, 0);
            out = size_add(out, port_bytes(&t));
        }
    TRY(ports_alloc(b, &b->in, in, &s->in, &s->nin));
    TRY(ports_alloc(b, &b->out, out, &s->out, &s->nout));
    p->in_host = b->in.host;
    p->out_host = b->out.host;
    return ST_OK;
}

/* The place of the next input or output on the device, and where the caller sees it. */
static void *port_place(Bind *b, PortBlock *block, const Type *t, void **host)
{
    if (!b->p->d->ops->copy)
        return *host = own(b, type_bytes(t));
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
        p->info.weight_bytes = size_add(p->info.weight_bytes, s->bytes);
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
    if (uses > 1 || (uses == 1 && b->k[at].inplace[i] != (int32_t)where) || is_output(b, w))
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

/* ------------------------------------------------------------ memory */

/* A line of the cache; on a GPU what a warp reads at once. */
static int64_t align_of(const Bind *b)
{
    return b->p->d->target.smem_bytes > 0 ? 256 : 64;
}

/* Only what runs as code needs its workspace. */
static void plan_workspace(Bind *b)
{
    const Schedule *s = &b->p->schedule;
    b->work = arena_array(b->p->arena, MemBuf, 2 * s->nstep);
    for (int i = 0; i < s->nstep; i++) {
        const Step *step = &s->step[i];
        const Kernel *k = step->kernel >= 0 && !step->body ? &b->k[step->kernel] : NULL;
        const int64_t nt = step->serial ? 1 : b->p->d->target.threads;
        b->work[2 * i] = b->work[2 * i + 1] =
            (MemBuf){ .align = align_of(b), .first = step->epoch, .last = step->epoch };
        if (k) {
            b->work[2 * i].bytes = k->shared_bytes;
            b->work[2 * i + 1].bytes = size_mul(k->private_bytes, BUG(63) ? 1 : nt);
            b->work[2 * i + 1].align = 4096;
        }
    }
    b->nwork = 2 * s->nstep;
}

static void plan_slots(Bind *b)
{
    b->buf = arena_array(b->p->arena, MemBuf, b->nslot);
    for (unsigned i = 0; i < b->nslot; i++) {
        Slot *s = &b->slot[i];
        if (s->fixed || s->root != (int32_t)i || s->last < 0)
            continue;
        s->plan = b->nbuf;
        b->buf[b->nbuf++] =
            (MemBuf){ .bytes = s->bytes, .align = align_of(b), .first = s->first, .last = s->last };
    }
}

static Status no_memory(const Bind *b, const char *what, int64_t bytes)
{
    return FAIL(b->cx, MEMORY, "no memory for %s: %lld bytes%s", what, (long long)bytes,
                b->p->d->trouble);
}

static void planned_add(Bind *b, void *at, int64_t bytes)
{
    Schedule *s = &b->p->schedule;
    if (bytes)
        s->planned[s->nplanned++] = (Transfer){ .device = at, .bytes = bytes };
}

/* Gives each buffer its address in at[]: in one block, or in sanitized builds each on its own. */
static Status place(Bind *b, MemBuf *buf, int n, int64_t peak, const char *what, char **at)
{
#if defined(GTC_SANITIZE)
    Schedule *s = &b->p->schedule;
    Guard *more = arena_array(b->p->arena, Guard, s->nguard + n);
    if (s->nguard)
        memcpy(more, s->guard, (size_t)s->nguard * sizeof *more);
    s->guard = more;
    for (int i = 0; i < n; i++) {
        at[i] = own(b, buf[i].bytes);
        if (!at[i])
            return no_memory(b, what, peak);
        planned_add(b, at[i], buf[i].bytes);
        if (buf[i].bytes)
            s->guard[s->nguard++] = (Guard){ at[i], &buf[i] };
    }
#else
    char *block = own(b, peak);
    if (!block)
        return no_memory(b, what, peak);
    planned_add(b, block, peak);
    for (int i = 0; i < n; i++)
        at[i] = block + buf[i].offset;
#endif
    return ST_OK;
}

/* Counters keep their values from run to run, so that each kernel has its own. */
static Status place_counters(Bind *b)
{
    enum { LINE = 128 };
    Schedule *s = &b->p->schedule;
    int64_t bytes = 0;
    for (int i = 0; i < s->nstep; i++)
        if (s->step[i].kernel >= 0 && !s->step[i].body)
            bytes += size_round_up(size_mul(b->k[s->step[i].kernel].counters, 4), LINE);
    if (bytes == 0)
        return ST_OK;
    char *at = own(b, bytes);
    if (!at)
        return no_memory(b, "the kernels' counters", bytes);
    for (int i = 0; i < s->nstep; i++) {
        Step *step = &s->step[i];
        const int64_t n = step->kernel < 0 || step->body ? 0 : 4 * b->k[step->kernel].counters;
        if (n == 0)
            continue;
        step->arg[step->nin + step->nout + 1] = at;
        step->bytes[step->nin + step->nout + 1] = n;
        at += size_round_up(n, LINE);
    }
    return ST_OK;
}

static Status place_all(Bind *b, int32_t **slots)
{
    GtcProgram *p = b->p;
    Schedule *s = &p->schedule;
    plan_slots(b);
    plan_workspace(b);
    const int64_t values = memplan_solve(b->arena, b->buf, b->nbuf);
    p->info.workspace_bytes = memplan_solve(b->arena, b->work, b->nwork);
    p->info.arena_bytes = size_add(p->info.arena_bytes, values);
    p->info.peak_bytes =
        size_add(size_add(p->info.arena_bytes, p->info.weight_bytes), p->info.workspace_bytes);
    s->planned = arena_array(p->arena, Transfer, b->nbuf + b->nwork + 2);
    char **at = arena_array(b->arena, char *, b->nbuf),
         **work = arena_array(b->arena, char *, b->nwork);
    TRY(place(b, b->buf, b->nbuf, values, "the values of a run", at));
    TRY(place(b, b->work, b->nwork, p->info.workspace_bytes, "the kernels' workspace", work));
    for (int i = 0; i < s->nstep; i++) {
        Step *step = &s->step[i];
        const uint32_t n = step->nin + step->nout;
        step->arg = arena_array(p->arena, void *, n + 2);
        step->bytes = arena_array(p->arena, int64_t, n + 2);
        for (uint32_t a = 0; a < n; a++) {
            const Slot *root = &b->slot[root_of(b, slots[i][a])];
            step->arg[a] = root->fixed ? root->fixed : at[root->plan];
            step->bytes[a] = root->bytes;
        }
        for (int w = 0; w < 2; w++) {
            step->arg[n + w] = work[2 * i + w];
            step->bytes[n + w] = b->work[2 * i + w].bytes;
        }
    }
    return place_counters(b);
}

/* ------------------------------------------------------------ what a kernel is, for people */

static void layers_of(const Graph *body, uint8_t *seen, int n)
{
    for (Ref r = 1; r < body->nnode; r++) {
        const Node *node = &body->node[r];
        const int layer = node->region ? body->region[node->region].layer : -1;
        if (layer >= 0 && layer < n && op_info[node->op].cls != CLASS_SOURCE)
            seen[layer] = 1;
        if (node->op == OP_scan)
            layers_of(node->attr.scan.body, seen, n);
    }
}

static const char *layers_text(Arena *arena, const Graph *body)
{
    enum { MAX_LAYERS = 4096 };
    uint8_t seen[MAX_LAYERS] = { 0 };
    Strbuf b = { 0 };
    layers_of(body, seen, MAX_LAYERS);
    for (int i = 0; i < MAX_LAYERS; i++)
        if (seen[i])
            strbuf_printf(&b, "%s%d", b.n ? "," : "", i);
    const char *text = arena_strdup(arena, strbuf_str(&b));
    strbuf_free(&b);
    return text;
}

static const char *keep(Arena *arena, const char *s)
{
    return arena_strdup(arena, s ? s : "");
}

/* What ProgramView says of a kernel. */
static Kernel keep_code(Arena *arena, const Kernel *k, const GtcKernelInfo *info)
{
    Launch *launch = arena_array(arena, Launch, k->nlaunch);
    for (int i = 0; i < k->nlaunch; i++) {
        launch[i] = k->launch[i];
        launch[i].entry = keep(arena, k->launch[i].entry);
    }
    return (Kernel){ .name = info->name,
                     .label = info->label,
                     .source = info->source,
                     .launch = launch,
                     .nlaunch = k->nlaunch };
}

static void describe_kernels(Bind *b, const Code *code, const char *const *layers)
{
    GtcProgram *p = b->p;
    Kernel *kept = arena_array(p->arena, Kernel, b->nk);
    p->code = kept;
    p->kernel = arena_array(p->arena, GtcKernelInfo, b->nk);
    for (int i = 0; i < b->nk; i++) {
        const Kernel *k = &b->k[i];
        p->kernel[i] = (GtcKernelInfo){
            .name = keep(p->arena, k->name),
            .label = keep(p->arena, k->label),
            .planner = keep(p->arena, k->planner),
            .node = b->fusion[i],
            .layers = layers[i],
            .source = keep(p->arena, k->source),
            .plan = keep(p->arena, k->plan),
            .flops = k->flops,
            .bytes = k->bytes,
            .interpreted = code[i].from == CODE_NONE,
        };
        kept[i] = keep_code(p->arena, k, &p->kernel[i]);
        p->info.compiled += code[i].from == CODE_COMPILED;
        p->info.cached += code[i].from == CODE_CACHED;
        p->info.interpreted += code[i].from == CODE_NONE;
    }
    p->info.kernels = b->nk;
    p->info.launches = 0;
    for (int i = 0; i < b->nk; i++)
        p->info.launches += code[i].from != CODE_NONE && b->k[i].launch ? b->k[i].nlaunch : 1;
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

static Status program_build(Bind *b, bool no_cache)
{
    GtcProgram *p = b->p;
    Code *code = arena_array(b->arena, Code, b->nk);
    TRY(ports_make(b));
    TRY(find_slots(b));
    const char **layers = arena_array(p->arena, const char *, b->nk);
    for (int i = 0; i < b->nk; i++)
        layers[i] = layers_text(p->arena, b->g->node[b->fusion[i]].attr.fusion.body);
    const LoadCall call = { b->k, layers, b->nk, no_cache };
    TRY(p->d->ops->load(b->cx, p->d, &call, code, &p->schedule.module));
    TRY(keep_graph(b, code));
    describe_kernels(b, code, layers);
    TRY(bind_outputs(b));
    stage_copies(b);
    int32_t **slots = arena_array(b->arena, int32_t *, b->nk + (int)b->ncopy);
    order_steps(b, code, slots);
    return place_all(b, slots);
}

Status program_create(Ctx *cx, GtcDevice *d, GtcStore *s, const Graph *fused, const Kernel *k,
                      int n, bool no_cache, GtcProgram **out)
{
    *out = NULL;
    GtcProgram *p = calloc(1, sizeof *p);
    if (!p)
        return FAIL(cx, MEMORY, "no memory for a program");
    p->d = d;
    p->arena = arena_new();
    Bind b = { .cx = cx, .p = p, .store = s, .g = fused, .k = k, .nk = n, .arena = arena_new() };
    const Status status = program_build(&b, no_cache);
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

/* ------------------------------------------------------------ running and asking */

int gtc_program_depth(const GtcProgram *p)
{
    return p->schedule.depth;
}

/* Between what the caller sees and a slot. */
static void fill_slot(GtcProgram *p, int slot)
{
    const Schedule *s = &p->schedule;
    if (s->nin)
        memcpy(s->in[slot].host, p->in_host, (size_t)s->in[slot].bytes);
}

static void empty_slot(GtcProgram *p, int slot)
{
    const Schedule *s = &p->schedule;
    if (s->nout)
        memcpy(p->out_host, s->out[slot].host, (size_t)s->out[slot].bytes);
}

Status gtc_program_submit(Ctx *cx, GtcProgram *p)
{
    const Schedule *s = &p->schedule;
    gtc_assert(p->submitted - p->collected < s->depth, "%lld runs under way",
               (long long)(p->submitted - p->collected));
    const int slot = (int)(p->submitted % s->depth);
    fill_slot(p, slot);
    TRY(p->d->ops->run(cx, p->d, s, slot, NULL));
    p->submitted++;
    return ST_OK;
}

Status gtc_program_collect(Ctx *cx, GtcProgram *p)
{
    gtc_assert(p->submitted > p->collected, "no run is under way");
    const int slot = (int)(p->collected++ % p->schedule.depth);
    if (p->d->ops->wait)
        TRY(p->d->ops->wait(cx, p->d, &p->schedule, slot));
    empty_slot(p, slot);
    return ST_OK;
}

Status gtc_program_run(Ctx *cx, GtcProgram *p)
{
    TRY(gtc_program_submit(cx, p));
    return gtc_program_collect(cx, p);
}

Status gtc_program_profile(Ctx *cx, GtcProgram *p, int runs, double *ms)
{
    memset(ms, 0, (size_t)p->info.kernels * sizeof *ms);
    fill_slot(p, 0);
    for (int i = 0; i < runs; i++)
        TRY(p->d->ops->run(cx, p->d, &p->schedule, 0, ms));
    empty_slot(p, 0);
    return ST_OK;
}

int gtc_program_input_count(const GtcProgram *p)
{
    return p->nin;
}
GtcTensor gtc_program_input(const GtcProgram *p, int i)
{
    return p->in[i].tensor;
}
int gtc_program_output_count(const GtcProgram *p)
{
    return p->nout;
}
GtcTensor gtc_program_output(const GtcProgram *p, int i)
{
    return p->out[i].tensor;
}

static int port_find(const Port *port, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(port[i].tensor.name, name) == 0)
            return i;
    return -1;
}

int gtc_program_find_input(const GtcProgram *p, const char *name)
{
    return port_find(p->in, p->nin, name);
}
int gtc_program_find_output(const GtcProgram *p, const char *name)
{
    return port_find(p->out, p->nout, name);
}
GtcProgramInfo gtc_program_info(const GtcProgram *p)
{
    return p->info;
}
GtcKernelInfo gtc_program_kernel(const GtcProgram *p, int i)
{
    return p->kernel[i];
}
const char *gtc_program_fused_text(const GtcProgram *p)
{
    return p->fused_text;
}

ProgramView program_view(const GtcProgram *p)
{
    return (ProgramView){ p->d, &p->schedule, p->code, p->info.kernels, p->owned, (int)p->nowned };
}

void program_set_info(GtcProgram *p, int ops, double compile_ms)
{
    p->info.ops = ops;
    p->info.compile_ms = compile_ms;
}

int program_barriers(const GtcProgram *p)
{
    int n = 0;
    for (int i = 0; i < p->schedule.nstep; i++)
        n += p->schedule.step[i].barrier;
    return n;
}
