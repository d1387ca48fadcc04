/* SPDX-License-Identifier: Apache-2.0 */
/* feed: a batch, made on the device.
 *
 *     feed.at: i32[B]          the last row of each sample, which is all that a step is given
 *     feed.row.x: f32[N, F]    all rows, scaled
 *     x = gather(feed.row.x, feed.at)                              [B, F], or of windows
 *     x = gather(feed.row.x, feed.at - (T - 1) + iota)             [B, T, F]
 *
 * So windows that overlap are never laid out: a series is there once.  Pixels lie there as bytes,
 * and words as numbers, and become what they stand for as data_fetch makes them: by a table of 256
 * values, by comparison.  No value is computed, so that a batch has the very bits of one that the
 * host has copied together. */
#include "train/feed.h"

#include <stdio.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"
#include "ir/build.h"

#define FEED_PIXEL "feed.pixel"

enum { NAME = 300 };

static void table_name(const char *input, char name[NAME])
{
    snprintf(name, NAME, "feed.row.%s", input);
}

/* What all rows of a value with that shape look like; each: it has an axis of its window's rows. */
static Type table_type(DType dt, const Shape *of, bool each, int64_t rows)
{
    Type t = { dt, { .rank = (int8_t)(of->rank + !each), .dim = { rows } } };
    for (int i = each; i < of->rank; i++)
        t.shape.dim[i + !each] = of->dim[i];
    return t;
}

static Type input_table(const DataShape *s, int i)
{
    static const DType dt[] = {
        [ROW_F32] = DT_F32, [ROW_U8] = DT_U8, [ROW_ONE_HOT] = DT_I32, [ROW_I32] = DT_I32
    };
    Shape of = s->input[i].shape;
    const RowKind kind = s->rows.kind[i];
    of.rank = (int8_t)(of.rank - (kind == ROW_ONE_HOT));
    return table_type(dt[kind], &of, s->rows.window, s->rows.n);
}

static Type target_table(const DataShape *s)
{
    return table_type(s->classification ? DT_I32 : DT_F32, &s->target, s->rows.target_each,
                      s->rows.n);
}

static const Type pixel_table = { DT_F32, { .rank = 1, .dim = { 256 } } };

static bool has_pixels(const DataShape *s)
{
    for (int i = 0; i < s->ninput; i++)
        if (s->rows.kind[i] == ROW_U8)
            return true;
    return false;
}

/* Kernels number the elements of a tensor by an i32. */
static bool too_long(const Type *t)
{
    return shape_count(&t->shape) > INT32_MAX;
}

const char *feed_refuse(const DataShape *s)
{
    if (s->rows.n == 0)
        return s->rows.why ? s->rows.why : "of such data there are no tables";
    Type t = target_table(s);
    bool bad = too_long(&t);
    for (int i = 0; i < s->ninput; i++) {
        t = input_table(s, i);
        bad |= too_long(&t);
    }
    return bad ? "there are more values than an i32 can number" : NULL;
}

int64_t feed_bytes(const DataShape *s)
{
    if (s->rows.n == 0)
        return 0;
    Type t = target_table(s);
    int64_t sum = type_bytes(&t);
    for (int i = 0; i < s->ninput; i++) {
        t = input_table(s, i);
        sum = size_add(sum, type_bytes(&t));
    }
    return has_pixels(s) ? size_add(sum, type_bytes(&pixel_table)) : sum;
}

/* ------------------------------------------------------------ tables */

Status feed_tables(Ctx *cx, const DataShape *s, bool targets, GtcStore *store)
{
    char name[NAME];
    for (int i = 0; i < s->ninput; i++) {
        const Type t = input_table(s, i);
        table_name(s->input[i].name, name);
        TRY(gtc_store_table(cx, store, name, &t));
    }
    if (has_pixels(s))
        TRY(gtc_store_table(cx, store, FEED_PIXEL, &pixel_table));
    if (!targets)
        return ST_OK;
    const Type t = target_table(s);
    table_name("y", name);
    return gtc_store_table(cx, store, name, &t);
}

static Status put(Ctx *cx, void *arg, const char *input, int64_t at, const void *from,
                  int64_t bytes)
{
    char name[NAME] = FEED_PIXEL;
    if (input)
        table_name(input, name);
    return gtc_store_write(cx, arg, name, at, from, bytes);
}

