/* SPDX-License-Identifier: Apache-2.0 */
/* data_part: which columns a source gives, and what becomes of missing values.
 *
 * A target is copied before its column is cleaned as a feature: a missing target stays missing,
 * whatever is put into the inputs.  ffill and persistence look at earlier rows of the same run
 * only.  interpolate leaves NaN in place: what may be looked at depends on the window, so that
 * data_fetch fills it in. */
#include "train/data_part.h"

#include <math.h>
#include <string.h>

#include "ir/base/size.h"
#include "ir/base/strbuf.h"
#include "train/data_csv.h"

/* ---- columns by name ---- */

static int edit_distance(const char *a, const char *b)
{
    int row[65];
    const size_t na = strlen(a), nb = strlen(b);
    if (na > 64 || nb > 64)
        return 99;
    for (size_t j = 0; j <= nb; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            const int change = diagonal + ((a[i - 1] | 32) != (b[j - 1] | 32));
            const int step = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
            diagonal = row[j];
            row[j] = change < step ? change : step;
        }
    }
    return row[nb];
}

static Column *column_named(const Part *p, const char *name)
{
    for (int i = 0; i < p->src.ncol; i++)
        if (!strcmp(p->src.col[i].name, name))
            return &p->src.col[i];
    return NULL;
}

/* Of the index file, unless the data have one of this name. */
static Column *aside_named(const Part *p, const char *name)
{
    for (int i = 0; i < p->src.naside && !column_named(p, name); i++)
        if (!strcmp(p->src.aside[i].name, name))
            return &p->src.aside[i];
    return NULL;
}

static Status column_find(Ctx *cx, const Part *p, const char *name, const char *what, Column **out)
{
    *out = column_named(p, name);
    if (*out)
        return ST_OK;
    if (p->src.ncol == 0)
        return FAIL(cx, VALUE, "data: %s names a column \"%s\"; this format has no columns", what,
                    name);
    const Column *near = NULL;
    int best = 1 + (int)strlen(name) / 3;
    Strbuf b = { 0 };
    for (int i = 0; i < p->src.ncol; i++) {
        const int d = edit_distance(p->src.col[i].name, name);
        if (d <= best && d < (int)strlen(name) && (!near || d < best)) {
            best = d;
            near = &p->src.col[i];
        }
        if (i < 24)
            strbuf_printf(&b, "%s%s", i ? ", " : "", p->src.col[i].name);
    }
    const char *file = p->src.col[0].file;
    const Status s = near ? status_fail_at(cx, ST_DATA, file, 1, 1,
                                           "no column \"%s\" for \"%s\"; did you mean \"%s\"?",
                                           name, what, near->name)
                          : status_fail_at(cx, ST_DATA, file, 1, 1,
                                           "no column \"%s\" for \"%s\"; there are %s%s", name,
                                           what, strbuf_str(&b), p->src.ncol > 24 ? " .." : "");
    strbuf_free(&b);
    return s;
}

static bool list_has(const StrList *l, const char *name)
{
    for (int i = 0; i < l->n; i++)
        if (!strcmp(l->at[i], name))
            return true;
    return false;
}

static bool is_aside(const DataConfig *cfg, const char *name)
{
    return (cfg->time && !strcmp(cfg->time, name)) || (cfg->group && !strcmp(cfg->group, name)) ||
           (cfg->segment && !strcmp(cfg->segment, name)) || list_has(&cfg->categories, name);
}

static Status values_fail(Ctx *cx, const Column *c)
{
    return column_fail(cx, c, 0, "column \"%s\" has no values", c->name);
}

