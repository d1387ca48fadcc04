/* SPDX-License-Identifier: Apache-2.0 */
/* gtc init: a model.json to start from.
 *
 * A file with a column of dates is taken for a series to be forecast: windows of the past, the
 * target one row ahead, an LSTM beside a linear map of the window.  Any other is a table: a small
 * dense net of the target's row.  What was guessed is said, and stands in the file to be edited. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "ir/base/os.h"
#include "models/json.h"
#include "train/data_csv.h"

typedef enum Use { USE_FEATURE, USE_CATEGORY, USE_TIME, USE_TARGET, USE_NOTHING } Use;

typedef struct Guess {
    Use *use; /* of each column */
    const char *time;
    bool classes;
    int nclass;
    bool missing;
    bool target_in_features;
} Guess;

enum { MOST_VALUES = 20, MOST_CLASSES = 12 };

/* By the first 50 cells that are there. */
static bool is_date(const Source *src, const Column *col)
{
    char text[64];
    int seen = 0;
    for (int64_t r = 0; r < src->rows && seen < 50; r++) {
        double seconds;
        column_text(col, r, text, sizeof text);
        if (!*text)
            continue;
        seen++;
        if (!date_parse(text, strlen(text), true, &seconds) &&
            !date_parse(text, strlen(text), false, &seconds))
            return false;
    }
    return seen > 0;
}

static bool has_gaps(const Source *src, const Column *col)
{
    for (int64_t r = 0; r < src->rows; r++)
        if (isnan(col->value[r]))
            return true;
    return false;
}

/* 1, 2, 3 ...: the number of the row says nothing. */
static bool is_counter(const Source *src, const Column *col)
{
    for (int64_t r = 1; r < src->rows; r++)
        if (col->value[r] != col->value[r - 1] + 1)
            return false;
    return src->rows > 2;
}

/* Few integers from 0 or 1 on are classes. */
static bool looks_like_classes(Ctx *cx, Source *src, Column *col, Status *st)
{
    for (int64_t r = 0; r < src->rows; r++)
        if (!isnan(col->value[r]) && (col->value[r] != floor(col->value[r]) || col->value[r] < 0))
            return false;
    *st = column_words(cx, src, col);
    return *st == ST_OK && col->nwords >= 2 && col->nwords <= MOST_CLASSES &&
           src->rows >= 5 * (int64_t)col->nwords;
}

static Status guess_target(Cli *c, Source *src, int target, Guess *g)
{
    Column *col = &src->col[target];
    g->use[target] = USE_TARGET;
    if (column_kind(src, col) == COLUMN_TEXT) {
        TRY(column_words(&c->cx, src, col));
        g->classes = true;
        g->nclass = col->nwords;
        return ST_OK;
    }
    TRY(column_numbers(&c->cx, src, col));
    Status st = ST_OK;
    g->classes = !g->time && looks_like_classes(&c->cx, src, col, &st);
    g->nclass = g->classes ? col->nwords : 0;
    g->missing |= has_gaps(src, col);
    g->target_in_features = g->time != NULL;
    return st;
}

static Status guess_feature(Cli *c, Source *src, int i, Guess *g)
{
    Column *col = &src->col[i];
    g->use[i] = USE_NOTHING;
    switch (column_kind(src, col)) {
    case COLUMN_EMPTY:
        log_say(&c->cx, LOG_INFO, "column %s is empty: left out", col->name);
        return ST_OK;
    case COLUMN_TEXT:
        TRY(column_words(&c->cx, src, col));
        if (col->nwords <= MOST_VALUES)
            g->use[i] = USE_CATEGORY;
        else
            log_say(&c->cx, LOG_INFO, "column %s has %d different texts: left out", col->name,
                    col->nwords);
        return ST_OK;
    case COLUMN_NUMBERS:
        break;
    }
    TRY(column_numbers(&c->cx, src, col));
    if (is_counter(src, col)) {
        log_say(&c->cx, LOG_INFO, "column %s only counts rows: left out", col->name);
        return ST_OK;
    }
    g->use[i] = USE_FEATURE;
    g->missing |= has_gaps(src, col);
    return ST_OK;
}

