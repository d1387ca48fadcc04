/* SPDX-License-Identifier: Apache-2.0 */
/* edge: a list of steps as a graph.
 *
 * Edges follow from addresses, not from the values that the program names: a buffer that is used
 * again for another value orders its writer behind the readers of what was there before, which no
 * edge of the dataflow does.
 *
 * For each step the earlier ones are looked at from the latest to the first.  One that is reached
 * through an edge which is there already needs none; since a later step cannot be reached through
 * an earlier one, what is left is the transitive reduction. */
#include "runtime/edge.h"


static bool overlap(const Touch *a, const Touch *b)
{
    return a->bytes > 0 && b->bytes > 0 && a->at < b->at + (uint64_t)b->bytes &&
           b->at < a->at + (uint64_t)a->bytes;
}

static bool conflict(const TouchList *s, int i, int j)
{
    for (int32_t a = s->first[i]; a < s->first[i + 1]; a++)
        for (int32_t b = s->first[j]; b < s->first[j + 1]; b++)
            if ((s->touch[a].writes || s->touch[b].writes) && overlap(&s->touch[a], &s->touch[b]))
                return true;
    return false;
}

EdgeList edge_find(Arena *arena, const TouchList *steps)
{
    const int n = steps->n, words = (n + 63) / 64;
    uint64_t *reach = arena_array(arena, uint64_t, (int64_t)n * words); /* [i]: bits of steps */
    EdgeList e = { .first = arena_array(arena, int32_t, n + 1) };
    unsigned count = 0, cap = 0;
    for (int i = 0; i < n; i++) {
        uint64_t *mine = reach + (int64_t)i * words;
        e.first[i] = (int32_t)count;
        for (int j = i - 1; j >= 0; j--) {
            if (mine[j / 64] >> (j % 64) & 1 || !conflict(steps, i, j))
                continue;
            arena_grow(arena, e.from, count, cap);
            e.from[count++] = j;
            mine[j / 64] |= (uint64_t)1 << (j % 64);
            for (int w = 0; w < words; w++)
                mine[w] |= reach[(int64_t)j * words + w];
        }
    }
    e.first[n] = (int32_t)count;
    return e;
}
