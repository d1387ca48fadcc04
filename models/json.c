/* SPDX-License-Identifier: Apache-2.0 */
/* json: a strict reader of JSON that can say where each value stands.
 *
 * cJSON decodes well but keeps no positions and takes things that are not JSON (007, duplicate
 * keys, raw control characters).  So the text is first walked by a scanner of our own, which
 * refuses whatever RFC 8259 does not allow, and whatever two readers might understand in two ways
 * (duplicate keys, integers that a double cannot hold, numbers that overflow), and which builds
 * the tree with the byte span of each value.  cJSON then parses the same text, and its tree,
 * walked in step, gives the decoded strings and numbers.  This is the only file that knows cJSON.
 *
 * Columns count characters, not bytes, so that a caret stands under what it means.
 */
#include "models/json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/hash.h"

typedef struct Scanner {
    Ctx *cx;
    Arena *arena;
    const JsonText *text;
    size_t i;
    int depth, values;
} Scanner;

static Status scan_fail(Scanner *sc, size_t at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static Status scan_fail(Scanner *sc, size_t at, const char *fmt, ...)
{
    Strbuf s = { 0 };
    va_list ap;
    va_start(ap, fmt);
    strbuf_vprintf(&s, fmt, ap);
    va_end(ap);
    const Status code = json_fail_text(sc->cx, ST_PARSE, sc->text, at, strbuf_str(&s), NULL);
    strbuf_free(&s);
    return code;
}

static int peek(const Scanner *sc)
{
    return sc->i < sc->text->n ? (unsigned char)sc->text->s[sc->i] : -1;
}

static void skip_space(Scanner *sc)
{
    while (peek(sc) == ' ' || peek(sc) == '\t' || peek(sc) == '\n' || peek(sc) == '\r')
        sc->i++;
}

/* What stands at the scanner, as a message names it. */
static const char *found(Scanner *sc)
{
    const int c = peek(sc);
    if (c < 0)
        return "the end of the text";
    if (c < 0x20 || c >= 0x7F)
        return arena_printf(sc->arena, "byte 0x%02x", (unsigned)c);
    return arena_printf(sc->arena, "'%c'", c);
}

/* Length of the UTF-8 sequence at s[i], 0 when it is none (overlong, surrogate, cut off). */
static int utf8_length(const JsonText *t, size_t i)
{
    const unsigned char *s = (const unsigned char *)t->s + i;
    const size_t left = t->n - i;
    if (s[0] < 0x80)
        return 1;
    const int n = s[0] >= 0xC2 && s[0] <= 0xDF   ? 2
                  : (s[0] & 0xF0) == 0xE0        ? 3
                  : s[0] >= 0xF0 && s[0] <= 0xF4 ? 4
                                                 : 0;
    if (n == 0 || left < (size_t)n)
        return 0;
    for (int k = 1; k < n; k++) {
        if ((s[k] & 0xC0) != 0x80)
            return 0;
    }
    const bool bad = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
                     (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F);
    return bad ? 0 : n;
}

static bool scan_hex4(Scanner *sc, unsigned *out)
{
    *out = 0;
    for (int k = 0; k < 4; k++, sc->i++) {
        const int c = peek(sc);
        const int d = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
        if (d < 0)
            return false;
        *out = *out * 16 + (unsigned)d;
    }
    return true;
}

static Status scan_escape(Scanner *sc)
{
    const size_t at = sc->i++;
    const int c = peek(sc);
    if (c > 0 && strchr("\"\\/bfnrt", c)) {
        sc->i++;
        return ST_OK;
    }
    if (c != 'u')
        return scan_fail(sc, at, "no such escape in a string");
    sc->i++;
    unsigned hi, lo;
    if (!scan_hex4(sc, &hi))
        return scan_fail(sc, at, "\\u wants 4 hex digits");
    if (hi == 0)
        return scan_fail(sc, at, "a NUL character in a string");
    if (hi < 0xD800 || hi > 0xDFFF)
        return ST_OK;
    if (hi > 0xDBFF || peek(sc) != '\\')
        return scan_fail(sc, at, "half of a surrogate pair");
    sc->i++;
    if (peek(sc) != 'u')
        return scan_fail(sc, at, "half of a surrogate pair");
    sc->i++;
    if (!scan_hex4(sc, &lo) || lo < 0xDC00 || lo > 0xDFFF)
        return scan_fail(sc, at, "half of a surrogate pair");
    return ST_OK;
}

static Status scan_string(Scanner *sc)
{
    const size_t at = sc->i++;
    for (;;) {
        const int c = peek(sc);
        if (c < 0)
            return scan_fail(sc, at, "this string does not end");
        if (c == '"') {
            sc->i++;
            return ST_OK;
        }
        if (c < 0x20)
            return scan_fail(sc, sc->i, "control character 0x%02x in a string", (unsigned)c);
        if (c == '\\') {
            TRY(scan_escape(sc));
            continue;
        }
        const int n = utf8_length(sc->text, sc->i);
        if (n == 0)
            return scan_fail(sc, sc->i, "not UTF-8: byte 0x%02x", (unsigned)c);
        sc->i += (size_t)n;
    }
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static Status scan_digits(Scanner *sc, size_t at)
{
    if (!is_digit(peek(sc)))
        return scan_fail(sc, at, "not a number: wants a digit, got %s", found(sc));
    while (is_digit(peek(sc)))
        sc->i++;
    return ST_OK;
}

/* By its digits: as a double, 2^53 + 1 is 2^53. */
static bool above_2_53(const char *s, size_t n)
{
    if (s[0] == '-')
        s++, n--;
    return n > 16 || (n == 16 && memcmp(s, "9007199254740992", 16) > 0);
}

static Status scan_number(Scanner *sc, Json *v)
{
    const size_t at = sc->i;
    if (peek(sc) == '-')
        sc->i++;
    if (peek(sc) == '0') {
        sc->i++;
        if (is_digit(peek(sc)))
            return scan_fail(sc, at, "a number does not start with 0");
    } else {
        TRY(scan_digits(sc, at));
    }
    v->integer = true;
    if (peek(sc) == '.') {
        v->integer = false;
        sc->i++;
        TRY(scan_digits(sc, at));
    }
    if (peek(sc) == 'e' || peek(sc) == 'E') {
        v->integer = false;
        sc->i++;
        if (peek(sc) == '+' || peek(sc) == '-')
            sc->i++;
        TRY(scan_digits(sc, at));
    }
    const double x =
        strtod(arena_printf(sc->arena, "%.*s", (int)(sc->i - at), sc->text->s + at), NULL);
    if (!isfinite(x))
        return scan_fail(sc, at, "a number that overflows");
    if (v->integer && above_2_53(sc->text->s + at, sc->i - at))
        return scan_fail(sc, at, "an integer above 2^53");
    return ST_OK;
}

Json *json_new(Arena *arena, const JsonText *text, Json *parent)
{
    Json *v = arena_alloc(arena, sizeof *v);
    v->text = text;
    v->parent = parent;
    return v;
}

static void append(Json *parent, Json *v)
{
    v->parent = parent;
    v->index = parent->count++;
    Json **p = &parent->first;
    while (*p)
        p = &(*p)->next;
    *p = v;
}

static Status scan_value(Scanner *sc, Json *v);

static Status scan_items(Scanner *sc, Json *v, char close)
{
    const bool object = close == '}';
    Json **tail = &v->first;
    sc->i++;
    skip_space(sc);
    if (peek(sc) == close) {
        sc->i++;
        return ST_OK;
    }
    for (;;) {
        Json *item = json_new(sc->arena, sc->text, v);
        item->index = v->count++;
        *tail = item;
        tail = &item->next;
        if (object) {
            if (peek(sc) != '"')
                return scan_fail(sc, sc->i, "wants a key in quotes, got %s", found(sc));
            item->key_at = sc->i;
            TRY(scan_string(sc));
            skip_space(sc);
            if (peek(sc) != ':')
                return scan_fail(sc, sc->i, "wants ':' after a key, got %s", found(sc));
            sc->i++;
            skip_space(sc);
        }
        TRY(scan_value(sc, item));
        skip_space(sc);
        if (peek(sc) == close) {
            sc->i++;
            return ST_OK;
        }
        if (peek(sc) != ',')
            return scan_fail(sc, sc->i, "wants ',' or '%c', got %s", close, found(sc));
        const size_t comma = sc->i++;
        skip_space(sc);
        if (peek(sc) == close)
            return scan_fail(sc, comma, "a comma with nothing after it");
    }
}

static bool scan_word(Scanner *sc, const char *word)
{
    const size_t n = strlen(word);
    if (sc->text->n - sc->i < n || memcmp(sc->text->s + sc->i, word, n) != 0)
        return false;
    sc->i += n;
    return true;
}

static Status scan_value(Scanner *sc, Json *v)
{
    const int c = peek(sc);
    v->at = sc->i;
    if (++sc->values > JSON_MAX_VALUES)
        return scan_fail(sc, sc->i, "more than %d values", JSON_MAX_VALUES);
    if (c == '{' || c == '[') {
        if (++sc->depth > JSON_MAX_DEPTH)
            return scan_fail(sc, sc->i, "nested deeper than %d", JSON_MAX_DEPTH);
        v->kind = c == '{' ? JSON_OBJECT : JSON_ARRAY;
        TRY(scan_items(sc, v, c == '{' ? '}' : ']'));
        sc->depth--;
    } else if (c == '"') {
        v->kind = JSON_STRING;
        TRY(scan_string(sc));
    } else if (c == '-' || is_digit(c)) {
        v->kind = JSON_NUMBER;
        TRY(scan_number(sc, v));
    } else if (scan_word(sc, "true") || scan_word(sc, "false")) {
        v->kind = JSON_BOOL;
        v->truth = c == 't';
    } else if (scan_word(sc, "null")) {
        v->kind = JSON_NULL;
    } else {
        return scan_fail(sc, sc->i, "wants a value, got %s%s", found(sc),
                         c == '/' ? " (JSON has no comments)" : "");
    }
    v->end = sc->i;
    return ST_OK;
}

/* The first member whose key is there already, or NULL; by a table at most half full. */
static const Json *key_twice(Arena *arena, const Json *object)
{
    uint32_t cap = 8;
    while (cap < 2 * (uint32_t)object->count)
        cap *= 2;
    const Json **seen = arena_array(arena, const Json *, cap);
    for (const Json *k = object->first; k; k = k->next) {
        uint32_t at = (uint32_t)hash_bytes(k->key, strlen(k->key), 0) & (cap - 1);
        for (; seen[at]; at = (at + 1) & (cap - 1))
            if (strcmp(seen[at]->key, k->key) == 0)
                return k;
        seen[at] = k;
    }
    return NULL;
}

/* Takes decoded keys, strings and numbers from cJSON's tree of the same text. */
static Status take_values(Ctx *cx, Arena *arena, Json *v, const cJSON *c)
{
    if (v->kind == JSON_NUMBER)
        v->number = c->valuedouble;
    if (v->kind == JSON_STRING)
        v->string = arena_strdup(arena, c->valuestring);
    const cJSON *cc = c->child;
    for (Json *k = v->first; k; k = k->next, cc = cc->next) {
        gtc_assert(cc, "cJSON sees fewer values than the scanner");
        if (v->kind == JSON_OBJECT)
            k->key = arena_strdup(arena, cc->string);
        TRY(take_values(cx, arena, k, cc));
    }
    gtc_assert(!cc, "cJSON sees more values than the scanner");
    const Json *twice = v->kind == JSON_OBJECT && v->count > 1 ? key_twice(arena, v) : NULL;
    return twice ? json_fail_key(cx, ST_PARSE, twice, NULL, "a second time") : ST_OK;
}

Status json_parse(Ctx *cx, Arena *arena, const char *file, const char *text, size_t n, Json **out)
{
    JsonText *t = arena_alloc(arena, sizeof *t);
    *t = (JsonText){ .file = arena_strdup(arena, file), .s = arena_copy(arena, text, n), .n = n };
    Scanner sc = { .cx = cx, .arena = arena, .text = t };
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        return scan_fail(&sc, 0, "a byte order mark; JSON starts without one");
    Json *root = json_new(arena, t, NULL);
    skip_space(&sc);
    TRY(scan_value(&sc, root));
    skip_space(&sc);
    if (sc.i < n)
        return scan_fail(&sc, sc.i, "more text after the value: %s", found(&sc));

    cJSON *c = cJSON_ParseWithLength(text, n);
    gtc_assert(c, "cJSON refuses what the scanner took");
    const Status st = take_values(cx, arena, root, c);
    cJSON_Delete(c);
    *out = root;
    return st;
}

Json *json_member(const Json *object, const char *key)
{
    if (!object || object->kind != JSON_OBJECT)
        return NULL;
    for (Json *k = object->first; k; k = k->next) {
        if (strcmp(k->key, key) == 0)
            return k;
    }
    return NULL;
}

/* Puts v in the place of `old` (a child of parent), or at the end. */
void json_put(Json *parent, Json *old, Json *v)
{
    if (!old) {
        append(parent, v);
        return;
    }
    Json **p = &parent->first;
    while (*p != old)
        p = &(*p)->next;
    v->next = old->next;
    v->parent = parent;
    v->index = old->index;
    *p = v;
}

Json *json_set(Arena *arena, Json *object, const char *key, const char *text)
{
    Ctx cx;
    Json *v = NULL;
    ctx_init(&cx);
    const Status st = json_parse(&cx, arena, "default", text, strlen(text), &v);
    gtc_assert(st == ST_OK, "the default of %s is no JSON: %s", key, text);
    v->key = arena_strdup(arena, key);
    json_put(object, json_member(object, key), v);
    return v;
}

void json_print_string(const char *s, Strbuf *out)
{
    strbuf_putc(out, '"');
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            strbuf_printf(out, "\\%c", c);
        else if (c == '\n')
            strbuf_add(out, "\\n");
        else if (c == '\t')
            strbuf_add(out, "\\t");
        else if (c < 0x20)
            strbuf_printf(out, "\\u%04x", (unsigned)c);
        else
            strbuf_putc(out, (char)c);
    }
    strbuf_putc(out, '"');
}

static bool is_nested(const Json *v)
{
    for (const Json *k = v->first; k; k = k->next) {
        if (k->first && (k->kind == JSON_OBJECT || is_nested(k) || v->kind == JSON_ARRAY))
            return true;
    }
    return false;
}

static void print_value(const Json *v, int indent, Strbuf *out)
{
    if (v->kind == JSON_STRING) {
        json_print_string(v->string, out);
        return;
    }
    if (v->kind != JSON_ARRAY && v->kind != JSON_OBJECT) {
        strbuf_addn(out, v->text->s + v->at, v->end - v->at);
        return;
    }
    const bool object = v->kind == JSON_OBJECT, lines = is_nested(v) || indent == 0;
    strbuf_putc(out, object ? '{' : '[');
    for (const Json *k = v->first; k; k = k->next) {
        if (lines)
            strbuf_printf(out, "\n%*s", indent + 2, "");
        else if (object || k->index)
            strbuf_putc(out, ' ');
        if (object) {
            json_print_string(k->key, out);
            strbuf_add(out, ": ");
        }
        print_value(k, indent + 2, out);
        if (k->next)
            strbuf_putc(out, ',');
    }
    if (lines && v->first)
        strbuf_printf(out, "\n%*s", indent, "");
    else if (object && v->first)
        strbuf_putc(out, ' ');
    strbuf_putc(out, object ? '}' : ']');
}

void json_print(const Json *v, Strbuf *out)
{
    print_value(v, 0, out);
    strbuf_putc(out, '\n');
}
