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
#include <string.h>

#include "ir/base/strbuf.h"
#include "tests/data_folder.h"

/* A vector of f4 and one of i1. */
static void put_npy(Folder *f, const char *name, const char *type, int rows, const void *data,
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
    folder_put(f, name, s.s, s.n);
    strbuf_free(&s);
}

/* For configs that outlive the function that makes them. */
static const char *const file_x[] = { "x.npy" }, *const file_y[] = { "y.npy" },
                         *const file_a[] = { "a.csv" }, *const file_t[] = { "t.txt" },
                         *const both[] = { "u", "v" }, *const both_back[] = { "v", "u" };

static StrList strs(const char *const *at, int n)
{
    return (StrList){ (const char **)(uintptr_t)at, n };
}

/* 24 rows 0, 1, 2 .. of three segments and a gap; classes 0 0 0 1 1 1 2 2 2 ... */
static DataConfig config_indexed(Folder *f)
{
    float x[24];
    signed char y[24];
    for (int r = 0; r < 24; r++) {
        x[r] = (float)r;
        y[r] = (signed char)(r / 3 % 3);
    }
    put_npy(f, "x.npy", "<f4", 24, x, sizeof x);
    put_npy(f, "y.npy", "|i1", 24, y, sizeof y);
    folder_put_text(f, "i.csv", "who,first,rows\nann,0,8\nbob,8,6\nann,16,8\n");
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
    Folder *f = *state;
    DataConfig cfg = config_indexed(f);
    static const float starts[] = { 0, 2, 4, 8, 10, 16, 18, 20 };
    float x[4];
    int32_t y;
    Data *d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 8);
    for (int i = 0; i < 8; i++) {
        folder_fetch(f, d, SPLIT_TRAIN, i, x, &y);
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
    d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 6);
    assert_int_equal(data_rows(d, SPLIT_VAL), 3);
    folder_fetch(f, d, SPLIT_VAL, 1, x, &y);
    assert_float_equal(x[0], 9 / 23.0, 1e-6); /* fitted on rows 0 .. 7 and 16 .. 23 */
    data_close(d);
    cfg.split_groups[SPLIT_VAL] = (StrList)STRS("zoe");
    folder_fails(f, &cfg, 1, 1, "no group \"zoe\" in column \"who\"");
}

/* What lies outside of all segments is not looked at. */
static void rows_outside_are_free(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config_indexed(f);
    float x[24];
    for (int r = 0; r < 24; r++)
        x[r] = r == 14 ? (float)NAN : (float)r;
    put_npy(f, "x.npy", "<f4", 24, x, sizeof x);
    Data *d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 8);
    data_close(d);
    x[14] = 14, x[13] = (float)NAN;
    put_npy(f, "x.npy", "<f4", 24, x, sizeof x);
    folder_fails(f, &cfg, 0, 0, "row 14: column \"x\" has a missing value");
}

static void bad_indices(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config_indexed(f);
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
        folder_put_text(f, "i.csv", bad[i].text);
        folder_fails(f, &cfg, bad[i].line, bad[i].col, bad[i].part);
    }
}

/* Any byte of the index changed, or its end cut off: windows or a message with a place. */
static void damaged_indices(void **state)
{
    Folder *f = *state;
    static const char whole[] = "who,first,rows\nann,0,8\nbob,8,6\nann,16,8\n";
    static const char change[] = "0,9\n\"-. \xff";
    DataConfig cfg = config_indexed(f);
    const char *dirs[] = { f->dir };
    int taken = 0;
    cfg.group = "who";
    for (size_t n = 0; n < sizeof whole - 1; n++)
        for (size_t c = 0; c < sizeof change; c++) { /* the last is NUL: cut */
            char damaged[sizeof whole];
            Data *d;
            memcpy(damaged, whole, sizeof whole);
            damaged[n] = change[c];
            folder_put(f, "i.csv", damaged, change[c] ? sizeof whole - 1 : n);
            f->cx.line = 0;
            const Status s = data_open(&f->cx, &cfg, dirs, 1, 7, NULL, &d);
            taken += s == ST_OK;
            if (s == ST_OK)
                data_close(d);
            else if (s != ST_DATA || !f->cx.msg[0] || (f->cx.line < 1 && n > 14))
                fail_msg("byte %zu is %d: %d \"%s\"", n, change[c], s, f->cx.msg);
        }
    assert_in_range(taken, 50, 400);
}

static void majorities(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config_indexed(f);
    cfg.target_rows = TARGET_MAJORITY;
    cfg.stride = 1;
    Data *d = folder_open(f, &cfg, NULL);
    static const int32_t wants[] = { 0, 0, 1, 1, 1 }; /* 0001 0011 0111 1112 1122 */
    for (int i = 0; i < 5; i++) {
        float x[4];
        int32_t y;
        folder_fetch(f, d, SPLIT_TRAIN, i, x, &y);
        assert_int_equal(y, wants[i]);
    }
    assert_int_equal(data_steps(d), 1);
    data_close(d);
}

/* Rows 0 .. 19, v = 100 + row. */
static DataConfig config_series(Folder *f)
{
    Strbuf s = { 0 };
    strbuf_add(&s, "u,v\n");
    for (int r = 0; r < 20; r++)
        strbuf_printf(&s, "%d,%d\n", r, 100 + r);
    folder_put(f, "a.csv", s.s, s.n);
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
    Folder *f = *state;
    DataConfig cfg = config_series(f);
    char label[64];
    float x[6], y[6];
    Data *d = folder_open(f, &cfg, NULL);
    assert_string_equal(shape_str(&data_shape(d)->target), "[3,2]");
    assert_int_equal(data_steps(d), 3);
    /* targets 1..3 to 7..9; 10..12 to 13..15 of the rows 10 .. 15; 16..18, 17..19 */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 7);
    assert_int_equal(data_rows(d, SPLIT_VAL), 4);
    assert_int_equal(data_rows(d, SPLIT_TEST), 2);
    folder_fetch(f, d, SPLIT_VAL, 0, x, y);
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
    d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 7);
    assert_int_equal(data_rows(d, SPLIT_VAL), 2);  /* 10..12, 13..15 */
    assert_int_equal(data_rows(d, SPLIT_TEST), 1); /* 16..18 */
    data_close(d);
}

