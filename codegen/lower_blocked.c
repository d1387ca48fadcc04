/* SPDX-License-Identifier: Apache-2.0 */
/* A contraction in blocks as KIR (plan_blocked.c says which and how large).
 *
 *     team    rest axes, row tiles, column tiles, parts
 *       registers: tm x tn sums a thread
 *       loop    reduced points, in steps of bk
 *         sync, the block's operands into shared memory, sync
 *         bk times: tm rows and tn columns from there, and their products
 *       the roots, at the points of the thread's sums
 *       the last block of a tile: the sums of its parts, in order, and what comes of them
 *
 * The rows, the columns and the reduced points are each counted as one axis, taken apart where an
 * operand is read or a root stored, so that a window of an image is a matrix like any other.  What
 * lies outside is filled with 0 and never stored. */
#include "codegen/lower.h"

#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"

typedef struct Plane { /* rows or columns of a block */
    const Var *axis;
    int naxis;
    int64_t count; /* of all axes together */
    Ix base;       /* number of the block's first */
} Plane;

typedef struct Block {
    Low *l;
    const Nest *n;
    const Blocked *b;
    const Stage *st;
    Plane row, col;
    int64_t depth;     /* reduced points of all */
    Ix first, step;    /* number of the part's first point; of this step's first, from there */
    Val *sum;          /* by reduction, row, column of the thread */
    Val *left, *right; /* by reduction and row, column: values read at one depth */
    Var part;          /* the loop over the parts, or 0 */
} Block;

/* ---- places ------------------------------------------------------------------------------ */

/* Puts the axes of a plane where number `at` is; gives the place of the outermost. */
static Ix plane_at(Low *l, const Plane *p, Ix at)
{
    for (int i = p->naxis - 1; i > 0; i--) {
        const int64_t count = ix_var_count(l->p, p->axis[i]);
        l->env[p->axis[i]] = ix_mod(l->p, at, count);
        at = ix_div(l->p, at, count);
    }
    return l->env[p->axis[0]] = at;
}

static Open guard_plane(Low *l, const Plane *p, Ix outermost)
{
    return low_when(l, outermost, ix_var_count(l->p, p->axis[0]));
}

static Plane plane_of(Low *l, const Var *axis, int n, int size, Open *open, int *nopen)
{
    Plane p = { .axis = axis, .naxis = n, .count = 1 };
    for (int i = 0; i < n; i++)
        p.count = size_mul(p.count, ix_var_count(l->p, axis[i]));
    const int64_t tiles = size_ceil_div(p.count, size);
    p.base = ix_const(l->p, 0);
    if (tiles != 1) {
        const Var v = ix_var_new(l->p, ix_var_name(l->p, axis[0]), tiles);
        open[(*nopen)++] = low_open(l, v, BIND_TEAM, 0);
        p.base = ix_scale(l->p, ix_var(l->p, v), size);
    }
    return p;
}

/* ---- operands into shared memory ------------------------------------------------------------ */

static void put_store(Low *l, uint16_t buf, Ix depth, Ix place, Val v)
{
    const Ix ix[] = { depth, place };
    KNode *n = low_put(l, K_STORE);
    n->buf = low_buf(l, buf);
    n->ix = arena_copy(l->arena, ix, sizeof ix);
    n->nargs = 1;
    n->arg[0] = v;
    n->lanes = 1;
}

static Val put_load(Low *l, uint16_t buf, Ix depth, Ix place)
{
    const Ix ix[] = { depth, place };
    KNode *n = low_put(l, K_LOAD);
    n->buf = low_buf(l, buf);
    n->ix = arena_copy(l->arena, ix, sizeof ix);
    n->lanes = 1;
    return n->dst = kir_val(l->k, REG_F32, false);
}

struct Moves {
    Low *l;
    Var v;
    bool next;
};

static void note_move(void *arg, const Expr *e)
{
    struct Moves *m = arg;
    m->next |= map_stride(m->l->s, e->ix, e->nix, m->v, 1) == 1;
}

/* Neighbouring threads take neighbours along the reduced axes where those lie together in memory
 * and the plane's do not. */
static bool deep_first(const Block *k, const Plane *p, ExprId factor)
{
    struct Moves depth = { k->l, k->st->red[k->st->nred - 1], false };
    struct Moves plane = { k->l, p->axis[p->naxis - 1], false };
    expr_reads(k->l->s, factor, note_move, &depth);
    expr_reads(k->l->s, factor, note_move, &plane);
    return depth.next && !plane.next;
}

