/* SPDX-License-Identifier: Apache-2.0 */
/* A bundle's checkpoints.
 *
 * A save writes new.safetensors (whole or not there at all: os_write_file), then renames last to
 * previous and new to last.  Between any two of these steps the newest whole file stands under
 * new, last or previous, and that is the order in which a resume looks; best is the way out when
 * all three are damaged. */
#include "train/bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"
#include "models/json.h"

static void put_numbers(Strbuf *b, const char *key, const double *v, int n)
{
    strbuf_printf(b, "\"%s\":[", key);
    for (int i = 0; i < n; i++) {
        char s[40];
        snprintf(s, sizeof s, "%.17g", v[i]);
        /* with a point or an exponent, so that it is read as a number however large */
        strbuf_printf(b, "%s%s%s", i ? "," : "", s, strpbrk(s, ".e") ? "" : ".0");
    }
    strbuf_putc(b, ']');
}

static void put_strings(Strbuf *b, const StrList *l)
{
    strbuf_putc(b, '[');
    for (int i = 0; i < l->n; i++) {
        if (i)
            strbuf_putc(b, ',');
        json_print_string(l->at[i], b);
    }
    strbuf_putc(b, ']');
}

static const char *const scaler_name[] = {
    [SCALER_NONE] = "none", [SCALER_STANDARD] = "standard", [SCALER_MINMAX] = "minmax"
};

static void put_scaler(Strbuf *b, const char *key, const Scaler *s)
{
    strbuf_printf(b, "\"%s\":{\"kind\":\"%s\",", key, scaler_name[s->kind]);
    put_numbers(b, "shift", s->shift, s->n);
    strbuf_putc(b, ',');
    put_numbers(b, "scale", s->scale, s->n);
    strbuf_add(b, "},\n");
}

static void put_fit(Strbuf *b, const DataFit *fit, const StrList *data_dirs, const char *mode)
{
    strbuf_add(b, "{");
    put_scaler(b, "x", &fit->x);
    put_scaler(b, "y", &fit->y);
    strbuf_add(b, "\"features\":");
    put_strings(b, &fit->features);
    strbuf_add(b, ",\n\"classes\":");
    put_strings(b, &fit->classes);
    strbuf_add(b, ",\n\"category\":[");
    for (int i = 0; i < fit->ncategory; i++) {
        if (i)
            strbuf_putc(b, ',');
        put_strings(b, &fit->category[i]);
    }
    strbuf_add(b, "],\n\"data_dirs\":");
    put_strings(b, data_dirs);
    strbuf_printf(b, ",\n\"mode\":\"%s\"}\n", mode);
}

static Status write_in(Ctx *cx, const char *dir, const char *name, const char *text, size_t n)
{
    Strbuf path = { 0 };
    strbuf_printf(&path, "%s/%s", dir, name);
    const Status st = os_write_file(cx, strbuf_str(&path), text, n);
    strbuf_free(&path);
    return st;
}

Status bundle_write(Ctx *cx, const char *dir, const Model *m, const DataFit *fit,
                    const StrList *data_dirs, const char *mode)
{
    Strbuf b = { 0 };
    put_fit(&b, fit, data_dirs, mode);
    Status st = write_in(cx, dir, "fit.json", b.s, b.n);
    strbuf_free(&b);
    if (st == ST_OK)
        st = write_in(cx, dir, "model.json", model_json(m), strlen(model_json(m)));
    return st;
}

/* fit.json is gtc's own: whatever does not fit is one kind of failure. */
static Status bad_fit(Ctx *cx, const Json *v, const char *want)
{
    return json_fail(cx, ST_DATA, v, NULL, "wants %s", want);
}

static Status get_strings(Ctx *cx, Arena *a, const Json *v, StrList *out)
{
    if (!v || v->kind != JSON_ARRAY)
        return FAIL(cx, DATA, "fit.json: a list of strings is not there");
    out->at = arena_array(a, const char *, v->count + 1);
    for (const Json *i = v->first; i; i = i->next) {
        if (i->kind != JSON_STRING)
            return bad_fit(cx, i, "a string");
        out->at[out->n++] = arena_strdup(a, i->string);
    }
    return ST_OK;
}

