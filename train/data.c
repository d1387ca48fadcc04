/* SPDX-License-Identifier: Apache-2.0 */
/* data: a data set, ready to be fetched from.
 *
 * The order of preparation is the order of what may be known: read, choose columns, clean
 * (data_part), list the windows of each split (window), fit scalers on what train windows see, and
 * only then scale.  Rows are kept once, packed and scaled, for data_fetch.
 *
 * The main files are part 0; a separate test source is part 1, whose samples are the test split. */
#include "train/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/size.h"
#include "train/data_set.h"
#include "train/scaler.h"

static const char *const split_name[] = { "train", "val", "test" };

/* ---- samples ---- */

static Windows windows_of(const Data *d, const Part *p, const uint8_t *split)
{
    return (Windows){ .rows = p->rows,
                      .window = d->cfg.window > 0 ? d->cfg.window : 1,
                      .stride = d->cfg.stride > 0 ? d->cfg.stride : 1,
                      .eval_stride = d->cfg.eval_stride > 0 ? d->cfg.eval_stride
                                     : d->cfg.stride > 0    ? d->cfg.stride
                                                            : 1,
                      .each = d->cfg.target_rows != TARGET_LAST,
                      .horizon = d->horizon,
                      .nhorizon = d->nhorizon,
                      .run = p->run,
                      .xbad = p->xbad,
                      .ybad = p->ybad,
                      .future = p->y == NULL || d->cfg.future,
                      .split = split };
}

static Status samples_list(Ctx *cx, Data *d, uint64_t seed)
{
    Part *p = &d->part[0];
    const bool two = d->nparts == 2;
    uint8_t *split;
    void *room;
    int64_t n[SPLIT_COUNT], bound[SPLIT_COUNT];
    TRY(part_split(cx, &d->cfg, p, seed, &split));
    TRY(source_alloc(cx, &p->src, 2 * (p->rows + 1), sizeof(int64_t), &room));
    int64_t *bad = room;
    d->win[0] = windows_of(d, p, split);
    window_list(&d->win[0], bad, NULL, n);
    for (int s = 0; s < SPLIT_COUNT; s++) {
        TRY(source_alloc(cx, &p->src, split ? n[s] : n[SPLIT_TRAIN], sizeof(int64_t), &room));
        d->end[s] = room;
    }
    window_list(&d->win[0], bad, d->end, d->n);
    if (!split) {
        TRY(window_bounds(cx, d->cfg.split, d->n[SPLIT_TRAIN], bound));
        window_shuffle(seed, bound, d->end, d->n);
    }
    source_release(&p->src, bad);
    if (!two)
        return ST_OK;
    if (d->n[SPLIT_TEST])
        log_say(cx, LOG_INFO, "data: %lld samples unused: the test split comes from its own files",
                (long long)d->n[SPLIT_TEST]);
    p = &d->part[1];
    d->of[SPLIT_TEST] = 1;
    TRY(source_alloc(cx, &p->src, 2 * (p->rows + 1), sizeof(int64_t), &room));
    bad = room;
    d->win[1] = windows_of(d, p, NULL);
    d->win[1].stride = d->win[1].eval_stride;
    window_list(&d->win[1], bad, NULL, n);
    TRY(source_alloc(cx, &p->src, n[0], sizeof(int64_t), &room));
    int64_t *const end[SPLIT_COUNT] = { room, NULL, NULL };
    window_list(&d->win[1], bad, end, n);
    d->end[SPLIT_TEST] = end[0];
    d->n[SPLIT_TEST] = n[0];
    source_release(&p->src, bad);
    return ST_OK;
}

static Status samples_check(Ctx *cx, const Data *d, const DataFit *fit)
{
    int64_t all = 0;
    int far = 0;
    for (int s = 0; s < SPLIT_COUNT; s++)
        all += d->n[s];
    for (int k = 0; k < d->nhorizon; k++)
        far = d->horizon[k] > far ? d->horizon[k] : far;
    if (d->n[SPLIT_TRAIN] == 0 && (!fit || all == 0))
        return FAIL(cx, DATA,
                    "data: no samples%s: %lld rows, a window of %d and a horizon of %d rows, "
                    "missing values and the split leave none",
                    fit ? "" : " to train on", (long long)d->part[0].rows, d->win[0].window, far);
    for (int s = 0; s < SPLIT_COUNT; s++) {
        const bool wanted =
            d->cfg.split_by == SPLIT_GROUPS ? d->cfg.split_groups[s].n > 0 : d->cfg.split[s] > 0;
        if (wanted && d->n[s] == 0)
            log_say(cx, LOG_WARN, "data: the %s split has no samples", split_name[s]);
    }
    return ST_OK;
}

