/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_FUZZ_TARGET_H
#define GTC_TESTS_FUZZ_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "ir/base/os.h"

/* Readers of files, under fire.  A target reads one file through cx->os, whose only file is the
 * input in memory; whatever the bytes are, it must come back, with ST_OK or a refusal, within the
 * memory it is allowed.  The fuzzer (main.c) gives it random bytes, test_corpus.c files whose
 * verdict is known, and what is one flip or one cut away from them. */
typedef struct FuzzTarget {
    const char *name; /* also the folder in tests/corpus */
    const char *file; /* what the input is called */
    /* Calls fuzz_accepted() when the reader has taken the input, then checks what must hold. */
    Status (*read)(Ctx *cx);
} FuzzTarget;

#define FUZZ_TARGETS(X)                                                                            \
    X(cache) X(csv) X(gir) X(idx) X(json) X(model) X(npy) X(safetensors) X(text) X(wav)
#define X(name) extern const FuzzTarget fuzz_##name;
FUZZ_TARGETS(X)
#undef X

/* How a file is found to be, for readers that look. */
typedef struct FuzzFile {
    mode_t mode;     /* 0: a regular file, 0600 */
    uid_t owner_off; /* added to our own id */
    bool link, folder_link;
    mode_t folder_mode; /* 0: 0700 */
} FuzzFile;

typedef struct FuzzResult {
    bool accepted;
    Ctx cx;         /* of a refusal */
    char said[512]; /* the last line of the log */
    size_t peak;    /* bytes held at most while reading; counted only under sanitizers */
} FuzzResult;

/* Aborts when the target broke a rule.  file may be NULL. */
void fuzz_run(const FuzzTarget *t, const FuzzFile *file, const void *bytes, size_t n,
              FuzzResult *out);

void fuzz_accepted(void);
const char *fuzz_bytes(size_t *n);    /* the input, for checks */
void fuzz_replace(const char *bytes); /* other bytes, as many, from here on */
size_t fuzz_allowed(size_t n);        /* 64 MiB + 4 n */

#define fuzz_check(cond, ...)                                                                      \
    do {                                                                                           \
        if (!(cond))                                                                               \
            fuzz_failed(__FILE__, __LINE__, #cond, __VA_ARGS__);                                   \
    } while (0)
_Noreturn void fuzz_failed(const char *file, int line, const char *cond, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
