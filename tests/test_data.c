/* SPDX-License-Identifier: Apache-2.0 */
/* Windows, splits, scalers, missing values and persistence; files are written into a fresh folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/strbuf.h"
#include "tests/data_folder.h"

static const char *const file_a[] = { "a.csv" };

static DataConfig config_csv(void)
{
    return (DataConfig){ .format = DATA_CSV,
                         .files = { (const char **)(uintptr_t)file_a, 1 },
                         .stride = 1,
                         .split = { 0.6, 0.2, 0.2 },
                         .pixel_scale = 1 / 255.0 };
}

/* Columns u = row, v = 100 + row * row. */
static void put_series(Folder *f, int rows, const char *gap)
{
    Strbuf s = { 0 };
    strbuf_add(&s, "u,v\n");
    for (int r = 0; r < rows; r++)
        if (gap && gap[r] == 'u')
            strbuf_printf(&s, "NA,%d\n", 100 + r * r);
        else if (gap && gap[r] == 'v')
            strbuf_printf(&s, "%d,\n", r);
        else
            strbuf_printf(&s, "%d,%d\n", r, 100 + r * r);
    folder_put(f, "a.csv", s.s, s.n);
    strbuf_free(&s);
}

static void windows_and_splits(void **state)
{
    Folder *f = *state;
    put_series(f, 20, NULL);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.window = 3;
    cfg.horizon = 2;
    Data *d = folder_open(f, &cfg, NULL);
    /* train targets: rows 4..11, val: 12..15, test: 16..19 */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 8);
    assert_int_equal(data_rows(d, SPLIT_VAL), 4);
    assert_int_equal(data_rows(d, SPLIT_TEST), 4);
    const DataShape *s = data_shape(d);
    assert_int_equal(s->ninput, 1);
    assert_string_equal(s->input[0].name, "x");
    assert_string_equal(shape_str(&s->input[0].shape), "[3,2]");
    assert_string_equal(shape_str(&s->target), "[1]");
    float x[6], y[1];
    char buf[64];
    folder_fetch(f, d, SPLIT_VAL, 0, x, y); /* target row 12: inputs 8 9 10 */
    for (int i = 0; i < 6; i++)
        assert_float_equal(x[i], (i % 2 ? 100 + (8 + i / 2) * (8 + i / 2) : 8 + i / 2), 0);
    assert_float_equal(y[0], 244, 0);
    assert_string_equal(data_row_label(d, SPLIT_VAL, 0, 0, buf, sizeof buf), "13");
    assert_true(data_has_persistence(d));
    assert_float_equal(data_persistence(d, SPLIT_VAL, 0, 0, 0), 200, 0);
    assert_string_equal(data_target_name(d, 0), "v");
    const int64_t far = 4;
    assert_int_equal(data_fetch(&f->cx, d, SPLIT_TEST, &far, 1, NULL, y), ST_VALUE);
    data_close(d);

    cfg.split[0] = 10, cfg.split[1] = 3, cfg.split[2] = 2; /* rows; the rest is unused */
    cfg.stride = 2;
    d = folder_open(f, &cfg, NULL); /* ends 2 4 6 ..: targets 4 6 8 | 10 12 | 14 */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 3);
    assert_int_equal(data_rows(d, SPLIT_VAL), 2);
    assert_int_equal(data_rows(d, SPLIT_TEST), 1);
    data_close(d);
    cfg.split[0] = 100;
    folder_refuses(f, &cfg, ST_VALUE, "wants 105 rows");
}

