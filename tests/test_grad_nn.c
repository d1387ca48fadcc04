/* SPDX-License-Identifier: Apache-2.0 */
/* The gradient of every composite, by every float it takes, against forward mode and central
 * differences.  ir/build_nn.h is read for what there is: one without a case here fails. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/base/os.h"
#include "ir/build_nn.h"
#include "tests/gradient_check.h"

#define S(...) shape_of((int)(sizeof(int64_t[]){ __VA_ARGS__ } / sizeof(int64_t)), __VA_ARGS__)

typedef struct Case {
    Builder b;
    int variant;
    Ref out[4];
    int nout;
} Case;

static Ref real(Case *c, Shape s)
{
    const char *name = arena_printf(c->b.g->arena, "x%u", c->b.g->ninput);
    return build_input(&c->b, INPUT_param, name, DT_F32, s);
}

static Ref other(Case *c, DType dt, Shape s)
{
    const char *name = arena_printf(c->b.g->arena, "x%u", c->b.g->ninput);
    return build_input(&c->b, INPUT_batch, name, dt, s);
}

static Ref i32(Case *c, double value)
{
    return build_scalar(&c->b, DT_I32, value);
}

static void give(Case *c, Ref r)
{
    c->out[c->nout++] = r;
}

/* A case with nothing to give is one too many. */
static void grad_activation(Case *c)
{
    if (c->variant <= ACT_SOFTMAX)
        give(c, build_activation(&c->b, (Activation)c->variant, real(c, S(3L, 7L)), 0.3));
}

static void grad_prelu(Case *c)
{
    if (c->variant < 2)
        give(c, build_prelu(&c->b, real(c, S(3L, 4L)), real(c, S(c->variant ? 4L : 1L))));
}

static void grad_softmax(Case *c)
{
    if (c->variant < 3)
        give(c, build_softmax(&c->b, real(c, S(3L, 4L, 2L)), c->variant));
}

static void grad_log_softmax(Case *c)
{
    if (c->variant < 3)
        give(c, build_log_softmax(&c->b, real(c, S(3L, 4L, 2L)), c->variant));
}

static void grad_sort(Case *c)
{
    if (c->variant < 4)
        give(c, build_sort(&c->b, real(c, S(3L, 5L)), c->variant / 2, c->variant % 2, NULL));
}

static void grad_top_k(Case *c)
{
    if (c->variant < 2)
        give(c, build_top_k(&c->b, real(c, S(4L, 5L)), c->variant, 3, NULL));
}

static void grad_linear(Case *c)
{
    if (c->variant < 2)
        give(c, build_linear(&c->b, real(c, S(2L, 3L, 4L)), real(c, S(5L, 4L)),
                             c->variant ? real(c, S(5L)) : REF_NONE));
}

static void grad_add_bias(Case *c)
{
    if (c->variant < 1)
        give(c, build_add_bias(&c->b, real(c, S(2L, 3L, 4L)), real(c, S(4L))));
}

static const ConvShape conv_shape[] = {
    { 1, { 1 }, { 1 }, { 1 }, { 1 }, 1 },
    { 1, { 2 }, { 2 }, { 3 }, { 0 }, 2 },
    { 2, { 2, 1 }, { 1, 2 }, { 0, 1 }, { 1, 2 }, 1 },
    { 2, { 1, 2 }, { 1, 1 }, { 1, 1 }, { 1, 1 }, 4 },
    { 3, { 1, 1, 2 }, { 1, 1, 1 }, { 1, 0, 0 }, { 0, 0, 1 }, 2 },
};
enum { NCONV = sizeof conv_shape / sizeof *conv_shape };

static Shape spatial(int64_t first, int n, int64_t last)
{
    static const int64_t extent[] = { 5, 4, 3 };
    Shape s = { .rank = (int8_t)(n + 2) };
    s.dim[0] = first;
    memcpy(s.dim + 1, extent, (size_t)n * sizeof *extent);
    s.dim[n + 1] = last;
    return s;
}

static Shape kernels(int64_t out, int64_t in, int n)
{
    static const int64_t extent[] = { 2, 3, 2 };
    Shape s = { .rank = (int8_t)(n + 2), .dim = { out, in } };
    memcpy(s.dim + 2, extent, (size_t)n * sizeof *extent);
    return s;
}

