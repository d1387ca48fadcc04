/* SPDX-License-Identifier: Apache-2.0 */
/* data_split: which rows are trained on, which validate, which test: by their order, or by groups
 * that stay whole.  Groups are named, or taken in order of appearance, or drawn by the seed. */
#include "train/data_part.h"

#include <string.h>

#include "ir/base/rng.h"

static int bound_split(const int64_t bound[SPLIT_COUNT], int64_t at)
{
    int s = 0;
    while (s < SPLIT_COUNT && at >= bound[s])
        s++;
    return s;
}

/* Whole groups, in order of appearance or drawn: a group goes where its middle falls. */
static void groups_assign(Arena *a, const DataConfig *cfg, const Part *p, uint64_t seed,
                          const int64_t bound[SPLIT_COUNT], uint8_t *group_split)
{
    const Column *g = p->group;
    const int n = g->nwords + 1; /* the last: no value */
    int64_t *rows = arena_array(a, int64_t, n), at = 0;
    int *order = arena_array(a, int, n), norder = 0;
    for (int64_t r = 0; r < p->rows; r++) {
        const int id = g->word[r] < 0 ? g->nwords : g->word[r];
        if (rows[id]++ == 0)
            order[norder++] = id;
    }
    Rng rng;
    rng_init(&rng, seed, (uint64_t)0x67726f75 << 32);
    for (int i = norder - 1; i > 0 && cfg->split_by == SPLIT_RANDOM; i--) {
        const int j = (int)rng_below(&rng, (uint64_t)i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (int i = 0; i < norder; i++) {
        group_split[order[i]] = (uint8_t)bound_split(bound, at + rows[order[i]] / 2);
        at += rows[order[i]];
    }
}

static Status groups_named(Ctx *cx, const DataConfig *cfg, const Part *p, uint8_t *group_split)
{
    const Column *g = p->group;
    if (!g)
        return FAIL(cx, VALUE,
                    "data: a split by groups wants \"group\", the column that holds them");
    memset(group_split, SPLIT_COUNT, (size_t)g->nwords + 1);
    for (int s = 0; s < SPLIT_COUNT; s++)
        for (int i = 0; i < cfg->split_groups[s].n; i++) {
            int w = 0;
            while (w < g->nwords && strcmp(g->words[w], cfg->split_groups[s].at[i]))
                w++;
            if (w == g->nwords)
                return status_fail_at(cx, ST_DATA, g->file, 1, 1,
                                      "split: no group \"%s\" in column \"%s\"",
                                      cfg->split_groups[s].at[i], g->name);
            if (group_split[w] != SPLIT_COUNT)
                return FAIL(cx, VALUE, "data: group \"%s\" is in two splits", g->words[w]);
            group_split[w] = (uint8_t)s;
        }
    return ST_OK;
}

Status part_split(Ctx *cx, const DataConfig *cfg, Part *p, uint64_t seed, uint8_t **out)
{
    void *room;
    int64_t bound[SPLIT_COUNT];
    *out = NULL;
    if (cfg->split_by == SPLIT_RANDOM && !p->group)
        return ST_OK;
    TRY(source_alloc(cx, &p->src, p->rows, 1, &room));
    uint8_t *split = *out = room;
    if (cfg->split_by != SPLIT_GROUPS)
        TRY(window_bounds(cx, cfg->split, p->rows, bound));
    if (cfg->split_by != SPLIT_GROUPS && !p->group) {
        for (int64_t r = 0; r < p->rows; r++)
            split[r] = (uint8_t)bound_split(bound, r);
        return ST_OK;
    }
    uint8_t *of = arena_array(p->src.arena, uint8_t, p->group ? p->group->nwords + 1 : 1);
    if (cfg->split_by == SPLIT_GROUPS)
        TRY(groups_named(cx, cfg, p, of));
    else
        groups_assign(p->src.arena, cfg, p, seed, bound, of);
    for (int64_t r = 0; r < p->rows; r++)
        split[r] = of[p->group->word[r] < 0 ? p->group->nwords : p->group->word[r]];
    return ST_OK;
}
