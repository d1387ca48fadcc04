/* SPDX-License-Identifier: Apache-2.0 */
/* The training loop.
 *
 * All that decides what the next step does is in two places: the store's tensors, and TrainState.
 * A checkpoint holds both, and the order of an epoch's rows follows from (seed, epoch), so that a
 * run that goes on from a checkpoint takes the very steps that it would have taken.  A stop is
 * asked for at step boundaries only; one during validation saves the state "this epoch, all rows
 * done", and the resumed run starts with that validation.
 *
 * A device that works by itself is given the next steps before it has done the last.  What steps
 * result in waits in a ring (GtcOptions.depth), of which the older half is looked at when it is
 * full, so that the host waits once in so many steps and the device never.  All steps are done
 * before anything is saved or validated.  TrainState knows only of steps whose results were looked
 * at: what is wrong with one is found a ring of steps later, and is never saved.
 *
 * Losses are averaged by rows.  A loss or a gradient norm that is no number ends the run before
 * anything is saved; a checkpoint with such a value in it is refused as well.
 *
 * The test split is read once, at the very end, with the weights of the best epoch. */
#include "train/loop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ir/base/os.h"
#include "models/json.h"
#include "train/loader.h"

typedef struct TrainState {
#define INT(name)  int64_t name;
#define REAL(name) double name;
#include "train/state.def"
} TrainState;

typedef struct Begun { /* a step that is under way */
    int64_t row; /* of the epoch, after it */
    int rows;
    float lr;
} Begun;

typedef struct Train {
    Ctx *cx;
    Session *s;
    const Data *d;
    const TrainConfig *cfg;
    const TrainCall *call;
    Arena *arena;
    Loader *loader;
    TrainState st;
    int64_t val_rows, total_steps;
    const char *monitor;
    bool larger;            /* of the monitored score, more is better */
    double saved_at;        /* clock of the last save */
    double work_s, first_s; /* seconds spent in steps by this process, in its first one */
    int64_t work_steps, work_rows;
    double started;
    /* the train program's */
    void *const *x;
    void *y;
    int32_t *at; /* where the batch is made on the device; else x and y are there */
    int32_t *rows;
    float *lr;
    int64_t *row0;
    const float *loss, *norm;
    Begun *begun; /* [depth], a queue: the oldest is begun[0] */
    int nbegun, depth;
} Train;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool stop_asked(const Train *t)
{
    return t->call->stop.asked && t->call->stop.asked(t->call->stop.arg);
}

/* ---- state to and from checkpoints ---- */

