/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_PLAN_H
#define GTC_CODEGEN_PLAN_H

#include "codegen/stages.h"
#include "ir/target.h"

/* How stages are run: a tree of loops.
 *
 *     kernel   phases, one after the other, a barrier between those that depend
 *     phase    [team axis in blocks] or [every thread, for itself]
 *                nests of a scan: those before its loop, the loop over time, those after
 *     nest     loops over its axes in tiles; in a tile the reductions, then the roots
 *
 * A nest has one of three shapes, told by where its vector axis is: *map* (no reduction),
 * *contract* (vectors along an output axis, accumulators in registers over a tile of points) and
 * *row* (vectors along a reduced axis, combined at the end). */

enum { MAX_GRID = 4, MAX_AXES = 16, MAX_NEST_ROOTS = 48, MAX_NEST_REDS = 48, MAX_FIXED = 12 };

/* GPU: a contraction in blocks.  Its axes are those of one operand (rows), of the other (columns)
 * and the rest; a block of threads makes bm x bn points of one (row, column) plane, tm x tn a
 * thread, and goes along the reduced axes, counted as one, in steps of bk. */
typedef struct Blocked {
    Var row[MAX_AXES], col[MAX_AXES], rest[MAX_AXES];
    int nrow, ncol, nrest;
    int bm, bn, bk, tm, tn;
    ExprId left[MAX_NEST_REDS], right[MAX_NEST_REDS]; /* of each reduction: the factor with rows */
    uint16_t lbuf[MAX_NEST_REDS], rbuf[MAX_NEST_REDS]; /* where it is kept; equal factors share */
} Blocked;

enum { HELD_DIGITS = 4 }; /* of a thread's number: unit, rows, cols, rest */

/* GPU: a nest of a scan's steps, each of whose sums is of products of what differs from row to row
 * (of the team axis) and what no step changes, which stays in registers.  A tile of the unit axis
 * (the nest's last) and all rows of the block are shared by rows*cols*rest lanes of a warp, each
 * with a part of the reduced points. */
typedef struct Held {
    int units;    /* tiles, rounded up to whole warps of lanes */
    int64_t full; /* of which this many are there */
    int tile;     /* points of one */
    int64_t nrow; /* rows of a block */
    int rows, cols, rest; /* digits of a lane's number: parts of the rows and of the tile's points that
                             it ends with, and which of those with the same */
    ExprId moving[MAX_NEST_REDS], kept[MAX_NEST_REDS]; /* factors of each reduction */
    uint16_t buf[MAX_NEST_REDS]; /* its registers: equal factors share; 0: read at every step */
    uint16_t ahead[MAX_NEST_REDS]; /* registers of its moving factor, read one step ahead, or 0 */
    ExprId fixed[MAX_FIXED];       /* parts of the roots' values that registers hold */
    uint16_t fixed_buf[MAX_FIXED];
    bool fixed_step[MAX_FIXED], fixed_rows[MAX_FIXED]; /* differs from step to step: read one ahead;
                                                          from row to row */
    int nfixed;
    int split; /* 1 ..: nests with equal ones give equal points to equal threads */
} Held;

typedef struct Nest {
    StageId root[MAX_NEST_ROOTS], red[MAX_NEST_REDS];
    int nroot, nred;
    Var axis[MAX_AXES]; /* loop order, outermost first */
    int tile[MAX_AXES]; /* points of a tile; of the vector axis: vectors */
    int naxis;
    Var vec;  /* 0: scalar */
    bool row; /* vec is reduced (each batch of reductions has its own last axis) */
    int nv;
    Var kaxis;     /* outermost reduced axis, walked in blocks of kstep around all loops: */
    int64_t kstep; /* accumulators then start from what is stored; kaxis 0: not blocked */
    uint8_t when;
    int lanes; /* GPU: threads that share the reductions of a point: 0 for one, 32, or the block's */
    Blocked *blocked; /* GPU: or NULL */
    Held *held;       /* GPU: or NULL */
    bool strip;       /* GPU: its phase has a grid */
    int walk;         /* GPU: of the loops over Phase.walk, which it stands in (1 ..); 0: none */
    Var part;         /* GPU: which part of the reduced points, counted as one axis, of chunk each; */
    int64_t chunk;    /* 0: the nest reduces all of them */
} Nest;

