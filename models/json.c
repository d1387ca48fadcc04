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

typedef struct Scanner {
    Ctx *cx;
    Arena *arena;
    const JsonText *text;
    size_t i;
    int depth;
} Scanner;

/* Line and column (both from 1) of a byte offset, and the bounds of its line. */
static void text_place(const JsonText *t, size_t at, int *line, int *col, size_t *lo, size_t *hi)
{
    *line = 1;
    *lo = 0;
    for (size_t i = 0; i < at; i++) {
        if (t->s[i] == '\n') {
            *line += 1;
            *lo = i + 1;
        }
    }
    *col = 1;
    for (size_t i = *lo; i < at; i++)
        *col += ((unsigned char)t->s[i] & 0xC0) != 0x80;
    *hi = at;
    while (*hi < t->n && t->s[*hi] != '\n' && t->s[*hi] != '\r')
        *hi += 1;
}

/* The source line and a caret under `at`; a long line is cut around it.  Bytes that a terminal
 * should not see become '?'. */
static void print_caret(const JsonText *t, size_t at, size_t lo, size_t hi, Strbuf *out)
{
    enum { WHOLE = 100, BEFORE = 60, AFTER = 40 };
    const bool cut = hi - lo > WHOLE;
    if (cut && at - lo > BEFORE)
        lo = at - BEFORE;
    if (cut && hi - at > AFTER)
        hi = at + AFTER;
    while (lo < at && ((unsigned char)t->s[lo] & 0xC0) == 0x80)
        lo++;
    while (hi > at && hi < t->n && ((unsigned char)t->s[hi] & 0xC0) == 0x80)
        hi--;
    strbuf_add(out, "\n  ");
    for (size_t i = lo; i < hi; i++) {
        const unsigned char c = (unsigned char)t->s[i];
        strbuf_putc(out, (c < 0x20 && c != '\t') || c == 0x7F ? '?' : (char)c);
    }
    strbuf_add(out, "\n  ");
    for (size_t i = lo; i < at; i++) {
        if (((unsigned char)t->s[i] & 0xC0) != 0x80)
            strbuf_putc(out, t->s[i] == '\t' ? '\t' : ' ');
    }
    strbuf_putc(out, '^');
}

static Status fail_text(Ctx *cx, Status code, const JsonText *t, size_t at, const char *what,
                        const char *hint)
{
    int line, col;
    size_t lo, hi;
    text_place(t, at, &line, &col, &lo, &hi);
    Strbuf s = { 0 };
    strbuf_add(&s, what);
    print_caret(t, at, lo, hi, &s);
    if (hint)
        strbuf_printf(&s, "\n%s", hint);
    status_fail_at(cx, code, t->file, line, col, "%s", strbuf_str(&s));
    strbuf_free(&s);
    return code;
}

static Status scan_fail(Scanner *sc, size_t at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static Status scan_fail(Scanner *sc, size_t at, const char *fmt, ...)
{
    Strbuf s = { 0 };
    va_list ap;
    va_start(ap, fmt);
    strbuf_vprintf(&s, fmt, ap);
    va_end(ap);
    const Status code = fail_text(sc->cx, ST_PARSE, sc->text, at, strbuf_str(&s), NULL);
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
    if (c >= 0 && strchr("\"\\/bfnrt", c)) {
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

static Json *value_new(Arena *arena, const JsonText *text, Json *parent)
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
        Json *item = value_new(sc->arena, sc->text, v);
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
        if (v->kind == JSON_OBJECT) {
            k->key = arena_strdup(arena, cc->string);
            for (const Json *e = v->first; e != k; e = e->next) {
                if (strcmp(e->key, k->key) == 0)
                    return json_fail_key(cx, ST_PARSE, k, NULL, "a second time");
            }
        }
        TRY(take_values(cx, arena, k, cc));
    }
    gtc_assert(!cc, "cJSON sees more values than the scanner");
    return ST_OK;
}

Status json_parse(Ctx *cx, Arena *arena, const char *file, const char *text, size_t n, Json **out)
{
    JsonText *t = arena_alloc(arena, sizeof *t);
    *t = (JsonText){ .file = arena_strdup(arena, file), .s = arena_copy(arena, text, n), .n = n };
    Scanner sc = { .cx = cx, .arena = arena, .text = t };
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        return scan_fail(&sc, 0, "a byte order mark; JSON starts without one");
    Json *root = value_new(arena, t, NULL);
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
static void put(Json *parent, Json *old, Json *v)
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
    put(object, json_member(object, key), v);
    return v;
}

/* ---- overrides ---- */

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

static Status override_value(Ctx *cx, Arena *arena, const JsonText *t, size_t at, Json **out)
{
    Ctx quiet;
    ctx_init(&quiet);
    const Status st = json_parse(&quiet, arena, t->file, t->s + at, t->n - at, out);
    if (st != ST_OK) {
        for (size_t i = at; i < t->n; i++) {
            if (utf8_length(t, i) == 0)
                return fail_text(cx, ST_PARSE, t, i, "not UTF-8", NULL);
            i += (size_t)utf8_length(t, i) - 1;
        }
        *out = value_new(arena, t, NULL);
        (*out)->kind = JSON_STRING;
        (*out)->string = arena_strdup(arena, t->s + at);
    }
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
        return fail_text(cx, ST_USAGE, t, eq ? 0 : t->n, "wants KEY=VALUE, such as train.epochs=3",
                         NULL);
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
            return fail_text(cx, ST_USAGE, t, (size_t)(p - t->s),
                             "not a path: wants KEY, KEY.KEY or KEY[N]", NULL);
        const char *step = arena_printf(arena, "%.*s", (int)n, name);
        const bool last = p[len] == '=';
        Json *next = NULL;
        if (at->kind == JSON_OBJECT) {
            next = json_member(at, step);
        } else if (at->kind == JSON_ARRAY) {
            next = array_find(at, step);
            if (!next)
                return fail_text(cx, ST_USAGE, t, (size_t)(name - t->s),
                                 arena_printf(arena, "there is no element \"%s\" (%d elements)",
                                              step, at->count),
                                 NULL);
        } else {
            return fail_text(
                cx, ST_USAGE, t, (size_t)(name - t->s),
                arena_printf(arena, "\"%s\" is inside of what is neither object nor list", step),
                NULL);
        }
        Json *put_here = last ? value : NULL;
        if (!last && !next) {
            put_here = value_new(arena, t, at);
            put_here->kind = JSON_OBJECT;
            put_here->at = put_here->end = (size_t)(name - t->s);
        }
        if (put_here) {
            put_here->key = at->kind == JSON_OBJECT ? step : NULL;
            put_here->key_at = (size_t)(name - t->s);
            put(at, next, put_here);
            next = put_here;
        }
        if (last)
            return ST_OK;
        at = next;
        p += len;
    }
}

