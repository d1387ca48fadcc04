/* SPDX-License-Identifier: Apache-2.0 */
/* Which rows make a sample, and which of them have targets: index files, majorities, targets of
 * every row, strides; and what of it cannot be.  Files are written into a fresh folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/base/os.h"
#include "ir/base/strbuf.h"
#include "train/data.h"

typedef struct Bench {
    Ctx cx;
    char dir[64];
} Bench;

static int setup(void **state)
{
    Bench *b = calloc(1, sizeof *b);
    ctx_init(&b->cx);
    strcpy(b->dir, "/tmp/gtc_test_rows_XXXXXX");
    *state = b;
    return mkdtemp(b->dir) == NULL;
}

static int teardown(void **state)
{
    Bench *b = *state;
    static const char *const name[] = { "a.csv", "i.csv", "x.npy", "y.npy" };
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", b->dir, name[i]);
        unlink(path);
    }
    rmdir(b->dir);
    free(b);
    return 0;
}

static void put(Bench *b, const char *name, const void *data, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", b->dir, name);
    assert_int_equal(os_write_file(&b->cx, path, data, n), ST_OK);
}

static void put_text(Bench *b, const char *name, const char *text)
{
    put(b, name, text, strlen(text));
}

/* A vector of f4 and one of i1. */
static void put_npy(Bench *b, const char *name, const char *type, int rows, const void *data,
                    size_t bytes)
{
    Strbuf s = { 0 };
    char head[128];
    const int n =
        snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': (%d,), }\n",
                 type, rows);
    strbuf_addn(&s, "\x93NUMPY\x01\x00", 8);
    strbuf_putc(&s, (char)n);
    strbuf_putc(&s, 0);
    strbuf_add(&s, head);
    strbuf_addn(&s, data, bytes);
    put(b, name, s.s, s.n);
    strbuf_free(&s);
}

#define STRS(...)                                                                                  \
    {                                                                                              \
        .at = (const char *[]){ __VA_ARGS__ },                                                     \
        .n = sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(const char *)                        \
    }

/* For configs that outlive the function that makes them. */
static const char *const file_x[] = { "x.npy" }, *const file_y[] = { "y.npy" },
                         *const file_a[] = { "a.csv" }, *const both[] = { "u", "v" },
                         *const both_back[] = { "v", "u" };

static StrList strs(const char *const *at, int n)
{
    return (StrList){ (const char **)(uintptr_t)at, n };
}

static Status open_config(Bench *b, const DataConfig *cfg, Data **d)
{
    const char *dirs[] = { b->dir };
    return data_open(&b->cx, cfg, dirs, 1, 7, NULL, d);
}

static Data *open_ok(Bench *b, const DataConfig *cfg)
{
    Data *d = NULL;
    if (open_config(b, cfg, &d) != ST_OK)
        fail_msg("%s:%d:%d: %s", b->cx.file, b->cx.line, b->cx.col, b->cx.msg);
    return d;
}

static void open_fails(Bench *b, const DataConfig *cfg, int line, int col, const char *part)
{
    Data *d = NULL;
    const Status s = open_config(b, cfg, &d);
    if (s != ST_DATA || !strstr(b->cx.msg, part) || b->cx.line != line || b->cx.col != col)
        fail_msg("wants %d:%d \"%s\", got %d %d:%d \"%s\"", line, col, part, s, b->cx.line,
                 b->cx.col, b->cx.msg);
    assert_null(d);
}

static void fetch1(Bench *b, const Data *d, Split s, int64_t i, void *x, void *y)
{
    void *in[] = { x };
    assert_int_equal(data_fetch(&b->cx, d, s, &i, 1, in, y), ST_OK);
}

/* 24 rows 0, 1, 2 .. of three segments and a gap; classes 0 0 0 1 1 1 2 2 2 ... */
static DataConfig config_indexed(Bench *b)
{
    float x[24];
    signed char y[24];
    for (int r = 0; r < 24; r++) {
        x[r] = (float)r;
        y[r] = (signed char)(r / 3 % 3);
    }
    put_npy(b, "x.npy", "<f4", 24, x, sizeof x);
    put_npy(b, "y.npy", "|i1", 24, y, sizeof y);
    put_text(b, "i.csv", "who,first,rows\nann,0,8\nbob,8,6\nann,16,8\n");
    return (DataConfig){ .format = DATA_NPY,
                         .files = strs(file_x, 1),
                         .target_files = strs(file_y, 1),
                         .index = "i.csv",
                         .index_start = "first",
                         .index_count = "rows",
                         .classification = true,
                         .window = 4,
                         .stride = 2,
                         .split = { 1, 0, 0 } };
}

