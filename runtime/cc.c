/* SPDX-License-Identifier: Apache-2.0 */
/* cc: finding C compilers, and the one place that knows their flags. */
#include "runtime/cc.h"

#include <fcntl.h>
#include <limits.h>
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
    const char *argv[MAX_CC_WORDS + 2];
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

/* A clang that compiles and links starts itself twice, at 25 ms.  Words of the user's own may be
 * for the linker too, and a sanitizer's library is the compiler's to name. */
static void choose_linker(const Os *os, Compiler *c)
{
#if defined(GTC_SANITIZE)
    const bool plain = false;
#else
    const bool plain = c->clang && c->nword == 1;
#endif
    if (!plain || !find_program(os, "ld", c->linker, sizeof c->linker))
        c->linker[0] = '\0';
}

static bool same_file(const char *a, const char *b)
{
    char real[2][PATH_MAX];
    return realpath(a, real[0]) && realpath(b, real[1]) && strcmp(real[0], real[1]) == 0;
}

static void cut_words(const Os *os, const char *command, Compiler *c)
{
    char *save = NULL;
    snprintf(c->words, sizeof c->words, "%s", command);
    if (is_program(os, command)) { /* a path with blanks in it */
        c->word[c->nword++] = c->words;
        return;
    }
    for (char *w = strtok_r(c->words, " \t\n", &save); w && c->nword < MAX_CC_WORDS;
         w = strtok_r(NULL, " \t\n", &save))
        c->word[c->nword++] = w;
}

static void add_compiler(Ctx *cx, Cache *cache, const char *command, CompilerList *list)
{
    Compiler *c = &list->at[list->n];
    memset(c, 0, sizeof *c);
    cut_words(cx->os, command, c);
    if (!c->nword || !find_program(cx->os, c->word[0], c->path, sizeof c->path))
        return;
    c->word[0] = c->path;
    for (int i = 0; i < list->n; i++) /* cc is most often gcc again */
        if (same_file(c->path, list->at[i].path))
            return;
    learn_version(cx, cache, c);
    choose_linker(cx->os, c);
    list->n++;
}

void cc_find(Ctx *cx, Cache *cache, CompilerList *out)
{
    const char *own = getenv("CC");
    memset(out, 0, sizeof *out);
    if (own && *own) {
        add_compiler(cx, cache, own, out);
        snprintf(out->why_none, sizeof out->why_none, "CC=%.256s: not found", own);
        return;
    }
#if !defined(GTC_SANITIZE) || defined(__clang__)
    add_compiler(cx, cache, "clang", out);
#endif
#if !defined(GTC_SANITIZE) || !defined(__clang__)
    add_compiler(cx, cache, "gcc", out);
    add_compiler(cx, cache, "cc", out);
#endif
    snprintf(out->why_none, sizeof out->why_none, "no C compiler (clang, gcc, cc) in PATH");
}

/* "Debian clang version 14.0.6" is clang 14.0.6, "gcc (Debian 12.2.0-14) 12.2.0" gcc 12.2.0. */
void cc_name(const Compiler *c, char *out, size_t cap)
{
    const char *at = strstr(c->version, "version "), *number = at ? at + 8 : NULL;
    if (!number) {
        number = strrchr(c->version, ' ');
        number = number ? number + 1 : "";
    }
    snprintf(out, cap, "%s%s%.*s", c->clang ? "clang" : "gcc", *number ? " " : "",
             (int)strcspn(number, " "), number);
}

/* clang -O1 gives the full speed at half the time, since the text is vectorised already; gcc needs
 * -O2 to form fused multiply-adds. */
int cc_flags(const Compiler *c, int lanes, const char **arg)
{
    int n = 0;
#if defined(GTC_SANITIZE)
    /* Checks as calls, and line numbers only: inline checks take 10 times as long to compile, and
     * -O1 twice as long as -O0, which drops no access that was written. */
    arg[n++] = "-O0";
    arg[n++] = "-g1";
    arg[n++] = "-fsanitize=address,undefined";
    arg[n++] = "-fno-sanitize=null,alignment,object-size";
    arg[n++] = "-fno-sanitize-recover=all";
    arg[n++] = c->clang ? "-mllvm" : "--param";
    arg[n++] = c->clang ? "-asan-instrumentation-with-call-threshold=0"
                        : "asan-instrumentation-with-call-threshold=0";
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
    arg[n++] = "-fwrapv"; /* integers of the graph wrap */
    arg[n++] = "-fPIC";
    arg[n++] = "-shared";
    arg[n++] = "-w";
    arg[n++] = "-pipe";
    return n;
}