static void fill(Block *k, const Plane *p, int size, ExprId factor, uint16_t buf)
{
    Low *l = k->l;
    const int bk = k->b->bk;
    const bool deep = deep_first(k, p, factor);
    const Var d = ix_var_new(l->p, "d", bk), q = ix_var_new(l->p, "q", size);
    const Open outer = low_open(l, deep ? q : d, BIND_THREAD, 0);
    const Open inner = low_open(l, deep ? d : q, BIND_THREAD, 0);
    const Ix number = ix_add(l->p, ix_add(l->p, k->first, k->step), ix_var(l->p, d));
    const Ix out = plane_at(l, p, ix_add(l->p, p->base, ix_var(l->p, q)));
    const Ix far = l->env[k->st->red[0]] = low_reduced_at(l, k->st, number);
    const bool rest_plane = ix_range(l->p, out).hi >= ix_var_count(l->p, p->axis[0]);
    const bool rest_depth = ix_range(l->p, far).hi >= ix_var_count(l->p, k->st->red[0]);
    if (!rest_plane && !rest_depth) {
        put_store(l, buf, ix_var(l->p, d), ix_var(l->p, q), low_value(l, factor));
    } else {
        const Val v = low_accumulator(l, low_const(l, 0, REG_F32));
        Open a = { 0 }, b = { 0 };
        if (rest_plane)
            a = guard_plane(l, p, out);
        if (rest_depth)
            b = low_when(l, far, ix_var_count(l->p, k->st->red[0]));
        low_set(l, v, low_value(l, factor));
        if (rest_depth)
            low_close(l, b);
        if (rest_plane)
            low_close(l, a);
        put_store(l, buf, ix_var(l->p, d), ix_var(l->p, q), v);
    }
    low_close(l, inner);
    low_close(l, outer);
}

/* Is factor i kept where an earlier one is? */
static bool kept_before(const uint16_t *buf, int i)
{
    for (int j = 0; j < i; j++)
        if (buf[j] == buf[i])
            return true;
    return false;
}

/* ---- products ------------------------------------------------------------------------------ */

static void open_threads(Block *k, Open *open, Ix *ty, Ix *tx)
{
    Low *l = k->l;
    const Var y = ix_var_new(l->p, "ty", k->b->bm / k->b->tm);
    const Var x = ix_var_new(l->p, "tx", k->b->bn / k->b->tn);
    open[0] = low_open(l, y, BIND_THREAD, 0);
    open[1] = low_open(l, x, BIND_THREAD, 0);
    *ty = ix_scale(l->p, ix_var(l->p, y), k->b->tm);
    *tx = ix_scale(l->p, ix_var(l->p, x), k->b->tn);
}

static void multiply(Block *k)
{
    Low *l = k->l;
    const Blocked *b = k->b;
    Open open[2];
    Ix ty, tx;
    open_threads(k, open, &ty, &tx);
    const Var d = ix_var_new(l->p, "d", b->bk);
    const Open deep = low_open(l, d, BIND_UNROLL, b->bk);
    for (int i = 0; i < k->n->nred; i++) {
        for (int q = 0; q < b->tm; q++)
            k->left[q] = put_load(l, b->lbuf[i], ix_var(l->p, d), ix_shift(l->p, ty, q));
        for (int q = 0; q < b->tn; q++)
            k->right[q] = put_load(l, b->rbuf[i], ix_var(l->p, d), ix_shift(l->p, tx, q));
        for (int y = 0; y < b->tm; y++)
            for (int x = 0; x < b->tn; x++) {
                const Val sum = k->sum[(i * b->tm + y) * b->tn + x];
                const Val pair[] = { k->left[y], k->right[x] };
                const Val product = low_ew(l, OP_mul, REG_F32, false, 2, pair);
                low_set(l, sum, low_ew(l, OP_add, REG_F32, false, 2, (Val[]){ sum, product }));
            }
    }
    low_close(l, deep);
    low_close(l, open[1]);
    low_close(l, open[0]);
}

/* ---- results ------------------------------------------------------------------------------- */

static void roots_at(Block *k, int y, int x)
{
    for (int i = 0; i < k->n->nred; i++)
        low_known_as(k->l, &k->l->s->stage[k->n->red[i]],
                     k->sum[(i * k->b->tm + y) * k->b->tn + x]);
    low_roots(k->l, false);
}

/* Does something at each of the thread's points that is there. */
static void at_points(Block *k, void (*what)(Block *k, int y, int x))
{
    Low *l = k->l;
    const Blocked *b = k->b;
    Open open[2];
    Ix ty, tx;
    Point one = { .lanes = 1 };
    open_threads(k, open, &ty, &tx);
    l->point = &one;
    l->npoint = 1;
    for (int y = 0; y < b->tm; y++)
        for (int x = 0; x < b->tn; x++) {
            const uint32_t known = l->nknown;
            const Ix row = plane_at(l, &k->row, ix_add(l->p, k->row.base, ix_shift(l->p, ty, y)));
            const Ix col = plane_at(l, &k->col, ix_add(l->p, k->col.base, ix_shift(l->p, tx, x)));
            const bool rest_row = ix_range(l->p, row).hi >= ix_var_count(l->p, k->row.axis[0]);
            const bool rest_col = ix_range(l->p, col).hi >= ix_var_count(l->p, k->col.axis[0]);
            Open r = { 0 }, c = { 0 };
            if (rest_row)
                r = guard_plane(l, &k->row, row);
            if (rest_col)
                c = guard_plane(l, &k->col, col);
            for (int a = 0; a < k->n->naxis; a++) /* where low_at will put them */
                l->base[a] = l->env[k->n->axis[a]];
            low_at(l, 0);
            what(k, y, x);
            if (rest_col)
                low_close(l, c);
            if (rest_row)
                low_close(l, r);
            low_forget(l, known);
        }
    low_close(l, open[1]);
    low_close(l, open[0]);
}

