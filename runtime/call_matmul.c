/* SPDX-License-Identifier: Apache-2.0 */
/* call_matmul: a body as one call of a BLAS.
 *
 *     result = [relu | gelu] ( matmul(view, view) [+ bias] [+ residual] )
 *
 * The axes of the product fall in four groups: those that run together, those of the first operand,
 * those of the second, those summed over.  Each group is folded until it is one axis with one
 * stride in every operand; what is left over of the operands' groups joins the batch, which must
 * fold too.
 *
 * A BLAS counts columns first and gtc's results are rows first, so that it is asked for the
 * transpose: its first operand is our second, its m our last axis.  Its bias is one number a row
 * of what it makes, which is our bias of the last axis. */
#include <math.h>
#include <string.h>

#include "runtime/call.h"

enum { X, Y, Z, OPERANDS }; /* of the IR's matmul: the first, the second, the result */

typedef struct Dim { /* an axis of the product, or several that lie as one */
    int64_t n, stride[OPERANDS];
} Dim;

typedef struct Dims {
    Dim at[2 * MAX_RANK];
    int n;
} Dims;

static void dim_add(Dims *d, int64_t n, int64_t x, int64_t y, int64_t z)
{
    if (n > 1)
        d->at[d->n++] = (Dim){ n, { x, y, z } };
}

/* Is `outer` the next axis outside of `inner`, as if the two were one? */
static bool goes_on(const Dim *outer, const Dim *inner)
{
    for (int i = 0; i < OPERANDS; i++)
        if (outer->stride[i] != inner->stride[i] * inner->n)
            return false;
    return true;
}

/* Sorts from the widest stride of the operand `by` on and folds neighbours. */
static void dims_fold(Dims *d, int by)
{
    for (int i = 1; i < d->n; i++)
        for (int k = i; k > 0 && d->at[k - 1].stride[by] < d->at[k].stride[by]; k--) {
            const Dim swap = d->at[k];
            d->at[k] = d->at[k - 1];
            d->at[k - 1] = swap;
        }
    int left = 0;
    for (int i = 0; i < d->n; i++) {
        if (left && goes_on(&d->at[left - 1], &d->at[i])) {
            d->at[left - 1].n *= d->at[i].n;
            memcpy(d->at[left - 1].stride, d->at[i].stride, sizeof d->at[i].stride);
        } else {
            d->at[left++] = d->at[i];
        }
    }
    d->n = left;
}

/* All but the last go to the batch. */
static void dims_shed(Dims *d, Dims *batch)
{
    for (int i = 0; i + 1 < d->n; i++)
        batch->at[batch->n++] = d->at[i];
    if (d->n > 1) {
        d->at[0] = d->at[d->n - 1];
        d->n = 1;
    }
}

typedef struct Product {
    Dims batch, rows, cols, sum;
    CallView x, y;
} Product;

static bool in_list(const uint8_t *list, int n, int axis)
{
    for (int i = 0; i < n; i++)
        if (list[i] == axis)
            return true;
    return false;
}

static const char *product_read(const Graph *body, const Node *n, Product *p)
{
    const char *why = call_view(body, n->arg[0], &p->x);
    if (!why)
        why = call_view(body, n->arg[1], &p->y);
    if (why)
        return why;
    const CallView *x = &p->x, *y = &p->y;
    int64_t z[MAX_RANK], step = 1;
    for (int i = n->type.shape.rank - 1; i >= 0; i--) {
        z[i] = step;
        step *= n->type.shape.dim[i];
    }
    int at = 0;
    const uint8_t *over_a = n->attr.contract.over_a, *over_b = n->attr.contract.over_b,
                  *batch_a = n->attr.contract.batch_a, *batch_b = n->attr.contract.batch_b;
    const int nover = n->attr.contract.nover, nbatch = n->attr.contract.nbatch;
    for (int i = 0; i < nbatch; i++)
        dim_add(&p->batch, x->extent[batch_a[i]], x->stride[batch_a[i]], y->stride[batch_b[i]],
                z[at++]);
    for (int i = 0; i < x->rank; i++)
        if (!in_list(over_a, nover, i) && !in_list(batch_a, nbatch, i))
            dim_add(&p->rows, x->extent[i], x->stride[i], 0, z[at++]);
    for (int i = 0; i < y->rank; i++)
        if (!in_list(over_b, nover, i) && !in_list(batch_b, nbatch, i))
            dim_add(&p->cols, y->extent[i], 0, y->stride[i], z[at++]);
    for (int i = 0; i < nover; i++)
        dim_add(&p->sum, x->extent[over_a[i]], x->stride[over_a[i]], y->stride[over_b[i]], 0);
    return NULL;
}

