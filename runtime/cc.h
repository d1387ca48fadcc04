/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_CC_H
#define GTC_RUNTIME_CC_H

#include "runtime/cache.h"

/* The C compilers of this machine and how they are called. */
enum { MAX_CC = 3, MAX_CC_WORDS = 16, MAX_CC_FLAGS = 24 };

typedef struct Compiler {
    char path[256];
    char version[128]; /* first line of --version */
    bool clang;
    char words[512]; /* $CC cut into words, or the path */
    const char *word[MAX_CC_WORDS];
    int nword;
    char id[512]; /* path, size, time: what changes when it is replaced */
    char linker[256]; /* called in the compiler's place; "": the compiler links */
} Compiler;

typedef struct CompilerList {
    Compiler at[MAX_CC]; /* in the order in which they are tried */
    int n;
    char why_none[320]; /* what is said when n is 0 */
} CompilerList;

/* $CC if set, and only that; else clang, gcc and cc as far as they are in PATH.  A sanitized gtc
 * takes its own kind only, whose run-time library it has. */
void cc_find(Ctx *cx, Cache *cache, CompilerList *out);
/* "clang 14.0.6" */
void cc_name(const Compiler *c, char *out, size_t cap);
/* Everything between the compiler's name and its files; at most MAX_CC_FLAGS. */
int cc_flags(const Compiler *c, int lanes, const char **arg);
/* Compiles c to so and gives what the compiler exits with; its words go to the file log.  At most
 * MAX_CC_FLAGS flags. */
int cc_run(const struct Os *os, const Compiler *cc, const char *const *flag, int nflag,
           const char *c, const char *so, const char *log);
/* Compiler and flags as the `how` of a cache key. */
void cc_how(const Compiler *c, int lanes, Strbuf *out);
/* The instruction set that -march=native means here, as a word. */
void cc_isa(char *out, size_t cap);

/* Makes a folder of our own for a compiler's files, under $TMPDIR or /tmp, else in the cache's.
 * False when neither will do. */
bool cc_folder(Ctx *cx, const Cache *cache, char *path, size_t cap);

#endif
