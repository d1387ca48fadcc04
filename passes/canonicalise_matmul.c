/* SPDX-License-Identifier: Apache-2.0 */
/* canonicalise: rules of contractions.
 *
 * They are more than tidying:
 *   - A matmul with one column, or one that sums over nothing but an extent of 1, becomes a
 *     broadcast multiply (and a row sum): that runs at memory speed, a one-column GEMM does not.
 *     Not inside a scan, where the contraction shares its loop with the cell's other ones.
 *   - `fold` of a matmul, which is what the data gradient of a convolution is, becomes a matmul
 *     over windows of the dilated and padded cotangent with reversed taps: it stores each result
 *     once instead of adding overlapping windows, and is a contraction like the forward one.
 *   - A slice of a matmul that nobody else reads slices the operands.
 */
#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"
#include "passes/canonicalise.h"

/* ---- operands ----------------------------------------------------------------------------- */

static void add_axis(Shape *s, int64_t extent)
{
    s->dim[s->rank++] = extent;
}

static bool has_axis(const uint8_t *axis, int n, int i)
{
    for (int k = 0; k < n; k++)
        if (axis[k] == i)
            return true;
    return false;
}

typedef struct Side { /* one operand of a matmul */
    Ref value;
    Shape shape;
    uint8_t nfree, over[4], batch[4], free[MAX_RANK];
} Side;

static Side side_of(const Canon *c, const Node *n, int i)
{
    Side s = { .value = n->arg[i], .shape = canon_arg(c, n, i)->type.shape };
    memcpy(s.over, i ? n->attr.contract.over_b : n->attr.contract.over_a, sizeof s.over);
    memcpy(s.batch, i ? n->attr.contract.batch_b : n->attr.contract.batch_a, sizeof s.batch);
    for (int k = 0; k < s.shape.rank; k++)
        if (!has_axis(s.over, n->attr.contract.nover, k) &&
            !has_axis(s.batch, n->attr.contract.nbatch, k))
            s.free[s.nfree++] = (uint8_t)k;
    return s;
}

static int64_t extent_over(const Shape *s, const uint8_t *axis, int n)
{
    int64_t count = 1;
    for (int i = 0; i < n; i++)
        count = size_mul(count, s->dim[axis[i]]);
    return count;
}

/* Without its free axes, all of extent 1, repeated along those of the other side. */
static Ref spread(Canon *c, const Node *n, const Side *thin, const Side *wide)
{
    Shape squeezed = { 0 };
    int kept[MAX_RANK], nkept = 0; /* axes of thin, in order, that are not free */
    for (int i = 0; i < thin->shape.rank; i++)
        if (!has_axis(thin->free, thin->nfree, i)) {
            kept[nkept++] = i;
            add_axis(&squeezed, thin->shape.dim[i]);
        }
    int perm[MAX_RANK], at = 0;
    for (int i = 0; i < wide->shape.rank; i++) {
        int partner = -1;
        for (int k = 0; k < n->attr.contract.nover; k++)
            if (wide->over[k] == i)
                partner = thin->over[k];
        for (int k = 0; k < n->attr.contract.nbatch; k++)
            if (wide->batch[k] == i)
                partner = thin->batch[k];
        for (int k = 0; k < nkept && partner >= 0; k++)
            if (kept[k] == partner)
                perm[at++] = k;
    }
    unsigned new_axes = 0;
    for (int i = 0; i < wide->nfree; i++)
        new_axes |= 1u << wide->free[i];
    const Ref x = canon_transpose(c, canon_reshape(c, thin->value, &squeezed), perm);
    return canon_broadcast(c, x, &wide->shape, new_axes);
}

static Ref make_cast(Canon *c, Ref x, DType dt)
{
    return x == REF_NONE ? x
                         : canon_make(c, OP_cast, 1, &x, (Attr){ 0 },
                                      (Type){ dt, canon_node(c, x)->type.shape });
}

/* sum(wide * spread thin), its axes brought to the matmul's order: batch, then free.  A contraction
 * is rounded once, so 16-bit products, which may be stored, are made in f32. */
