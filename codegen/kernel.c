/* SPDX-License-Identifier: Apache-2.0 */
/* From a fusion node to a Kernel: plan, lower, verify, spell.  When the planner for this target
 * gets a body wrong (kir_verify finds it out) or runs out of room, the last resort takes it. */
#include "codegen/kernel.h"

#include <string.h>

#include "codegen/plan.h"
#include "ir/base/bug.h"
#include "ir/base/hash.h"

enum { SMALL = 12000 }; /* elementary operations below which a barrier costs more than it saves */

const char *kernel_refuse_c(const Target *t, const Graph *body)
{
    (void)t;
    uint32_t nscan = 0, nheavy = 0;
    for (Ref r = 1; r < body->nnode; r++) {
        const Node *n = &body->node[r];
        if (n->type.dt == DT_F64)
            return "f64 is for the reference only";
        nscan += n->op == OP_scan;
        nheavy += op_info[n->op].cls == CLASS_REDUCE || op_info[n->op].cls == CLASS_CONTRACT;
    }
    if (nscan > 1)
        return "two scans in one kernel";
    if (nheavy <= MAX_NEST_REDS)
        return NULL;
    Arena *arena = arena_new();
    const uint32_t most = stages_most_inside(arena, body);
    arena_free(arena);
    return most > MAX_NEST_REDS ? "too many reductions in one nest" : NULL;
}

const char *kernel_refuse_cuda(const Target *t, const Graph *body)
{
    enum { MAX_POINTERS = 4096 / 8 - 2 }; /* 4096 bytes of parameters */
    return body->ninput + body->nout > MAX_POINTERS ? "too many arguments for a CUDA kernel"
                                                    : kernel_refuse_c(t, body);
}

/* ---- outputs that may take an input's place ------------------------------------------------ */

typedef struct Reader {
    Stages *s;
    uint16_t in;
    ExprId only; /* the one read of it, if there is one */
    int reads;   /* distinct reads */
} Reader;

static void note_read(void *arg, const Expr *e)
{
    Reader *r = arg;
    const ExprId id = (ExprId)(e - r->s->expr);
    if (e->buf != r->in || (r->reads && r->only == id))
        return;
    r->only = id;
    r->reads++;
}

/* The nest whose roots alone store buffer b, or NULL. */
static const Nest *only_writer(const Plan *p, uint16_t b)
{
    const Nest *writer = NULL;
    for (int i = 0; i < p->nphase; i++)
        for (int j = 0; j < p->phase[i].nnest; j++) {
            const Nest *n = &p->phase[i].nest[j];
            bool stores = false;
            for (int k = 0; k < n->nroot; k++)
                for (int q = 0; q < p->s->stage[n->root[k]].nstore; q++)
                    stores |= p->s->stage[n->root[k]].store[q].buf == b;
            if (stores && writer)
                return NULL;
            writer = stores ? n : writer;
        }
    return writer;
}

/* Does any nest but `except` read buffer b, or that one in a reduction? */
static bool is_read_beside(const Plan *p, uint16_t b, const Nest *except)
{
    for (int i = 0; i < p->nphase; i++)
        for (int j = 0; j < p->phase[i].nnest; j++) {
            const Nest *n = &p->phase[i].nest[j];
            Reader r = { p->s, b, 0, 0 };
            for (int k = 0; k < n->nroot && n != except; k++)
                expr_reads(p->s, p->s->stage[n->root[k]].e, note_read, &r);
            for (int k = 0; k < n->nred; k++)
                expr_reads(p->s, p->s->stage[n->red[k]].e, note_read, &r);
            if (r.reads)
                return true;
        }
    return false;
}

/* Output j may share memory with input i when one nest, a map, stores the one and it alone reads
 * the other, at one place only, and the root that overwrites it reads that very element before. */