static Status find_target(Cli *c, const Source *src, const char *name, int *out)
{
    const char **names = arena_array(c->o->arena, const char *, src->ncol + 1);
    for (int i = 0; i < src->ncol; i++) {
        names[i] = src->col[i].name;
        if (strcmp(names[i], name) == 0) {
            *out = i;
            return ST_OK;
        }
    }
    const char *hint = json_hint(c->o->arena, name, names, src->ncol);
    if (hint)
        return FAIL(&c->cx, USAGE, "--target: there is no column \"%s\"; %s", name, hint);
    Strbuf there = { 0 };
    for (int i = 0; i < src->ncol && i < MOST_VALUES; i++)
        strbuf_printf(&there, "%s%s", i ? ", " : "", names[i]);
    const Status st = FAIL(&c->cx, USAGE, "--target: there is no column \"%s\"; there are %s%s",
                           name, strbuf_str(&there), src->ncol > MOST_VALUES ? " .." : "");
    strbuf_free(&there);
    return st;
}

/* The file's name with what a model's name may hold: ASCII letters, digits, _ and -. */
static const char *model_name(Arena *arena, const char *stem)
{
    char *name = arena_strdup(arena, stem);
    size_t n = 0;
    bool letter = false;
    for (const char *p = stem; *p; p++) {
        const bool is_letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z');
        const bool fits = is_letter || (n > 0 && ((*p >= '0' && *p <= '9') || *p == '-'));
        letter = letter || is_letter;
        if (fits || n == 0 || name[n - 1] != '_') /* what does not fit becomes one _ */
            name[n++] = fits ? *p : '_';
    }
    name[n] = '\0';
    return letter ? name : "model";
}

static Status guess(Cli *c, Source *src, int target, Guess *g)
{
    g->use = arena_array(c->o->arena, Use, src->ncol + 1);
    for (int i = 0; i < src->ncol && !g->time; i++)
        if (i != target && column_kind(src, &src->col[i]) == COLUMN_TEXT &&
            is_date(src, &src->col[i])) {
            g->time = src->col[i].name;
            g->use[i] = USE_TIME;
        }
    TRY(guess_target(c, src, target, g));
    int features = 0;
    for (int i = 0; i < src->ncol; i++) {
        if (i != target && g->use[i] != USE_TIME)
            TRY(guess_feature(c, src, i, g));
        features += g->use[i] == USE_FEATURE || g->use[i] == USE_CATEGORY;
    }
    if (features == 0 && !g->target_in_features)
        return FAIL(&c->cx, DATA, "no column but the target can be an input");
    return ST_OK;
}

static void put_names(const Source *src, const Guess *g, Use use, Strbuf *out)
{
    const char *sep = "";
    strbuf_putc(out, '[');
    for (int i = 0; i < src->ncol; i++)
        if (g->use[i] == use ||
            (use == USE_FEATURE && g->use[i] == USE_TARGET && g->target_in_features)) {
            strbuf_add(out, sep);
            json_print_string(src->col[i].name, out);
            sep = ", ";
        }
    strbuf_putc(out, ']');
}

static bool uses(const Source *src, const Guess *g, Use use)
{
    for (int i = 0; i < src->ncol; i++)
        if (g->use[i] == use)
            return true;
    return false;
}

static void put_data(const char *csv, const Source *src, int target, const Guess *g, Strbuf *out)
{
    strbuf_add(out, "  \"data\": {\n    \"csv\": ");
    json_print_string(csv, out);
    strbuf_add(out, ",\n    \"features\": ");
    /* Absent or empty would mean all numeric columns. */
    put_names(src, g,
              uses(src, g, USE_FEATURE) || g->target_in_features ? USE_FEATURE : USE_CATEGORY, out);
    if (uses(src, g, USE_CATEGORY)) {
        strbuf_add(out, ",\n    \"categories\": ");
        put_names(src, g, USE_CATEGORY, out);
    }
    strbuf_add(out, ",\n    \"target\": ");
    json_print_string(src->col[target].name, out);
    if (g->time) {
        const int64_t fits = src->rows / 40;
        const int64_t window = fits >= 48 ? 48 : fits >= 4 ? fits : 4;
        strbuf_add(out, ",\n    \"time\": ");
        json_print_string(g->time, out);
        strbuf_printf(out, ",\n    \"window\": %lld,\n    \"horizon\": 1", (long long)window);
    }
    if (g->missing)
        strbuf_printf(out, ",\n    \"missing\": \"%s\"", g->time ? "ffill" : "drop");
    strbuf_add(out, ",\n    \"split\": [0.7, 0.15, 0.15]");
    if (!g->time)
        strbuf_add(out, ",\n    \"split_by\": \"random\"");
    strbuf_add(out, "\n  },\n");
}