static Status get_numbers(Ctx *cx, Arena *a, const Json *v, double **out, int *n)
{
    if (!v || v->kind != JSON_ARRAY)
        return FAIL(cx, DATA, "fit.json: a list of numbers is not there");
    *out = arena_array(a, double, v->count + 1);
    *n = 0;
    for (const Json *i = v->first; i; i = i->next) {
        if (i->kind != JSON_NUMBER)
            return bad_fit(cx, i, "a number");
        (*out)[(*n)++] = i->number;
    }
    return ST_OK;
}

static Status get_scaler(Ctx *cx, Arena *a, const Json *v, Scaler *out)
{
    const Json *kind = v ? json_member(v, "kind") : NULL;
    int nscale = 0;
    if (!kind || kind->kind != JSON_STRING)
        return FAIL(cx, DATA, "fit.json: a scaler has no kind");
    size_t k = 0, nkinds = sizeof scaler_name / sizeof *scaler_name;
    while (k < nkinds && strcmp(kind->string, scaler_name[k]) != 0)
        k++;
    if (k == nkinds)
        return bad_fit(cx, kind, "none, standard or minmax");
    out->kind = (ScalerKind)k;
    TRY(get_numbers(cx, a, json_member(v, "shift"), &out->shift, &out->n));
    TRY(get_numbers(cx, a, json_member(v, "scale"), &out->scale, &nscale));
    if (nscale != out->n)
        return bad_fit(cx, v, "as many numbers in shift as in scale");
    return ST_OK;
}

static Status get_fit(Ctx *cx, Arena *a, const Json *root, Bundle *b)
{
    TRY(get_scaler(cx, a, json_member(root, "x"), &b->fit.x));
    TRY(get_scaler(cx, a, json_member(root, "y"), &b->fit.y));
    TRY(get_strings(cx, a, json_member(root, "features"), &b->fit.features));
    TRY(get_strings(cx, a, json_member(root, "classes"), &b->fit.classes));
    TRY(get_strings(cx, a, json_member(root, "data_dirs"), &b->data_dirs));
    const Json *mode = json_member(root, "mode");
    if (!mode || mode->kind != JSON_STRING)
        return FAIL(cx, DATA, "fit.json: the mode is not there");
    b->mode = arena_strdup(a, mode->string);
    const Json *category = json_member(root, "category");
    if (!category || category->kind != JSON_ARRAY)
        return FAIL(cx, DATA, "fit.json: the list category is not there");
    b->fit.category = arena_array(a, StrList, category->count + 1);
    for (const Json *i = category->first; i; i = i->next)
        TRY(get_strings(cx, a, i, &b->fit.category[b->fit.ncategory++]));
    return ST_OK;
}

static Status read_parts(Ctx *cx, const char *dir, const char *const *overrides, int noverrides,
                         Bundle *b)
{
    char *text;
    size_t n;
    Strbuf path = { 0 };
    strbuf_printf(&path, "%s/model.json", dir);
    Status st = model_load(cx, strbuf_str(&path), overrides, noverrides, &b->model);
    strbuf_clear(&path);
    strbuf_printf(&path, "%s/fit.json", dir);
    if (st == ST_OK)
        st = os_read_file(cx, strbuf_str(&path), &text, &n);
    if (st == ST_OK) {
        Json *root;
        st = json_parse(cx, b->model->arena, strbuf_str(&path), text, n, &root);
        if (st == ST_OK)
            st = get_fit(cx, b->model->arena, root, b);
        free(text);
    }
    strbuf_free(&path);
    return st;
}

Status bundle_read(Ctx *cx, const char *dir, const char *const *overrides, int noverrides,
                   Bundle **out)
{
    Bundle *b = calloc(1, sizeof *b);
    if (!b)
        return FAIL(cx, MEMORY, "%s: no memory", dir);
    const Status st = read_parts(cx, dir, overrides, noverrides, b);
    if (st != ST_OK) {
        bundle_free(b);
        return st;
    }
    *out = b;
    return ST_OK;
}

