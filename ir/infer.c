/* SPDX-License-Identifier: Apache-2.0 */
/* The type rules: infer_RULE for every shape rule of ops.def.
 *
 * A rule reads the node's arguments, attributes and wanted type and gives the result's type, or
 * says which op wanted what and what it got.  infer_node then compares with the wanted type and
 * checks that the result's size can be counted, so that nobody behind it meets an overflow. */
#include "ir/infer.h"

#include <inttypes.h>
#include <math.h>

#include "ir/base/size.h"

static const Type *arg_type(const Graph *g, const Node *n, uint32_t i)
{
    return &g->node[n->arg[i]].type;
}

static const char *op_name(const Node *n)
{
    return op_info[n->op].name;
}

/* Sources: what they give is said by the node. */

static Status wants_type(Ctx *cx, const Node *n, Type *out)
{
    if (n->type.dt == DT_NONE)
        return FAIL(cx, TYPE, "%s: wants a type", op_name(n));
    *out = n->type;
    return ST_OK;
}

static Status infer_input(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    (void)g;
    if ((unsigned)n->attr.input.kind > INPUT_const)
        return FAIL(cx, VALUE, "input: bad kind %d", (int)n->attr.input.kind);
    return wants_type(cx, n, out);
}

static bool fits_integer(DType dt, double x)
{
    switch (dt) {
    case DT_BOOL:
        return x == 0 || x == 1;
    case DT_U8:
        return x == floor(x) && x >= 0 && x <= 255;
    case DT_I32:
        return x == floor(x) && x >= INT32_MIN && x <= INT32_MAX;
    case DT_I64:
        return x == floor(x) && fabs(x) <= 0x1p53;
    default:
        return true;
    }
}

static Status infer_const(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    (void)g;
    TRY(wants_type(cx, n, out));
    if (!fits_integer(out->dt, n->attr.fill.value))
        return FAIL(cx, VALUE, "const: %g is no value of type %s", n->attr.fill.value,
                    dtype_name(out->dt));
    return ST_OK;
}

static Status infer_iota(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    (void)g;
    TRY(wants_type(cx, n, out));
    if (out->dt == DT_BOOL)
        return FAIL(cx, TYPE, "iota: counts in numbers, not in %s", type_str(out));
    if (n->attr.axis.axis < 0 || n->attr.axis.axis >= out->shape.rank)
        return FAIL(cx, SHAPE, "iota: axis %d is none of %s", n->attr.axis.axis, type_str(out));
    return ST_OK;
}

static Status infer_rand(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    static const char *const what[] = { "seed", "stream", "step", "iter", "row0" };

    TRY(wants_type(cx, n, out));
    if (out->dt != DT_F32)
        return FAIL(cx, TYPE, "rand: gives f32, not %s", type_str(out));
    for (uint32_t i = 0; i < 5; i++) {
        const Type *t = arg_type(g, n, i);
        if (t->shape.rank || (t->dt != DT_I32 && t->dt != DT_I64))
            return FAIL(cx, TYPE, "rand: %s wants i32[] or i64[], got %s", what[i], type_str(t));
    }
    return ST_OK;
}

/* Elementwise: one shape, one dtype. */

static Status args_agree(Ctx *cx, const Graph *g, const Node *n, uint32_t first)
{
    const Type *a = arg_type(g, n, first);
    for (uint32_t i = first + 1; i < n->nargs; i++) {
        const Type *b = arg_type(g, n, i);
        if (!shape_eq(&a->shape, &b->shape))
            return FAIL(cx, SHAPE, "%s: shapes differ in %s and %s", op_name(n), type_str(a),
                        type_str(b));
        if (a->dt != b->dt)
            return FAIL(cx, TYPE, "%s: types differ in %s and %s", op_name(n), type_str(a),
                        type_str(b));
    }
    return ST_OK;
}

static Status wants_number(Ctx *cx, const Node *n, const Type *t)
{
    if (t->dt == DT_BOOL)
        return FAIL(cx, TYPE, "%s: wants numbers, got %s", op_name(n), type_str(t));
    return ST_OK;
}

