/* SPDX-License-Identifier: Apache-2.0 */
/* device_check: what kernels on a GPU rest on, tried out one by one.
 *
 * Each check is a kernel of a few lines that takes N floats to N floats, and a function that says
 * what must come out.  Who a thread is, barriers, shuffles, the last block, the grid's barrier,
 * vectors, conversions and random numbers must be exact; of transcendental functions the distance
 * to the true value is counted in units of the last place.  A driver, compiler or GPU that does one
 * of these wrong makes every model wrong, and this says which it is. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ir/base/os.h"
#include "ir/base/rng.h"
#include "ir/eval.h"
#include "runtime/device.h"

enum { THREADS = 256, BLOCKS = 16, N = THREADS * BLOCKS, STATIC_SMEM = 48 << 10 };

typedef struct Check {
    const char *name, *body; /* of the kernel: x, y, work, counter, t and i are there */
    double lo, hi;           /* x goes evenly from lo to hi */
    double (*want)(int i, const float *x);
    double ulps; /* 0: exact */
    int n;       /* results that count, 0: all */
    bool cooperative, all_smem;
} Check;

/* ------------------------------------------------------------ what must come out */

static double want_ids(int i, const float *x)
{
    (void)x;
    return 1024. * (i / THREADS) + i % THREADS + BLOCKS;
}
static double want_mirror(int i, const float *x)
{
    return (double)x[i - i % THREADS + THREADS - 1 - i % THREADS];
}
static double want_warp_sum(int i, const float *x)
{
    double sum = 0;
    for (int k = i - i % 32; k < i - i % 32 + 32; k++)
        sum += (double)(int)x[k];
    return sum;
}
static double want_block_sum(int i, const float *x)
{
    (void)x;
    return BLOCKS * (BLOCKS + 1) / 2 + i;
}
static double want_next_block(int i, const float *x)
{
    return (double)x[(i + THREADS) % N];
}
static double want_same(int i, const float *x)
{
    return (double)x[i];
}
static double want_f16(int i, const float *x)
{
    return round_to(DT_F16, (double)x[i]);
}
static double want_bf16(int i, const float *x)
{
    return round_to(DT_BF16, (double)x[i]);
}
static double want_rand(int i, const float *x)
{
    (void)x;
    return (double)rng_rand_op(7, 11, 13, 17, (uint64_t)i);
}
static double want_int(int i, const float *x)
{
    (void)i;
    return trunc((double)x[i]);
}
#define MATHS(name, value)                                                                         \
    static double want_##name(int i, const float *x)                                               \
    {                                                                                              \
        const double v = (double)x[i];                                                             \
        return value;                                                                              \
    }
MATHS(exp, exp(v))
MATHS(expm1, expm1(v))
MATHS(log, log(v))
MATHS(log1p, log1p(v))
MATHS(tanh, tanh(v))
MATHS(erf, erf(v))
MATHS(sin, sin(v))
MATHS(cos, cos(v))
MATHS(sqrt, sqrt(v))
MATHS(rsqrt, 1 / sqrt(v))
MATHS(sigmoid, 1 / (1 + exp(-v)))

/* ------------------------------------------------------------ the kernels */

#define UNARY(fn, lo, hi, ulps)                                                                    \
    {                                                                                              \
#fn, "    y[i] = gtc_" #fn "_f(x[i]);\n", lo, hi, want_##fn, ulps, 0, false, false         \
    }
