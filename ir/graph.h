/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_GRAPH_H
#define GTC_IR_GRAPH_H

#include "ir/base/arena.h"
#include "ir/base/status.h"
#include "ir/types.h"

/* A Graph is an array of nodes in definition order: each argument of node r is a Ref < r.
 * Nodes are immutable once added; a pass reads one graph and builds the next.
 * Everything lives in g->arena.  There is no node_free. */
typedef uint32_t Ref;
enum { REF_NONE = 0 };

typedef enum Op {
    OP_none,
#define OP(id, args, cls, flags, prec, shape, attr, grad) OP_##id,
#include "ir/ops.def"
    OP_COUNT
} Op;

typedef enum OpClass {
    CLASS_SOURCE, CLASS_ELEMENTWISE, CLASS_VIEW, CLASS_REDUCE, CLASS_CONTRACT, CLASS_REGION,
    CLASS_TUPLE, CLASS_GRADIENT
} OpClass;

enum { OPF_COMM = 1, OPF_CHEAP = 2, OPF_BOOLEAN = 4 };
typedef enum Prec { PREC_ANY, PREC_LOW, PREC_F32 } Prec;
typedef enum AttrKind {
    ATTR_none, ATTR_input, ATTR_fill, ATTR_axis, ATTR_perm, ATTR_axes, ATTR_slice, ATTR_pad,
    ATTR_window, ATTR_scatter, ATTR_contract, ATTR_scan, ATTR_fusion, ATTR_get
} AttrKind;

typedef struct OpInfo { /* one row of ops.def */
    const char *name;
    int8_t      nargs; /* -1: any number */
    uint8_t     cls, flags, prec, attr;
} OpInfo;
extern const OpInfo op_info[OP_COUNT];
Op op_parse(const char *s, int n); /* OP_none when there is no such op */

typedef enum InputKind {
    INPUT_batch, /* given anew for each run */
    INPUT_param, /* trained: the optimizer's outputs replace it */
    INPUT_state, /* carried from run to run: moments, running statistics, counters */
    INPUT_const, /* given once */
} InputKind;

typedef struct Graph Graph;

typedef union Attr { /* which member: op_info[op].attr */
    struct { InputKind kind; } input;
    struct { double value; } fill;
    struct { int8_t axis; } axis;
    struct { int8_t dim[MAX_RANK]; } perm;
    struct { uint8_t mask; } axes; /* bit i: axis i */
    struct { int64_t lo[MAX_RANK], step[MAX_RANK]; } slice; /* the extent is the type's */
    struct { int64_t lo[MAX_RANK], hi[MAX_RANK], step[MAX_RANK]; double value; } pad; /* out extent = lo + (n-1)*step+1 + hi, lo + hi for n = 0; lo, hi >= 0, step >= 1 */
    /* window: n axes axis[0..n) ascending and consecutive; x[.., X.., rest] -> [.., X'.., K.., rest]:
     * the n axes shrink to X' = (X - (kernel-1)*dilation - 1) / stride + 1 and the n window
     * axes follow the last of them.  out[.., x'.., k.., r] = in[.., x'*stride + k*dilation, r].
     * fold: the adjoint, from that shape back to X.. = extent[]. */
    struct { uint8_t n, axis[3]; int64_t kernel[3], stride[3], dilation[3], extent[3]; } window;
    struct { int8_t axis; int64_t extent; } scatter; /* of the result: axis has this extent */
    /* matmul: sums over the pairs (a's axis, b's axis) in over; result dims: batch pairs, then
     * the rest of a, then the rest of b, each in order.  Plain matrices: over (1, 0). */
    struct { uint8_t nover, nbatch, over_a[4], over_b[4], batch_a[4], batch_b[4]; } contract;
    /* scan: arguments are carries, per-step tensors (axis 0 is time), invariants; body inputs the
     * same without time; body outputs are carries, then per-step values.  Results (by get): last
     * carries, then stacked per-step values (axis 0 is time).  reverse: t = trip-1 .. 0. */
    struct { Graph *body; uint32_t ncarry, nstep; int64_t trip; bool reverse; } scan;
    /* fusion: one group; body inputs are the arguments, results (by get) the body's outputs. */
    struct { Graph *body; const char *kind; } fusion;
    struct { uint32_t index; } get;
} Attr;

typedef struct Node {
    Op          op;
    uint32_t    nargs;
    const Ref  *arg;
    Type        type;   /* DT_NONE for scan, fusion and grad, whose parts get takes */
    Attr        attr;
    uint32_t    region; /* index into g->region; 0: none */
    const char *name;   /* of inputs always; of other nodes NULL or an identifier, for dumps */
} Node;

/* A composite that was built as one: a hint that never changes meaning.  kind is gtc's own word
 * ("conv1d", "lstm"), layer the ordinal of the model's layer (its name is the model's, not the
 * graph's), bwd set on what differentiate made of it.  Text: @lstm.3 and @lstm.3.bwd */
typedef struct Region {
    const char *kind;
    int32_t     layer;
    bool        bwd;
} Region;

typedef struct Output {
    Ref         value;
    Ref         replaces; /* the param or state input whose next value this is, or REF_NONE */
    const char *name;     /* NULL or an identifier */
} Output;

struct Graph {
    Arena   *arena;
    Node    *node;   /* node[1 .. nnode); slot 0 is REF_NONE */
    uint32_t nnode, node_cap;
    Output  *out;
    uint32_t nout, out_cap;
    Region  *region; /* region[1 .. nregion) */
    uint32_t nregion, region_cap;
    Ref     *input;  /* the input nodes, in order */
    uint32_t ninput, input_cap;
    Ref     *named;  /* hash table of the nodes that have a name */
    uint32_t nnamed, named_cap;
};

Graph *graph_new(Arena *arena);

/* Appends a copy of *n (arguments, name and all) after inferring its type, and stores its Ref in
 * *out.  n->type is read by input, const, iota, rand and cast (what they give) and by reshape,
 * broadcast and slice (the wanted shape); for others DT_NONE, or it must equal the inferred one.
 * A body that lives in another arena is copied.  A name that the graph has already is dropped; of
 * an input it is an error.  Parts of attributes that mean nothing (beyond the rank) become 0.
 * Fails with ST_SHAPE, ST_TYPE or ST_VALUE when the arguments do not fit the op. */
Status graph_add(Ctx *cx, Graph *g, const Node *n, Ref *out);
Status graph_output(Ctx *cx, Graph *g, Ref value, Ref replaces, const char *name);
void graph_set_name(Graph *g, Ref r, const char *name); /* of a node without one; dropped if taken */
uint32_t graph_region(Graph *g, const char *kind, int layer, bool bwd); /* found or added */

/* The type of result `index` of a scan, fusion or grad node; of any other node, its own. */
Type graph_result_type(const Graph *g, Ref r, uint32_t index);
uint32_t graph_result_count(const Graph *g, Ref r); /* 1 for nodes that are no tuple */
Ref  graph_find_input(const Graph *g, const char *name); /* REF_NONE if absent */
bool graph_is_name(const char *s); /* [A-Za-z_][A-Za-z0-9_.-]* */
bool graph_eq(const Graph *a, const Graph *b); /* same nodes, outputs, regions, bodies and names */
/* Copies in into out (new, empty), inputs first to last. */
Status graph_copy(Ctx *cx, const Graph *in, Graph *out);

/* attr.c: one set of functions for every AttrKind. */
bool     attr_eq(AttrKind kind, const Attr *a, const Attr *b);
uint64_t attr_hash(AttrKind kind, const Attr *a);

#endif
