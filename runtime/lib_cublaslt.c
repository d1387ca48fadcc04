/* SPDX-License-Identifier: Apache-2.0 */
/* lib_cublaslt: products by cuBLASLt.
 *
 * A plan is the library's own descriptors of the product and its matrices and the algorithm that
 * its heuristic names first, chosen for the alignment that the operands really have.  In f32 it
 * computes in f32: no TF32.  The workspace is the program's: a handle of cuBLASLt has none. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"
#include "runtime/call_ops.h"
#include "runtime/cublaslt_dl.h"
#include "runtime/cuda_place.h"

enum { MOST_WORKSPACE = 32 << 20, ALIGN = 256 };

static const char *const sonames[] = { "libcublasLt.so.13", "libcublasLt.so.12" };

Status cublaslt_dl_open(Ctx *cx, CublasLt *lt)
{
    void *lib = NULL;
    memset(lt, 0, sizeof *lt);
    for (size_t i = 0; i < sizeof sonames / sizeof *sonames && !lib; i++)
        lib = cuda_place_load(cx, sonames[i], lt->path, sizeof lt->path);
    if (!lib)
        return FAIL(cx, ENV,
                    "cublasLt: not found (libcublasLt.so.13, .12): install the CUDA toolkit or its "
                    "cuBLAS package, or set GTC_CUDA_PATH to the folder that holds it");
#define CUBLASLT_CALL(result, name, args)                                                          \
    void *sym_##name = cx->os->dlsym(lib, #name);                                                  \
    if (!sym_##name)                                                                               \
        return FAIL(cx, ENV, "cublasLt: %s has no %s: it is older than 12", lt->path, #name);      \
    memcpy(&lt->name, &sym_##name, sizeof sym_##name); /* C has no cast for this */
    CUBLASLT_CALLS(CUBLASLT_CALL)
#undef CUBLASLT_CALL
    lt->version = lt->cublasLtGetVersion();
    return ST_OK;
}

typedef struct Lib {
    CublasLt lt;
    cublasLtHandle_t handle;
} Lib;

typedef struct Plan {
    CallMatmul call;
    int32_t nin;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c, d;
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
} Plan;

static Status check(Ctx *cx, const Lib *l, const char *call, cublasStatus_t r)
{
    if (r == CUBLAS_STATUS_SUCCESS)
        return ST_OK;
    const char *name = l->lt.cublasLtGetStatusName(r);
    return FAIL(cx, ENV, "%s: %s (%d)", call, name ? name : "failed", r);
}

/* ------------------------------------------------------------ the library */

static void lib_close(void *lib)
{
    Lib *l = lib;
    if (l->handle)
        l->lt.cublasLtDestroy(l->handle);
    free(l);
}

static Status lib_open(Ctx *cx, void **lib)
{
    Lib *l = calloc(1, sizeof *l);
    if (!l)
        return FAIL(cx, MEMORY, "no memory for cublasLt");
    Status status = cublaslt_dl_open(cx, &l->lt);
    if (status == ST_OK)
        status = check(cx, l, "cublasLtCreate", l->lt.cublasLtCreate(&l->handle));
    if (status != ST_OK) {
        lib_close(l);
        return status;
    }
    *lib = l;
    return ST_OK;
}

static void lib_name(const void *lib, char *buf, size_t n)
{
    const size_t version = ((const Lib *)lib)->lt.version;
    snprintf(buf, n, "cublasLt %zu.%zu", version / 10000, version % 10000 / 100);
}

/* ------------------------------------------------------------ a plan */

static Status layout_make(Ctx *cx, const Lib *l, const CallMatmul *c, const CallMatrix *m,
                          int64_t rows, int64_t cols, cublasLtMatrixLayout_t *out)
{
    const uint64_t r = (uint64_t)(m->transposed ? cols : rows),
                   k = (uint64_t)(m->transposed ? rows : cols);
    const int32_t batch = (int32_t)c->batch;
    TRY(check(cx, l, "cublasLtMatrixLayoutCreate",
              l->lt.cublasLtMatrixLayoutCreate(out, CUDA_R_32F, r, k, m->ld)));
    TRY(check(cx, l, "cublasLtMatrixLayoutSetAttribute",
              l->lt.cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                                                     &batch, sizeof batch)));
    return check(cx, l, "cublasLtMatrixLayoutSetAttribute",
                 l->lt.cublasLtMatrixLayoutSetAttribute(
                     *out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m->step, sizeof m->step));
}

static Status desc_set(Ctx *cx, const Lib *l, const Plan *p, cublasLtMatmulDescAttributes_t what,
                       const void *value, size_t n)
{
    return check(cx, l, "cublasLtMatmulDescSetAttribute",
                 l->lt.cublasLtMatmulDescSetAttribute(p->desc, what, value, n));
}

static uint32_t epilogue_of(const CallMatmul *c)
{
    const uint32_t e = (c->bias >= 0 ? CUBLASLT_EPILOGUE_BIAS : 0) |
                       (c->finish == FINISH_RELU   ? CUBLASLT_EPILOGUE_RELU
                        : c->finish == FINISH_GELU ? CUBLASLT_EPILOGUE_GELU
                                                   : 0);
    return e ? e : CUBLASLT_EPILOGUE_DEFAULT;
}

/* An address of the alignment that element `offset` of a tensor has. */
static uint32_t align_of(int64_t offset)
{
    const uint64_t bytes = (uint64_t)offset * sizeof(float) % ALIGN;
    return bytes ? (uint32_t)(bytes & -bytes) : ALIGN;
}