static void state_put(const TrainState *st, Checkpoint *c)
{
    char s[64];
#define INT(name)                                                                                  \
    snprintf(s, sizeof s, "%lld", (long long)st->name);                                            \
    checkpoint_put(c, "train." #name, s);
#define REAL(name)                                                                                 \
    snprintf(s, sizeof s, "%a", st->name);                                                         \
    checkpoint_put(c, "train." #name, s);
#include "train/state.def"
}

static Status state_get(Ctx *cx, const Checkpoint *c, TrainState *st)
{
    const char *s;
    char *end;
#define FIELD(name, read)                                                                          \
    s = checkpoint_get(c, "train." #name);                                                         \
    if (!s)                                                                                        \
        return FAIL(cx, DATA,                                                                      \
                    "the checkpoint does not say train." #name                                     \
                    ": it holds weights, but no run to go on with");                               \
    st->name = read;                                                                               \
    if (end == s || *end)                                                                          \
        return FAIL(cx, DATA, "the checkpoint's train." #name " is \"%s\"", s);
#define INT(name)  FIELD(name, strtoll(s, &end, 10))
#define REAL(name) FIELD(name, strtod(s, &end))
#include "train/state.def"
#undef FIELD
    return ST_OK;
}

static Status snapshot(const Train *t, Checkpoint **out)
{
    TRY(gtc_store_download(t->cx, t->s->store));
    Checkpoint *c = *out = checkpoint_new();
    checkpoint_put(c, "format", "gtc");
    state_put(&t->st, c);
    for (int i = 0; i < gtc_store_count(t->s->store); i++)
        checkpoint_add(c, gtc_store_at(t->s->store, i));
    return ST_OK;
}

static Status save(Train *t, bool best)
{
    Checkpoint *c;
    gtc_assert(t->nbegun == 0, "%d steps are under way", t->nbegun);
    TRY(snapshot(t, &c));
    Status st = best ? bundle_save_best(t->cx, t->call->dir, c) : ST_OK;
    if (st == ST_OK)
        st = bundle_save_last(t->cx, t->call->dir, c);
    checkpoint_free(c);
    if (st == ST_OK)
        t->saved_at = now();
    return st;
}

static Status resume(Train *t)
{
    Checkpoint *c;
    TRY(bundle_resume(t->cx, t->call->dir, &c));
    Status st = checkpoint_load(t->cx, t->call->dir, c, t->s->store);
    if (st == ST_OK)
        st = state_get(t->cx, c, &t->st);
    checkpoint_free(c);
    TRY(st);
    if (t->st.train_rows != data_rows(t->d, SPLIT_TRAIN))
        return FAIL(t->cx, DATA, "%s was trained on %lld rows, and the data now have %lld",
                    t->call->dir, (long long)t->st.train_rows,
                    (long long)data_rows(t->d, SPLIT_TRAIN));
    if (t->st.row > 0 && t->st.batch != t->s->batch)
        return FAIL(t->cx, USAGE,
                    "%s stopped inside an epoch of batches of %lld rows: go on with that",
                    t->call->dir, (long long)t->st.batch);
    TRY(loader_seek(t->cx, t->loader, (LoaderPos){ t->st.epoch, t->st.row }));
    log_say(t->cx, LOG_INFO, "going on with %s at epoch %lld, step %lld", t->call->dir,
            (long long)t->st.epoch + 1, (long long)t->st.step);
    return ST_OK;
}

/* ---- one step, one epoch ---- */

static Status check_finite(Train *t, const Begun *b)
{
    const bool bad_loss = !isfinite(*t->loss);
    if (!bad_loss && (!t->norm || isfinite(*t->norm)))
        return ST_OK;
    return FAIL(t->cx, NUMERIC,
                "%s is %g at epoch %lld, step %lld (learning rate %g); the last good checkpoint "
                "is in %s",
                bad_loss ? "the loss" : "the gradient's norm",
                (double)(bad_loss ? *t->loss : *t->norm), (long long)t->st.epoch + 1,
                (long long)t->st.step + 1, (double)b->lr, t->call->dir);
}

/* What the oldest step that is under way results in. */
static Status step_end(Train *t)
{
    const Begun b = t->begun[0];
    TRY(gtc_program_collect(t->cx, t->s->program[BUILD_TRAIN]));
    memmove(t->begun, t->begun + 1, sizeof *t->begun * (size_t)--t->nbegun);
    TRY(check_finite(t, &b));
    t->st.row = b.row;
    t->st.step++;
    t->st.epoch_steps++;
    t->st.loss_sum += (double)*t->loss * b.rows;
    t->st.norm_sum += t->norm ? (double)*t->norm : NAN;
    return ST_OK;
}

static void time_add(Train *t, double spent)
{
    t->st.epoch_s += spent;
    t->st.total_s += spent;
    t->work_s += spent;
}

/* All steps that have begun are done. */
static Status steps_end(Train *t)
{
    const double t0 = now();
    while (t->nbegun > 0)
        TRY(step_end(t));
    time_add(t, now() - t0);
    return ST_OK;
}

static Status stop_now(Train *t)
{
    TRY(steps_end(t));
    TRY(save(t, false));
    return FAIL(t->cx, STOPPED,
                "stopped by a signal; saved step %lld in %s (gtc train --resume=%s)",
                (long long)t->st.step, t->call->dir, t->call->dir);
}

/* Begins one step, or says in *rows 0 that the epoch's rows are used up. */
static Status step_begin(Train *t, int *rows)
{
    const int64_t row0 = loader_pos(t->loader).row;
    TRY(loader_next(t->cx, t->loader, t->x, t->y, rows));
    if (*rows == 0)
        return ST_OK;
    if (t->at)
        TRY(data_locate(t->cx, t->d, SPLIT_TRAIN, loader_index(t->loader), t->s->batch, t->at));
    if (t->rows)
        *t->rows = *rows;
    if (t->row0)
        *t->row0 = 0; /* the effective batch is this one: dropout counts rows within it */
    *t->lr = (float)model_learning_rate(t->s->model, t->st.step + t->nbegun, t->total_steps);
    TRY(gtc_program_submit(t->cx, t->s->program[BUILD_TRAIN]));
    t->begun[t->nbegun++] = (Begun){ row0 + *rows, *rows, *t->lr };
    return ST_OK;
}

/* Takes one step, or says in *rows 0 that the epoch's rows are done. */
static Status step(Train *t, int *rows)
{
    const double t0 = now();
    TRY(step_begin(t, rows));
    if (*rows == 0)
        return steps_end(t);
    if (t->nbegun == t->depth)
        while (t->nbegun > t->depth / 2)
            TRY(step_end(t));
    const double spent = now() - t0;
    time_add(t, spent);
    if (t->work_steps++ == 0)
        t->first_s = spent;
    t->work_rows += *rows;
    return ST_OK;
}

static bool steps_used_up(const Train *t)
{
    return t->cfg->max_steps > 0 && t->st.step + t->nbegun >= t->cfg->max_steps;
}

static bool patience_used_up(const Train *t)
{
    return t->cfg->patience > 0 && t->st.epoch - t->st.best_epoch >= t->cfg->patience;
}

/* Between epochs: a run that goes on may have been given more epochs or steps than it had. */
static bool all_done(const Train *t)
{
    return t->st.row == 0 &&
           (t->st.epoch >= t->cfg->epochs || steps_used_up(t) || patience_used_up(t));
}

static Status epoch_rows(Train *t)
{
    const int64_t batches = loader_batches(t->loader);
    int rows;
    for (int64_t told = 0;;) {
        if (stop_asked(t))
            return stop_now(t);
        if (steps_used_up(t))
            return steps_end(t);
        TRY(step(t, &rows));
        if (rows == 0)
            return ST_OK;
        if (t->st.epoch_steps == told)
            continue; /* nothing new to tell */
        told = t->st.epoch_steps;
        const TrainProgress p = { t->st.epoch + 1, t->cfg->epochs, t->st.epoch_steps, batches,
                                  t->st.loss_sum / (double)t->st.row };
        if (t->call->progress)
            t->call->progress(t->call->progress_arg, &p);
        if (t->call->save_every_s > 0 && now() - t->saved_at > t->call->save_every_s) {
            TRY(steps_end(t));
            TRY(save(t, false));
        }
    }
}

/* The monitored score of this epoch; the train loss where nothing is validated. */
static double monitored(const Train *t, const Metrics *val, double train_loss)
{
    double value = train_loss;
    bool larger;
    if (val && strcmp(t->monitor, "train_loss") != 0)
        metrics_named(val, t->monitor, &value, &larger);
    return value;
}

static bool better(const Train *t, double value)
{
    if (isnan(value))
        return false;
    if (t->st.best_epoch == 0)
        return true;
    return t->larger ? value > t->st.best + t->cfg->min_delta
                     : value < t->st.best - t->cfg->min_delta;
}

static const char *score_name(const Train *t)
{
    return data_shape(t->d)->classification ? "accuracy" : "rmse";
}

static Status validate(Train *t, Metrics *val)
{
    const double t0 = now();
    Arena *scratch = arena_new();
    const Status st = score_split(t->cx, t->s, t->d, SPLIT_VAL, t->call->stop, scratch, val, NULL);
    arena_free(scratch); /* the columns are not read */
    t->st.total_s += now() - t0;
    t->st.epoch_s += now() - t0;
    return st;
}

static Status report_epoch(Train *t, const Metrics *val, double train_s, bool best)
{
    EpochRow r = {
        .epoch = t->st.epoch + 1,
        .step = t->st.step,
        .train_loss = t->st.train_loss,
        .val_loss = t->st.val_loss,
        .lr = (double)*t->lr,
        .grad_norm = t->norm ? t->st.norm_sum / (double)t->st.epoch_steps : NAN,
        .ms_per_batch = 1e3 * train_s / (double)t->st.epoch_steps,
        .samples_per_s = (double)t->st.row / train_s,
        .epoch_s = t->st.epoch_s,
        .total_s = t->st.total_s,
        .peak_bytes = session_peak_bytes(t->s),
        .gpu = { -1, -1, -1, NAN, NAN },
        .score_name = score_name(t),
        .val_score = !val                  ? NAN
                     : val->classification ? val->accuracy
                                           : val->rmse,
        .best = best,
    };
    gtc_device_load(t->s->device, &r.gpu); /* else it stays unknown */
    Strbuf text = { 0 };
    report_epoch_text(&r, t->cfg->epochs, &text);
    log_say(t->cx, LOG_INFO, "%s", strbuf_str(&text));
    strbuf_free(&text);
    return report_metrics_add(t->cx, t->call->dir, &r);
}

static void next_epoch(Train *t)
{
    TrainState *st = &t->st;
    st->epoch++;
    st->row = st->epoch_steps = 0;
    st->loss_sum = st->norm_sum = st->epoch_s = 0;
    loader_start(t->loader, st->epoch);
}

/* After an epoch's rows: validation, the log, checkpoints, and whether that was all. */
static Status epoch_end(Train *t)
{
    TrainState *st = &t->st;
    Metrics val;
    const double train_s = st->epoch_s;
    if (t->val_rows > 0) {
        const TrainState before = *st;
        const Status status = validate(t, &val);
        if (status == ST_STOPPED) {
            *st = before;
            return stop_now(t);
        }
        TRY(status);
    }
    st->train_loss = st->loss_sum / (double)st->row;
    st->val_loss = t->val_rows > 0 ? val.loss : NAN;
    const double score = monitored(t, t->val_rows > 0 ? &val : NULL, st->train_loss);
    const bool best = better(t, score);
    if (best) {
        st->best = score;
        st->best_val_loss = st->val_loss;
        st->best_epoch = st->epoch + 1;
    }
    TRY(report_epoch(t, t->val_rows > 0 ? &val : NULL, train_s, best));
    next_epoch(t);
    if (patience_used_up(t))
        log_say(t->cx, LOG_INFO, "no better %s for %d epochs: training ends", t->monitor,
                t->cfg->patience);
    return save(t, best);
}

static Status train_epochs(Train *t)
{
    while (!all_done(t)) {
        TRY(epoch_rows(t));
        TRY(epoch_end(t));
    }
    return ST_OK;
}

/* ---- begin and end ---- */

static Status open_inputs(Train *t)
{
    Session *s = t->s;
    GtcTensor out;
    TRY(session_inputs(t->cx, s, BUILD_TRAIN, &t->x));
    t->at = session_at(s, BUILD_TRAIN);
    t->y = session_input(s, BUILD_TRAIN, "y");
    t->rows = session_input(s, BUILD_TRAIN, "rows");
    t->lr = session_input(s, BUILD_TRAIN, "lr");
    t->row0 = session_input(s, BUILD_TRAIN, "row0");
    if ((!t->y && !t->at) || !t->lr || !session_output(s, BUILD_TRAIN, "loss", &out))
        return FAIL(t->cx, INTERNAL, "the train program lacks y, lr or loss");
    t->loss = out.data;
    t->norm = session_output(s, BUILD_TRAIN, "grad_norm", &out) ? out.data : NULL;
    t->depth = gtc_program_depth(s->program[BUILD_TRAIN]);
    t->begun = arena_array(t->arena, Begun, t->depth);
    return ST_OK;
}

static Status open_monitor(Train *t)
{
    const Metrics any = { .classification = data_shape(t->d)->classification };
    double value;
    t->monitor = t->cfg->monitor ? t->cfg->monitor : "val_loss";
    if (strcmp(t->monitor, "train_loss") != 0 &&
        !metrics_named(&any, t->monitor, &value, &t->larger))
        return FAIL(t->cx, VALUE, "train.monitor: there is no score \"%s\" of a %s", t->monitor,
                    any.classification ? "classification" : "regression");
    if (t->val_rows > 0)
        return ST_OK;
    if (strcmp(t->monitor, "train_loss") != 0)
        log_say(t->cx, LOG_WARN,
                "the validation split is empty: the best epoch is the one with "
                "the least train loss");
    t->monitor = "train_loss";
    t->larger = false;
    return ST_OK;
}

static Status begin(Train *t)
{
    TRY(open_inputs(t));
    TRY(session_feed(t->cx, t->s, t->d));
    TRY(loader_open(t->cx, t->d, SPLIT_TRAIN, t->s->batch, t->cfg->shuffle, t->cfg->seed,
                    &t->loader));
    if (data_rows(t->d, SPLIT_TRAIN) == 0)
        return FAIL(t->cx, DATA, "the train split has no rows");
    t->val_rows = data_rows(t->d, SPLIT_VAL);
    t->total_steps = loader_batches(t->loader) * t->cfg->epochs;
    if (t->cfg->max_steps > 0 && t->cfg->max_steps < t->total_steps)
        t->total_steps = t->cfg->max_steps;
    TRY(open_monitor(t));
    t->st.train_rows = data_rows(t->d, SPLIT_TRAIN);
    t->st.batch = t->s->batch;
    t->st.val_loss = t->st.train_loss = t->st.best_val_loss = NAN;
    TRY(t->call->resume ? resume(t) : session_init(t->cx, t->s));
    if (t->call->ready)
        TRY(t->call->ready(t->call->ready_arg));
    TRY(report_metrics_start(t->cx, t->call->dir, t->st.epoch, score_name(t)));
    *t->lr = (float)model_learning_rate(t->s->model, t->st.step, t->total_steps);
    if (!t->call->resume)
        return save(t, false); /* from now on there is always one */
    t->saved_at = now();
    return ST_OK;
}

static Status write_result(Train *t, const TrainResult *r, const Strbuf *csv)
{
    Strbuf path = { 0 }, json = { 0 };
    Status st = ST_OK;
    if (r->has_test) {
        strbuf_printf(&path, "%s/predictions.csv", t->call->dir);
        st = os_write_file(t->cx, strbuf_str(&path), csv->s, csv->n);
    }
    train_json(t->s, t->call, r, &json);
    strbuf_putc(&json, '\n');
    strbuf_clear(&path);
    strbuf_printf(&path, "%s/result.json", t->call->dir);
    if (st == ST_OK)
        st = os_write_file(t->cx, strbuf_str(&path), json.s, json.n);
    strbuf_free(&path);
    strbuf_free(&json);
    return st;
}

static Status finish(Train *t, TrainResult *r)
{
    Strbuf csv = { 0 };
    Status st = ST_OK;
    r->epochs_run = t->st.epoch;
    r->best_epoch = t->st.best_epoch;
    r->steps = t->st.step;
    r->skipped_steps = t->st.skipped;
    r->train_loss = t->st.train_loss;
    r->val_loss =
        t->st.best_epoch && strcmp(t->monitor, "val_loss") == 0 ? t->st.best : t->st.val_loss;
    r->compile_ms = session_compile_ms(t->s);
    const bool more = t->work_steps > 1; /* the first step also warms up */
    const double steps_s = more ? t->work_s - t->first_s : t->work_s;
    r->step_ms = 1e3 * steps_s / (double)(t->work_steps - more);
    r->samples_per_s = t->work_s > 0 ? (double)t->work_rows / t->work_s : NAN;
    if (t->st.best_epoch)
        st = bundle_weights(t->cx, t->call->dir, false, t->s->store);
    r->has_test = data_rows(t->d, SPLIT_TEST) > 0;
    if (st == ST_OK && r->has_test)
        st = score_split(t->cx, t->s, t->d, SPLIT_TEST, t->call->stop, t->arena, &r->test, &csv);
    r->seconds = now() - t->started;
    if (st == ST_OK)
        st = write_result(t, r, &csv);
    strbuf_free(&csv);
    return st;
}

Status train_run(Ctx *cx, Session *s, const Data *d, const TrainCall *call, Arena *arena,
                 TrainResult *out)
{
    Train t = { .cx = cx,
                .s = s,
                .d = d,
                .cfg = &s->model->train,
                .call = call,
                .arena = arena,
                .started = now() };
    ReportLog *log;
    *out = (TrainResult){ 0 };
    TRY(report_log_open(cx, call->dir, &log));
    log_say(cx, LOG_INFO, "%s", gtc_device_describe(s->device));
    Status st = begin(&t);
    if (st == ST_OK)
        st = train_epochs(&t);
    if (st == ST_OK)
        st = finish(&t, out);
    loader_close(t.loader);
    if (st != ST_OK)
        report_log_note(log, cx->msg);
    if ((st == ST_ENV || st == ST_MEMORY) && t.saved_at > 0) /* the device, not the run, is at fault */
        log_say(cx, LOG_WARN, "%s holds the last good checkpoint (gtc train --resume=%s)",
                call->dir, call->dir);
    report_log_close(cx, log);
    return st;
}

void train_json(const Session *s, const TrainCall *call, const TrainResult *r, Strbuf *out)
{
    strbuf_add(out, "{\"run\":");
    json_print_string(call->dir, out);
    strbuf_add(out, ",\"device\":");
    json_print_string(gtc_device_name(s->device), out);
    strbuf_printf(out,
                  ",\"mode\":\"%s\",\"precision\":\"f32\",\"epochs_run\":%lld,\"best_epoch\":%lld,"
                  "\"steps\":%lld,",
                  s->mode == GTC_EAGER ? "eager" : "default", (long long)r->epochs_run,
                  (long long)r->best_epoch, (long long)r->steps);
    metrics_json_number(out, "train_loss", r->train_loss);
    strbuf_putc(out, ',');
    metrics_json_number(out, "val_loss", r->val_loss);
    strbuf_add(out, ",\"test\":");
    if (r->has_test) {
        strbuf_putc(out, '{');
        metrics_json(&r->test, out);
        strbuf_putc(out, '}');
    } else {
        strbuf_add(out, "null");
    }
    const struct {
        const char *key;
        double value;
    } rest[] = { { "step_ms", r->step_ms },
                 { "samples_per_s", r->samples_per_s },
                 { "compile_ms", r->compile_ms },
                 { "seconds", r->seconds } };
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        strbuf_putc(out, ',');
        metrics_json_number(out, rest[i].key, rest[i].value);
    }
    strbuf_printf(out, ",\"params\":%lld,\"skipped_steps\":%lld}", (long long)session_params(s),
                  (long long)r->skipped_steps);
}