static Status infer_same(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    TRY(args_agree(cx, g, n, 0));
    *out = *arg_type(g, n, 0);
    return wants_number(cx, n, out);
}

static Status infer_floats(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    TRY(args_agree(cx, g, n, 0));
    *out = *arg_type(g, n, 0);
    if (!dtype_is_float(out->dt))
        return FAIL(cx, TYPE, "%s: wants floats, got %s", op_name(n), type_str(out));
    return ST_OK;
}

static Status infer_compare(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    TRY(infer_same(cx, g, n, out));
    out->dt = DT_BOOL;
    return ST_OK;
}

static Status infer_logic(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    TRY(args_agree(cx, g, n, 0));
    *out = *arg_type(g, n, 0);
    if (out->dt != DT_BOOL)
        return FAIL(cx, TYPE, "%s: wants bool, got %s", op_name(n), type_str(out));
    return ST_OK;
}

static Status infer_select(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *cond = arg_type(g, n, 0);
    if (cond->dt != DT_BOOL)
        return FAIL(cx, TYPE, "select: wants a bool condition, got %s", type_str(cond));
    TRY(args_agree(cx, g, n, 1));
    *out = *arg_type(g, n, 1);
    if (!shape_eq(&cond->shape, &out->shape))
        return FAIL(cx, SHAPE, "select: shapes differ in %s and %s", type_str(cond), type_str(out));
    return ST_OK;
}

static Status infer_cast(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    TRY(wants_type(cx, n, out));
    out->shape = arg_type(g, n, 0)->shape;
    return ST_OK;
}

/* Views: the wanted shape is the node's, its dtype the argument's. */

static Status infer_reshape(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *x = arg_type(g, n, 0);
    *out = (Type){ x->dt, n->type.shape };
    int64_t count = 1;
    for (int i = 0; i < out->shape.rank; i++)
        if (!size_mul_ok(count, out->shape.dim[i], &count))
            return FAIL(cx, SHAPE, "reshape: %s is too large", shape_str(&out->shape));
    if (count != shape_count(&x->shape))
        return FAIL(cx, SHAPE, "reshape: %s has %" PRId64 " elements, %s wants %" PRId64,
                    type_str(x), shape_count(&x->shape), shape_str(&out->shape), count);
    return ST_OK;
}

static Status infer_transpose(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *x = arg_type(g, n, 0);
    unsigned seen = 0;
    *out = *x;
    for (int i = 0; i < x->shape.rank; i++) {
        const int from = n->attr.perm.dim[i];
        if (from < 0 || from >= x->shape.rank || seen & 1u << from)
            return FAIL(cx, SHAPE, "transpose: perm is no permutation of the %d axes of %s",
                        x->shape.rank, type_str(x));
        seen |= 1u << from;
        out->shape.dim[i] = x->shape.dim[from];
    }
    return ST_OK;
}

static Status infer_broadcast(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *x = arg_type(g, n, 0);
    const unsigned mask = n->attr.axes.mask;
    int kept = 0;

    *out = (Type){ x->dt, n->type.shape };
    if (mask >> out->shape.rank)
        return FAIL(cx, SHAPE, "broadcast: a new axis is none of %s", shape_str(&out->shape));
    for (int i = 0; i < out->shape.rank; i++) {
        if (mask & 1u << i)
            continue;
        if (kept >= x->shape.rank || x->shape.dim[kept] != out->shape.dim[i])
            return FAIL(cx, SHAPE, "broadcast: axis %d of %s is not axis %d of %s", i,
                        shape_str(&out->shape), kept, type_str(x));
        kept++;
    }
    if (kept != x->shape.rank)
        return FAIL(cx, SHAPE, "broadcast: %s has %d axes, %s keeps %d", type_str(x), x->shape.rank,
                    shape_str(&out->shape), kept);
    return ST_OK;
}

