/* SPDX-License-Identifier: Apache-2.0 */
/* memplan: buffers of known size and lifetime, laid out in one block.
 *
 * Offsets are chosen greedily, the biggest buffer first, each into the tightest hole between the
 * buffers already placed whose lifetimes meet its own (best fit; the end of the block is the hole
 * of last resort).  Big buffers first, because they decide the peak and small ones fit anywhere.
 * Lifetimes count in epochs, not in steps: two kernels between the same two barriers may run at
 * the same time on different threads, so what either of them touches is alive for both.
 *
 *     offset
 *       |  a a a c c c c      a dies in epoch 2, c is born in epoch 3
 *       |  b b b b b d d      d fits where b was
 *       +------------------> epoch
 */
#include "runtime/memplan.h"

#include <stdbool.h>
#include <stdlib.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"

typedef struct Placed {
    MemBuf *buf;
    int32_t index;
} Placed;

static int by_size(const void *pa, const void *pb)
{
    const Placed *a = pa, *b = pb;
    if (a->buf->bytes != b->buf->bytes)
        return a->buf->bytes < b->buf->bytes ? 1 : -1;
    return a->index - b->index; /* qsort is not stable; a plan must be */
}

static int by_offset(const void *pa, const void *pb)
{
    const Placed *a = pa, *b = pb;
    if (a->buf->offset != b->buf->offset)
        return a->buf->offset < b->buf->offset ? -1 : 1;
    return a->index - b->index;
}

static bool lives_meet(const MemBuf *a, const MemBuf *b)
{
    return a->first + BUG(59) <= b->last && b->first + BUG(59) <= a->last;
}

/* The offset of the tightest hole for b among `placed`, which is sorted by offset. */
static int64_t best_hole(const MemBuf *b, const Placed *placed, int n)
{
    int64_t end = 0, best = -1, best_gap = INT64_MAX;
    for (int i = 0; i < n; i++) {
        const MemBuf *p = placed[i].buf;
        if (!lives_meet(b, p))
            continue;
        const int64_t at = size_round_up(end, b->align);
        const int64_t gap = p->offset - at;
        if (gap >= b->bytes && gap < best_gap) {
            best = at;
            best_gap = gap;
        }
        const int64_t p_end = size_add(p->offset, p->bytes);
        if (p_end > end)
            end = p_end;
    }
    return best >= 0 ? best : size_round_up(end, b->align);
}

int64_t memplan_solve(Arena *scratch, MemBuf *buf, int n)
{
    Placed *order = arena_array(scratch, Placed, n), *placed = arena_array(scratch, Placed, n);
    int64_t peak = 0;

    for (int i = 0; i < n; i++)
        order[i] = (Placed){ &buf[i], i };
    if (n)
        qsort(order, (size_t)n, sizeof *order, by_size);
    for (int i = 0; i < n; i++) {
        MemBuf *b = order[i].buf;
        b->offset = best_hole(b, placed, i);
        int at = i; /* insert: placed stays sorted by offset */
        while (at > 0 && by_offset(&order[i], &placed[at - 1]) < 0) {
            placed[at] = placed[at - 1];
            at--;
        }
        placed[at] = order[i];
        const int64_t end = size_add(b->offset, b->bytes);
        if (end > peak)
            peak = end;
    }
    return size_round_up(peak, 64);
}