/* rows x cols by columns, with these strides; false when neither it nor its transpose is. */
static bool matrix_lay(CallMatrix *m, int64_t rows, int64_t cols, int64_t row, int64_t col)
{
    m->transposed = false;
    m->ld = cols == 1 ? rows : col;
    if ((rows == 1 || row == 1) && m->ld >= rows)
        return true;
    m->transposed = true;
    m->ld = rows == 1 ? cols : row;
    return (cols == 1 || col == 1) && m->ld >= cols;
}

static const char *product_lay(Product *p, CallMatmul *c)
{
    static const Dim one = { 1, { 0, 0, 0 } };
    dims_fold(&p->rows, Z);
    dims_fold(&p->cols, Z);
    dims_fold(&p->sum, X);
    dims_shed(&p->rows, &p->batch);
    dims_shed(&p->cols, &p->batch);
    dims_fold(&p->batch, Z);
    if (p->sum.n > 1)
        return "the axes summed over do not lie as one in both operands";
    if (p->batch.n > 1)
        return "the batch's axes do not lie as one in both operands";
    const Dim *batch = p->batch.n ? &p->batch.at[0] : &one, *sum = p->sum.n ? &p->sum.at[0] : &one,
              *rows = p->rows.n ? &p->rows.at[0] : &one, *cols = p->cols.n ? &p->cols.at[0] : &one;
    c->m = cols->n;
    c->n = rows->n;
    c->k = sum->n;
    c->batch = batch->n;
    c->a = (CallMatrix){ .arg = p->y.arg, .offset = p->y.offset, .step = batch->stride[Y] };
    c->b = (CallMatrix){ .arg = p->x.arg, .offset = p->x.offset, .step = batch->stride[X] };
    c->d = (CallMatrix){ .step = batch->stride[Z] };
    if (!matrix_lay(&c->a, c->m, c->k, cols->stride[Y], sum->stride[Y]) ||
        !matrix_lay(&c->b, c->k, c->n, sum->stride[X], rows->stride[X]))
        return "an operand has no axis of stride 1, or rows that overlap";
    if (!matrix_lay(&c->d, c->m, c->n, cols->stride[Z], rows->stride[Z]) || c->d.transposed)
        return "the result's rows do not lie as one";
    if (c->m > INT32_MAX || c->n > INT32_MAX || c->k > INT32_MAX || c->batch > INT32_MAX)
        return "more than 2^31 rows";
    return NULL;
}

/* ------------------------------------------------------------ what follows the product */

static bool is_const(const Graph *g, Ref r, double value)
{
    const Node *n = &g->node[r];
    return n->op == OP_const && fabs(n->attr.fill.value - value) <= 1e-7 * fabs(value);
}

/* The other argument of r, an op of two, one of which is that constant; else REF_NONE. */
static Ref beside_const(const Graph *g, Ref r, Op op, double value)
{
    const Node *n = &g->node[r];
    for (int i = 0; i < 2 && n->op == op; i++)
        if (is_const(g, n->arg[i], value))
            return n->arg[1 - i];
    return REF_NONE;
}

/* x of gelu in its tanh form, .5 x (1 + tanh(sqrt(2 / pi) (x + .044715 x^3))). */
static Ref gelu_of(const Graph *g, Ref r)
{
    const Node *n = &g->node[r];
    for (int i = 0; i < 2 && n->op == OP_mul; i++) {
        const Ref x = beside_const(g, n->arg[i], OP_mul, 0.5),
                  t = beside_const(g, n->arg[1 - i], OP_add, 1);
        if (!x || !t || g->node[t].op != OP_tanh)
            continue;
        const Ref in = beside_const(g, g->node[t].arg[0], OP_mul, sqrt(2 / M_PI));
        const Node *sum = &g->node[in];
        for (int k = 0; k < 2 && in && sum->op == OP_add; k++) {
            const Ref cube = beside_const(g, sum->arg[1 - k], OP_mul, 0.044715);
            const Node *c = &g->node[cube];
            if (!cube || sum->arg[k] != x || c->op != OP_mul)
                continue;
            for (int j = 0; j < 2; j++) {
                const Node *sq = &g->node[c->arg[1 - j]];
                if (c->arg[j] == x && sq->op == OP_mul && sq->arg[0] == x && sq->arg[1] == x)
                    return x;
            }
        }
    }
    return REF_NONE;
}

