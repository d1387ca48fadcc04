/* SPDX-License-Identifier: Apache-2.0 */
/* KIR as CUDA C, in the part of the language that is C11 too, so that a host compiler takes it
 * (prelude_cuda.inc has what is not plain C).
 *
 * Each part of the kernel between barriers is a function of its own, a launch.  Its grid holds the
 * blocks of all its loops over the team, one behind the other: a block finds by its number which of
 * them it belongs to, and does one iteration.  Loops over all threads get as many blocks as they
 * have iterations for, up to a limit, and step by the number of their threads.
 *
 * Where the last of several blocks goes on, one thread of each counts its arrival, between two
 * barriers of the block (gtc_last_of, which leaves the counter at 0): of a tile's blocks in the
 * middle of a launch, of all blocks at its end.
 *
 * Loops that are shared out together become one number, taken apart by / and %: the last of them
 * runs fastest, so neighbouring threads have neighbouring iterations of it.
 *
 * Indices are int where no flat index, loop or sum in the kernel goes beyond; else 64 bits. */
#include "codegen/emit.h"

#include <stdio.h>
#include <string.h>

#include "codegen/kernel.h"
#include "ir/base/bug.h"
#include "ir/base/size.h"

enum {
    MAX_GRID_BLOCKS = 4096,
    MAX_ITEMS = 4096,
    MAX_TOGETHER = 32,
    SCRATCH_BYTES = 256, /* of reductions over the block, and behind them whether it is the last */
    FLAG_AT = 128
};

typedef struct Item { /* a top-level loop of a launch */
    const KNode *loop;
    int64_t blocks, count; /* count: iterations of all loops that are shared out together */
    int turn;              /* 0: of all blocks; 1 ..: of the last one, after so many barriers */
} Item;

typedef struct Cuda {
    Emit e;
    const char *index; /* the type of indices */
    const Item *item;  /* item[0 .. nitem) are those of the launch */
    int nitem;
    int64_t from, blocks;     /* of the item: the block it starts with, and how many it has */
    bool scratch, flag;       /* a reduction over the block was met; a last block */
    const KNode *const *team; /* loops of the item */
    int nteam;
    int32_t counters; /* used so far */
} Cuda;

/* ---- loops ------------------------------------------------------------------------------- */

static int64_t loop_count(const Emit *e, const KNode *n)
{
    return ix_var_count(e->k->pool, n->var);
}

/* n and the loops right in it that are shared out with it. */
static int together(const Emit *e, const KNode *n, const KNode **loop, int64_t *count)
{
    int k = 0;
    const KNode *in = n;
    *count = 1;
    for (; in && in->op == K_LOOP && in->bind == n->bind; in = in->body) {
        gtc_assert(k < MAX_TOGETHER, "more than %d loops in each other", MAX_TOGETHER);
        loop[k++] = in;
        *count = size_mul(*count, loop_count(e, in));
    }
    return k;
}

/* Each loop's variable out of their common number. */
static void put_digits(Cuda *c, const KNode *const *loop, int n, const char *number)
{
    Emit *e = &c->e;
    int64_t below = 1;
    for (int i = n - 1; i >= 0; i--) {
        const int64_t count = loop_count(e, loop[i]);
        if (count == 1)
            continue; /* its variable is 0 in every index */
        emit_line(e);
        strbuf_printf(e->out, "const %s %s = ", c->index, ix_var_name(e->k->pool, loop[i]->var));
        if (below > 1)
            strbuf_printf(e->out, i ? "%s / %lld %% %lld;\n" : "%s / %lld;\n", number,
                          (long long)below, (long long)count);
        else
            strbuf_printf(e->out, i ? "%s %% %lld;\n" : "%s;\n", number, (long long)count);
        below *= count;
    }
}

static void put_nodes(Cuda *c, const KNode *n, int64_t along);

