/* SPDX-License-Identifier: Apache-2.0 */
/* layer_cell: a recurrence that model.json writes as expressions.
 *
 * The lines of "update" become the body of a scan, node by node as a C builder would write them, so
 * a GRU written here is the graph that the gru layer builds and is differentiated, fused and
 * planned alike.  Values are vectors, one for each row (B, n); weights and what is computed from
 * weights alone have no batch axis until they meet a row, so that it can leave the loop.
 */
#include "models/cell.h"
#include "models/layer_build.h"

#include <math.h>
#include <string.h>

typedef struct Value {
    Ref ref; /* REF_NONE: a number */
    double number;
    bool row; /* (B, n); else a weight: (n) or (n, m) */
    int rank; /* 1, or 2 of a matrix; 0 of a number */
    int64_t dim[2];
} Value;

typedef struct Named {
    const char *name;
    Value value;
} Named;

typedef struct Cell {
    LayerCx *lx;
    const Layer *l;
    Builder *b; /* of the body */
    int64_t batch, features;
    Named *known;
    int nknown;
} Cell;

typedef struct Place { /* of the node at hand */
    const CellText *t;
    const CellExpr *e;
} Place;

#define CELL_FAIL(c, p, ...) cell_fail((c)->lx->cx, ST_SHAPE, (p)->t, (p)->e, NULL, __VA_ARGS__)

static const char *describe(const Cell *c, const Value *v)
{
    Arena *a = c->lx->arena;
    if (v->rank == 0)
        return "a number";
    if (v->rank == 2)
        return arena_printf(a, "a matrix [%lld, %lld]", (long long)v->dim[0], (long long)v->dim[1]);
    return arena_printf(a, "a vector of %lld", (long long)v->dim[0]);
}

/* ---- sizes ---- */

static Status eval_size(Cell *c, const CellText *t, const CellExpr *e, double *out)
{
    const Place p = { t, e };
    double x[2];
    for (int i = 0; i < e->nargs; i++)
        TRY(eval_size(c, t, e->arg[i], &x[i]));
    switch (e->kind) {
    case CELL_NUMBER:
        *out = e->number;
        return ST_OK;
    case CELL_NAME:
        *out = (double)(strcmp(e->name, "units") == 0 ? c->l->units : c->features);
        if (*out == 0)
            return CELL_FAIL(c, &p, "the layer has no \"%s\"", e->name);
        return ST_OK;
    case CELL_NEGATE:
        *out = -x[0];
        return ST_OK;
    default:
        *out = e->op == '+'   ? x[0] + x[1]
               : e->op == '-' ? x[0] - x[1]
               : e->op == '*' ? x[0] * x[1]
                              : x[0] / x[1];
        return ST_OK;
    }
}

static Status size_of(Cell *c, const CellText *t, const CellExpr *e, int64_t least, int64_t *out)
{
    double n;
    TRY(eval_size(c, t, e, &n));
    if (n != floor(n) || !(n >= (double)least) || n > 1e9)
        return CELL_FAIL(c, &((Place){ t, e }), "wants a whole number >= %lld, got %g",
                         (long long)least, n);
    *out = (int64_t)n;
    return ST_OK;
}

static Status shape_of_item(Cell *c, const CellItem *item, Value *v)
{
    v->rank = item->nsize;
    for (int i = 0; i < item->nsize; i++)
        TRY(size_of(c, &item->size[i], item->size[i].root, 1, &v->dim[i]));
    return ST_OK;
}

/* ---- values ---- */

static Shape value_shape(const Cell *c, const Value *v)
{
    if (v->row)
        return shape_of(2, c->batch, v->dim[0]);
    return v->rank == 2 ? shape_of(2, v->dim[0], v->dim[1]) : shape_of(1, v->dim[0]);
}

/* v as a tensor of the shape of `like`: numbers become constants, weights get a batch axis, a
 * vector of 1 is repeated. */
static Ref spread(Cell *c, const Value *v, const Value *like)
{
    const Shape to = value_shape(c, like);
    if (v->rank == 0)
        return build_const(c->b, v->number, (Type){ DT_F32, to });
    Ref x = v->ref;
    if (v->dim[0] == like->dim[0])
        return v->row == like->row ? x : build_broadcast(c->b, x, to, 1u);
    x = build_reshape(c->b, x, v->row ? shape_of(1, c->batch) : shape_of(0));
    return build_broadcast(c->b, x, to, v->row || !like->row ? 1u << (to.rank - 1) : 3u);
}

