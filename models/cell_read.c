/* SPDX-License-Identifier: Apache-2.0 */
/* cell_read: a `cell` layer's states, weights and lines, and whether each name in them means
 * something.  Sizes wait for the input's width, so shapes are checked where the layer is built. */
#include "models/cell.h"

#include "ir/build_nn.h"
#include "models/keys.h"
#include "models/layer.h"

#include <string.h>

static const CellFunction functions[] = {
    { "tanh", 1, 1, OP_tanh, ACT_NONE },
    { "sigmoid", 1, 1, OP_sigmoid, ACT_NONE },
    { "exp", 1, 1, OP_exp, ACT_NONE },
    { "log", 1, 1, OP_log, ACT_NONE },
    { "sqrt", 1, 1, OP_sqrt, ACT_NONE },
    { "abs", 1, 1, OP_abs, ACT_NONE },
    { "min", 2, 2, OP_min, ACT_NONE },
    { "max", 2, 2, OP_max, ACT_NONE },
    { "sum", 1, 1, OP_sum, ACT_NONE },
    { "concat", 2, CELL_MAX_ARGS, OP_concat, ACT_NONE },
    { "relu", 1, 1, OP_none, ACT_RELU },
    { "leaky_relu", 1, 1, OP_none, ACT_LEAKY_RELU },
    { "gelu", 1, 1, OP_none, ACT_GELU },
    { "silu", 1, 1, OP_none, ACT_SILU },
    { "elu", 1, 1, OP_none, ACT_ELU },
    { "softplus", 1, 1, OP_none, ACT_SOFTPLUS },
    { "mish", 1, 1, OP_none, ACT_MISH },
    { "hard_sigmoid", 1, 1, OP_none, ACT_HARD_SIGMOID },
    { "hard_swish", 1, 1, OP_none, ACT_HARD_SWISH },
    { "hard_tanh", 1, 1, OP_none, ACT_HARD_TANH },
    { "relu6", 1, 1, OP_none, ACT_RELU6 },
    { "softmax", 1, 1, OP_none, ACT_SOFTMAX },
};
enum { NFUNCTION = sizeof functions / sizeof *functions };

const CellFunction *cell_function(const char *name, const CellFunction **list, int *n)
{
    if (list) {
        *list = functions;
        *n = NFUNCTION;
    }
    for (int i = 0; i < NFUNCTION; i++)
        if (strcmp(functions[i].name, name) == 0)
            return &functions[i];
    return NULL;
}

const CellItem *cell_item(const CellList *list, const char *name)
{
    for (int i = 0; i < list->n; i++)
        if (strcmp(list->at[i].name, name) == 0)
            return &list->at[i];
    return NULL;
}

typedef struct Names { /* what an expression may use; used[i]: has been */
    Ctx *cx;
    Arena *arena;
    const char **name;
    bool *used;
    int n;
} Names;

static void know(Names *k, const char *name)
{
    k->name[k->n++] = name;
}

static int find(const Names *k, const char *name)
{
    for (int i = 0; i < k->n; i++)
        if (strcmp(k->name[i], name) == 0)
            return i;
    return -1;
}

/* Every name and function of e; sizes: of numbers, units and features only. */
static Status check_names(Names *k, const CellText *t, const CellExpr *e, bool size)
{
    if (size && (e->kind == CELL_SLICE || e->kind == CELL_CALL || e->op == '@'))
        return cell_fail(k->cx, ST_PARSE, t, e, NULL,
                         "a size is made of numbers, units, features, + - * and /");
    if (e->kind == CELL_NAME) {
        const bool known = strcmp(e->name, "units") == 0 || strcmp(e->name, "features") == 0;
        const int i = size ? -1 : find(k, e->name);
        if (size ? known : i >= 0) {
            if (i >= 0)
                k->used[i] = true;
            return ST_OK;
        }
        static const char *const sizes[] = { "units", "features" };
        if (known)
            return cell_fail(k->cx, ST_PARSE, t, e, NULL, "\"%s\" is a size and no value", e->name);
        return cell_fail(k->cx, ST_PARSE, t, e,
                         size ? json_hint(k->arena, e->name, sizes, 2)
                              : json_hint(k->arena, e->name, k->name, k->n),
                         "nothing has the name \"%s\"%s", e->name, size ? "" : " up to here");
    }
    if (e->kind == CELL_CALL) {
        const CellFunction *all, *f;
        int n;
        f = cell_function(e->name, &all, &n);
        const char **name = arena_array(k->arena, const char *, n);
        for (int i = 0; i < n; i++)
            name[i] = all[i].name;
        if (!f)
            return cell_fail(k->cx, ST_PARSE, t, e, json_hint(k->arena, e->name, name, n),
                             "there is no function \"%s\"", e->name);
        if (e->nargs < f->least || e->nargs > f->most)
            return cell_fail(k->cx, ST_PARSE, t, e, NULL, "%s wants %d argument%s%s, got %d",
                             f->name, f->least, f->least == 1 ? "" : "s",
                             f->most > f->least ? " or more" : "", e->nargs);
    }
    for (int i = 0; i < e->nargs; i++)
        TRY(check_names(k, t, e->arg[i], size || (e->kind == CELL_SLICE && i > 0)));
    return ST_OK;
}

/* An integer, or a string as "3 * units". */
static Status read_size(Names *k, const Json *v, CellText *out)
{
    out->at = v;
    if (v->kind == JSON_STRING) {
        TRY(cell_parse(k->cx, k->arena, v, &out->root));
        return check_names(k, out, out->root, true);
    }
    int64_t n;
    TRY(keys_int(k->cx, k->arena, v, ">= 1", &n));
    CellExpr *e = arena_alloc(k->arena, sizeof *e);
    *e = (CellExpr){ .kind = CELL_NUMBER, .number = (double)n };
    out->root = e;
    return ST_OK;
}