typedef struct Phase {
    Nest *nest;
    int nnest, nest_cap;
    Var team; /* axis shared out over the threads in blocks; 0: one thread does it all */
    int64_t block;
    Var grid[MAX_GRID]; /* GPU: in place of team: no axes of its nests, but numbers of which a block */
    int ngrid;          /* has one each */
    Var walk;           /* GPU: no axis either: of its values a loop around nests has one each */
    bool each;    /* every thread runs it for itself, into private buffers */
    bool flat;    /* GPU: one nest, its tiles shared out over all threads of all blocks; or one in
                     blocks and parts, and a second that adds the parts of a block's tile up and goes
                     on, which the last block to come does */
    bool barrier; /* before it */
    bool last;    /* GPU: that one is no launch's end: the last block that comes there does this phase
                     alone */
} Phase;

typedef struct Plan {
    Stages *s;
    Phase *phase;
    int nphase, phase_cap;
    int64_t *offset; /* of each buffer in its workspace, bytes */
    int64_t shared_bytes, private_bytes;
    double points; /* elementary operations of one call, roughly */
    int threads;   /* GPU: of a block; 0 on a CPU */
    const char *planner;
} Plan;

/* The planner for CPUs: groups stages into nests and phases, chooses axes, tiles and copies.
 * plain: no vectors, tiles or copies, and every value stored (the last resort). */
Status plan_cpu(Ctx *cx, Arena *arena, const Target *t, const Graph *body, bool plain, Plan **out);

/* The planner for GPUs, over the same phases: a block of threads for a block of the team axis, whose
 * temporaries are in shared memory, or all threads for the tiles of a phase that is one nest. */
typedef enum CudaPlan { CUDA_PLAIN, CUDA_SIMPLE, CUDA_BLOCKED } CudaPlan; /* how bold */
Status plan_cuda(Ctx *cx, Arena *arena, const Target *t, const Graph *body, CudaPlan how,
                 Plan **out);
/* The axis that neighbouring threads should lie along: that of the first store's last dimension. */
Var nest_fast_axis(Stages *s, const Nest *n);
/* plan_blocked.c: how the contractions of n, alone in their phase, go in blocks; NULL: they do not.
 * Takes room for their operands in shared memory. */
Blocked *plan_blocked(Stages *s, const Target *t, const Nest *n);
bool plan_blocked_may(Stages *s, const Nest *n); /* whether their axes and sizes allow it */
/* Parts that its reduced points should be cut into so that the GPU has work; 1: none. */
int64_t plan_blocked_parts(const Stages *s, const Target *t, const Nest *n, const Blocked *b);

int held_wide(const Held *h, int64_t reduced_points); /* neighbours that a lane takes in a round */

/* plan_units.c: the nests of all stages, in an order in which they may run.  plain: one a root. */
Nest *plan_units(Arena *arena, Stages *s, bool plain, int *nnest);
Nest plan_unit(Stages *s, StageId root); /* of one root and the reductions that it uses */
/* Puts the one root of u, which comes next, into n, to run tile by tile with it, if it may. */
bool plan_merge(Stages *s, Nest *n, const Nest *u);
/* plan_nest.c: vector axis, tile and order of one nest; span[v]: points of axis v it walks. */
void plan_nest(Stages *s, const Target *t, Nest *n, const int64_t *span, bool plain);
/* Sums that the roots of n only add share one accumulator. */
void nest_share_sums(Stages *s, Nest *n);
/* plan_copy.c: operands that a contraction reads across lanes are copied into panels first.
 * Appends the nests that fill the copies to *fill. */
void plan_copies(Stages *s, const Target *t, Nest *n, bool invariant_too, Phase *fill);

void phase_take(Arena *arena, Phase *ph, const Nest *n); /* appends a copy of n */
void plan_print(const Plan *p, Strbuf *out);

/* lower.c, lower_cuda.c: the plan as a kernel. */
Status plan_lower(Ctx *cx, Arena *arena, const Target *t, const Plan *p, Kir **out);
Status plan_lower_cuda(Ctx *cx, Arena *arena, const Plan *p, Kir **out);

#endif
