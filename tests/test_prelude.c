/* SPDX-License-Identifier: Apache-2.0 */
/* The prelude of generated C, by every compiler and lane count of this machine: each function
 * against libm in double over all exponents, vectors against scalars bit by bit, narrow types
 * against the rules of IEEE 754, random numbers against rng_rand_op. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <math.h>

#include <cmocka.h>

#include "codegen/kernel.h"
#include "ir/base/rng.h"
#include "tests/cc.h"

typedef void Map(const float *x, float *y, long n);

static double exact_floor(double x)
{
    return floor(x);
}
static double exact_abs(double x)
{
    return fabs(x);
}
static double exact_sqrt(double x)
{
    return sqrt(x);
}
/* 1 / (the float root), as the op is defined by two rounded steps. */
static double exact_rsqrt(double x)
{
    return 1 / sqrt(x);
}
static double exact_exp(double x)
{
    return exp(x);
}
static double exact_expm1(double x)
{
    return expm1(x);
}
static double exact_log(double x)
{
    return log(x);
}
static double exact_log1p(double x)
{
    return log1p(x);
}
static double exact_tanh(double x)
{
    return tanh(x);
}
static double exact_sigmoid(double x)
{
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}
static double exact_erf(double x)
{
    return erf(x);
}
static double exact_sin(double x)
{
    return sin(x);
}
static double exact_cos(double x)
{
    return cos(x);
}

#define FUNCTIONS(F)                                                                               \
    F(floor, 0)                                                                                    \
    F(abs, 0) F(sqrt, .5001) F(rsqrt, 1.6) F(exp, 1.5) F(expm1, 2) F(log, 1.5) F(log1p, 2)         \
        F(tanh, 3) F(sigmoid, 2.5) F(erf, 2) F(sin, 1.2) F(cos, 1.2)

static const struct {
    const char *name;
    double (*exact)(double);
    double ulp;
} FN[] = {
#define ROW(name, ulp) { #name, exact_##name, ulp },
    FUNCTIONS(ROW)
};
enum { NFN = sizeof FN / sizeof *FN };