void bundle_free(Bundle *b)
{
    if (!b)
        return;
    if (b->model)
        model_free(b->model);
    free(b);
}

Status bundle_weights(Ctx *cx, const char *dir, bool last, GtcStore *s)
{
    Strbuf path = { 0 };
    Checkpoint *c = NULL;
    struct stat info;
    Status st = ST_OK;
    strbuf_printf(&path, "%s/%s.safetensors", dir, last ? "last" : "best");
    if (!last && cx->os->stat(strbuf_str(&path), &info) != 0 && errno == ENOENT)
        st = FAIL(cx, DATA, "%s has no best weights: no epoch of it was finished", dir);
    if (st == ST_OK)
        st = checkpoint_read(cx, strbuf_str(&path), &c);
    if (st == ST_OK)
        st = checkpoint_load(cx, strbuf_str(&path), c, s);
    checkpoint_free(c);
    strbuf_free(&path);
    return st;
}

static Status rename_in(Ctx *cx, const char *dir, const char *from, const char *to)
{
    Strbuf a = { 0 }, b = { 0 };
    strbuf_printf(&a, "%s/%s.safetensors", dir, from);
    strbuf_printf(&b, "%s/%s.safetensors", dir, to);
    Status st = ST_OK;
    if (cx->os->rename(strbuf_str(&a), strbuf_str(&b)) != 0 && errno != ENOENT)
        st = FAIL(cx, IO, "cannot rename %s to %s: %s", strbuf_str(&a), strbuf_str(&b),
                  strerror(errno));
    strbuf_free(&a);
    strbuf_free(&b);
    return st;
}

/* The second half of a save. */
static Status promote(Ctx *cx, const char *dir)
{
    TRY(rename_in(cx, dir, "last", "previous"));
    return rename_in(cx, dir, "new", "last");
}

Status bundle_resume(Ctx *cx, const char *dir, Checkpoint **out)
{
    static const char *const names[] = { "new", "last", "previous", "best" };
    Strbuf path = { 0 };
    struct stat info;
    Status st = ST_OK;
    bool damaged = false;
    *out = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !*out; i++) {
        strbuf_clear(&path);
        strbuf_printf(&path, "%s/%s.safetensors", dir, names[i]);
        if (cx->os->stat(strbuf_str(&path), &info) != 0 && errno == ENOENT)
            continue;
        st = checkpoint_read(cx, strbuf_str(&path), out);
        if (st != ST_OK && st != ST_DATA && st != ST_IO)
            break;
        damaged |= st != ST_OK;
        if (st != ST_OK)
            log_say(cx, LOG_WARN, "%s; looking for an older checkpoint", cx->msg);
        else if (damaged)
            log_say(cx, LOG_WARN, "going on from %s", strbuf_str(&path));
        if (st == ST_OK && i == 0) /* a save was cut short between its two halves */
            st = promote(cx, dir);
    }
    strbuf_free(&path);
    if (*out && st != ST_OK) {
        checkpoint_free(*out);
        *out = NULL;
    }
    if (!*out && st == ST_OK)
        return FAIL(cx, DATA, "%s: there is no checkpoint to go on from", dir);
    return *out ? ST_OK : st;
}

static Status save(Ctx *cx, const char *dir, const char *name, const Checkpoint *c)
{
    Strbuf path = { 0 };
    strbuf_printf(&path, "%s/%s.safetensors", dir, name);
    const Status st = checkpoint_write(cx, strbuf_str(&path), c);
    strbuf_free(&path);
    return st;
}

Status bundle_save_last(Ctx *cx, const char *dir, const Checkpoint *c)
{
    TRY(save(cx, dir, "new", c));
    return promote(cx, dir);
}

Status bundle_save_best(Ctx *cx, const char *dir, const Checkpoint *c)
{
    return save(cx, dir, "best", c);
}