static Status infer_slice(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *x = arg_type(g, n, 0);
    *out = (Type){ x->dt, n->type.shape };
    if (out->shape.rank != x->shape.rank)
        return FAIL(cx, SHAPE, "slice: ranks differ in %s and %s", type_str(x),
                    shape_str(&out->shape));
    for (int i = 0; i < x->shape.rank; i++) {
        const int64_t lo = n->attr.slice.lo[i], step = n->attr.slice.step[i];
        const int64_t have = x->shape.dim[i], want = out->shape.dim[i];
        int64_t last = lo;
        if (step == 0)
            return FAIL(cx, SHAPE, "slice: step 0 at axis %d", i);
        const bool countable =
            want <= 0 || (size_mul_ok(want - 1, step, &last) && size_add_ok(lo, last, &last));
        const bool inside = want > 0 ? lo >= 0 && lo < have && last >= 0 && last < have
                                     : want == 0 && lo >= 0 && lo <= have;
        if (!countable || !inside)
            return FAIL(cx, SHAPE,
                        "slice: %" PRId64 " elements from %" PRId64 " in steps of %" PRId64
                        " do not lie in axis %d of %s",
                        want, lo, step, i, type_str(x));
    }
    return ST_OK;
}

static Status infer_pad(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *x = arg_type(g, n, 0);
    *out = *x;
    for (int i = 0; i < x->shape.rank; i++) {
        const int64_t lo = n->attr.pad.lo[i], hi = n->attr.pad.hi[i], step = n->attr.pad.step[i];
        const int64_t have = x->shape.dim[i];
        int64_t extent = 0;
        if (lo < 0 || hi < 0 || step < 1)
            return FAIL(cx, SHAPE,
                        "pad: wants lo, hi >= 0 and step >= 1, got %" PRId64 ", %" PRId64
                        " and %" PRId64 " at axis %d",
                        lo, hi, step, i);
        bool ok =
            have == 0 || (size_mul_ok(have - 1, step, &extent) && size_add_ok(extent, 1, &extent));
        ok = ok && size_add_ok(extent, lo, &extent) && size_add_ok(extent, hi, &extent);
        if (!ok)
            return FAIL(cx, SHAPE, "pad: axis %d of %s becomes too large", i, type_str(x));
        out->shape.dim[i] = extent;
    }
    if (!fits_integer(x->dt, n->attr.pad.value))
        return FAIL(cx, VALUE, "pad: %g is no value of type %s", n->attr.pad.value,
                    dtype_name(x->dt));
    return ST_OK;
}

static Status infer_concat(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const int axis = n->attr.axis.axis;
    if (n->nargs == 0)
        return FAIL(cx, SHAPE, "concat: wants at least one argument");
    *out = *arg_type(g, n, 0);
    if (axis < 0 || axis >= out->shape.rank)
        return FAIL(cx, SHAPE, "concat: axis %d is none of %s", axis, type_str(out));
    for (uint32_t i = 1; i < n->nargs; i++) {
        Type like = *arg_type(g, n, i);
        const int64_t more = axis < like.shape.rank ? like.shape.dim[axis] : 0;
        int64_t *const extent = &out->shape.dim[axis];
        like.shape.dim[axis] = *extent;
        if (!type_eq(&like, out))
            return status_fail(cx, like.dt == out->dt ? ST_SHAPE : ST_TYPE,
                               "concat: %s does not fit %s beside axis %d",
                               type_str(arg_type(g, n, i)), type_str(arg_type(g, n, 0)), axis);
        if (!size_add_ok(*extent, more, extent))
            return FAIL(cx, SHAPE, "concat: axis %d becomes too large", axis);
    }
    return ST_OK;
}

/* Windows.  Both ops carry the axes of the unfolded tensor. */