static const char RUNNERS[] =
#define RUN(name, ulp)                                                                             \
    "void " #name "_v(const float *x, float *y, long n)\n"                                         \
    "{ for (long i = 0; i < n; i += GTC_LANES) {\n"                                                \
    "  const gtc_vf v = gtc_load_f(x + i); gtc_store_f(y + i, gtc_" #name "(v)); } }\n"            \
    "void " #name "_s(const float *x, float *y, long n)\n"                                         \
    "{ for (long i = 0; i < n; i++) y[i] = gtc_" #name "(x[i]); }\n"
    FUNCTIONS(
        RUN) "void load_h(const unsigned short *x, float *y, long n)\n"
             "{ for (long i = 0; i < n; i += GTC_LANES) gtc_store_f(y + i, gtc_load_h(x + i)); }\n"
             "void load_bf(const unsigned short *x, float *y, long n)\n"
             "{ for (long i = 0; i < n; i += GTC_LANES) gtc_store_f(y + i, gtc_load_bf(x + i)); }\n"
             "void store_h(const float *x, unsigned short *y, long n)\n"
             "{ for (long i = 0; i < n; i += GTC_LANES) gtc_store_h(y + i, gtc_load_f(x + i)); }\n"
             "void store_bf(const float *x, unsigned short *y, long n)\n"
             "{ for (long i = 0; i < n; i += GTC_LANES) gtc_store_bf(y + i, gtc_load_f(x + i)); }\n"
             "void half_s(const float *x, unsigned short *h, unsigned short *b, float *yh, float "
             "*yb, long n)\n"
             "{ for (long i = 0; i < n; i++) { h[i] = gtc_h_from_f(x[i]); b[i] = "
             "gtc_bf_from_f(x[i]);\n"
             "  yh[i] = gtc_f_from_h(h[i]); yb[i] = gtc_f_from_bf(b[i]); } }\n"
             "void rand_both(unsigned a, unsigned b, unsigned c, unsigned d, long i, float *v, "
             "float *s)\n"
             "{ gtc_store_f(v, gtc_rand_vf(a, b, c, d, i));\n"
             "  for (int l = 0; l < GTC_LANES; l++) s[l] = gtc_rand_f(a, b, c, d, i + l); }\n"
             "void maxmin(const float *x, const float *y, float *r)\n"
             "{ const gtc_vf a = gtc_load_f(x), b = gtc_load_f(y);\n"
             "  gtc_store_f(r, gtc_max(a, b)); gtc_store_f(r + GTC_LANES, gtc_min(a, b));\n"
             "  for (int l = 0; l < GTC_LANES; l++) {\n"
             "    r[2 * GTC_LANES + l] = gtc_max(x[l], y[l]); r[3 * GTC_LANES + l] = gtc_min(x[l], "
             "y[l]); }\n"
             "}\n"
             "void across(const float *x, float *r)\n"
             "{ const gtc_vf a = gtc_load_f(x); const gtc_vi i = gtc_i_from_f_v(a);\n"
             "  r[0] = gtc_hadd_f(a); r[1] = gtc_hmax_f(a); r[2] = gtc_hmin_f(a);\n"
             "  r[3] = gtc_hadd_i(i); r[4] = gtc_hmax_i(i); r[5] = gtc_hmin_i(i); }\n"
             "void casts(const float *x, int *v, int *s, long *w)\n"
             "{ gtc_store_i(v, gtc_i_from_f_v(gtc_load_f(x)));\n"
             "  for (int l = 0; l < GTC_LANES; l++) { s[l] = gtc_i_from_f_s(x[l]); w[l] = "
             "gtc_l_from_f(x[l]); } }\n"
             "void divide(const int *a, const int *b, int *q)\n"
             "{ const gtc_vi x = gtc_load_i(a), y = gtc_load_i(b); gtc_store_i(q, gtc_div(x, y)); "
             "}\n"
             "void parts(const float *x, float *y, const unsigned char *b, int *m)\n"
             "{ gtc_store_f(y, gtc_load_f_part(x, 3, 7.0f)); gtc_store_f_part(y + GTC_LANES, "
             "gtc_load_f(x), 3);\n"
             "  gtc_store_i(m, gtc_load_b_part(b, 2, -1)); gtc_store_i(m + GTC_LANES, "
             "gtc_load_u_part(b, 3, 9)); }\n";

static uint32_t bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float from_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Every exponent, and in each the ends and a spread of mantissas; then what the ranges miss. */
static float *sample(long *n)
{
    enum { SPREAD = 600 };
    const long most = 2 * 256 * (SPREAD + 4) + 400000;
    float *x = malloc((size_t)(most + 64) * sizeof *x);
    uint32_t noise = 12345;
    *n = 0;
    for (uint32_t e = 0; e < 512; e++)
        for (uint32_t i = 0; i < SPREAD + 4; i++) {
            noise = noise * 1664525u + 1013904223u;
            const uint32_t edge[] = { 0, 1, 0x7fffff, 0x3504f3 };
            x[(*n)++] = from_bits(e << 23 | (i < 4 ? edge[i] : noise >> 9));
        }
    for (int i = 0; i < 200000; i++) { /* where the functions bend */
        x[(*n)++] = (float)(-110 + i * 0.0011);
        x[(*n)++] = (float)(-5 + i * 0.00005);
    }
    while (*n % 16)
        x[(*n)++] = 0.5f;
    return x;
}

static double ulps(float got, double want)
{
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got) ? 0 : INFINITY;
    const float w = (float)want;
    if (isinf(w) || isinf(got))
        return w == got ? 0 : fabs(want) > 3.402823e38 && fabsf(got) > 3.402823e38f ? 0 : INFINITY;
    int e;
    frexp(want, &e);
    const double ulp = ldexp(1, (e - 24 > -149 ? e - 24 : -149));
    return fabs((double)got - want) / ulp;
}

