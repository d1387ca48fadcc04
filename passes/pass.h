/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_PASSES_PASS_H
#define GTC_PASSES_PASS_H

#include "ir/graph.h"
#include "ir/target.h"

/* A pass reads `in` and builds `out` (new and empty).  It says in nchanged how much it did. */
typedef struct PassCx {
    Ctx *cx;
    Arena *scratch; /* dies after the pass */
    const Target *target;
    uint32_t nchanged;
} PassCx;

/* What a pass may ask of its input, and what it says it leaves as it was. */
enum {
    PROP_VERIFIED = 1, /* graph_verify holds: always so, and named to be read */
    PROP_EXPANDED = 2, /* no grad node: differentiate has run */
    PROP_NAMES = 4,    /* inputs and outputs keep their order, names and types */
    PROP_REGIONS = 8,  /* no region that was not there before */
};

typedef Status PassFn(PassCx *pcx, const Graph *in, Graph *out);
#define PASS(name, requires, keeps, level, help) PassFn pass_##name;
#include "passes/passes.def"

/* Levels: a mode runs the passes of its level and below, in the order of passes.def. */
typedef enum PassLevel { LEVEL_eager, LEVEL_default, LEVEL_NEVER } PassLevel;

typedef struct PassInfo { /* one row of passes.def: PASS(name, requires, keeps, level, help) */
    const char *name, *help;
    unsigned requires_, keeps;
    PassLevel level;
    PassFn *run;
} PassInfo;
extern const PassInfo pass_info[];
extern const int pass_count;

/* By name, where '-' and '_' are the same; NULL when there is none. */
const PassInfo *pass_find(const char *name, int n);

typedef struct PassReport { /* of one executed pass, for --time-passes and dumps */
    const char *name;
    uint32_t nchanged, nodes_before, nodes_after;
    double ms;
    const Graph *after;
} PassReport;

typedef struct PassOptions {
    PassLevel level;
    const char *passes; /* NULL: all of the level; else a comma list run in that order */
    const char *skip;   /* comma list of passes to leave out, or NULL */
    bool verify;        /* graph_verify after every pass */
    void (*report)(void *arg, const PassReport *r); /* may be NULL */
    void *report_arg;
} PassOptions;

/* No grad node is left. */
bool pass_is_expanded(const Graph *g);

/* Runs the passes; *out lives in arena.  Fails with ST_USAGE for an unknown pass name. */
Status pass_run(Ctx *cx, Arena *arena, const Target *target, const PassOptions *opt,
                const Graph *in, const Graph **out);

#endif