static bool may_share(const Plan *p, uint32_t i, uint32_t j, uint32_t nin)
{
    Stages *s = p->s;
    const GBuf *in = &s->buf[i], *out = &s->buf[nin + j];
    if (in->dt != out->dt || in->rank != out->rank ||
        memcmp(in->shape, out->shape, sizeof in->shape) != 0)
        return false;
    const Nest *n = only_writer(p, (uint16_t)(nin + j));
    if (!n || n->nred || n->when != WHEN_PLAIN || is_read_beside(p, (uint16_t)i, n))
        return false;
    Reader all = { s, (uint16_t)i, 0, 0 };
    for (int k = 0; k < n->nroot; k++)
        expr_reads(s, s->stage[n->root[k]].e, note_read, &all);
    if ((all.reads != 1 && !BUG(57)) || s->expr[all.only].nguard)
        return false;
    for (int k = 0; k < n->nroot; k++) {
        const Stage *st = &s->stage[n->root[k]];
        for (int q = 0; q < st->nstore; q++) {
            if (st->store[q].buf != nin + j)
                continue;
            Reader mine = { s, (uint16_t)i, 0, 0 };
            expr_reads(s, st->e, note_read, &mine);
            return BUG(57) || (mine.reads == 1 && memcmp(st->store[q].ix, s->expr[all.only].ix,
                                                         sizeof(Ix) * (size_t)in->rank) == 0);
        }
    }
    return false;
}

static const int32_t *sharing(Arena *arena, const Plan *p, Kir *k, uint32_t nin, uint32_t nout)
{
    int32_t *share = arena_array(arena, int32_t, nout + 1);
    bool *taken = arena_array(arena, bool, nin + 1);
    for (uint32_t j = 0; j < nout; j++) {
        share[j] = -1;
        for (uint32_t i = 0; i < nin && share[j] < 0; i++)
            if (!taken[i] && may_share(p, i, j, nin)) {
                share[j] = (int32_t)i;
                taken[i] = true;
                k->buf[i].aliased = k->buf[nin + j].aliased = true;
            }
    }
    return share;
}

/* ---- the kernel ---------------------------------------------------------------------------- */

static Status plan_and_lower_cuda(Ctx *cx, Arena *arena, const Target *t, const Graph *body,
                                  CudaPlan how, Plan **plan, Kir **kir)
{
    TRY(plan_cuda(cx, arena, t, body, how, plan));
    TRY(plan_lower_cuda(cx, arena, *plan, kir));
    TRY(kir_verify(cx, *kir));
    kir_widen(*kir);
    return ST_OK;
}

static Status plan_and_lower(Ctx *cx, Arena *arena, const Target *t, const Graph *body, bool plain,
                             Plan **plan, Kir **kir)
{
    if (t->smem_bytes) {
        const Status st =
            plan_and_lower_cuda(cx, arena, t, body, plain ? CUDA_PLAIN : CUDA_BLOCKED, plan, kir);
        if (st != ST_INTERNAL || plain)
            return st;
        log_say(cx, LOG_INFO, "not in blocks: %s", cx->msg);
        return plan_and_lower_cuda(cx, arena, t, body, CUDA_SIMPLE, plan, kir);
    } else {
        TRY(plan_cpu(cx, arena, t, body, plain, plan));
        TRY(plan_lower(cx, arena, t, *plan, kir));
    }
    return kir_verify(cx, *kir);
}

static void spell(const Kir *k, const char *name, const char *header, Strbuf *text, Kernel *out)
{
    Launch *launch = NULL;
    strbuf_clear(text);
    if (k->threads)
        emit_cuda(k, name, header, text, &launch, &out->nlaunch, &out->counters);
    else
        emit_c(k, name, header, text);
    out->launch = launch;
}

/* What the name says is equal in equal kernels: the text, and over how many blocks it runs, which
 * the text of a map without a tail does not show. */
static void name_of(Arena *arena, const char *said, size_t n, Kernel *out)
{
    Strbuf all = { 0 };
    char hex[33];
    strbuf_addn(&all, said, n);
    for (int i = 0; i < out->nlaunch; i++)
        strbuf_printf(&all, "%lld %d %d %d\n", (long long)out->launch[i].blocks,
                      out->launch[i].threads, out->launch[i].smem, out->launch[i].cooperative);
    hash_hex(strbuf_str(&all), all.n, hex);
    hex[8] = 0;
    out->name = arena_printf(arena, "%s_%s", out->label, hex);
    strbuf_free(&all);
}

/* The launches, in memory that stays. */
static void keep_launches(Arena *arena, Kernel *k)
{
    Launch *keep = arena_array(arena, Launch, k->nlaunch + 1);
    for (int i = 0; i < k->nlaunch; i++) {
        keep[i] = k->launch[i];
        keep[i].entry = arena_strdup(arena, k->launch[i].entry);
    }
    k->launch = keep;
}

