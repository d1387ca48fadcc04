/* SPDX-License-Identifier: Apache-2.0 */
/* Random equations of einsum against one loop over all their letters, what it refuses, and argmax.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ir/base/rng.h"
#include "ir/build_nn.h"
#include "ir/eval.h"

enum { LETTERS = 6, OPERANDS = 4, MOST = 4 };

typedef struct Random {
    char equation[64];
    int64_t extent[LETTERS];           /* of 'a' + i */
    char term[OPERANDS + 1][MOST + 1]; /* the last is the result */
    int n;
} Random;

/* Some letters in any order. */
static void draw(Rng *rng, unsigned from, char *out)
{
    int n = 0;
    const int most = (int)rng_below(rng, MOST + 1);
    for (int tries = 0; tries < 12 && n < most; tries++) {
        const int i = (int)rng_below(rng, LETTERS);
        if (from >> i & 1) {
            out[n++] = (char)('a' + i);
            from &= ~(1u << i);
        }
    }
    out[n] = '\0';
}

static Random random_equation(Rng *rng)
{
    static const int64_t extents[] = { 1, 2, 3, 5, 2, 3, 4, 0 };
    Random r = { .n = 1 + (int)rng_below(rng, OPERANDS) };
    unsigned all = 0;
    char *at = r.equation;
    for (int i = 0; i < LETTERS; i++)
        r.extent[i] = extents[rng_below(rng, rng_below(rng, 8) ? 7 : 8)];
    for (int k = 0; k < r.n; k++) {
        draw(rng, (1u << LETTERS) - 1, r.term[k]);
        for (const char *c = r.term[k]; *c; c++)
            all |= 1u << (*c - 'a');
        at += sprintf(at, "%s%s", k ? ", " : "", r.term[k]);
    }
    draw(rng, all, r.term[OPERANDS]);
    sprintf(at, " -> %s", r.term[OPERANDS]);
    return r;
}

static Shape shape_for(const Random *r, const char *letters)
{
    Shape s = { .rank = (int8_t)strlen(letters) };
    for (int i = 0; i < s.rank; i++)
        s.dim[i] = r->extent[letters[i] - 'a'];
    return s;
}

static int64_t place(const Random *r, const char *letters, const int64_t *at)
{
    int64_t p = 0;
    for (; *letters; letters++)
        p = p * r->extent[*letters - 'a'] + at[*letters - 'a'];
    return p;
}

/* One loop over every letter that is there. */
static void by_loop(const Random *r, const Tensor *in, double *y)
{
    int64_t at[LETTERS] = { 0 }, total = 1, extent[LETTERS];
    for (int i = 0; i < LETTERS; i++) {
        bool used = false;
        for (int k = 0; k < r->n; k++)
            used |= strchr(r->term[k], 'a' + i) != NULL;
        extent[i] = used ? r->extent[i] : 1;
        total *= extent[i];
    }
    for (int64_t step = 0; step < total; step++) {
        double product = 1;
        int64_t rest = step;
        for (int i = 0; i < LETTERS; i++) {
            at[i] = rest % extent[i];
            rest /= extent[i];
        }
        for (int k = 0; k < r->n; k++)
            product *= in[k].at[place(r, r->term[k], at)];
        y[place(r, r->term[OPERANDS], at)] += product;
    }
}

static void check_random(uint64_t seed)
{
    Ctx cx;
    Rng rng;
    Arena *arena = arena_new();
    ctx_init(&cx);
    rng_init(&rng, seed, 3);
    const Random r = random_equation(&rng);
    Builder b = build_start(&cx, graph_new(arena));
    Ref x[OPERANDS];
    Tensor in[OPERANDS], out;
    for (int k = 0; k < r.n; k++) {
        const Type t = { DT_F32, shape_for(&r, r.term[k]) };
        x[k] = build_input(&b, INPUT_batch, arena_printf(arena, "x%d", k), t.dt, t.shape);
        in[k] = tensor_new(arena, t);
        for (int64_t i = 0; i < shape_count(&t.shape); i++)
            in[k].at[i] = rng_normal(&rng);
    }
    build_output(&b, build_einsum(&b, r.equation, x, r.n), NULL);
    if (b.status != ST_OK || eval_graph(&cx, b.g, EVAL_F64, arena, in, &out) != ST_OK)
        fail_msg("%s: %s", r.equation, cx.msg);
    const Shape s = shape_for(&r, r.term[OPERANDS]);
    double *want = arena_array(arena, double, shape_count(&s) + 1);
    by_loop(&r, in, want);
    assert_true(shape_eq(&s, &out.type.shape));
    for (int64_t i = 0; i < shape_count(&s); i++)
        if (!(fabs(out.at[i] - want[i]) <= 1e-12 * (1 + fabs(want[i])) * 100))
            fail_msg("%s: [%d] wants %.17g, got %.17g", r.equation, (int)i, want[i], out.at[i]);
    arena_free(arena);
}

