/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/simt_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/base/os.h"

/* ------------------------------------------------------------ what is right */

static bool same(const float *got, const double *want, int n)
{
    for (int i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-5 * (1 + fabs(want[i]))))
            return false;
    return true;
}

static bool right_reduce(void *const *b)
{
    const float *x = b[1];
    double want[4] = { 0 };
    for (int i = 0; i < 5000; i++)
        want[i / 256 % 4] += x[i];
    return same(b[0], want, 4);
}

static bool right_norm(void *const *b)
{
    double want[13 * 200];
    for (int r = 0; r < 13; r++) {
        const float *x = (const float *)b[1] + 200 * r;
        double mean = 0;
        for (int c = 0; c < 200; c++)
            mean += x[c] / 200;
        for (int c = 0; c < 200; c++)
            want[r * 200 + c] = x[c] - mean;
    }
    return same(b[0], want, 13 * 200);
}

static bool right_gemm(void *const *b)
{
    enum { M = 33, N = 45, K = 37 };
    const float *x = b[1], *w = b[2];
    double want[M * N] = { 0 };
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++)
            for (int k = 0; k < K; k++)
                want[i * N + j] += (double)x[i * K + k] * w[k * N + j];
    return same(b[0], want, M * N);
}

static bool right_ring(void *const *b)
{
    const float *x = b[1];
    double h[64] = { 0 }, next[64];
    for (int t = 0; t < 9; t++) {
        for (int i = 0; i < 64; i++)
            next[i] = (h[i] + h[i ^ 33]) / 2 + x[t * 64 + i];
        memcpy(h, next, sizeof h);
    }
    return same(b[0], h, 64);
}

static bool right_last(void *const *b)
{
    double want[4] = { 0 };
    for (int i = 0; i < 3000; i++)
        want[i % 4] += ((const float *)b[1])[i];
    return same(b[0], want, 4);
}

static bool right_tree(void *const *b)
{
    double want = 0;
    for (int i = 0; i < 20 * 128; i++)
        want += ((const float *)b[1])[i];
    return same(b[0], &want, 1);
}

static bool right_grid(void *const *b)
{
    enum { N = 6 * 64 };
    double x[N], next[N];
    for (int i = 0; i < N; i++)
        x[i] = ((const float *)b[1])[i];
    for (int step = 0; step < 5; step++) {
        for (int i = 0; i < N; i++)
            next[i] = (x[(i + N - 1) % N] + x[(i + 1) % N]) / 2;
        memcpy(x, next, sizeof x);
    }
    return same(b[0], x, N);
}

static bool right_softmax(void *const *b)
{
    enum { ROWS = 5, COLS = 300 };
    double want[ROWS * COLS + ROWS];
    for (int r = 0; r < ROWS; r++) {
        const float *x = (const float *)b[1] + COLS * r;
        double sum = 0, most = x[0];
        for (int c = 0; c < COLS; c++)
            most = fmax(most, x[c]);
        for (int c = 0; c < COLS; c++)
            sum += exp(x[c] - most);
        for (int c = 0; c < COLS; c++)
            want[r * COLS + c] = exp(x[c] - most) / sum;
        want[ROWS * COLS + r] = most;
    }
    return same(b[0], want, ROWS * COLS + ROWS);
}

static bool right_vector(void *const *b)
{
    double want[1003];
    for (int i = 0; i < 1003; i++)
        want[i] = 2.0 * ((const float *)b[1])[i];
    return same(b[0], want, 1003);
}

static bool right_narrow(void *const *b)
{
    const unsigned char *y = b[0];
    const float *x = b[1];
    for (int t = 0; t < 256; t++) {
        uint32_t u = 0;
        uint16_t half = 0;
        memcpy(&u, &x[t], 4);
        memcpy(&half, y + 256 + 2 * t, 2);
        if (half != u >> 16 || y[t] != (x[t] > 8) + 2 * (x[255 - t] > 8))
            return false;
    }
    return true;
}

const SimtCase simt_cases[] = {
    { "reduce", 4, 256, 32, false, { 16, 20000 }, 2, 0, right_reduce },
    { "norm", 3, 128, 16, false, { 10400, 10400 }, 2, 0, right_norm },
    { "gemm", 9, 256, 2112, false, { 5940, 4884, 6660 }, 6, 0, right_gemm },
    { "ring", 1, 64, 512, false, { 256, 2304 }, 2, 0, right_ring },
    { "last", 7, 64, 260, false, { 16, 12000, 112, 4 }, 2, 8, right_last },
    { "tree", 20, 32, 0, false, { 4, 10240, 100, 24 }, 2, 8, right_tree },
    { "grid", 6, 64, 0, true, { 1536, 1536, 1536, 4 }, 2, 13, right_grid },
    { "softmax", 5, 96, 24, false, { 6020, 6000 }, 2, 0, right_softmax },
    { "vector", 4, 64, 0, false, { 4012, 4012 }, 2, 0, right_vector },
    { "narrow", 1, 256, 256, false, { 768, 1024 }, 2, 0, right_narrow },
};
const int simt_case_count = sizeof simt_cases / sizeof *simt_cases;