static void grad_conv(Case *c)
{
    if (c->variant >= NCONV)
        return;
    const ConvShape *s = &conv_shape[c->variant];
    give(c,
         build_conv(&c->b, real(c, spatial(2, s->n, 4)), real(c, kernels(4, 4 / s->groups, s->n)),
                    c->variant % 2 ? REF_NONE : real(c, S(4L)), s));
}

static void grad_conv_transpose(Case *c)
{
    if (c->variant >= NCONV)
        return;
    const ConvShape *s = &conv_shape[c->variant];
    ConvShape wide = *s;
    for (int i = 0; i < 3; i++) /* so that every window is inside */
        wide.lo[i] += 4, wide.hi[i] += 4;
    give(c, build_conv_transpose(&c->b, real(c, spatial(2, s->n, 4)),
                                 real(c, kernels(4, 4 / s->groups, s->n)),
                                 c->variant % 2 ? REF_NONE : real(c, S(4L)), &wide));
}

static void grad_pool(Case *c)
{
    static const int64_t kernel[] = { 2, 3 }, stride[] = { 2, 1 };
    if (c->variant < 4)
        give(c, build_pool(&c->b, c->variant % 2 ? OP_amax : OP_sum,
                           real(c, spatial(2, 1 + c->variant / 2, 3)), 1 + c->variant / 2, kernel,
                           stride));
}

static void grad_global_pool(Case *c)
{
    if (c->variant < 4)
        give(c, build_global_pool(&c->b, c->variant % 2 ? OP_amax : OP_sum,
                                  real(c, spatial(2, 1 + c->variant / 2, 3))));
}

static void grad_mask_rows(Case *c)
{
    if (c->variant < 2)
        give(c, build_mask_rows(&c->b, real(c, S(5L, 3L)),
                                c->variant ? other(c, DT_BOOL, S(5L)) : REF_NONE));
}

static void grad_squared_deviations(Case *c)
{
    if (c->variant >= 2)
        return;
    const Ref x = real(c, S(5L, 3L));
    const unsigned axes = c->variant ? 3 : 1;
    const Ref sum = build_reduce(&c->b, OP_sum, x, axes);
    const Ref mean = build_scale(&c->b, sum, c->variant ? 1.0 / 15 : 1.0 / 5);
    give(c, build_squared_deviations(&c->b, x, mean, REF_NONE, axes));
}

static BatchNorm batch_norm(Case *c)
{
    BatchNorm n = { .count = build_scalar(&c->b, DT_F32, 5), .eps = 1e-3, .momentum = 0.1 };
    n.weight = real(c, S(3L));
    n.bias = real(c, S(3L));
    n.running_mean = real(c, S(3L));
    n.running_var = build_shift(&c->b, real(c, S(3L)), 1);
    if (c->variant % 2) {
        n.valid = other(c, DT_BOOL, S(5L));
        n.count = build_op2(&c->b, OP_max, build_scalar(&c->b, DT_F32, 1),
                            build_reduce(&c->b, OP_sum, build_cast(&c->b, n.valid, DT_F32), 1));
    }
    return n;
}

static void grad_batch_norm_train(Case *c)
{
    if (c->variant >= 4)
        return;
    const BatchNorm n = batch_norm(c);
    Ref mean, var;
    give(c, build_batch_norm_train(&c->b, real(c, c->variant < 2 ? S(5L, 3L) : S(5L, 2L, 3L)), &n,
                                   &mean, &var));
    give(c, mean);
    give(c, var);
}

static void grad_batch_norm_eval(Case *c)
{
    if (c->variant >= 1)
        return;
    const BatchNorm n = batch_norm(c);
    give(c, build_batch_norm_eval(&c->b, real(c, S(5L, 2L, 3L)), &n));
}

static void grad_layer_norm(Case *c)
{
    if (c->variant >= 3)
        return;
    const Shape over = c->variant ? S(3L, 4L) : S(4L);
    const Ref w = c->variant < 2 ? real(c, over) : REF_NONE;
    const Ref bias = c->variant < 2 ? real(c, over) : REF_NONE;
    give(c, build_layer_norm(&c->b, real(c, S(2L, 3L, 4L)), over.rank, w, bias, 1e-3));
}

