/* SPDX-License-Identifier: Apache-2.0 */
/* cumsum: running sums along one axis, out[i] = in[0] + .. + in[i].  From the other end it is the
 * same between two reversing slices, which cost nothing. */
#include "ir/eval_op.h"
#include "ir/vjp.h"

Status eval_cumsum(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    const int axis = n->attr.axis.axis;
    TRY(value_new(e, &n->type, out));
    Shape line = n->type.shape; /* where the sums start */
    const int64_t extent = line.dim[axis], to = out->stride[axis], from = arg->stride[axis];
    line.dim[axis] = extent > 0;
    Nest w;
    const int64_t *const stride[] = { out->stride, arg->stride };
    for (nest_start(&w, &line, 2, stride); w.more; nest_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            double *y = out->at + w.off[0] + i * w.step[0], sum = 0;
            const double *x = arg->at + w.off[1] + i * w.step[1];
            for (int64_t k = 0; k < extent; k++)
                y[k * to] = sum += x[k * from];
        }
    return ST_OK;
}

/* Each element is in all sums from its own on. */
void vjp_cumsum(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    const int axis = n.attr.axis.axis;
    const Ref sums = build_cumsum(&v->b, build_reverse(&v->b, ct, axis), axis);
    vjp_give(v, n.arg[0], build_reverse(&v->b, sums, axis));
}
