/* SPDX-License-Identifier: Apache-2.0 */
/* What bodies a library may do, and that it is asked for the right thing: the calls are made, of a
 * library that tests/played has in the real one's place, and compared with the evaluator. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/base/rng.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "runtime/call_ops.h"

typedef struct Case {
    const char *text; /* of a graph */
    const char *want; /* the call's text, or why there is none */
} Case;

/* ------------------------------------------------------------ the library */

static void *lib[CALL_LIBRARIES];

static int open_libraries(void **state)
{
    Ctx cx;
    const char *build = getenv("GTC_BUILD_DIR");
    char at[600];
    (void)state;
    snprintf(at, sizeof at, "%s/tests/played", build ? build : "build");
    setenv("GTC_CUDA_PATH", at, 1);
    ctx_init(&cx);
    for (int i = 0; i < CALL_LIBRARIES; i++)
        if (call_cuda[i] && call_cuda[i]->open(&cx, &lib[i]) != ST_OK)
            fail_msg("%s", cx.msg);
    return 0;
}

static int close_libraries(void **state)
{
    (void)state;
    for (int i = 0; i < CALL_LIBRARIES; i++)
        if (lib[i])
            call_cuda[i]->close(lib[i]);
    return 0;
}

/* ------------------------------------------------------------ a call and the evaluator */

static void *buffer(Arena *arena, int64_t bytes, bool poison)
{
    char *p = arena_alloc(arena, (size_t)bytes + 512);
    p += 256 - (uintptr_t)p % 256;
    if (poison)
        memset(p, 0xff, (size_t)bytes);
    return p;
}

/* The largest difference, of the largest value of each result. */
static double difference(const Graph *g, const Tensor *want, void *const *arg)
{
    double worst = 0;
    for (uint32_t o = 0; o < g->nout; o++) {
        const float *got = arg[g->ninput + o];
        const int64_t n = shape_count(&want[o].type.shape);
        double most = 1;
        for (int64_t i = 0; i < n; i++)
            most = fmax(most, fabs(want[o].at[i]));
        for (int64_t i = 0; i < n; i++) {
            const double d = fabs((double)got[i] - want[o].at[i]) / most;
            worst = d <= worst ? worst : isnan(d) ? INFINITY : d;
        }
    }
    return worst;
}

static Status call_run(Ctx *cx, Arena *arena, const LibraryCall *call, uint64_t seed, double *worst)
{
    const CallOps *ops = call_cuda[call->library];
    const Graph *g = call->body;
    Tensor *in = arena_array(arena, Tensor, g->ninput), *out = arena_array(arena, Tensor, g->nout);
    void **arg = arena_array(arena, void *, g->ninput + g->nout + 1);
    CallPlan plan = { .call = call };
    Rng rng;
    rng_init(&rng, seed, 1);
    TRY(ops->prepare(cx, lib[call->library], call, &plan));
    for (uint32_t i = 0; i < g->ninput; i++) {
        const Type *t = &g->node[g->input[i]].type;
        float *x = arg[i] = buffer(arena, type_bytes(t), false);
        for (int64_t k = 0; k < shape_count(&t->shape); k++)
            x[k] = (float)rng_normal(&rng);
        in[i] = tensor_new(arena, *t);
        tensor_read(&in[i], x);
    }
    for (uint32_t i = 0; i < g->nout; i++)
        arg[g->ninput + i] = buffer(arena, type_bytes(&g->node[g->out[i].value].type), true);
    arg[g->ninput + g->nout] = buffer(arena, plan.workspace, true);
    const Status status = ops->enqueue(cx, lib[call->library], &plan, NULL, arg);
    ops->release(lib[call->library], &plan);
    TRY(status);
    TRY(eval_graph(cx, g, EVAL_F64, arena, in, out));
    *worst = difference(g, out, arg);
    return ST_OK;
}

static void check_case(const Case *c)
{
    Arena *arena = arena_new();
    Ctx cx;
    Graph *g;
    const char *why;
    double worst = 0;
    ctx_init(&cx);
    if (graph_parse(&cx, arena, "case", c->text, &g) != ST_OK)
        fail_msg("%s\n%s", cx.msg, c->text);
    const LibraryCall *call = call_find(arena, g, &why);
    const char *got = call ? call->text : why;
    if (strcmp(got, c->want) != 0)
        fail_msg("%s\nwants \"%s\", got \"%s\"", c->text, c->want, got);
    if (call && call_run(&cx, arena, call, 3, &worst) != ST_OK)
        fail_msg("%s\n%s", c->text, cx.msg);
    if (worst > 1e-5)
        fail_msg("%s\n%s: off by %g of the largest", c->text, got, worst);
    arena_free(arena);
}

/* ------------------------------------------------------------ products */

#define XW    "graph (%x: f32[6,16], %w: f32[32,16], %b: f32[32], %r: f32[6,32]) {\n"
#define DENSE XW "  %y = matmul %x, %w over=[[1],[1]]\n"
#define BIAS  DENSE "  %c = broadcast %b axes=[0] : f32[6,32]\n  %z = add %y, %c\n"
#define RELU  "  %o = const 0 : f32[6,32]\n  %u = max %z, %o\n  return %u\n}\n"