static void put_inside(Cuda *c, const KNode *body, int64_t along)
{
    c->e.indent++;
    put_nodes(c, body, along);
    c->e.indent--;
    emit_line(&c->e);
    strbuf_add(c->e.out, "}\n");
}

/* Shared out over `threads`, of which this is `me`. */
static void put_shared_loop(Cuda *c, const KNode *n, const char *me, int64_t threads)
{
    Emit *e = &c->e;
    const KNode *loop[MAX_TOGETHER];
    int64_t count;
    const int k = together(e, n, loop, &count);
    const char *number = arena_printf(e->k->arena, "n%u", (unsigned)loop[0]->var);
    if (count == 0)
        return;
    emit_line(e);
    if (count > threads)
        strbuf_printf(e->out, "for (%s %s = %s; %s < %lld; %s += %lld) {\n", c->index, number, me,
                      number, (long long)count, number, (long long)threads);
    else if (count < threads)
        strbuf_printf(e->out, "if (%s < %lld) {\n", me, (long long)count);
    else
        strbuf_add(e->out, "{\n");
    e->indent++;
    put_digits(c, loop, k, count > threads ? number : me);
    e->indent--;
    put_inside(c, loop[k - 1]->body, loop_count(e, loop[k - 1]));
}

static void put_loop(Cuda *c, const KNode *n, int64_t along)
{
    Emit *e = &c->e;
    const char *v = ix_var_name(e->k->pool, n->var);
    const int64_t count = loop_count(e, n);
    if (count == 0)
        return;
    if (n->bind == BIND_THREAD) {
        put_shared_loop(c, n, "tid", e->k->threads);
        return;
    }
    if (n->bind == BIND_UNROLL && count > 1) {
        emit_line(e);
        strbuf_printf(e->out, "GTC_UNROLL(%d)\n", n->unroll ? n->unroll : 1);
    }
    emit_line(e);
    if (count == 1)
        strbuf_add(e->out, "{\n");
    else
        strbuf_printf(e->out, "for (%s %s = 0; %s < %lld; %s++) {\n", c->index, v, v,
                      (long long)count, v);
    put_inside(c, n->body, along);
}

/* ---- the last block ------------------------------------------------------------------------ */

/* if (this is the last of `blocks` to come here) {  counter: which counts them, as an expression */
static void put_arrival(Cuda *c, const char *counter, int64_t blocks)
{
    Emit *e = &c->e;
    emit_line(e);
    strbuf_add(e->out, BUG(75) ? "\n" : "gtc_bar();\n");
    if (blocks == 1) {
        emit_line(e);
        strbuf_add(e->out, "{\n");
        return;
    }
    c->flag = true;
    emit_line(e);
    strbuf_add(e->out, "if (tid == 0)\n");
    e->indent++;
    emit_line(e);
    strbuf_printf(e->out, "*flag = gtc_last_of(&counters[%s], %lld);\n", counter,
                  (long long)blocks);
    e->indent--;
    emit_line(e);
    strbuf_add(e->out, "gtc_bar();\n");
    emit_line(e);
    strbuf_add(e->out, "if (*flag) {\n");
}

/* The blocks that differ in n->var alone have a counter of their own: the number of their other
 * loops. */
static void put_last(Cuda *c, const KNode *n)
{
    Emit *e = &c->e;
    Strbuf at = { 0 };
    int64_t below = 1;
    for (int i = c->nteam - 1; i >= 0; i--) {
        const int64_t count = loop_count(e, c->team[i]);
        if (c->team[i]->var == n->var || count == 1 || BUG(76))
            continue;
        strbuf_printf(&at, "%s%s", at.n ? " + " : "", ix_var_name(e->k->pool, c->team[i]->var));
        if (below > 1)
            strbuf_printf(&at, " * %lld", (long long)below);
        below = size_mul(below, count);
    }
    gtc_assert(below < INT32_MAX - c->counters, "%lld counters", (long long)below);
    if (c->counters || !at.n)
        strbuf_printf(&at, "%s%d", at.n ? " + " : "", c->counters);
    put_arrival(c, strbuf_str(&at), ix_var_count(e->k->pool, n->var));
    strbuf_free(&at);
    c->counters += (int32_t)below;
    put_inside(c, n->body, 0);
}