/* ---- fitting ---- */

static int category_width(const Data *d, int k)
{
    return d->cfg.category_as == CATEGORY_INDEX ? 1 : d->fit.category[k].n;
}

static int feature_count(const Data *d, const Part *p)
{
    int n = p->nnumber;
    for (int k = 0; k < p->ncategory; k++)
        n += category_width(d, k);
    return n;
}

static StrList strs_copy(Arena *a, const char *const *at, int n)
{
    StrList l = { .at = arena_array(a, const char *, n + 1), .n = n };
    for (int i = 0; i < n; i++)
        l.at[i] = arena_strdup(a, at[i]);
    return l;
}

static void names_fit(Data *d, const Part *p)
{
    Arena *a = d->arena;
    d->fit.ncategory = p->ncategory;
    if (d->cfg.format != DATA_TEXT)
        d->fit.category = arena_array(a, StrList, p->ncategory + 1);
    for (int k = 0; k < p->ncategory && d->cfg.format != DATA_TEXT; k++)
        d->fit.category[k] = strs_copy(a, p->category[k]->words, p->category[k]->nwords);
    StrList *f = &d->fit.features;
    f->at = arena_array(a, const char *, feature_count(d, p) + 1);
    for (int i = 0; i < p->nnumber; i++)
        f->at[f->n++] = arena_strdup(a, p->number[i]->name);
    for (int k = 0; k < p->ncategory; k++)
        for (int i = 0; i < category_width(d, k); i++)
            f->at[f->n++] =
                d->cfg.category_as == CATEGORY_INDEX
                    ? arena_strdup(a, p->category[k]->name)
                    : arena_printf(a, "%s=%s", p->category[k]->name, d->fit.category[k].at[i]);
    if (!d->shape.classification || d->cfg.format == DATA_TEXT)
        return;
    if (d->cfg.format == DATA_RANDOM) {
        d->fit.classes.at = arena_array(a, const char *, d->cfg.random_classes);
        for (int i = 0; i < d->cfg.random_classes; i++)
            d->fit.classes.at[d->fit.classes.n++] = arena_printf(a, "%d", i);
    } else {
        d->fit.classes = strs_copy(a, p->target[0]->words, p->target[0]->nwords);
    }
}

/* The vocabulary is what the rows of the train split are made of: all of the text where windows are
 * drawn from it. */
static Status text_fit(Ctx *cx, Data *d, const Part *p)
{
    int64_t bound[SPLIT_COUNT] = { p->src.rows };
    if (d->cfg.split_by == SPLIT_CHRONOLOGICAL)
        TRY(window_bounds(cx, d->cfg.split, p->src.rows, bound));
    const StrList words = part_words(p, &p->src.col[0], bound[SPLIT_TRAIN]);
    d->fit.classes = strs_copy(d->arena, words.at, words.n);
    d->fit.ncategory = 1;
    d->fit.category = arena_array(d->arena, StrList, 1);
    d->fit.category[0] = d->fit.classes;
    return ST_OK;
}

