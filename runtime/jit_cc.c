/* SPDX-License-Identifier: Apache-2.0 */
/* jit_cc: the driver of the C compiler.
 *
 * The kernels of a program are spread by text size over as many translation units as there are
 * cores (more is a loss: a compiler start costs 30 ms, a kernel about 8), and the compilers run
 * side by side.  A unit that fails is tried again kernel by kernel, with each compiler in turn, so
 * that one bad kernel costs itself only.
 *
 * The key of a unit in the cache has two parts.  What: the instruction set, the lanes, whether it
 * is instrumented, and the whole text with its prelude.  How: the compiler (path, size, time,
 * version) and the flags.  Without any compiler an entry of equal `what` by whatever compiler will
 * do.
 *
 * Code is loaded from a memory file that holds the very bytes which the cache has verified.
 *
 * No shell anywhere: argument vectors, and paths of our own making. */
#include "runtime/jit_cc.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/base/bug.h"
#include "ir/base/os.h"
#include "runtime/cc.h"
#include "runtime/library.h"

enum { BIG_TEXT = 16000, SMALL_TEXT = 6000 };

#if defined(GTC_SANITIZE) && defined(__clang__)
#define BUILD "sanitized by clang"
#elif defined(GTC_SANITIZE)
#define BUILD "sanitized by gcc"
#else
#define BUILD "plain"
#endif

struct Jit {
    Cache *cache;
    CompilerList cc;
    char name[160]; /* "clang 14.0.6" */
    char isa[48];
    bool said_none;
};

struct JitModule {
    Library *lib;
    int nlib;
};

Status jit_open(Ctx *cx, Cache *cache, Jit **out)
{
    Jit *j = *out = calloc(1, sizeof *j);
    if (!j)
        return FAIL(cx, MEMORY, "no memory for the compiler driver");
    j->cache = cache;
    cc_isa(j->isa, sizeof j->isa);
    cc_find(cx, cache, &j->cc);
    if (j->cc.n)
        cc_name(&j->cc.at[0], j->name, sizeof j->name);
    return ST_OK;
}

void jit_close(Jit *j)
{
    free(j);
}

const char *jit_compiler(const Jit *j)
{
    return j->cc.n ? j->name : j->cc.why_none;
}

/* ------------------------------------------------------------ one translation unit */

typedef struct Unit {
    const Kernel **kernel;
    int nkernel;
    size_t text; /* bytes of the kernels' text */
    char *what;  /* the key; the C text stands behind its empty line */
    const char *source;
    bool loaded;
    int failed; /* compilers that did not take it */
} Unit;

typedef struct Job { /* one run of a compiler */
    const Os *os;
    const Compiler *cc;
    Unit *unit;
    int lanes;
    char base[PATH_MAX]; /* base.c, base.so, base.log */
    int rc;
} Job;

static void unit_key(const Jit *j, int lanes, Unit *u)
{
    Strbuf b = { 0 };
    strbuf_printf(&b, "isa: %s\nlanes: %d\nbuild: %s\nkernels:", j->isa, lanes, BUILD);
    for (int i = 0; i < u->nkernel; i++)
        strbuf_printf(&b, " %s", u->kernel[i]->name);
    strbuf_add(&b, "\n\n");
    const size_t at = b.n;
    strbuf_add(&b, kernel_prelude_c(lanes));
    for (int i = 0; i < u->nkernel; i++) {
        strbuf_putc(&b, '\n');
        strbuf_add(&b, u->kernel[i]->source);
    }
    u->what = BUG(58) ? strndup(b.s, at) : b.s;
    u->source = b.s + at;
}

static void file_of(const Job *job, const char *end, char path[PATH_MAX + 8])
{
    snprintf(path, PATH_MAX + 8, "%s%s", job->base, end);
}