/* ---- the last block ------------------------------------------------------------------------ */

enum { TOGETHER = 16 }; /* loads of a thread, so that it waits once for all of them */

static void start_sums(Block *k)
{
    const int n = k->n->nred * k->b->tm * k->b->tn;
    k->sum = arena_array(k->l->arena, Val, n);
    for (int i = 0; i < n; i++)
        k->sum[i] = low_accumulator(k->l, low_const(k->l, 0, REG_F32));
}

static void add_part(Block *k, int y, int x)
{
    Low *l = k->l;
    for (int i = 0; i < k->n->nred; i++) {
        const Val sum = k->sum[(i * k->b->tm + y) * k->b->tn + x];
        const Val pair[] = { sum, low_value(l, l->s->stage[k->n->red[i]].e) };
        low_set(l, sum, low_ew(l, OP_add, REG_F32, false, 2, pair));
    }
}

static void finish_parts(const Block *head, const Nest *n)
{
    Low *l = head->l;
    Block k = *head;
    KNode *last = low_put(l, K_LAST);
    const Open body = { l->tail, l->nknown };
    last->var = head->part;
    l->tail = &last->body;
    low_forget(l, 0); /* what it knows is the parts' */
    k.n = l->n = n;
    start_sums(&k);
    const Var p = ix_var_new(l->p, "p", ix_var_count(l->p, head->n->part) - BUG(77));
    const int together = TOGETHER / (n->nred * k.b->tm * k.b->tn);
    const Open parts = low_open(l, p, together > 1 ? BIND_UNROLL : BIND_SERIAL, together);
    l->env[head->n->part] = ix_var(l->p, p);
    at_points(&k, add_part);
    low_close(l, parts);
    at_points(&k, roots_at);
    low_close(l, body);
}

/* ---- the nest ------------------------------------------------------------------------------ */

/* Gives the loop over the parts, or 0. */
static Var open_rest(Low *l, const Nest *n, Open *open, int *nopen)
{
    Var part = 0;
    const Blocked *b = n->blocked;
    for (int i = 0; i < b->nrest; i++) {
        const Var v = b->rest[i];
        const int64_t count = ix_var_count(l->p, v);
        l->env[v] = ix_const(l->p, 0);
        if (count == 1)
            continue;
        const Var own = ix_var_new(l->p, ix_var_name(l->p, v), count);
        open[(*nopen)++] = low_open(l, own, BIND_TEAM, 0);
        l->env[v] = ix_var(l->p, own);
    }
    if (n->part) {
        part = ix_var_new(l->p, "part", ix_var_count(l->p, n->part));
        open[(*nopen)++] = low_open(l, part, BIND_TEAM, 0);
        l->env[n->part] = ix_var(l->p, part);
    }
    return part;
}

void low_blocked(Low *l, const Nest *n, const Nest *finish)
{
    const Blocked *b = n->blocked;
    Open open[MAX_AXES + 4];
    int nopen = 0;
    Block k = { .l = l, .n = n, .b = b, .st = &l->s->stage[n->red[0]], .depth = 1 };
    l->n = n;
    k.part = open_rest(l, n, open, &nopen);
    k.row = plane_of(l, b->row, b->nrow, b->bm, open, &nopen);
    k.col = plane_of(l, b->col, b->ncol, b->bn, open, &nopen);
    if (nopen == 0)
        open[nopen++] = low_open(l, ix_var_new(l->p, "one", 1), BIND_TEAM, 0);
    low_put(l, K_NOTE)->text = "contract in blocks";
    for (int i = 0; i < k.st->nred; i++)
        k.depth = size_mul(k.depth, ix_var_count(l->p, k.st->red[i]));
    k.first = n->part ? ix_scale(l->p, l->env[n->part], n->chunk) : ix_const(l->p, 0);
    k.left = arena_array(l->arena, Val, b->tm);
    k.right = arena_array(l->arena, Val, b->tn);
    start_sums(&k);
    const Var v = ix_var_new(l->p, "kt", size_ceil_div(n->part ? n->chunk : k.depth, b->bk));
    const Open steps = low_open(l, v, BIND_SERIAL, 0);
    k.step = ix_scale(l->p, ix_var(l->p, v), b->bk);
    low_put(l, K_SYNC);
    for (int i = 0; i < n->nred; i++) {
        if (!kept_before(b->lbuf, i))
            fill(&k, &k.row, b->bm, b->left[i], b->lbuf[i]);
        if (!kept_before(b->rbuf, i))
            fill(&k, &k.col, b->bn, b->right[i], b->rbuf[i]);
    }
    low_put(l, K_SYNC);
    multiply(&k);
    low_close(l, steps);
    at_points(&k, roots_at);
    if (finish)
        finish_parts(&k, finish);
    while (nopen)
        low_close(l, open[--nopen]);
}
