/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels as text (tests/simt/NAME.cu), compiled as gtc does it and run on the host's CUDA machine.
 */
#ifndef GTC_TESTS_SIMT_CASE_H
#define GTC_TESTS_SIMT_CASE_H

#include "runtime/simt.h"

enum { SIMT_CASE_ARGS = 4 };

typedef struct SimtCase {
    const char *name;
    int blocks, threads, smem;
    bool cooperative;
    /* Bytes of each argument's buffer, 0: no more.  The first is the result; those of `given` hold
     * small whole numbers as floats, those of `zeroed` zeros, all others poison. */
    size_t bytes[SIMT_CASE_ARGS];
    unsigned given, zeroed; /* bit sets */
    /* Whether the result is right. */
    bool (*right)(void *const *buffer);
} SimtCase;

extern const SimtCase simt_cases[];
extern const int simt_case_count;
const SimtCase *simt_case_find(const char *name);

/* The kernel's text; to be freed. */
char *simt_case_source(const char *name);
/* The source with `with` for its only `old`; NULL (said on stderr) when it is not there once. */
char *simt_case_edit(const char *source, const char *old, const char *with);
/* The line (from 1) of the first occurrence of a snippet. */
int simt_case_line(const char *source, const char *snippet);

/* A shared object; NULL (with the compiler's words on stderr) when it does not compile.  To be
 * freed. */
char *simt_case_compile(const char *name, const char *source, bool shadow, size_t *n);

/* One run on a machine of its own.  ST_OK when it ends well with the right result, ST_NUMERIC when
 * the result is wrong, else what simt_launch said, with the message in cx. */
Status simt_case_run(Ctx *cx, const SimtCase *c, const void *code, size_t n,
                     const SimtOptions *opt);

#endif