static Status check_window_attr(Ctx *cx, const Node *n, int rank)
{
    const int count = n->attr.window.n;
    if (count < 1 || count > 3)
        return FAIL(cx, SHAPE, "%s: wants 1 to 3 axes, got %d", op_name(n), count);
    for (int i = 0; i < count; i++) {
        if (n->attr.window.axis[i] != n->attr.window.axis[0] + i || n->attr.window.axis[i] >= rank)
            return FAIL(cx, SHAPE, "%s: wants consecutive axes below %d", op_name(n), rank);
        if (n->attr.window.kernel[i] < 1 || n->attr.window.stride[i] < 1 ||
            n->attr.window.dilation[i] < 1)
            return FAIL(cx, SHAPE,
                        "%s: wants kernel, stride, dilation >= 1, got %" PRId64 ", %" PRId64
                        ", %" PRId64,
                        op_name(n), n->attr.window.kernel[i], n->attr.window.stride[i],
                        n->attr.window.dilation[i]);
    }
    return ST_OK;
}

/* How many windows lie in an axis of that extent. */
static Status count_windows(Ctx *cx, const Node *n, int i, int64_t extent, int64_t *out)
{
    int64_t span = 0;
    if (!size_mul_ok(n->attr.window.kernel[i] - 1, n->attr.window.dilation[i], &span) ||
        !size_add_ok(span, 1, &span))
        return FAIL(cx, SHAPE, "%s: the window at axis %d is too large", op_name(n),
                    n->attr.window.axis[i]);
    if (extent < span)
        return FAIL(cx, SHAPE,
                    "%s: a window of %" PRId64 " does not fit axis %d of extent %" PRId64,
                    op_name(n), span, n->attr.window.axis[i], extent);
    *out = (extent - span) / n->attr.window.stride[i] + 1;
    return ST_OK;
}

static Status infer_window(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *x = arg_type(g, n, 0);
    TRY(check_window_attr(cx, n, x->shape.rank));
    const int count = n->attr.window.n, first = n->attr.window.axis[0], rank = x->shape.rank;
    if (rank + count > MAX_RANK)
        return FAIL(cx, SHAPE, "window: %d axes more than %s are above rank %d", count, type_str(x),
                    MAX_RANK);
    *out = *x;
    out->shape.rank = (int8_t)(rank + count);
    for (int i = rank - 1; i >= first + count; i--)
        out->shape.dim[i + count] = x->shape.dim[i];
    for (int i = 0; i < count; i++) {
        TRY(count_windows(cx, n, i, x->shape.dim[first + i], &out->shape.dim[first + i]));
        out->shape.dim[first + count + i] = n->attr.window.kernel[i];
    }
    return ST_OK;
}

static Status infer_fold(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *x = arg_type(g, n, 0);
    const int count = n->attr.window.n, first = n->attr.window.axis[0];
    TRY(wants_number(cx, n, x));
    TRY(check_window_attr(cx, n, x->shape.rank - count));
    *out = *x;
    out->shape.rank = (int8_t)(x->shape.rank - count);
    for (int i = first + count; i < x->shape.rank; i++)
        out->shape.dim[i] = i < out->shape.rank ? x->shape.dim[i + count] : 0;
    for (int i = 0; i < count; i++) {
        int64_t wants = 0;
        TRY(count_windows(cx, n, i, n->attr.window.extent[i], &wants));
        if (x->shape.dim[first + i] != wants ||
            x->shape.dim[first + count + i] != n->attr.window.kernel[i])
            return FAIL(cx, SHAPE,
                        "fold: wants %" PRId64 " windows of %" PRId64 " at axis %d, got %s", wants,
                        n->attr.window.kernel[i], first + i, type_str(x));
        out->shape.dim[first + i] = n->attr.window.extent[i];
    }
    return ST_OK;
}

/* gather and scatter_add: the axes before `axis` belong to both x and index. */
static Status check_shared_axes(Ctx *cx, const Node *n, int axis, const Type *x, const Type *index)
{
    if (index->dt != DT_I32)
        return FAIL(cx, TYPE, "%s: wants an index of i32, got %s", op_name(n), type_str(index));
    if (axis < 0 || axis > index->shape.rank || axis > x->shape.rank)
        return FAIL(cx, SHAPE, "%s: axis %d is above the rank of %s or %s", op_name(n), axis,
                    type_str(x), type_str(index));
    for (int i = 0; i < axis; i++)
        if (x->shape.dim[i] != index->shape.dim[i])
            return FAIL(cx, SHAPE, "%s: axis %d of %s and of %s differ", op_name(n), i, type_str(x),
                        type_str(index));
    return ST_OK;
}

