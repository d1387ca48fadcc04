/* SPDX-License-Identifier: Apache-2.0 */
#include "train/text.h"

#include <string.h>

#include "ir/base/rng.h"

/* Told apart from the other uses of the run's seed: "text". */
static const uint64_t text_stream = (uint64_t)0x74657874 << 32;

/* Probabilities sum to 1 but for rounding, which the last word takes. */
static int word_draw(Rng *rng, const float *p, int n)
{
    double left = rng_unit(rng);
    int k = 0;
    while (k + 1 < n && left >= (double)p[k])
        left -= (double)p[k++];
    return k;
}

Status text_generate(Ctx *cx, Session *s, const Data *d, Split split, int64_t n, uint64_t seed,
                     ScoreStop stop, Strbuf *out)
{
    const StrList *words = &data_fit(d)->classes;
    const DataShape *shape = data_shape(d);
    const int64_t last = data_rows(d, split) - 1;
    GtcTensor prediction;
    int32_t *x = session_input(s, BUILD_PREDICT, "x");
    if (!x || shape->words == 0 || shape->input[0].shape.rank != 1 || s->model->data.horizon > 1)
        return FAIL(cx, VALUE,
                    "a text goes on by a model of \"text\" with a window, \"category_as\": "
                    "\"index\" and the next character as target; this is none");
    const int64_t window = shape->input[0].shape.dim[0];
    if (last < 0)
        return FAIL(cx, DATA,
                    "there is nothing to go on with: wants %lld characters or more that the model "
                    "knows",
                    (long long)window);
    gtc_assert(s->batch == 1, "a batch of %d texts", s->batch);
    if (!session_output(s, BUILD_PREDICT, "prediction", &prediction))
        return FAIL(cx, INTERNAL, "the program has no output \"prediction\"");
    const int64_t behind = shape_count(&prediction.type.shape) - shape->nclass;
    void *const in[] = { x };
    TRY(data_fetch(cx, d, split, &last, 1, in, NULL));
    Rng rng;
    rng_init(&rng, seed, text_stream);
    for (int64_t i = 0; i < n; i++) {
        if (stop.asked && stop.asked(stop.arg))
            return FAIL(cx, STOPPED, "stopped by a signal");
        TRY(gtc_program_run(cx, s->program[BUILD_PREDICT]));
        const int k = word_draw(&rng, (const float *)prediction.data + behind, shape->nclass);
        strbuf_add(out, words->at[k]);
        memmove(x, x + 1, sizeof *x * (size_t)(window - 1));
        x[window - 1] = k;
    }
    return ST_OK;
}