static void several_horizons(void **state)
{
    Folder *f = *state;
    put_series(f, 20, NULL);
    DataConfig cfg = config_csv();
    int h[] = { 1, 4 };
    cfg.targets = (StrList)STRS("v", "u");
    cfg.window = 2;
    cfg.horizons = h, cfg.nhorizons = 2;
    cfg.target_scaler = SCALER_STANDARD;
    Data *d = folder_open(f, &cfg, NULL);
    /* both targets within a split: ends 1..7 | 11 | 15 */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 7);
    assert_int_equal(data_rows(d, SPLIT_VAL), 1);
    assert_string_equal(shape_str(&data_shape(d)->target), "[4]");
    float x[4], y[4];
    folder_fetch(f, d, SPLIT_TRAIN, 0, x, y);
    assert_float_equal(data_unscale(d, 0, (double)y[0]), 104, 1e-4);
    assert_float_equal(data_unscale(d, 1, (double)y[1]), 2, 1e-5);
    assert_float_equal(data_unscale(d, 2, (double)y[2]), 125, 1e-4);
    assert_float_equal(data_unscale(d, 3, (double)y[3]), 5, 1e-5);
    assert_string_equal(data_target_name(d, 2), "v+4");
    assert_float_equal(data_persistence(d, SPLIT_TRAIN, 0, 0, 3), 1, 0);
    data_close(d);
}

static void rows_without_windows(void **state)
{
    Folder *f = *state;
    put_series(f, 10, NULL);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    Data *d = folder_open(f, &cfg, NULL);
    assert_string_equal(shape_str(&data_shape(d)->input[0].shape), "[1]"); /* not the target */
    assert_int_equal(data_fit(d)->features.n, 1);
    assert_string_equal(data_fit(d)->features.at[0], "u");
    assert_false(data_has_persistence(d));
    float x[1], y[1];
    folder_fetch(f, d, SPLIT_TEST, 1, x, y);
    assert_float_equal(x[0], 9, 0);
    assert_float_equal(y[0], 181, 0);
    data_close(d);
    cfg.features = (StrList)STRS("u", "v");
    folder_refuses(f, &cfg, ST_VALUE, "see the answer");
    cfg.features = (StrList)STRS("V");
    folder_refuses(f, &cfg, ST_DATA, "did you mean \"v\"");
    cfg.features = (StrList)STRS("pressure");
    folder_refuses(f, &cfg, ST_DATA, "there are u, v");
}

static void scalers_on_train_rows(void **state)
{
    Folder *f = *state;
    put_series(f, 20, NULL);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.window = 2;
    cfg.horizon = 1;
    cfg.scaler = SCALER_MINMAX;
    cfg.target_scaler = SCALER_STANDARD;
    Data *d = folder_open(f, &cfg, NULL);
    const DataFit *fit = data_fit(d);
    /* train: targets 2..11, inputs 0..10 */
    assert_float_equal(fit->x.shift[0], 0, 0);
    assert_float_equal(fit->x.scale[0], 10, 0);
    assert_float_equal(fit->x.scale[1], 100, 0);
    double sum = 0, square = 0;
    for (int r = 2; r < 12; r++)
        sum += 100 + r * r;
    for (int r = 2; r < 12; r++)
        square += (100 + r * r - sum / 10) * (100 + r * r - sum / 10);
    assert_float_equal(fit->y.shift[0], sum / 10, 1e-12);
    assert_float_equal(fit->y.scale[0], sqrt(square / 10), 1e-12);
    data_close(d);

    folder_put_text(f, "a.csv", "u,v\n0.1,1\n0.1,2\n0.1,3\n0.1,4\n0.1,5\n0.1,6\n");
    cfg.window = 0, cfg.horizon = 0;
    cfg.scaler = SCALER_STANDARD;
    d = folder_open(f, &cfg, NULL); /* a constant column */
    assert_float_equal(data_fit(d)->x.scale[0], 1, 0);
    float x[1], y[1];
    folder_fetch(f, d, SPLIT_TRAIN, 0, x, y);
    assert_float_equal(x[0], 0, 0);
    data_close(d);
}