/* The shape that both operands of an elementwise operator take. */
static Status common_shape(Cell *c, const Place *p, const char *what, const Value *x,
                           const Value *y, Value *out)
{
    const Value *wide = x->rank == 0 || (y->rank && y->dim[0] > x->dim[0]) ? y : x;
    *out = (Value){ .rank = wide->rank, .row = x->row || y->row };
    memcpy(out->dim, wide->dim, sizeof out->dim);
    for (int i = 0; i < 2; i++) {
        const Value *v = i ? y : x;
        if (v->rank == 0)
            continue;
        const bool same =
            v->rank == out->rank && v->dim[0] == wide->dim[0] && v->dim[1] == wide->dim[1];
        const bool one = v->rank == 1 && out->rank == 1 && v->dim[0] == 1;
        if ((out->row && v->rank == 2) || !(same || one))
            return CELL_FAIL(c, p, "%s of %s and %s", what, describe(c, x), describe(c, y));
    }
    return ST_OK;
}

static double compute(Op op, double x, double y)
{
    return op == OP_add   ? x + y
           : op == OP_sub ? x - y
           : op == OP_mul ? x * y
           : op == OP_div ? x / y
           : op == OP_max ? fmax(x, y)
                          : fmin(x, y);
}

static Status build_pair(Cell *c, const Place *p, Op op, const char *what, const Value *x,
                         const Value *y, Value *out)
{
    if (x->rank == 0 && y->rank == 0) {
        *out = (Value){ .number = compute(op, x->number, y->number) };
        return ST_OK;
    }
    TRY(common_shape(c, p, what, x, y, out));
    const Ref left = spread(c, x, out), right = spread(c, y, out);
    out->ref = build_op2(c->b, op, left, right);
    return ST_OK;
}

/* matrix @ vector; the vector a row's, or a weight. */
static Status build_product(Cell *c, const Place *p, const Value *w, const Value *x, Value *out)
{
    if (w->rank != 2)
        return cell_fail(c->lx->cx, ST_SHAPE, p->t, p->e,
                         "@ binds like *: brackets around the vector may help",
                         "@ wants a matrix of weights on its left, got %s", describe(c, w));
    if (x->rank != 1 || x->dim[0] != w->dim[1])
        return CELL_FAIL(c, p, "@ of %s and %s", describe(c, w), describe(c, x));
    *out = (Value){ .rank = 1, .row = x->row, .dim = { w->dim[0] } };
    const int one = 1, last = x->row ? 1 : 0;
    out->ref = x->row ? build_contract(c->b, x->ref, w->ref, 1, &last, &one)
                      : build_contract(c->b, w->ref, x->ref, 1, &one, &last);
    return ST_OK;
}

static Status build_part(Cell *c, const Place *p, const Value *x, Value *out)
{
    int64_t lo, hi;
    TRY(size_of(c, p->t, p->e->arg[1], 0, &lo));
    TRY(size_of(c, p->t, p->e->arg[2], 1, &hi));
    if (x->rank == 0 || lo >= hi || hi > x->dim[0])
        return CELL_FAIL(c, p, "there is no part [%lld:%lld] of %s", (long long)lo, (long long)hi,
                         describe(c, x));
    *out = *x;
    out->dim[0] = hi - lo;
    if (lo > 0 || hi < x->dim[0])
        out->ref = build_slice(c->b, x->ref, x->row ? 1 : 0, lo, hi - lo);
    return ST_OK;
}

static Status build_joined(Cell *c, const Place *p, const Value *x, int n, Value *out)
{
    Ref part[CELL_MAX_ARGS];
    *out = (Value){ .rank = 1 };
    for (int i = 0; i < n; i++) {
        if (x[i].rank != 1)
            return CELL_FAIL(c, p, "concat wants vectors, got %s", describe(c, &x[i]));
        out->row = out->row || x[i].row;
        out->dim[0] += x[i].dim[0];
    }
    for (int i = 0; i < n; i++) {
        Value like = x[i];
        like.row = out->row;
        part[i] = spread(c, &x[i], &like);
    }
    out->ref = build_concat(c->b, part, n, out->row ? 1 : 0);
    return ST_OK;
}

