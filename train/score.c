/* SPDX-License-Identifier: Apache-2.0 */
/* Scoring.  A batch comes from the loader in chronological order, runs, and its valid rows are
 * turned back into physical units, summed and written.  A class is the largest of its row's
 * values; a single value stands for the second of two classes.
 *
 * Where a device works by itself it has the next batches while the host looks at one. */
#include "train/score.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ir/base/os.h"
#include "train/loader.h"

typedef struct Begun { /* a batch that is under way */
    int rows;
    int64_t *index;
    void *y; /* its targets */
} Begun;

typedef struct Pass {
    Ctx *cx;
    Session *s;
    const Data *d;
    const DataShape *shape;
    BuildKind kind;
    Split split;
    int steps;          /* of a row */
    int ntarget, width; /* values of a step's target, of its prediction */
    GtcTensor prediction;
    void *y;         /* of the batch that is looked at */
    Begun *begun;    /* [depth], a ring */
    int depth;
    size_t y_bytes;  /* of a batch */
    MetricsSum *sum; /* NULL: no scores */
    Strbuf *csv;     /* NULL: no lines */
} Pass;

static void csv_text(Strbuf *out, const char *s)
{
    if (!strpbrk(s, ",\"\r\n")) {
        strbuf_add(out, s);
        return;
    }
    strbuf_putc(out, '"');
    for (; *s; s++) {
        if (*s == '"')
            strbuf_putc(out, '"');
        strbuf_putc(out, *s);
    }
    strbuf_putc(out, '"');
}

static void csv_number(Strbuf *out, double v)
{
    if (!isnan(v))                     /* an empty cell is what is missing */
        strbuf_printf(out, "%.7g", v); /* targets are f32 */
}

static void csv_header(const Pass *p)
{
    const char *time = p->s->model->data.time;
    csv_text(p->csv, time ? time : "row");
    for (int k = 0; k < p->ntarget; k++) {
        char both[512];
        const char *name = data_target_name(p->d, k);
        strbuf_putc(p->csv, ',');
        csv_text(p->csv, name);
        snprintf(both, sizeof both, "%s_pred", name);
        strbuf_putc(p->csv, ',');
        csv_text(p->csv, both);
    }
    strbuf_putc(p->csv, '\n');
}

static int class_of(const Pass *p, const float *row)
{
    if (p->width == 1)
        return row[0] > 0.5f;
    int best = 0;
    for (int k = 1; k < p->width; k++)
        if (row[k] > row[best])
            best = k;
    return best;
}

static void csv_class(const Pass *p, int k)
{
    const StrList *names = &data_fit(p->d)->classes;
    strbuf_putc(p->csv, ',');
    if (k >= 0 && k < names->n)
        csv_text(p->csv, names->at[k]);
    else if (k >= 0) /* an empty cell is what is not known */
        strbuf_printf(p->csv, "%d", k);
}

/* at: steps before this one, in the whole batch. */
static void step_class(const Pass *p, int64_t at)
{
    const float *row = (const float *)p->prediction.data + at * p->width;
    const int truth = ((const int32_t *)p->y)[at], guess = class_of(p, row);
    if (p->sum)
        metrics_add_class(p->sum, truth, guess);
    if (p->csv) {
        csv_class(p, truth);
        csv_class(p, guess);
    }
}

static void step_values(const Pass *p, int64_t at, int64_t index)
{
    const float *row = (const float *)p->prediction.data + at * p->width;
    const float *y = (const float *)p->y + at * p->ntarget;
    const int step = (int)(at % p->steps);
    for (int k = 0; k < p->ntarget; k++) {
        const double truth = data_unscale(p->d, k, (double)y[k]);
        const double guess = data_unscale(p->d, k, (double)row[k]);
        if (p->sum && !isnan(truth))
            metrics_add_value(p->sum, k, truth, guess,
                              data_has_persistence(p->d)
                                  ? data_persistence(p->d, p->split, index, step, k)
                                  : NAN);
        if (p->csv) {
            strbuf_putc(p->csv, ',');
            csv_number(p->csv, truth);
            strbuf_putc(p->csv, ',');
            csv_number(p->csv, guess);
        }
    }
}

static void score_rows(const Pass *p, const int64_t *index, int rows)
{
    char label[256];
    for (int64_t at = 0; at < (int64_t)rows * p->steps; at++) {
        const int64_t i = index[at / p->steps];
        const int step = (int)(at % p->steps);
        if (p->csv)
            csv_text(p->csv, data_row_label(p->d, p->split, i, step, label, sizeof label));
        if (p->shape->classification)
            step_class(p, at);
        else
            step_values(p, at, i);
        if (p->csv)
            strbuf_putc(p->csv, '\n');
    }
}

static Status batch_begin(const Pass *p, Loader *l, Begun *b)
{
    Ctx *cx = p->cx;
    void *const *x, *const given = session_input(p->s, p->kind, "y");
    int32_t *const at = session_at(p->s, p->kind),
                   *const valid = session_input(p->s, p->kind, "rows");
    TRY(session_inputs(cx, p->s, p->kind, &x));
    TRY(loader_next(cx, l, x, b->y, &b->rows));
    if (b->rows == 0)
        return ST_OK;
    memcpy(b->index, loader_index(l), sizeof *b->index * (size_t)b->rows);
    if (given)
        memcpy(given, b->y, p->y_bytes);
    if (at)
        TRY(data_locate(cx, p->d, p->split, loader_index(l), p->s->batch, at));
    if (valid)
        *valid = b->rows;
    return gtc_program_submit(cx, p->s->program[p->kind]);
}

