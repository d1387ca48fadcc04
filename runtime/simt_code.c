/* SPDX-License-Identifier: Apache-2.0 */
/* simt_code: kernels' shared objects.
 *
 * A hook of -fsanitize=thread knows the address of an access, not its line; the line table of the
 * object (DWARF 4, .debug_line) does, and is read when a mistake is reported.  The kernel's source
 * stands in the text under a `#line 1 "NAME"`, so its rows are those of another file than the
 * prelude's, in which gtc_simt_bind is.  What the prelude touches counts as the line of its use, of
 * which the prelude tells (gtc_at). */
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"
#include "runtime/library.h"
#include "runtime/simt_machine.h"

struct SimtCode {
    Library lib;
    unsigned char *image;
    size_t n;
    uintptr_t base, end; /* of the loaded object */
    uintptr_t bind;      /* gtc_simt_bind */
};

void simt_code_text(const Kernel *k, Strbuf *out)
{
    strbuf_add(out, kernel_prelude_cuda());
    strbuf_printf(out, "#line 1 \"%s\"\n", k->name);
    strbuf_add(out, k->source);
}

/* No idiom may turn a loop into memset or memcpy, whose accesses gcc does not watch. */
int simt_code_flags(bool clang, bool shadow, const char **arg)
{
    int n = 0;
    arg[n++] = "-std=gnu11";
    arg[n++] = "-O1";
#if defined(__aarch64__)
    arg[n++] = "-mcpu=native";
#else
    arg[n++] = "-march=native";
#endif
    arg[n++] = "-fno-math-errno";
    arg[n++] = "-ffp-contract=fast";
    arg[n++] = "-fwrapv";
    arg[n++] = "-fvisibility=hidden";
    arg[n++] = "-fPIC";
    arg[n++] = "-shared";
    arg[n++] = "-nostdlib";
    arg[n++] = "-Wl,--no-as-needed,-lm,-lc";
    arg[n++] = clang ? "-fno-builtin" : "-fno-tree-loop-distribute-patterns";
    if (shadow) {
        arg[n++] = "-g1";
        arg[n++] = "-gdwarf-4";
        arg[n++] = "-gz=none";
        arg[n++] = "-fsanitize=thread";
        arg[n++] = clang ? "-mllvm" : "--param";
        arg[n++] =
            clang ? "-tsan-instrument-func-entry-exit=0" : "tsan-instrument-func-entry-exit=0";
    }
    arg[n++] = "-w";
    arg[n++] = "-pipe";
    return n;
}

/* ------------------------------------------------------------ loading */

static Status bind(Ctx *cx, SimtMachine *m, SimtCode *c)
{
    int (*bind_table)(SimtTable *) = NULL;
    Dl_info where;
    void *sym = cx->os->dlsym(c->lib.handle, "gtc_simt_bind");
    if (!sym || !dladdr(sym, &where))
        return FAIL(cx, ENV, "simt: a shared object without gtc_simt_bind is no kernel");
    memcpy(&bind_table, &sym, sizeof sym); /* C has no cast for this */
    if (bind_table(&m->rt) != (int)sizeof m->rt)
        return FAIL(cx, ENV, "simt: a kernel made by another version of gtc");
    c->base = (uintptr_t)where.dli_fbase;
    c->bind = (uintptr_t)sym;
    return ST_OK;
}

static const void *part(const SimtCode *c, size_t at, size_t bytes)
{
    return at <= c->n && bytes <= c->n - at ? c->image + at : NULL;
}

/* How far the object reaches in memory. */
static size_t extent(const SimtCode *c)
{
    const Elf64_Ehdr *elf = part(c, 0, sizeof *elf);
    size_t end = 0;
    for (size_t i = 0; elf && i < elf->e_phnum; i++) {
        const Elf64_Phdr *p = part(c, elf->e_phoff + i * sizeof *p, sizeof *p);
        if (p && p->p_type == PT_LOAD && p->p_vaddr + p->p_memsz > end)
            end = p->p_vaddr + p->p_memsz;
    }
    return end;
}