static void missing_policies(void **state)
{
    Folder *f = *state;
    const char gap[] = "v........vv..u......"; /* by row */
    put_series(f, 20, gap);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.window = 3, cfg.horizon = 1;
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0;
    cfg.missing = MISSING_ERROR;
    folder_refuses(f, &cfg, ST_DATA, "\"v\" has a missing value");
    assert_int_equal(f->cx.line, 2);
    assert_int_equal(f->cx.col, 3);

    float x[6], y[1];
    cfg.missing = MISSING_DROP; /* ends 3..7 (8: target missing), 17, 18 and 12? (row 10 gone) */
    Data *d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 5 + 3);
    data_close(d);

    cfg.missing = MISSING_FFILL; /* row 0 stays missing: ends 3..18 but 8 and 9 */
    d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 14);
    folder_fetch(f, d, SPLIT_TRAIN, 5, x, y); /* end 10 */
    assert_float_equal(x[1], 164, 0);
    assert_float_equal(x[3], 164, 0);
    assert_float_equal(x[5], 164, 0);
    assert_float_equal(y[0], 221, 0);
    assert_float_equal(data_persistence(d, SPLIT_TRAIN, 5, 0, 0), 164, 0);
    data_close(d);

    cfg.missing = MISSING_INTERPOLATE;
    d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 14);
    folder_fetch(f, d, SPLIT_TRAIN, 5, x, y); /* end 10: 11 is not to be seen */
    assert_float_equal(x[3], 164, 0);
    assert_float_equal(x[5], 164, 0);
    folder_fetch(f, d, SPLIT_TRAIN, 6, x, y); /* end 11 */
    assert_float_equal(x[1], 164 + 57 / 3.0, 1e-4);
    assert_float_equal(x[3], 164 + 2 * 57 / 3.0, 1e-4);
    assert_float_equal(x[5], 221, 0);
    data_close(d);

    cfg.missing = MISSING_VALUE;
    cfg.missing_value = -5;
    d = folder_open(f, &cfg,
                    NULL); /* ends 2..18 but 8 and 9: a missing target is never trained on */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 15);
    folder_fetch(f, d, SPLIT_TRAIN, 0, x, y);
    assert_float_equal(x[1], -5, 0);
    data_close(d);
}

/* What is known of one run says nothing of the next. */
static void missing_at_a_run(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config_csv();
    cfg.features = cfg.targets = (StrList)STRS("v");
    cfg.categories = (StrList)STRS("w");
    cfg.segment = "s";
    cfg.window = 1, cfg.horizon = 1;
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0;
    static const Missing policy[] = { MISSING_FFILL, MISSING_INTERPOLATE };
    for (int m = 0; m < 2; m++) {
        cfg.missing = policy[m];
        folder_put_text(f, "a.csv", "s,v,w\n1,1,p\n1,,q\n1,3,p\n2,,p\n2,5,p\n2,6,q\n2,7,p\n");
        Data *d = folder_open(f, &cfg, NULL); /* ends 1, 4, 5: row 3 has no past */
        assert_int_equal(data_rows(d, SPLIT_TRAIN), 3);
        float x[3], y[1];
        folder_fetch(f, d, SPLIT_TRAIN, 0, x, y);
        assert_float_equal(x[0], 1, 0);
        assert_float_equal(x[2], 1, 0);
        folder_fetch(f, d, SPLIT_TRAIN, 1, x, y);
        assert_float_equal(x[0], 5, 0);
        data_close(d);
        folder_put_text(f, "a.csv", "s,v,w\n1,1,p\n1,2,q\n1,3,p\n2,4,\n2,5,p\n2,6,\n2,7,p\n");
        d = folder_open(f, &cfg, NULL); /* ends 0, 1, 4, 5 */
        assert_int_equal(data_rows(d, SPLIT_TRAIN), 4);
        folder_fetch(f, d, SPLIT_TRAIN, 3, x, y);
        assert_float_equal(x[1], 1, 0);
        data_close(d);
    }
}

