/* SPDX-License-Identifier: Apache-2.0 */
/* A cuBLASLt for tests: the calls of runtime/cublaslt_dl.h on the host, at once, as the library
 * documents them.  It refuses what the real one does (leading dimensions too small, a workspace too
 * small, operands aligned worse than the algorithm was chosen for) and, so that there is something
 * to refuse, products of 13 rows. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "runtime/cublaslt_dl.h"

#define PROTOTYPE(result, name, args) result name args;
CUBLASLT_CALLS(PROTOTYPE)

enum { WORKSPACE = 512, MAGIC = 0x5117, REFUSED = 13, FAILED = 7 };
enum { ROWS, COLS, LD, BATCH, STEP }; /* of a layout */

size_t cublasLtGetVersion(void)
{
    return 990100;
}

const char *cublasLtGetStatusName(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS_OTHER";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    *out = malloc(1);
    return *out ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_ALLOC_FAILED;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    free(h);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t c,
                                        cudaDataType t)
{
    *out = calloc(1, sizeof **out);
    return c == CUBLAS_COMPUTE_32F && t == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : FAILED;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    free(d);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t what, const void *v,
                                              size_t n)
{
    const size_t want = what == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? 8 : 4;
    if (n != want || what < 0 || what >= 32)
        return FAILED;
    d->data[what] = want == 8 ? *(const uint64_t *)v : *(const uint32_t *)v;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType t,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    cublasLtMatrixLayout_t l = *out = calloc(1, sizeof **out);
    l->data[ROWS] = rows;
    l->data[COLS] = cols;
    l->data[LD] = (uint64_t)ld;
    l->data[BATCH] = 1;
    return t == CUDA_R_32F && ld >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : FAILED;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    free(l);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l,
                                                cublasLtMatrixLayoutAttribute_t what, const void *v,
                                                size_t n)
{
    if (what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT && n == 4)
        l->data[BATCH] = *(const uint32_t *)v;
    else if (what == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET && n == 8)
        l->data[STEP] = *(const uint64_t *)v;
    else
        return FAILED;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    *out = calloc(1, sizeof **out);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    free(p);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *v, size_t n)
{
    if (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES && n == 8)
        p->data[0] = *(const uint64_t *)v;
    else if (what >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
             what <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES && n == 4)
        p->data[1 + what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES] = *(const uint32_t *)v;
    else
        return FAILED;
    return CUBLAS_STATUS_SUCCESS;
}

/* rows and columns of what the operation makes of it. */
static uint64_t rows_of(cublasLtMatrixLayout_t l, uint64_t op)
{
    return l->data[op == CUBLAS_OP_T ? COLS : ROWS];
}

static uint64_t cols_of(cublasLtMatrixLayout_t l, uint64_t op)
{
    return l->data[op == CUBLAS_OP_T ? ROWS : COLS];
}

static bool fits(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                 cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
    const uint64_t ta = desc->data[CUBLASLT_MATMUL_DESC_TRANSA],
                   tb = desc->data[CUBLASLT_MATMUL_DESC_TRANSB];
    return rows_of(a, ta) == d->data[ROWS] && cols_of(b, tb) == d->data[COLS] &&
           cols_of(a, ta) == rows_of(b, tb) && c->data[ROWS] == d->data[ROWS] &&
           c->data[COLS] == d->data[COLS] && a->data[BATCH] == d->data[BATCH] &&
           b->data[BATCH] == d->data[BATCH] && c->data[BATCH] == d->data[BATCH];
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t h, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t p, int most,
                                              cublasLtMatmulHeuristicResult_t *out, int *n)
{
    const uint64_t epilogue = desc->data[CUBLASLT_MATMUL_DESC_EPILOGUE];
    *n = 0;
    if (!h || most < 1 || !fits(desc, a, b, c, d) || p->data[0] < WORKSPACE ||
        (epilogue & CUBLASLT_EPILOGUE_BIAS && !desc->data[CUBLASLT_MATMUL_DESC_BIAS_POINTER]))
        return FAILED;
    if (d->data[ROWS] == REFUSED)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *out = (cublasLtMatmulHeuristicResult_t){ .workspaceSize = WORKSPACE };
    out->algo.data[0] = MAGIC;
    for (int i = 1; i <= 4; i++)
        out->algo.data[i] = p->data[i];
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static float at(const float *m, cublasLtMatrixLayout_t l, uint64_t op, uint64_t batch, uint64_t row,
                uint64_t col)
{
    const uint64_t r = op == CUBLAS_OP_T ? col : row, c = op == CUBLAS_OP_T ? row : col;
    return m[batch * l->data[STEP] + c * l->data[LD] + r];
}

static double finish(uint64_t epilogue, double x)
{
    if (epilogue & CUBLASLT_EPILOGUE_RELU)
        return x > 0 ? x : 0;
    if (epilogue & CUBLASLT_EPILOGUE_GELU)
        return .5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + .044715 * x * x * x)));
    return x;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t h, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t la, const void *b,
                              cublasLtMatrixLayout_t lb, const void *beta, const void *c,
                              cublasLtMatrixLayout_t lc, void *d, cublasLtMatrixLayout_t ld,
                              const cublasLtMatmulAlgo_t *algo, void *work, size_t size,
                              cudaStream_t stream)
{
    const uint64_t ta = desc->data[CUBLASLT_MATMUL_DESC_TRANSA],
                   tb = desc->data[CUBLASLT_MATMUL_DESC_TRANSB],
                   epilogue = desc->data[CUBLASLT_MATMUL_DESC_EPILOGUE];
    const float *bias = (const float *)(uintptr_t)desc->data[CUBLASLT_MATMUL_DESC_BIAS_POINTER];
    const void *operand[] = { a, b, c, d };
    (void)stream;
    if (!h || algo->data[0] != MAGIC || size < WORKSPACE || !work || !fits(desc, la, lb, lc, ld))
        return FAILED;
    for (int i = 0; i < 4; i++)
        if ((uintptr_t)operand[i] % algo->data[1 + i])
            return FAILED;
    for (size_t i = 0; i < WORKSPACE; i++)
        ((unsigned char *)work)[i] = 0xff;
    for (uint64_t q = 0; q < ld->data[BATCH]; q++)
        for (uint64_t col = 0; col < ld->data[COLS]; col++)
            for (uint64_t row = 0; row < ld->data[ROWS]; row++) {
                double sum = 0;
                for (uint64_t k = 0; k < cols_of(la, ta); k++)
                    sum += (double)at(a, la, ta, q, row, k) * (double)at(b, lb, tb, q, k, col);
                sum *= (double)*(const float *)alpha;
                if (*(const float *)beta != 0)
                    sum += (double)*(const float *)beta * (double)at(c, lc, 0, q, row, col);
                if (epilogue & CUBLASLT_EPILOGUE_BIAS)
                    sum += (double)bias[row];
                ((float *)d)[q * ld->data[STEP] + col * ld->data[LD] + row] =
                    (float)finish(epilogue, sum);
            }
    return CUBLAS_STATUS_SUCCESS;
}
