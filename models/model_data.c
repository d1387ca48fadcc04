/* SPDX-License-Identifier: Apache-2.0 */
/* model_data: the "data" section, of which the table says the plain keys and this file the rest. */
#include "models/reader.h"

#include "ir/base/size.h"

#include <string.h>

static const struct {
    const char *key;
    DataFormat format;
} data_formats[] = {
    { "csv", DATA_CSV }, { "npy", DATA_NPY },   { "idx", DATA_IDX },
    { "wav", DATA_WAV }, { "text", DATA_TEXT }, { "random", DATA_RANDOM },
};
enum { NFORMATS = sizeof data_formats / sizeof data_formats[0] };

/* Finds the one key that says where samples come from. */
static Status read_format(Reader *r, Json *o, const Json **source)
{
    *source = NULL;
    for (int i = 0; i < NFORMATS; i++) {
        const Json *v = json_member(o, data_formats[i].key);
        if (v && *source)
            return json_fail_key(r->cx, ST_VALUE, v, NULL, "a second source beside \"%s\"",
                                 (*source)->key);
        if (v) {
            *source = v;
            r->m->data.format = data_formats[i].format;
        }
    }
    if (!*source)
        return json_fail(r->cx, ST_VALUE, o, NULL, "wants one of csv, npy, idx, wav, text, random");
    return ST_OK;
}

/* Shapes by input name; "y" is the target's, "rows" and "classes" are the table's. */
/* Of one sample, small enough for all arithmetic on the bytes of a batch. */
static Status read_random_shape(Reader *r, const Json *v, Shape *out)
{
    int64_t n = 1;
    TRY(keys_shape(r->cx, r->arena, v, 1, out));
    for (int i = 0; i < out->rank; i++)
        if (!size_mul_ok(n, out->dim[i], &n) || n > INT32_MAX)
            return json_fail(r->cx, ST_VALUE, v, NULL, "wants fewer than 2^31 values, got %s",
                             json_source(r->arena, v));
    return ST_OK;
}

static Status read_random(Reader *r, Json *o)
{
    DataConfig *d = &r->m->data;
    if (o->kind != JSON_OBJECT)
        return json_fail(r->cx, ST_VALUE, o, NULL, "wants an object, got %s",
                         json_source(r->arena, o));
    for (int i = 0; i < key_data.n; i++) {
        const KeyInfo *k = &key_data.row[i];
        if (strcmp(k->section, "random") == 0 && !json_member(o, k->key) &&
            strcmp(k->deflt, REQUIRED) != 0)
            json_set(r->arena, o, k->key, k->deflt);
    }
    d->random_inputs = arena_array(r->arena, NamedShape, o->count);
    bool has_y = false, has_rows = false;
    for (Json *v = o->first; v; v = v->next) {
        int64_t n;
        if (strcmp(v->key, "rows") == 0) {
            TRY(keys_int(r->cx, r->arena, v, ">= 1", &d->random_rows));
            has_rows = true;
        } else if (strcmp(v->key, "classes") == 0) {
            TRY(keys_int(r->cx, r->arena, v, ">= 0", &n));
            if (n > INT32_MAX)
                return json_fail(r->cx, ST_VALUE, v, NULL, "wants fewer than 2^31 classes");
            d->random_classes = (int)n;
        } else if (strcmp(v->key, "y") == 0) {
            TRY(read_random_shape(r, v, &d->random_target));
            has_y = true;
        } else {
            NamedShape *in = &d->random_inputs[d->nrandom++];
            in->name = v->key;
            TRY(read_random_shape(r, v, &in->shape));
        }
    }
    if (d->random_classes > 0) /* a label a sample */
        d->random_target = (Shape){ 0 };
    if (!has_rows)
        return json_fail(r->cx, ST_VALUE, o, NULL, "random data wants \"rows\": samples");
    if (d->nrandom == 0 || (!has_y && d->random_classes == 0))
        return json_fail(r->cx, ST_VALUE, o, NULL,
                         "random data wants the shapes of \"x\" and \"y\", or \"classes\"");
    return ST_OK;
}

static Status read_test(Reader *r, Json *v, const Json *source)
{
    DataConfig *d = &r->m->data;
    if (d->format == DATA_RANDOM)
        return json_fail_key(r->cx, ST_VALUE, v, NULL, "random data has no test files");
    if (d->format != DATA_NPY && d->format != DATA_IDX)
        return keys_strs(r->cx, r->arena, v, &d->test_files);
    DataConfig t = { 0 };
    TRY(keys_read(r->cx, r->arena, &key_data, source->key, NULL, source->key, v, &t));
    d->test_files = t.files;
    d->test_target_files = t.target_files;
    return ST_OK;
}

