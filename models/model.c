/* SPDX-License-Identifier: Apache-2.0 */
/* model: model.json becomes a Model.  Text, then tree, then overrides, then the tables' checks and
 * defaults, then what no table can say (which keys exclude each other, names of layers). */
#include "models/reader.h"

#include "ir/base/os.h"
#include "models/cell.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LAYERS = 4096 };

/* ---- layers, loss, optimizer ---- */

static Status no_such_type(Reader *r, const Json *v, const char *what, const char **name, int n)
{
    return json_fail(r->cx, ST_VALUE, v, json_hint(r->arena, v->string, name, n),
                     "no such %s: \"%s\"", what, v->string);
}

/* The member "type", which picks the section of the table. */
static Status read_type(Reader *r, Json *o, const char *what, const Json **out)
{
    const char *s;
    if (o->kind != JSON_OBJECT)
        return json_fail(r->cx, ST_VALUE, o, NULL, "wants an object, got %s",
                         json_source(r->arena, o));
    *out = json_member(o, "type");
    if (!*out)
        return json_fail(r->cx, ST_VALUE, o, NULL, "the %s wants a \"type\"", what);
    return keys_str(r->cx, r->arena, *out, &s);
}

/* Whether the table leaves this key of a layer to the code below. */
static bool is_read_here(const Layer *l, const char *key)
{
    for (int i = 0; i < key_layers.n; i++) {
        const KeyInfo *k = &key_layers.row[i];
        if (strcmp(k->section, l->type->name) == 0 && strcmp(k->key, key) == 0)
            return k->type == KEY_OTHER;
    }
    return false;
}

static Status read_padding(Reader *r, Layer *l, const Json *v)
{
    if (v->kind == JSON_STRING) {
        l->same = strcmp(v->string, "same") == 0;
        l->padding = (Dims){ .n = 1 };
        if (!l->same && strcmp(v->string, "valid") != 0)
            return json_fail(r->cx, ST_VALUE, v, NULL,
                             "wants \"same\", \"valid\" or an integer >= 0, got \"%s\"", v->string);
        return ST_OK;
    }
    return keys_dims(r->cx, r->arena, v, ">= 0", &l->padding);
}

/* A name becomes part of parameter names and of file names of reports. */
static Status check_name(Reader *r, const Json *v, const char *name)
{
    for (const char *p = name; *p; p++) {
        const bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_';
        if (!letter && !(p > name && ((*p >= '0' && *p <= '9') || *p == '-')))
            return json_fail(r->cx, ST_VALUE, v, NULL,
                             "wants letters, digits, _ and - (a letter first), got \"%s\"", name);
    }
    return ST_OK;
}

static Status read_layer(Reader *r, Json *o, Layer *l)
{
    const Json *type;
    TRY(read_type(r, o, "layer", &type));
    const char **name = arena_array(r->arena, const char *, layer_ntypes);
    for (int i = 0; i < layer_ntypes; i++) {
        name[i] = layer_types[i].name;
        if (strcmp(name[i], type->string) == 0)
            l->type = &layer_types[i];
    }
    if (!l->type)
        return no_such_type(r, type, "layer type", name, layer_ntypes);
    if (!json_member(o, "name"))
        json_set(r->arena, o, "name", arena_printf(r->arena, "\"%s%d\"", l->type->name, o->index));
    l->at = o;
    l->index = o->index;
    l->lr_scale = 1;
    l->decay = -1;
    TRY(keys_read(r->cx, r->arena, &key_layers, l->type->name, "layer",
                  arena_printf(r->arena, "a %s layer", l->type->name), o, l));
    const Json *v = json_member(o, "padding");
    if (v && is_read_here(l, "padding"))
        TRY(read_padding(r, l, v));
    v = json_member(o, "shape");
    if (v)
        TRY(keys_shape(r->cx, r->arena, v, -1, &l->shape));
    if (json_member(o, "update"))
        TRY(cell_read(r->cx, r->arena, o, l->result, &l->cell));
    if (l->cell && !l->result)
        l->result = l->cell->state.at[0].name;
    TRY(check_name(r, json_member(o, "name"), l->name));
    if (strcmp(l->name, "opt") == 0 || strcmp(l->name, "ema") == 0)
        return json_fail(r->cx, ST_VALUE, json_member(o, "name"), NULL,
                         "\"%s\" is no name for a layer: tensors of the optimizer begin with it",
                         l->name);
    for (int i = 0; i < o->index; i++) {
        if (strcmp(r->m->layer[i]->name, l->name) == 0)
            return json_fail(r->cx, ST_VALUE, json_member(o, "name"), NULL,
                             "layers[%d] has this name too", i);
    }
    return ST_OK;
}

