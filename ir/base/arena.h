/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_BASE_ARENA_H
#define GTC_IR_BASE_ARENA_H

#include <stddef.h>

/* Memory that is given back all at once.  Growth that fails calls the handler that the program
 * installed (cli: one line, exit 4), so callers need not check.  Memory is zeroed, aligned to 16. */
typedef struct Arena Arena;

Arena *arena_new(void);
void   arena_free(Arena *a); /* NULL is fine */
void  *arena_alloc(Arena *a, size_t bytes);
void  *arena_copy(Arena *a, const void *src, size_t bytes);
char  *arena_strdup(Arena *a, const char *s);
char  *arena_printf(Arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
size_t arena_bytes(const Arena *a); /* handed out so far */

/* n zeroed elements; the product is overflow-checked. */
#define arena_array(a, T, n) ((T *)arena_alloc_array((a), sizeof(T), (size_t)(n)))
void *arena_alloc_array(Arena *a, size_t size, size_t n);

/* Room for one more element in a growing arena array: returns base, moved when cap grew. */
#define arena_grow(a, base, n, cap)                                                                \
    ((base) = arena_grow_array((a), (base), sizeof *(base), (n), &(cap)))
void *arena_grow_array(Arena *a, void *base, size_t size, unsigned n, unsigned *cap);

/* What happens when malloc returns NULL.  The default prints one line and exits 4. */
void arena_on_out_of_memory(void (*handler)(size_t bytes));
/* Calls it: for the few that get memory elsewhere (strbuf). */
_Noreturn void arena_out_of_memory(size_t bytes);

#endif