static const Case products[] = {
    { DENSE "  return %y\n}\n", "matmul 32 x 6 x 16, of %1' and %0" },
    { BIAS "  return %z\n}\n", "matmul 32 x 6 x 16, of %1' and %0, bias" },
    { BIAS RELU, "matmul 32 x 6 x 16, of %1' and %0, bias, relu" },
    { BIAS "  %v = add %r, %z\n  %o = const 0 : f32[6,32]\n  %u = max %v, %o\n  return %u\n}\n",
      "matmul 32 x 6 x 16, of %1' and %0, bias, residual, relu" },
    { DENSE "  %z = add %y, %r\n" RELU, "matmul 32 x 6 x 16, of %1' and %0, residual, relu" },
    { BIAS "  %1 = mul %z, %z\n  %2 = mul %z, %1\n"
           "  %3 = const 0x1.6e4e26d4801f7p-5 : f32[6,32]\n  %4 = mul %2, %3\n  %5 = add %z, %4\n"
           "  %6 = const 0x1.9884533d43651p-1 : f32[6,32]\n  %7 = mul %5, %6\n  %8 = tanh %7\n"
           "  %9 = const 1 : f32[6,32]\n  %10 = add %8, %9\n  %11 = const .5 : f32[6,32]\n"
           "  %12 = mul %z, %11\n  %13 = mul %12, %10\n  return %13\n}\n",
      "matmul 32 x 6 x 16, of %1' and %0, bias, gelu" },
    { BIAS "  %t = tanh %z\n  return %t\n}\n",
      "more is computed than a product, its bias and activation" },
    { BIAS "  return %y, %z\n}\n", "it has several results" },
    { DENSE "  %n = neg %r\n  %z = add %y, %n\n  return %z\n}\n",
      "something that is computed is added" },
    { XW "  %e = exp %x\n  %y = matmul %e, %w over=[[1],[1]]\n  return %y\n}\n",
      "an operand is computed" },
    { XW "  %e = exp %x\n  return %e\n}\n", "" },
    { "graph (%x: f16[6,16], %w: f16[32,16]) {\n  %y = matmul %x, %w over=[[1],[1]]\n  return "
      "%y\n}\n",
      "an operand is not f32" },
    { "graph (%x: f32[0,16], %w: f32[32,16]) {\n  %y = matmul %x, %w over=[[1],[1]]\n  return "
      "%y\n}\n",
      "it is empty" },
    /* bias of the rows, and of all columns but one axis */
    { "graph (%x: f32[6,16], %w: f32[32,16], %b: f32[6]) {\n  %y = matmul %x, %w over=[[1],[1]]\n"
      "  %c = broadcast %b axes=[1] : f32[6,32]\n  %z = add %y, %c\n  return %z\n}\n",
      "what is added lies otherwise than the result" },
    /* gradients of a dense layer */
    { "graph (%g: f32[64,10], %w: f32[10,128]) {\n  %y = matmul %g, %w\n  return %y\n}\n",
      "matmul 128 x 64 x 10, of %1 and %0" },
    { "graph (%g: f32[64,10], %x: f32[64,128]) {\n  %y = matmul %g, %x over=[[0],[0]]\n"
      "  return %y\n}\n",
      "matmul 128 x 10 x 64, of %1 and %0'" },
    { "graph (%g: f32[4,6,10], %x: f32[4,6,12]) {\n  %y = matmul %g, %x over=[[0,1],[0,1]]\n"
      "  return %y\n}\n",
      "matmul 12 x 10 x 24, of %1 and %0'" },
    /* rows of two axes, a slice between, a row alone, no sum at all */
    { "graph (%x: f32[4,6,16], %w: f32[8,16]) {\n  %y = matmul %x, %w over=[[2],[1]]\n"
      "  return %y\n}\n",
      "matmul 8 x 24 x 16, of %1' and %0" },
    { "graph (%x: f32[4,6,16], %w: f32[8,16]) {\n  %s = slice %x lo=[0,1,0] : f32[4,5,16]\n"
      "  %y = matmul %s, %w over=[[2],[1]]\n  return %y\n}\n",
      "matmul 4 x 8 x 5 x 16, of %1' and %0" },
    { "graph (%x: f32[6,48], %w: f32[8,16]) {\n  %s = slice %x lo=[0,3] : f32[6,16]\n"
      "  %y = matmul %s, %w over=[[1],[1]]\n  return %y\n}\n",
      "matmul 8 x 6 x 16, of %1' and %0" },
    { "graph (%x: f32[16], %w: f32[8,16]) {\n  %y = matmul %x, %w over=[[0],[1]]\n  return %y\n}\n",
      "matmul 8 x 1 x 16, of %1' and %0" },
    { "graph (%x: f32[5], %w: f32[7]) {\n  %y = matmul %x, %w over=[[],[]]\n  return %y\n}\n",
      "matmul 7 x 5 x 1, of %1 and %0" },
    /* batches: of one stride, of two, of one operand */
    { "graph (%x: f32[5,6,16], %w: f32[5,8,16]) {\n"
      "  %y = matmul %x, %w over=[[2],[2]] batch=[[0],[0]]\n  return %y\n}\n",
      "matmul 5 x 8 x 6 x 16, of %1' and %0" },
    { "graph (%x: f32[5,6,3,4], %w: f32[5,7,3,4]) {\n"
      "  %y = matmul %x, %w over=[[3],[3]] batch=[[0,2],[0,2]]\n  return %y\n}\n",
      "the batch's axes do not lie as one in both operands" },
    { "graph (%x: f32[6,3,4], %w: f32[7,3,4]) {\n"
      "  %y = matmul %x, %w over=[[2],[2]] batch=[[1],[1]]\n  return %y\n}\n",
      "matmul 3 x 7 x 6 x 4, of %1' and %0" },
    { "graph (%x: f32[6,16], %w: f32[8,16]) {\n  %s = slice %x lo=[0,0] step=[1,2] : f32[6,8]\n"
      "  %t = slice %w lo=[0,0] : f32[8,8]\n  %y = matmul %s, %t over=[[1],[1]]\n  return %y\n}\n",
      "an operand has no axis of stride 1, or rows that overlap" },
    { "graph (%x: f32[6], %w: f32[8,16]) {\n  %s = broadcast %x axes=[1] : f32[6,16]\n"
      "  %y = matmul %s, %w over=[[1],[1]]\n  return %y\n}\n",
      "an operand has no axis of stride 1, or rows that overlap" },
    { "graph (%x: f32[6,3,4], %w: f32[8,4,3]) {\n"
      "  %y = matmul %x, %w over=[[1,2],[2,1]]\n  return %y\n}\n",
      "the axes summed over do not lie as one in both operands" },
};