/* What stands behind the last op, which *finish then says. */
static Ref finish_of(const Graph *g, Ref r, CallFinish *finish)
{
    while (g->node[r].op == OP_reshape)
        r = g->node[r].arg[0];
    Ref x = beside_const(g, r, OP_max, 0);
    *finish = x ? FINISH_RELU : FINISH_NONE;
    if (!x && (x = gelu_of(g, r)) != REF_NONE)
        *finish = FINISH_GELU;
    return x ? x : r;
}

/* The product under sums and reshapes, or REF_NONE. */
static Ref product_under(const Graph *g, Ref r)
{
    const Node *n = &g->node[r];
    if (n->op == OP_matmul)
        return r;
    if (n->op == OP_reshape)
        return product_under(g, n->arg[0]);
    if (n->op != OP_add)
        return REF_NONE;
    const Ref x = product_under(g, n->arg[0]);
    return x ? x : product_under(g, n->arg[1]);
}

/* Is v as packed as a result: all of it (*columns is 0), or of the innermost axes, repeated along
 * the others? */
static bool packed(const CallView *v, int64_t *columns)
{
    int64_t reach = 1;
    *columns = 0;
    for (int i = v->rank - 1; i >= 0; i--) {
        if (v->extent[i] == 1)
            continue;
        if (v->stride[i] == 0 && !*columns)
            *columns = reach;
        if (v->stride[i] != (*columns ? 0 : reach))
            return false;
        reach *= v->extent[i];
    }
    return true;
}

static const char *take_term(const Graph *g, Ref r, CallMatmul *c)
{
    CallView v;
    int64_t columns;
    const char *why = call_view(g, r, &v);
    if (why)
        return "something that is computed is added";
    if (!packed(&v, &columns))
        return "what is added lies otherwise than the result";
    if (columns == c->m && c->bias < 0) {
        c->bias = v.arg;
        c->bias_offset = v.offset;
        return NULL;
    }
    if (columns || c->c.arg >= 0)
        return "what is added is neither one number a column nor a matrix, or too much";
    c->c = c->d;
    c->c.arg = v.arg;
    c->c.offset = v.offset;
    return NULL;
}

static const char *take_terms(const Graph *g, Ref r, Ref product, CallMatmul *c)
{
    while (r != product) {
        const Node *n = &g->node[r];
        if (n->op == OP_reshape) {
            r = n->arg[0];
            continue;
        }
        const int side = product_under(g, n->arg[0]) == product ? 0 : 1;
        const char *why = take_term(g, n->arg[1 - side], c);
        if (why)
            return why;
        r = n->arg[side];
    }
    return NULL;
}

static bool has_matmul(const Graph *g)
{
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op == OP_matmul)
            return true;
    return false;
}

static const char *no_f32(const Graph *g)
{
    for (uint32_t i = 0; i < g->ninput; i++)
        if (g->node[g->input[i]].type.dt != DT_F32)
            return "an operand is not f32";
    for (Ref r = 1; r < g->nnode; r++)
        if (shape_count(&g->node[r].type.shape) == 0)
            return "it is empty";
    return NULL;
}

const char *call_matmul(const Graph *body, CallMatmul *out)
{
    Product p = { .batch.n = 0 };
    if (!has_matmul(body))
        return "";
    if (body->nout != 1)
        return "it has several results";
    *out = (CallMatmul){ .c.arg = -1, .bias = -1 };
    const Ref last = finish_of(body, body->out[0].value, &out->finish),
              product = product_under(body, last);
    if (!product)
        return "more is computed than a product, its bias and activation";
    const CallFinish finish = out->finish;
    const char *why = no_f32(body);
    if (!why)
        why = product_read(body, &body->node[product], &p);
    if (!why)
        why = product_lay(&p, out);
    if (!why)
        why = take_terms(body, last, product, out);
    out->finish = finish;
    return why;
}
