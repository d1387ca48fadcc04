/* SPDX-License-Identifier: Apache-2.0 */
/* Products of matrices whose elements lie anywhere: where most of the evaluator's time goes.
 *
 * Each axis comes as a table of offsets, so that any strided operand (a transpose, a window) is
 * copied block by block into two small packed panels, and the inner loops run over those: four rows
 * of c and four of b at once, so that each number that is read is used four times.
 *
 * The order of sums is part of what a product is, as samples of the oracle are drawn by the bits of
 * what they move: k goes in fours within blocks of BLOCK_K, and no other block size shows. */
#include "ir/eval_op.h"

enum { BLOCK_M = 64, BLOCK_K = 128, BLOCK_N = 256, NARROW = 8, ROWS = 4 };

static void pack(double *to, int64_t row_step, int64_t column_step, const double *from,
                 const int64_t *row, int64_t rows, const int64_t *column, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++) {
        double *t = to + i * row_step;
        const double *f = from + row[i];
        for (int64_t j = 0; j < columns; j++)
            t[j * column_step] = f[column[j]];
    }
}

/* Four rows of c, n wide and c_row apart, += a[4, k] * b[k, n] for k a multiple of four. */
EVAL_WIDE
static void multiply_rows(double *restrict c, int64_t c_row, const double *restrict a,
                          const double *restrict b, int64_t b_row, int64_t kn, int64_t n)
{
    double *restrict c0 = c, *restrict c1 = c0 + c_row;
    double *restrict c2 = c1 + c_row, *restrict c3 = c2 + c_row;
    for (int64_t k = 0; k < kn; k += 4) {
        const double *restrict b0 = b + k * b_row, *restrict b1 = b0 + b_row;
        const double *restrict b2 = b1 + b_row, *restrict b3 = b2 + b_row;
        const double *p = a + k, *q = p + BLOCK_K, *r = q + BLOCK_K, *s = r + BLOCK_K;
        const double p0 = p[0], p1 = p[1], p2 = p[2], p3 = p[3];
        const double q0 = q[0], q1 = q[1], q2 = q[2], q3 = q[3];
        const double r0 = r[0], r1 = r[1], r2 = r[2], r3 = r[3];
        const double s0 = s[0], s1 = s[1], s2 = s[2], s3 = s[3];
        for (int64_t j = 0; j < n; j++) {
            const double x0 = b0[j], x1 = b1[j], x2 = b2[j], x3 = b3[j];
            c0[j] += (p0 * x0 + p1 * x1) + (p2 * x2 + p3 * x3);
            c1[j] += (q0 * x0 + q1 * x1) + (q2 * x2 + q3 * x3);
            c2[j] += (r0 * x0 + r1 * x1) + (r2 * x2 + r3 * x3);
            c3[j] += (s0 * x0 + s1 * x1) + (s2 * x2 + s3 * x3);
        }
    }
}

/* The same for one row, and any k. */
EVAL_WIDE
static void multiply_row(double *restrict c, const double *restrict a, const double *restrict b,
                         int64_t b_row, int64_t from, int64_t kn, int64_t n)
{
    int64_t k = from;
    for (; k + 4 <= kn; k += 4) {
        const double a0 = a[k], a1 = a[k + 1], a2 = a[k + 2], a3 = a[k + 3];
        const double *restrict b0 = b + k * b_row, *restrict b1 = b0 + b_row;
        const double *restrict b2 = b1 + b_row, *restrict b3 = b2 + b_row;
        for (int64_t j = 0; j < n; j++)
            c[j] += (a0 * b0[j] + a1 * b1[j]) + (a2 * b2[j] + a3 * b3[j]);
    }
    for (; k < kn; k++)
        for (int64_t j = 0; j < n; j++)
            c[j] += a[k] * b[k * b_row + j];
}

/* c[rows, n] += a[rows, k] * b[k, n] */
static void multiply_wide(double *c, int64_t c_row, const double *a, const double *b, int64_t b_row,
                          int64_t rows, int64_t kn, int64_t n)
{
    const int64_t fours = kn / 4 * 4;
    int64_t i = 0;
    for (; i + ROWS <= rows; i += ROWS) {
        multiply_rows(c + i * c_row, c_row, a + i * BLOCK_K, b, b_row, fours, n);
        for (int64_t r = i; r < i + ROWS && fours < kn; r++)
            multiply_row(c + r * c_row, a + r * BLOCK_K, b, b_row, fours, kn, n);
    }
    for (; i < rows; i++)
        multiply_row(c + i * c_row, a + i * BLOCK_K, b, b_row, 0, kn, n);
}

/* c[rows, n] += a[rows, k] * b[n, k] */
static void multiply_narrow(double *restrict c, const double *a, const double *b, int64_t rows,
                            int64_t kn, int64_t n)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) {
            const double *ai = a + i * BLOCK_K, *bj = b + j * BLOCK_K;
            double s0 = 0, s1 = 0;
            int64_t k = 0;
            for (; k + 2 <= kn; k += 2) {
                s0 += ai[k] * bj[k];
                s1 += ai[k + 1] * bj[k + 1];
            }
            if (k < kn)
                s0 += ai[k] * bj[k];
            c[i * n + j] += s0 + s1;
        }
}

typedef struct Panels {
    double *a, *b; /* BLOCK_M x BLOCK_K; BLOCK_K x b_row, or columns x BLOCK_K when narrow */
    int64_t b_row;
} Panels;

/* `columns` columns of c from j on. */
static void multiply_block(const EvalProduct *p, const Panels *panel, double *c, const double *a,
                           const double *b, int64_t j, int64_t columns)
{
    const bool narrow = p->n < NARROW;
    for (int64_t k = 0; k < p->k; k += BLOCK_K) {
        const int64_t ks = p->k - k < BLOCK_K ? p->k - k : BLOCK_K;
        pack(panel->b, narrow ? 1 : panel->b_row, narrow ? BLOCK_K : 1, b, p->b_k + k, ks,
             p->b_n + j, columns);
        for (int64_t i = 0; i < p->m; i += BLOCK_M) {
            const int64_t rows = p->m - i < BLOCK_M ? p->m - i : BLOCK_M;
            double *const to = c + i * p->n + j;
            pack(panel->a, BLOCK_K, 1, a, p->a_m + i, rows, p->a_k + k, ks);
            if (narrow)
                multiply_narrow(to, panel->a, panel->b, rows, ks, columns);
            else
                multiply_wide(to, p->n, panel->a, panel->b, panel->b_row, rows, ks, columns);
        }
    }
}

void eval_product(const EvalProduct *p, double *c, const double *a, const double *b)
{
    Arena *arena = arena_new();
    Panels panel = { .b_row = p->n < BLOCK_N ? p->n : BLOCK_N };
    panel.a = arena_array(arena, double, (p->m < BLOCK_M ? p->m : BLOCK_M) * BLOCK_K);
    panel.b = arena_array(arena, double, BLOCK_K *panel.b_row);
    for (int64_t i = 0; i < p->batch; i++)
        for (int64_t j = 0; j < p->n; j += BLOCK_N)
            multiply_block(p, &panel, c + i * p->m * p->n, a + p->a_batch[i], b + p->b_batch[i], j,
                           p->n - j < BLOCK_N ? p->n - j : BLOCK_N);
    arena_free(arena);
}