static void grad_rms_norm(Case *c)
{
    if (c->variant >= 2)
        return;
    const Shape over = c->variant ? S(3L, 4L) : S(4L);
    give(c, build_rms_norm(&c->b, real(c, S(2L, 3L, 4L)), over.rank,
                           c->variant ? REF_NONE : real(c, over), 1e-3));
}

static void grad_group_norm(Case *c)
{
    static const int64_t groups[] = { 1, 2, 4 };
    if (c->variant < 3)
        give(c, build_group_norm(&c->b, real(c, S(2L, 3L, 4L)), groups[c->variant],
                                 c->variant ? real(c, S(4L)) : REF_NONE,
                                 c->variant ? real(c, S(4L)) : REF_NONE, 1e-3));
}

static void grad_dropout(Case *c)
{
    if (c->variant < 1)
        give(c, build_dropout(&c->b, real(c, S(4L, 5L)), 0.4, i32(c, 1), i32(c, 2), i32(c, 3),
                              i32(c, 0), i32(c, 0)));
}

/* variant: all steps or the last, forwards or backwards */
static Recurrent recurrent(Case *c, int64_t gates)
{
    Recurrent r = { .reverse = c->variant / 2 };
    r.w_ih = real(c, S(3 * gates, 2L));
    r.w_hh = real(c, S(3 * gates, 3L));
    r.bias = real(c, S(3 * gates));
    return r;
}

static void grad_rnn(Case *c)
{
    if (c->variant >= 4)
        return;
    const Recurrent r = recurrent(c, 1);
    give(c, build_rnn(&c->b, real(c, S(4L, 2L, 2L)), &r, c->variant % 2));
}

static void grad_lstm(Case *c)
{
    if (c->variant >= 4)
        return;
    const Recurrent r = recurrent(c, 4);
    give(c, build_lstm(&c->b, real(c, S(4L, 2L, 2L)), &r, c->variant % 2));
}

static void grad_gru(Case *c)
{
    if (c->variant >= 4)
        return;
    Recurrent r = recurrent(c, 3);
    r.bias_hn = real(c, S(3L));
    give(c, build_gru(&c->b, real(c, S(4L, 2L, 2L)), &r, c->variant % 2));
}

static void grad_attention_pool(Case *c)
{
    if (c->variant >= 2)
        return;
    Ref weights;
    give(c, build_attention_pool(&c->b, real(c, S(2L, 5L, 3L)), real(c, S(1L, 3L)), real(c, S(1L)),
                                 c->variant, &weights));
    give(c, weights);
}

static Ref halve(void *arg, Ref p)
{
    return build_scale(arg, p, 0.5);
}

static void grad_attention(Case *c)
{
    if (c->variant >= 5)
        return;
    Attention a = { .heads = 2, .causal = c->variant % 2 };
    if (c->variant == 2)
        a.mask = other(c, DT_BOOL, S(2L, 4L));
    if (c->variant >= 3)
        a.rotary = 100;
    if (c->variant == 4) {
        a.drop = halve;
        a.drop_arg = &c->b;
    }
    const Ref q = real(c, S(2L, c->variant == 1 ? 4L : 3L, 4L));
    give(c, build_attention(&c->b, q, real(c, S(2L, 4L, 4L)), real(c, S(2L, 4L, 4L)), &a));
}

static void grad_huber(Case *c)
{
    if (c->variant < 2)
        give(c, build_huber(&c->b, real(c, S(4L, 3L)), real(c, S(4L, 3L)), c->variant ? 0.1 : 2));
}

static void grad_bce(Case *c)
{
    if (c->variant < 1)
        give(c, build_bce(&c->b, real(c, S(4L, 3L)), real(c, S(4L, 3L))));
}

static void grad_cross_entropy(Case *c)
{
    if (c->variant < 3)
        give(c, build_cross_entropy(&c->b, real(c, c->variant == 2 ? S(2L, 3L, 4L) : S(5L, 3L)),
                                    other(c, DT_I32, c->variant == 2 ? S(2L, 3L) : S(5L)),
                                    0.1 * c->variant));
}

static void grad_focal(Case *c)
{
    if (c->variant < 2)
        give(c,
             build_focal(&c->b, real(c, S(5L, 3L)), other(c, DT_I32, S(5L)), c->variant ? 2 : 1.5));
}