static Status infer_gather(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *x = arg_type(g, n, 0), *index = arg_type(g, n, 1);
    const int axis = n->attr.axis.axis, rest = x->shape.rank - axis - 1;
    TRY(check_shared_axes(cx, n, axis, x, index));
    if (rest < 0)
        return FAIL(cx, SHAPE, "gather: axis %d is none of %s", axis, type_str(x));
    if (index->shape.rank + rest > MAX_RANK)
        return FAIL(cx, SHAPE, "gather: %s by %s is above rank %d", type_str(x), type_str(index),
                    MAX_RANK);
    *out = (Type){ x->dt, index->shape };
    for (int i = 0; i < rest; i++)
        out->shape.dim[out->shape.rank++] = x->shape.dim[axis + 1 + i];
    if (x->shape.dim[axis] == 0 && shape_count(&index->shape) > 0)
        return FAIL(cx, SHAPE, "gather: axis %d of %s has nothing to take", axis, type_str(x));
    return ST_OK;
}

static Status infer_scatter_add(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *x = arg_type(g, n, 0), *index = arg_type(g, n, 1);
    const int axis = n->attr.scatter.axis, nindex = index->shape.rank;
    if (x->dt == DT_BOOL)
        return FAIL(cx, TYPE, "scatter_add: wants numbers, got %s", type_str(x));
    TRY(check_shared_axes(cx, n, axis, x, index));
    for (int i = axis; i < nindex; i++)
        if (i >= x->shape.rank || x->shape.dim[i] != index->shape.dim[i])
            return FAIL(cx, SHAPE, "scatter_add: %s has no element for each index of %s",
                        type_str(x), type_str(index));
    const int rest = x->shape.rank - nindex;
    if (axis + 1 + rest > MAX_RANK)
        return FAIL(cx, SHAPE, "scatter_add: the result is above rank %d", MAX_RANK);
    if (n->attr.scatter.extent < 0 ||
        (n->attr.scatter.extent == 0 && shape_count(&index->shape) > 0))
        return FAIL(cx, SHAPE, "scatter_add: an extent of %" PRId64 " has no place for %s",
                    n->attr.scatter.extent, type_str(index));
    *out = (Type){ x->dt, { .rank = (int8_t)(axis + 1 + rest) } };
    for (int i = 0; i < axis; i++)
        out->shape.dim[i] = x->shape.dim[i];
    out->shape.dim[axis] = n->attr.scatter.extent;
    for (int i = 0; i < rest; i++)
        out->shape.dim[axis + 1 + i] = x->shape.dim[nindex + i];
    return ST_OK;
}

static Status infer_cumsum(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    *out = *arg_type(g, n, 0);
    if (out->dt == DT_BOOL)
        return FAIL(cx, TYPE, "cumsum: wants numbers, got %s", type_str(out));
    if (n->attr.axis.axis < 0 || n->attr.axis.axis >= out->shape.rank)
        return FAIL(cx, SHAPE, "cumsum: axis %d is none of %s", n->attr.axis.axis, type_str(out));
    return ST_OK;
}

static Status infer_reduce(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *x = arg_type(g, n, 0);
    const unsigned mask = n->attr.axes.mask;

    TRY(wants_number(cx, n, x));
    if (mask >> x->shape.rank)
        return FAIL(cx, SHAPE, "%s: an axis is none of %s", op_name(n), type_str(x));
    *out = (Type){ .dt = x->dt };
    for (int i = 0; i < x->shape.rank; i++)
        if (!(mask & 1u << i))
            out->shape.dim[out->shape.rank++] = x->shape.dim[i];
    return ST_OK;
}

