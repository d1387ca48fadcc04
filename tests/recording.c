/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/recording.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>

#include "models/layer.h"

static void hear(void *arg, LogLevel level, const char *text)
{
    print_message("%s: %s\n", ((const Recording *)arg)->name, text);
    (void)level;
}

/* ---- the generator ---- */

static uint64_t draw(const Recording *r, const char *name, uint64_t i)
{
    const char *seed = checkpoint_get(r->file, "seed");
    uint64_t h = 14695981039346656037u;
    for (const char *p = seed ? seed : ""; *p; p++)
        h = (h ^ (unsigned char)*p) * 1099511628211u;
    for (const char *p = name; *p; p++)
        h = (h ^ (unsigned char)*p) * 1099511628211u;
    uint64_t z = h + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

int64_t recording_place(const Recording *r, const char *name, int k, int64_t count)
{
    return (int64_t)(draw(r, name, (uint64_t)k) % (uint64_t)count);
}

static double unit(const Recording *r, const char *name, int64_t i)
{
    const double k = (double)(draw(r, name, (uint64_t)i) >> 44);
    return (2 * k + 1 - 0x1p20) / 0x1p20;
}

/* how: "OFFSET SCALE" or "below K" */
static void fill(const Recording *r, const char *name, const char *how, Tensor *t)
{
    const int64_t n = shape_count(&t->type.shape);
    if (strncmp(how, "below ", 6) == 0) {
        const uint64_t k = strtoull(how + 6, NULL, 10);
        for (int64_t i = 0; i < n; i++)
            t->at[i] = (double)(draw(r, name, (uint64_t)i) % k);
        return;
    }
    char *end;
    const double offset = strtod(how, &end), scale = strtod(end, NULL);
    for (int64_t i = 0; i < n; i++)
        t->at[i] = offset + scale * unit(r, name, i);
}

/* ---- the file ---- */

Shape recording_shape(const char *text)
{
    Shape s = { 0 };
    for (char *end; *text >= '0' && *text <= '9'; text = *end == ',' ? end + 1 : end)
        s.dim[s.rank++] = strtoll(text, &end, 10);
    return s;
}

const char *recording_text(const Recording *r, const char *key)
{
    const char *text = checkpoint_get(r->file, key);
    if (!text)
        fail_msg("%s: no \"%s\" in it", r->name, key);
    return text;
}

Recording *recording_open(const char *path)
{
    Arena *arena = arena_new();
    Recording *r = arena_array(arena, Recording, 1);
    r->arena = arena;
    r->name = arena_strdup(arena, strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
    ctx_init(&r->cx);
    r->cx.log = hear;
    r->cx.log_arg = r;
    if (checkpoint_read(&r->cx, path, &r->file) != ST_OK)
        fail_msg("%s", r->cx.msg);
    r->batch = atoi(recording_text(r, "batch"));
    r->rows = atoi(recording_text(r, "rows"));
    r->steps = atoi(recording_text(r, "steps"));
    r->lr = strtod(recording_text(r, "lr"), NULL);
    return r;
}

void recording_close(Recording *r)
{
    if (r->m)
        model_free(r->m);
    checkpoint_free(r->file);
    arena_free(r->arena);
}

/* "fill.NAME" without its shape, which must be *shape; NULL if there is none. */
static const char *fill_text(const Recording *r, const char *name, Shape *shape)
{
    char key[128];
    snprintf(key, sizeof key, "fill.%s", name);
    const char *text = checkpoint_get(r->file, key);
    if (text)
        *shape = recording_shape(text);
    return text ? strchr(text, ' ') + 1 : NULL;
}

bool recording_is_whole(const Recording *r, const char *name)
{
    Shape shape;
    const char *how = fill_text(r, name, &shape);
    return how && strncmp(how, "below ", 6) == 0;
}

static const GtcTensor *given(const Recording *r, const char *name)
{
    char key[128];
    snprintf(key, sizeof key, "given.%s", name);
    return checkpoint_find(r->file, key);
}

/* What the generator or the file has for that name, without the batch. */
static Shape row_shape(const Recording *r, const char *name)
{
    Shape s = { 0 }, row = { 0 };
    const GtcTensor *t = given(r, name);
    if (t)
        s = t->type.shape;
    else if (!fill_text(r, name, &s))
        fail_msg("%s: no \"%s\" in it", r->name, name);
    for (int i = 1; i < s.rank; i++)
        row.dim[row.rank++] = s.dim[i];
    return row;
}

static void data_shape(Recording *r)
{
    enum { MOST = 32 };
    const char *names = recording_text(r, "inputs"), *classes = checkpoint_get(r->file, "classes"),
               *words = checkpoint_get(r->file, "words");
    r->d.input = arena_array(r->arena, NamedShape, MOST);
    while (*names) {
        const size_t n = strcspn(names, " ");
        const char *name = arena_printf(r->arena, "%.*s", (int)n, names);
        assert_true(r->d.ninput < MOST);
        r->d.input[r->d.ninput++] = (NamedShape){ name, row_shape(r, name) };
        names += n + (names[n] == ' ');
    }
    r->d.classification = classes != NULL;
    r->d.nclass = classes ? atoi(classes) : 0;
    r->d.target = row_shape(r, "y");
    r->d.words = words ? atoi(words) : 0;
}

void recording_model(Recording *r)
{
    enum { MOST = 64 };
    const char *set[MOST], *path = checkpoint_get(r->file, "file");
    int nset = 0;
    char *rest = arena_strdup(r->arena, path ? recording_text(r, "set") : "");
    for (char *line = strtok(rest, "\n"); line; line = strtok(NULL, "\n")) {
        assert_true(nset < MOST);
        set[nset++] = line;
    }
    const Status st =
        path ? model_load(&r->cx, path, set, nset, &r->m)
             : model_parse(&r->cx, r->name, recording_text(r, "model"), NULL, 0, &r->m);
    if (st != ST_OK)
        fail_msg("%s: %s", r->name, r->cx.msg);
    data_shape(r);
}

static void value_of(Recording *r, const char *name, Tensor *t)
{
    const bool scalar = t->type.shape.rank == 0;
    const GtcTensor *stored = given(r, name);
    Shape shape;
    const char *how = fill_text(r, name, &shape);
    if (stored || how) {
        shape = stored ? stored->type.shape : shape;
        if (!shape_eq(&shape, &t->type.shape))
            fail_msg("%s: %s is %s, in PyTorch %s", r->name, name, type_str(&t->type),
                     shape_str(&shape));
        if (how)
            fill(r, name, how, t);
        else
            tensor_read(t, stored->data);
    } else if (scalar && strcmp(name, "rows") == 0) {
        t->at[0] = r->rows;
    } else if (scalar && strcmp(name, "lr") == 0) {
        t->at[0] = round_to(DT_F32, r->lr);
    } else if (scalar && (strcmp(name, "row0") == 0 || strcmp(name, "step") == 0)) {
        t->at[0] = 0;
    } else if (strncmp(name, LAYER_OPT, 4) == 0 || strncmp(name, LAYER_EMA, 4) == 0) {
        void *data = arena_alloc(r->arena, (size_t)type_bytes(&t->type));
        if (model_init_tensor(&r->cx, r->m, &r->d, name, &t->type, data) != ST_OK)
            fail_msg("%s: %s", r->name, r->cx.msg);
        tensor_read(t, data);
    } else {
        fail_msg("%s: PyTorch's net has no \"%s\"", r->name, name);
    }
}

Tensor *recording_values(Recording *r, const Graph *g)
{
    Tensor *in = arena_array(r->arena, Tensor, g->ninput + 1);
    for (uint32_t i = 0; i < g->ninput; i++) {
        const Node *n = &g->node[g->input[i]];
        in[i] = tensor_new(r->arena, n->type);
        value_of(r, n->name, &in[i]);
    }
    return in;
}

/* ---- the folder ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

StrList recording_list(Arena *arena, const char *dir, const char *end)
{
    StrList list = { 0 };
    unsigned n = 0, cap = 0;
    DIR *d = opendir(dir);
    if (!d)
        fail_msg("%s: cannot be read", dir);
    for (struct dirent *e; (e = readdir(d));) {
        const size_t length = strlen(e->d_name), tail = strlen(end);
        if (length <= tail || strcmp(e->d_name + length - tail, end) != 0)
            continue;
        arena_grow(arena, list.at, n, cap);
        list.at[n++] = arena_printf(arena, "%s/%s", dir, e->d_name);
    }
    closedir(d);
    qsort(list.at, n, sizeof *list.at, by_name);
    list.n = (int)n;
    return list;
}