Status feed_write(Ctx *cx, const Data *d, bool targets, GtcStore *store)
{
    const DataTables to = { put, store, targets };
    return data_tables(cx, d, &to);
}

/* ------------------------------------------------------------ the graph */

/* The rows of each sample's window. */
static Ref window_rows(Builder *b, Ref at, int64_t batch, int64_t window)
{
    const Shape both = shape_of(2, batch, window);
    const Ref first = build_op2(b, OP_sub, at, build_scalar(b, DT_I32, (double)(window - 1 - BUG(71))));
    return build_op2(b, OP_add, build_broadcast(b, first, both, 1u << 1),
                     build_iota(b, (Type){ DT_I32, both }, 1));
}

static Ref one_hot(Builder *b, Ref id, int64_t n)
{
    Shape s = build_type(b, id).shape;
    s.dim[s.rank++] = n;
    const Ref word = build_iota(b, (Type){ DT_I32, s }, s.rank - 1);
    const Ref same = build_op2(b, OP_eq, build_broadcast(b, id, s, 1u << (s.rank - 1)), word);
    return build_cast(b, same, DT_F32);
}

static Ref input_value(Builder *b, RowKind kind, Ref table, Ref pixel, Ref rows, int64_t last)
{
    const Ref row = build_gather(b, table, rows, 0);
    if (kind == ROW_U8)
        return build_gather(b, pixel, build_cast(b, row, DT_I32), 0);
    return kind == ROW_ONE_HOT ? one_hot(b, row, last) : row;
}

static bool wants(const Graph *g, const char *name)
{
    const Ref r = graph_find_input(g, name);
    return r != REF_NONE && g->node[r].attr.input.kind == INPUT_batch;
}

static Ref table_input(Builder *b, const char *input, Type t)
{
    char name[NAME];
    table_name(input, name);
    return build_input(b, INPUT_const, name, t.dt, t.shape);
}

/* One fusion of all there is, with the inputs of the body as its own: one launch makes the batch. */
static Status fuse(Ctx *cx, Graph *body, Graph *out)
{
    Ref *arg = arena_array(out->arena, Ref, body->ninput), all, part;
    for (uint32_t i = 0; i < body->ninput; i++)
        TRY(graph_add(cx, out, &body->node[body->input[i]], &arg[i]));
    const Node fusion = { .op = OP_fusion,
                          .nargs = body->ninput,
                          .arg = arg,
                          .attr.fusion = { .body = body, .kind = "feed" } };
    TRY(graph_add(cx, out, &fusion, &all));
    for (uint32_t i = 0; i < body->nout; i++) {
        const Node get = { .op = OP_get, .nargs = 1, .arg = &all, .attr.get.index = i };
        TRY(graph_add(cx, out, &get, &part));
        TRY(graph_output(cx, out, part, REF_NONE, body->out[i].name));
    }
    return ST_OK;
}

Status feed_graph(Ctx *cx, const DataShape *s, const Graph *g, int batch, Arena *arena, Graph **out)
{
    Graph *body = graph_new(arena);
    Builder b = build_start(cx, body);
    Ref *table = arena_array(arena, Ref, s->ninput), y = REF_NONE, pixel = REF_NONE;
    const Ref at = build_input(&b, INPUT_batch, FEED_AT, DT_I32, shape_of(1, (int64_t)batch));
    if (has_pixels(s))
        pixel = build_input(&b, INPUT_const, FEED_PIXEL, pixel_table.dt, pixel_table.shape);
    for (int i = 0; i < s->ninput; i++)
        if (wants(g, s->input[i].name))
            table[i] = table_input(&b, s->input[i].name, input_table(s, i));
    if (wants(g, "y"))
        y = table_input(&b, "y", target_table(s));
    Ref rows = at;
    if (s->rows.window)
        rows = window_rows(&b, at, batch, s->input[0].shape.dim[0]);
    for (int i = 0; i < s->ninput; i++) {
        const Shape *of = &s->input[i].shape;
        if (table[i] == REF_NONE)
            continue;
        build_output(&b,
                     input_value(&b, s->rows.kind[i], table[i], pixel, rows,
                                 of->rank ? of->dim[of->rank - 1] : 1),
                     s->input[i].name);
    }
    if (y != REF_NONE)
        build_output(&b, build_gather(&b, y, s->rows.target_each ? rows : at, 0), "y");
    TRY(b.status);
    *out = graph_new(arena);
    return fuse(cx, body, *out);
}