static void blocks_fit(Data *d, const Part *p, const uint8_t *seen)
{
    const Block *b = &p->src.block[0];
    if (d->cfg.format == DATA_RANDOM) { /* normal as drawn */
        d->fit.x = scaler_identity(d->arena, 1);
    } else if (d->cfg.scaler == SCALER_NONE) {
        d->fit.x = scaler_identity(d->arena,
                                   b->kind == BLOCK_U8 ? 1 : (int)b->shape.dim[b->shape.rank - 1]);
    } else if (b->kind == BLOCK_U8) {
        int64_t count[256] = { 0 };
        const unsigned char *v = b->data;
        for (int64_t i = 0; i < p->rows * b->width; i++)
            count[v[i]] += seen[i / b->width];
        d->fit.x = scaler_identity(d->arena, 1);
        d->fit.x.kind = d->cfg.scaler;
        scaler_fit_bytes(&d->fit.x, count, d->cfg.pixel_scale);
    } else { /* by the last axis, over all that is before it */
        const int64_t last = b->shape.dim[b->shape.rank - 1];
        const int64_t per_row = last ? b->width / last : 0;
        uint8_t *use = arena_array(p->src.arena, uint8_t, p->rows * per_row + 1);
        for (int64_t i = 0; i < p->rows * per_row; i++)
            use[i] = seen[i / per_row];
        d->fit.x = scaler_identity(d->arena, (int)last);
        d->fit.x.kind = d->cfg.scaler;
        for (int k = 0; k < last; k++)
            scaler_fit_f32(&d->fit.x, k, (float *)b->data + k, last, use, p->rows * per_row);
    }
}

static Status scalers_fit(Ctx *cx, Data *d)
{
    Part *p = &d->part[0];
    void *room;
    TRY(source_alloc(cx, &p->src, p->rows, 1, &room));
    uint8_t *seen = room;
    memset(seen, 0, (size_t)p->rows);
    window_mark_inputs(&d->win[0], d->end[SPLIT_TRAIN], d->n[SPLIT_TRAIN], seen);
    if (p->src.nblock) {
        blocks_fit(d, p, seen);
    } else {
        d->fit.x = scaler_identity(d->arena, feature_count(d, p));
        d->fit.x.kind = d->cfg.scaler;
        for (int i = 0; i < p->nnumber; i++)
            scaler_fit(&d->fit.x, i, p->number[i]->value, seen, p->rows);
    }
    d->fit.y = scaler_identity(d->arena, d->shape.classification ? 0 : d->ntarget * d->nhorizon);
    if (!d->shape.classification && d->cfg.format != DATA_RANDOM) {
        d->fit.y.kind = d->cfg.target_scaler;
        memset(seen, 0, (size_t)p->rows);
        window_mark_targets(&d->win[0], d->end[SPLIT_TRAIN], d->n[SPLIT_TRAIN], seen);
        for (int k = 0; k < d->fit.y.n; k++)
            scaler_fit(&d->fit.y, k, p->y + (k % d->ntarget) * p->rows, seen, p->rows);
    }
    source_release(&p->src, seen);
    return ST_OK;
}

static void fit_copy(Data *d, const DataFit *fit)
{
    Arena *a = d->arena;
    d->fit.x = scaler_copy(a, &fit->x);
    d->fit.y = scaler_copy(a, &fit->y);
    d->fit.features = strs_copy(a, fit->features.at, fit->features.n);
    d->fit.classes = strs_copy(a, fit->classes.at, fit->classes.n);
    d->fit.ncategory = fit->ncategory;
    d->fit.category = arena_array(a, StrList, fit->ncategory + 1);
    for (int k = 0; k < fit->ncategory; k++)
        d->fit.category[k] = strs_copy(a, fit->category[k].at, fit->category[k].n);
}

/* ---- packing ---- */

static Status category_pack(Ctx *cx, const Data *d, Part *p, int k, float *x, int64_t width)
{
    int32_t *id;
    int64_t unseen;
    TRY(part_category(cx, p, p->category[k], &d->fit.category[k], &id, &unseen));
    if (unseen)
        log_say(cx, LOG_WARN,
                "data: column \"%s\": %lld values unknown to the model are taken as none of the %d "
                "known",
                p->category[k]->name, (long long)unseen, d->fit.category[k].n);
    for (int64_t r = 0; r < p->rows; r++) {
        if (d->cfg.category_as == CATEGORY_INDEX)
            x[r * width] = (float)id[r];
        else if (id[r] >= 0)
            x[r * width + id[r]] = 1;
    }
    source_release(&p->src, id);
    return ST_OK;
}