static void products_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        check_case(&products[i]);
}

/* ------------------------------------------------------------ convolutions */

#define CONV1   "graph (%x: f32[4,9,3], %w: f32[5,3,4]) {\n  %p = pad %x lo=[0,1,0] hi=[0,2,0]\n"
#define CONV2   "graph (%x: f32[2,7,6,3], %w: f32[5,3,3,2]) {\n"
#define GRAD2   "graph (%x: f32[2,7,6,3], %g: f32[2,4,5,5]) {\n"
#define WINDOW2 "  %v = window %x axes=[1,2] kernel=[3,2] stride=[2,1] : f32[2,3,5,3,2,3]\n"

static const Case convolutions[] = {
    { CONV1 "  %v = window %p axes=[1] kernel=[4]\n"
            "  %y = matmul %v, %w over=[[2,3],[2,1]]\n  return %y\n}\n",
      "convolution of 4 x 1x9 x 3 by 1x4 to 1x9 x 5" },
    { CONV1 "  %v = window %p axes=[1] kernel=[4] stride=[2] dilation=[2]\n"
            "  %y = matmul %v, %w over=[[2,3],[2,1]]\n  return %y\n}\n",
      "convolution of 4 x 1x9 x 3 by 1x4 to 1x3 x 5" },
    { CONV2 WINDOW2 "  %y = matmul %v, %w over=[[3,4,5],[2,3,1]]\n  return %y\n}\n",
      "convolution of 2 x 7x6 x 3 by 3x2 to 3x5 x 5" },
    /* a weight that lies as the library wants it */
    { "graph (%x: f32[2,7,6,3], %w: f32[5,3,2,3]) {\n" WINDOW2
      "  %y = matmul %v, %w over=[[3,4,5],[1,2,3]]\n  return %y\n}\n",
      "convolution of 2 x 7x6 x 3 by 3x2 to 3x5 x 5" },
    /* the gradient of x: windows run over the weight from its end */
    { "graph (%g: f32[4,9,5], %w: f32[5,3,4]) {\n  %p = pad %g lo=[0,2,0] hi=[0,1,0]\n"
      "  %v = window %p axes=[1] kernel=[4]\n  %t = transpose %w perm=[2,0,1]\n"
      "  %s = slice %t lo=[3,0,0] step=[-1,1,1] : f32[4,5,3]\n"
      "  %y = matmul %v, %s over=[[2,3],[0,1]]\n  return %y\n}\n",
      "convolution of 4 x 1x9 x 5 by 1x4 to 1x9 x 3, flipped" },
    { "graph (%g: f32[2,7,6,5], %w: f32[5,3,3,2]) {\n"
      "  %v = window %g axes=[1,2] kernel=[3,2] : f32[2,5,5,3,2,5]\n"
      "  %t = transpose %w perm=[2,3,0,1]\n"
      "  %s = slice %t lo=[2,1,0,0] step=[-1,-1,1,1] : f32[3,2,5,3]\n"
      "  %y = matmul %v, %s over=[[3,4,5],[0,1,2]]\n  return %y\n}\n",
      "convolution of 2 x 7x6 x 5 by 3x2 to 5x5 x 3, flipped" },
    { "graph (%g: f32[2,7,6,5], %w: f32[5,3,3,2]) {\n"
      "  %v = window %g axes=[1,2] kernel=[3,2] : f32[2,5,5,3,2,5]\n"
      "  %t = transpose %w perm=[2,3,0,1]\n"
      "  %s = slice %t lo=[2,0,0,0] step=[-1,1,1,1] : f32[3,2,5,3]\n"
      "  %y = matmul %v, %s over=[[3,4,5],[0,1,2]]\n  return %y\n}\n",
      "the weight runs backwards along some axes only" },
    /* the gradient of w, results last and first */
    { "graph (%x: f32[4,9,3], %g: f32[4,9,5]) {\n  %p = pad %x lo=[0,1,0] hi=[0,2,0]\n"
      "  %v = window %p axes=[1] kernel=[4]\n  %y = matmul %v, %g over=[[0,1],[0,1]]\n"
      "  return %y\n}\n",
      "convolution's weight, of 4 x 1x9 x 3 by 1x4 to 1x9 x 5" },
    { GRAD2 "  %p = pad %x lo=[0,1,0,0] hi=[0,0,0,0]\n"
            "  %v = window %p axes=[1,2] kernel=[2,2] stride=[2,1]\n"
            "  %y = matmul %g, %v over=[[0,1,2],[0,1,2]]\n  return %y\n}\n",
      "convolution's weight, of 2 x 7x6 x 3 by 2x2 to 4x5 x 5" },
    { GRAD2 "  %p = pad %x lo=[0,1,0,0] hi=[0,0,0,0]\n"
            "  %v = window %p axes=[1,2] kernel=[2,2] stride=[2,1]\n"
            "  %y = matmul %v, %g over=[[0,1,2],[0,1,2]]\n  return %y\n}\n",
      "convolution's weight, of 2 x 7x6 x 3 by 2x2 to 4x5 x 5" },
    { "graph (%x: f32[2,4,3,5,2], %w: f32[3,2,2,2,2]) {\n"
      "  %v = window %x axes=[1,2,3] kernel=[2,2,2]\n"
      "  %y = matmul %v, %w over=[[4,5,6,7],[2,3,4,1]]\n  return %y\n}\n",
      "convolution of 2 x 4x3x5 x 2 by 2x2x2 to 3x2x4 x 3" },
    /* the gradient of x of a convolution with a stride */
    { "graph (%g: f32[2,8,5], %w: f32[5,3,4]) {\n"
      "  %p = pad %g lo=[0,2,0] hi=[0,3,0] step=[1,2,1]\n  %v = window %p axes=[1] kernel=[4]\n"
      "  %t = transpose %w perm=[2,0,1]\n"
      "  %s = slice %t lo=[3,0,0] step=[-1,1,1] : f32[4,5,3]\n"
      "  %y = matmul %v, %s over=[[2,3],[0,1]]\n  return %y\n}\n",
      "convolution's image, of 2 x 1x17 x 3 by 1x4 to 1x8 x 5" },
    { "graph (%g: f32[2,3,2,5], %w: f32[5,3,3,2]) {\n"
      "  %p = pad %g lo=[0,1,1,0] hi=[0,2,1,0] step=[1,2,3,1]\n"
      "  %v = window %p axes=[1,2] kernel=[3,2] dilation=[1,1]\n"
      "  %t = transpose %w perm=[2,3,0,1]\n"
      "  %s = slice %t lo=[2,1,0,0] step=[-1,-1,1,1] : f32[3,2,5,3]\n"
      "  %y = matmul %v, %s over=[[3,4,5],[0,1,2]]\n  return %y\n}\n",
      "convolution's image, of 2 x 6x5 x 3 by 3x2 to 3x2 x 5" },
    { "graph (%g: f32[4,9,3], %w: f32[5,3,4]) {\n"
      "  %p = pad %g lo=[0,1,0] hi=[0,2,0] step=[1,2,1]\n  %v = window %p axes=[1] kernel=[4]\n"
      "  %y = matmul %v, %w over=[[2,3],[2,1]]\n  return %y\n}\n",
      "convolution's image, of 4 x 1x17 x 5 by 1x4 to 1x9 x 3, flipped" },
    { "graph (%g: f32[4,9,3], %w: f32[5,3,2]) {\n"
      "  %p = pad %g lo=[0,2,0] hi=[0,2,0] step=[1,2,1]\n  %v = window %p axes=[1] kernel=[2]\n"
      "  %y = matmul %v, %w over=[[2,3],[2,1]]\n  return %y\n}\n",
      "zeros between places, and no image whose gradient that is" },
    /* what is none */
    { CONV1 "  %v = window %p axes=[1] kernel=[4]\n"
            "  %y = matmul %v, %w over=[[2,3],[2,1]]\n  %t = tanh %y\n  return %t\n}\n",
      "more is computed than a convolution" },
    { "graph (%x: f32[4,9,3], %w: f32[5,3,4]) {\n"
      "  %p = pad %x lo=[0,1,0] hi=[0,2,0] value=1\n  %v = window %p axes=[1] kernel=[4]\n"
      "  %y = matmul %v, %w over=[[2,3],[2,1]]\n  return %y\n}\n",
      "the padding is not of zeros around the space alone" },
    { CONV1 "  %v = window %p axes=[1] kernel=[4]\n"
            "  %y = matmul %v, %w over=[[3],[1]]\n  return %y\n}\n",
      "it sums over other axes than a convolution" },
    { "graph (%x: f32[4,3,9], %w: f32[5,3,4]) {\n  %t = transpose %x perm=[0,2,1]\n"
      "  %v = window %t axes=[1] kernel=[4]\n"
      "  %y = matmul %v, %w over=[[2,3],[2,1]]\n  return %y\n}\n",
      "the channels are not next to each other" },
};