static void job_run(Job *job)
{
    char c[PATH_MAX + 8], so[PATH_MAX + 8], log[PATH_MAX + 8];
    const char *flag[MAX_CC_FLAGS];
    Ctx cx; /* of this thread alone; what fails shows in rc */

    ctx_init(&cx);
    cx.os = job->os;
    job->rc = -1;
    file_of(job, ".c", c);
    file_of(job, ".so", so);
    file_of(job, ".log", log);
    if (os_write_file(&cx, c, job->unit->source, strlen(job->unit->source)) != ST_OK)
        return;
    job->rc = cc_run(job->os, job->cc, flag, cc_flags(job->cc, job->lanes, flag), c, so, log);
}

/* ------------------------------------------------------------ loading */

static int core_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

/* What one jit_load works with. */
typedef struct Load {
    Ctx *cx;
    Arena *arena;
    Jit *j;
    JitModule *m;
    const Kernel *k;
    Code *code;
    int n, lanes;
    bool no_cache;
    char tmp[PATH_MAX / 2]; /* "" until needed */
    char log[PATH_MAX];     /* of the last failure */
} Load;

static bool unit_load(Load *l, Unit *u, const char *bytes, size_t n, CodeFrom from)
{
    const Os *os = l->cx->os;
    Library lib;
    if (!library_open(os, bytes, n, &lib))
        return false;
    for (int i = 0; i < u->nkernel; i++)
        if (!os->dlsym(lib.handle, u->kernel[i]->name)) {
            library_close(os, &lib);
            return false;
        }
    Library *more = realloc(l->m->lib, (size_t)(l->m->nlib + 1) * sizeof *more);
    if (!more) {
        library_close(os, &lib);
        return false;
    }
    l->m->lib = more;
    more[l->m->nlib++] = lib;
    for (int i = 0; i < u->nkernel; i++)
        for (int at = 0; at < l->n; at++)
            if (strcmp(l->k[at].name, u->kernel[i]->name) == 0) {
                void *sym = os->dlsym(lib.handle, u->kernel[i]->name);
                memcpy(&l->code[at].fn, &sym, sizeof sym); /* C has no cast for this */
                l->code[at].from = sym ? from : CODE_NONE;
            }
    return u->loaded = true;
}

/* From the cache; cc NULL: by any compiler. */
static void unit_lookup(Load *l, Unit *u, const Compiler *cc)
{
    Strbuf how = { 0 };
    char *bytes = NULL;
    size_t n = 0;
    if (l->no_cache)
        return;
    if (cc)
        cc_how(cc, l->lanes, &how);
    const CacheKey key = { "tu", u->what, cc ? strbuf_str(&how) : NULL };
    if (cache_get(l->cx, l->j->cache, &key, &bytes, &n)) {
        if (!unit_load(l, u, bytes, n, CODE_CACHED)) {
            log_say(l->cx, LOG_WARN, "a cached kernel file does not load: it is made again");
            cache_drop(l->cx, l->j->cache, &key);
        }
        free(bytes);
    }
    strbuf_free(&how);
}

/* Keeps the compiler's words, and says of several kernels that they will be tried one by one. */
static void unit_failed(Load *l, const Job *job, Unit *u, const char *log)
{
    Ctx quiet = *l->cx;
    char name[160], *words = NULL;
    size_t n = 0;
    u->failed++;
    l->log[0] = '\0';
    if (os_read_file(&quiet, log, &words, &n) == ST_OK && n) {
        snprintf(name, sizeof name, "%.120s.txt", u->kernel[0]->name);
        cache_note(l->cx, l->j->cache, name, words, n, l->log, sizeof l->log);
    }
    free(words);
    if (u->nkernel > 1)
        log_say(l->cx, LOG_WARN, "%s: exit %d on a file of %d kernels, now one by one%s%s",
                job->cc->path, job->rc, u->nkernel, l->log[0] ? "; its words: " : "", l->log);
}

