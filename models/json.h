/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_MODELS_JSON_H
#define GTC_MODELS_JSON_H

#include "ir/base/arena.h"
#include "ir/base/status.h"
#include "ir/base/strbuf.h"

#include <stdbool.h>

/* A strict JSON reader that knows where each value stands.  Everything lives in the arena that
 * was given; values may be changed (overrides, defaults) before they are read. */
typedef enum JsonKind {
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT
} JsonKind;

typedef struct JsonText { /* what was read, for messages */
    const char *file, *s;
    size_t n;
} JsonText;

typedef struct Json Json;
struct Json {
    JsonKind kind;
    Json *parent, *first, *next; /* children in the order of the text */
    int count, index;            /* of children; of this one in its parent */
    const char *key;             /* of a member of an object, decoded */
    const JsonText *text;
    size_t at, end, key_at; /* byte spans in text */
    double number;
    bool integer; /* a number without point or exponent, |number| <= 2^53 */
    bool truth;
    const char *string;
};

enum { JSON_MAX_DEPTH = 64, JSON_MAX_VALUES = 100000 };

/* Parses text[0..n).  Fails with ST_PARSE and the place, see json_fail. */
Status json_parse(Ctx *cx, Arena *arena, const char *file, const char *text, size_t n, Json **out);

Json *json_member(const Json *object, const char *key); /* NULL if absent or no object */
/* Adds or replaces a member; the value is parsed from trusted text. */
Json *json_set(Arena *arena, Json *object, const char *key, const char *text);

Json *json_new(Arena *arena, const JsonText *text, Json *parent); /* null, not yet a child */
void json_put(Json *parent, Json *old, Json *v); /* in the place of old, or at the end */

/* Applies "train.epochs=3", "layers[1].units=8" or "layers.lstm.units=8" (by name).  What stands
 * after "=" is JSON, or else a bare word taken as a string. */
Status json_override(Ctx *cx, Arena *arena, Json *root, const char *setting);

/* Records a failure at v.  The message is
 *     layers[2].kernel: wants an integer >= 1, got "3x3"  (/layers/2/kernel)
 * and the source line, a caret and `hint` (may be NULL) on lines of their own. */
Status json_fail(Ctx *cx, Status code, const Json *v, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* The same, pointing at v's key instead of its value. */
Status json_fail_key(Ctx *cx, Status code, const Json *v, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* The same, pointing at byte `at` of v's string. */
Status json_fail_inside(Ctx *cx, Status code, const Json *v, size_t at, const char *hint,
                        const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* At a byte of a text, without a path. */
Status json_fail_text(Ctx *cx, Status code, const JsonText *t, size_t at, const char *what,
                      const char *hint);

const char *json_source(Arena *arena, const Json *v); /* v's own text, shortened, for "got ..." */
/* `did you mean "kernel"?`, or NULL when no word of words[0..n) is near. */
const char *json_hint(Arena *arena, const char *word, const char *const *words, int n);

void json_print(const Json *v, Strbuf *out);
void json_print_string(const char *s, Strbuf *out);

#endif
