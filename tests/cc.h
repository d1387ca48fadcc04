/* SPDX-License-Identifier: Apache-2.0 */
/* Tests compile what is generated: text in, functions out, with each compiler that is there. */
#ifndef GTC_TESTS_CC_H
#define GTC_TESTS_CC_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/base/os.h"
#include "ir/base/strbuf.h"

static const char *const CC_NAME[] = { "gcc", "clang" };
/* What is compiled is the same in a sanitized build, and seen at these levels by the others; there
 * only what made it is watched. */
#if defined(GTC_SANITIZE)
static const char *const CC_LEVEL[] = { "-O0", "-O0" };
#define CC_QUICK "-O0"
#else
static const char *const CC_LEVEL[] = { "-O2", "-O1" };
#define CC_QUICK "-O1"
#endif
enum { CC_COUNT = 2 };

static inline bool cc_present(int cc)
{
    const char *argv[] = { CC_NAME[cc], "--version", NULL };
    FILE *null = fopen("/dev/null", "w");
    const int rc = os_default()->spawn(argv, fileno(null));
    fclose(null);
    return rc == 0;
}

/* The -march for vectors of so many lanes, NULL when this machine cannot run them. */
static inline const char *cc_march(int lanes)
{
#if defined __x86_64__
    if (lanes == 16)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") ? "native"
                                                                                       : NULL;
    if (lanes == 8)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "haswell" : NULL;
    return "x86-64";
#else
    return lanes == 4 ? "native" : NULL;
#endif
}

/* The widest vectors of this machine. */
static inline int cc_lanes(void)
{
    return cc_march(16) ? 16 : cc_march(8) ? 8 : 4;
}

static inline void cc_write(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    if (!f || fputs(text, f) < 0 || fclose(f)) {
        fprintf(stderr, "cannot write %s\n", path);
        exit(1);
    }
}

/* Compiles and loads; NULL (with the compiler's words on stderr) when it does not compile.  ubsan:
 * undefined behaviour stops the program. */
static inline void *cc_load_at(int cc, const char *level, int lanes, bool ubsan, const char *text)
{
    char dir[] = "/tmp/gtc-test-XXXXXX", c[64], so[64], march[64];
    if (!mkdtemp(dir))
        return NULL;
    snprintf(c, sizeof c, "%s/k.c", dir);
    snprintf(so, sizeof so, "%s/k.so", dir);
    snprintf(march, sizeof march, "-march=%s", cc_march(lanes));
    cc_write(c, text);
    const char *argv[24] = { CC_NAME[cc],
                             "-std=gnu11",
                             level,
                             march,
                             "-fno-math-errno",
                             "-fno-trapping-math",
                             "-fno-signed-zeros",
                             "-ffp-contract=fast",
                             "-Wall",
                             "-Werror",
                             "-Wno-unused-function",
                             "-Wno-unused-variable",
                             "-Wno-psabi",
                             "-Wno-tautological-compare",
                             "-fwrapv",
                             "-shared",
                             "-fPIC",
                             "-o",
                             so,
                             c };
    int n = 20;
    if (ubsan) {
        argv[n++] = "-fsanitize=undefined";
        argv[n++] = "-fsanitize-undefined-trap-on-error";
    }
    const int rc = os_default()->spawn(argv, STDERR_FILENO);
    void *handle = rc == 0 ? dlopen(so, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (rc == 0 && !handle)
        fprintf(stderr, "%s\n", dlerror());
    unlink(c);
    unlink(so);
    rmdir(dir);
    return handle;
}

static inline void *cc_load(int cc, int lanes, bool ubsan, const char *text)
{
    return cc_load_at(cc, CC_LEVEL[cc], lanes, ubsan, text);
}

/* The address of a function, as whatever type of pointer *fn is. */
#define CC_SYMBOL(handle, name, fn)                                                                \
    do {                                                                                           \
        void *sym_ = dlsym((handle), (name));                                                      \
        assert_non_null(sym_);                                                                     \
        memcpy(&(fn), &sym_, sizeof sym_);                                                         \
    } while (0)

#endif