static Status read_layers(Reader *r, const Json *list)
{
    if (list->kind != JSON_ARRAY || list->count == 0)
        return json_fail(r->cx, ST_VALUE, list, NULL, "wants a list of layers, got %s",
                         json_source(r->arena, list));
    if (list->count > MAX_LAYERS)
        return json_fail(r->cx, ST_VALUE, list, NULL, "wants at most %d layers, got %d", MAX_LAYERS,
                         list->count);
    r->m->nlayer = list->count;
    r->m->layer = arena_array(r->arena, Layer *, list->count);
    for (Json *o = list->first; o; o = o->next) {
        r->m->layer[o->index] = arena_alloc(r->arena, sizeof(Layer));
        TRY(read_layer(r, o, r->m->layer[o->index]));
    }
    return ST_OK;
}

static bool is_data_input(const Model *m, const char *name)
{
    for (int i = 0; i < m->data.nrandom; i++) {
        if (strcmp(m->data.random_inputs[i].name, name) == 0)
            return true;
    }
    return m->data.format != DATA_RANDOM && strcmp(name, "x") == 0;
}

/* The layer that the key names (with "input", or "mask"), -1 for a data input. */
static Status find_input(Reader *r, const Layer *l, const char *key, const char *want, int *out)
{
    const Model *m = r->m;
    const Json *v = json_member(l->at, key);
    for (int i = 0; i < m->nlayer; i++) {
        const bool hit = strcmp(m->layer[i]->name, want) == 0;
        if (hit && i >= l->index)
            return json_fail(r->cx, ST_VALUE, v ? v : l->at, NULL, "\"%s\" is no earlier layer",
                             want);
        if (hit) {
            *out = i;
            return ST_OK;
        }
    }
    *out = -1;
    if (is_data_input(m, want))
        return ST_OK;
    const char **name = arena_array(r->arena, const char *, l->index + m->data.nrandom + 1);
    int n = 0;
    for (int i = 0; i < l->index; i++)
        name[n++] = m->layer[i]->name;
    for (int i = 0; i < m->data.nrandom; i++)
        name[n++] = m->data.random_inputs[i].name;
    return json_fail(r->cx, ST_VALUE, v ? v : l->at, json_hint(r->arena, want, name, n),
                     "no earlier layer and no data input has the name \"%s\"", want);
}