static Ref multiply_and_sum(Canon *c, const Node *n, const Side *thin, const Side *wide)
{
    const int nover = n->attr.contract.nover, nbatch = n->attr.contract.nbatch;
    const bool low = n->type.dt == DT_F16 || n->type.dt == DT_BF16;
    const DType dt = low ? DT_F32 : n->type.dt;
    Side narrow = *thin;
    narrow.value = make_cast(c, thin->value, dt);
    const Ref product =
        canon_make2(c, OP_mul, make_cast(c, wide->value, dt), spread(c, n, &narrow, wide));
    unsigned over = 0;
    for (int i = 0; i < nover; i++)
        over |= 1u << wide->over[i];
    const Ref sum =
        canon_make(c, OP_sum, 1, &product, (Attr){ .axes.mask = (uint8_t)over }, (Type){ 0 });
    int place[MAX_RANK], at = 0, perm[MAX_RANK], np = 0;
    for (int i = 0; i < wide->shape.rank; i++)
        place[i] = has_axis(wide->over, nover, i) ? -1 : at++;
    for (int i = 0; i < nbatch; i++)
        perm[np++] = place[wide->batch[i]];
    for (int i = 0; i < wide->nfree; i++)
        perm[np++] = place[wide->free[i]];
    const Ref rounded = make_cast(c, sum, n->type.dt);
    return canon_reshape(c, canon_transpose(c, rounded, perm), &n->type.shape);
}

static bool sums_inner_axes(const Node *n, const Side *s)
{
    for (int i = 0; i < n->attr.contract.nover; i++)
        if (s->over[i] < s->shape.rank - n->attr.contract.nover)
            return false;
    return true;
}

static Ref matmul_column(Canon *c, const Node *n)
{
    if (c->in_scan || !n->attr.contract.nover)
        return REF_NONE;
    const Side a = side_of(c, n, 0), b = side_of(c, n, 1);
    if (extent_over(&b.shape, b.free, b.nfree) == 1)
        return multiply_and_sum(c, n, &b, &a);
    if (extent_over(&a.shape, a.free, a.nfree) == 1 &&
        (sums_inner_axes(n, &b) || n->attr.contract.nbatch))
        return multiply_and_sum(c, n, &a, &b);
    return REF_NONE;
}

static Ref matmul_outer(Canon *c, const Node *n) /* sums over an extent of 1 */
{
    const Side side[2] = { side_of(c, n, 0), side_of(c, n, 1) };
    const int nover = n->attr.contract.nover, nbatch = n->attr.contract.nbatch;
    if (c->in_scan || extent_over(&side[0].shape, side[0].over, nover) != 1)
        return REF_NONE;
    Ref factor[2];
    for (int k = 0; k < 2; k++) {
        const Side *s = &side[k];
        int perm[MAX_RANK], np = 0;
        for (int i = 0; i < nbatch; i++)
            perm[np++] = s->batch[i];
        for (int i = 0; i < s->nfree; i++)
            perm[np++] = s->free[i];
        for (int i = 0; i < nover; i++)
            perm[np++] = s->over[i];
        Shape shape = { 0 };
        for (int i = 0; i < np - nover; i++)
            add_axis(&shape, s->shape.dim[perm[i]]);
        unsigned new_axes = 0;
        const int first = nbatch + (k == 0 ? side[0].nfree : 0);
        for (int i = 0; i < side[1 - k].nfree; i++)
            new_axes |= 1u << (first + i);
        const Ref x = canon_reshape(c, canon_transpose(c, s->value, perm), &shape);
        factor[k] = canon_broadcast(c, x, &n->type.shape, new_axes);
    }
    return canon_make2(c, OP_mul, factor[0], factor[1]);
}

/* An operand's transpose goes into the axis pairs when its free axes keep their order. */
static Ref matmul_transpose(Canon *c, const Node *n)
{
    for (int k = 0; k < 2; k++) {
        const Node *x = canon_arg(c, n, k);
        if (x->op != OP_transpose)
            continue;
        const Side s = side_of(c, n, k);
        bool ordered = true;
        for (int i = 1; i < s.nfree; i++)
            ordered &= x->attr.perm.dim[s.free[i - 1]] < x->attr.perm.dim[s.free[i]];
        if (!ordered && !BUG(31))
            continue;
        Attr attr = n->attr;
        uint8_t *over = k ? attr.contract.over_b : attr.contract.over_a;
        uint8_t *batch = k ? attr.contract.batch_b : attr.contract.batch_a;
        for (int i = 0; i < attr.contract.nover; i++)
            over[i] = (uint8_t)x->attr.perm.dim[over[i]];
        for (int i = 0; i < attr.contract.nbatch; i++)
            batch[i] = (uint8_t)x->attr.perm.dim[batch[i]];
        Ref arg[2] = { n->arg[0], n->arg[1] };
        arg[k] = x->arg[0];
        return canon_make(c, OP_matmul, 2, arg, attr, (Type){ 0 });
    }
    return REF_NONE;
}

