/* SPDX-License-Identifier: Apache-2.0 */
/* keys: reads an object of model.json by the rows of a table.  One reader serves all sections, so
 * that a key's type, bounds and default are written once, where the documentation takes them. */
#include "models/keys.h"

#include "models/layer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEY(section, key, field, type, deflt, constraint, help)                                    \
    { #section, key, KEY_##type, offsetof(KEY_STRUCT, field), deflt, constraint, help },
#define KEY_STRUCT DataConfig
static const KeyInfo data_rows[] = {
#include "models/data.def"
};
#undef KEY_STRUCT

#define KEY(section, key, field, type, deflt, constraint, help)                                    \
    { #section, key, KEY_##type, offsetof(KEY_STRUCT, field), deflt, constraint, help },
#define KEY_STRUCT TrainConfig
static const KeyInfo train_rows[] = {
#include "models/train.def"
};
#undef KEY_STRUCT

#define KEY(section, key, field, type, deflt, constraint, help)                                    \
    { #section, key, KEY_##type, offsetof(KEY_STRUCT, field), deflt, constraint, help },
#define KEY_STRUCT Layer
static const KeyInfo layer_rows[] = {
#include "models/layers.def"
};
#undef KEY_STRUCT

#define KEY(section, key, field, type, deflt, constraint, help)                                    \
    { #section, key, KEY_##type, offsetof(KEY_STRUCT, field), deflt, constraint, help },
#define KEY_STRUCT LossConfig
static const KeyInfo loss_rows[] = {
#include "models/losses.def"
};
#undef KEY_STRUCT

#define KEY(section, key, field, type, deflt, constraint, help)                                    \
    { #section, key, KEY_##type, offsetof(KEY_STRUCT, field), deflt, constraint, help },
#define KEY_STRUCT OptimizerConfig
static const KeyInfo optimizer_rows[] = {
#include "models/optimizers.def"
};
#undef KEY_STRUCT

#define TABLE(rows)                                                                                \
    {                                                                                              \
        rows, (int)(sizeof rows / sizeof rows[0])                                                  \
    }
const KeyTable key_data = TABLE(data_rows);
const KeyTable key_train = TABLE(train_rows);
const KeyTable key_layers = TABLE(layer_rows);
const KeyTable key_losses = TABLE(loss_rows);
const KeyTable key_optimizers = TABLE(optimizer_rows);

const Choice key_choice[] = {
#define CHOICE(set, name, value) { #set, name, value },
#include "models/choices.def"
};
const int key_nchoice = sizeof key_choice / sizeof key_choice[0];

/* ---- single values ---- */

/* Whether x keeps ">= 1", "> 0", "in [0, 1)" or "in [0, 1]". */
static bool keeps(double x, const char *constraint)
{
    if (!constraint)
        return true;
    if (strncmp(constraint, ">= ", 3) == 0)
        return x >= atof(constraint + 3);
    if (strncmp(constraint, "> ", 2) == 0)
        return x > atof(constraint + 2);
    gtc_assert(strncmp(constraint, "in [", 4) == 0, "no such constraint: %s", constraint);
    char *end;
    const double lo = strtod(constraint + 4, &end), hi = strtod(end + 1, &end);
    return x >= lo && (*end == ']' ? x <= hi : x < hi);
}

static Status wants(Ctx *cx, Arena *arena, const Json *v, const char *what, const char *constraint)
{
    return json_fail(cx, ST_VALUE, v, NULL, "wants %s%s%s, got %s", what, constraint ? " " : "",
                     constraint ? constraint : "", json_source(arena, v));
}

Status keys_int(Ctx *cx, Arena *arena, const Json *v, const char *constraint, int64_t *out)
{
    if (v->kind != JSON_NUMBER || !v->integer || !keeps(v->number, constraint))
        return wants(cx, arena, v, "an integer", constraint);
    *out = (int64_t)v->number;
    return ST_OK;
}

Status keys_num(Ctx *cx, Arena *arena, const Json *v, const char *constraint, double *out)
{
    if (v->kind != JSON_NUMBER || !keeps(v->number, constraint))
        return wants(cx, arena, v, "a number", constraint);
    *out = v->number;
    return ST_OK;
}

Status keys_str(Ctx *cx, Arena *arena, const Json *v, const char **out)
{
    if (v->kind != JSON_STRING || !v->string[0])
        return wants(cx, arena, v, "a string", NULL);
    *out = v->string;
    return ST_OK;
}

Status keys_strs(Ctx *cx, Arena *arena, const Json *v, StrList *out)
{
    const bool list = v->kind == JSON_ARRAY && v->count > 0;
    if (!list && v->kind != JSON_STRING)
        return wants(cx, arena, v, "a string or a list of strings", NULL);
    out->n = list ? v->count : 1;
    out->at = arena_array(arena, const char *, out->n);
    if (!list)
        return keys_str(cx, arena, v, &out->at[0]);
    for (const Json *k = v->first; k; k = k->next)
        TRY(keys_str(cx, arena, k, &out->at[k->index]));
    return ST_OK;
}

Status keys_dims(Ctx *cx, Arena *arena, const Json *v, const char *constraint, Dims *out)
{
    if (v->kind != JSON_ARRAY) {
        out->n = 1;
        return keys_int(cx, arena, v, constraint, &out->at[0]);
    }
    if (v->count < 1 || v->count > 3)
        return json_fail(cx, ST_VALUE, v, NULL, "wants an integer or a list of up to 3, got %s",
                         json_source(arena, v));
    out->n = v->count;
    for (const Json *k = v->first; k; k = k->next)
        TRY(keys_int(cx, arena, k, constraint, &out->at[k->index]));
    return ST_OK;
}

Status keys_shape(Ctx *cx, Arena *arena, const Json *v, int64_t lo, Shape *out)
{
    if (v->kind != JSON_ARRAY || v->count >= MAX_RANK)
        return json_fail(cx, ST_VALUE, v, NULL, "wants a list of up to %d integers, got %s",
                         MAX_RANK - 1, json_source(arena, v));
    *out = (Shape){ .rank = (int8_t)v->count };
    for (const Json *k = v->first; k; k = k->next)
        TRY(keys_int(cx, arena, k, lo == 1 ? ">= 1" : ">= -1", &out->dim[k->index]));
    return ST_OK;
}

void keys_print_choices(const char *set, const char *quote, const char *between, Strbuf *out)
{
    const char *sep = "";
    for (int i = 0; i < key_nchoice; i++) {
        if (strcmp(key_choice[i].set, set) == 0) {
            strbuf_printf(out, "%s%s%s%s", sep, quote, key_choice[i].name, quote);
            sep = between;
        }
    }
}

Status keys_enum(Ctx *cx, Arena *arena, const Json *v, const char *set, int *out)
{
    const char *name[32];
    int n = 0;
    for (int i = 0; i < key_nchoice; i++) {
        if (strcmp(key_choice[i].set, set) != 0)
            continue;
        if (v->kind == JSON_STRING && strcmp(v->string, key_choice[i].name) == 0) {
            *out = key_choice[i].value;
            return ST_OK;
        }
        name[n++] = key_choice[i].name;
    }
    Strbuf s = { 0 };
    keys_print_choices(set, "\"", ", ", &s);
    const char *hint = v->kind == JSON_STRING ? json_hint(arena, v->string, name, n) : NULL;
    json_fail(cx, ST_VALUE, v, hint, "wants one of %s, got %s", strbuf_str(&s),
              json_source(arena, v));
    strbuf_free(&s);
    return ST_VALUE;
}

/* ---- sections ---- */

static Status read_field(Ctx *cx, Arena *arena, const KeyInfo *k, const Json *v, void *field)
{
    int64_t i;
    switch (k->type) {
    case KEY_INT:
        TRY(keys_int(cx, arena, v, k->constraint, &i));
        if (i > INT32_MAX || i < INT32_MIN)
            return wants(cx, arena, v, "an integer of 32 bits", NULL);
        *(int *)field = (int)i;
        return ST_OK;
    case KEY_LONG:
        return keys_int(cx, arena, v, k->constraint, field);
    case KEY_NUM:
        return keys_num(cx, arena, v, k->constraint, field);
    case KEY_BOOL:
        if (v->kind != JSON_BOOL)
            return wants(cx, arena, v, "true or false", NULL);
        *(bool *)field = v->truth;
        return ST_OK;
    case KEY_STR:
        if (k->constraint)
            TRY(keys_enum(cx, arena, v, k->constraint, &(int){ 0 }));
        return keys_str(cx, arena, v, field);
    case KEY_ENUM: {
        int value;
        TRY(keys_enum(cx, arena, v, k->constraint, &value));
        memcpy(field, &value, sizeof value); /* enums of C are ints or unsigned ints */
        return ST_OK;
    }
    case KEY_STRS:
        return keys_strs(cx, arena, v, field);
    case KEY_DIMS:
        return keys_dims(cx, arena, v, k->constraint, field);
    case KEY_OTHER:
        return ST_OK;
    }
    gtc_assert(false, "key %s has no type", k->key);
    return ST_INTERNAL;
}

static bool is_in(const KeyInfo *k, const char *section, const char *common)
{
    return strcmp(k->section, section) == 0 || (common && strcmp(k->section, common) == 0);
}

static Status unknown_key(Ctx *cx, Arena *arena, const KeyTable *table, const char *section,
                          const char *common, const char *what, const Json *v)
{
    const char **name = arena_array(arena, const char *, table->n);
    int n = 0;
    for (int i = 0; i < table->n; i++) {
        if (is_in(&table->row[i], section, common))
            name[n++] = table->row[i].key;
    }
    return json_fail_key(cx, ST_VALUE, v, json_hint(arena, v->key, name, n), "no such key in %s",
                         what);
}

Status keys_read(Ctx *cx, Arena *arena, const KeyTable *table, const char *section,
                 const char *common, const char *what, Json *object, void *into)
{
    if (object->kind != JSON_OBJECT)
        return wants(cx, arena, object, "an object", NULL);
    for (const Json *v = object->first; v; v = v->next) {
        bool known = false;
        for (int i = 0; i < table->n && !known; i++)
            known =
                is_in(&table->row[i], section, common) && strcmp(table->row[i].key, v->key) == 0;
        if (!known)
            return unknown_key(cx, arena, table, section, common, what, v);
    }
    for (int i = 0; i < table->n; i++) {
        const KeyInfo *k = &table->row[i];
        if (!is_in(k, section, common))
            continue;
        const Json *v = json_member(object, k->key);
        if (!v && k->deflt && strcmp(k->deflt, REQUIRED) == 0)
            return json_fail(cx, ST_VALUE, object, NULL, "%s wants \"%s\": %s", what, k->key,
                             k->help);
        if (!v && k->deflt)
            v = json_set(arena, object, k->key, k->deflt);
        if (v)
            TRY(read_field(cx, arena, k, v, (char *)into + k->offset));
    }
    return ST_OK;
}
