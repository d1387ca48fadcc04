/* SPDX-License-Identifier: Apache-2.0 */
/* The cuDNN that is installed takes our descriptors: tensors, convolutions and operations need no
 * GPU to be checked by it; a graph does, for its handle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ir/text.h"
#include "runtime/lib_cudnn.c"

static const char *const bodies[] = {
    "graph (%x: f32[4,9,3], %w: f32[5,3,4]) {\n  %p = pad %x lo=[0,1,0] hi=[0,2,0]\n"
    "  %v = window %p axes=[1] kernel=[4] dilation=[2]\n"
    "  %y = matmul %v, %w over=[[2,3],[2,1]]\n  return %y\n}\n",
    "graph (%x: f32[4,9,3], %g: f32[4,9,5]) {\n  %p = pad %x lo=[0,1,0] hi=[0,2,0]\n"
    "  %v = window %p axes=[1] kernel=[4]\n  %y = matmul %v, %g over=[[0,1],[0,1]]\n"
    "  return %y\n}\n",
    "graph (%g: f32[2,3,2,5], %w: f32[5,3,3,2]) {\n"
    "  %p = pad %g lo=[0,1,1,0] hi=[0,2,1,0] step=[1,2,3,1]\n"
    "  %v = window %p axes=[1,2] kernel=[3,2]\n  %t = transpose %w perm=[2,3,0,1]\n"
    "  %s = slice %t lo=[2,1,0,0] step=[-1,-1,1,1] : f32[3,2,5,3]\n"
    "  %y = matmul %v, %s over=[[3,4,5],[0,1,2]]\n  return %y\n}\n",
    "graph (%x: f32[2,4,3,5,2], %w: f32[3,2,2,2,2]) {\n"
    "  %v = window %x axes=[1,2,3] kernel=[2,2,2]\n"
    "  %y = matmul %v, %w over=[[4,5,6,7],[2,3,4,1]]\n  return %y\n}\n",
};

static Lib lib;

static void described(Ctx *cx, Plan *p)
{
    if (tensors_make(cx, &lib, p) != ST_OK || convolution_make(cx, &lib, p) != ST_OK ||
        operation_make(cx, &lib, p) != ST_OK)
        fail_msg("%s", cx->msg);
}

static void descriptors_are_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        Arena *arena = arena_new();
        Ctx cx;
        Graph *g;
        ctx_init(&cx);
        assert_int_equal(graph_parse(&cx, arena, "body", bodies[i], &g), ST_OK);
        const LibraryCall *call = call_find(arena, g, NULL);
        assert_non_null(call);
        assert_int_equal(call->library, CALL_CUDNN);
        Plan *p = calloc(1, sizeof *p);
        assert_non_null(p);
        p->conv = call->as.conv;
        described(&cx, p);
        plan_free(&lib, p);
        arena_free(arena);
    }
}

/* It looks at what it is given. */
static void a_lie_is_found(void **state)
{
    Ctx cx;
    Graph *g;
    Arena *arena = arena_new();
    (void)state;
    ctx_init(&cx);
    assert_int_equal(graph_parse(&cx, arena, "body", bodies[0], &g), ST_OK);
    Plan *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->conv = call_find(arena, g, NULL)->as.conv;
    p->conv.to[1]++;
    assert_int_equal(tensors_make(&cx, &lib, p), ST_OK);
    assert_int_equal(convolution_make(&cx, &lib, p), ST_OK);
    assert_int_equal(operation_make(&cx, &lib, p), ST_ENV);
    plan_free(&lib, p);
    arena_free(arena);
}

int main(void)
{
    Ctx cx;
    ctx_init(&cx);
    if (cudnn_dl_open(&cx, &lib.dnn) != ST_OK) {
        fprintf(stderr, "SKIP: %s\n", cx.msg);
        return 77;
    }
    const struct CMUnitTest tests[] = { cmocka_unit_test(descriptors_are_taken),
                                        cmocka_unit_test(a_lie_is_found) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
