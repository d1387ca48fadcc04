/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_SIMT_SHADOW_H
#define GTC_RUNTIME_SIMT_SHADOW_H

#include <stdbool.h>
#include <stddef.h>

#include "ir/base/status.h"

/* Who touched memory, and what is ordered; simt_shadow.c has the idea. */
struct SimtMachine;
struct SimtCounter;
struct SimtBlock;

typedef uint64_t SimtStamp; /* op, block, thread, epoch, bytes of the granule */

typedef struct SimtCell { /* of 4 bytes */
    SimtStamp w, r;
} SimtCell;

typedef struct SimtClock { /* of a block under way */
    uint32_t epoch;        /* barriers passed */
    /* What gtc_last_of taught: of each block of the launch, what came before an arrival.  NULL:
     * never was the last. */
    uint32_t *known;
    uint32_t learnt; /* in this epoch */
    int learner;     /* by this thread, which alone knows before the next barrier */
    bool knew;       /* others know of an earlier lesson, and nobody keeps them apart */
} SimtClock;

typedef struct SimtShadow {
    SimtCell *cell;    /* of device memory */
    size_t bytes;      /* of the cells */
    uint64_t *written; /* a bit for each cell of device memory: ever since it was allocated */
    SimtCell *shared;  /* of the slots' shared memory */
    uint32_t *floor;   /* of each block: what all blocks know since the grid's last barrier */
    uint32_t grid_epoch;
    SimtStamp many_blocks; /* read by several, since then */
    int op;
    unsigned char *before; /* of each op: whether it is ordered before this one */
    struct {
        char text[64];
    } * name;
} SimtShadow;

Status simt_shadow_init(Ctx *cx, struct SimtMachine *m);
void simt_shadow_free(struct SimtMachine *m);
/* Nobody has touched these bytes. */
void simt_shadow_fresh(struct SimtMachine *m, const void *p, size_t bytes);
/* A launch begins; a block begins; its threads, or all blocks, have met at a barrier. */
void simt_shadow_launch(struct SimtMachine *m);
void simt_shadow_block(struct SimtMachine *m, struct SimtBlock *b);
void simt_shadow_barrier(struct SimtMachine *m, struct SimtBlock *b);
void simt_shadow_grid(struct SimtMachine *m);
/* The running thread arrives at a counter, and is the last. */
void simt_shadow_arrive(struct SimtMachine *m, struct SimtCounter *c);
void simt_shadow_last(struct SimtMachine *m, struct SimtCounter *c);
/* The running thread is about to touch memory: at m->pc, or at m->line. */
void simt_shadow_access(struct SimtMachine *m, const void *p, size_t bytes, bool write);

#endif