const SimtCase *simt_case_find(const char *name)
{
    for (int i = 0; i < simt_case_count; i++)
        if (strcmp(simt_cases[i].name, name) == 0)
            return &simt_cases[i];
    return NULL;
}

/* ------------------------------------------------------------ text */

char *simt_case_source(const char *name)
{
    char path[64], *text = NULL;
    size_t n = 0;
    Ctx cx;
    ctx_init(&cx);
    snprintf(path, sizeof path, "tests/simt/%s.cu", name);
    return os_read_file(&cx, path, &text, &n) == ST_OK ? text : NULL;
}

char *simt_case_edit(const char *source, const char *old, const char *with)
{
    const char *at = strstr(source, old);
    if (!at || strstr(at + 1, old)) {
        fprintf(stderr, "not there once: %s\n", old);
        return NULL;
    }
    Strbuf b = { 0 };
    strbuf_printf(&b, "%.*s%s%s", (int)(at - source), source, with, at + strlen(old));
    return b.s;
}

int simt_case_line(const char *source, const char *snippet)
{
    const char *at = strstr(source, snippet);
    int line = 1;
    for (const char *p = source; at && p < at; p++)
        line += *p == '\n';
    return at ? line : 0;
}

/* ------------------------------------------------------------ code */

char *simt_case_compile(const char *name, const char *source, bool shadow, size_t *n)
{
#if defined(__clang__)
    const bool clang = true;
#else
    const bool clang = false;
#endif
    const Kernel k = { .name = name, .source = source };
    const char *argv[SIMT_MAX_FLAGS + 8] = { clang ? "clang" : "gcc" };
    char dir[] = "/tmp/gtc-simt-XXXXXX", c[64], so[64], *bytes = NULL;
    Strbuf text = { 0 };
    Ctx cx;

    ctx_init(&cx);
    if (!mkdtemp(dir))
        return NULL;
    snprintf(c, sizeof c, "%s/k.c", dir);
    snprintf(so, sizeof so, "%s/k.so", dir);
    simt_code_text(&k, &text);
    int at = 1 + simt_code_flags(clang, shadow, argv + 1);
    argv[at++] = "-o";
    argv[at++] = so;
    argv[at++] = c;
    argv[at] = NULL;
    if (os_write_file(&cx, c, text.s, text.n) != ST_OK ||
        os_default()->spawn(argv, STDERR_FILENO) != 0 || os_read_file(&cx, so, &bytes, n) != ST_OK)
        bytes = NULL;
    strbuf_free(&text);
    unlink(c);
    unlink(so);
    rmdir(dir);
    return bytes;
}

static Status launch(Ctx *cx, const SimtCase *c, SimtMachine *m, const SimtCode *code)
{
    void *buffer[SIMT_CASE_ARGS] = { NULL }, *arg[SIMT_CASE_ARGS];
    SimtKernel k = { c->name, simt_code_entry(cx, code, c->name), code, false };
    if (!k.entry)
        return FAIL(cx, ENV, "no %s_entry", c->name);
    for (int i = 0; i < SIMT_CASE_ARGS && c->bytes[i]; i++) {
        float *p = buffer[i] = simt_alloc(m, c->bytes[i]);
        arg[i] = &buffer[i];
        for (size_t e = 0; c->given >> i & 1 && e < c->bytes[i] / sizeof *p; e++)
            p[e] = (float)(e * 7 % 23);
        if (c->zeroed >> i & 1)
            memset(p, 0, c->bytes[i]);
        if ((c->given | c->zeroed) >> i & 1)
            TRY(simt_op_access(cx, m, p, c->bytes[i], true));
    }
    const SimtLaunch l = { &k, c->blocks, c->threads, c->smem, c->cooperative, arg };
    for (int run = 0; run < 2; run++) { /* the second finds what the first has left */
        simt_op_begin(m, run + 2, c->name, NULL);
        TRY(simt_launch(cx, m, &l));
        TRY(simt_red_zones(cx, m));
        if (!c->right(buffer))
            return FAIL(cx, NUMERIC, "%s: a wrong result", c->name);
    }
    return ST_OK;
}

Status simt_case_run(Ctx *cx, const SimtCase *c, const void *bytes, size_t n,
                     const SimtOptions *opt)
{
    SimtMachine *m = NULL;
    SimtCode *code = NULL;
    TRY(simt_create(cx, opt, &m));
    Status s = simt_code_load(cx, m, bytes, n, &code);
    if (s == ST_OK)
        s = launch(cx, c, m, code);
    simt_code_unload(cx, code);
    simt_destroy(m);
    return s;
}