static Status read_horizons(Reader *r, Json *o)
{
    DataConfig *d = &r->m->data;
    const Json *steps = json_member(o, "steps"), *list = json_member(o, "horizons"),
               *one = json_member(o, "horizon");
    if (steps && list)
        return json_fail_key(r->cx, ST_VALUE, steps, NULL, "either steps or horizons, not both");
    if (one->number != 0 && (steps || list))
        return json_fail_key(r->cx, ST_VALUE, one, NULL, "either horizon or %s, not both",
                             steps ? "steps" : "horizons");
    int64_t n = 0;
    if (steps)
        TRY(keys_int(r->cx, r->arena, steps, ">= 1", &n));
    if (n > 100000)
        return json_fail(r->cx, ST_VALUE, steps, NULL, "wants at most 100000 steps");
    if (list && (list->kind != JSON_ARRAY || list->count == 0))
        return json_fail(r->cx, ST_VALUE, list, NULL, "wants a list of integers >= 0, got %s",
                         json_source(r->arena, list));
    d->nhorizons = steps ? (int)n : list ? list->count : 0;
    d->horizons = arena_array(r->arena, int, d->nhorizons);
    for (int i = 0; steps && i < d->nhorizons; i++)
        d->horizons[i] = i + 1;
    for (const Json *v = list ? list->first : NULL; v; v = v->next) {
        TRY(keys_int(r->cx, r->arena, v, ">= 0", &n));
        if (n > 1000000)
            return json_fail(r->cx, ST_VALUE, v, NULL, "wants at most 1000000 rows ahead");
        d->horizons[v->index] = (int)n;
    }
    return ST_OK;
}

static Status read_segment(Reader *r, Json *v)
{
    DataConfig *d = &r->m->data;
    if (v->kind != JSON_OBJECT)
        return keys_str(r->cx, r->arena, v, &d->segment);
    if (d->test_files.n > 0)
        return json_fail_key(r->cx, ST_VALUE, v, NULL, "an index says nothing of the test files");
    return keys_read(r->cx, r->arena, &key_data, "segment", NULL, "segment", v, d);
}

static Status read_mix(Reader *r, Json *v)
{
    DataConfig *d = &r->m->data;
    if (d->format != DATA_WAV)
        return json_fail_key(r->cx, ST_VALUE, v, NULL, "noise is added to wav data alone");
    if (d->test_files.n > 0)
        return json_fail_key(r->cx, ST_VALUE, v, NULL,
                             "the test files would hear the noise of the training");
    if (d->files.n != 1)
        return json_fail_key(r->cx, ST_VALUE, v, NULL, "noise is added to one recording, got %d",
                             d->files.n);
    if (d->classification)
        return json_fail_key(r->cx, ST_VALUE, v, NULL, "the target is a recording, no class");
    d->mix = true;
    return keys_read(r->cx, r->arena, &key_data, "mix", NULL, "mix", v, d);
}

/* What several keys say together. */
static Status check_windows(Reader *r, const Json *o)
{
    const DataConfig *d = &r->m->data;
    const Json *rows = json_member(o, "target_rows");
    if (d->eval_stride > 0 && d->split_by == SPLIT_RANDOM && !d->group)
        return json_fail_key(r->cx, ST_VALUE, json_member(o, "eval_stride"), NULL,
                             "windows that are drawn have one stride");
    if (d->target_rows == TARGET_LAST)
        return ST_OK;
    if (d->window == 0)
        return json_fail(r->cx, ST_VALUE, rows, NULL, "wants a window");
    if (d->nhorizons > 0)
        return json_fail(r->cx, ST_VALUE, rows, NULL, "wants one horizon, got %d", d->nhorizons);
    if (d->split_by == SPLIT_RANDOM && !d->group && d->stride < d->window)
        return json_fail(r->cx, ST_VALUE, rows, NULL,
                         "windows that are drawn would share targets: wants a stride of %d, got %d",
                         d->window, d->stride);
    if (d->target_rows == TARGET_MAJORITY && d->format == DATA_TEXT)
        return json_fail(r->cx, ST_VALUE, rows, NULL, "of a text, wants \"last\" or \"each\"");
    if (d->target_rows == TARGET_MAJORITY && !d->classification)
        return json_fail(r->cx, ST_VALUE, rows, NULL, "a majority wants classes");
    if (d->target_rows == TARGET_MAJORITY && d->horizon > 0)
        return json_fail(r->cx, ST_VALUE, rows, NULL,
                         "the majority of a window's own rows wants a horizon of 0, got %d",
                         d->horizon);
    return ST_OK;
}