static Status targets_choose(Ctx *cx, const DataConfig *cfg, Part *p, const DataFit *fit)
{
    StrList names = cfg->targets;
    Source *src = &p->src;
    if (src->ntarget) {
        p->ntarget = src->ntarget;
        p->target = arena_array(src->arena, Column *, p->ntarget);
        for (int i = 0; i < p->ntarget; i++)
            p->target[i] = &src->target[i];
        return ST_OK;
    }
    const int own = cfg->mix ? 2 : 1; /* columns, when the target goes without saying */
    if (names.n == 0 && src->ncol == own)
        names = (StrList){ .at = &src->col[0].name, .n = 1 };
    if (fit && (names.n == 0 || !column_named(p, names.at[0])))
        return ST_OK; /* nothing to compare with: predictions alone */
    if (names.n == 0)
        return FAIL(cx, VALUE, "data: wants \"target\": which column to predict");
    p->ntarget = names.n;
    p->target = arena_array(src->arena, Column *, names.n);
    for (int i = 0; i < names.n; i++) {
        TRY(column_find(cx, p, names.at[i], "target", &p->target[i]));
        if (!fit && p->target[i]->csv && column_kind(src, p->target[i]) == COLUMN_EMPTY)
            return values_fail(cx, p->target[i]);
    }
    return ST_OK;
}

static bool is_target(const Part *p, const Column *c)
{
    for (int k = 0; k < p->ntarget; k++)
        if (p->target[k] == c)
            return true;
    return false;
}

static Status answer_fail(Ctx *cx, const Column *c)
{
    return FAIL(cx, VALUE,
                "data: the target \"%s\" is among the features and the horizon is 0: the model "
                "would see the answer",
                c->name);
}

/* The names of the numeric features, as configured or found. */
static Status features_default(Ctx *cx, const DataConfig *cfg, Part *p, bool own, StrList *out)
{
    Strbuf text = { 0 };
    out->at = arena_array(p->src.arena, const char *, p->src.ncol + 1);
    for (int i = 0; i < p->src.ncol; i++) {
        const Column *c = &p->src.col[i];
        if (is_aside(cfg, c->name) || (is_target(p, c) && !own))
            continue;
        if (column_kind(&p->src, c) == COLUMN_NUMBERS)
            out->at[out->n++] = c->name;
        else
            strbuf_printf(&text, "%s%s", text.n ? ", " : "", c->name);
    }
    if (text.n)
        log_say(cx, LOG_INFO, "data: left out of the features, being no numbers: %s",
                strbuf_str(&text));
    strbuf_free(&text);
    return ST_OK;
}

/* forecast: the target lies ahead, so that its past may be an input.  own: and is by default. */
static Status features_choose(Ctx *cx, const DataConfig *cfg, Part *p, const DataFit *fit,
                              bool forecast, bool own)
{
    StrList names = cfg->features;
    if (names.n == 0 && fit) { /* those before the categories' */
        names = fit->features;
        for (int k = 0; k < fit->ncategory; k++)
            names.n -= cfg->category_as == CATEGORY_INDEX ? 1 : fit->category[k].n;
    } else if (names.n == 0) {
        TRY(features_default(cx, cfg, p, own, &names));
    }
    p->number = arena_array(p->src.arena, Column *, names.n + 1);
    for (int i = 0; i < names.n; i++) {
        Column *c;
        if (list_has(&cfg->categories, names.at[i]))
            continue;
        TRY(column_find(cx, p, names.at[i], "features", &c));
        if (!forecast && is_target(p, c))
            return answer_fail(cx, c);
        if (c->csv && column_kind(&p->src, c) == COLUMN_EMPTY)
            return values_fail(cx, c);
        p->number[p->nnumber++] = c;
    }
    p->ncategory = cfg->categories.n;
    p->category = arena_array(p->src.arena, Column *, p->ncategory + 1);
    for (int i = 0; i < p->ncategory; i++) {
        TRY(column_find(cx, p, cfg->categories.at[i], "categories", &p->category[i]));
        if (!forecast && is_target(p, p->category[i]))
            return answer_fail(cx, p->category[i]);
    }
    if (p->nnumber + p->ncategory == 0)
        return FAIL(cx, DATA, "data: there is no numeric column to be a feature");
    return ST_OK;
}

/* ---- runs, targets ---- */