/* The flags stand in every call, those of the linker too: -w keeps clang from asking why. */
static int compile(const Os *os, const Compiler *cc, const char *const *flag, int nflag,
                   const char *c, const char *out, bool link, int log)
{
    const char *const file[] = { "-o", out, "-x", "c", c };
    const char *argv[MAX_CC_WORDS + MAX_CC_FLAGS + 8];
    int n = 0;
    gtc_assert(nflag <= MAX_CC_FLAGS, "%d flags", nflag);
    for (int i = 0; i < cc->nword; i++)
        argv[n++] = cc->word[i];
    for (int i = 0; i < nflag; i++)
        argv[n++] = flag[i];
    for (int i = 0; i < 5; i++)
        argv[n++] = file[i];
    if (!link)
        argv[n++] = "-c";
    argv[n] = NULL;
    return os->spawn(argv, log);
}

/* No library is searched, which would take longer than all the rest: of libc's, compiled loops call
 * these three, which the program has.  What calls others is left to the compiler. */
static int link_alone(const Os *os, const char *linker, const char *o, const char *so, int log)
{
    const char *const argv[] = { linker,
                                 "-shared",
                                 "-z",
                                 "defs",
                                 "--ignore-unresolved-symbol=memcpy",
                                 "--ignore-unresolved-symbol=memmove",
                                 "--ignore-unresolved-symbol=memset",
                                 "--eh-frame-hdr",
                                 "-o",
                                 so,
                                 o,
                                 NULL };
    return os->spawn(argv, log);
}

int cc_run(const Os *os, const Compiler *cc, const char *const *flag, int nflag, const char *c,
           const char *so, const char *log)
{
    const int fd = os->open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    char o[PATH_MAX + 16];
    int rc = 0;
    bool linked = false;
    if (cc->linker[0]) {
        snprintf(o, sizeof o, "%s.o", so);
        rc = compile(os, cc, flag, nflag, c, o, false, fd);
        linked = rc == 0 && link_alone(os, cc->linker, o, so, fd) == 0;
        os->unlink(o);
    }
    if (rc == 0 && !linked)
        rc = compile(os, cc, flag, nflag, c, so, true, fd);
    if (fd >= 0)
        os->close(fd);
    return rc;
}

void cc_how(const Compiler *c, int lanes, Strbuf *out)
{
    const char *flag[MAX_CC_FLAGS];
    const int n = cc_flags(c, lanes, flag);
    strbuf_printf(out, "compiler: %s\nprogram: %s\nflags:", c->version, c->id);
    for (int i = 0; i < n; i++)
        strbuf_printf(out, " %s", flag[i]);
    for (int i = 1; i < c->nword; i++)
        strbuf_printf(out, " %s", c->word[i]);
    strbuf_putc(out, '\n');
}

void cc_isa(char *out, size_t cap)
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

bool cc_folder(Ctx *cx, const Cache *cache, char *path, size_t cap)
{
    const char *tmp = getenv("TMPDIR");
    const char *base[] = { tmp && *tmp == '/' ? tmp : "/tmp", cache_dir(cache) };
    path[0] = '\0';
    for (int i = 0; i < 2 && !path[0]; i++) {
        uint64_t r = 0;
        if (!base[i][0] || getrandom(&r, sizeof r, 0) != sizeof r)
            continue;
        const int n = snprintf(path, cap, "%s/gtc-%ld-%016llx", base[i], (long)getpid(),
                               (unsigned long long)r);
        if (n < 0 || (size_t)n >= cap || cx->os->mkdir(path, 0700))
            path[0] = '\0';
    }
    return path[0] != '\0';
}