static void windows_of_an_index(void **state)
{
    Bench *b = *state;
    DataConfig cfg = config_indexed(b);
    static const float starts[] = { 0, 2, 4, 8, 10, 16, 18, 20 };
    float x[4];
    int32_t y;
    Data *d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 8);
    for (int i = 0; i < 8; i++) {
        fetch1(b, d, SPLIT_TRAIN, i, x, &y);
        assert_float_equal(x[0], starts[i], 0);
        assert_float_equal(x[3], starts[i] + 3, 0);
        assert_int_equal(y, (int)(starts[i] + 3) / 3 % 3);
    }
    data_close(d);
    cfg.group = "who";
    cfg.split_by = SPLIT_GROUPS;
    cfg.split_groups[SPLIT_TRAIN] = (StrList)STRS("ann");
    cfg.split_groups[SPLIT_VAL] = (StrList)STRS("bob");
    cfg.eval_stride = 1;
    cfg.scaler = SCALER_MINMAX;
    d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 6);
    assert_int_equal(data_rows(d, SPLIT_VAL), 3);
    fetch1(b, d, SPLIT_VAL, 1, x, &y);
    assert_float_equal(x[0], 9 / 23.0, 1e-6); /* fitted on rows 0 .. 7 and 16 .. 23 */
    data_close(d);
    cfg.split_groups[SPLIT_VAL] = (StrList)STRS("zoe");
    open_fails(b, &cfg, 1, 1, "no group \"zoe\" in column \"who\"");
}

/* What lies outside of all segments is not looked at. */
static void rows_outside_are_free(void **state)
{
    Bench *b = *state;
    DataConfig cfg = config_indexed(b);
    float x[24];
    for (int r = 0; r < 24; r++)
        x[r] = r == 14 ? (float)NAN : (float)r;
    put_npy(b, "x.npy", "<f4", 24, x, sizeof x);
    Data *d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 8);
    data_close(d);
    x[14] = 14, x[13] = (float)NAN;
    put_npy(b, "x.npy", "<f4", 24, x, sizeof x);
    open_fails(b, &cfg, 0, 0, "row 14: column \"x\" has a missing value");
}

static void bad_indices(void **state)
{
    Bench *b = *state;
    DataConfig cfg = config_indexed(b);
    static const struct {
        const char *text;
        int line, col;
        const char *part;
    } bad[] = {
        { "who,first,n\na,0,1\n", 1, 1, "segment: no column \"rows\" for \"count\"" },
        { "who,first,rows\na,0,25\n", 2, 5, "\"rows\" wants a whole number from 0 to 24" },
        { "who,first,rows\na,20,5\n", 2, 6, "\"rows\" wants a whole number from 0 to 4" },
        { "who,first,rows\na,-1,5\n", 2, 3, "\"first\" wants a whole number from 0 to 24" },
        { "who,first,rows\na,1.5,5\n", 2, 3, "\"first\" wants a whole number" },
        { "who,first,rows\na,x,5\n", 2, 3, "\"first\" wants a whole number" },
        { "who,first,rows\na,,5\n", 2, 3, "\"first\" wants a whole number" },
        { "who,first,rows\na,1e300,5\n", 2, 3, "\"first\" wants a whole number" },
        { "who,first,rows\na,nan,5\n", 2, 3, "\"first\" wants a whole number" },
        { "who,first,rows\na,0,9\nb,8,2\n", 3, 3, "row 8 is in an earlier segment too" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text(b, "i.csv", bad[i].text);
        open_fails(b, &cfg, bad[i].line, bad[i].col, bad[i].part);
    }
}

static void majorities(void **state)
{
    Bench *b = *state;
    DataConfig cfg = config_indexed(b);
    cfg.target_rows = TARGET_MAJORITY;
    cfg.stride = 1;
    Data *d = open_ok(b, &cfg);
    static const int32_t wants[] = { 0, 0, 1, 1, 1 }; /* 0001 0011 0111 1112 1122 */
    for (int i = 0; i < 5; i++) {
        float x[4];
        int32_t y;
        fetch1(b, d, SPLIT_TRAIN, i, x, &y);
        assert_int_equal(y, wants[i]);
    }
    assert_int_equal(data_steps(d), 1);
    data_close(d);
}

/* Rows 0 .. 19, v = 100 + row. */
static DataConfig config_series(Bench *b)
{
    Strbuf s = { 0 };
    strbuf_add(&s, "u,v\n");
    for (int r = 0; r < 20; r++)
        strbuf_printf(&s, "%d,%d\n", r, 100 + r);
    put(b, "a.csv", s.s, s.n);
    strbuf_free(&s);
    return (DataConfig){ .format = DATA_CSV,
                         .files = strs(file_a, 1),
                         .features = strs(both, 2),
                         .targets = strs(both_back, 2),
                         .window = 3,
                         .horizon = 1,
                         .stride = 1,
                         .target_rows = TARGET_EACH,
                         .split = { 10, 6, 4 } };
}

static void targets_of_each_row(void **state)
{
    Bench *b = *state;
    DataConfig cfg = config_series(b);
    char label[64];
    float x[6], y[6];
    Data *d = open_ok(b, &cfg);
    assert_string_equal(shape_str(&data_shape(d)->target), "[3,2]");
    assert_int_equal(data_steps(d), 3);
    /* targets 1..3 to 7..9; 10..12 to 13..15 of the rows 10 .. 15; 16..18, 17..19 */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 7);
    assert_int_equal(data_rows(d, SPLIT_VAL), 4);
    assert_int_equal(data_rows(d, SPLIT_TEST), 2);
    fetch1(b, d, SPLIT_VAL, 0, x, y);
    for (int t = 0; t < 3; t++) {
        assert_float_equal(x[2 * t], 9 + t, 0);
        assert_float_equal(y[2 * t], 110 + t, 0);
        assert_float_equal(y[2 * t + 1], 10 + t, 0);
        assert_float_equal(data_persistence(d, SPLIT_VAL, 0, t, 0), 109 + t, 0);
    }
    assert_string_equal(data_row_label(d, SPLIT_VAL, 0, 2, label, sizeof label), "13");
    assert_string_equal(data_target_name(d, 1), "u");
    data_close(d);
    cfg.eval_stride = 3;
    d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 7);
    assert_int_equal(data_rows(d, SPLIT_VAL), 2);  /* 10..12, 13..15 */
    assert_int_equal(data_rows(d, SPLIT_TEST), 1); /* 16..18 */
    data_close(d);
}

