/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan remembers of its data.  Compiling asks only for the shape of a sample, and reading
 * a large data set just for that would take longer than all the rest; so the plan keeps the shape
 * with a digest of what it depends on: the data's part of the config, the seed, and each file's
 * place, size and time. */
#include <stdlib.h>
#include <string.h>

#include "cli/work.h"
#include "ir/base/hash.h"
#include "ir/base/os.h"
#include "models/json.h"

static void stamp_file(Cli *c, const Work *w, const char *name, Strbuf *out)
{
    struct stat st;
    for (int i = 0; i <= w->dirs.n; i++) {
        const char *path = i < w->dirs.n && name[0] != '/'
                               ? arena_printf(c->o->arena, "%s/%s", w->dirs.at[i], name)
                               : name;
        if (c->cx.os->stat(path, &st) != 0)
            continue;
        strbuf_printf(out, "%s %lld %lld.%09ld\n", path, (long long)st.st_size,
                      (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        return;
    }
    strbuf_printf(out, "%s is not there\n", name);
}

const char *shape_stamp(Cli *c, const Work *w)
{
    const DataConfig *d = &w->model->data;
    const StrList *lists[] = { &d->files, &d->target_files, &d->test_files, &d->test_target_files,
                               &d->noise_files };
    const char *config = model_json(w->model);
    Strbuf b = { 0 };
    Json *root;
    char hex[33];
    if (json_parse(&c->cx, c->o->arena, "", config, strlen(config), &root) == ST_OK)
        json_print(json_member(root, "data"), &b);
    strbuf_printf(&b, "\n%llu\n", (unsigned long long)w->model->train.seed);
    for (size_t l = 0; l < sizeof lists / sizeof *lists; l++)
        for (int i = 0; i < lists[l]->n; i++)
            stamp_file(c, w, lists[l]->at[i], &b);
    if (d->index)
        stamp_file(c, w, d->index, &b);
    hash_hex(b.s, b.n, hex);
    strbuf_free(&b);
    return arena_strdup(c->o->arena, hex);
}

static void print_dims(const Shape *s, Strbuf *out)
{
    strbuf_putc(out, '[');
    for (int i = 0; i < s->rank; i++)
        strbuf_printf(out, "%s%lld", i ? "," : "", (long long)s->dim[i]);
    strbuf_putc(out, ']');
}

void shape_print(const DataShape *shape, Strbuf *out)
{
    strbuf_add(out, "{\"inputs\":{");
    for (int i = 0; i < shape->ninput; i++) {
        if (i)
            strbuf_putc(out, ',');
        json_print_string(shape->input[i].name, out);
        strbuf_putc(out, ':');
        print_dims(&shape->input[i].shape, out);
    }
    strbuf_printf(out, "},\"words\":%d,\"target\":", shape->words);
    print_dims(&shape->target, out);
    strbuf_printf(out, ",\"classes\":%d,\"rows\":%lld,\"window\":%s,\"target_each\":%s,\"kinds\":[",
                  shape->classification ? shape->nclass : 0, (long long)shape->rows.n,
                  shape->rows.window ? "true" : "false",
                  shape->rows.target_each ? "true" : "false");
    for (int i = 0; i < shape->ninput; i++)
        strbuf_printf(out, "%s%d", i ? "," : "", (int)shape->rows.kind[i]);
    strbuf_add(out, "]}");
}

static bool read_dims(const Json *v, Shape *out)
{
    *out = (Shape){ 0 };
    if (!v || v->kind != JSON_ARRAY || v->count > MAX_RANK)
        return false;
    for (const Json *d = v->first; d; d = d->next) {
        if (d->kind != JSON_NUMBER || !d->integer || d->number < 0)
            return false;
        out->dim[out->rank++] = (int64_t)d->number;
    }
    return true;
}

static bool read_rows(Cli *c, const Json *v, int ninput, DataRows *out)
{
    const Json *n = json_member(v, "rows"), *window = json_member(v, "window");
    const Json *each = json_member(v, "target_each"), *kinds = json_member(v, "kinds");
    if (!n || n->kind != JSON_NUMBER || !window || window->kind != JSON_BOOL || !each ||
        each->kind != JSON_BOOL || !kinds || kinds->kind != JSON_ARRAY || kinds->count != ninput)
        return false;
    RowKind *kind = arena_array(c->o->arena, RowKind, ninput);
    *out = (DataRows){ .n = (int64_t)n->number,
                       .window = window->truth,
                       .target_each = each->truth,
                       .kind = kind };
    for (const Json *k = kinds->first; k; k = k->next) {
        if (k->kind != JSON_NUMBER || !(k->number >= ROW_F32 && k->number <= ROW_I32))
            return false;
        *kind++ = (RowKind)k->number;
    }
    return true;
}

static const DataShape *parse(Cli *c, const Json *root, const char *stamp)
{
    const Json *is = json_member(root, "stamp"), *v = json_member(root, "shape");
    if (!is || is->kind != JSON_STRING || strcmp(is->string, stamp) != 0 || !v)
        return NULL;
    const Json *inputs = json_member(v, "inputs"), *classes = json_member(v, "classes");
    const Json *words = json_member(v, "words");
    DataShape *s = arena_alloc(c->o->arena, sizeof *s);
    if (!inputs || inputs->kind != JSON_OBJECT || !classes || classes->kind != JSON_NUMBER ||
        !words || words->kind != JSON_NUMBER || !read_dims(json_member(v, "target"), &s->target))
        return NULL;
    s->words = (int)words->number;
    s->nclass = (int)classes->number;
    s->classification = s->nclass > 0;
    s->input = arena_array(c->o->arena, NamedShape, inputs->count + 1);
    for (const Json *i = inputs->first; i; i = i->next) {
        s->input[s->ninput].name = i->key;
        if (!read_dims(i, &s->input[s->ninput++].shape))
            return NULL;
    }
    return read_rows(c, v, s->ninput, &s->rows) ? s : NULL;
}

const DataShape *shape_read(Cli *c, const char *path, const char *stamp)
{
    struct stat st;
    char *text;
    size_t n;
    Json *root;
    const DataShape *s = NULL;
    if (c->cx.os->stat(path, &st) != 0 || os_read_file(&c->cx, path, &text, &n) != ST_OK)
        return NULL;
    if (json_parse(&c->cx, c->o->arena, path, text, n, &root) == ST_OK)
        s = parse(c, root, stamp);
    free(text);
    return s;
}