/* Notes in used[side] the axes that the pairs take. */
static Status take_pairs(Ctx *cx, const Type *a, const Type *b, const uint8_t *of_a,
                         const uint8_t *of_b, int n, unsigned used[2])
{
    for (int i = 0; i < n; i++) {
        if (of_a[i] >= a->shape.rank || of_b[i] >= b->shape.rank)
            return FAIL(cx, SHAPE, "matmul: the pair of axes %d and %d is not in %s x %s", of_a[i],
                        of_b[i], type_str(a), type_str(b));
        if (used[0] & 1u << of_a[i] || used[1] & 1u << of_b[i])
            return FAIL(cx, SHAPE, "matmul: the pair of axes %d and %d takes an axis twice",
                        of_a[i], of_b[i]);
        if (a->shape.dim[of_a[i]] != b->shape.dim[of_b[i]])
            return FAIL(cx, SHAPE, "matmul: sizes of axes %d and %d differ in %s x %s", of_a[i],
                        of_b[i], shape_str(&a->shape), shape_str(&b->shape));
        used[0] |= 1u << of_a[i];
        used[1] |= 1u << of_b[i];
    }
    return ST_OK;
}

static Status infer_matmul(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Type *a = arg_type(g, n, 0), *b = arg_type(g, n, 1);
    const int nover = n->attr.contract.nover, nbatch = n->attr.contract.nbatch;
    unsigned used[2] = { 0, 0 };

    if (a->dt != b->dt)
        return FAIL(cx, TYPE, "matmul: types differ in %s x %s", type_str(a), type_str(b));
    TRY(wants_number(cx, n, a));
    if (nover > 4 || nbatch > 4)
        return FAIL(cx, SHAPE, "matmul: wants at most 4 pairs of axes, got %d over and %d batch",
                    nover, nbatch);
    TRY(take_pairs(cx, a, b, n->attr.contract.batch_a, n->attr.contract.batch_b, nbatch, used));
    TRY(take_pairs(cx, a, b, n->attr.contract.over_a, n->attr.contract.over_b, nover, used));

    const int rank = a->shape.rank + b->shape.rank - 2 * nover - nbatch;
    if (rank > MAX_RANK)
        return FAIL(cx, SHAPE, "matmul: %s x %s gives rank %d, above %d", type_str(a), type_str(b),
                    rank, MAX_RANK);
    int k = 0;
    *out = (Type){ .dt = a->dt };
    for (int i = 0; i < nbatch; i++)
        out->shape.dim[k++] = a->shape.dim[n->attr.contract.batch_a[i]];
    for (int i = 0; i < a->shape.rank; i++)
        if (!(used[0] & 1u << i))
            out->shape.dim[k++] = a->shape.dim[i];
    for (int i = 0; i < b->shape.rank; i++)
        if (!(used[1] & 1u << i))
            out->shape.dim[k++] = b->shape.dim[i];
    out->shape.rank = (int8_t)k;
    return ST_OK;
}

/* Ops with a body, whose parts get takes. */

static Type body_in(const Graph *body, uint32_t i)
{
    return body->node[body->input[i]].type;
}
static Type body_out(const Graph *body, uint32_t i)
{
    return body->node[body->out[i].value].type;
}

static Status check_body(Ctx *cx, const Node *n, const Graph *body)
{
    if (!body)
        return FAIL(cx, VALUE, "%s: has no body", op_name(n));
    if (body->ninput != n->nargs)
        return FAIL(cx, SHAPE, "%s: %u arguments for the %u inputs of the body", op_name(n),
                    n->nargs, body->ninput);
    for (uint32_t i = 0; i < body->nout; i++)
        if (body->out[i].replaces != REF_NONE)
            return FAIL(cx, VALUE, "%s: the body replaces an input", op_name(n));
    return ST_OK;
}

/* x without its axis 0, which must be trip long. */
static bool take_step(const Type *x, int64_t trip, Type *out)
{
    if (x->shape.rank < 1 || x->shape.dim[0] != trip)
        return false;
    *out = (Type){ .dt = x->dt, .shape.rank = (int8_t)(x->shape.rank - 1) };
    for (int i = 1; i < x->shape.rank; i++)
        out->shape.dim[i - 1] = x->shape.dim[i];
    return true;
}