static void check_functions(void *lib, const char *who)
{
    long n;
    float *x = sample(&n), *v = malloc((size_t)n * 4), *s = malloc((size_t)n * 4);
    for (int f = 0; f < NFN; f++) {
        char name[32];
        Map *vec, *scalar;
        snprintf(name, sizeof name, "%s_v", FN[f].name);
        CC_SYMBOL(lib, name, vec);
        snprintf(name, sizeof name, "%s_s", FN[f].name);
        CC_SYMBOL(lib, name, scalar);
        vec(x, v, n);
        scalar(x, s, n);
        double worst = 0;
        long at = 0, differ = 0;
        for (long i = 0; i < n; i++) {
            const double u = ulps(v[i], FN[f].exact(x[i]));
            if (u > worst) {
                worst = u;
                at = i;
            }
            differ += bits(v[i]) != bits(s[i]) && !(isnan(v[i]) && isnan(s[i]));
        }
        printf("  %-22s %-8s %.3f ulp at %a\n", who, FN[f].name, worst, (double)x[at]);
        if (worst > FN[f].ulp)
            fail_msg("%s: %s(%a) is %a, wanted %a", who, FN[f].name, (double)x[at], (double)v[at],
                     FN[f].exact(x[at]));
        if (differ)
            fail_msg("%s: %s: vector and scalar differ %ld times", who, FN[f].name, differ);
    }
    free(x);
    free(v);
    free(s);
}

/* ---- narrow types */

static double half_value(uint32_t h, int mantissa, int bias)
{
    const uint32_t top = (1u << (15 - mantissa)) - 1, e = h >> mantissa & top;
    const uint32_t m = h & ((1u << mantissa) - 1);
    double x = e == top ? (m ? NAN : INFINITY)
               : e == 0 ? ldexp(m, 1 - bias - mantissa)
                        : ldexp(m + (1u << mantissa), (int)e - bias - mantissa);
    return h & 0x8000 ? -x : x;
}

/* x is nearest to the value of h, and h is even when it lies between two. */
static bool rounds_to(float x, uint32_t h, int mantissa, int bias)
{
    if (isnan(x))
        return isnan(half_value(h, mantissa, bias));
    if ((h & 0x8000) != bits(x) >> 16 % 32 >> 15 << 15 && x != 0)
        return false;
    const uint32_t inf = ((1u << (15 - mantissa)) - 1) << mantissa, a = h & 0x7fff;
    if (a > inf)
        return false;
    const double t = fabs((double)x),
                 here = a == inf ? ldexp(1, bias + 1) : half_value(a, mantissa, bias);
    const double up = a >= inf       ? INFINITY
                      : a + 1 == inf ? ldexp(1, bias + 1)
                                     : half_value(a + 1, mantissa, bias);
    const double down = a == 0 ? -1 : half_value(a - 1, mantissa, bias);
    const double hi = a == inf ? INFINITY : (here + up) / 2, lo = a == 0 ? -1 : (here + down) / 2;
    return t < hi ? t > lo || (t == lo && a % 2 == 0) : t == hi && (a % 2 == 0 || isinf(hi));
}