static void groups_and_segments(void **state)
{
    Folder *f = *state;
    Strbuf s = { 0 };
    strbuf_add(&s, "who,u,v\n");
    for (int r = 0; r < 30; r++)
        strbuf_printf(&s, "%s,%d,%d\n", r < 10 ? "ann" : r < 20 ? "bob" : "eve", r, r);
    folder_put(f, "a.csv", s.s, s.n);
    strbuf_free(&s);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.window = 4, cfg.horizon = 1;
    cfg.segment = "who";
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0;
    Data *d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 3 * 6);
    data_close(d);
    cfg.segment = NULL;
    cfg.group = "who";
    cfg.split_by = SPLIT_GROUPS;
    cfg.split_groups[SPLIT_TRAIN] = (StrList)STRS("eve");
    cfg.split_groups[SPLIT_TEST] = (StrList)STRS("ann");
    d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 6);
    assert_int_equal(data_rows(d, SPLIT_VAL), 0);
    assert_int_equal(data_rows(d, SPLIT_TEST), 6);
    float x[8], y[1];
    folder_fetch(f, d, SPLIT_TRAIN, 0, x, y);
    assert_float_equal(x[0], 20, 0);
    data_close(d);
    cfg.split_groups[SPLIT_VAL] = (StrList)STRS("zoe");
    folder_refuses(f, &cfg, ST_DATA, "no group \"zoe\"");
    cfg.split_groups[SPLIT_VAL] = (StrList)STRS("ann");
    folder_refuses(f, &cfg, ST_VALUE, "in two splits");
    cfg.split_by = SPLIT_RANDOM; /* whole groups, drawn */
    cfg.split[0] = cfg.split[1] = cfg.split[2] = 1 / 3.0;
    d = folder_open(f, &cfg, NULL);
    for (int k = 0; k < 3; k++)
        assert_int_equal(data_rows(d, (Split)k), 6);
    data_close(d);
}

static void random_split(void **state)
{
    Folder *f = *state;
    put_series(f, 100, NULL);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.split_by = SPLIT_RANDOM;
    Data *d = folder_open(f, &cfg, NULL);
    int seen[100] = { 0 }, moved = 0;
    for (int s = 0, at = 0; s < 3; s++)
        for (int64_t i = 0; i < data_rows(d, (Split)s); i++, at++) {
            float x[1];
            folder_fetch(f, d, (Split)s, i, x, NULL);
            seen[(int)x[0]]++;
            moved += (int)x[0] != at;
        }
    for (int i = 0; i < 100; i++)
        assert_int_equal(seen[i], 1);
    assert_true(moved > 50);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 60);
    data_close(d);
}

static void categories_and_classes(void **state)
{
    Folder *f = *state;
    folder_put_text(f, "a.csv",
                    "wind,u,kind\nNE,1,\"b, or c\"\nSW,2,a\ncv,3,a\nNE,4,\"b, or c\"\nSW,5,a\n");
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("kind");
    cfg.categories = (StrList)STRS("wind");
    cfg.classification = true;
    Data *d = folder_open(f, &cfg, NULL);
    const DataFit *fit = data_fit(d);
    assert_int_equal(fit->classes.n, 2);
    assert_string_equal(fit->classes.at[1], "b, or c");
    assert_int_equal(data_shape(d)->nclass, 2);
    assert_int_equal(data_shape(d)->target.rank, 0);
    assert_int_equal(fit->features.n, 4);
    assert_string_equal(fit->features.at[3], "wind=cv");
    float x[4];
    int32_t y[1];
    folder_fetch(f, d, SPLIT_TRAIN, 1, x, y);
    assert_int_equal(y[0], 0);
    assert_float_equal(x[0], 2, 0);
    assert_float_equal(x[1] + x[3], 0, 0);
    assert_float_equal(x[2], 1, 0);

    /* the same fit on other data: an unseen category, no target */
    folder_put_text(f, "a.csv", "u,wind\n8,N\n9,cv\n");
    cfg.split[0] = cfg.split[1] = 0, cfg.split[2] = 1;
    Data *e = folder_open(f, &cfg, fit);
    assert_false(data_has_targets(e));
    assert_int_equal(data_rows(e, SPLIT_TEST), 2);
    folder_fetch(f, e, SPLIT_TEST, 0, x, y);
    assert_float_equal(x[0], 8, 0);
    assert_float_equal(x[1] + x[2] + x[3], 0, 0);
    assert_non_null(strstr(f->log, "unknown to the model"));
    data_close(e);
    folder_put_text(f, "a.csv", "u,wind,kind\n8,SW,q\n9,cv,a\n");
    const char *dirs[] = { f->dir };
    assert_int_equal(data_open(&f->cx, &cfg, dirs, 1, 7, fit, &e), ST_DATA);
    assert_non_null(strstr(f->cx.msg, "none of the 2 known classes"));
    assert_int_equal(f->cx.line, 2);
    assert_int_equal(f->cx.col, 6);
    data_close(d);
}

