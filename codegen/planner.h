/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_PLANNER_H
#define GTC_CODEGEN_PLANNER_H

#include "codegen/plan.h"

/* What the planners of all machines share (plan_phase.c). */
typedef struct Planner {
    Ctx *cx;
    Arena *arena;
    const Target *t;
    Stages *s;
    Plan *p;
    bool plain;   /* the last resort */
    bool each;    /* small phases may be run by every member of the team for itself */
    bool (*alone)(Stages *s, const Nest *n); /* NULL, or whether n wants a phase of its own */
    int64_t team; /* members of the team: iterations of a team axis that keep all of them busy */
} Planner;

/* Builds the stages of body and sets them out in phases, each with its team axis, and gives
 * temporaries their homes.  Blocks, tiles, barriers and offsets are still to come. */
Status plan_phases(Planner *pl, const Graph *body);
/* Where a phase needs one before it; homes are known. */
void plan_barriers(Planner *pl);

/* plan_strips.c: attention in phases that keep its scores in shared memory; false: it is none, or
 * none that fits. */
bool plan_strips(Planner *pl, const Nest *nest, int nnest);

int64_t nest_work(const Stages *s, const Nest *n); /* elementary operations */
Phase *phase_add(Planner *pl);                     /* an empty one at the end of the plan */
bool phase_stores(const Planner *pl, const Phase *ph, uint16_t buf);
bool phase_reads(Planner *pl, const Phase *ph, uint16_t buf);
/* The best axis to share out, for the phase and one more nest if not NULL; 0: there is none. */
Var phase_team_axis(Planner *pl, const Phase *ph, const Nest *extra);

/* plan_held.c: how nest n of a scan keeps what no step changes in registers, and its tiles; NULL:
 * it does not.  span: points of each axis that a block has. */
Held *plan_held(Stages *s, const Phase *ph, Nest *n, const int64_t *span, int threads);
/* How map n of a scan gives each thread the points that it ends with in a nest held like `like`;
 * NULL: its points are others. */
Held *plan_held_map(Stages *s, const Phase *ph, Nest *n, const int64_t *span, const Held *like);

#endif