static void check_halves(void *lib)
{
    static const struct {
        const char *load, *store;
        int mantissa, bias;
    } KIND[] = { { "load_h", "store_h", 10, 15 }, { "load_bf", "store_bf", 7, 127 } };
    long n;
    float *x = sample(&n), *all = malloc(65536 * 4), *yh = malloc((size_t)n * 4),
          *yb = malloc((size_t)n * 4);
    uint16_t *h[2] = { malloc((size_t)n * 2), malloc((size_t)n * 2) };
    uint16_t *hs[2] = { malloc((size_t)n * 2), malloc((size_t)n * 2) };
    uint16_t *every = malloc(65536 * 2);
    for (uint32_t i = 0; i < 65536; i++)
        every[i] = (uint16_t)i;
    for (int k = 0; k < 2; k++) {
        void (*load)(const uint16_t *, float *, long), (*store)(const float *, uint16_t *, long);
        CC_SYMBOL(lib, KIND[k].load, load);
        CC_SYMBOL(lib, KIND[k].store, store);
        load(every, all, 65536);
        for (uint32_t i = 0; i < 65536; i++) {
            const double want = half_value(i, KIND[k].mantissa, KIND[k].bias);
            if (isnan(want) ? !isnan(all[i]) : (double)all[i] != want)
                fail_msg("%s(%04x) is %a, not %a", KIND[k].load, i, (double)all[i], want);
        }
        store(x, h[k], n);
        for (long i = 0; i < n; i++)
            if (!rounds_to(x[i], h[k][i], KIND[k].mantissa, KIND[k].bias))
                fail_msg("%s(%a) is %04x", KIND[k].store, (double)x[i], h[k][i]);
    }
    void (*scalar)(const float *, uint16_t *, uint16_t *, float *, float *, long);
    CC_SYMBOL(lib, "half_s", scalar);
    scalar(x, hs[0], hs[1], yh, yb, n);
    assert_memory_equal(h[0], hs[0], (size_t)n * 2);
    assert_memory_equal(h[1], hs[1], (size_t)n * 2);
    for (long i = 0; i < n; i++) {
        assert_true(isnan(x[i]) || (double)yh[i] == half_value(h[0][i], 10, 15));
        assert_true(isnan(x[i]) || (double)yb[i] == half_value(h[1][i], 7, 127));
    }
    for (int k = 0; k < 2; k++) {
        free(h[k]);
        free(hs[k]);
    }
    free(x);
    free(all);
    free(yh);
    free(yb);
    free(every);
}

/* ---- the rest */

static void check_rand(void *lib, int lanes)
{
    void (*fn)(uint32_t, uint32_t, uint32_t, uint32_t, long, float *, float *);
    CC_SYMBOL(lib, "rand_both", fn);
    static const long AT[] = { 0, 1, 2, 3, 4, 5, 1023, 17179869180, 17179869183, 1234567890123 };
    for (size_t i = 0; i < sizeof AT / sizeof *AT; i++) {
        float v[16], s[16];
        fn(7 + (uint32_t)i, 0xfedcba98u, (uint32_t)i * 77, 3, AT[i], v, s);
        for (int l = 0; l < lanes; l++) {
            const float want = rng_rand_op(7 + (uint32_t)i, 0xfedcba98u, (uint32_t)i * 77, 3,
                                           (uint64_t)AT[i] + (uint64_t)l);
            assert_int_equal(bits(v[l]), bits(want));
            assert_int_equal(bits(s[l]), bits(want));
        }
    }
}

static void check_max(void *lib, int lanes)
{
    void (*fn)(const float *, const float *, float *);
    CC_SYMBOL(lib, "maxmin", fn);
    const float pick[] = { NAN, 1, -2, INFINITY, -INFINITY, 3, 0 };
    for (int i = 0; i < 7; i++)
        for (int j = 0; j < 7; j++) {
            float x[16], y[16], r[64];
            for (int l = 0; l < 16; l++) {
                x[l] = pick[i];
                y[l] = pick[j];
            }
            fn(x, y, r);
            const bool nan = isnan(pick[i]) || isnan(pick[j]);
            for (int l = 0; l < 4 * lanes; l++) {
                const bool max = l / lanes % 2 == 0;
                const float want = max == (pick[i] > pick[j]) ? pick[i] : pick[j];
                assert_true(nan ? isnan(r[l]) : r[l] == want);
            }
        }
}

static void check_across(void *lib, int lanes)
{
    void (*fn)(const float *, float *);
    CC_SYMBOL(lib, "across", fn);
    for (int at = 0; at < lanes; at++) {
        float x[16], r[6], sum = 0;
        for (int l = 0; l < 16; l++)
            x[l] = (float)(l == at ? 100 : l - 8);
        for (int l = 0; l < lanes; l++)
            sum += x[l];
        fn(x, r);
        const float least = at == 0 ? -7 : -8;
        assert_true(r[0] == sum && r[1] == 100 && r[2] == least);
        assert_true(r[3] == sum && r[4] == 100 && r[5] == least);
        x[at] = NAN;
        fn(x, r);
        assert_true(isnan(r[0]) && isnan(r[1]) && isnan(r[2]));
    }
}