static Status check_scan_input(Ctx *cx, const Graph *g, const Node *n, uint32_t i)
{
    const Graph *body = n->attr.scan.body;
    const uint32_t ncarry = n->attr.scan.ncarry, nstep = n->attr.scan.nstep;
    const bool is_step = i >= ncarry && i < ncarry + nstep;
    const Type *x = arg_type(g, n, i);
    const Type wants = body_in(body, i);
    Type part = *x;

    if (is_step && !take_step(x, n->attr.scan.trip, &part))
        return FAIL(cx, SHAPE, "scan: argument %u wants %" PRId64 " steps on axis 0, got %s", i,
                    n->attr.scan.trip, type_str(x));
    if (!type_eq(&part, &wants))
        return FAIL(cx, SHAPE, "scan: argument %u (%s) is %s%s, the body wants %s", i,
                    i < ncarry ? "carry"
                    : is_step  ? "per step"
                               : "invariant",
                    type_str(&part), is_step ? " a step" : "", type_str(&wants));
    return ST_OK;
}

static Status infer_scan(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Graph *body = n->attr.scan.body;
    const uint32_t ncarry = n->attr.scan.ncarry, nstep = n->attr.scan.nstep;

    TRY(check_body(cx, n, body));
    if (n->attr.scan.trip < 0)
        return FAIL(cx, SHAPE, "scan: trip wants >= 0, got %" PRId64, n->attr.scan.trip);
    if (ncarry > n->nargs || nstep > n->nargs - ncarry || ncarry > body->nout)
        return FAIL(cx, SHAPE,
                    "scan: %u carries and %u per-step tensors for %u arguments and %u results",
                    ncarry, nstep, n->nargs, body->nout);
    for (uint32_t i = 0; i < n->nargs; i++)
        TRY(check_scan_input(cx, g, n, i));
    for (uint32_t i = 0; i < body->nout; i++) {
        const Type t = body_out(body, i), carry = i < ncarry ? body_in(body, i) : t;
        int64_t bytes = 0;
        if (!type_eq(&t, &carry))
            return FAIL(cx, SHAPE, "scan: carry %u comes in as %s and leaves the body as %s", i,
                        type_str(&carry), type_str(&t));
        if (i >= ncarry && t.shape.rank == MAX_RANK)
            return FAIL(cx, SHAPE, "scan: result %u, %s a step, is above rank %d", i, type_str(&t),
                        MAX_RANK);
        if (i >= ncarry && !size_mul_ok(type_bytes(&t), n->attr.scan.trip, &bytes))
            return FAIL(cx, SHAPE, "scan: result %u is too large", i);
    }
    *out = (Type){ 0 };
    return ST_OK;
}

static Status infer_fusion(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Graph *body = n->attr.fusion.body;

    TRY(check_body(cx, n, body));
    if (!n->attr.fusion.kind || !graph_is_name(n->attr.fusion.kind))
        return FAIL(cx, VALUE, "fusion: kind wants a name, got \"%s\"",
                    n->attr.fusion.kind ? n->attr.fusion.kind : "");
    for (uint32_t i = 0; i < n->nargs; i++) {
        const Type wants = body_in(body, i);
        if (!type_eq(arg_type(g, n, i), &wants))
            return FAIL(cx, SHAPE, "fusion: argument %u is %s, the body wants %s", i,
                        type_str(arg_type(g, n, i)), type_str(&wants));
    }
    *out = (Type){ 0 };
    return ST_OK;
}

static Status infer_get(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    const Node *tuple = &g->node[n->arg[0]];
    const uint32_t have = graph_result_count(g, n->arg[0]);

    if (tuple->type.dt != DT_NONE)
        return FAIL(cx, TYPE, "get: wants a scan, fusion or grad, got %s of type %s",
                    op_info[tuple->op].name, type_str(&tuple->type));
    if (n->attr.get.index >= have)
        return FAIL(cx, VALUE, "get: wants result %u of a %s that has %u", n->attr.get.index,
                    op_info[tuple->op].name, have);
    *out = graph_result_type(g, n->arg[0], n->attr.get.index);
    return ST_OK;
}

