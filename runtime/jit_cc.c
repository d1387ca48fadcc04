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
 * Code is loaded from a memory file that holds the very bytes which the cache has verified.  Its
 * descriptor stays open as long as the code is loaded, because the loader takes two libraries of
 * the same path (/proc/self/fd/N) for one.
 *
 * No shell anywhere: argument vectors, and paths of our own making. */
#include "runtime/jit_cc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "ir/base/hash.h"
#include "ir/base/os.h"

enum { MAX_CC = 3, MAX_WORDS = 16, MAX_ARGS = 48, MAX_UNITS = 64, SMALL_TEXT = 6000 };

#if defined(GTC_SANITIZE) && defined(__clang__)
#define BUILD "sanitized by clang"
#elif defined(GTC_SANITIZE)
#define BUILD "sanitized by gcc"
#else
#define BUILD "plain"
#endif

typedef struct Compiler {
    char path[256];
    char version[128]; /* first line of --version */
    bool clang;
    char words[512]; /* $CC cut into words, or the path */
    const char *word[MAX_WORDS];
    int nword;
    char id[512]; /* path, size, time: what changes when it is replaced */
} Compiler;

struct Jit {
    Cache *cache;
    Compiler cc[MAX_CC];
    int ncc;
    char why_none[320];
    char short_name[160]; /* "clang 14.0.6" */
    char isa[48];
    bool said_none;
};

typedef struct Library {
    void *handle;
    int fd; /* -1: loaded from a path */
} Library;

struct JitModule {
    Library *lib;
    int nlib;
};

/* ------------------------------------------------------------ which compilers */

