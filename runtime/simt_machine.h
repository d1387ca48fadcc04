/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_SIMT_MACHINE_H
#define GTC_RUNTIME_SIMT_MACHINE_H

#include "runtime/simt.h"
#include "runtime/simt_fiber.h"
#include "runtime/simt_memory.h"
#include "runtime/simt_shadow.h"

/* The inside of a SimtMachine, for the files simt*.c. */

enum { SIMT_WARP = 32, SIMT_MAX_THREADS = 1024, SIMT_SMEM_ZONE = 4096 };

/* gtc_lane and gtc_simt of the prelude, field by field. */
typedef struct SimtId {
    int tid, bid, nblocks;
    unsigned char *smem;
} SimtId;

typedef struct SimtTable SimtTable;
struct SimtTable {
    const SimtId *lane;
    int line;
    void (*bar)(SimtTable *rt, int line);
    uint32_t (*shfl_xor)(SimtTable *rt, uint32_t v, int mask, int line);
    uint64_t *(*meet)(SimtTable *rt, uint64_t v, int line);
    int (*last_of)(SimtTable *rt, uint32_t *counter, int n, int line);
    void (*grid_bar)(SimtTable *rt, uint32_t *counter, int line);
    void (*misaligned)(SimtTable *rt, const void *p, int bytes, int line);
    void (*access)(SimtTable *rt, const void *p, int bytes, int kind, const void *pc);
};

typedef struct SimtLane { /* a CUDA thread */
    SimtId id;
    SimtFiber *fiber; /* NULL: not begun, or gone */
    int line;         /* where it waits */
} SimtLane;

/* What the lanes of a warp have given to a shuffle; value[32] and [33] are theirs. */
typedef struct SimtMeeting {
    uint64_t value[SIMT_WARP + 2];
} SimtMeeting;

typedef struct SimtWarp {
    uint32_t alive, runnable, posted, barred; /* sets of lanes */
    int line;                                 /* of the shuffle that `posted` wait in */
    int turn;
    SimtMeeting meeting[2]; /* [turn] is the one that gathers; the other one is being read */
} SimtWarp;

typedef enum SimtBar { BAR_NONE, BAR_BLOCK, BAR_GRID } SimtBar;

typedef struct SimtBlock { /* a slot, which a block has until it ends */
    SimtLane *lane;
    SimtWarp *warp;
    unsigned char *smem;
    int bid, live;
    uint32_t ready; /* warps with a lane that can run */
    SimtBar bar;    /* the barrier that nbar threads wait at */
    int nbar, bar_line;
    SimtClock clock;
} SimtBlock;

typedef struct SimtCounter { /* of gtc_last_of, in this launch */
    uint32_t *at;
    int n, line;
    uint32_t *arrived; /* what the arrivals know, see simt_shadow.c */
    int last_bid;      /* who arrived last, and when */
    uint32_t last_epoch;
} SimtCounter;

struct SimtMachine {
    SimtTable rt; /* first: kernels hold a pointer to it */
    SimtOptions opt;
    uint32_t rng;
    SimtPool *pool;
    SimtMemory memory;
    SimtShadow shadow;

    /* This launch. */
    SimtKernel *kernel;
    void *const *arg;
    int threads, warps, smem, nblocks;
    bool cooperative;
    SimtBlock *block; /* slots */
    int nslot;        /* in use in this launch */
    SimtLane *lanes;
    SimtWarp *warp_store;
    unsigned char *smem_store;
    size_t smem_bytes;
    int begun, at, stride; /* blocks begun; the next one and the step to the one after it */
    int live;              /* blocks under way */
    uint32_t *grid_counter;
    int grid_waiting; /* blocks that wait at the grid's barrier */
    SimtCounter *counter;
    int ncounter, counter_cap;

    /* What runs: the lane, on what stack, and its warp's number in `here`.  No lane: the host. */
    SimtLane *lane;
    SimtFiber *fiber;
    SimtBlock *here;
    int warp;

    const char *stacks;
    size_t stack_bytes;

    const void *pc; /* of the access that is looked at; NULL: `line` says where */
    int line;
    bool failed;
    SimtFault fault; /* what kind of mistake, set before simt_stop */
    char msg[768];
};

/* Ends the launch: on a lane it does not return.  line 0: where m->pc and m->line say. */
void simt_stop(SimtMachine *m, int line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The running lane cannot go on (it is not runnable), or need not; returns when it goes on. */
void simt_wait(SimtMachine *m);
/* A chance for others, after a barrier or a shuffle is done. */
void simt_turn(SimtMachine *m);
/* Lets lanes of a warp run. */
void simt_wake(SimtBlock *b, int warp, uint32_t lanes);
/* As many blocks as there are slots are under way from now on. */
void simt_widen(SimtMachine *m);

/* simt_sync.c: the table's functions. */
void simt_sync_fill(SimtTable *rt);
/* The end of a launch: every counter is as the next launch wants it. */
void simt_sync_end(SimtMachine *m);

/* simt_code.c: the line of a kernel's text from which the code before pc came; `use` when it came
 * from the prelude; 0 when it is not known. */
int simt_code_line(const SimtCode *code, const void *pc, int use);
/* Whether p lies in code's own constants. */
bool simt_code_holds(const SimtCode *code, const void *p);

#endif