static void grad_quantile(Case *c)
{
    if (c->variant < 1)
        give(c, build_quantile(&c->b, real(c, S(4L, 3L)), real(c, S(4L, 3L)), 0.3));
}

static void grad_kl(Case *c)
{
    if (c->variant < 1)
        give(c, build_kl(&c->b, real(c, S(4L, 3L)), build_softmax(&c->b, real(c, S(4L, 3L)), 1)));
}

static void grad_einsum(Case *c)
{
    static const char *const equation[] = { "ijk,lkj->il", "jik,jkl->jil", "ijk,lkj->jik" };
    Ref x[2];
    if (c->variant >= 3)
        return;
    x[0] = real(c, S(2L, 3L, 4L));
    x[1] = real(c, c->variant == 1 ? S(2L, 4L, 2L) : S(5L, 4L, 3L));
    give(c, build_einsum(&c->b, equation[c->variant], x, 2));
}

static const struct {
    const char *name;
    void (*make)(Case *c); /* NULL: nothing to differentiate */
} ROW[] = {
    { "open", NULL },
    { "close", NULL },
    { "is_correct", NULL },     /* bool */
    { "argmax", NULL },         /* i32 */
    { "sine_positions", NULL }, /* takes nothing */
#define ROW(name)                                                                                  \
    {                                                                                              \
#name, grad_##name                                                                         \
    }
    ROW(activation),
    ROW(prelu),
    ROW(softmax),
    ROW(log_softmax),
    ROW(sort),
    ROW(top_k),
    ROW(einsum),
    ROW(linear),
    ROW(add_bias),
    ROW(conv),
    ROW(conv_transpose),
    ROW(pool),
    ROW(global_pool),
    ROW(mask_rows),
    ROW(squared_deviations),
    ROW(batch_norm_train),
    ROW(batch_norm_eval),
    ROW(layer_norm),
    ROW(rms_norm),
    ROW(group_norm),
    ROW(dropout),
    ROW(rnn),
    ROW(lstm),
    ROW(gru),
    ROW(attention_pool),
    ROW(attention),
    ROW(huber),
    ROW(bce),
    ROW(cross_entropy),
    ROW(focal),
    ROW(quantile),
    ROW(kl),
};
enum { NROW = sizeof ROW / sizeof *ROW };

static void check_row(Ctx *cx, int row, GradientCount *count)
{
    for (int variant = 0; ROW[row].make; variant++) {
        Arena *arena = arena_new();
        Case c = { .b = build_start(cx, graph_new(arena)), .variant = variant };
        const GradientOptions opt = { .seed = (uint64_t)(100 * row + variant), .floor = 1e-15 };
        ROW[row].make(&c);
        if (c.b.status != ST_OK)
            fail_msg("%s, case %d: %s", ROW[row].name, variant, cx->msg);
        if (c.nout)
            gradient_check(cx, c.b.g, c.out, c.nout, &opt, count);
        arena_free(arena);
        if (c.nout == 0) {
            assert_true(variant > 0);
            return;
        }
    }
}

static int find_row(const char *name, size_t n)
{
    for (int i = 0; i < NROW; i++)
        if (strlen(ROW[i].name) == n && memcmp(ROW[i].name, name, n) == 0)
            return i;
    return -1;
}

static void every_composite(void **state)
{
    (void)state;
    Ctx ctx, *cx = &ctx;
    ctx_init(cx);
    char *text = NULL;
    size_t size;
    GradientCount count = { 0 };
    int rows = 0;
    if (os_read_file(cx, "ir/build_nn.h", &text, &size) != ST_OK)
        fail_msg("%s", cx->msg);
    for (const char *at = text; (at = strstr(at, " build_")) != NULL;) {
        at += strlen(" build_");
        size_t n = 0;
        while (islower((unsigned char)at[n]) || at[n] == '_')
            n++;
        if (at[n] != '(')
            continue;
        const int row = find_row(at, n);
        if (row < 0)
            fail_msg("build_%.*s has no case", (int)n, at);
        check_row(cx, row, &count);
        rows++;
    }
    free(text);
    print_message("%d composites, %lld directions, %lld of them flat, %lld over a kink\n", rows,
                  (long long)count.directions, (long long)count.flat, (long long)count.kinks);
    assert_int_equal(rows, NROW);
    assert_int_equal(count.kinks + count.infinite, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_composite) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