static void check_casts(void *lib, int lanes)
{
    void (*fn)(const float *, int *, int *, long *);
    CC_SYMBOL(lib, "casts", fn);
    static const struct {
        float x;
        int i;
        long l;
    } ROW[] = {
        { 1.9f, 1, 1 },
        { -1.9f, -1, -1 },
        { NAN, 0, 0 },
        { 0x1p31f, INT32_MAX, 1L << 31 },
        { -0x1p31f, INT32_MIN, -(1L << 31) },
        { 1e30f, INT32_MAX, INT64_MAX },
        { -INFINITY, INT32_MIN, INT64_MIN },
        { 2147483520.0f, 2147483520, 2147483520 },
    };
    for (size_t r = 0; r < sizeof ROW / sizeof *ROW; r++) {
        float x[16];
        int v[16], s[16];
        long w[16];
        for (int l = 0; l < 16; l++)
            x[l] = ROW[r].x;
        fn(x, v, s, w);
        for (int l = 0; l < lanes; l++) {
            assert_int_equal(v[l], ROW[r].i);
            assert_int_equal(s[l], ROW[r].i);
            assert_true(w[l] == ROW[r].l);
        }
    }
    void (*divide)(const int *, const int *, int *);
    CC_SYMBOL(lib, "divide", divide);
    const int a[16] = { 7, -7, 7, -7, 1, 0, INT32_MIN, 5, 7, -7, 7, -7, 1, 0, INT32_MIN, 5 };
    const int b[16] = { 2, 2, 0, 0, -1, 0, -1, 9, 2, 2, 0, 0, -1, 0, -1, 9 };
    const int want[16] = { 3, -3, INT32_MAX, INT32_MIN, -1, 0, INT32_MAX, 0,
                           3, -3, INT32_MAX, INT32_MIN, -1, 0, INT32_MAX, 0 };
    int q[16];
    divide(a, b, q);
    assert_memory_equal(q, want, (size_t)lanes * 4);
}

static void check_parts(void *lib, int lanes)
{
    void (*fn)(const float *, float *, const uint8_t *, int *);
    CC_SYMBOL(lib, "parts", fn);
    float x[16], y[32];
    int m[32];
    const uint8_t b[3] = { 0, 1, 200 };
    for (int l = 0; l < 16; l++)
        x[l] = (float)l;
    for (int l = 0; l < 32; l++)
        y[l] = -1;
    fn(x, y, b, m);
    for (int l = 0; l < lanes; l++) {
        assert_true(y[l] == (l < 3 ? (float)l : 7.0f));
        assert_true(y[lanes + l] == (l < 3 ? (float)l : -1.0f));
        assert_int_equal(m[l], l == 0 ? 0 : -1);
        assert_int_equal(m[lanes + l], l < 3 ? b[l] : 9);
    }
}

static void test_prelude(void **state)
{
    (void)state;
    int done = 0;
    for (int cc = 0; cc < CC_COUNT; cc++)
        for (int lanes = 4; lanes <= 16; lanes *= 2)
            for (int ubsan = 0; ubsan < 2; ubsan++) {
                if (!cc_present(cc) || !cc_march(lanes))
                    continue;
                char who[64];
                snprintf(who, sizeof who, "%s %d%s", CC_NAME[cc], lanes, ubsan ? " ubsan" : "");
                Strbuf text = { 0 };
                strbuf_add(&text, kernel_prelude_c(lanes));
                strbuf_add(&text, RUNNERS);
                void *lib = cc_load(cc, lanes, ubsan, strbuf_str(&text));
                assert_non_null(lib);
                check_functions(lib, who);
                check_halves(lib);
                check_rand(lib, lanes);
                check_max(lib, lanes);
                check_across(lib, lanes);
                check_casts(lib, lanes);
                check_parts(lib, lanes);
                dlclose(lib);
                strbuf_free(&text);
                done++;
            }
    if (!done) {
        print_message("no C compiler here\n");
        exit(77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_prelude) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