static bool is_program(const Os *os, const char *path)
{
    struct stat st;
    return os->stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* The absolute path of a word as the system would find it. */
static bool find_program(const Os *os, const char *word, char *path, size_t cap)
{
    if (strchr(word, '/')) {
        snprintf(path, cap, "%s", word);
        return strlen(word) < cap && is_program(os, path);
    }
    const char *dirs = getenv("PATH");
    for (const char *d = dirs ? dirs : "/usr/bin:/bin"; *d;) {
        const size_t n = strcspn(d, ":");
        if (n && n + strlen(word) + 2 <= cap) {
            snprintf(path, cap, "%.*s/%s", (int)n, d, word);
            if (is_program(os, path))
                return true;
        }
        d += n + (d[n] == ':');
    }
    return false;
}

/* Runs it with one argument and keeps the beginning of what it says.  Returns its exit status. */
static int ask(const Os *os, const Compiler *c, const char *arg, char *answer, size_t cap)
{
    const char *argv[MAX_WORDS + 2];
    answer[0] = '\0';
    const int fd = memfd_create("gtc-cc", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    for (int i = 0; i < c->nword; i++)
        argv[i] = c->word[i];
    argv[c->nword] = arg;
    argv[c->nword + 1] = NULL;
    const int rc = os->spawn(argv, fd);
    const ssize_t got = pread(fd, answer, cap - 1, 0);
    answer[got > 0 ? got : 0] = '\0';
    answer[strcspn(answer, "\n")] = '\0';
    close(fd);
    return rc;
}

/* The version is cached, because asking clang takes 60 ms. */
static void learn_version(Ctx *cx, Cache *cache, Compiler *c)
{
    struct stat st;
    char *data = NULL;
    size_t n = 0;
    Strbuf id = { 0 }, what = { 0 };

    if (cx->os->stat(c->path, &st) == 0)
        strbuf_printf(&id, "%s %lld %lld.%09ld", c->path, (long long)st.st_size,
                      (long long)st.st_mtim.tv_sec, (long)st.st_mtim.tv_nsec);
    snprintf(c->id, sizeof c->id, "%s", strbuf_str(&id));
    strbuf_printf(&what, "program: %s\ncommand:", c->id);
    for (int i = 0; i < c->nword; i++)
        strbuf_printf(&what, " %s", c->word[i]);
    strbuf_putc(&what, '\n');

    const CacheKey key = { "cc", strbuf_str(&what), "asked: --version\n" };
    if (cache_get(cx, cache, &key, &data, &n)) {
        snprintf(c->version, sizeof c->version, "%.*s", (int)n, data);
        free(data);
    } else if (ask(cx->os, c, "--version", c->version, sizeof c->version) == 0) {
        cache_put(cx, cache, &key, c->version, strlen(c->version));
    }
    strbuf_free(&id);
    strbuf_free(&what);
    c->clang = strstr(c->version, "clang") != NULL;
}

/* "Debian clang version 14.0.6" is clang 14.0.6, "gcc (Debian 12.2.0-14) 12.2.0" gcc 12.2.0. */
static void name_shortly(Jit *j)
{
    const Compiler *c = &j->cc[0];
    const char *at = strstr(c->version, "version "), *number = at ? at + 8 : NULL;
    if (!number) {
        number = strrchr(c->version, ' ');
        number = number ? number + 1 : "";
    }
    snprintf(j->short_name, sizeof j->short_name, "%s%s%.*s", c->clang ? "clang" : "gcc",
             *number ? " " : "", (int)strcspn(number, " "), number);
}

static void add_compiler(Ctx *cx, Jit *j, const char *command)
{
    Compiler *c = &j->cc[j->ncc];
    char real[2][PATH_MAX];

    memset(c, 0, sizeof *c);
    snprintf(c->words, sizeof c->words, "%s", command);
    char *save = NULL;
    for (char *w = strtok_r(c->words, " \t\n", &save); w && c->nword < MAX_WORDS;
         w = strtok_r(NULL, " \t\n", &save))
        c->word[c->nword++] = w;
    if (!c->nword || !find_program(cx->os, c->word[0], c->path, sizeof c->path))
        return;
    c->word[0] = c->path;
    for (int i = 0; i < j->ncc; i++) /* cc is most often gcc again */
        if (realpath(c->path, real[0]) && realpath(j->cc[i].path, real[1]) &&
            strcmp(real[0], real[1]) == 0)
            return;
    learn_version(cx, j->cache, c);
    j->ncc++;
}

static void learn_isa(char *out, size_t cap)
{
    uint32_t id[32] = { 0 };
    char hex[33];
    const char *arch = "unknown";
#if defined(__x86_64__)
    arch = "x86-64";
    uint32_t b = 0;
    __get_cpuid(0, &id[0], &id[1], &id[2], &id[3]);
    __get_cpuid(1, &id[4], &b, &id[5], &id[6]); /* b holds the core's own number */
    id[5] &= ~(1u << 27);
    __get_cpuid_count(7, 0, &id[8], &id[9], &id[10], &id[11]);
    __get_cpuid_count(7, 1, &id[12], &id[13], &id[14], &id[15]);
#elif defined(__aarch64__)
    arch = "aarch64";
    const uint64_t cap1 = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    memcpy(id, &cap1, 8);
    memcpy(id + 2, &cap2, 8);
#endif
    hash_hex(id, sizeof id, hex);
    snprintf(out, cap, "%s %.16s", arch, hex);
}

Status jit_open(Ctx *cx, Cache *cache, Jit **out)
{
    Jit *j = *out = calloc(1, sizeof *j);
    if (!j)
        return FAIL(cx, MEMORY, "no memory for the compiler driver");
    j->cache = cache;
    learn_isa(j->isa, sizeof j->isa);
    const char *own = getenv("CC");
    if (own && *own) {
        add_compiler(cx, j, own);
        snprintf(j->why_none, sizeof j->why_none, "CC=%.256s: not found", own);
    } else {
#if !defined(GTC_SANITIZE) || defined(__clang__)
        add_compiler(cx, j, "clang");
#endif
#if !defined(GTC_SANITIZE) || !defined(__clang__)
        add_compiler(cx, j, "gcc");
        add_compiler(cx, j, "cc");
#endif
        snprintf(j->why_none, sizeof j->why_none, "no C compiler (clang, gcc, cc) in PATH");
    }
    if (j->ncc)
        name_shortly(j);
    return ST_OK;
}

void jit_close(Jit *j)
{
    free(j);
}

const char *jit_compiler(const Jit *j)
{
    return j->ncc ? j->short_name : j->why_none;
}

int jit_count(const Jit *j)
{
    return j->ncc;
}

void jit_describe(const Jit *j, int i, const char **path, const char **version)
{
    *path = j->cc[i].path;
    *version = j->cc[i].version;
}

/* ------------------------------------------------------------ one translation unit */

/* clang -O1 gives the full speed at half the time, since the text is vectorised already; gcc needs
 * -O2 to form fused multiply-adds. */
static int flags_of(const Compiler *c, int lanes, const char **arg)
{
    int n = 0;
#if defined(GTC_SANITIZE)
    arg[n++] = "-O1";
    arg[n++] = "-g";
    arg[n++] = "-fsanitize=address,undefined";
    arg[n++] = "-fno-sanitize-recover=all";
    (void)c;
#else
    arg[n++] = c->clang ? "-O1" : "-O2";
#endif
    arg[n++] = "-std=gnu11";
#if defined(__aarch64__)
    arg[n++] = "-mcpu=native";
#else
    arg[n++] = "-march=native";
    if (lanes == 16)
        arg[n++] = "-mprefer-vector-width=512";
#endif
    (void)lanes;
    arg[n++] = "-fno-math-errno";
    arg[n++] = "-fno-trapping-math";
    arg[n++] = "-fno-signed-zeros";
    arg[n++] = "-ffp-contract=fast";
    arg[n++] = "-fPIC";
    arg[n++] = "-shared";
    arg[n++] = "-w";
    arg[n++] = "-pipe";
    return n;
}

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
    const Unit *unit;
    int lanes;
    char base[PATH_MAX]; /* base.c, base.so, base.log */
    int rc;
    bool threaded;
    pthread_t thread;
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
    u->what = b.s;
    u->source = b.s + at;
}

static void how_text(const Compiler *c, int lanes, Strbuf *out)
{
    const char *flag[MAX_ARGS];
    const int n = flags_of(c, lanes, flag);
    strbuf_printf(out, "compiler: %s\nprogram: %s\nflags:", c->version, c->id);
    for (int i = 0; i < n; i++)
        strbuf_printf(out, " %s", flag[i]);
    for (int i = 1; i < c->nword; i++)
        strbuf_printf(out, " %s", c->word[i]);
    strbuf_putc(out, '\n');
}

static void file_of(const Job *job, const char *end, char path[PATH_MAX + 8])
{
    snprintf(path, PATH_MAX + 8, "%s%s", job->base, end);
}

static void *job_main(void *arg)
{
    Job *job = arg;
    char c[PATH_MAX + 8], so[PATH_MAX + 8], log[PATH_MAX + 8];
    const char *argv[MAX_WORDS + MAX_ARGS + 8];
    Ctx cx; /* of this thread alone; what fails shows in rc */
    int n = 0;

    ctx_init(&cx);
    cx.os = job->os;
    job->rc = -1;
    file_of(job, ".c", c);
    file_of(job, ".so", so);
    file_of(job, ".log", log);
    if (os_write_file(&cx, c, job->unit->source, strlen(job->unit->source)) != ST_OK)
        return NULL;
    for (int i = 0; i < job->cc->nword; i++)
        argv[n++] = job->cc->word[i];
    n += flags_of(job->cc, job->lanes, argv + n);
    argv[n++] = "-o";
    argv[n++] = so;
    argv[n++] = "-x";
    argv[n++] = "c";
    argv[n++] = c;
    argv[n] = NULL;
    const int fd = job->os->open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    job->rc = job->os->spawn(argv, fd);
    if (fd >= 0)
        job->os->close(fd);
    return NULL;
}

/* ------------------------------------------------------------ loading */

static bool library_open(const Os *os, const char *bytes, size_t n, Library *lib)
{
    char path[64];
    size_t done = 0;
    lib->fd = memfd_create("gtc-kernels", MFD_CLOEXEC);
    while (lib->fd >= 0 && done < n) {
        const ssize_t put = os->write(lib->fd, bytes + done, n - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            close(lib->fd);
            lib->fd = -1;
        } else {
            done += (size_t)put;
        }
    }
    if (lib->fd < 0)
        return false;
    snprintf(path, sizeof path, "/proc/self/fd/%d", lib->fd);
    lib->handle = os->dlopen(path);
    if (!lib->handle)
        close(lib->fd);
    return lib->handle != NULL;
}

static void library_close(const Os *os, Library *lib)
{
    os->dlclose(lib->handle);
    close(lib->fd);
}

/* What one jit_load works with. */
typedef struct Load {
    Ctx *cx;
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
                l->code[at].from = from;
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
        how_text(cc, l->lanes, &how);
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

/* A folder of our own for the compiler's files: under $TMPDIR or /tmp, else in the cache's. */
static bool folder_make(Load *l)
{
    const char *tmp = getenv("TMPDIR");
    const char *base[] = { tmp && *tmp == '/' ? tmp : "/tmp", cache_dir(l->j->cache) };
    for (int i = 0; i < 2 && !l->tmp[0]; i++) {
        uint64_t r = 0;
        if (!base[i][0] || getrandom(&r, sizeof r, 0) != sizeof r)
            continue;
        const int n = snprintf(l->tmp, sizeof l->tmp, "%s/gtc-%ld-%016llx", base[i], (long)getpid(),
                               (unsigned long long)r);
        if (n < 0 || (size_t)n >= sizeof l->tmp || l->cx->os->mkdir(l->tmp, 0700))
            l->tmp[0] = '\0';
    }
    return l->tmp[0] != '\0';
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
        how_text(job->cc, l->lanes, &how);
        cache_put(l->cx, l->j->cache, &(CacheKey){ "tu", u->what, strbuf_str(&how) }, bytes, n);
        strbuf_free(&how);
    }
    free(bytes);
    os->unlink(path);
    bytes = NULL;
    file_of(job, ".log", path);
    if (!u->loaded) {
        u->failed++;
        if (u->nkernel == 1 && os_read_file(&quiet, path, &bytes, &n) == ST_OK && n) {
            char name[160];
            snprintf(name, sizeof name, "%.120s.txt", u->kernel[0]->name);
            cache_note(l->cx, l->j->cache, name, bytes, n, l->log, sizeof l->log);
        }
        free(bytes);
    }
    os->unlink(path);
    file_of(job, ".c", path);
    os->unlink(path);
}

/* Compiles the units that are not loaded yet, side by side. */
static void units_compile(Load *l, Unit *unit, int n, const Compiler *cc)
{
    Job *job = calloc((size_t)n, sizeof *job);
    if (!job || !folder_make(l)) {
        free(job);
        return;
    }
    for (int i = 0; i < n; i++) {
        if (unit[i].loaded)
            continue;
        job[i] = (Job){ .os = l->cx->os, .cc = cc, .unit = &unit[i], .lanes = l->lanes };
        snprintf(job[i].base, sizeof job[i].base, "%s/%d", l->tmp, i);
        job[i].threaded = pthread_create(&job[i].thread, NULL, job_main, &job[i]) == 0;
        if (!job[i].threaded)
            job_main(&job[i]);
    }
    for (int i = 0; i < n; i++) {
        if (unit[i].loaded)
            continue;
        if (job[i].threaded)
            pthread_join(job[i].thread, NULL);
        job_finish(l, &job[i], &unit[i]);
    }
    free(job);
}

/* ------------------------------------------------------------ a program's kernels */

static int longer_text(const void *pa, const void *pb)
{
    const Kernel *a = *(const Kernel *const *)pa, *b = *(const Kernel *const *)pb;
    const size_t na = strlen(a->source), nb = strlen(b->source);
    return na != nb ? (na < nb ? 1 : -1) : strcmp(a->name, b->name);
}

static int core_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

/* The longest first, each to the unit with the least text; the same kernels always fall into the
 * same units. */
static int units_fill(const Kernel **sorted, int n, Unit *unit, const Kernel **room)
{
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += strlen(sorted[i]->source);
    int nunit = core_count();
    nunit = nunit < MAX_UNITS ? nunit : MAX_UNITS;
    nunit = total / SMALL_TEXT + 1 < (size_t)nunit ? (int)(total / SMALL_TEXT + 1) : nunit;
    nunit = n < nunit ? n : nunit;
    for (int i = 0; i < nunit; i++)
        unit[i] = (Unit){ .kernel = room + (size_t)i * (size_t)n };
    for (int i = 0; i < n; i++) {
        Unit *least = &unit[0];
        for (int u = 1; u < nunit; u++)
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
    for (int i = 0; i < j->ncc && !u.loaded; i++)
        unit_lookup(l, &u, &j->cc[i]);
    for (int i = 0; i < j->ncc && !u.loaded; i++)
        units_compile(l, &u, 1, &j->cc[i]);
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
        log_say(l->cx, LOG_WARN, "%s; %d kernel%s in the interpreter, slowly", l->j->why_none, n,
                n == 1 ? " runs" : "s run");
        l->j->said_none = true;
    }
}

Status jit_load(Ctx *cx, Jit *j, int lanes, const Kernel *k, int n, bool no_cache, Code *code,
                JitModule **out)
{
    Load l = { .cx = cx, .j = j, .k = k, .n = n, .code = code, .lanes = lanes };
    Unit unit[MAX_UNITS];
    const size_t rows = MAX_UNITS + 1, cols = n > 0 ? (size_t)n : 1;

    l.no_cache = no_cache;
    for (int i = 0; i < n; i++)
        code[i] = (Code){ NULL, CODE_NONE };
    *out = l.m = calloc(1, sizeof *l.m);
    const Kernel **room = calloc(rows * cols, sizeof *room), **sorted = room;
    if (!l.m || !room) {
        free(l.m);
        free(room);
        *out = NULL;
        return FAIL(cx, MEMORY, "no memory to load %d kernels", n);
    }
    for (int i = 0; i < n; i++)
        sorted[i] = &k[i];
    if (n)
        qsort(sorted, (size_t)n, sizeof *sorted, longer_text);
    int unique = 0; /* equal kernels have equal names */
    for (int i = 0; i < n; i++)
        if (!unique || strcmp(sorted[unique - 1]->name, sorted[i]->name) != 0)
            sorted[unique++] = sorted[i];
    const int nunit = unique ? units_fill(sorted, unique, unit, room + cols) : 0;

    int missing = 0;
    for (int i = 0; i < nunit; i++) {
        unit_key(j, lanes, &unit[i]);
        unit_lookup(&l, &unit[i], j->ncc ? &j->cc[0] : NULL);
    }
    if (j->ncc && nunit)
        units_compile(&l, unit, nunit, &j->cc[0]);
    for (int i = 0; i < nunit; i++) {
        for (int at = 0; at < unit[i].nkernel && !unit[i].loaded; at++) {
            if (j->ncc)
                kernel_alone(&l, unit[i].kernel[at]);
            missing++;
        }
        free(unit[i].what);
    }
    if (!j->ncc)
        say_no_compiler(&l, missing);
    if (l.tmp[0])
        rmdir(l.tmp);
    free(room);
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