static void put_layers(const Guess *g, Strbuf *out)
{
    const int units = g->classes ? g->nclass : 1;
    strbuf_add(out, "  \"layers\": [\n");
    if (g->time) {
        strbuf_printf(
            out,
            "    { \"name\": \"lstm\", \"type\": \"lstm\", \"input\": \"x\", \"units\": 32, "
            "\"return\": \"last\" },\n"
            "    { \"name\": \"deep\", \"type\": \"dense\", \"units\": %d },\n"
            "    { \"name\": \"flat\", \"type\": \"flatten\", \"input\": \"x\" },\n"
            "    { \"name\": \"skip\", \"type\": \"dense\", \"units\": %d },\n"
            "    { \"name\": \"out\", \"type\": \"add\", \"input\": [\"deep\", \"skip\"] }\n",
            units, units);
    } else {
        strbuf_printf(out,
                      "    { \"name\": \"hidden1\", \"type\": \"dense\", \"input\": \"x\", "
                      "\"units\": 64, \"activation\": \"relu\" },\n"
                      "    { \"name\": \"hidden2\", \"type\": \"dense\", \"units\": 64, "
                      "\"activation\": \"relu\" },\n"
                      "    { \"name\": \"out\", \"type\": \"dense\", \"units\": %d }\n",
                      units);
    }
    strbuf_add(out, "  ],\n");
}

static void put_model(const char *name, const char *csv, const Source *src, int target,
                      const Guess *g, Strbuf *out)
{
    strbuf_add(out, "{\n  \"name\": ");
    json_print_string(name, out);
    strbuf_add(out, ",\n");
    put_data(csv, src, target, g, out);
    put_layers(g, out);
    strbuf_printf(out, "  \"loss\": { \"type\": \"%s\", \"prediction\": \"out\" },\n",
                  g->classes ? "cross_entropy" : "mse");
    strbuf_printf(out,
                  "  \"optimizer\": { \"type\": \"adam\", \"learning_rate\": 1e-3 },\n"
                  "  \"train\": { \"epochs\": 50, \"batch_size\": %d, \"patience\": 10, "
                  "\"clip_norm\": 1.0, \"seed\": 1 }\n}\n",
                  src->rows > 20000  ? 256
                  : src->rows > 2000 ? 64
                                     : 16);
}

/* "out/model.json": the folder, the file in it, and how the CSV is to be named from there. */
static Status csv_from(Cli *c, const char *out, const char *csv, const char **named)
{
    char real[PATH_MAX];
    *named = csv;
    if (!strchr(out, '/') || csv[0] == '/' || c->o->data_dirs.n > 0)
        return ST_OK;
    if (!realpath(csv, real))
        return FAIL(&c->cx, IO, "cannot find %s", csv);
    *named = arena_strdup(c->o->arena, real);
    return ST_OK;
}

static Status init(Cli *c, Source *src)
{
    const char *from = options_text(c->o, OPT_from, NULL);
    const char *name = options_text(c->o, OPT_target, NULL);
    const char *out = options_text(c->o, OPT_out, "model.json"), *csv;
    struct stat st;
    int target = 0;
    Guess g = { 0 };
    Strbuf text = { 0 };
    if (!from || !name)
        return FAIL(&c->cx, USAGE, "gtc init: wants --from FILE.csv and --target COLUMN");
    if (!options_flag(c->o, OPT_force) && c->cx.os->stat(out, &st) == 0)
        return FAIL(&c->cx, USAGE, "%s is there already; --force overwrites it", out);
    DataConfig cfg = { .format = DATA_CSV, .files = { &from, 1 } };
    const Request rq = { .cfg = &cfg,
                         .files = &cfg.files,
                         .target_files = &cfg.target_files,
                         .dirs = c->o->data_dirs.at,
                         .ndirs = c->o->data_dirs.n };
    TRY(source_read(&c->cx, &rq, src));
    TRY(find_target(c, src, name, &target));
    TRY(guess(c, src, target, &g));
    TRY(csv_from(c, out, from, &csv));
    put_model(model_name(c->o->arena, source_stem(src, from)), csv, src, target, &g, &text);
    const Status status = os_write_file(&c->cx, out, text.s, text.n);
    strbuf_free(&text);
    TRY(status);
    if (cli_talks(c))
        printf("%s: %s of %s from %lld rows\n", out,
               g.time      ? "a forecast"
               : g.classes ? "a classification"
                           : "a regression",
               name, (long long)src->rows);
    strbuf_add(&c->json, "{\"model\":");
    json_print_string(out, &c->json);
    strbuf_printf(&c->json, ",\"task\":\"%s\",\"rows\":%lld}",
                  g.time      ? "forecast"
                  : g.classes ? "classification"
                              : "regression",
                  (long long)src->rows);
    return ST_OK;
}

Status cli_init(Cli *c)
{
    Source src = { 0 };
    const Status st = init(c, &src);
    if (src.arena)
        source_free(&src);
    return st;
}
