/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ir/graph.h"

#define N       (-1)
#define COMM    OPF_COMM
#define CHEAP   OPF_CHEAP
#define BOOLEAN OPF_BOOLEAN
const OpInfo op_info[OP_COUNT] = {
    [OP_none] = { "none", 0, CLASS_SOURCE, 0, PREC_ANY, ATTR_none },
#define OP(id, args, cls, flags, prec, shape, attr, grad)                                          \
    [OP_##id] = { #id, args, CLASS_##cls, flags, PREC_##prec, ATTR_##attr },
#include "ir/ops.def"
};
#undef N
#undef COMM
#undef CHEAP
#undef BOOLEAN

Op op_parse(const char *s, int n)
{
    for (Op op = OP_none + 1; op < OP_COUNT; op++)
        if (strlen(op_info[op].name) == (size_t)n && !memcmp(op_info[op].name, s, (size_t)n))
            return op;
    return OP_none;
}