Status simt_code_load(Ctx *cx, SimtMachine *m, const void *bytes, size_t n, SimtCode **out)
{
    SimtCode *c = *out = calloc(1, sizeof *c);
    if (c)
        c->image = malloc(n ? n : 1);
    if (!c || !c->image) {
        free(c);
        *out = NULL;
        return FAIL(cx, MEMORY, "simt: no memory for %zu bytes of code", n);
    }
    memcpy(c->image, bytes, n);
    c->n = n;
    Status s = ST_OK;
    if (n < SELFMAG || memcmp(bytes, ELFMAG, SELFMAG) != 0 ||
        !library_open(cx->os, bytes, n, &c->lib))
        s = FAIL(cx, ENV, "simt: the kernel's shared object does not load");
    if (s == ST_OK) {
        s = bind(cx, m, c);
        c->end = c->base + extent(c);
        if (s != ST_OK)
            library_close(cx->os, &c->lib);
    }
    if (s != ST_OK) {
        free(c->image);
        free(c);
        *out = NULL;
    }
    return s;
}

void simt_code_unload(Ctx *cx, SimtCode *c)
{
    if (!c)
        return;
    library_close(cx->os, &c->lib);
    free(c->image);
    free(c);
}

SimtEntry *simt_code_entry(Ctx *cx, const SimtCode *c, const char *name)
{
    Strbuf b = { 0 };
    SimtEntry *entry = NULL;
    strbuf_printf(&b, "%s_entry", name);
    void *sym = cx->os->dlsym(c->lib.handle, strbuf_str(&b));
    memcpy(&entry, &sym, sizeof sym);
    strbuf_free(&b);
    return entry;
}

const char *simt_code_arguments(Ctx *cx, const SimtCode *c, const char *name)
{
    Strbuf b = { 0 };
    strbuf_printf(&b, "%s_args", name);
    const char *text = cx->os->dlsym(c->lib.handle, strbuf_str(&b));
    strbuf_free(&b);
    return text;
}

bool simt_code_holds(const SimtCode *c, const void *p)
{
    return (uintptr_t)p >= c->base && (uintptr_t)p < c->end;
}

/* ------------------------------------------------------------ line tables */

typedef struct Reader { /* never reads beyond end; what is not there is 0 */
    const unsigned char *p, *end;
} Reader;

static uint64_t number(Reader *r, size_t bytes)
{
    uint64_t v = 0;
    if ((size_t)(r->end - r->p) < bytes) {
        r->p = r->end;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)r->p[i] << 8 * i;
    r->p += bytes;
    return v;
}

static uint64_t uleb(Reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; r->p < r->end; shift += 7) {
        const unsigned char b = *r->p++;
        if (shift < 64)
            v |= (uint64_t)(b & 127) << shift;
        if (!(b & 128))
            break;
    }
    return v;
}

static int64_t sleb(Reader *r)
{
    uint64_t v = 0;
    unsigned shift = 0;
    while (r->p < r->end) {
        const unsigned char b = *r->p++;
        if (shift < 64)
            v |= (uint64_t)(b & 127) << shift;
        shift += 7;
        if (b & 128)
            continue;
        if (b & 64 && shift < 64)
            v |= ~(uint64_t)0 << shift;
        break;
    }
    return (int64_t)v;
}

/* A search through the rows of one unit of the table. */
typedef struct Search {
    uint64_t want; /* address */
    /* The last row: where it begins, and what is found. */
    uint64_t address, file;
    int line;
    bool open, found;
} Search;

static void row(Search *s, uint64_t address, uint64_t file, int64_t line, bool end)
{
    s->found = s->open && s->want >= s->address && s->want < address;
    if (s->found)
        return;
    s->address = address;
    s->file = file;
    s->line = (int)line;
    s->open = !end;
}

enum {
    COPY = 1,
    ADVANCE_PC,
    ADVANCE_LINE,
    SET_FILE,
    CONST_ADD_PC = 8,
    FIXED_ADD_PC,
    END = 1,
    ADDRESS
};

