/* SPDX-License-Identifier: Apache-2.0 */
/* Training steps of a small net under every optimizer, and composites, against the book. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ir/autodiff.h"
#include "ir/base/rng.h"
#include "ir/build_nn.h"
#include "tests/book_nn.h"

enum { BATCH = 3, STEPS = 3 };

#define NET                                                                                        \
    "{\"data\": {\"random\": {\"x\": [5], \"y\": [2], \"rows\": 8}}, \"layers\": ["                \
    "{\"type\": \"dense\", \"units\": 4, \"activation\": \"tanh\"}, "                              \
    "{\"type\": \"dense\", \"units\": 2}], \"loss\": {\"type\": \"mse\"}, "

/* spoilt: one number of the batch is none, and so is what follows from it. */
static void fill(const char *name, bool spoilt, Rng *rng, Tensor *t)
{
    const bool state = strncmp(name, "opt.", 4) == 0 || strcmp(name, "step") == 0;
    for (int64_t i = 0; i < shape_count(&t->type.shape) && !state; i++)
        t->at[i] = strcmp(name, "rows") == 0 ? BATCH
                   : strcmp(name, "lr") == 0 ? 0.05
                                             : rng_normal(rng);
    if (spoilt && strcmp(name, "x") == 0)
        t->at[0] = NAN;
}

static void follow(const char *optimizer, const char *train, bool spoilt)
{
    Ctx cx;
    Model *m;
    Graph *g;
    Arena *arena = arena_new();
    Rng rng;
    ctx_init(&cx);
    rng_init(&rng, 1, 0);
    const char *text =
        arena_printf(arena, NET "\"optimizer\": {%s}, \"train\": {%s}}", optimizer, train);
    if (model_parse(&cx, "book", text, NULL, 0, &m) != ST_OK)
        fail_msg("%s: %s", text, cx.msg);
    const DataShape d = { .input = m->data.random_inputs,
                          .ninput = m->data.nrandom,
                          .target = m->data.random_target };
    if (model_build(&cx, m, &d, BUILD_TRAIN, BATCH, arena, &g) != ST_OK)
        fail_msg("%s: %s", text, cx.msg);
    Tensor *in = arena_array(arena, Tensor, g->ninput);
    for (uint32_t i = 0; i < g->ninput; i++) {
        const Node *n = &g->node[g->input[i]];
        in[i] = tensor_new(arena, n->type);
        fill(n->name, spoilt, &rng, &in[i]);
    }
    const BookVerdict v = book_check(&cx, g, m, in, STEPS);
    if (v.wrong)
        fail_msg("%s", v.text);
    assert_true(v.compared >= STEPS * (5 * 4 + 4 + 4 * 2 + 2));
    model_free(m);
    arena_free(arena);
}

static void steps_go_by_the_book(void **state)
{
    static const char *const optimizer[] = {
        "\"type\": \"sgd\"",
        "\"type\": \"sgd\", \"momentum\": 0.9, \"weight_decay\": 0.1",
        ("\"type\": \"sgd\", \"momentum\": 0.9, \"nesterov\": true, \"decayed\": \"weights\", "
         "\"weight_decay\": 0.1"),
        "\"type\": \"adam\"",
        "\"type\": \"adam\", \"beta1\": 0, \"weight_decay\": 0.1",
        "\"type\": \"adamw\", \"weight_decay\": 0.1",
        "\"type\": \"rmsprop\"",
        "\"type\": \"rmsprop\", \"momentum\": 0.9, \"weight_decay\": 0.1",
        "\"type\": \"adagrad\", \"lr_decay\": 0.1, \"weight_decay\": 0.1",
        "\"type\": \"lion\", \"weight_decay\": 0.1",
    };
    (void)state;
    for (size_t i = 0; i < sizeof optimizer / sizeof *optimizer; i++) {
        for (int spoilt = 0; spoilt < 2; spoilt++) {
            follow(optimizer[i], "", spoilt);
            follow(optimizer[i], "\"clip_norm\": 0.2", spoilt);
            follow(optimizer[i], "\"clip_value\": 0.1", spoilt);
        }
    }
}

static void composites_go_by_the_book(void **state)
{
    Ctx cx;
    int64_t compared = 0;
    (void)state;
    ctx_init(&cx);
    for (uint64_t seed = 0; seed < 400; seed++) {
        const BookVerdict v = book_nn(&cx, seed);
        if (v.wrong)
            fail_msg("seed %d: %s", (int)seed, v.text);
        compared += v.compared;
    }
    assert_true(compared > 400);
}

/* A last layer that starts at 0 gives logits of exactly 0. */
static void cross_entropy_has_its_slope_at_0(void **state)
{
    Ctx cx;
    Arena *arena = arena_new();
    Builder b = build_start(&cx, graph_new(arena));
    (void)state;
    ctx_init(&cx);
    const Ref x = build_input(&b, INPUT_batch, "x", DT_F32, shape_of(1, 2));
    const Ref y = build_input(&b, INPUT_batch, "y", DT_F32, shape_of(1, 2));
    const Ref loss = build_reduce(&b, OP_sum, build_bce(&b, x, y), 1);
    build_output(&b, build_get(&b, build_grad(&b, loss, &x, 1), 0), NULL);
    Graph *g = graph_new(arena);
    Tensor in[2], slope;
    for (int i = 0; i < 2; i++)
        in[i] = tensor_new(arena, (Type){ DT_F32, shape_of(1, 2) });
    in[1].at[1] = 1;
    if (b.status != ST_OK || autodiff_expand(&cx, b.g, g) != ST_OK ||
        eval_graph(&cx, g, EVAL_F64, arena, in, &slope) != ST_OK)
        fail_msg("%s", cx.msg);
    assert_true(slope.at[0] == 0.5 && slope.at[1] == -0.5);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_go_by_the_book),
        cmocka_unit_test(composites_go_by_the_book),
        cmocka_unit_test(cross_entropy_has_its_slope_at_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