static Ref slice_matmul(Canon *c, const Node *n)
{
    const Node *m = canon_arg(c, n, 0);
    if (m->op != OP_matmul || !canon_is_part(n) || !canon_is_once(c, n->arg[0]))
        return REF_NONE;
    const Side a = side_of(c, m, 0), b = side_of(c, m, 1);
    const int nbatch = m->attr.contract.nbatch;
    Shape part[2] = { a.shape, b.shape };
    int64_t lo[2][MAX_RANK] = { { 0 }, { 0 } };
    for (int i = 0; i < n->type.shape.rank; i++) {
        const int64_t from = n->attr.slice.lo[i], extent = n->type.shape.dim[i];
        const bool in_a = i < nbatch + a.nfree, in_b = i < nbatch || !in_a;
        const int axis_a = i < nbatch ? a.batch[i] : in_a ? a.free[i - nbatch] : 0;
        const int axis_b = i < nbatch ? b.batch[i] : in_b ? b.free[i - nbatch - a.nfree] : 0;
        if (in_a) {
            lo[0][axis_a] = from;
            part[0].dim[axis_a] = extent;
        }
        if (in_b) {
            lo[1][axis_b] = from;
            part[1].dim[axis_b] = extent;
        }
    }
    const Ref arg[2] = { canon_part(c, a.value, lo[0], &part[0]),
                         canon_part(c, b.value, lo[1], &part[1]) };
    return canon_make(c, OP_matmul, 2, arg, m->attr, (Type){ 0 });
}

/* ---- fold of a matmul --------------------------------------------------------------------- */

/* fold adds up y[.., x'.., k.., r] into x = x' * stride + k * dilation, where y is a (transposed)
 * matmul of `data`, which has the x' axes, and `taps`, which has the k axes.  With k = K-1-j,
 *
 *     sum over x', k of data[x'] taps[k]  =  sum over j of spread[x + j * dilation] taps[K-1-j]
 *
 * where spread holds data[x'] at (K-1) * dilation + x' * stride and zeros between and around, and
 * is padded to extent X + (K-1) * dilation, so that the windows give all X rows, the last
 * (X - k) % stride of them, which no window of the forward pass saw, as zeros. */
typedef struct Unfold {
    Side data, taps;
    int nwindow;
    uint8_t y_side[MAX_RANK], y_axis[MAX_RANK]; /* of each axis of fold's argument: operand, axis */
} Unfold;

static bool unfold_match(Canon *c, const Node *n, Unfold *u, const Node **matmul)
{
    const Node *y = canon_arg(c, n, 0), *m = y->op == OP_transpose ? canon_arg(c, y, 0) : y;
    const int nw = n->attr.window.n, first = n->attr.window.axis[0];
    if (m->op != OP_matmul || m->attr.contract.nbatch || m->attr.contract.nover + nw > 4 ||
        shape_count(&y->type.shape) == 0 || y->type.shape.rank > MAX_RANK)
        return false;
    if (!canon_is_once(c, n->arg[0]) || (y != m && !canon_is_once(c, y->arg[0])))
        return false;
    const Side side[2] = { side_of(c, m, 0), side_of(c, m, 1) };
    for (int i = 0; i < y->type.shape.rank; i++) {
        const int at = y == m ? i : y->attr.perm.dim[i];
        u->y_side[i] = at >= side[0].nfree;
        u->y_axis[i] = u->y_side[i] ? side[1].free[at - side[0].nfree] : side[0].free[at];
    }
    const int data = u->y_side[first];
    for (int i = 0; i < nw; i++)
        if (u->y_side[first + i] != data || u->y_side[first + nw + i] == data)
            return false;
    u->data = side[data];
    u->taps = side[1 - data];
    for (int i = 0; i < y->type.shape.rank; i++)
        u->y_side[i] = u->y_side[i] != data; /* now 0: data, 1: taps */
    u->nwindow = nw;
    *matmul = m;
    return u->data.shape.rank + nw <= MAX_RANK;
}