static Status build_call(Cell *c, const Place *p, const Value *x, Value *out)
{
    const CellFunction *f = cell_function(p->e->name, NULL, NULL);
    static const Value scalar = { .rank = 1, .dim = { 1 } };
    if (f->op == OP_concat)
        return build_joined(c, p, x, p->e->nargs, out);
    if (f->most == 2)
        return build_pair(c, p, (Op)f->op, f->name, &x[0], &x[1], out);
    *out = x->rank ? *x : scalar;
    out->ref = x->rank ? x->ref : spread(c, x, &scalar);
    if (f->op == OP_sum) {
        if (out->rank != 1)
            return CELL_FAIL(c, p, "sum wants a vector, got %s", describe(c, x));
        const Ref sum = build_reduce(c->b, OP_sum, out->ref, out->row ? 2u : 1u);
        out->dim[0] = 1;
        out->ref = build_reshape(c->b, sum, value_shape(c, out));
    } else if (f->op != OP_none) {
        out->ref = build_op1(c->b, (Op)f->op, out->ref);
    } else {
        out->ref = build_activation(c->b, (Activation)f->activation, out->ref,
                                    f->activation == ACT_ELU ? 1 : 0.01);
    }
    return ST_OK;
}

/* ---- expressions ---- */

static const Value *known_value(const Cell *c, const char *name)
{
    for (int i = c->nknown - 1; i >= 0; i--)
        if (strcmp(c->known[i].name, name) == 0)
            return &c->known[i].value;
    gtc_assert(false, "%s was not checked", name);
    return NULL;
}

static Status build_expr(Cell *c, const CellText *t, const CellExpr *e, Value *out)
{
    static const char ops[] = "+-*/";
    static const Op op[] = { OP_add, OP_sub, OP_mul, OP_div };
    static const char *const what[] = { "a sum", "a difference", "a product", "a quotient" };
    const Place p = { t, e };
    Value x[CELL_MAX_ARGS];
    const int n = e->kind == CELL_SLICE ? 1 : e->nargs; /* the bounds of a slice are sizes */
    for (int i = 0; i < n; i++)
        TRY(build_expr(c, t, e->arg[i], &x[i]));
    TRY(c->b->status);
    switch (e->kind) {
    case CELL_NUMBER:
        *out = (Value){ .number = e->number };
        return ST_OK;
    case CELL_NAME:
        *out = *known_value(c, e->name);
        return ST_OK;
    case CELL_NEGATE:
        *out = x[0];
        out->number = -x[0].number;
        if (x[0].rank)
            out->ref = build_op1(c->b, OP_neg, x[0].ref);
        return ST_OK;
    case CELL_CALL:
        return build_call(c, &p, x, out);
    case CELL_SLICE:
        return build_part(c, &p, &x[0], out);
    case CELL_BINARY:
        if (e->op == '@')
            return build_product(c, &p, &x[0], &x[1], out);
        const int i = (int)(strchr(ops, e->op) - ops);
        return build_pair(c, &p, op[i], what[i], &x[0], &x[1], out);
    }
    gtc_assert(false, "an expression of no kind");
    return ST_INTERNAL;
}

/* ---- the layer ---- */

static void know(Cell *c, const char *name, Value v)
{
    c->known[c->nknown++] = (Named){ name, v };
}

/* An input of the body. */
static Value body_value(Cell *c, const char *name, Value v)
{
    v.ref = build_input(c->b, INPUT_batch, name, DT_F32, value_shape(c, &v));
    know(c, name, v);
    return v;
}

static Status build_lines(Cell *c)
{
    const CellSpec *spec = c->l->cell;
    for (int i = 0; i < spec->line.n; i++) {
        const CellItem *line = &spec->line.at[i];
        const CellItem *state = cell_item(&spec->state, line->name);
        const Place p = { &line->value, line->value.root };
        Value v;
        TRY(build_expr(c, p.t, p.e, &v));
        if (state) {
            Value want = *known_value(c, line->name);
            if (v.rank == 2 || (v.rank && v.dim[0] != want.dim[0] && v.dim[0] != 1))
                return CELL_FAIL(c, &p, "the state \"%s\" is %s, not %s", line->name,
                                 describe(c, &want), describe(c, &v));
            want.ref = spread(c, &v, &want);
            v = want;
        }
        know(c, line->name, v);
    }
    return c->b->status;
}

