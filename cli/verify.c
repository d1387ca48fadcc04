/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/work.h"
#include "models/json.h"
#include "train/verify.h"

/* What is checked: steps; without --full rows, and those of a model with many parameters. */
enum { STEPS = 3, ROWS = 4, MANY_PARAMS = 1000000, FEWER_ROWS = 2 };

static void say(const Work *w, const VerifyReport *r, int batch, int steps)
{
    const double percent = r->elements ? 100. / (double)r->elements : 0;
    printf("%s: %s: %lld tensors of %lld elements, %lld kernels alone, %d steps of %d "
           "rows\n",
           w->model->name, r->wrong ? "WRONG" : "ok", (long long)r->checked, (long long)r->elements,
           (long long)r->kernels, steps, batch);
    printf("largest error %.3f of its bound, RMSE %.3f of its bound; %.2f %% undecided, %.2f %% "
           "loose\n",
           r->worst, r->worst_rmse, percent * (double)r->undecided, percent * (double)r->loose);
    if (r->wrong)
        printf("%lld tensors are wrong, first by kernel %s%s%s:\n  %s\n", (long long)r->wrong,
               r->kernel[0] ? r->kernel : "(none)", r->layers[0] ? ", layer " : "", r->layers,
               r->what);
}

static void to_json(const VerifyReport *r, Strbuf *out)
{
    strbuf_printf(out,
                  "{\"ok\":%s,\"checked\":%lld,\"elements\":%lld,\"kernels\":%lld,"
                  "\"worst\":%.6g,\"worst_rmse\":%.6g,\"undecided\":%lld,\"loose\":%lld,",
                  r->wrong ? "false" : "true", (long long)r->checked, (long long)r->elements,
                  (long long)r->kernels, r->worst < 1e300 ? r->worst : 1e300,
                  r->worst_rmse < 1e300 ? r->worst_rmse : 1e300, (long long)r->undecided,
                  (long long)r->loose);
    strbuf_printf(out, "\"wrong\":%lld,\"first_bad\":", (long long)r->wrong);
    if (!r->wrong) {
        strbuf_add(out, "null}");
        return;
    }
    strbuf_add(out, "{\"kernel\":");
    json_print_string(r->kernel, out);
    strbuf_add(out, ",\"layer\":");
    json_print_string(r->layers, out);
    strbuf_add(out, ",\"what\":");
    json_print_string(r->what, out);
    strbuf_add(out, "}}");
}

/* Rows enough for what goes over a batch, and few enough to wait for the evaluator. */
static Status be_brief(Cli *c, const Work *w, VerifyWork *out)
{
    LayerInfo *layer;
    int n;
    int64_t params = 0;
    Arena *arena = arena_new();
    const Status status = model_layers(&c->cx, w->model, w->shape, arena, &layer, &n);
    for (int i = 0; status == ST_OK && i < n; i++)
        params += layer[i].params;
    arena_free(arena);
    const int rows = params > MANY_PARAMS ? FEWER_ROWS : ROWS;
    out->batch = out->batch < rows ? out->batch : rows;
    return status;
}

static Status verify(Cli *c, Work *w)
{
    VerifyReport r;
    TRY(work_open_model(c, w, c->o->arg));
    TRY(work_open_shape(c, w));
    TRY(work_open_device(c, w));
    VerifyWork work = { .model = w->model,
                        .shape = w->shape,
                        .device = w->device,
                        .options = &w->opt,
                        .batch = w->model->train.batch_size,
                        .steps = STEPS };
    if (!options_flag(c->o, OPT_full))
        TRY(be_brief(c, w, &work));
    TRY(verify_model(&c->cx, &work, &r));
    to_json(&r, &c->json);
    if (cli_talks(c))
        say(w, &r, work.batch, work.steps);
    if (r.wrong == 0)
        return ST_OK;
    c->json_says_why = true;
    return FAIL(&c->cx, INTERNAL, "%lld of %lld tensors are not what the evaluator gives",
                (long long)r.wrong, (long long)r.checked);
}

Status cli_verify(Cli *c)
{
    Work w = { 0 };
    const Status st = verify(c, &w);
    work_close(&w);
    return st;
}