/* One size, or a list of up to `most`. */
static Status read_sizes(Names *k, const Json *v, int most, CellItem *item)
{
    if (v->kind != JSON_ARRAY) {
        item->nsize = 1;
        return read_size(k, v, &item->size[0]);
    }
    if (v->count < 1 || v->count > most)
        return json_fail(k->cx, ST_VALUE, v, NULL, "wants a size%s, got %s",
                         most > 1 ? " or a list of up to two" : "", json_source(k->arena, v));
    item->nsize = v->count;
    for (const Json *c = v->first; c; c = c->next)
        TRY(read_size(k, c, &item->size[c->index]));
    return ST_OK;
}

static Status read_state(Names *k, Json *v, CellItem *item)
{
    return read_sizes(k, v, 1, item);
}

/* A shape, or {"shape": .., "init": ..}. */
static Status read_weight(Names *k, Json *v, CellItem *item)
{
    Layer keys = { 0 };
    if (v->kind != JSON_OBJECT)
        return read_sizes(k, v, 2, item);
    TRY(keys_read(k->cx, k->arena, &key_layers, "cell_weight", NULL, "a weight of a cell", v,
                  &keys));
    item->init = keys.init;
    item->init_value = keys.init_value;
    return read_sizes(k, json_member(v, "shape"), 2, item);
}

static Status read_line(Names *k, Json *v, CellItem *item)
{
    const char *text;
    TRY(keys_str(k->cx, k->arena, v, &text));
    item->value.at = v;
    TRY(cell_parse(k->cx, k->arena, v, &item->value.root));
    return check_names(k, &item->value, item->value.root, false);
}

static Status check_new_name(const Names *k, const Json *v, bool redefines)
{
    static const char *const taken[] = { "x", "units", "features" };
    for (const char *c = v->key; *c; c++) {
        const bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || *c == '_';
        if (!letter && !(c > v->key && *c >= '0' && *c <= '9'))
            return json_fail_key(k->cx, ST_VALUE, v, NULL,
                                 "wants letters, digits and _ (a letter first), got \"%s\"",
                                 v->key);
    }
    for (int i = 0; i < 3; i++)
        if (strcmp(v->key, taken[i]) == 0)
            return json_fail_key(k->cx, ST_VALUE, v, NULL, "\"%s\" has a meaning already", v->key);
    if (!*v->key || cell_function(v->key, NULL, NULL))
        return json_fail_key(k->cx, ST_VALUE, v, NULL, "\"%s\" is the name of a function", v->key);
    if (find(k, v->key) >= 0 && !redefines)
        return json_fail_key(k->cx, ST_VALUE, v, NULL, "\"%s\" is there already", v->key);
    return ST_OK;
}

/* The members of `key`, each by `read`; a line's name is known only after it. */
static Status read_list(Names *k, const CellSpec *spec, Json *layer, const char *key,
                        Status (*read)(Names *, Json *, CellItem *), CellList *out)
{
    Json *o = json_member(layer, key);
    if (o->kind != JSON_OBJECT || (o->count == 0 && read != read_weight))
        return json_fail(k->cx, ST_VALUE, o, NULL, "wants an object of %s, got %s", key,
                         o->kind == JSON_OBJECT ? "none" : json_source(k->arena, o));
    out->at = arena_array(k->arena, CellItem, o->count);
    for (Json *v = o->first; v; v = v->next) {
        const bool state = read == read_line && cell_item(&spec->state, v->key);
        CellItem *item = &out->at[out->n++];
        item->name = v->key;
        TRY(check_new_name(k, v, state));
        TRY(read(k, v, item));
        if (!state)
            know(k, v->key);
    }
    return ST_OK;
}

/* Whatever was written down has a use, and each state a line. */
static Status check_used(const Names *k, const CellSpec *spec, const Json *layer,
                         const char *output)
{
    const Json *update = json_member(layer, "update");
    if (output && !cell_item(&spec->state, output) && !cell_item(&spec->line, output))
        return json_fail(k->cx, ST_VALUE, json_member(layer, "output"),
                         json_hint(k->arena, output, k->name, k->n),
                         "wants a state or a name of \"update\", got \"%s\"", output);
    for (int i = 0; i < spec->state.n; i++)
        if (!cell_item(&spec->line, spec->state.at[i].name))
            return json_fail(k->cx, ST_VALUE, update, NULL, "the state \"%s\" has no line",
                             spec->state.at[i].name);
    for (int i = 0; i < k->n; i++) {
        const char *name = k->name[i];
        if (k->used[i] || strcmp(name, "x") == 0 || cell_item(&spec->state, name) ||
            (output && strcmp(name, output) == 0))
            continue;
        return json_fail(k->cx, ST_VALUE, update, NULL, "nothing reads \"%s\"", name);
    }
    return ST_OK;
}

Status cell_read(Ctx *cx, Arena *arena, Json *layer, const char *output, CellSpec **out)
{
    static const char *const section[] = { "state", "weights", "update" };
    int most = 1;
    for (int i = 0; i < 3; i++)
        most += json_member(layer, section[i])->count;
    Names k = { .cx = cx,
                .arena = arena,
                .name = arena_array(arena, const char *, most),
                .used = arena_array(arena, bool, most) };
    CellSpec *spec = *out = arena_alloc(arena, sizeof *spec);
    know(&k, "x");
    TRY(read_list(&k, spec, layer, "state", read_state, &spec->state));
    TRY(read_list(&k, spec, layer, "weights", read_weight, &spec->weight));
    TRY(read_list(&k, spec, layer, "update", read_line, &spec->line));
    return check_used(&k, spec, layer, output);
}