static void convolutions_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof convolutions / sizeof *convolutions; i++)
        check_case(&convolutions[i]);
}

/* ------------------------------------------------------------ recurrent layers */

/* From five steps of three rows of four to seven states: what is given, a cell, what is taken. */
#define GIVEN(gates, more)                                                                         \
    "graph (%x: f32[5,3,4], %w: f32[" gates ",4], %u: f32[" gates ",7], %b: f32[" gates "]" more   \
    ") {\n  %zero = const 0 : f32[3,7]\n"
#define X_ROWS(gates, more)                                                                        \
    "graph (%y: f32[3,5,4], %w: f32[" gates ",4], %u: f32[" gates ",7], %b: f32[" gates "]" more   \
    ") {\n  %zero = const 0 : f32[3,7]\n  %x = transpose %y perm=[1,0,2]\n"
#define INPUTS(gates) "%v: f32[3,4], %w: f32[" gates ",4], %u: f32[" gates ",7], %b: f32[" gates "]"
#define TAKE(index)   "  }\n  %r = get %s index=" index "\n  return %r\n}\n"
#define SUM                                                                                        \
    "    %p = matmul %v, %w over=[[1],[1]]\n    %q = matmul %h, %u over=[[1],[1]]\n    %pq = add " \
    "%p, %q\n"