static void files_joined_by_time(void **state)
{
    Folder *f = *state;
    folder_put_text(f, "a.csv", "when,t\n2014-01-01,1\n2014-01-02,2\n2014-01-03,3\n2014-01-05,5\n");
    folder_put_text(f, "b.csv",
                    "t;when\r\n30;03/01/2014\r\n20;02/01/2014\r\n130;13/01/2014\r\n50;05/01/2014");
    DataConfig cfg = config_csv();
    cfg.files = (StrList)STRS("a.csv", "b.csv");
    cfg.targets = (StrList)STRS("t");
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0;
    folder_refuses(f, &cfg, ST_DATA, "no column \"t\""); /* it is a.t or b.t */
    cfg.targets = (StrList)STRS("b.t");
    folder_put_text(f, "a.csv", "when,t\n2014-01-01,1\n2014-01-02,2\n2014-01-05,5\n");
    folder_refuses(f, &cfg, ST_DATA, "name their \"time\" column");
    cfg.time = "when";
    Data *d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 2);
    float x[1], y[1];
    char buf[32];
    folder_fetch(f, d, SPLIT_TRAIN, 1, x, y);
    assert_float_equal(x[0], 5, 0);
    assert_float_equal(y[0], 50, 0);
    assert_string_equal(data_row_label(d, SPLIT_TRAIN, 1, 0, buf, sizeof buf), "2014-01-05");
    data_close(d);
}

/* Without targets there are forecasts beyond the last row. */
static void forecasts_ahead(void **state)
{
    Folder *f = *state;
    put_series(f, 20, NULL);
    DataConfig cfg = config_csv();
    cfg.features = (StrList)STRS("u");
    cfg.targets = (StrList)STRS("v");
    cfg.window = 3, cfg.horizon = 2;
    Data *d = folder_open(f, &cfg, NULL);
    folder_put_text(f, "a.csv", "u\n0\n1\n2\n3\n4\n");
    cfg.split[0] = cfg.split[1] = 0, cfg.split[2] = 1;
    Data *e = folder_open(f, &cfg, data_fit(d));
    assert_int_equal(data_rows(e, SPLIT_TEST), 3);
    float x[3], y[1];
    char buf[16];
    folder_fetch(f, e, SPLIT_TEST, 2, x, y);
    assert_float_equal(x[2], 4, 0);
    assert_true(isnan(y[0]));
    assert_string_equal(data_row_label(e, SPLIT_TEST, 2, 0, buf, sizeof buf), "7");
    assert_string_equal(data_target_name(e, 0), "v");
    assert_false(data_has_targets(e) || data_has_persistence(e));
    data_close(e);
    data_close(d);
    folder_refuses(f, &cfg, ST_DATA, "no column \"v\"");
}

