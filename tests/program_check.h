/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_PROGRAM_CHECK_H
#define GTC_TESTS_PROGRAM_CHECK_H

#include "ir/oracle.h"
#include "runtime/gtc.h"

/* A compiled program against the oracle, step by step.
 *
 * A Reference is computed once: the graph with its `grad` nodes expanded, run by oracle_graph, where
 * what one step leaves in params and states is what the next begins with, bounds and all.  A
 * compiled program is then run alike, and every output, param and state is compared after every
 * step (ir/oracle.h). */
typedef struct Reference Reference;

enum { CHECK_STEPS_MAX = 8 };

/* The first mode and number of threads in which every model and layer is compiled.  Sanitizers make
 * the compiler of kernels slow: with them it is the default mode on two threads alone.  Single ops
 * in all shapes (test_op_shapes) and random graphs in every way (test_fuzz) go through them too. */
#if defined(GTC_SANITIZE)
enum { CHECK_MODE_FIRST = GTC_DEFAULT, CHECK_THREADS_FIRST = 2 };
#else
enum { CHECK_MODE_FIRST = GTC_EAGER, CHECK_THREADS_FIRST = 1 };
#endif

/* First value of an input; t is allocated, and of the input's type.  False: random. */
typedef bool CheckInit(void *arg, const char *name, InputKind kind, Tensor *t);

typedef struct ReferenceOptions {
    int steps; /* at most CHECK_STEPS_MAX */
    uint64_t seed;
    CheckInit *init; /* may be NULL */
    void *init_arg;
} ReferenceOptions;

/* Fails the running test when g cannot be evaluated. */
Reference *reference_new(Ctx *cx, const Graph *g, const ReferenceOptions *opt);
void reference_free(Reference *r);
const Tensor *reference_start(const Reference *r); /* the inputs of the first step */

typedef struct ProgramCheck {
    GtcMode mode;
    int threads;
    const char *skip_passes; /* as in GtcOptions */
    const char *device;      /* NULL: cpu */
    GtcLibraryUse libraries;
    void (*pass_done)(void *arg, const char *pass, uint32_t changed, uint32_t nodes,
                      double ms);                   /* may be NULL */
    void (*look)(void *arg, const GtcProgram *p);   /* before it runs; may be NULL */
    void *arg;                                      /* of both */
    bool may_refuse; /* kernels that gtc says it leaves to the interpreter: `refused` */
    OracleLimits limits; /* { 0 }: every test on */
} ProgramCheck;

typedef struct ProgramVerdict {
    bool wrong, refused;
    char
        text[1200]; /* the first wrong element and the kernel that wrote it; why nothing compiled */
    int64_t compared;         /* elements, over all steps */
    int64_t undecided, loose; /* of them, as in OracleReport: compared, but the bound says little */
    double worst, worst_rmse; /* largest error / bound */
    int kernels, plain;        /* launches of a step; those of the last-resort planner */
    int calls;                 /* of a library */
} ProgramVerdict;

/* Compiles the graph in a store of its own and compares.  Fails the running test when it does not
 * run, or when a kernel was left to the interpreter. */
ProgramVerdict program_check(Ctx *cx, const Reference *r, const ProgramCheck *opt);

#endif