#define LSTM_SCAN                                                                                  \
    "  %s = scan %zero, %zero, %x, %w, %u, %b carry=2 step=1 trip=5 (%h: f32[3,7], %c: "           \
    "f32[3,7], " INPUTS("28") ") {\n"
#define LSTM_Z SUM "    %bb = broadcast %b axes=[0] : f32[3,28]\n    %z = add %pq, %bb\n"
#define LSTM_GATES(i, f, n, o)                                                                     \
    "    %z0 = slice %z lo=[0," i                                                                  \
    "] : f32[3,7]\n    %i = sigmoid %z0\n    %z1 = slice %z lo=[0," f                              \
    "] : f32[3,7]\n    %f = sigmoid %z1\n"                                                         \
    "    %z2 = slice %z lo=[0," n "] : f32[3,7]\n    %n = tanh %z2\n    %z3 = slice %z lo=[0," o   \
    "] : f32[3,7]\n    %o = sigmoid %z3\n"
#define LSTM_STATE                                                                                 \
    "    %in = mul %i, %n\n    %fc = mul %f, %c\n    %c1 = add %fc, %in\n    %t = tanh %c1\n    "  \
    "%h1 = mul %o, %t\n"
#define LSTM_CELL LSTM_Z LSTM_GATES("0", "7", "14", "21") LSTM_STATE
#define LSTM      GIVEN("28", "") LSTM_SCAN LSTM_CELL
#define ALL       "    return %h1, %c1, %h1\n"

#define GRU_SCAN                                                                                   \
    "  %s = scan %zero, %x, %w, %u, %b, %m carry=1 step=1 trip=5 (%h: f32[3,7], " INPUTS(          \
        "21") ", %m: f32[7]) {\n"
#define GRU_Z                                                                                      \
    "    %p = matmul %v, %w over=[[1],[1]]\n    %bb = broadcast %b axes=[0] : f32[3,21]\n    %zx " \
    "= add %p, %bb\n    %zh = matmul %h, %u over=[[1],[1]]\n"
#define GRU_GATES                                                                                  \
    "    %x0 = slice %zx lo=[0,0] : f32[3,7]\n    %h0 = slice %zh lo=[0,0] : f32[3,7]\n    %a0 = " \
    "add %x0, %h0\n    %r = sigmoid %a0\n"                                                         \
    "    %x1 = slice %zx lo=[0,7] : f32[3,7]\n    %k1 = slice %zh lo=[0,7] : f32[3,7]\n    %a1 = " \
    "add %k1, %x1\n    %g = sigmoid %a1\n"                                                         \
    "    %x2 = slice %zx lo=[0,14] : f32[3,7]\n    %h2 = slice %zh lo=[0,14] : f32[3,7]\n    %mm " \
    "= broadcast %m axes=[0] : f32[3,7]\n"
#define GRU_STATE                                                                                  \
    "    %one = const 1 : f32[3,7]\n    %rest = sub %one, %g\n    %new = mul %rest, %n\n    %old " \
    "= mul %g, %h\n    %h1 = add %new, %old\n"
#define GRU_CELL                                                                                   \
    GRU_Z GRU_GATES "    %hm = add %h2, %mm\n    %rh = mul %r, %hm\n    %a2 = add %x2, %rh\n    "  \
                    "%n = tanh %a2\n" GRU_STATE
#define GRU_GIVEN(more) GIVEN("21", ", %m: f32[7]" more)

#define TANH_SCAN                                                                                  \
    "  %s = scan %zero, %x, %w, %u, %b carry=1 step=1 trip=5 (%h: f32[3,7], " INPUTS("7") ") {\n"
#define TANH_CELL                                                                                  \
    SUM "    %bb = broadcast %b axes=[0] : f32[3,7]\n    %z = add %bb, %pq\n    %h1 = tanh %z\n"
#define TANH GIVEN("7", "") TANH_SCAN TANH_CELL

static const char no_cell[] = "its cell is no LSTM, GRU or tanh RNN of a library";

