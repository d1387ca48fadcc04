/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/feed_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "ir/build.h"

const char *const feed_case_name[FEED_CASES] = { "series", "long series", "rows",
                                                 "pixels", "text",        "words" };

typedef struct FeedCase {
    Shape x, target;
    RowKind kind;
    int batch;
    int64_t rows;
    bool window, each, classes;
} FeedCase;

static const FeedCase feed_case[FEED_CASES] = {
    { { 2, { 48, 9 } }, { 1, { 1 } }, ROW_F32, 256, 43824, true, false, false },
    { { 2, { 512, 64 } }, { 2, { 512, 2 } }, ROW_F32, 256, 180000, true, true, false },
    { { 1, { 7 } }, { 1, { 1 } }, ROW_F32, 1000, 100001, false, false, false },
    { { 3, { 28, 28, 1 } }, { 0 }, ROW_U8, 128, 60000, false, false, true },
    { { 2, { 64, 65 } }, { 1, { 64 } }, ROW_ONE_HOT, 32, 1115394, true, true, true },
    { { 1, { 256 } }, { 1, { 256 } }, ROW_I32, 12, 1115394, true, true, true },
};

static Shape batched(int batch, const Shape *row)
{
    Shape s = { .rank = (int8_t)(row->rank + 1), .dim = { batch } };
    memcpy(s.dim + 1, row->dim, sizeof s.dim - sizeof s.dim[0]);
    return s;
}

Graph *feed_case_graph(Ctx *cx, Arena *arena, int i)
{
    const FeedCase *c = &feed_case[i];
    NamedShape in = { "x", c->x };
    const DataShape s = {
        .input = &in,
        .ninput = 1,
        .words = c->kind == ROW_I32 ? 65 : 0,
        .target = c->target,
        .classification = c->classes,
        .rows = { .n = c->rows, .window = c->window, .target_each = c->each, .kind = &c->kind }
    };
    Graph *g = graph_new(arena), *feed = NULL;
    Builder b = build_start(cx, g);
    build_input(&b, INPUT_batch, "x", s.words ? DT_I32 : DT_F32, batched(c->batch, &c->x));
    build_input(&b, INPUT_batch, "y", c->classes ? DT_I32 : DT_F32, batched(c->batch, &c->target));
    if (b.status != ST_OK || feed_graph(cx, &s, g, c->batch, arena, &feed) != ST_OK)
        fail_msg("%s: %s", feed_case_name[i], cx->msg);
    return feed;
}