static const Check checks[] = {
    { "ids", "    y[i] = (float)(gtc_bid() * 1024 + t + gtc_nblocks());\n", 0, 1, want_ids, 0, 0,
      false, false },
    { "barrier",
      "    float *sm = (float *)gtc_smem();\n    sm[t] = x[i];\n    gtc_bar();\n"
      "    y[i] = sm[255 - t];\n",
      0, 1, want_mirror, 0, 0, false, false },
    { "all shared memory",
      "    float *sm = (float *)(gtc_smem() + SMEM) - 256;\n    sm[t] = x[i];\n    gtc_bar();\n"
      "    y[i] = sm[255 - t];\n",
      0, 1, want_mirror, 0, 0, false, true },
    { "shuffle",
      "    float v = (float)(int)x[i];\n    v += gtc_shfl_xor_f(v, 16);\n"
      "    v += gtc_shfl_xor_f(v, 8);\n    v += gtc_shfl_xor_f(v, 4);\n"
      "    v += gtc_shfl_xor_f(v, 2);\n    v += gtc_shfl_xor_f(v, 1);\n    y[i] = v;\n",
      0, 1000, want_warp_sum, 0, 0, false, false },
    { "shuffle of 64 bits",
      "    gtc_i64 v = (gtc_i64)x[i];\n    v += gtc_shfl_xor_l(v, 16);\n"
      "    v += gtc_shfl_xor_l(v, 8);\n    v += gtc_shfl_xor_l(v, 4);\n"
      "    v += gtc_shfl_xor_l(v, 2);\n    v += gtc_shfl_xor_l(v, 1);\n    y[i] = (float)v;\n",
      0, 1000, want_warp_sum, 0, 0, false, false },
    { "last block",
      "    int *flag = (int *)gtc_smem();\n    float v = 0.0f;\n"
      "    if (t == 0)\n        work[gtc_bid()] = (float)(gtc_bid() + 1);\n    gtc_bar();\n"
      "    if (t == 0)\n        *flag = gtc_last_of(counter, gtc_nblocks());\n    gtc_bar();\n"
      "    if (*flag) {\n        for (int k = 0; k < gtc_nblocks(); k++)\n"
      "            v += work[k];\n        y[t] = v + (float)t;\n    }\n",
      0, 1, want_block_sum, 0, THREADS, false, false },
    { "barrier of the grid",
      "    work[i] = x[i];\n    gtc_grid_bar(counter);\n"
      "    y[i] = work[(i + 256) % (256 * gtc_nblocks())];\n",
      0, 1, want_next_block, 0, 0, true, false },
    { "vectors",
      "    if (t < 64)\n        gtc_st_f4(y + (i - t + 4 * t), gtc_ld_f4(x + (i - t + 4 * t)));\n",
      -1, 1, want_same, 0, 0, false, false },
    { "f16", "    y[i] = gtc_f_from_h(gtc_h_from_f(x[i]));\n", -70000, 70000, want_f16, 0, 0, false,
      false },
    { "small f16", "    y[i] = gtc_f_from_h(gtc_h_from_f(x[i]));\n", -1e-4, 1e-4, want_f16, 0, 0,
      false, false },
    { "bf16", "    y[i] = gtc_f_from_bf(gtc_bf_from_f(x[i]));\n", -1e4, 1e4, want_bf16, 0, 0, false,
      false },
    { "integers", "    y[i] = (float)gtc_i_from_f(x[i]);\n", -3000, 3000, want_int, 0, 0, false,
      false },
    { "random numbers", "    y[i] = gtc_rand_f(7, 11, 13, 17, i);\n", 0, 1, want_rand, 0, 0, false,
      false },
    UNARY(exp, -80, 80, 4),
    UNARY(expm1, -10, 10, 4),
    UNARY(log, 1e-3, 1e4, 4),
    UNARY(log1p, -0.9, 100, 4),
    UNARY(tanh, -9, 9, 4),
    UNARY(erf, -4, 4, 4),
    UNARY(sin, -30, 30, 4),
    UNARY(cos, -30, 30, 4),
    UNARY(sqrt, 0, 1e4, 1),
    UNARY(rsqrt, 1e-3, 1e4, 4),
    UNARY(sigmoid, -40, 40, 4),
};
enum { NCHECK = sizeof checks / sizeof *checks };

static void spell(const Check *c, int64_t smem, Strbuf *out)
{
    strbuf_printf(out,
                  "#define SMEM %lld\n"
                  "GTC_KERNEL(256) check(const float *__restrict__ x, float *__restrict__ y,\n"
                  "                      float *work, gtc_u32 *counter)\n"
                  "{\n    int t = gtc_tid(), i = gtc_bid() * 256 + t;\n",
                  (long long)smem);
    strbuf_add(out, c->body);
    strbuf_add(out, "}\nGTC_ENTRY(check, (*(const float **)a[0], *(float **)a[1], *(float **)a[2], "
                    "*(gtc_u32 **)a[3]))\n");
}

/* ------------------------------------------------------------ one check */

typedef struct Bench { /* what all checks share */
    Ctx *cx;
    GtcDevice *d;
    void *arg[4]; /* x, y, work, counter; of the device */
    float x[N], y[N];
} Bench;

static Status run_kernel(Bench *b, Kernel *k)
{
    const LoadCall call = { .k = k, .n = 1 };
    int64_t bytes[4] = { sizeof b->x, sizeof b->y, sizeof b->x, 4 };
    Step step = { .arg = b->arg, .bytes = bytes, .nin = 1, .nout = 1 };
    Schedule s = { .step = &step, .nstep = 1, .depth = 1, .in_depth = 1 };
    const DeviceOps *ops = b->d->ops;
    Code code;
    Status status = ops->load(b->cx, b->d, &call, &code, &s.module);
    if (status == ST_OK && code.from == CODE_NONE)
        status = FAIL(b->cx, COMPILE, "it does not compile");
    if (status == ST_OK)
        status = ops->run(b->cx, b->d, &s, 0, NULL);
    if (status == ST_OK)
        status = ops->wait(b->cx, b->d, &s, 0);
    ops->unload(b->d, s.module);
    return status;
}

static void compare(const Bench *b, const Check *c, GtcCheck *out)
{
    double worst = 0;
    int at = -1;
    for (int i = 0; i < (c->n ? c->n : N); i++) {
        const double want = c->want(i, b->x), got = (double)b->y[i];
        const double unit = fmax(fabs(want) * 0x1p-23, 0x1p-149);
        const double off = got == want ? 0 : fabs(got - want) / unit;
        if (!(off <= worst)) { /* NaN too */
            worst = off;
            at = i;
        }
    }
    out->ok = worst <= c->ulps;
    if (!out->ok)
        snprintf(out->text, sizeof out->text, "at %d: %.9g gave %.9g, wants %.9g", at,
                 (double)b->x[at], (double)b->y[at], c->want(at, b->x));
    else if (c->ulps > 0)
        snprintf(out->text, sizeof out->text, "within %.1f of the last place", worst);
    else
        snprintf(out->text, sizeof out->text, "exact");
}