/* A missing target takes every window away that would want it, and no more. */
static void a_missing_target_of_each_row(void **state)
{
    Bench *b = *state;
    DataConfig cfg = config_series(b);
    put_text(b, "a.csv", "u,v\n0,0\n1,1\n2,2\n3,3\n4,\n5,5\n6,6\n7,7\n8,8\n9,9\n");
    cfg.targets = (StrList)STRS("v");
    cfg.features = (StrList)STRS("u");
    cfg.missing = MISSING_DROP;
    cfg.split[0] = 10, cfg.split[1] = cfg.split[2] = 0;
    Data *d = open_ok(b, &cfg); /* targets 1..3, 5..7, 6..8, 7..9 */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 4);
    float x[3], y[3];
    fetch1(b, d, SPLIT_TRAIN, 1, x, y);
    assert_float_equal(x[0], 4, 0);
    assert_float_equal(y[0], 5, 0);
    data_close(d);
}

static void what_keys_say_together(void **state)
{
    static const struct {
        const char *data, *part;
        int col;
    } bad[] = {
        { "\"target_rows\": \"each\"", "data.target_rows: wants a window", 63 },
        { "\"window\": 4, \"steps\": 2, \"target_rows\": \"each\"", "wants one horizon, got 2",
          88 },
        { "\"window\": 4, \"horizon\": 1, \"target_rows\": \"majority\"",
          "wants a horizon of 0, got 1", 90 },
        { "\"window\": 4, \"target_rows\": \"each\", \"split_by\": \"random\"",
          "would share targets: wants a stride of 4, got 1", 76 },
        { "\"eval_stride\": 2, \"split_by\": \"random\"", "windows that are drawn have one stride",
          48 },
        { "\"segment\": {\"start\": \"a\"}", "wants \"index\"", 59 },
        { "\"segment\": {\"index\": \"i\", \"end\": \"a\"}", "no such key in segment", 74 },
        { "\"segment\": 7", "wants a string", 59 },
    };
    Bench *b = *state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        Model *m;
        snprintf(text, sizeof text,
                 "{\"data\": {\"npy\": {\"x\": \"x.npy\", \"y\": \"y.npy\"}, %s},"
                 "\"layers\": [{\"type\": \"dense\", \"units\": 2}],"
                 "\"loss\": {\"type\": \"cross_entropy\"}}",
                 bad[i].data);
        const Status s = model_parse(&b->cx, "m.json", text, NULL, 0, &m);
        if (s != ST_VALUE || !strstr(b->cx.msg, bad[i].part) || b->cx.line != 1 ||
            b->cx.col != bad[i].col)
            fail_msg("wants %d \"%s\", got %d %d:%d \"%s\"", bad[i].col, bad[i].part, s, b->cx.line,
                     b->cx.col, b->cx.msg);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(windows_of_an_index),
        TEST(rows_outside_are_free),
        TEST(bad_indices),
        TEST(majorities),
        TEST(targets_of_each_row),
        TEST(a_missing_target_of_each_row),
        TEST(what_keys_say_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