static Status columns_pack(Ctx *cx, const Data *d, Part *p)
{
    const int64_t width = feature_count(d, p);
    Block *b = p->input = arena_array(p->src.arena, Block, 1);
    p->ninput = 1;
    *b = (Block){ .name = "x", .shape = { .rank = 1, .dim = { width } }, .width = width };
    if (d->cfg.format == DATA_TEXT) {
        int64_t unseen;
        b->kind = BLOCK_ID;
        b->width = 1;
        if (d->cfg.category_as == CATEGORY_INDEX) {
            b->kind = BLOCK_NUMBER;
            b->shape.rank = 0;
        }
        TRY(part_category(cx, p, p->category[0], &d->fit.category[0], (int32_t **)&b->data,
                          &unseen));
        if (unseen)
            log_say(cx, LOG_WARN, "data: %lld characters are not among the %d of the train split",
                    (long long)unseen, d->fit.classes.n);
        return ST_OK;
    }
    const int64_t n = size_mul(p->rows, width);
    TRY(source_alloc(cx, &p->src, n, sizeof(float), &b->data));
    float *x = b->data;
    if (p->ncategory)
        memset(x, 0, sizeof *x * (size_t)n);
    for (int i = 0; i < p->nnumber; i++) {
        const double *v = p->number[i]->value, shift = d->fit.x.shift[i];
        const double scale = d->fit.x.scale[i];
        for (int64_t r = 0; r < p->rows; r++)
            x[r * width + i] = (float)((v[r] - shift) / scale);
    }
    int64_t at = p->nnumber;
    for (int k = 0; k < p->ncategory; k++) {
        TRY(category_pack(cx, d, p, k, x + at, width));
        at += category_width(d, k);
    }
    return ST_OK;
}

static Status part_pack(Ctx *cx, Data *d, Part *p)
{
    Source *src = &p->src;
    if (src->nblock == 0) {
        TRY(columns_pack(cx, d, p));
    } else {
        p->input = src->block;
        p->ninput = src->nblock;
    }
    const Block *b = &p->input[0];
    const int64_t last = b->shape.rank ? b->shape.dim[b->shape.rank - 1] : 1;
    const int64_t want = src->nblock == 0 ? feature_count(d, p) : b->kind == BLOCK_U8 ? 1 : last;
    if (d->cfg.format != DATA_RANDOM && d->fit.x.n != want)
        return FAIL(cx, DATA, "data: the model was fitted on %d features, this data has %lld",
                    d->fit.x.n, (long long)want);
    if (b->kind == BLOCK_U8)
        for (int i = 0; i < 256; i++)
            d->pixel[i] = (float)((i * d->cfg.pixel_scale - d->fit.x.shift[0]) / d->fit.x.scale[0]);
    if (src->nblock && b->kind == BLOCK_F32 && d->fit.x.kind != SCALER_NONE) {
        float *x = b->data;
        for (int64_t i = 0; i < p->rows * b->width; i++)
            x[i] = (float)(((double)x[i] - d->fit.x.shift[i % last]) / d->fit.x.scale[i % last]);
    }
    source_forget(src);
    return ST_OK;
}

/* ---- opening ---- */

static void horizons_set(Data *d)
{
    const DataConfig *cfg = &d->cfg;
    d->nhorizon = cfg->nhorizons ? cfg->nhorizons : 1;
    d->horizon = arena_array(d->arena, int, d->nhorizon);
    d->horizon[0] = cfg->format == DATA_TEXT && cfg->horizon == 0 ? 1 : cfg->horizon;
    for (int k = 0; k < cfg->nhorizons; k++)
        d->horizon[k] = cfg->horizons[k];
    d->forecast = true;
    for (int k = 0; k < d->nhorizon; k++)
        d->forecast = d->forecast && d->horizon[k] > 0;
}

