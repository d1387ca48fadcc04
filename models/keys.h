/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_MODELS_KEYS_H
#define GTC_MODELS_KEYS_H

#include <stddef.h>

#include "models/json.h"
#include "models/model.h"

/* The keys of model.json are rows of tables (data.def train.def layers.def losses.def
 * optimizers.def).  A row drives reading, the check, the default, the documentation and the
 * schema:
 *     KEY(section, "key", field, TYPE, default, constraint, help)
 * default      JSON text, NULL for none, or REQUIRED
 * constraint   of numbers: ">= 1", "> 0", "in [0, 1)"; of ENUM: the set in choices.def; of OTHER:
 *              what the value may be, in words (the section's own code reads it)
 * A KEY's section is the layer, loss or optimizer type; `layer` holds what all layers have. */
typedef enum KeyType {
    KEY_INT,  /* int */
    KEY_LONG, /* int64_t */
    KEY_NUM,  /* double */
    KEY_BOOL, /* bool */
    KEY_STR,  /* const char * */
    KEY_ENUM, /* int */
    KEY_STRS, /* StrList: a string or a list of them */
    KEY_DIMS, /* Dims: an integer or a list of up to 3 */
    KEY_OTHER /* no field */
} KeyType;

typedef struct Dims {
    int n;
    int64_t at[3];
} Dims;

typedef struct KeyInfo {
    const char *section, *key;
    KeyType type;
    size_t offset;
    const char *deflt, *constraint, *help;
} KeyInfo;

typedef struct KeyTable {
    const KeyInfo *row;
    int n;
} KeyTable;

extern const KeyTable key_data, key_train, key_layers, key_losses, key_optimizers;

#define REQUIRED "!"

/* A named value of an ENUM: a row of choices.def. */
typedef struct Choice {
    const char *set, *name;
    int value;
} Choice;
extern const Choice key_choice[];
extern const int key_nchoice;

/* Reads the keys of `section` and `common` (may be NULL) from object into *into.  Missing keys with
 * a default are added to the object.  Unknown keys fail; what they are unknown to is `what`. */
Status keys_read(Ctx *cx, Arena *arena, const KeyTable *table, const char *section,
                 const char *common, const char *what, Json *object, void *into);

/* Single values, with json_fail's message when they do not fit. */
Status keys_int(Ctx *cx, Arena *arena, const Json *v, const char *constraint, int64_t *out);
Status keys_num(Ctx *cx, Arena *arena, const Json *v, const char *constraint, double *out);
Status keys_str(Ctx *cx, Arena *arena, const Json *v, const char **out);
Status keys_strs(Ctx *cx, Arena *arena, const Json *v, StrList *out);
Status keys_dims(Ctx *cx, Arena *arena, const Json *v, const char *constraint, Dims *out);
Status keys_shape(Ctx *cx, Arena *arena, const Json *v, int64_t lo, Shape *out);
Status keys_enum(Ctx *cx, Arena *arena, const Json *v, const char *set, int *out);

/* "same|valid" */
void keys_print_choices(const char *set, const char *quote, const char *between, Strbuf *out);

#endif