static Status runs_find(Ctx *cx, const DataConfig *cfg, Part *p)
{
    const char *const name[] = { cfg->group, cfg->segment };
    Column *c[2] = { 0 };
    void *room;
    if (cfg->time && p->src.ncol) {
        TRY(column_find(cx, p, cfg->time, "time", &p->time));
        TRY(column_words(cx, &p->src, p->time));
    }
    if (!cfg->group && !cfg->segment && !p->src.segment)
        return ST_OK;
    for (int i = 0; i < 2; i++)
        if (name[i]) {
            c[i] = aside_named(p, name[i]);
            if (!c[i])
                TRY(column_find(cx, p, name[i], i ? "segment" : "group", &c[i]));
            TRY(column_words(cx, &p->src, c[i]));
        }
    p->group = c[0];
    TRY(source_alloc(cx, &p->src, p->rows, sizeof(int32_t), &room));
    p->run = room;
    p->run[0] = 0;
    for (int64_t r = 1; r < p->rows; r++) {
        bool change = p->src.segment && p->src.segment[r] != p->src.segment[r - 1];
        for (int i = 0; i < 2; i++)
            change = change || (c[i] && c[i]->word[r] != c[i]->word[r - 1]);
        p->run[r] = p->run[r - 1] + change;
    }
    return ST_OK;
}

/* Rows that the index file leaves out may hold anything. */
static bool is_outside(const Part *p, int64_t r)
{
    return p->src.segment && p->src.segment[r] < 0;
}

static bool run_starts(const Part *p, int64_t r)
{
    return r == 0 || (p->run && p->run[r] != p->run[r - 1]);
}

static Status missing_fail(Ctx *cx, const Column *c, int64_t row)
{
    return column_fail(cx, c, row,
                       "column \"%s\" has a missing value; set \"missing\" to \"drop\", \"ffill\", "
                       "\"interpolate\" or {\"value\": number}",
                       c->name);
}

static Status classes_read(Ctx *cx, const DataConfig *cfg, Part *p, const DataFit *fit)
{
    Column *c = p->target[0];
    if (p->ntarget != 1)
        return FAIL(cx, VALUE, "data: a classification wants one target, got %d", p->ntarget);
    if (cfg->format == DATA_RANDOM) { /* numbers that random_read drew */
        memcpy(p->y, c->value, sizeof *p->y * (size_t)p->rows);
        return ST_OK;
    }
    TRY(column_words(cx, &p->src, c));
    const StrList own = { .at = c->words, .n = c->nwords }, *names = fit ? &fit->classes : &own;
    int32_t *id;
    int64_t unseen;
    TRY(part_category(cx, p, c, names, &id, &unseen));
    uint8_t *real = arena_array(p->src.arena, uint8_t, c->nwords + 1);
    for (int w = 0; w < c->nwords && cfg->format != DATA_TEXT; w++) {
        double v;
        real[w] = number_parse(c->words[w], strlen(c->words[w]), &v) && v != floor(v);
    }
    for (int64_t r = 0; r < p->rows; r++) {
        char buf[64];
        if (c->word[r] >= 0 && real[c->word[r]])
            return column_fail(cx, c, r, "class \"%s\" wants a text or an integer, got %s", c->name,
                               column_text(c, r, buf, sizeof buf));
        if (c->word[r] >= 0 && id[r] < 0 && cfg->format != DATA_TEXT)
            return column_fail(cx, c, r, "column \"%s\": \"%s\" is none of the %d known classes",
                               c->name, column_text(c, r, buf, sizeof buf), names->n);
        p->y[r] = id[r] < 0 ? (double)NAN : id[r];
    }
    return ST_OK;
}

static Status targets_read(Ctx *cx, const DataConfig *cfg, Part *p, const DataFit *fit,
                           bool classification)
{
    void *room;
    if (p->ntarget == 0)
        return ST_OK;
    TRY(source_alloc(cx, &p->src, size_mul(p->ntarget, p->rows), sizeof(double), &room));
    p->y = room;
    if (classification) {
        TRY(classes_read(cx, cfg, p, fit));
    } else {
        for (int k = 0; k < p->ntarget; k++) {
            TRY(column_numbers(cx, &p->src, p->target[k]));
            memcpy(p->y + k * p->rows, p->target[k]->value, sizeof *p->y * (size_t)p->rows);
        }
    }
    TRY(source_alloc(cx, &p->src, p->rows, 1, &room));
    p->ybad = room;
    memset(p->ybad, 0, (size_t)p->rows);
    for (int k = 0; k < p->ntarget; k++)
        for (int64_t r = 0; r < p->rows; r++) {
            if (!isnan(p->y[k * p->rows + r]))
                continue;
            if (cfg->missing == MISSING_ERROR && cfg->format != DATA_TEXT && !is_outside(p, r))
                return missing_fail(cx, p->target[k], r);
            p->ybad[r] = 1;
        }
    return ST_OK;
}