static void bad_classes_and_dates(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config_csv();
    folder_put_text(f, "a.csv", "u,k\n1,0\n2,1\n3,1.5\n4,0\n");
    cfg.targets = (StrList)STRS("k");
    cfg.classification = true;
    folder_refuses(f, &cfg, ST_DATA, "wants a text or an integer, got 1.5");
    assert_int_equal(f->cx.line, 4);
    folder_put_text(f, "a.csv", "u,k\n1,10\n2,9\n3,\n4,9\n5,9\n");
    folder_refuses(f, &cfg, ST_DATA, "\"k\" has a missing value");
    cfg.missing = MISSING_DROP;
    Data *d = folder_open(f, &cfg, NULL);
    assert_string_equal(data_fit(d)->classes.at[0], "9"); /* by value */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 2);
    data_close(d);

    cfg = config_csv();
    cfg.files = (StrList)STRS("a.csv", "b.csv");
    cfg.targets = (StrList)STRS("v");
    cfg.time = "t";
    folder_put_text(f, "a.csv", "t,u\n03/04/2014,1\n04/04/2014,2\n");
    folder_put_text(f, "b.csv", "t,v\n2014-04-03,1\n");
    folder_refuses(f, &cfg, ST_DATA, "cannot tell day from month");
    folder_put_text(f, "a.csv", "t,u\n13/04/2014,1\nsoon,2\n");
    folder_refuses(f, &cfg, ST_DATA, "wants a date or a number, got \"soon\"");
    assert_int_equal(f->cx.line, 3);
    folder_put_text(f, "a.csv", "t,u\n13/04/2014,1\n13/04/2014,2\n");
    folder_refuses(f, &cfg, ST_DATA, "appears twice");
    folder_put_text(f, "a.csv", "t,u\n13/04/2014,1\n14/04/2014,2\n");
    folder_refuses(f, &cfg, ST_DATA, "no time in common");
}

/* Windows that end at row t do not change when all rows after t do. */
static void no_leak(void **state)
{
    Folder *f = *state;
    const char gap[] = "v........u......vv...u....v...";
    put_series(f, 30, gap);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.window = 5, cfg.horizon = 2;
    cfg.scaler = cfg.target_scaler = SCALER_STANDARD;
    static const Missing policy[] = { MISSING_DROP, MISSING_FFILL, MISSING_INTERPOLATE,
                                      MISSING_VALUE };
    for (size_t m = 0; m < sizeof policy / sizeof *policy; m++) {
        cfg.missing = policy[m];
        cfg.split[0] = 0.6, cfg.split[1] = cfg.split[2] = 0.2;
        put_series(f, 30, gap);
        Data *d = folder_open(f, &cfg, NULL);
        for (int t = 6; t < 27; t++) {
            Strbuf s = { 0 };
            strbuf_add(&s, "u,v\n");
            for (int r = 0; r < 30; r++)
                if (r > t)
                    strbuf_add(&s, "777,-777\n");
                else
                    strbuf_printf(&s,
                                  gap[r] == 'u'   ? ",%d\n"
                                  : gap[r] == 'v' ? "%d,NA\n"
                                                  : "%d,%d\n",
                                  gap[r] == 'u' ? 100 + r * r : r, 100 + r * r);
            folder_put(f, "a.csv", s.s, s.n);
            strbuf_free(&s);
            Data *e = folder_open(f, &cfg, data_fit(d));
            int compared = 0;
            for (int k = 0; k < 3; k++)
                for (int64_t i = 0; i < data_rows(d, (Split)k); i++) {
                    char la[32], lb[32];
                    float xa[10], xb[10];
                    data_row_label(d, (Split)k, i, 0, la, sizeof la);
                    if (atoi(la) - 1 - cfg.horizon > t)
                        continue;
                    int64_t j = 0; /* the same window: a target may have come to be known */
                    while (j < data_rows(e, (Split)k) &&
                           strcmp(la, data_row_label(e, (Split)k, j, 0, lb, sizeof lb)))
                        j++;
                    assert_true(j < data_rows(e, (Split)k));
                    folder_fetch(f, d, (Split)k, i, xa, NULL);
                    folder_fetch(f, e, (Split)k, j, xb, NULL);
                    assert_memory_equal(xa, xb, sizeof xa);
                    compared++;
                }
            assert_true(compared > 0);
            data_close(e);
        }
        data_close(d);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {
        TEST(windows_and_splits),    TEST(several_horizons), TEST(rows_without_windows),
        TEST(scalers_on_train_rows), TEST(missing_policies), TEST(missing_at_a_run),
        TEST(groups_and_segments),   TEST(random_split),     TEST(categories_and_classes),
        TEST(files_joined_by_time),  TEST(no_leak),          TEST(forecasts_ahead),
        TEST(bad_classes_and_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
