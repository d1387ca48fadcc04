/* SPDX-License-Identifier: Apache-2.0 */
#include "ir/base/strbuf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/arena.h"
#include "ir/base/status.h"

/* Room for n more bytes and the NUL. */
static void reserve(Strbuf *b, size_t n)
{
    if (n > SIZE_MAX / 4 || b->n > SIZE_MAX / 4)
        arena_out_of_memory(n);
    const size_t need = b->n + n + 1;
    if (need <= b->cap)
        return;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    char *s = realloc(b->s, cap);
    if (!s)
        arena_out_of_memory(cap);
    b->s = s;
    b->cap = cap;
}

void strbuf_vprintf(Strbuf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    const int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    gtc_assert(n >= 0 && fmt, "strbuf_printf: bad format");
    reserve(b, (size_t)n);
    vsnprintf(b->s + b->n, (size_t)n + 1, fmt, ap);
    b->n += (size_t)n;
}

void strbuf_printf(Strbuf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    strbuf_vprintf(b, fmt, ap);
    va_end(ap);
}

void strbuf_add(Strbuf *b, const char *s)
{
    strbuf_addn(b, s, strlen(s));
}

void strbuf_addn(Strbuf *b, const void *s, size_t n)
{
    reserve(b, n);
    if (n)
        memcpy(b->s + b->n, s, n);
    b->n += n;
    b->s[b->n] = '\0';
}

void strbuf_putc(Strbuf *b, char c)
{
    strbuf_addn(b, &c, 1);
}

void strbuf_clear(Strbuf *b)
{
    b->n = 0;
    if (b->s)
        b->s[0] = '\0';
}

const char *strbuf_str(const Strbuf *b)
{
    return b->s ? b->s : "";
}

void strbuf_free(Strbuf *b)
{
    free(b->s);
    *b = (Strbuf){ 0 };
}
