/* SPDX-License-Identifier: Apache-2.0 */
/* The cuBLASLt that is installed takes our descriptors: to make them and to set their attributes
 * needs no GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ir/text.h"
#include "runtime/lib_cublaslt.c"

static const char *const bodies[] = {
    "graph (%x: f32[6,16], %w: f32[32,16], %b: f32[32], %r: f32[6,32]) {\n"
    "  %y = matmul %x, %w over=[[1],[1]]\n  %c = broadcast %b axes=[0] : f32[6,32]\n"
    "  %z = add %y, %c\n  %s = add %z, %r\n  %o = const 0 : f32[6,32]\n  %u = max %s, %o\n"
    "  return %u\n}\n",
    "graph (%x: f32[5,6,16], %w: f32[5,8,16]) {\n"
    "  %y = matmul %x, %w over=[[2],[2]] batch=[[0],[0]]\n  return %y\n}\n",
    "graph (%g: f32[64,10], %x: f32[64,128]) {\n  %y = matmul %g, %x over=[[0],[0]]\n"
    "  return %y\n}\n",
};

static Lib lib;

static void descriptors_are_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        Arena *arena = arena_new();
        Ctx cx;
        Graph *g;
        cublasLtMatmulPreference_t pref = NULL;
        ctx_init(&cx);
        assert_int_equal(graph_parse(&cx, arena, "body", bodies[i], &g), ST_OK);
        const LibraryCall *call = call_find(arena, g, NULL);
        assert_non_null(call);
        assert_int_equal(call->library, CALL_CUBLASLT);
        Plan *p = calloc(1, sizeof *p);
        assert_non_null(p);
        p->call = call->as.matmul;
        if (describe(&cx, &lib, p) != ST_OK)
            fail_msg("%s", cx.msg);
        assert_int_equal(lib.lt.cublasLtMatmulPreferenceCreate(&pref), CUBLAS_STATUS_SUCCESS);
        if (prefer(&cx, &lib, &p->call, pref) != ST_OK)
            fail_msg("%s", cx.msg);
        lib.lt.cublasLtMatmulPreferenceDestroy(pref);
        plan_free(&lib, p);
        arena_free(arena);
    }
}

/* It looks at what it is given: an attribute has a size. */
static void a_lie_is_found(void **state)
{
    Ctx cx;
    Plan p = { .nin = 0 };
    const int64_t wide = CUBLAS_OP_T;
    (void)state;
    ctx_init(&cx);
    assert_int_equal(lib.lt.cublasLtMatmulDescCreate(&p.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), 0);
    assert_int_equal(desc_set(&cx, &lib, &p, CUBLASLT_MATMUL_DESC_TRANSA, &wide, sizeof wide),
                     ST_ENV);
    lib.lt.cublasLtMatmulDescDestroy(p.desc);
}

int main(void)
{
    Ctx cx;
    ctx_init(&cx);
    if (cublaslt_dl_open(&cx, &lib.lt) != ST_OK) {
        fprintf(stderr, "SKIP: %s\n", cx.msg);
        return 77;
    }
    const struct CMUnitTest tests[] = { cmocka_unit_test(descriptors_are_taken),
                                        cmocka_unit_test(a_lie_is_found) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
