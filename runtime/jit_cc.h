/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_JIT_CC_H
#define GTC_RUNTIME_JIT_CC_H

#include "codegen/kernel.h"
#include "runtime/cache.h"
#include "runtime/team.h"

/* Kernels' C text becomes code in this process, by the system's C compiler or from the cache. */
typedef struct Jit Jit;

typedef void KernelFn(void *const *arg, const gtc_team *team);
typedef enum CodeFrom { CODE_COMPILED, CODE_CACHED, CODE_NONE, CODE_TEXT, CODE_CALL } CodeFrom;
typedef struct Code {
    KernelFn *fn; /* NULL with CODE_NONE: no compiler took it; CODE_TEXT: none was asked */
    CodeFrom from;
    /* CODE_CALL: a library does it; what it does, for people, and the workspace that it wants in
     * place of the kernel's. */
    const char *call;
    int64_t workspace;
} Code;

/* Looks for compilers (cc_find).  Having none is no failure here: jit_load then takes what the
 * cache has. */
Status jit_open(Ctx *cx, Cache *cache, Jit **out);
void jit_close(Jit *j);                 /* NULL is fine */
const char *jit_compiler(const Jit *j); /* "clang 14.0.6", or why there is none */

/* Code for n kernels, in code[].  A kernel that no compiler takes is said aloud and gets CODE_NONE.
 * The code lives until jit_unload of *out.  Fails with ST_MEMORY only. */
typedef struct JitModule JitModule;
Status jit_load(Ctx *cx, Jit *j, int lanes, const Kernel *k, int n, bool no_cache, Code *code,
                JitModule **out);
void jit_unload(const struct Os *os, JitModule *m); /* NULL is fine */

#endif
