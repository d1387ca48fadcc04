/* SPDX-License-Identifier: Apache-2.0 */
/* simt_memory: see the header.  Addresses are used again only when the region has been used up, so
 * that a pointer to freed memory stays one as long as possible. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/simt_machine.h"

/* What fresh memory and red zones hold: NaN in every format of floats. */
enum { POISON = 0xff };

static void *reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

Status simt_memory_init(Ctx *cx, SimtMemory *m, size_t bytes)
{
    *m = (SimtMemory){ .bytes = bytes / SIMT_ALIGN * SIMT_ALIGN, .n = 1 };
    m->base = reserve(m->bytes);
    m->page = reserve(m->bytes / SIMT_ALIGN * sizeof *m->page);
    m->cap = 64;
    m->alloc = calloc(m->cap, sizeof *m->alloc);
    if (m->base && m->page && m->alloc)
        return ST_OK;
    simt_memory_free(m);
    return FAIL(cx, MEMORY, "simt: no %zu MiB of addresses for device memory", bytes >> 20);
}

void simt_memory_free(SimtMemory *m)
{
    if (m->base)
        munmap(m->base, m->bytes);
    if (m->page)
        munmap(m->page, m->bytes / SIMT_ALIGN * sizeof *m->page);
    free(m->alloc);
    free(m->name);
    *m = (SimtMemory){ 0 };
}

/* The smallest dead allocation whose span will do; 0: none. */
static uint32_t reuse(SimtMemory *m, size_t span)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < m->n; i++)
        if (!m->alloc[i].live && m->alloc[i].span >= span &&
            (!best || m->alloc[i].span < m->alloc[best].span))
            best = i;
    return best;
}

/* A new row of the table; 0: no memory for it. */
static uint32_t row_add(SimtMemory *m, char *p, size_t span)
{
    if (m->n == m->cap) {
        SimtAlloc *more = realloc(m->alloc, 2 * m->cap * sizeof *more);
        if (!more)
            return 0;
        m->alloc = more;
        m->cap *= 2;
    }
    m->alloc[m->n] = (SimtAlloc){ .p = p, .span = span };
    return m->n++;
}

static void row_pages(SimtMemory *m, uint32_t row)
{
    const SimtAlloc *a = &m->alloc[row];
    const size_t first = (size_t)(a->p - SIMT_ALIGN - m->base) / SIMT_ALIGN;
    for (size_t s = 0; s < a->span / SIMT_ALIGN; s++)
        m->page[first + s] = row;
}

/* What span leaves over of a row becomes a row of its own. */
static void split(SimtMemory *m, uint32_t at, size_t span)
{
    const size_t rest = m->alloc[at].span - span;
    const uint32_t row = rest > 4 * SIMT_ALIGN ? row_add(m, m->alloc[at].p + span, rest) : 0;
    if (row) {
        m->alloc[at].span = span;
        row_pages(m, row);
    }
}

/* Dead neighbours become one. */
static void merge(SimtMemory *m)
{
    for (uint32_t i = 1; i < m->n; i++) {
        SimtAlloc *a = &m->alloc[i];
        while (!a->live && a->span) {
            const char *end = a->p - SIMT_ALIGN + a->span;
            const size_t step = (size_t)(end - m->base) / SIMT_ALIGN;
            if ((size_t)(end - m->base) >= m->top)
                break;
            SimtAlloc *next = &m->alloc[m->page[step]];
            if (next == m->alloc || next == a || next->live)
                break;
            a->span += next->span;
            next->span = 0;
            row_pages(m, i);
        }
    }
}

void *simt_alloc(SimtMachine *machine, size_t bytes)
{
    SimtMemory *m = &machine->memory;
    if (!bytes || bytes > m->bytes)
        return NULL;
    const size_t span = (bytes + SIMT_ALIGN - 1) / SIMT_ALIGN * SIMT_ALIGN + 2 * SIMT_ALIGN;
    uint32_t at = 0;
    if (m->top + span > m->bytes) {
        merge(m);
        at = reuse(m, span);
        if (!at)
            return NULL;
        split(m, at, span);
    } else {
        at = row_add(m, m->base + m->top + SIMT_ALIGN, span);
        if (!at)
            return NULL;
        m->top += span;
    }
    SimtAlloc *a = &m->alloc[at];
    a->bytes = bytes;
    a->live = true;
    row_pages(m, at);
    memset(a->p - SIMT_ALIGN, POISON, a->span);
    simt_shadow_fresh(machine, a->p - SIMT_ALIGN, a->span);
    return a->p;
}