static const Case layers[] = {
    { LSTM ALL TAKE("2"), "lstm of 5 x 3 x 4 to 7, all states" },
    { LSTM ALL TAKE("0"), "lstm of 5 x 3 x 4 to 7, the last state" },
    { LSTM "    return %h1, %c1\n" TAKE("0"), "lstm of 5 x 3 x 4 to 7, the last state" },
    { LSTM ALL "  }\n  %a = get %s index=2\n  %r = transpose %a perm=[1,0,2]\n  return %r\n}\n",
      "lstm of 5 x 3 x 4 to 7, all states, rows first" },
    { GRU_GIVEN("") GRU_SCAN GRU_CELL "    return %h1, %h1\n" TAKE("1"),
      "gru of 5 x 3 x 4 to 7, all states" },
    { GRU_GIVEN("") GRU_SCAN GRU_CELL "    return %h1\n" TAKE("0"),
      "gru of 5 x 3 x 4 to 7, the last state" },
    { TANH "    return %h1, %h1\n" TAKE("1"), "tanh rnn of 5 x 3 x 4 to 7, all states" },
    { TANH "    return %h1\n" TAKE("0"), "tanh rnn of 5 x 3 x 4 to 7, the last state" },
    /* rows first in memory, with all states steps first, rows first, and the last alone */
    { X_ROWS("28", "") LSTM_SCAN LSTM_CELL ALL TAKE("2"), "lstm of 5 x 3 x 4 to 7, all states" },
    { X_ROWS("28", "") LSTM_SCAN LSTM_CELL ALL
      "  }\n  %a = get %s index=2\n  %r = transpose %a perm=[1,0,2]\n  return %r\n}\n",
      "lstm of 5 x 3 x 4 to 7, all states, rows first" },
    { X_ROWS("21", ", %m: f32[7]") GRU_SCAN GRU_CELL "    return %h1\n" TAKE("0"),
      "gru of 5 x 3 x 4 to 7, the last state" },
    /* a part of something wider, as x, weights and biases; two biases */
    { "graph (%y: f32[5,3,6], %ww: f32[30,9], %u: f32[28,7], %b2: f32[40]) {\n"
      "  %zero = const 0 : f32[3,7]\n  %x = slice %y lo=[0,0,1] : f32[5,3,4]\n"
      "  %w = slice %ww lo=[2,3] : f32[28,4]\n  %b = slice %b2 lo=[5] : f32[28]\n" LSTM_SCAN
          LSTM_CELL ALL TAKE("2"),
      "lstm of 5 x 3 x 4 to 7, all states" },
    { "graph (%x: f32[5,3,4], %w: f32[28,4], %u: f32[28,7], %b1: f32[28], %b2: f32[28]) {\n"
      "  %zero = const 0 : f32[3,7]\n  %b = add %b1, %b2\n" LSTM_SCAN LSTM_CELL ALL TAKE("2"),
      "lstm of 5 x 3 x 4 to 7, all states" },
    { "graph (%x: f32[5,3,4], %w: f32[7,4], %u: f32[7,7], %b1: f32[7], %b2: f32[7]) {\n"
      "  %zero = const 0 : f32[3,7]\n  %b = add %b1, %b2\n" TANH_SCAN TANH_CELL
      "    return %h1\n" TAKE("0"),
      "tanh rnn of 5 x 3 x 4 to 7, the last state" },
    { "graph (%x: f32[5,3,4], %w: f32[21,4], %u: f32[21,7], %b: f32[21], %m2: f32[21]) {\n"
      "  %zero = const 0 : f32[3,7]\n  %m = slice %m2 lo=[14] : f32[7]\n" GRU_SCAN GRU_CELL
      "    return %h1\n" TAKE("0"),
      "gru of 5 x 3 x 4 to 7, the last state" },
    /* sums and products the other way round, the terms grouped otherwise */
    { GIVEN("28", "") LSTM_SCAN
      "    %p = matmul %v, %w over=[[1],[1]]\n    %q = matmul %h, %u over=[[1],[1]]\n"
      "    %bb = broadcast %b axes=[0] : f32[3,28]\n    %qb = add %bb, %q\n    %z = add %qb, "
      "%p\n" LSTM_GATES("0", "7", "14", "21") "    %in = mul %n, %i\n    %fc = mul %c, %f\n    %c1 "
                                              "= add %in, %fc\n    %t = tanh %c1\n"
                                              "    %h1 = mul %t, %o\n" ALL TAKE("2"),
      "lstm of 5 x 3 x 4 to 7, all states" },
    { GRU_GIVEN("") GRU_SCAN GRU_Z GRU_GATES
      "    %hm = add %mm, %h2\n    %rh = mul %hm, %r\n    %a2 = add %rh, %x2\n    %n = tanh %a2\n"
      "    %one = const 1 : f32[3,7]\n    %rest = sub %one, %g\n    %new = mul %n, %rest\n"
      "    %old = mul %h, %g\n    %h1 = add %old, %new\n    return %h1, %h1\n" TAKE("1"),
      "gru of 5 x 3 x 4 to 7, all states" },
    /* one step of one row of one number */
    { "graph (%x: f32[1,1,1], %w: f32[1,1], %u: f32[1,1], %b: f32[1]) {\n"
      "  %zero = const 0 : f32[1,1]\n"
      "  %s = scan %zero, %x, %w, %u, %b carry=1 step=1 trip=1 (%h: f32[1,1], %v: f32[1,1], "
      "%w: f32[1,1], %u: f32[1,1], %b: f32[1]) {\n" SUM
      "    %bb = broadcast %b axes=[0] : f32[1,1]\n    %z = add %pq, %bb\n    %h1 = tanh %z\n"
      "    return %h1\n" TAKE("0"),
      "tanh rnn of 1 x 1 x 1 to 1, the last state" },
    /* a training forward, by all its results or by one */
    { LSTM "    return %h1, %c1, %h1, %i, %f\n  }\n  %r = get %s index=2\n  %k = get %s index=3\n"
           "  return %r, %k\n}\n",
      "it saves its gates, which the library keeps to itself" },
    { LSTM "    return %h1, %c1, %c\n" TAKE("0"),
      "it saves its gates, which the library keeps to itself" },
    /* other cells: gates in another order, reset before the product, u and 1 - u exchanged */
    { GIVEN("28", "") LSTM_SCAN LSTM_Z LSTM_GATES("7", "0", "14", "21") LSTM_STATE ALL TAKE("2"),
      no_cell },
    { GIVEN("28", "") LSTM_SCAN LSTM_Z LSTM_GATES("0", "7", "14", "14") LSTM_STATE ALL TAKE("2"),
      no_cell },
    { GIVEN("28", "") LSTM_SCAN LSTM_Z LSTM_GATES(
          "0", "7", "14", "21") "    %in = mul %i, %n\n    %fc = mul %f, %c\n    %c1 = sub %fc, "
                                "%in\n    %t = tanh %c1\n"
                                "    %h1 = mul %o, %t\n" ALL TAKE("2"),
      no_cell },
    { GRU_GIVEN("") GRU_SCAN GRU_Z GRU_GATES "    %rh = mul %r, %h2\n    %hm = add %rh, %mm\n    "
                                             "%a2 = add %x2, %hm\n    %n = tanh %a2\n" GRU_STATE
                                             "    return %h1\n" TAKE("0"),
      no_cell },
    { GRU_GIVEN("") GRU_SCAN GRU_Z GRU_GATES
      "    %hm = add %h2, %mm\n    %rh = mul %r, %hm\n    %a2 = add %x2, %rh\n    %n = tanh %a2\n"
      "    %one = const 1 : f32[3,7]\n    %rest = sub %one, %g\n    %new = mul %g, %n\n"
      "    %old = mul %rest, %h\n    %h1 = add %new, %old\n    return %h1\n" TAKE("0"),
      no_cell },
    { GIVEN("7", "") TANH_SCAN SUM "    %h1 = tanh %pq\n    return %h1\n" TAKE("0"), no_cell },
    { GIVEN("7", "") TANH_SCAN SUM
      "    %bb = broadcast %b axes=[0] : f32[3,7]\n    %z = add %pq, %bb\n"
      "    %zz = add %z, %bb\n    %h1 = tanh %zz\n    return %h1\n" TAKE("0"),
      no_cell },
    /* what else is none */
    { GIVEN("7", ", %h0: f32[3,7]") "  %s = scan %h0, %x, %w, %u, %b carry=1 step=1 trip=5 (%h: "
                                    "f32[3,7], " INPUTS("7") ") {\n" TANH_CELL
                                                             "    return %h1\n" TAKE("0"),
      "it starts from a state that is given" },
    { GIVEN("7", "") "  %s = scan %zero, %x, %w, %u, %b carry=1 step=1 trip=5 reverse=1 (%h: "
                     "f32[3,7], " INPUTS("7") ") {\n" TANH_CELL "    return %h1\n" TAKE("0"),
      "it runs from the last step to the first" },
    { LSTM ALL TAKE("1"), "the cell's state is wanted" },
    { LSTM ALL "  }\n  %r = get %s index=0\n  %a = get %s index=2\n  return %r, %a\n}\n",
      "it has several results" },
    { LSTM ALL "  }\n  %a = get %s index=0\n  %r = tanh %a\n  return %r\n}\n",
      "more is computed than a layer" },
    { "graph (%y: f32[5,3,4], %w: f32[7,4], %u: f32[7,7], %b: f32[7]) {\n"
      "  %zero = const 0 : f32[3,7]\n  %x = exp %y\n" TANH_SCAN TANH_CELL
      "    return %h1\n" TAKE("0"),
      "an operand is computed" },
    { "graph (%y: f32[5,3,7], %w: f32[7,7], %u: f32[7,7], %b: f32[7]) {\n"
      "  %zero = const 0 : f32[3,7]\n"
      "  %k = scan %zero, %y, %w, %u, %b carry=1 step=1 trip=5 (%h: f32[3,7], %v: f32[3,7], "
      "%w: f32[7,7], %u: f32[7,7], %b: f32[7]) {\n" TANH_CELL "    return %h1, %h1\n  }\n"
      "  %x = get %k index=1\n"
      "  %s = scan %zero, %x, %w, %u, %b carry=1 step=1 trip=5 (%h: f32[3,7], %v: f32[3,7], "
      "%w: f32[7,7], %u: f32[7,7], %b: f32[7]) {\n" TANH_CELL "    return %h1\n" TAKE("0"),
      "it has several scans" },
};