static void job_finish(Load *l, Job *job, Unit *u)
{
    const Os *os = l->cx->os;
    char path[PATH_MAX + 8], *bytes = NULL;
    size_t n = 0;
    Ctx quiet = *l->cx;

    file_of(job, ".so", path);
    if (job->rc == 0 && os_read_file(&quiet, path, &bytes, &n) == ST_OK &&
        unit_load(l, u, bytes, n, CODE_COMPILED) && !l->no_cache) {
        Strbuf how = { 0 };
        cc_how(job->cc, l->lanes, &how);
        cache_put(l->cx, l->j->cache, &(CacheKey){ "tu", u->what, strbuf_str(&how) }, bytes, n);
        strbuf_free(&how);
    }
    free(bytes);
    os->unlink(path);
    bytes = NULL;
    file_of(job, ".log", path);
    if (!u->loaded)
        unit_failed(l, job, u, path);
    os->unlink(path);
    file_of(job, ".c", path);
    os->unlink(path);
}

typedef struct Pool { /* jobs that a few threads take in turn */
    Job *job;
    int n;
    _Atomic int next;
} Pool;

static void *pool_main(void *arg)
{
    Pool *pool = arg;
    for (int i; (i = pool->next++) < pool->n;)
        job_run(&pool->job[i]);
    return NULL;
}

/* Compiles the units that are not loaded yet, as many at a time as there are cores. */
static void units_compile(Load *l, Unit *unit, int n, const Compiler *cc)
{
    enum { MAX_THREADS = 64 };
    pthread_t thread[MAX_THREADS];
    int missing = 0, started = 0;
    for (int i = 0; i < n; i++)
        missing += !unit[i].loaded;
    if (!missing || (!l->tmp[0] && !cc_folder(l->cx, l->j->cache, l->tmp, sizeof l->tmp)))
        return;

    Pool pool = { .job = arena_array(l->arena, Job, missing) };
    for (int i = 0; i < n; i++)
        if (!unit[i].loaded) {
            Job *job = &pool.job[pool.n];
            *job = (Job){ .os = l->cx->os, .cc = cc, .unit = &unit[i], .lanes = l->lanes };
            snprintf(job->base, sizeof job->base, "%s/%d", l->tmp, pool.n++);
        }
    for (int more = core_count() - 1; started < more && started < missing - 1; started++)
        if (started == MAX_THREADS || pthread_create(&thread[started], NULL, pool_main, &pool))
            break;
    pool_main(&pool);
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < pool.n; i++)
        job_finish(l, &pool.job[i], pool.job[i].unit);
}

/* ------------------------------------------------------------ a program's kernels */

static int longer_text(const void *pa, const void *pb)
{
    const Kernel *a = *(const Kernel *const *)pa, *b = *(const Kernel *const *)pb;
    const size_t na = strlen(a->source), nb = strlen(b->source);
    return na != nb ? (na < nb ? 1 : -1) : strcmp(a->name, b->name);
}

/* A kernel with much text is a unit of its own, which other programs share; the others fill a unit
 * a core, each going where there is least.  The same kernels always fall into the same units. */
static int units_fill(Arena *arena, const Kernel **sorted, int n, Unit *unit)
{
    int big = 0;
    while (big < n && strlen(sorted[big]->source) >= BIG_TEXT) {
        unit[big] = (Unit){ .kernel = &sorted[big], .nkernel = 1 };
        big++;
    }
    size_t total = 0;
    for (int i = big; i < n; i++)
        total += strlen(sorted[i]->source);
    const int most = (int)(total / SMALL_TEXT) + 1, cores = core_count();
    const int spread = most < cores ? most : cores,
              nunit = big + (n - big < spread ? n - big : spread);
    for (int u = big; u < nunit; u++)
        unit[u] = (Unit){ .kernel = arena_array(arena, const Kernel *, n - big) };
    for (int i = big; i < n; i++) {
        Unit *least = &unit[big];
        for (int u = big + 1; u < nunit; u++)
            if (unit[u].text < least->text)
                least = &unit[u];
        least->kernel[least->nkernel++] = sorted[i];
        least->text += strlen(sorted[i]->source);
    }
    return nunit;
}