/* The allocation that holds p or, dead, held it; NULL: none ever.  p may lie behind its end. */
static SimtAlloc *find(const SimtMemory *m, const void *p)
{
    const size_t off = (size_t)((const char *)p - m->base);
    if (off >= m->top)
        return NULL;
    const uint32_t i = m->page[off / SIMT_ALIGN];
    return i ? &m->alloc[i] : NULL;
}

static SimtAlloc *exact(const SimtMachine *m, const void *p)
{
    SimtAlloc *a = find(&m->memory, p);
    return a && a->live && a->p == p ? a : NULL;
}

bool simt_free(SimtMachine *m, void *p)
{
    SimtAlloc *a = exact(m, p);
    if (!a)
        return false;
    a->live = false;
    memset(a->p, POISON, a->bytes);
    int kept = 0;
    for (int i = 0; i < m->memory.nname; i++) {
        const SimtName *n = &m->memory.name[i];
        if (n->p < a->p || n->p >= a->p + a->bytes)
            m->memory.name[kept++] = *n;
    }
    m->memory.nname = kept;
    return true;
}

void simt_name(SimtMachine *machine, const void *p, size_t bytes, const char *name)
{
    SimtMemory *m = &machine->memory;
    if (m->nname == m->name_cap) {
        const int cap = m->name_cap ? 2 * m->name_cap : 32;
        SimtName *more = realloc(m->name, (size_t)cap * sizeof *more);
        if (!more)
            return; /* a message will do without */
        m->name = more;
        m->name_cap = cap;
    }
    SimtName *n = &m->name[m->nname++];
    *n = (SimtName){ .p = p, .bytes = bytes };
    snprintf(n->text, sizeof n->text, "%s", name);
}

bool simt_inside(const SimtMachine *m, const void *p, size_t bytes)
{
    const SimtAlloc *a = find(&m->memory, p);
    const size_t off = a ? (size_t)((const char *)p - a->p) : 0;
    return a && a->live && (const char *)p >= a->p && off <= a->bytes && bytes <= a->bytes - off;
}

int simt_allocations(const SimtMachine *m, size_t *bytes)
{
    int n = 0;
    *bytes = 0;
    for (uint32_t i = 1; i < m->memory.n; i++)
        if (m->memory.alloc[i].live) {
            n++;
            *bytes += m->memory.alloc[i].bytes;
        }
    return n;
}

const char *simt_memory_where(const SimtMemory *m, const void *p, char *out, size_t cap)
{
    const char *at = p;
    const SimtAlloc *a = find(m, p);
    for (int i = m->nname - 1; i >= 0; i--) {
        const size_t off = (size_t)(at - m->name[i].p);
        if (at >= m->name[i].p && off < m->name[i].bytes) {
            snprintf(out, cap, "%s+%zu", m->name[i].text, off);
            return out;
        }
    }
    if (!a)
        snprintf(out, cap, "%p, which is no memory of the device", p);
    else if (!a->live)
        snprintf(out, cap, "byte %td of %zu that have been freed", at - a->p, a->bytes);
    else
        snprintf(out, cap, "byte %td of an allocation of %zu", at - a->p, a->bytes);
    return out;
}

/* The first byte of n that is not poison; NULL: all are. */
static const char *spoiled(const char *p, size_t n)
{
    if (*(const unsigned char *)p == POISON && memcmp(p, p + 1, n - 1) == 0)
        return NULL;
    while (*(const unsigned char *)p == POISON)
        p++;
    return p;
}

Status simt_red_zones(Ctx *cx, SimtMachine *m)
{
    for (uint32_t i = 1; i < m->memory.n; i++) {
        const SimtAlloc *a = &m->memory.alloc[i];
        char where[128];
        if (!a->live)
            continue;
        const char *p = spoiled(a->p - SIMT_ALIGN, SIMT_ALIGN);
        if (!p)
            p = spoiled(a->p + a->bytes, a->span - SIMT_ALIGN - a->bytes);
        if (p)
            return FAIL(cx, INTERNAL, "simt: a write beyond its bounds: %s",
                        simt_memory_where(&m->memory, p, where, sizeof where));
    }
    return ST_OK;
}
