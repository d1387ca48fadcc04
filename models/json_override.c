/* SPDX-License-Identifier: Apache-2.0 */
/* json_override: changes a tree by settings such as train.epochs=3.  What a setting brings keeps
 * its place in the setting's own text, so that a later message points there. */
#include "models/json.h"

#include <stdlib.h>
#include <string.h>

/* Takes the next step of an override's path: NAME, .NAME or [N].  Returns its length. */
static size_t path_step(const char *s, const char **name, size_t *n)
{
    const char *p = s;
    if (*p == '[') {
        const size_t len = strcspn(p, "]=");
        *name = p + 1;
        *n = len - 1;
        return p[len] == ']' ? len + 1 : 0;
    }
    if (*p == '.')
        p++;
    *name = p;
    *n = strcspn(p, ".[=");
    return *n ? (size_t)(p - s) + *n : 0;
}

/* The element of an array by number or by its "name". */
static Json *array_find(const Json *array, const char *step)
{
    char *end;
    const long k = strtol(step, &end, 10);
    for (Json *e = array->first; e; e = e->next) {
        const Json *name = json_member(e, "name");
        if ((*end == 0 && e->index == k) ||
            (name && name->kind == JSON_STRING && strcmp(name->string, step) == 0))
            return e;
    }
    return NULL;
}

/* Quotes a bare word and reads it again, which also checks that it is UTF-8. */
static Status bare_word(Ctx *cx, Arena *arena, const JsonText *t, size_t at, Json **out)
{
    Ctx quiet;
    Strbuf s = { 0 };
    ctx_init(&quiet);
    json_print_string(t->s + at, &s);
    const Status st = json_parse(&quiet, arena, t->file, s.s, s.n, out);
    strbuf_free(&s);
    return st == ST_OK ? ST_OK : json_fail_text(cx, ST_PARSE, t, at, "not UTF-8", NULL);
}

static Status override_value(Ctx *cx, Arena *arena, const JsonText *t, size_t at, Json **out)
{
    Ctx quiet;
    ctx_init(&quiet);
    if (json_parse(&quiet, arena, t->file, t->s + at, t->n - at, out) != ST_OK)
        TRY(bare_word(cx, arena, t, at, out));
    /* Its place is in the whole setting, not in the part after "=". */
    (*out)->text = t;
    (*out)->at = at;
    (*out)->end = t->n;
    return ST_OK;
}

/* Children of a value that an override brought stand in the text after "=": shift them. */
static void shift(Json *v, const JsonText *t, size_t by)
{
    for (Json *k = v->first; k; k = k->next) {
        k->text = t;
        k->at += by;
        k->end += by;
        k->key_at += by;
        shift(k, t, by);
    }
}

Status json_override(Ctx *cx, Arena *arena, Json *root, const char *setting)
{
    JsonText *t = arena_alloc(arena, sizeof *t);
    *t = (JsonText){ .file = "--set", .s = arena_strdup(arena, setting), .n = strlen(setting) };
    const char *eq = strchr(t->s, '=');
    if (!eq || eq == t->s)
        return json_fail_text(cx, ST_USAGE, t, eq ? 0 : t->n,
                              "wants KEY=VALUE, such as train.epochs=3", NULL);
    Json *value;
    TRY(override_value(cx, arena, t, (size_t)(eq + 1 - t->s), &value));
    shift(value, t, (size_t)(eq + 1 - t->s));

    Json *at = root;
    const char *p = t->s;
    for (;;) {
        const char *name;
        size_t n;
        const size_t len = path_step(p, &name, &n);
        if (len == 0 || (p[len] != '.' && p[len] != '[' && p[len] != '='))
            return json_fail_text(cx, ST_USAGE, t, (size_t)(p - t->s),
                                  "not a path: wants KEY, KEY.KEY or KEY[N]", NULL);
        const char *step = arena_printf(arena, "%.*s", (int)n, name);
        const bool last = p[len] == '=';
        Json *next = NULL;
        if (at->kind == JSON_OBJECT) {
            next = json_member(at, step);
        } else if (at->kind == JSON_ARRAY) {
            next = array_find(at, step);
            if (!next)
                return json_fail_text(cx, ST_USAGE, t, (size_t)(name - t->s),
                                      arena_printf(arena,
                                                   "there is no element \"%s\" (%d elements)", step,
                                                   at->count),
                                      NULL);
        } else {
            return json_fail_text(
                cx, ST_USAGE, t, (size_t)(name - t->s),
                arena_printf(arena, "\"%s\" is inside of what is neither object nor list", step),
                NULL);
        }
        Json *put_here = last ? value : NULL;
        if (!last && !next) {
            put_here = json_new(arena, t, at);
            put_here->kind = JSON_OBJECT;
            put_here->at = put_here->end = (size_t)(name - t->s);
        }
        if (put_here) {
            put_here->key = at->kind == JSON_OBJECT ? step : NULL;
            put_here->key_at = (size_t)(name - t->s);
            json_put(at, next, put_here);
            next = put_here;
        }
        if (last)
            return ST_OK;
        at = next;
        p += len;
    }
}