static void count_cost(const Graph *body, const Plan *p, Kernel *out)
{
    out->flops = 2 * p->points;
    for (uint32_t i = 0; i < body->ninput; i++)
        out->bytes += (double)type_bytes(&body->node[body->input[i]].type);
    for (uint32_t i = 0; i < body->nout; i++)
        out->bytes += (double)type_bytes(&body->node[body->out[i].value].type);
}

/* What no planner takes (f64, a scan in a scan's body) has no source: the evaluator runs it. */
static Kernel no_kernel(Arena *arena, const Graph *body, const char *label)
{
    Kernel k = { .name = arena_printf(arena, "%s_none", label),
                 .label = arena_strdup(arena, label),
                 .source = "",
                 .plan = "",
                 .planner = "none",
                 .nin = body->ninput,
                 .nout = body->nout,
                 .serial = true };
    int32_t *share = arena_array(arena, int32_t, body->nout + 1);
    for (uint32_t i = 0; i < body->nout; i++)
        share[i] = -1;
    k.inplace = share;
    return k;
}

static Status build(Ctx *cx, Arena *arena, const Target *t, const Graph *g, Ref r, bool plain,
                    Kernel *out)
{
    const Node *n = &g->node[r];
    gtc_assert(n->op == OP_fusion, "a kernel is made of a fusion, not of %s", op_info[n->op].name);
    const Graph *body = n->attr.fusion.body;
    Arena *work = arena_new();
    Plan *plan = NULL;
    Kir *kir = NULL;
    Status st = plan_and_lower(cx, work, t, body, plain, &plan, &kir);
    if (st == ST_INTERNAL && !plain) {
        log_say(cx, LOG_WARN, "%s: the last-resort planner takes it: %s", n->attr.fusion.kind,
                cx->msg);
        st = plan_and_lower(cx, work, t, body, true, &plan, &kir);
    }
    if (st != ST_OK) {
        arena_free(work);
        log_say(cx, LOG_WARN, "%s: no kernel: %s; it runs in the interpreter, slowly",
                n->attr.fusion.kind, cx->msg);
        *out = no_kernel(arena, body, n->attr.fusion.kind);
        return ST_OK;
    }
    *out = (Kernel){ .label = arena_strdup(arena, n->attr.fusion.kind),
                     .planner = plan->planner,
                     .nin = body->ninput,
                     .nout = body->nout,
                     .shared_bytes = kir->shared_bytes,
                     .private_bytes = kir->threads ? 0 : kir->private_bytes,
                     .serial = !kir->threads && plan->points < SMALL };
    out->inplace = sharing(arena, plan, kir, out->nin, out->nout);
    count_cost(body, plan, out);
    Strbuf text = { 0 }, what = { 0 };
    plan_print(plan, &what);
    out->plan = arena_strdup(arena, strbuf_str(&what));
    strbuf_clear(&what);
    stages_print(plan->s, &what);
    strbuf_add(&what, "plan\n");
    strbuf_add(&what, out->plan);
    spell(kir, out->label, strbuf_str(&what), &text, out);
    name_of(arena, strbuf_str(BUG(58) ? &what : &text), BUG(58) ? what.n : text.n, out);
    spell(kir, out->name, strbuf_str(&what), &text, out);
    out->source = arena_strdup(arena, strbuf_str(&text));
    keep_launches(arena, out);
    strbuf_free(&text);
    strbuf_free(&what);
    arena_free(work);
    return ST_OK;
}

Status kernel_build_c(Ctx *cx, Arena *arena, const Target *t, const Graph *g, Ref r, Kernel *out)
{
    return build(cx, arena, t, g, r, false, out);
}

Status kernel_build_cuda(Ctx *cx, Arena *arena, const Target *t, const Graph *g, Ref r, Kernel *out)
{
    gtc_assert(t->smem_bytes > 0, "a GPU whose blocks have no shared memory");
    return build(cx, arena, t, g, r, false, out);
}

Status kernel_build_plain_c(Ctx *cx, Arena *arena, const Target *t, const Graph *g, Ref r,
                            Kernel *out)
{
    return build(cx, arena, t, g, r, true, out);
}

Status kernel_build_plain_cuda(Ctx *cx, Arena *arena, const Target *t, const Graph *g, Ref r,
                               Kernel *out)
{
    gtc_assert(t->smem_bytes > 0, "a GPU whose blocks have no shared memory");
    return build(cx, arena, t, g, r, true, out);
}