static Status infer_grad(Ctx *cx, const Graph *g, const Node *n, Type *out)
{
    if (n->nargs < 2)
        return FAIL(cx, VALUE, "grad: wants a loss and what to differentiate by");
    const Type *loss = arg_type(g, n, 0);
    if (!dtype_is_float(loss->dt) || loss->shape.rank)
        return FAIL(cx, TYPE, "grad: wants a float of rank 0 as the loss, got %s", type_str(loss));
    for (uint32_t i = 1; i < n->nargs; i++)
        if (!dtype_is_float(arg_type(g, n, i)->dt))
            return FAIL(cx, TYPE, "grad: argument %u wants floats, got %s", i,
                        type_str(arg_type(g, n, i)));
    *out = (Type){ 0 };
    return ST_OK;
}

typedef Status InferFn(Ctx *cx, const Graph *g, const Node *n, Type *out);

static InferFn *const infer_rule[OP_COUNT] = {
#define OP(id, args, cls, flags, prec, shape, attr, grad) [OP_##id] = infer_##shape,
#include "ir/ops.def"
};

/* Extents in range, and bytes and elements countable even when some other extent is 0, so that
 * strides are too. */
static Status check_size(Ctx *cx, const Node *n, const Type *t)
{
    int64_t bytes = t->dt == DT_NONE ? 1 : dtype_bytes(t->dt);
    if (t->shape.rank < 0 || t->shape.rank > MAX_RANK)
        return FAIL(cx, SHAPE, "%s: rank %d is not in 0..%d", op_name(n), t->shape.rank, MAX_RANK);
    for (int i = 0; i < t->shape.rank; i++) {
        const int64_t d = t->shape.dim[i];
        if (d < 0)
            return FAIL(cx, SHAPE, "%s: extent %" PRId64 " at axis %d", op_name(n), d, i);
        if (d > 0 && !size_mul_ok(bytes, d, &bytes))
            return FAIL(cx, SHAPE, "%s: %s is too large", op_name(n), type_str(t));
    }
    return ST_OK;
}

static Status check_args(Ctx *cx, const Graph *g, const Node *n)
{
    const OpInfo *info = &op_info[n->op];
    if (info->nargs >= 0 && n->nargs != (uint32_t)info->nargs)
        return FAIL(cx, VALUE, "%s: wants %d argument%s, got %u", info->name, info->nargs,
                    info->nargs == 1 ? "" : "s", n->nargs);
    for (uint32_t i = 0; i < n->nargs; i++) {
        if (n->arg[i] == REF_NONE || n->arg[i] >= g->nnode)
            return FAIL(cx, VALUE, "%s: argument %u is %%%u, which is not defined", info->name, i,
                        n->arg[i]);
        if (g->node[n->arg[i]].type.dt == DT_NONE && n->op != OP_get)
            return FAIL(cx, TYPE, "%s: argument %u is a %s; take its parts with get", info->name, i,
                        op_info[g->node[n->arg[i]].op].name);
    }
    return ST_OK;
}

Status infer_node(Ctx *cx, const Graph *g, Node *n)
{
    Type given = n->type, t = { 0 };

    if (n->op <= OP_none || n->op >= OP_COUNT)
        return FAIL(cx, VALUE, "no such op: %d", (int)n->op);
    TRY(check_size(cx, n, &given));
    TRY(check_args(cx, g, n));
    TRY(infer_rule[n->op](cx, g, n, &t));
    TRY(check_size(cx, n, &t));
    if (given.dt != DT_NONE && !type_eq(&given, &t)) {
        const bool asks_dtype_only = n->op == OP_cast && given.shape.rank == 0;
        if (!asks_dtype_only)
            return status_fail(cx, given.dt == t.dt ? ST_SHAPE : ST_TYPE, "%s: gives %s, not %s",
                               op_name(n), type_str(&t), type_str(&given));
    }
    for (int i = t.shape.rank; i < MAX_RANK; i++)
        t.shape.dim[i] = 0;
    n->type = t;
    return ST_OK;
}