/* An error of the device is the check's result; the device may take no more work after it. */
static void check_one(Bench *b, const Check *c, GtcCheck *out)
{
    Strbuf text = { 0 };
    char name[32];
    const int64_t smem = c->all_smem ? b->d->target.smem_bytes : 4 * THREADS;
    snprintf(out->name, sizeof out->name, "%s", c->name);
    snprintf(name, sizeof name, "check_%d", (int)(c - checks));
    spell(c, smem, &text);
    const Launch l = { "check", BLOCKS, THREADS, (int32_t)smem, c->cooperative };
    Kernel k = { .name = name,
                       .label = "check",
                       .source = strbuf_str(&text),
                       .launch = &l,
                       .nlaunch = 1,
                       .nin = 1,
                       .nout = 1,
                       .counters = 1 };
    for (int i = 0; i < N; i++)
        b->x[i] = (float)(c->lo + (c->hi - c->lo) * i / (N - 1));
    const DeviceOps *ops = b->d->ops;
    uint32_t zero = 0;
    Status s = ops->copy(b->cx, b->d, COPY_TO_DEVICE, b->x, b->arg[0], sizeof b->x);
    if (s == ST_OK)
        s = ops->copy(b->cx, b->d, COPY_TO_DEVICE, &zero, b->arg[3], 4);
    if (s == ST_OK)
        s = run_kernel(b, &k);
    if (s == ST_OK)
        s = ops->copy(b->cx, b->d, COPY_TO_HOST, b->y, b->arg[1], sizeof b->y);
    if (s == ST_OK)
        compare(b, c, out);
    else
        snprintf(out->text, sizeof out->text, "%.190s", b->cx->msg);
    strbuf_free(&text);
}

/* ------------------------------------------------------------ copies */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static Status time_copies(Bench *b, void *host, void *device, int64_t bytes, GtcCheck *out)
{
    enum { TIMES = 5 };
    double best[2] = { 1e30, 1e30 };
    for (int i = 0; i < 2 * TIMES; i++) {
        const double t0 = seconds();
        TRY(b->d->ops->copy(b->cx, b->d, i % 2 ? COPY_TO_HOST : COPY_TO_DEVICE, host, device,
                            bytes));
        best[i % 2] = fmin(best[i % 2], seconds() - t0);
    }
    out->ok = true;
    snprintf(out->text, sizeof out->text, "%.2f GB/s to the device, %.2f back",
             1e-9 * (double)bytes / best[0], 1e-9 * (double)bytes / best[1]);
    return ST_OK;
}

static void check_copies(Bench *b, GtcCheck *out)
{
    enum { BYTES = 32 << 20 };
    const DeviceOps *ops = b->d->ops;
    void *host = ops->alloc(b->d, MEMORY_PINNED, BYTES),
         *device = ops->alloc(b->d, MEMORY_DEVICE, BYTES);
    snprintf(out->name, sizeof out->name, "copies");
    if (!host || !device)
        snprintf(out->text, sizeof out->text, "no memory for %d bytes%.100s", BYTES, b->d->trouble);
    else if (time_copies(b, host, device, BYTES, out) != ST_OK)
        snprintf(out->text, sizeof out->text, "%.190s", b->cx->msg);
    ops->release(b->d, MEMORY_PINNED, host);
    ops->release(b->d, MEMORY_DEVICE, device);
}

Status gtc_device_check(Ctx *cx, GtcDevice *d, GtcCheck *out, int max, int *n)
{
    static const int64_t bytes[4] = { 4 * N, 4 * N, 4 * N, 4 };
    const DeviceOps *ops = d->ops;
    Ctx quiet = *cx; /* what fails is in out */
    *n = 0;
    if (!ops->copy)
        return FAIL(cx, USAGE, "%s is no GPU; gtc verify tries its kernels", ops->name);
    Bench *b = d->os->alloc(sizeof *b);
    if (!b)
        return FAIL(cx, MEMORY, "no memory to check a device");
    b->cx = &quiet;
    b->d = d;
    bool room = true;
    for (int i = 0; i < 4; i++)
        room &= (b->arg[i] = ops->alloc(d, MEMORY_DEVICE, bytes[i])) != NULL;
    for (int i = 0; room && i < NCHECK && *n < max; i++) {
        memset(&out[*n], 0, sizeof *out);
        if (!checks[i].all_smem || d->target.smem_bytes > STATIC_SMEM)
            check_one(b, &checks[i], &out[(*n)++]);
    }
    if (room && *n < max) {
        memset(&out[*n], 0, sizeof *out);
        check_copies(b, &out[(*n)++]);
    }
    for (int i = 0; i < 4; i++)
        ops->release(d, MEMORY_DEVICE, b->arg[i]);
    d->os->release(b);
    return room ? ST_OK : FAIL(cx, MEMORY, "no memory to check a device%s", d->trouble);
}