static Status describe(Ctx *cx, const Lib *l, Plan *p)
{
    const CallMatmul *c = &p->call;
    const int32_t ta = c->a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N,
                  tb = c->b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const uint32_t epilogue = epilogue_of(c);
    const uint64_t like = align_of(c->bias_offset); /* the heuristic looks at its alignment only */
    TRY(check(cx, l, "cublasLtMatmulDescCreate",
              l->lt.cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F)));
    TRY(desc_set(cx, l, p, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
    TRY(desc_set(cx, l, p, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
    TRY(desc_set(cx, l, p, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    if (c->bias >= 0)
        TRY(desc_set(cx, l, p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &like, sizeof like));
    TRY(layout_make(cx, l, c, &c->a, c->m, c->k, &p->a));
    TRY(layout_make(cx, l, c, &c->b, c->k, c->n, &p->b));
    TRY(layout_make(cx, l, c, c->c.arg >= 0 ? &c->c : &c->d, c->m, c->n, &p->c));
    return layout_make(cx, l, c, &c->d, c->m, c->n, &p->d);
}

static Status prefer(Ctx *cx, const Lib *l, const CallMatmul *c, cublasLtMatmulPreference_t pref)
{
    const uint64_t workspace = MOST_WORKSPACE;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        uint32_t align;
    } align[] = { { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, align_of(c->a.offset) },
                  { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, align_of(c->b.offset) },
                  { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, align_of(c->c.offset) },
                  { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, align_of(c->d.offset) } };
    TRY(check(cx, l, "cublasLtMatmulPreferenceSetAttribute",
              l->lt.cublasLtMatmulPreferenceSetAttribute(
                  pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace)));
    for (size_t i = 0; i < sizeof align / sizeof *align; i++)
        TRY(check(cx, l, "cublasLtMatmulPreferenceSetAttribute",
                  l->lt.cublasLtMatmulPreferenceSetAttribute(pref, align[i].what, &align[i].align,
                                                             sizeof align[i].align)));
    return ST_OK;
}

static Status choose(Ctx *cx, const Lib *l, Plan *p)
{
    cublasLtMatmulPreference_t pref = NULL;
    cublasLtMatmulHeuristicResult_t best = { .state = CUBLAS_STATUS_NOT_SUPPORTED };
    int found = 0;
    TRY(check(cx, l, "cublasLtMatmulPreferenceCreate",
              l->lt.cublasLtMatmulPreferenceCreate(&pref)));
    Status status = prefer(cx, l, &p->call, pref);
    if (status == ST_OK)
        status = check(cx, l, "cublasLtMatmulAlgoGetHeuristic",
                       l->lt.cublasLtMatmulAlgoGetHeuristic(l->handle, p->desc, p->a, p->b, p->c,
                                                            p->d, pref, 1, &best, &found));
    if (status == ST_OK)
        status = check(cx, l, "cublasLtMatmulAlgoGetHeuristic",
                       found ? best.state : CUBLAS_STATUS_NOT_SUPPORTED);
    l->lt.cublasLtMatmulPreferenceDestroy(pref);
    p->algo = best.algo;
    p->workspace = best.workspaceSize;
    return status;
}

static void plan_free(const Lib *l, Plan *p)
{
    const cublasLtMatrixLayout_t layout[] = { p->a, p->b, p->c, p->d };
    for (int i = 0; i < 4; i++)
        if (layout[i])
            l->lt.cublasLtMatrixLayoutDestroy(layout[i]);
    if (p->desc)
        l->lt.cublasLtMatmulDescDestroy(p->desc);
    free(p);
}

static Status lib_prepare(Ctx *cx, void *lib, const LibraryCall *call, CallPlan *out)
{
    Plan *p = calloc(1, sizeof *p);
    if (!p)
        return FAIL(cx, MEMORY, "no memory for a plan");
    p->call = call->as.matmul;
    p->nin = (int32_t)call->body->ninput;
    Status status = describe(cx, lib, p);
    if (status == ST_OK)
        status = choose(cx, lib, p);
    if (status != ST_OK) {
        plan_free(lib, p);
        return status;
    }
    out->own = p;
    out->workspace = (int64_t)p->workspace;
    return ST_OK;
}

static void lib_release(void *lib, CallPlan *plan)
{
    plan_free(lib, plan->own);
}

static Status lib_enqueue(Ctx *cx, void *lib, const CallPlan *plan, CUstream stream,
                          void *const *arg)
{
    const Lib *l = lib;
    const Plan *p = plan->own;
    const CallMatmul *c = &p->call;
    const float one = 1, beta = c->c.arg >= 0;
    float *d = arg[p->nin];
    const float *residual = c->c.arg >= 0 ? (const float *)arg[c->c.arg] + c->c.offset : d;
    if (c->bias >= 0) {
        const float *bias = (const float *)arg[c->bias] + c->bias_offset;
        TRY(desc_set(cx, l, p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
    }
    return check(cx, l, "cublasLtMatmul",
                 l->lt.cublasLtMatmul(
                     l->handle, p->desc, &one, (const float *)arg[c->a.arg] + c->a.offset, p->a,
                     (const float *)arg[c->b.arg] + c->b.offset, p->b, &beta, residual, p->c, d,
                     p->d, &p->algo, arg[p->nin + 1], p->workspace, stream));
}

const CallOps call_cublaslt = {
    lib_open, lib_close, lib_name, lib_prepare, lib_release, lib_enqueue
};