static Status shape_set(Ctx *cx, Data *d)
{
    const Part *p = &d->part[0];
    DataShape *s = &d->shape;
    if (s->classification && d->nhorizon > 1)
        return FAIL(cx, VALUE, "data: a classification wants one horizon, got %d", d->nhorizon);
    s->ninput = p->ninput;
    s->input = arena_array(d->arena, NamedShape, p->ninput);
    for (int i = 0; i < p->ninput; i++) {
        Shape shape = p->input[i].shape;
        if (d->cfg.window > 0) {
            shape.dim[shape.rank++] = shape.dim[0]; /* columns, if there are any */
            shape.dim[0] = d->cfg.window;
        }
        s->input[i] = (NamedShape){ arena_strdup(d->arena, p->input[i].name), shape };
    }
    s->words = p->input[0].kind == BLOCK_NUMBER ? d->fit.category[0].n : 0;
    s->nclass = d->fit.classes.n;
    if (d->cfg.target_rows == TARGET_EACH)
        s->target =
            (Shape){ .rank = s->classification ? 1 : 2, .dim = { d->cfg.window, d->ntarget } };
    else if (s->classification)
        s->target = (Shape){ 0 };
    else if (d->cfg.format == DATA_RANDOM)
        s->target = d->cfg.random_target;
    else
        s->target = (Shape){ .rank = 1, .dim = { (int64_t)d->ntarget * d->nhorizon } };
    return ST_OK;
}

static void target_names(Data *d, const DataFit *fit)
{
    const Part *p = &d->part[0];
    const int n = d->ntarget * d->nhorizon;
    d->target_name = arena_array(d->arena, const char *, n + 1);
    for (int k = 0; k < n; k++) {
        const int c = k % d->ntarget;
        const char *name = p->ntarget                    ? p->target[c]->name
                           : fit && d->cfg.targets.n > c ? d->cfg.targets.at[c]
                                                         : "y";
        d->target_name[k] = d->nhorizon == 1
                                ? arena_strdup(d->arena, name)
                                : arena_printf(d->arena, "%s+%d", name, d->horizon[k / d->ntarget]);
    }
}

static Status config_check(Ctx *cx, const DataConfig *cfg)
{
    if (cfg->window < 0 || cfg->horizon < 0 || cfg->stride < 0 || cfg->eval_stride < 0)
        return FAIL(cx, VALUE, "data: window, horizon and stride are not negative");
    if (cfg->target_rows != TARGET_LAST && (cfg->window < 1 || cfg->nhorizons > 0))
        return FAIL(cx, VALUE, "data: target_rows wants a window and one horizon");
    for (int k = 0; k < cfg->nhorizons; k++)
        if (cfg->horizons[k] < 0)
            return FAIL(cx, VALUE, "data: a horizon is not negative, got %d", cfg->horizons[k]);
    return ST_OK;
}

/* Samples that come whole have no rows to be joined into windows. */
static Status whole_check(Ctx *cx, const Data *d, const Part *p)
{
    if (p->src.nblock == 0)
        return ST_OK;
    if (d->cfg.window > 0 || d->cfg.horizon > 0 || d->cfg.nhorizons > 0)
        return FAIL(cx, VALUE,
                    "data: each row of this data is a whole sample: window and horizon "
                    "want rows with columns");
    return ST_OK;
}

static Status parts_read(Ctx *cx, Data *d, const DataConfig *cfg, const char *const *dirs,
                         int ndirs, uint64_t seed, const DataFit *fit)
{
    for (int i = 0; i < 1 + (cfg->test_files.n > 0); i++) {
        Part *p = &d->part[i];
        const Request rq = { .cfg = cfg,
                             .files = i ? &cfg->test_files : &cfg->files,
                             .target_files = i ? &cfg->test_target_files : &cfg->target_files,
                             .dirs = dirs,
                             .ndirs = ndirs,
                             .seed = seed };
        d->nparts = i + 1;
        TRY(source_read(cx, &rq, &p->src));
        TRY(whole_check(cx, d, p));
        const bool text = cfg->format == DATA_TEXT;
        if (text && i == 0 && !fit)
            TRY(text_fit(cx, d, p));
        TRY(part_clean(cx, cfg, p, (i || text) && !fit ? &d->fit : fit, d->forecast));
        if (i && !fit && !p->y)
            return FAIL(cx, DATA, "data: the test files have no target");
        if (i)
            continue;
        d->ntarget = p->ntarget ? p->ntarget : fit && fit->y.n ? fit->y.n / d->nhorizon : 1;
        if (!fit && !p->y)
            return FAIL(cx, DATA, "data: there is no target to train on");
        if (fit)
            fit_copy(d, fit);
        else
            names_fit(d, p);
    }
    return ST_OK;
}