/* Runs the line program of a unit, whose header has been read but for these. */
static void run(Reader *r, Search *s, unsigned step, int line_base, unsigned line_range,
                unsigned opcode_base, const unsigned char *lengths)
{
    uint64_t address = 0, file = 1;
    int64_t line = 1;
    while (r->p < r->end && !s->found) {
        const unsigned op = (unsigned)number(r, 1);
        if (op >= opcode_base) {
            address += (op - opcode_base) / line_range * step;
            line += line_base + (int)((op - opcode_base) % line_range);
            row(s, address, file, line, false);
        } else if (op == 0) {
            const uint64_t n = uleb(r);
            Reader in = { r->p,
                          r->p + (n < (uint64_t)(r->end - r->p) ? n : (uint64_t)(r->end - r->p)) };
            const unsigned ext = (unsigned)number(&in, 1);
            if (ext == ADDRESS) {
                address = number(&in, 8);
            } else if (ext == END) {
                row(s, address, file, line, true);
                address = 0;
                file = 1;
                line = 1;
            }
            r->p = n < (uint64_t)(r->end - r->p) ? r->p + n : r->end;
        } else if (op == COPY) {
            row(s, address, file, line, false);
        } else if (op == ADVANCE_PC) {
            address += uleb(r) * step;
        } else if (op == ADVANCE_LINE) {
            line += sleb(r);
        } else if (op == SET_FILE) {
            file = uleb(r);
        } else if (op == CONST_ADD_PC) {
            address += (255 - opcode_base) / line_range * step;
        } else if (op == FIXED_ADD_PC) {
            address += number(r, 2);
        } else {
            for (unsigned i = 0; i < lengths[op - 1]; i++)
                uleb(r);
        }
    }
}

static void search_unit(Reader *r, Search *s)
{
    const unsigned version = (unsigned)number(r, 2);
    const uint64_t header = number(r, 4);
    if (version < 2 || version > 4 || header > (uint64_t)(r->end - r->p))
        return;
    Reader h = { r->p, r->p + header };
    r->p += header;
    const unsigned step = (unsigned)number(&h, 1);
    if (version == 4)
        number(&h, 1);
    number(&h, 1);
    const int line_base = (signed char)number(&h, 1);
    const unsigned line_range = (unsigned)number(&h, 1), opcode_base = (unsigned)number(&h, 1);
    const unsigned char *lengths = h.p;
    if (!line_range || !opcode_base || (size_t)(h.end - h.p) < opcode_base)
        return;
    s->open = false;
    run(r, s, step, line_base, line_range, opcode_base, lengths);
}

static Reader section(const SimtCode *c, const char *name)
{
    const Elf64_Ehdr *elf = part(c, 0, sizeof *elf);
    const Elf64_Shdr *names =
        elf ? part(c, elf->e_shoff + (size_t)elf->e_shstrndx * sizeof *names, sizeof *names) : NULL;
    for (size_t i = 0; names && i < elf->e_shnum; i++) {
        const Elf64_Shdr *sh = part(c, elf->e_shoff + i * sizeof *sh, sizeof *sh);
        const size_t n = strlen(name) + 1;
        const char *own = sh ? part(c, names->sh_offset + sh->sh_name, n) : NULL;
        if (own && memcmp(own, name, n) == 0 && part(c, sh->sh_offset, sh->sh_size))
            return (Reader){ c->image + sh->sh_offset, c->image + sh->sh_offset + sh->sh_size };
    }
    return (Reader){ NULL, NULL };
}

static Search search(const SimtCode *c, uintptr_t address)
{
    Reader all = section(c, ".debug_line");
    Search s = { .want = address - c->base };
    while (all.p < all.end && !s.found) {
        const uint64_t n = number(&all, 4);
        if (n > (uint64_t)(all.end - all.p))
            break;
        Reader unit = { all.p, all.p + n };
        all.p += n;
        search_unit(&unit, &s);
    }
    return s;
}

int simt_code_line(const SimtCode *c, const void *pc, int use)
{
    const Search prelude = search(c, c->bind);
    const Search s = search(c, (uintptr_t)pc - 1); /* pc is behind the call */
    if (!s.found || !prelude.found)
        return 0;
    return s.file == prelude.file ? use : s.line;
}
