/* SPDX-License-Identifier: Apache-2.0 */
/* json_message: what is said about a place in a text: where it is, the line itself, a caret, a
 * hint. */
#include "models/json.h"

#include <stdlib.h>
#include <string.h>

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

Status json_fail_text(Ctx *cx, Status code, const JsonText *t, size_t at, const char *what,
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
    json_fail_text(cx, code, v->text, at, strbuf_str(&s), hint);
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

/* The byte of the text that gave byte `at` of the decoded string. */
static size_t source_of(const Json *v, size_t at)
{
    const char *s = v->text->s;
    if (v->kind != JSON_STRING || s[v->at] != '"')
        return v->at + at; /* a bare word is its own source */
    size_t i = v->at + 1;
    for (size_t done = 0; done < at && i + 1 < v->end;) {
        if (s[i] != '\\') {
            i++;
            done++;
        } else if (s[i + 1] != 'u') {
            i += 2;
            done++;
        } else { /* up to 3 bytes for one escape, 4 for a pair of them */
            const char digits[5] = { s[i + 2], s[i + 3], s[i + 4], s[i + 5] };
            const unsigned long code = strtoul(digits, NULL, 16);
            i += 6;
            done += code < 0x80 ? 1 : code < 0x800 ? 2 : code - 0xD800 < 0x800 ? 2 : 3;
        }
    }
    return i;
}

Status json_fail_inside(Ctx *cx, Status code, const Json *v, size_t at, const char *hint,
                        const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail_value(cx, code, v, source_of(v, at), hint, fmt, ap);
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
    const int len = (int)strlen(word), far = len / 3 + 1; /* one letter is like any other */
    int best = far < len ? far + 1 : len;
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