static Status last_read(Ctx *cx, const DataConfig *cfg, Part *p)
{
    void *room;
    TRY(source_alloc(cx, &p->src, size_mul(p->ntarget, p->rows), sizeof(double), &room));
    p->last = room;
    for (int k = 0; k < p->ntarget; k++) {
        const double *y = p->y + k * p->rows;
        double *last = p->last + k * p->rows;
        for (int64_t r = 0; r < p->rows; r++) {
            const double before = run_starts(p, r) ? (double)NAN : last[r - 1];
            last[r] = !isnan(y[r])                    ? y[r]
                      : cfg->missing == MISSING_VALUE ? cfg->missing_value
                                                      : before;
        }
    }
    return ST_OK;
}

/* What a mixture is to be better than: itself. */
static Status mix_last(Ctx *cx, Part *p)
{
    void *room;
    const Column *mix = column_named(p, "mix");
    if (!mix || p->ntarget != 1)
        return ST_OK;
    TRY(source_alloc(cx, &p->src, p->rows, sizeof(double), &room));
    p->last = room;
    memcpy(p->last, mix->value, sizeof *p->last * (size_t)p->rows);
    return ST_OK;
}

/* ---- missing features ---- */

static Status number_clean(Ctx *cx, const DataConfig *cfg, Part *p, const Column *c)
{
    double *v = c->value;
    bool known = false;
    for (int64_t r = 0; r < p->rows; r++) {
        known = known && !run_starts(p, r);
        if (!isnan(v[r])) {
            known = true;
            continue;
        }
        if (cfg->missing == MISSING_ERROR && !is_outside(p, r))
            return missing_fail(cx, c, r);
        if (cfg->missing == MISSING_VALUE)
            v[r] = cfg->missing_value;
        else if (cfg->missing == MISSING_FFILL && known)
            v[r] = v[r - 1];
        else if (cfg->missing == MISSING_INTERPOLATE && known)
            p->gaps[r + 1] = 1;
        else
            p->xbad[r] = 1;
    }
    return ST_OK;
}

/* A text between two texts is the one before; a value that is missing by policy is none of the
 * categories: all zeros. */
static Status category_clean(Ctx *cx, const DataConfig *cfg, Part *p, const Column *c)
{
    for (int64_t r = 0; r < p->rows; r++) {
        if (c->word[r] >= 0 || cfg->missing == MISSING_VALUE)
            continue;
        if (cfg->missing == MISSING_ERROR && !is_outside(p, r))
            return missing_fail(cx, c, r);
        if (cfg->missing != MISSING_DROP && !run_starts(p, r))
            c->word[r] = c->word[r - 1];
        if (c->word[r] < 0)
            p->xbad[r] = 1;
    }
    return ST_OK;
}

static Status block_clean(Ctx *cx, const DataConfig *cfg, Part *p, const Block *b)
{
    float *v = b->data;
    for (int64_t i = 0; b->kind == BLOCK_F32 && i < p->rows * b->width; i++) {
        if (!isnan(v[i]))
            continue;
        if (cfg->missing == MISSING_VALUE)
            v[i] = (float)cfg->missing_value;
        else if (cfg->missing == MISSING_DROP || is_outside(p, i / b->width))
            p->xbad[i / b->width] = 1;
        else
            return FAIL(cx, DATA,
                        "data: row %lld has a missing value; of whole samples \"missing\" may be "
                        "\"drop\" or {\"value\": number}",
                        (long long)(i / b->width) + 1);
    }
    return ST_OK;
}