static void put_node(Cuda *c, const KNode *n, int64_t along)
{
    Emit *e = &c->e;
    if (n->op == K_LAST) {
        put_last(c, n);
        return;
    }
    if (n->op == K_LOOP) {
        put_loop(c, n, along);
        return;
    }
    if (n->op == K_CONST) {
        e->constant[n->dst] = &n->value;
        return;
    }
    emit_line(e);
    switch (n->op) {
    case K_WHEN:
        strbuf_add(e->out, "if (");
        emit_guards(e, n);
        strbuf_add(e->out, ") {\n");
        put_inside(c, n->body, along);
        return;
    case K_SYNC:
        strbuf_add(e->out, "gtc_bar();\n");
        return;
    case K_NOTE:
        strbuf_add(e->out, "/* ");
        emit_comment_text(e->out, n->text, strlen(n->text));
        strbuf_add(e->out, " */\n");
        return;
    case K_STORE:
    case K_LOAD4:
    case K_STORE4:
        emit_cuda_access(e, n);
        return;
    case K_PICK:
        strbuf_printf(e->out, "const %s %s = (%s)gtc_pick(", c->index,
                      ix_var_name(e->k->pool, n->var), c->index);
        emit_vals(e, n->arg, 1);
        strbuf_printf(e->out, ", %lld);\n", (long long)ix_var_count(e->k->pool, n->var));
        return;
    case K_SET:
        strbuf_printf(e->out, "a%u = ", n->dst);
        break;
    case K_ACC:
        strbuf_printf(e->out, "%s a%u = ", emit_cuda_register(e->k->val[n->dst].reg), n->dst);
        break;
    default:
        strbuf_printf(e->out, "const %s v%u = ", emit_cuda_register(e->k->val[n->dst].reg), n->dst);
    }
    emit_cuda_value(e, n, along);
    c->scratch |= n->op == K_ACROSS && along != 32;
    strbuf_add(e->out, ";\n");
}

static void put_nodes(Cuda *c, const KNode *n, int64_t along)
{
    for (; n; n = n->next)
        put_node(c, n, along);
}

/* ---- how wide an index is ---------------------------------------------------------------- */

static bool fits_int(const Emit *e, Ix ix)
{
    const IxRange r = ix_range(e->k->pool, ix);
    return r.lo > r.hi || (r.lo > INT32_MIN / 2 && r.hi < INT32_MAX / 2);
}

static bool is_access(const KNode *n)
{
    return n->op == K_LOAD || n->op == K_STORE || n->op == K_LOAD4 || n->op == K_STORE4;
}

/* Every term of a flat index is computed alone. */
static bool small_indices(const Emit *e, const KNode *n)
{
    for (; n; n = n->next) {
        const bool access = is_access(n);
        const KBuf *b = access ? &e->k->buf[n->buf] : NULL;
        for (int d = 0; access && d < b->rank; d++)
            if (!fits_int(e, ix_scale(e->k->pool, n->ix[d], b->stride[d])))
                return false;
        if ((n->op == K_LOOP || n->op == K_PICK) && loop_count(e, n) > INT32_MAX / 2)
            return false;
        for (int i = 0; i < n->nguard; i++)
            if (!fits_int(e, n->guard[i].ix))
                return false;
        if (n->op == K_INDEX && !fits_int(e, n->ix[0]))
            return false;
        const KNode *loop[MAX_TOGETHER];
        int64_t count = 0;
        if (n->op == K_LOOP && n->bind >= BIND_TEAM)
            together(e, n, loop, &count);
        if (count > INT32_MAX / 4 || !small_indices(e, n->body))
            return false;
    }
    return true;
}