/* What leaves a step: the states, and the output where all steps of it are wanted. */
static Status build_body(Cell *c, const Value *state, const Value *weight, bool each, Value *output)
{
    const Layer *l = c->l;
    const CellSpec *spec = l->cell;
    for (int i = 0; i < spec->state.n; i++)
        body_value(c, spec->state.at[i].name, state[i]);
    body_value(c, "x", (Value){ .row = true, .rank = 1, .dim = { c->features } });
    for (int i = 0; i < spec->weight.n; i++)
        body_value(c, spec->weight.at[i].name, weight[i]);
    TRY(build_lines(c));
    for (int i = 0; i < spec->state.n; i++)
        build_output(c->b, known_value(c, spec->state.at[i].name)->ref, NULL);
    *output = *known_value(c, l->result);
    if (output->rank == 0 || output->rank == 2)
        return layer_fail(c->lx, l, "the output \"%s\" is %s", l->result, describe(c, output));
    Value row = *output;
    row.row = true;
    if (each)
        build_output(c->b, spread(c, output, &row), NULL);
    *output = row;
    return c->b->status;
}

static Ref cell_weight(LayerCx *lx, const Layer *l, const CellItem *item, const Value *v,
                       int64_t fan)
{
    Layer like = *l;
    like.init = item->init;
    like.init_value = item->init_value;
    const Shape s = v->rank == 2 ? shape_of(2, v->dim[0], v->dim[1]) : shape_of(1, v->dim[0]);
    return layer_param_init(lx, &like, item->name, s, fan);
}

/* (T, B, features) to what the layer returns, time first. */
static Status build_cell(Cell *c, Ref x, Ref *out)
{
    LayerCx *lx = c->lx;
    const Layer *l = c->l;
    const CellSpec *spec = l->cell;
    const int ns = spec->state.n, nw = spec->weight.n;
    Builder *outer = lx->b, body = build_start(lx->cx, graph_new(outer->g->arena));
    Value *state = arena_array(lx->arena, Value, ns),
          *weight = arena_array(lx->arena, Value, nw + 1);
    Ref *arg = arena_array(lx->arena, Ref, ns + 1 + nw);
    c->b = &body;
    for (int i = 0; i < ns; i++) {
        state[i].row = true;
        TRY(shape_of_item(c, &spec->state.at[i], &state[i]));
        arg[i] = build_const(outer, 0, (Type){ DT_F32, value_shape(c, &state[i]) });
    }
    arg[ns] = x;
    for (int i = 0; i < nw; i++) {
        TRY(shape_of_item(c, &spec->weight.at[i], &weight[i]));
        arg[ns + 1 + i] = cell_weight(lx, l, &spec->weight.at[i], &weight[i], state[0].dim[0]);
    }
    int carry = 0;
    while (carry < ns && strcmp(spec->state.at[carry].name, l->result) != 0)
        carry++;
    const bool last = l->ret == RETURN_LAST, each = !last || carry == ns;
    Value y;
    TRY(build_body(c, state, weight, each, &y));
    const int64_t steps = layer_shape(lx, x).dim[0];
    const Ref scan = build_scan(outer, body.g, arg, ns + 1 + nw, ns, 1, steps, l->reverse);
    *out = build_get(outer, scan, each ? ns : carry);
    if (last && each)
        *out = build_reshape(outer, build_slice(outer, *out, 0, l->reverse ? 0 : steps - 1, 1),
                             shape_of(2, c->batch, y.dim[0]));
    return outer->status;
}

Status layer_cell(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    static const int time_first[] = { 1, 0, 2 };
    TRY(layer_wants_rank(lx, l, in[0], 3, "(T, C)"));
    const Shape s = layer_shape(lx, in[0]);
    if (s.dim[1] < 1 || s.dim[2] < 1)
        return layer_fail(lx, l, "wants at least one step and one channel");
    const CellSpec *spec = l->cell;
    Cell c = { .lx = lx,
               .l = l,
               .batch = s.dim[0],
               .features = s.dim[2],
               .known = arena_array(lx->arena, Named,
                                    spec->state.n + 1 + spec->weight.n + spec->line.n) };
    TRY(build_cell(&c, build_transpose(lx->b, in[0], time_first), out));
    if (l->ret == RETURN_SEQUENCE)
        *out = build_transpose(lx->b, *out, time_first);
    return ST_OK;
}