static void layers_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        check_case(&layers[i]);
}

/* Text of a product of tensors whose axes of each kind stand in any order. */
static void random_product(Rng *r, Strbuf *b)
{
    static const int sizes[] = { 1, 2, 3, 5, 8 };
    const int nbatch = (int)rng_below(r, 3), nover = (int)rng_below(r, 3);
    int extent[2][8], pair[2][8], rank[2];
    for (int side = 0; side < 2; side++) {
        rank[side] = nbatch + nover + (int)rng_below(r, 3);
        for (int i = 0; i < rank[side]; i++) {
            const int k = (int)rng_below(r, (uint64_t)i + 1);
            pair[side][i] = pair[side][k]; /* where axis i of batch, over, rest is */
            pair[side][k] = i;
        }
    }
    for (int i = 0; i < nbatch + nover; i++)
        extent[0][pair[0][i]] = extent[1][pair[1][i]] = sizes[rng_below(r, 5)];
    for (int side = 0; side < 2; side++)
        for (int i = nbatch + nover; i < rank[side]; i++)
            extent[side][pair[side][i]] = sizes[rng_below(r, 5)];
    for (int side = 0; side < 2; side++) {
        strbuf_add(b, side ? ", %y: f32[" : "graph (%x: f32[");
        for (int i = 0; i < rank[side]; i++)
            strbuf_printf(b, "%s%d", i ? "," : "", extent[side][i]);
        strbuf_add(b, side ? "]) {\n" : "]");
    }
    strbuf_add(b, "  %z = matmul %x, %y");
    for (int kind = 0; kind < 2; kind++) {
        const int from = kind ? 0 : nbatch, to = kind ? nbatch : nbatch + nover;
        strbuf_add(b, kind ? " batch=[[" : " over=[[");
        for (int side = 0; side < 2; side++) {
            for (int i = from; i < to; i++)
                strbuf_printf(b, "%s%d", i > from ? "," : "", pair[side][i]);
            strbuf_add(b, side ? "]]" : "],[");
        }
    }
    strbuf_add(b, "\n  return %z\n}\n");
}