/* ---- launches ---------------------------------------------------------------------------- */

static const KBuf *buffer_of(const Kir *k, BufClass cls, uint32_t arg)
{
    for (uint32_t i = 0; i < k->nbuf; i++)
        if (k->buf[i].cls == cls && k->buf[i].arg == arg)
            return &k->buf[i];
    return NULL;
}

enum { LOADS = 1, STORES = 2 };

static int uses(const Emit *e, const KNode *n, BufId buf)
{
    int found = 0;
    for (; n && found != (LOADS | STORES); n = n->next) {
        if (is_access(n) && n->buf == buf)
            found |= n->op == K_LOAD || n->op == K_LOAD4 ? LOADS : STORES;
        if (n->op != K_LOOP || loop_count(e, n))
            found |= uses(e, n->body, buf);
    }
    return found;
}

/* What the launch does with it. */
static int launch_uses(const Cuda *c, const KBuf *b)
{
    int found = 0;
    for (int i = 0; i < c->nitem; i++) {
        KNode one = *c->item[i].loop;
        one.next = NULL;
        found |= uses(&c->e, &one, (BufId)(b - c->e.k->buf));
    }
    return found;
}

/* What a launch both stores and loads its threads may hand to each other across a barrier, and to a
 * compiler `restrict` says that no barrier changes it: it would repeat what it knew. */
static const char *restrict_of(const Cuda *c, const KBuf *b)
{
    return b->aliased || launch_uses(c, b) == (LOADS | STORES) ? "" : "__restrict__ ";
}

static const char *const UNTYPED = "gtc_u8";

static void put_parameters(const Cuda *c, bool entry)
{
    const Kir *k = c->e.k;
    Strbuf *out = c->e.out;
    for (uint32_t i = 0; i < k->nin + k->nout; i++) {
        const bool in = i < k->nin;
        const KBuf *b = buffer_of(k, in ? BUF_IN : BUF_OUT, in ? i : i - k->nin);
        const char *type = b ? emit_cuda_memory(b->dt) : UNTYPED;
        if (entry)
            strbuf_printf(out, "*(%s%s *const *)a[%u], ", in ? "const " : "", type, i);
        else if (b)
            strbuf_printf(out, "%s%s *%s%s, ", in ? "const " : "", type, restrict_of(c, b),
                          c->e.name[b - k->buf]);
        else
            strbuf_printf(out, "%s%s *unused%u, ", in ? "const " : "", type, i);
    }
    const uint32_t n = k->nin + k->nout;
    if (entry)
        strbuf_printf(out, "*(gtc_u8 *const *)a[%u], *(gtc_u32 *const *)a[%u]", n, n + 1);
    else
        strbuf_add(out, "gtc_u8 *work, gtc_u32 *counters");
}

static void name_buffers(Emit *e)
{
    for (uint32_t i = 0; i < e->k->nbuf; i++) {
        e->name[i] = e->k->buf[i].name;
        while (ix_name_taken(e->k->pool, e->name[i]))
            e->name[i] = arena_printf(e->k->arena, "%s_", e->name[i]);
    }
}

/* Workspace, shared memory and registers that the launch uses. */
static void put_buffers(Cuda *c)
{
    Emit *e = &c->e;
    for (uint32_t i = 0; i < e->k->nbuf; i++) {
        const KBuf *b = &e->k->buf[i];
        if (b->cls == BUF_IN || b->cls == BUF_OUT || !launch_uses(c, b))
            continue;
        const char *type = emit_cuda_memory(b->dt);
        emit_line(e);
        if (b->cls == BUF_REGISTERS) {
            int64_t count = 1;
            for (int d = b->threads; d < b->rank; d++)
                count = size_mul(count, b->shape[d]);
            strbuf_printf(e->out, "%s %s[%lld];\n", type, e->name[i], (long long)count);
            continue;
        }
        strbuf_printf(e->out, "%s *const %s%s = (%s *)(%s + %lld);\n", type, restrict_of(c, b),
                      e->name[i], type, b->cls == BUF_SHARED ? "work" : "gtc_smem()",
                      (long long)b->offset);
    }
}