static void kernel_alone(Load *l, const Kernel *k)
{
    const Jit *j = l->j;
    Unit u = { .kernel = &k, .nkernel = 1 };
    l->log[0] = '\0';
    unit_key(j, l->lanes, &u);
    for (int i = 0; i < j->cc.n && !u.loaded; i++)
        unit_lookup(l, &u, &j->cc.at[i]);
    for (int i = 0; i < j->cc.n && !u.loaded; i++)
        units_compile(l, &u, 1, &j->cc.at[i]);
    if (!u.loaded)
        log_say(l->cx, LOG_WARN, "%s: %s; it runs in the interpreter, slowly%s%s", k->name,
                !u.failed ? "no folder for the compiler's files"
                          : "no C compiler makes a kernel of it",
                l->log[0] ? "; the compiler's words: " : "", l->log);
    free(u.what);
}

static void say_no_compiler(Load *l, int n)
{
    if (n && !l->j->said_none) {
        log_say(l->cx, LOG_WARN, "%s; %d kernel%s in the interpreter, slowly", l->j->cc.why_none, n,
                n == 1 ? " runs" : "s run");
        l->j->said_none = true;
    }
}

static void load_all(Load *l)
{
    Jit *j = l->j;
    const Kernel **sorted = arena_array(l->arena, const Kernel *, l->n);
    Unit *unit = arena_array(l->arena, Unit, l->n);
    int all = 0, unique = 0, missing = 0;

    for (int i = 0; i < l->n; i++)
        if (l->k[i].source[0]) /* else no planner took it */
            sorted[all++] = &l->k[i];
    qsort(sorted, (size_t)all, sizeof *sorted, longer_text);
    for (int i = 0; i < all; i++) /* equal kernels have equal names */
        if (!unique || strcmp(sorted[unique - 1]->name, sorted[i]->name) != 0)
            sorted[unique++] = sorted[i];
    const int n = units_fill(l->arena, sorted, unique, unit);
    for (int i = 0; i < n; i++) {
        unit_key(j, l->lanes, &unit[i]);
        unit_lookup(l, &unit[i], j->cc.n ? &j->cc.at[0] : NULL);
    }
    if (j->cc.n)
        units_compile(l, unit, n, &j->cc.at[0]);
    for (int i = 0; i < n; i++) {
        for (int at = 0; at < unit[i].nkernel && !unit[i].loaded; at++) {
            if (j->cc.n)
                kernel_alone(l, unit[i].kernel[at]);
            missing++;
        }
        free(unit[i].what);
    }
    if (!j->cc.n)
        say_no_compiler(l, missing);
    if (l->tmp[0])
        rmdir(l->tmp);
}

Status jit_load(Ctx *cx, Jit *j, int lanes, const Kernel *k, int n, bool no_cache, Code *code,
                JitModule **out)
{
    JitModule *m = *out = calloc(1, sizeof *m);
    if (!m)
        return FAIL(cx, MEMORY, "no memory to load %d kernels", n);
    for (int i = 0; i < n; i++)
        code[i] = (Code){ .from = CODE_NONE };
    if (!n)
        return ST_OK;
    Load l = { .cx = cx, .arena = arena_new(), .j = j, .m = m, .k = k, .n = n, .code = code };
    l.lanes = lanes;
    l.no_cache = no_cache;
    load_all(&l);
    arena_free(l.arena);
    return ST_OK;
}

void jit_unload(const Os *os, JitModule *m)
{
    if (!m)
        return;
    for (int i = 0; i < m->nlib; i++)
        library_close(os, &m->lib[i]);
    free(m->lib);
    free(m);
}
