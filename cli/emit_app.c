/* SPDX-License-Identifier: Apache-2.0 */
/* The training step of a model as a program of its own, with the batches that gtc train would take
 * first: the same order, the same learning rates, one epoch after the other. */
#include "cli/work.h"
#include "train/loader.h"

typedef struct Feed {
    const Model *model;
    Session *s;
    Loader *loader;
    void *const *x;
    int64_t total; /* steps of the whole training */
} Feed;

static Status fill(Ctx *cx, void *arg, int i)
{
    Feed *f = arg;
    void *y = session_input(f->s, BUILD_TRAIN, "y");
    int32_t *valid = session_input(f->s, BUILD_TRAIN, "rows");
    float *lr = session_input(f->s, BUILD_TRAIN, "lr");
    int64_t *row0 = session_input(f->s, BUILD_TRAIN, "row0");
    int rows;
    TRY(loader_next(cx, f->loader, f->x, y, &rows));
    if (rows == 0) {
        loader_start(f->loader, loader_pos(f->loader).epoch + 1);
        TRY(loader_next(cx, f->loader, f->x, y, &rows));
    }
    if (valid)
        *valid = rows;
    if (row0)
        *row0 = 0;
    *lr = (float)model_learning_rate(f->model, i, f->total);
    return ST_OK;
}

static Status write_app(Cli *c, Work *w, Feed *f)
{
    LayerInfo *layer;
    GtcApp app = { .dir = options_text(c->o, OPT_out, NULL),
                   .batches = (int)options_int(c->o, OPT_batches, 8),
                   .fill = fill,
                   .arg = f };
    TRY(session_inputs(&c->cx, w->session, BUILD_TRAIN, &f->x));
    TRY(model_layers(&c->cx, w->model, w->shape, c->o->arena, &layer, &app.nlayer));
    const char **name = arena_array(c->o->arena, const char *, app.nlayer);
    for (int i = 0; i < app.nlayer; i++)
        name[i] = layer[i].name;
    app.layer = name;
    TRY(gtc_program_write(&c->cx, w->session->program[BUILD_TRAIN], w->session->store, &app));
    log_say(&c->cx, LOG_INFO, "%s: %s, %d batches of %d rows; make -C %s, then ./app [STEPS]",
            app.dir, gtc_device_describe(w->device), app.batches, w->session->batch, app.dir);
    strbuf_printf(&c->json, "{\"batches\":%d,\"kernels\":%d}", app.batches,
                  gtc_program_info(w->session->program[BUILD_TRAIN]).kernels);
    return ST_OK;
}

Status work_write_app(Cli *c, Work *w)
{
    const int64_t batches = options_int(c->o, OPT_batches, 8);
    if (!options_text(c->o, OPT_out, NULL))
        return FAIL(&c->cx, USAGE, "an app is a folder: wants --out DIR");
    if (batches < 1 || batches > 1 << 20)
        return FAIL(&c->cx, USAGE, "--batches: wants 1 to 1048576, got %lld", (long long)batches);
    TRY(work_open_data(c, w));
    TRY(work_open_session(c, w, SESSION_TRAIN));
    TRY(session_init(&c->cx, w->session));
    if (data_rows(w->data, SPLIT_TRAIN) == 0)
        return FAIL(&c->cx, DATA, "the train split has no rows");
    const TrainConfig *t = &w->model->train;
    Feed f = { .model = w->model, .s = w->session };
    TRY(loader_open(&c->cx, w->data, SPLIT_TRAIN, w->session->batch, t->shuffle, t->seed,
                    &f.loader));
    f.total = loader_batches(f.loader) * t->epochs;
    if (t->max_steps > 0 && t->max_steps < f.total)
        f.total = t->max_steps;
    const Status st = write_app(c, w, &f);
    loader_close(f.loader);
    return st;
}