/* A missing target takes every window away that would want it, and no more. */
static void a_missing_target_of_each_row(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config_series(f);
    folder_put_text(f, "a.csv", "u,v\n0,0\n1,1\n2,2\n3,3\n4,\n5,5\n6,6\n7,7\n8,8\n9,9\n");
    cfg.targets = (StrList)STRS("v");
    cfg.features = (StrList)STRS("u");
    cfg.missing = MISSING_DROP;
    cfg.split[0] = 10, cfg.split[1] = cfg.split[2] = 0;
    Data *d = folder_open(f, &cfg, NULL); /* targets 1..3, 5..7, 6..8, 7..9 */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 4);
    float x[3], y[3];
    folder_fetch(f, d, SPLIT_TRAIN, 1, x, y);
    assert_float_equal(x[0], 4, 0);
    assert_float_equal(y[0], 5, 0);
    data_close(d);
}

static DataConfig config_text(Folder *f, const char *text)
{
    folder_put_text(f, "t.txt", text);
    return (DataConfig){ .format = DATA_TEXT,
                         .files = strs(file_t, 1),
                         .category_as = CATEGORY_INDEX,
                         .classification = true,
                         .window = 3,
                         .stride = 1,
                         .target_rows = TARGET_EACH,
                         .split = { 0.5, 0.5, 0 } };
}

/* Characters as numbers, the next ones as classes; what the train half lacks is no character. */
static void characters_by_number(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config_text(f, "cab\xc3\xa9"
                                    "bacabzabc");
    int32_t x[3], y[3];
    char label[16];
    Data *d = folder_open(f, &cfg, NULL); /* 13 characters, 7 to train on */
    const DataShape *s = data_shape(d);
    assert_int_equal(s->words, 4);
    assert_int_equal(s->nclass, 4);
    assert_string_equal(shape_str(&s->input[0].shape), "[3]");
    assert_string_equal(shape_str(&s->target), "[3]");
    assert_string_equal(data_fit(d)->classes.at[3], "\xc3\xa9");
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 4);
    folder_fetch(f, d, SPLIT_TRAIN, 1, x, y);
    static const int32_t x1[] = { 0, 1, 3 }, y1[] = { 1, 3, 1 };
    assert_memory_equal(x, x1, sizeof x);
    assert_memory_equal(y, y1, sizeof y);
    /* of c a b z a b c, three targets from row 7 on without z: none has z before or behind it */
    assert_int_equal(data_rows(d, SPLIT_VAL), 0);
    assert_non_null(strstr(f->log, "1 characters are not among the 4 of the train split"));
    assert_string_equal(data_row_label(d, SPLIT_TRAIN, 0, 0, label, sizeof label), "2");

    DataConfig other = config_text(f, "abcb");
    other.future = true;
    other.split[0] = other.split[1] = 0, other.split[2] = 1;
    Data *e = folder_open(f, &other, data_fit(d));
    assert_int_equal(data_rows(e, SPLIT_TEST), 2);
    folder_fetch(f, e, SPLIT_TEST, 1, x, y);
    static const int32_t x2[] = { 1, 2, 1 }, y2[] = { 2, 1, -1 };
    assert_memory_equal(x, x2, sizeof x);
    assert_memory_equal(y, y2, sizeof y);
    data_close(e);
    data_close(d);
}

/* One-hot, an unknown character is all zeros, and only its own prediction is not scored. */
static void characters_one_hot(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config_text(f, "abababzababa");
    cfg.category_as = CATEGORY_ONE_HOT;
    cfg.target_rows = TARGET_LAST;
    float x[6];
    int32_t y;
    Data *d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_shape(d)->words, 0);
    assert_string_equal(shape_str(&data_shape(d)->input[0].shape), "[3,2]");
    assert_int_equal(data_rows(d, SPLIT_VAL), 5);
    folder_fetch(f, d, SPLIT_VAL, 0, x, &y); /* a b z: a */
    static const float x1[] = { 1, 0, 0, 1, 0, 0 };
    assert_memory_equal(x, x1, sizeof x);
    assert_int_equal(y, 0);
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
    Folder *f = *state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        Model *m;
        snprintf(text, sizeof text,
                 "{\"data\": {\"npy\": {\"x\": \"x.npy\", \"y\": \"y.npy\"}, %s},"
                 "\"layers\": [{\"type\": \"dense\", \"units\": 2}],"
                 "\"loss\": {\"type\": \"cross_entropy\"}}",
                 bad[i].data);
        const Status s = model_parse(&f->cx, "m.json", text, NULL, 0, &m);
        if (s != ST_VALUE || !strstr(f->cx.msg, bad[i].part) || f->cx.line != 1 ||
            f->cx.col != bad[i].col)
            fail_msg("wants %d \"%s\", got %d %d:%d \"%s\"", bad[i].col, bad[i].part, s, f->cx.line,
                     f->cx.col, f->cx.msg);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {
        TEST(windows_of_an_index),
        TEST(rows_outside_are_free),
        TEST(bad_indices),
        TEST(damaged_indices),
        TEST(majorities),
        TEST(targets_of_each_row),
        TEST(a_missing_target_of_each_row),
        TEST(characters_by_number),
        TEST(characters_one_hot),
        TEST(what_keys_say_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