static Status batch_end(Pass *p, const Begun *b)
{
    GtcTensor loss;
    TRY(gtc_program_collect(p->cx, p->s->program[p->kind]));
    if (p->sum && session_output(p->s, p->kind, "loss", &loss))
        metrics_add_loss(p->sum, (double)*(const float *)loss.data, b->rows);
    p->y = b->y;
    score_rows(p, b->index, b->rows);
    return ST_OK;
}

static Status score_batches(Pass *p, Loader *l, ScoreStop stop, int64_t *total)
{
    int64_t begun = 0, ended = 0;
    bool more = true;
    *total = 0;
    TRY(session_feed(p->cx, p->s, p->d));
    while (more || ended < begun) {
        const bool stopped = stop.asked && stop.asked(stop.arg);
        while (more && !stopped && begun - ended < p->depth) {
            Begun *b = &p->begun[begun % p->depth];
            TRY(batch_begin(p, l, b));
            more = b->rows > 0;
            begun += more;
        }
        if (stopped) /* what is under way has to end */
            for (; ended < begun; ended++)
                TRY(gtc_program_collect(p->cx, p->s->program[p->kind]));
        if (stopped)
            return FAIL(p->cx, STOPPED, "stopped by a signal");
        if (ended == begun)
            return ST_OK;
        const Begun *b = &p->begun[ended++ % p->depth];
        TRY(batch_end(p, b));
        *total += b->rows;
    }
    return ST_OK;
}

static Status score_open(Pass *p)
{
    const Type *t = &p->prediction.type;
    if (!session_output(p->s, p->kind, "prediction", &p->prediction) || t->dt != DT_F32)
        return FAIL(p->cx, INTERNAL, "the program has no f32 output \"prediction\"");
    p->steps = data_steps(p->d);
    p->ntarget = p->shape->classification ? 1 : (int)(shape_count(&p->shape->target) / p->steps);
    p->width = (int)(shape_count(&t->shape) / p->s->batch / p->steps);
    if (!p->shape->classification && p->width != p->ntarget)
        return FAIL(p->cx, SHAPE, "the prediction has %d values a row, the target %d", p->width,
                    p->ntarget);
    if (p->shape->classification && p->width != 1 && p->width != p->shape->nclass)
        return FAIL(p->cx, SHAPE, "the prediction has %d values a row for %d classes", p->width,
                    p->shape->nclass);
    return ST_OK;
}

static Status score_pass(Pass *p, ScoreStop stop, int64_t *rows)
{
    Loader *l;
    TRY(score_open(p));
    if (p->csv)
        csv_header(p);
    Arena *arena = arena_new();
    p->depth = gtc_program_depth(p->s->program[p->kind]);
    p->begun = arena_array(arena, Begun, p->depth);
    p->y_bytes = 4 * (size_t)p->steps * (size_t)p->ntarget * (size_t)p->s->batch;
    const size_t index_bytes = sizeof(int64_t) * (size_t)p->s->batch;
    char *room = p->cx->os->alloc((p->y_bytes + index_bytes) * (size_t)p->depth);
    Status st = room ? ST_OK : FAIL(p->cx, MEMORY, "no memory for batches of targets");
    for (int k = 0; k < p->depth && room; k++) {
        p->begun[k].index = (int64_t *)(void *)(room + index_bytes * (size_t)k);
        p->begun[k].y = room + index_bytes * (size_t)p->depth + p->y_bytes * (size_t)k;
    }
    if (st == ST_OK)
        st = loader_open(p->cx, p->d, p->split, p->s->batch, false, 0, &l);
    if (st == ST_OK) {
        st = score_batches(p, l, stop, rows);
        loader_close(l);
    }
    if (room)
        p->cx->os->release(room);
    arena_free(arena);
    return st;
}

Status score_split(Ctx *cx, Session *s, const Data *d, Split split, ScoreStop stop, Arena *arena,
                   Metrics *out, Strbuf *csv)
{
    const DataShape *shape = data_shape(d);
    const int nclass = shape->classification ? shape->nclass : 0;
    const int ntarget =
        shape->classification ? 0 : (int)(shape_count(&shape->target) / data_steps(d));
    int64_t rows;
    Pass p = {
        .cx = cx, .s = s, .d = d, .shape = shape, .kind = BUILD_EVAL, .split = split, .csv = csv
    };
    p.sum = metrics_start(arena, ntarget, nclass > 1 || nclass == 0 ? nclass : 2);
    TRY(score_pass(&p, stop, &rows));
    *out = metrics_finish(p.sum);
    return ST_OK;
}

Status score_predict(Ctx *cx, Session *s, const Data *d, Split split, ScoreStop stop, Strbuf *csv,
                     int64_t *rows)
{
    Pass p = { .cx = cx,
               .s = s,
               .d = d,
               .shape = data_shape(d),
               .kind = BUILD_PREDICT,
               .split = split,
               .csv = csv };
    return score_pass(&p, stop, rows);
}
