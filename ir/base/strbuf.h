/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_BASE_STRBUF_H
#define GTC_IR_BASE_STRBUF_H

#include <stdarg.h>
#include <stddef.h>

/* A growing, always NUL-terminated string on the heap.  { 0 } is a valid empty one. */
typedef struct Strbuf {
    char  *s; /* NULL only before the first write; use strbuf_str to read */
    size_t n, cap;
} Strbuf;

void        strbuf_printf(Strbuf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void        strbuf_vprintf(Strbuf *b, const char *fmt, va_list ap);
void        strbuf_add(Strbuf *b, const char *s);
void        strbuf_addn(Strbuf *b, const void *s, size_t n);
void        strbuf_putc(Strbuf *b, char c);
void        strbuf_clear(Strbuf *b); /* keeps the memory */
const char *strbuf_str(const Strbuf *b); /* "" when empty */
void        strbuf_free(Strbuf *b);

#endif