/* Fills in default inputs, checks names and that every layer leads to the prediction. */
static Status link_layers(Reader *r)
{
    Model *m = r->m;
    bool *used = arena_array(r->arena, bool, m->nlayer);
    if (!m->loss->prediction)
        m->loss->prediction = m->layer[m->nlayer - 1]->name;
    for (int i = m->nlayer - 1; i >= 0; i--) {
        Layer *l = m->layer[i];
        if (is_data_input(m, l->name))
            return json_fail(r->cx, ST_VALUE, json_member(l->at, "name"), NULL,
                             "a data input has this name too");
        if (l->input.n == 0) {
            l->input = (StrList){ arena_array(r->arena, const char *, 1), 1 };
            l->input.at[0] = i == 0 ? "x" : m->layer[i - 1]->name;
        }
        const bool several = l->type->ninput == LAYER_SEVERAL, pair = l->type->ninput == LAYER_PAIR;
        const bool any = l->type->ninput == LAYER_ANY;
        if (several ? l->input.n < 2 : !any && l->input.n > 1 + pair)
            return json_fail(r->cx, ST_VALUE, l->at, NULL, "%s wants %s, got %d", l->type->name,
                             several ? "two inputs or more"
                             : pair  ? "one input or two"
                                     : "one input",
                             l->input.n);
        used[i] = used[i] || strcmp(l->name, m->loss->prediction) == 0;
        for (int k = 0; k < l->input.n + (l->mask != NULL); k++) {
            const bool side = k == l->input.n;
            int from = -1;
            TRY(find_input(r, l, side ? "mask" : "input", side ? l->mask : l->input.at[k], &from));
            if (from >= 0 && used[i])
                used[from] = true;
        }
        if (!used[i])
            return json_fail(r->cx, ST_VALUE, l->at, NULL,
                             "\"%s\" does not lead to the prediction \"%s\"", l->name,
                             m->loss->prediction);
    }
    return ST_OK;
}

static Status find_type(Reader *r, const Json *type, const char *what, const TypeInfo *types, int n,
                        int *out)
{
    const char **name = arena_array(r->arena, const char *, n);
    for (int i = 0; i < n; i++) {
        name[i] = types[i].name;
        if (strcmp(name[i], type->string) == 0) {
            *out = i;
            return ST_OK;
        }
    }
    return no_such_type(r, type, what, name, n);
}

/* "type" is read before, and is in no table: it picks the section. */
static Status read_typed(Reader *r, Json *o, const KeyTable *table, const char *common,
                         const char *type, void *into)
{
    Json **p = &o->first, *t;
    while (strcmp((*p)->key, "type") != 0)
        p = &(*p)->next;
    t = *p;
    *p = t->next; /* taken out for the table's check, and put back in front */
    const Status st = keys_read(r->cx, r->arena, table, type, common,
                                arena_printf(r->arena, "%s %s", type, common), o, into);
    t->next = o->first;
    o->first = t;
    return st;
}

static Status read_loss(Reader *r, Json *o)
{
    const Json *type;
    LossConfig *l = r->m->loss = arena_alloc(r->arena, sizeof *l);
    TRY(read_type(r, o, "loss", &type));
    TRY(find_type(r, type, "loss", loss_types, loss_ntypes, &l->type));
    l->at = o;
    l->type_name = type->string;
    TRY(read_typed(r, o, &key_losses, "loss", l->type_name, l));
    if (!l->prediction)
        return ST_OK;
    const char **name = arena_array(r->arena, const char *, r->m->nlayer);
    for (int i = 0; i < r->m->nlayer; i++) {
        name[i] = r->m->layer[i]->name;
        if (strcmp(name[i], l->prediction) == 0)
            return ST_OK;
    }
    return json_fail(r->cx, ST_VALUE, json_member(o, "prediction"),
                     json_hint(r->arena, l->prediction, name, r->m->nlayer),
                     "no layer has the name \"%s\"", l->prediction);
}

static Status read_optimizer(Reader *r, Json *o)
{
    const Json *type;
    OptimizerConfig *p = r->m->optimizer = arena_alloc(r->arena, sizeof *p);
    TRY(read_type(r, o, "optimizer", &type));
    TRY(find_type(r, type, "optimizer", optimizer_types, optimizer_ntypes, &p->type));
    p->at = o;
    p->type_name = type->string;
    TRY(read_typed(r, o, &key_optimizers, "optimizer", p->type_name, p));
    if (p->nesterov && p->momentum == 0)
        return json_fail(r->cx, ST_VALUE, json_member(o, "nesterov"), NULL,
                         "nesterov wants a momentum");
    return ST_OK;
}