/* data with its free axes in y's order, then the summed ones; spread out, and windowed. */
static Ref unfold_data(Canon *c, const Node *n, const Unfold *u, int rank, int nover)
{
    const int nw = u->nwindow, first = n->attr.window.axis[0];
    int perm[MAX_RANK], np = 0, at = 0;
    for (int i = 0; i < rank; i++)
        if (u->y_side[i] == 0) {
            if (i == first)
                at = np;
            perm[np++] = u->y_axis[i];
        }
    for (int i = 0; i < nover; i++)
        perm[np++] = u->data.over[i];
    const Ref x = canon_transpose(c, u->data.value, perm);

    Attr pad = { 0 }, window = { .window = { .n = (uint8_t)nw } };
    for (int i = 0; i < np; i++)
        pad.pad.step[i] = 1;
    for (int i = 0; i < nw; i++) {
        const int64_t k = n->attr.window.kernel[i], s = n->attr.window.stride[i];
        const int64_t d = n->attr.window.dilation[i], extent = n->attr.window.extent[i];
        pad.pad.lo[at + i] = (k - 1) * d;
        pad.pad.hi[at + i] = extent - 1 - (u->data.shape.dim[perm[at + i]] - 1) * s;
        pad.pad.step[at + i] = s;
        window.window.axis[i] = (uint8_t)(at + i);
        window.window.kernel[i] = k;
        window.window.stride[i] = 1;
        window.window.dilation[i] = d;
        window.window.extent[i] = extent + (k - 1) * d;
    }
    const Ref padded = canon_make(c, OP_pad, 1, &x, pad, (Type){ 0 });
    return canon_make(c, OP_window, 1, &padded, window, (Type){ 0 });
}

/* taps as (k.., summed.., the rest), each k axis reversed. */
static Ref unfold_taps(Canon *c, const Node *n, const Unfold *u, int rank, int nover)
{
    const int nw = u->nwindow, first = n->attr.window.axis[0];
    int perm[MAX_RANK], np = 0;
    for (int i = 0; i < nw; i++)
        perm[np++] = u->y_axis[first + nw + i];
    for (int i = 0; i < nover; i++)
        perm[np++] = u->taps.over[i];
    for (int i = 0; i < rank; i++)
        if (u->y_side[i] == 1 && !(i >= first + nw && i < first + 2 * nw))
            perm[np++] = u->y_axis[i];
    const Ref w = canon_transpose(c, u->taps.value, perm);
    if (w == REF_NONE)
        return w;
    Attr reverse = { 0 };
    for (int i = 0; i < np; i++) {
        reverse.slice.lo[i] = i < nw && !BUG(32) ? n->attr.window.kernel[i] - 1 : 0;
        reverse.slice.step[i] = i < nw && !BUG(32) ? -1 : 1;
    }
    const Type type = canon_node(c, w)->type;
    return canon_make(c, OP_slice, 1, &w, reverse, type);
}

static Ref fold_matmul(Canon *c, const Node *n)
{
    Unfold u = { 0 };
    const Node *m;
    if (!unfold_match(c, n, &u, &m))
        return REF_NONE;
    const int nover = m->attr.contract.nover, nw = u.nwindow, first = n->attr.window.axis[0];
    const int rank = canon_arg(c, n, 0)->type.shape.rank;
    const Ref arg[2] = { unfold_data(c, n, &u, rank, nover), unfold_taps(c, n, &u, rank, nover) };

    /* The free axes of data that come before the windows', then the windows' own. */
    int before = 0, ndata = 0;
    for (int i = 0; i < rank; i++) {
        before += u.y_side[i] == 0 && i < first + nw;
        ndata += u.y_side[i] == 0;
    }
    Attr attr = { .contract = { .nover = (uint8_t)(nw + nover) } };
    for (int i = 0; i < nw + nover; i++) {
        attr.contract.over_a[i] = (uint8_t)(i < nw ? before + i : ndata + i);
        attr.contract.over_b[i] = (uint8_t)i;
    }
    const Ref product = canon_make(c, OP_matmul, 2, arg, attr, (Type){ 0 });

    int perm[MAX_RANK], np = 0, next[2] = { 0, ndata };
    for (int i = 0; i < rank; i++)
        if (!(i >= first + nw && i < first + 2 * nw))
            perm[np++] = next[u.y_side[i]]++;
    return canon_transpose(c, product, perm);
}

const CanonRule canon_matmul[] = {
    { OP_slice, slice_matmul },  { OP_fold, fold_matmul },     { OP_matmul, matmul_transpose },
    { OP_matmul, matmul_outer }, { OP_matmul, matmul_column }, { 0 },
};
