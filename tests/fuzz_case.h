/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_FUZZ_CASE_H
#define GTC_TESTS_FUZZ_CASE_H

#include "ir/oracle.h"
#include "models/model.h"
#include "runtime/gtc.h"

/* One graph with values for its inputs, compiled in several ways; every program must agree with the
 * evaluator (tests/program_check.h) over three steps, and gradients with slopes. */
typedef struct FuzzWay {
    GtcMode mode;
    int threads;
    char skip[160]; /* passes that are left out, comma separated; "" for none */
} FuzzWay;

enum { FUZZ_WAYS = 24, FUZZ_COVER = 200, FUZZ_STEPS = 3 };

typedef struct FuzzCase {
    const Graph *g;
    const Model *model; /* of the optimizer in g; NULL: none, or not known */
    const char *device;
    uint64_t values; /* seed of the inputs' values: by input name, so that inputs may come and go */
    bool plain;      /* values without extremes */
    OracleLimits limits;
    FuzzWay way[FUZZ_WAYS];
    int nway;
} FuzzCase;

typedef enum FuzzOutcome { FUZZ_AGREES, FUZZ_REFUSED, FUZZ_MISMATCH } FuzzOutcome;

typedef struct FuzzVerdict { /* plain data: it goes through a pipe */
    FuzzOutcome outcome;
    FuzzWay way; /* in which it went wrong */
    char text[1600];
    int64_t compared, undecided, loose; /* elements */
    double worst, worst_rmse;           /* error / bound */
    int kernels;
    int ncover;
    struct {
        char what[40];
        int64_t n;
    } cover[FUZZ_COVER]; /* how often a pass changed something, a kind of nest was planned, ... */
} FuzzVerdict;

/* The ways in which graph `seed` is compiled: eager, default, default with more threads, default
 * with a pass left out; each_pass: with every pass left out in turn. */
void fuzz_case_ways(FuzzCase *c, uint64_t seed, bool each_pass);
const char *
fuzz_way_str(const FuzzWay *way); /* "default, 2 threads, without cse"; rotating buffer */

/* A CheckInit whose argument is a FuzzCase. */
bool fuzz_case_value(void *arg, const char *name, InputKind kind, Tensor *t);

void fuzz_case_run(const FuzzCase *c, FuzzVerdict *v);
void fuzz_cover(FuzzVerdict *v, const char *what, int64_t n);

/* As a file: the graph as text, values and ways in comments above it. */
Status fuzz_case_save(Ctx *cx, const FuzzCase *c, const char *path, const char *title);
Status fuzz_case_load(Ctx *cx, Arena *arena, const char *path, FuzzCase *c);

#endif