static void find_items(const Emit *e, const KNode *from, const KNode *to, Item *item, int *n)
{
    int turn = 0;
    *n = 0;
    for (; from != to; from = from->next) {
        turn += from->op == K_BARRIER && *n; /* where nothing came before, all blocks do it */
        if (from->op != K_LOOP)
            continue;
        gtc_assert(from->bind == BIND_TEAM || from->bind == BIND_GRID,
                   "a loop outside of the team");
        gtc_assert(*n < MAX_ITEMS, "more than %d loops in a launch", MAX_ITEMS);
        const KNode *loop[MAX_TOGETHER];
        Item *it = &item[*n];
        it->loop = from;
        together(e, from, loop, &it->count);
        if (it->count == 0)
            continue;
        (*n)++;
        it->turn = turn;
        it->blocks = it->count;
        if (from->bind == BIND_GRID) {
            it->blocks = size_ceil_div(it->count, e->k->threads);
            it->blocks = it->blocks > MAX_GRID_BLOCKS ? MAX_GRID_BLOCKS : it->blocks;
        }
    }
}

static void put_item(Cuda *c, const Item *it, bool alone)
{
    Emit *e = &c->e;
    const int64_t threads = size_mul(it->blocks, e->k->threads);
    emit_line(e);
    if (alone)
        strbuf_add(e->out, "{\n");
    else if (c->from == 0)
        strbuf_printf(e->out, "if (bid < %lld) {\n", (long long)it->blocks);
    else
        strbuf_printf(e->out, "if (bid >= %lld && bid < %lld) {\n", (long long)c->from,
                      (long long)(c->from + it->blocks));
    e->indent++;
    if (it->loop->bind == BIND_GRID) {
        emit_line(e);
        strbuf_printf(e->out, "const %s me = (%s)", c->index, c->index);
        strbuf_printf(e->out, c->from ? "(bid - %lld)" : "bid", (long long)c->from);
        strbuf_printf(e->out, " * %d + tid;\n", e->k->threads);
        put_shared_loop(c, it->loop, "me", threads);
    } else {
        const KNode *loop[MAX_TOGETHER];
        int64_t count;
        const int k = together(e, it->loop, loop, &count);
        c->team = loop;
        c->nteam = k;
        put_digits(c, loop, k,
                   c->from ? arena_printf(e->k->arena, "(bid - %lld)", (long long)c->from) : "bid");
        put_nodes(c, loop[k - 1]->body, 0);
    }
    e->indent--;
    emit_line(e);
    strbuf_add(e->out, "}\n");
    c->from += it->blocks;
}

/* What the launch's last block does when all have ended: item[0 .. nitem). */
static void put_finish(Cuda *c, const Item *item, int nitem)
{
    Emit *e = &c->e;
    char counter[16];
    snprintf(counter, sizeof counter, "%d", c->counters);
    c->counters += c->from > 1;
    put_arrival(c, counter, c->from);
    e->indent++;
    for (int i = 0; i < nitem; i++) {
        if (i && item[i].turn != item[i - 1].turn) {
            emit_line(e);
            strbuf_add(e->out, "gtc_bar();\n");
        }
        c->from = 0;
        put_item(c, &item[i], true);
    }
    e->indent--;
    emit_line(e);
    strbuf_add(e->out, "}\n");
}

/* Bytes of a block's shared memory that the launch uses; other launches of the kernel may use more,
 * and a block that asks for less leaves room for another beside it. */