static Status read_model(Reader *r, Json *root)
{
    static const char *const key[] = { "name", "data", "layers", "loss", "optimizer", "train" };
    enum { NKEYS = sizeof key / sizeof key[0] };
    if (root->kind != JSON_OBJECT)
        return json_fail(r->cx, ST_VALUE, root, NULL, "a model is an object, got %s",
                         json_source(r->arena, root));
    for (const Json *v = root->first; v; v = v->next) {
        int i = 0;
        while (i < NKEYS && strcmp(key[i], v->key) != 0)
            i++;
        if (i == NKEYS)
            return json_fail_key(r->cx, ST_VALUE, v, json_hint(r->arena, v->key, key, NKEYS),
                                 "no such key in a model");
    }
    for (int i = 1; i < 4; i++) {
        if (!json_member(root, key[i]))
            return json_fail(r->cx, ST_VALUE, root, NULL, "a model wants \"%s\"", key[i]);
    }
    if (!json_member(root, "name"))
        json_set(r->arena, root, "name", "\"model\"");
    if (!json_member(root, "optimizer"))
        json_set(r->arena, root, "optimizer", "{\"type\": \"adam\"}");
    if (!json_member(root, "train"))
        json_set(r->arena, root, "train", "{}");
    TRY(keys_str(r->cx, r->arena, json_member(root, "name"), &r->m->name));
    TRY(check_name(r, json_member(root, "name"), r->m->name));
    TRY(read_layers(r, json_member(root, "layers")));
    TRY(read_loss(r, json_member(root, "loss")));
    r->m->data.classification = loss_types[r->m->loss->type].classes;
    TRY(read_optimizer(r, json_member(root, "optimizer")));
    Json *train = json_member(root, "train");
    TRY(keys_read(r->cx, r->arena, &key_train, "train", NULL, "train", train, &r->m->train));
    if (r->m->train.clip_norm > 0 && r->m->train.clip_value > 0)
        return json_fail(r->cx, ST_VALUE, json_member(train, "clip_value"), NULL,
                         "either clip_value or clip_norm, not both");
    TRY(model_read_data(r, json_member(root, "data")));
    return link_layers(r);
}

/* ---- entry ---- */

Status model_parse(Ctx *cx, const char *file, const char *text, const char *const *overrides,
                   int noverrides, Model **out)
{
    Arena *arena = arena_new();
    Model *m = arena_alloc(arena, sizeof *m);
    Reader r = { .cx = cx, .arena = arena, .m = m };
    Json *root;
    Status st = json_parse(cx, arena, file, text, strlen(text), &root);
    for (int i = 0; st == ST_OK && i < noverrides; i++)
        st = json_override(cx, arena, root, overrides[i]);
    m->arena = arena;
    m->path = arena_strdup(arena, file);
    const char *slash = strrchr(file, '/');
    m->dir = slash ? arena_printf(arena, "%.*s", (int)(slash - file), file) : ".";
    if (st == ST_OK)
        st = read_model(&r, root);
    if (st != ST_OK) {
        arena_free(arena);
        return st;
    }
    Strbuf s = { 0 };
    json_print(root, &s);
    m->json = arena_strdup(arena, strbuf_str(&s));
    strbuf_free(&s);
    *out = m;
    return ST_OK;
}

Status model_load(Ctx *cx, const char *path, const char *const *overrides, int noverrides,
                  Model **out)
{
    char *text;
    size_t n;
    TRY(os_read_file(cx, path, &text, &n));
    Status st;
    if (memchr(text, 0, n))
        st = status_fail_at(cx, ST_PARSE, path, 1, 1, "a NUL byte: this is no JSON text");
    else
        st = model_parse(cx, path, text, overrides, noverrides, out);
    free(text);
    return st;
}

void model_free(Model *m)
{
    if (m)
        arena_free(m->arena);
}

const char *model_json(const Model *m)
{
    return m->json;
}