static Status read_missing(Reader *r, const Json *v)
{
    DataConfig *d = &r->m->data;
    if (v->kind == JSON_OBJECT) {
        const Json *value = json_member(v, "value");
        if (!value || v->count != 1)
            return json_fail(r->cx, ST_VALUE, v, NULL, "wants {\"value\": NUMBER}");
        d->missing = MISSING_VALUE;
        return keys_num(r->cx, r->arena, value, NULL, &d->missing_value);
    }
    int kind;
    TRY(keys_enum(r->cx, r->arena, v, "missing", &kind));
    d->missing = (Missing)kind;
    return ST_OK;
}

static Status read_split(Reader *r, const Json *v)
{
    static const char *const part[] = { "train", "val", "test" };
    DataConfig *d = &r->m->data;
    if (v->kind == JSON_OBJECT) {
        for (const Json *k = v->first; k; k = k->next) {
            int i = 0;
            while (i < 3 && strcmp(part[i], k->key) != 0)
                i++;
            if (i == 3)
                return json_fail_key(r->cx, ST_VALUE, k, json_hint(r->arena, k->key, part, 3),
                                     "no such split; there are train, val and test");
            TRY(keys_strs(r->cx, r->arena, k, &d->split_groups[i]));
        }
        if (!d->group)
            return json_fail(r->cx, ST_VALUE, v, NULL,
                             "a split by groups wants \"group\", the column that holds them");
        d->split_by = SPLIT_GROUPS;
        return ST_OK;
    }
    if (v->kind != JSON_ARRAY || (v->count != 3 && v->count != 2))
        return json_fail(r->cx, ST_VALUE, v, NULL,
                         "wants 3 fractions or row counts (2 beside \"test\"), got %s",
                         json_source(r->arena, v));
    double sum = 0;
    bool counts = false;
    for (const Json *k = v->first; k; k = k->next) {
        TRY(keys_num(r->cx, r->arena, k, ">= 0", &d->split[k->index]));
        sum += d->split[k->index];
        counts = counts || d->split[k->index] > 1;
    }
    for (const Json *k = v->first; k && counts; k = k->next) {
        if (!k->integer)
            return json_fail(r->cx, ST_VALUE, k, NULL, "fractions and row counts are mixed: got %s",
                             json_source(r->arena, k));
    }
    if (!counts && sum > 1 + 1e-9)
        return json_fail(r->cx, ST_VALUE, v, NULL, "fractions sum to %g, more than 1", sum);
    if (d->split[0] == 0)
        return json_fail(r->cx, ST_VALUE, v, NULL, "no rows to train on");
    return ST_OK;
}

/* Defaults that hang on another key, written into the tree so that the resolved config has them. */
static void set_scalers(Reader *r, Json *o)
{
    const DataConfig *d = &r->m->data;
    const bool columns = d->format == DATA_CSV || d->format == DATA_WAV;
    if (!json_member(o, "scaler"))
        json_set(r->arena, o, "scaler", columns ? "\"standard\"" : "\"none\"");
    if (!json_member(o, "target_scaler"))
        json_set(r->arena, o, "target_scaler",
                 columns && !d->classification ? "\"standard\"" : "\"none\"");
}

Status model_read_data(Reader *r, Json *o)
{
    DataConfig *d = &r->m->data;
    const Json *source = NULL, *v;
    if (o->kind == JSON_OBJECT) {
        TRY(read_format(r, o, &source));
        set_scalers(r, o);
        if (json_member(o, "test") && !json_member(o, "split"))
            json_set(r->arena, o, "split", "[0.85, 0.15]");
    }
    TRY(keys_read(r->cx, r->arena, &key_data, "data", NULL, "data", o, d));
    if (d->format == DATA_RANDOM)
        TRY(read_random(r, json_member(o, "random")));
    if (d->format == DATA_NPY || d->format == DATA_IDX)
        TRY(keys_read(r->cx, r->arena, &key_data, source->key, NULL, source->key,
                      json_member(o, source->key), d));
    if ((v = json_member(o, "test")))
        TRY(read_test(r, json_member(o, "test"), source));
    if ((v = json_member(o, "mix")))
        TRY(read_mix(r, json_member(o, "mix")));
    if ((v = json_member(o, "segment")))
        TRY(read_segment(r, json_member(o, "segment")));
    TRY(read_horizons(r, o));
    TRY(read_missing(r, json_member(o, "missing")));
    TRY(read_split(r, json_member(o, "split")));
    TRY(check_windows(r, o));
    if (d->format == DATA_CSV && d->targets.n == 0)
        return json_fail(r->cx, ST_VALUE, o, NULL,
                         "csv data wants \"target\": column or columns to predict");
    if (d->classification && d->target_scaler != SCALER_NONE)
        return json_fail(r->cx, ST_VALUE, json_member(o, "target_scaler"), NULL,
                         "classes are not scaled");
    if (d->separator && strlen(d->separator) != 1)
        return json_fail(r->cx, ST_VALUE, json_member(o, "separator"), NULL,
                         "wants one character, got \"%s\"", d->separator);
    return ST_OK;
}