static Status data_prepare(Ctx *cx, Data *d, const DataConfig *cfg, const char *const *dirs,
                           int ndirs, uint64_t seed, const DataFit *fit)
{
    d->cfg = *cfg;
    TRY(config_check(cx, cfg));
    horizons_set(d);
    d->shape.classification = cfg->format == DATA_TEXT || cfg->random_classes > 0 ||
                              (cfg->format != DATA_RANDOM && cfg->classification);
    if (cfg->format == DATA_RANDOM && cfg->classification && cfg->random_classes == 0)
        return FAIL(cx, VALUE, "data: random data for a classification want \"classes\"");
    TRY(parts_read(cx, d, cfg, dirs, ndirs, seed, fit));
    TRY(samples_list(cx, d, seed));
    TRY(samples_check(cx, d, fit));
    if (!fit)
        TRY(scalers_fit(cx, d));
    target_names(d, fit);
    for (int i = 0; i < d->nparts; i++)
        TRY(part_pack(cx, d, &d->part[i]));
    if (!d->shape.classification && d->fit.y.n != d->ntarget * d->nhorizon)
        return FAIL(cx, DATA, "data: the model was fitted on %d targets, this data has %d",
                    d->fit.y.n, d->ntarget * d->nhorizon);
    TRY(shape_set(cx, d));
    data_rows_describe(d);
    return ST_OK;
}

Status data_open(Ctx *cx, const DataConfig *cfg, const char *const *dirs, int ndirs, uint64_t seed,
                 const DataFit *fit, Data **out)
{
    Data *d = calloc(1, sizeof *d);
    *out = NULL;
    if (!d)
        return FAIL(cx, MEMORY, "data: no memory");
    d->arena = arena_new();
    const Status s = data_prepare(cx, d, cfg, dirs, ndirs, seed, fit);
    if (s != ST_OK) {
        data_close(d);
        return s;
    }
    *out = d;
    return ST_OK;
}

void data_close(Data *d)
{
    if (!d)
        return;
    for (int i = 0; i < d->nparts; i++)
        source_free(&d->part[i].src);
    arena_free(d->arena);
    free(d);
}

/* ---- asking ---- */

const DataShape *data_shape(const Data *d)
{
    return &d->shape;
}

const DataFit *data_fit(const Data *d)
{
    return &d->fit;
}

int64_t data_rows(const Data *d, Split s)
{
    return d->n[s];
}

int data_steps(const Data *d)
{
    return d->cfg.target_rows == TARGET_EACH ? d->cfg.window : 1;
}

static int64_t step_row(const Data *d, Split s, int64_t index, int step)
{
    return d->end[s][index] - (data_steps(d) - 1 - step);
}

const char *data_row_label(const Data *d, Split s, int64_t index, int step, char *buf, int nbuf)
{
    const Part *p = &d->part[d->of[s]];
    const int64_t row = step_row(d, s, index, step) + d->horizon[0];
    const Column *t = p->time;
    if (!t)
        snprintf(buf, (size_t)nbuf, "%lld", (long long)row + 1);
    else if (row >= p->rows && t->word[p->rows - 1] >= 0)
        snprintf(buf, (size_t)nbuf, "%s+%lld", t->words[t->word[p->rows - 1]],
                 (long long)(row - p->rows + 1));
    else
        snprintf(buf, (size_t)nbuf, "%s",
                 row >= p->rows || t->word[row] < 0 ? "" : t->words[t->word[row]]);
    return buf;
}

double data_unscale(const Data *d, int target, double scaled)
{
    if (target >= d->fit.y.n)
        return scaled;
    return scaled * d->fit.y.scale[target] + d->fit.y.shift[target];
}

double data_persistence(const Data *d, Split s, int64_t index, int step, int target)
{
    const Part *p = &d->part[d->of[s]];
    if (!p->last)
        return (double)NAN;
    return p->last[(target % d->ntarget) * p->rows + step_row(d, s, index, step)];
}

bool data_has_persistence(const Data *d)
{
    return d->part[0].last != NULL;
}

bool data_has_targets(const Data *d)
{
    return d->part[0].y && d->part[d->nparts - 1].y;
}

const char *data_target_name(const Data *d, int target)
{
    return d->target_name[target];
}