/* ---- messages ---- */

/* "layers[2].kernel" and "/layers/2/kernel" */
static void print_path(const Json *v, Strbuf *dotted, Strbuf *pointer)
{
    if (!v->parent)
        return;
    print_path(v->parent, dotted, pointer);
    if (v->parent->kind == JSON_ARRAY) {
        strbuf_printf(dotted, "[%d]", v->index);
        strbuf_printf(pointer, "/%d", v->index);
        return;
    }
    strbuf_printf(dotted, "%s%s", dotted->n ? "." : "", v->key);
    strbuf_putc(pointer, '/');
    for (const char *p = v->key; *p; p++) {
        if (*p == '~' || *p == '/')
            strbuf_printf(pointer, "~%c", *p == '~' ? '0' : '1');
        else
            strbuf_putc(pointer, *p);
    }
}

static Status fail_value(Ctx *cx, Status code, const Json *v, size_t at, const char *hint,
                         const char *fmt, va_list ap) __attribute__((format(printf, 6, 0)));
static Status fail_value(Ctx *cx, Status code, const Json *v, size_t at, const char *hint,
                         const char *fmt, va_list ap)
{
    Strbuf dotted = { 0 }, pointer = { 0 }, s = { 0 };
    print_path(v, &dotted, &pointer);
    if (dotted.n)
        strbuf_printf(&s, "%s: ", strbuf_str(&dotted));
    strbuf_vprintf(&s, fmt, ap);
    if (pointer.n)
        strbuf_printf(&s, "  (%s)", strbuf_str(&pointer));
    fail_text(cx, code, v->text, at, strbuf_str(&s), hint);
    strbuf_free(&dotted);
    strbuf_free(&pointer);
    strbuf_free(&s);
    return code;
}

Status json_fail(Ctx *cx, Status code, const Json *v, const char *hint, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_value(cx, code, v, v->at, hint, fmt, ap);
    va_end(ap);
    return code;
}

Status json_fail_key(Ctx *cx, Status code, const Json *v, const char *hint, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_value(cx, code, v, v->key_at, hint, fmt, ap);
    va_end(ap);
    return code;
}

const char *json_source(Arena *arena, const Json *v)
{
    enum { LONGEST = 40 };
    size_t n = v->end - v->at;
    if (v->kind == JSON_OBJECT)
        return "an object";
    if (v->kind == JSON_STRING && v->text->s[v->at] != '"')
        return arena_printf(arena, "\"%.*s\"", LONGEST, v->string); /* a bare word of an override */
    if (n <= LONGEST)
        return arena_printf(arena, "%.*s", (int)n, v->text->s + v->at);
    n = LONGEST;
    while (n && ((unsigned char)v->text->s[v->at + n] & 0xC0) == 0x80)
        n--;
    return arena_printf(arena, "%.*s...", (int)n, v->text->s + v->at);
}

/* Levenshtein's distance with swaps of neighbours; words longer than the table are far. */
static int edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 32 };
    const int na = (int)strlen(a), nb = (int)strlen(b);
    int d[LONGEST + 1][LONGEST + 1];
    if (na > LONGEST || nb > LONGEST)
        return LONGEST;
    for (int i = 0; i <= na; i++) {
        for (int j = 0; j <= nb; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = d[i - 1][j] + 1 < best ? d[i - 1][j] + 1 : best;
            best = d[i][j - 1] + 1 < best ? d[i][j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[na][nb];
}

const char *json_hint(Arena *arena, const char *word, const char *const *words, int n)
{
    const int far = (int)strlen(word) / 3 + 1;
    int best = far + 1;
    const char *near = NULL;
    for (int i = 0; i < n; i++) {
        const int d = edit_distance(word, words[i]);
        if (d < best) {
            best = d;
            near = words[i];
        }
    }
    return near ? arena_printf(arena, "did you mean \"%s\"?", near) : NULL;
}

/* ---- printing ---- */

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