static int64_t launch_bytes(const Cuda *c)
{
    int64_t most = 0;
    for (uint32_t i = 0; i < c->e.k->nbuf; i++) {
        const KBuf *b = &c->e.k->buf[i];
        int64_t count = 1;
        if (b->cls != BUF_PRIVATE || !launch_uses(c, b))
            continue;
        for (int d = 0; d < b->rank; d++)
            count += (b->shape[d] - 1) * b->stride[d];
        const int64_t end = b->offset + size_round_up(count * dtype_bytes(b->dt), 64);
        most = end > most ? end : most;
    }
    gtc_assert(most <= c->e.k->private_bytes, "%lld bytes of %lld", (long long)most,
               (long long)c->e.k->private_bytes);
    return most;
}

static void put_launch(Cuda *c, const char *entry, const Item *item, int nitem, Launch *launch)
{
    Emit *e = &c->e;
    const Kir *k = e->k;
    Strbuf body = { 0 }, *out = e->out;
    int all = 0; /* items of all blocks */
    while (all < nitem && item[all].turn == 0)
        all++;
    e->out = &body;
    c->from = 0;
    c->scratch = c->flag = false;
    c->item = item;
    c->nitem = nitem;
    put_buffers(c);
    for (int i = 0; i < all; i++)
        put_item(c, &item[i], all == 1);
    const int64_t blocks = c->from, bytes = launch_bytes(c);
    if (all < nitem)
        put_finish(c, item + all, nitem - all);
    e->out = out;
    *launch = (Launch){ .entry = entry,
                        .blocks = blocks,
                        .threads = k->threads,
                        .smem = (int32_t)(bytes + (c->scratch || c->flag ? SCRATCH_BYTES : 0)) };
    strbuf_printf(out, "GTC_KERNEL(%d) %s(", k->threads, entry);
    put_parameters(c, false);
    strbuf_add(out,
               ")\n{\n    const int tid = gtc_tid(), bid = gtc_bid();\n    (void)tid, (void)bid, "
               "(void)work, (void)counters;\n");
    if (c->scratch)
        strbuf_printf(out, "    gtc_u8 *const scratch = gtc_smem() + %lld;\n", (long long)bytes);
    if (c->flag)
        strbuf_printf(out, "    int *const flag = (int *)(gtc_smem() + %lld);\n",
                      (long long)bytes + FLAG_AT);
    strbuf_add(out, strbuf_str(&body));
    strbuf_printf(out, "}\nGTC_ENTRY(%s, (", entry);
    put_parameters(c, true);
    strbuf_add(out, "))\n");
    strbuf_free(&body);
}

void emit_cuda(const Kir *k, const char *name, const char *header_comment, Strbuf *out,
               struct Launch **launch, int32_t *nlaunch, int32_t *counters)
{
    Cuda c = { .e = { .k = k,
                      .acc = kir_accumulators(k),
                      .constant = arena_array(k->arena, const double *, k->nval),
                      .name = arena_array(k->arena, const char *, k->nbuf),
                      .out = out,
                      .long_suffix = "LL",
                      .indent = 1 } };
    Item *item = arena_array(k->arena, Item, MAX_ITEMS);
    int32_t parts = 1;
    for (const KNode *n = k->body; n; n = n->next)
        parts += n->op == K_BARRIER && !n->last;
    *launch = arena_array(k->arena, Launch, parts);
    *nlaunch = 0;
    c.index = small_indices(&c.e, k->body) ? "int" : "gtc_i64";
    name_buffers(&c.e);
    if (header_comment && *header_comment)
        emit_header(out, header_comment);
    for (const KNode *n = k->body; n;) {
        const KNode *end = n;
        int nitem;
        while (end && (end->op != K_BARRIER || end->last))
            end = end->next;
        find_items(&c.e, n, end, item, &nitem);
        if (nitem) {
            put_launch(&c, arena_printf(k->arena, "%s_%d", name, *nlaunch), item, nitem,
                       &(*launch)[*nlaunch]);
            (*nlaunch)++;
        }
        n = end ? end->next : NULL;
    }
    *counters = c.counters;
}