StrList part_words(const Part *p, const Column *c, int64_t rows)
{
    uint8_t *seen = arena_array(p->src.arena, uint8_t, c->nwords + 1);
    StrList l = { .at = arena_array(p->src.arena, const char *, c->nwords + 1) };
    for (int64_t r = 0; r < rows; r++)
        if (c->word[r] >= 0)
            seen[c->word[r]] = 1;
    for (int w = 0; w < c->nwords; w++)
        if (seen[w])
            l.at[l.n++] = c->words[w];
    return l;
}

Status part_category(Ctx *cx, Part *p, const Column *c, const StrList *names, int32_t **id,
                     int64_t *unseen)
{
    void *room;
    TRY(source_alloc(cx, &p->src, p->rows, sizeof(int32_t), &room));
    *id = room;
    *unseen = 0;
    int32_t *to = arena_array(p->src.arena, int32_t, c->nwords + 1);
    for (int w = 0; w < c->nwords; w++) {
        to[w] = w < names->n && !strcmp(names->at[w], c->words[w]) ? w : -1;
        for (int k = 0; to[w] < 0 && k < names->n; k++)
            if (!strcmp(names->at[k], c->words[w]))
                to[w] = k;
    }
    for (int64_t r = 0; r < p->rows; r++) {
        (*id)[r] = c->word[r] < 0 ? -1 : to[c->word[r]];
        *unseen += c->word[r] >= 0 && (*id)[r] < 0;
    }
    return ST_OK;
}

/* A character that the model does not know has no number: windows with one are no samples. */
static Status unknown_mark(Ctx *cx, Part *p, const StrList *known)
{
    int32_t *id;
    int64_t unseen;
    TRY(part_category(cx, p, p->category[0], known, &id, &unseen));
    for (int64_t r = 0; unseen && r < p->rows; r++)
        p->xbad[r] = p->xbad[r] || id[r] < 0;
    source_release(&p->src, id);
    return ST_OK;
}

Status part_clean(Ctx *cx, const DataConfig *cfg, Part *p, const DataFit *fit, bool forecast)
{
    Source *src = &p->src;
    void *room;
    p->rows = src->rows;
    const bool classification = cfg->format == DATA_TEXT || cfg->random_classes > 0 ||
                                (cfg->format != DATA_RANDOM && cfg->classification);
    TRY(targets_choose(cx, cfg, p, fit));
    if (cfg->format == DATA_TEXT) {
        p->category = arena_array(src->arena, Column *, 1);
        p->category[p->ncategory++] = &src->col[0];
    } else if (src->ncol) {
        TRY(features_choose(cx, cfg, p, fit, forecast, forecast && !classification && !cfg->mix));
    }
    TRY(runs_find(cx, cfg, p));
    TRY(source_alloc(cx, src, p->rows, 1, &room));
    p->xbad = room;
    for (int64_t r = 0; r < p->rows; r++)
        p->xbad[r] = is_outside(p, r);
    TRY(source_alloc(cx, src, p->rows + 1, sizeof(int64_t), &room));
    p->gaps = room;
    memset(p->gaps, 0, sizeof *p->gaps * (size_t)(p->rows + 1));

    for (int i = 0; i < p->nnumber; i++)
        TRY(column_numbers(cx, src, p->number[i]));
    TRY(targets_read(cx, cfg, p, fit, classification));
    if (cfg->mix && p->y)
        TRY(mix_last(cx, p));
    else if (forecast && !classification && p->y)
        TRY(last_read(cx, cfg, p));
    for (int i = 0; i < p->nnumber; i++)
        TRY(number_clean(cx, cfg, p, p->number[i]));
    for (int i = 0; i < p->ncategory; i++) {
        TRY(column_words(cx, src, p->category[i]));
        TRY(category_clean(cx, cfg, p, p->category[i]));
    }
    if (cfg->format == DATA_TEXT && cfg->category_as == CATEGORY_INDEX)
        TRY(unknown_mark(cx, p, &fit->category[0]));
    for (int i = 0; i < src->nblock; i++)
        TRY(block_clean(cx, cfg, p, &src->block[i]));
    for (int64_t r = 0; r < p->rows; r++)
        p->gaps[r + 1] += p->gaps[r];
    return ST_OK;
}