static void equations_are_their_loops(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 3000; seed++)
        check_random(seed);
}

static void refused(const char *equation, const Shape *s, int n, const char *words)
{
    Ctx cx;
    Arena *arena = arena_new();
    ctx_init(&cx);
    Builder b = build_start(&cx, graph_new(arena));
    Ref x[OPERANDS];
    for (int k = 0; k < n; k++)
        x[k] = build_input(&b, INPUT_batch, arena_printf(arena, "x%d", k), DT_F32, s[k]);
    assert_int_equal(build_einsum(&b, equation, x, n), REF_NONE);
    assert_int_equal(b.status, ST_VALUE);
    if (!strstr(cx.msg, words))
        fail_msg("%s: \"%s\" is not in \"%s\"", equation, words, cx.msg);
    arena_free(arena);
}

static void what_is_refused(void **state)
{
    (void)state;
    const Shape s[] = { shape_of(2, (int64_t)3, (int64_t)4), shape_of(2, (int64_t)4, (int64_t)5) };
    refused("ii->i", s, 1, "'i' twice in one operand");
    refused("ij->ijj", s, 1, "'j' twice");
    refused("ij,jk->ik", s, 1, "names 2 operands, got 1");
    refused("ij->ik", s, 1, "'k' of the result is in no operand");
    refused("ijk->i", s, 1, "operand 1 has 3 letters and shape [3,4]");
    refused("ij,ik->jk", s, 2, "'i' is 3, and 4 in operand 2");
    refused("...i->i", s, 1, "wants letters, got '.'");
}

/* Without an arrow: letters in order. */
static void short_forms(void **state)
{
    (void)state;
    Ctx cx;
    Arena *arena = arena_new();
    ctx_init(&cx);
    Builder b = build_start(&cx, graph_new(arena));
    const Ref x = build_input(&b, INPUT_batch, "x", DT_F32, shape_of(2, (int64_t)3, (int64_t)4));
    const Ref y = build_input(&b, INPUT_batch, "y", DT_F32, shape_of(2, (int64_t)4, (int64_t)5));
    const Type t = build_type(&b, build_einsum(&b, "zj,ja", (Ref[]){ x, y }, 2));
    assert_string_equal(type_str(&t), "f32[5,3]");
    arena_free(arena);
}

static void argmax_takes_the_first(void **state)
{
    (void)state;
    const double x[] = { 1, 3, 3, -2, -2, 0, 5, 5, 5, NAN, 1, 2 };
    const double most[] = { 1, 2, 0, 2 }, least[] = { 0, 0, 0, 2 };
    Ctx cx;
    Arena *arena = arena_new();
    ctx_init(&cx);
    Builder b = build_start(&cx, graph_new(arena));
    const Shape s = shape_of(2, (int64_t)4, (int64_t)3);
    const Ref in = build_input(&b, INPUT_batch, "x", DT_F32, s);
    build_output(&b, build_argmax(&b, OP_amax, in, 1), NULL);
    build_output(&b, build_argmax(&b, OP_amin, in, 1), NULL);
    Tensor t = tensor_new(arena, (Type){ DT_F32, s }), out[2];
    memcpy(t.at, x, sizeof x);
    assert_int_equal(eval_graph(&cx, b.g, EVAL_F64, arena, &t, out), ST_OK);
    assert_memory_equal(out[0].at, most, sizeof most);
    assert_memory_equal(out[1].at, least, sizeof least);
    assert_int_equal(build_argmax(&b, OP_amax, in, 2), REF_NONE);
    assert_non_null(strstr(cx.msg, "argmax: axis 2 of [4,3]"));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equations_are_their_loops),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(short_forms),
        cmocka_unit_test(argmax_takes_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