static void random_products_are_right(void **state)
{
    enum { CASES = 600 };
    int calls = 0;
    Rng rng;
    (void)state;
    rng_init(&rng, 11, 0);
    for (int i = 0; i < CASES; i++) {
        Arena *arena = arena_new();
        Strbuf b = { 0 };
        Ctx cx;
        Graph *g;
        double worst = 0;
        ctx_init(&cx);
        random_product(&rng, &b);
        if (graph_parse(&cx, arena, "product", strbuf_str(&b), &g) != ST_OK)
            fail_msg("%s\n%s", cx.msg, strbuf_str(&b));
        const LibraryCall *call = call_find(arena, g, NULL);
        if (call && call_run(&cx, arena, call, (uint64_t)i, &worst) != ST_OK)
            fail_msg("%s\n%s", strbuf_str(&b), cx.msg);
        if (worst > 1e-5)
            fail_msg("%s%s: off by %g of the largest", strbuf_str(&b), call->text, worst);
        calls += call != NULL;
        strbuf_free(&b);
        arena_free(arena);
    }
    print_message("%d of %d products are calls\n", calls, CASES);
    assert_true(calls > CASES / 3);
}

/* What the library does not take is a reason, not a crash. */
static void check_refused(const char *text, const char *why)
{
    Arena *arena = arena_new();
    Ctx cx;
    Graph *g;
    double worst;
    ctx_init(&cx);
    assert_int_equal(graph_parse(&cx, arena, "refused", text, &g), ST_OK);
    const LibraryCall *call = call_find(arena, g, NULL);
    assert_non_null(call);
    assert_int_equal(call_run(&cx, arena, call, 1, &worst), ST_ENV);
    assert_string_equal(cx.msg, why);
    arena_free(arena);
}

static void a_refusal_says_why(void **state)
{
    static const char text[] = "graph (%x: f32[6,16], %w: f32[13,16]) {\n"
                               "  %y = matmul %x, %w over=[[1],[1]]\n  return %y\n}\n";
    (void)state;
    check_refused(text, "cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_SUPPORTED (15)");
}

static void no_engine_is_a_refusal_too(void **state)
{
    static const char text[] = "graph (%x: f32[4,9,3], %w: f32[13,3,4]) {\n"
                               "  %v = window %x axes=[1] kernel=[4]\n"
                               "  %y = matmul %v, %w over=[[2,3],[2,1]]\n  return %y\n}\n";
    (void)state;
    check_refused(text, "no engine computes in f32 and in a fixed order");
}

static void no_layer_is_a_refusal_too(void **state)
{
    static const char text[] =
        "graph (%x: f32[5,3,4], %w: f32[13,4], %u: f32[13,13], %b: f32[13]) {\n"
        "  %zero = const 0 : f32[3,13]\n"
        "  %s = scan %zero, %x, %w, %u, %b carry=1 step=1 trip=5 (%h: f32[3,13], %v: f32[3,4], "
        "%w: f32[13,4], %u: f32[13,13], %b: f32[13]) {\n" SUM
        "    %bb = broadcast %b axes=[0] : f32[3,13]\n    %z = add %pq, %bb\n    %h1 = tanh %z\n"
        "    return %h1\n" TAKE("0");
    (void)state;
    check_refused(text, "cudnnSetRNNDescriptor_v8: CUDNN_STATUS_NOT_SUPPORTED (3000)");
}

static void a_library_has_a_name(void **state)
{
    char name[64];
    (void)state;
    call_cuda[CALL_CUBLASLT]->name(lib[CALL_CUBLASLT], name, sizeof name);
    assert_string_equal(name, "cublasLt 99.1");
    call_cuda[CALL_CUDNN]->name(lib[CALL_CUDNN], name, sizeof name);
    assert_string_equal(name, "cudnn 9.87");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_found),         cmocka_unit_test(random_products_are_right),
        cmocka_unit_test(convolutions_are_found),     cmocka_unit_test(a_refusal_says_why),
        cmocka_unit_test(no_engine_is_a_refusal_too), cmocka_unit_test(a_library_has_a_name),
        cmocka_unit_test(layers_are_found),           cmocka_unit_test(no_layer_is_a_refusal_too),
    };
    return cmocka_run_group_tests(tests, open_libraries, close_libraries);
}
