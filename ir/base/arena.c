/* SPDX-License-Identifier: Apache-2.0 */
/* A chain of zeroed blocks, the newest first; blocks double up to 1 MiB, and a request larger than
 * that gets a block of its own.  Nothing is reused before arena_free, so memory from calloc stays
 * zero until it is handed out.  Under AddressSanitizer the part of a block not handed out is
 * poisoned: a read past the end of an array is found although no malloc stands behind it. */
#include "ir/base/arena.h"

#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/status.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#elif defined __SANITIZE_ADDRESS__
#define ARENA_POISON 1
#endif

#ifdef ARENA_POISON
#include <sanitizer/asan_interface.h>
enum { ARENA_GAP = 16 }; /* left poisoned behind every allocation */
#define arena_poison(p, n)   __asan_poison_memory_region((p), (n))
#define arena_unpoison(p, n) __asan_unpoison_memory_region((p), (n))
#else
enum { ARENA_GAP = 0 };
#define arena_poison(p, n)   ((void)(p), (void)(n))
#define arena_unpoison(p, n) ((void)(p), (void)(n))
#endif

enum { ARENA_ALIGN = 16, ARENA_FIRST = 4096, ARENA_BLOCK_MAX = 1 << 20 };

typedef struct Block {
    struct Block *next;
    size_t used, size; /* of the bytes behind the header */
} Block;

enum { BLOCK_HEAD = (sizeof(Block) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN };

struct Arena {
    Block *first;
    size_t bytes;
};

static void default_out_of_memory(size_t bytes)
{
    fprintf(stderr, "gtc: error: out of memory (%zu bytes wanted)\n", bytes);
    exit(status_exit_code(ST_MEMORY));
}

/* The one handler of the program: set once at its start, so the only variable here. */
static void (*out_of_memory)(size_t bytes) = default_out_of_memory;

void arena_on_out_of_memory(void (*handler)(size_t bytes))
{
    out_of_memory = handler ? handler : default_out_of_memory;
}

_Noreturn void arena_out_of_memory(size_t bytes)
{
    out_of_memory(bytes);
    default_out_of_memory(bytes); /* a handler must not return */
    abort();
}

static char *block_bytes(Block *b)
{
    return (char *)b + BLOCK_HEAD;
}

static Block *block_new(size_t size, Block *next)
{
    Block *b = size <= SIZE_MAX - BLOCK_HEAD ? calloc(1, BLOCK_HEAD + size) : NULL;
    if (!b)
        arena_out_of_memory(size);
    b->next = next;
    b->size = size;
    arena_poison(block_bytes(b), size);
    return b;
}

Arena *arena_new(void)
{
    Arena *a = calloc(1, sizeof *a);
    if (!a)
        arena_out_of_memory(sizeof *a);
    return a;
}

void arena_free(Arena *a)
{
    if (!a)
        return;
    for (Block *b = a->first, *next; b; b = next) {
        next = b->next;
        arena_unpoison(block_bytes(b), b->size);
        free(b);
    }
    free(a);
}

void *arena_alloc(Arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        arena_out_of_memory(bytes);
    const size_t need = (bytes + ARENA_GAP + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    Block *b = a->first;

    a->bytes += bytes;
    if (need > ARENA_BLOCK_MAX / 4 && b) { /* behind the first, whose rest stays in use */
        b = b->next = block_new(need, b->next);
    } else if (!b || b->size - b->used < need) {
        size_t size = b ? b->size * 2 : ARENA_FIRST;
        if (size > ARENA_BLOCK_MAX)
            size = ARENA_BLOCK_MAX;
        b = a->first = block_new(size < need ? need : size, b);
    }
    char *p = block_bytes(b) + b->used;
    b->used += need;
    arena_unpoison(p, bytes);
    return p;
}

void *arena_alloc_array(Arena *a, size_t size, size_t n)
{
    if (n && size > SIZE_MAX / n)
        arena_out_of_memory(SIZE_MAX);
    return arena_alloc(a, size * n);
}

void *arena_copy(Arena *a, const void *src, size_t bytes)
{
    void *p = arena_alloc(a, bytes);
    if (bytes)
        memcpy(p, src, bytes);
    return p;
}

char *arena_strdup(Arena *a, const char *s)
{
    return arena_copy(a, s, strlen(s) + 1);
}

char *arena_printf(Arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    gtc_assert(n >= 0 && fmt, "arena_printf: bad format");

    char *s = arena_alloc(a, (size_t)n + 1);
    va_start(ap, fmt);
    vsnprintf(s, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return s;
}

size_t arena_bytes(const Arena *a)
{
    return a->bytes;
}

void *arena_grow_array(Arena *a, void *base, size_t size, unsigned n, unsigned *cap)
{
    if (n < *cap)
        return base;
    if (*cap > UINT_MAX / 2)
        arena_out_of_memory(SIZE_MAX);
    const unsigned wanted = *cap ? *cap * 2 : 8;
    void *moved = arena_alloc_array(a, size, wanted);
    if (n)
        memcpy(moved, base, size * n);
    *cap = wanted;
    return moved;
}
