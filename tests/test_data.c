/* SPDX-License-Identifier: Apache-2.0 */
/* Windows, splits, scalers, missing values and persistence; files are written into a fresh folder.
 */
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
    char log[4096];
} Bench;

static void log_keep(void *arg, LogLevel level, const char *text)
{
    char *log = arg;
    size_t n = strlen(log);
    (void)level;
    snprintf(log + n, 4096 - n, "%s\n", text);
}

static int setup(void **state)
{
    Bench *b = calloc(1, sizeof *b);
    ctx_init(&b->cx);
    b->cx.log = log_keep;
    b->cx.log_arg = b->log;
    strcpy(b->dir, "/tmp/gtc_test_data_XXXXXX");
    *state = b;
    return mkdtemp(b->dir) == NULL;
}

static int teardown(void **state)
{
    Bench *b = *state;
    static const char *const name[] = { "a.csv", "b.csv", "t.csv", "x.npy", "y.npy",
                                        "i.idx", "l.idx", "s.wav", "t.txt" };
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

static const char *const file_a[] = { "a.csv" };

static DataConfig config_csv(void)
{
    return (DataConfig){ .format = DATA_CSV,
                         .files = { (const char **)(uintptr_t)file_a, 1 },
                         .stride = 1,
                         .split = { 0.6, 0.2, 0.2 },
                         .pixel_scale = 1 / 255.0 };
}

#define STRS(...)                                                                                  \
    {                                                                                              \
        .at = (const char *[]){ __VA_ARGS__ },                                                     \
        .n = sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(const char *)                        \
    }

static Status open_fit(Bench *b, const DataConfig *cfg, const DataFit *fit, Data **d)
{
    const char *dirs[] = { b->dir };
    return data_open(&b->cx, cfg, dirs, 1, 7, fit, d);
}

static Data *open_ok(Bench *b, const DataConfig *cfg)
{
    Data *d = NULL;
    if (open_fit(b, cfg, NULL, &d) != ST_OK)
        fail_msg("%s:%d:%d: %s", b->cx.file, b->cx.line, b->cx.col, b->cx.msg);
    return d;
}

static void open_fails(Bench *b, const DataConfig *cfg, Status code, const char *part)
{
    Data *d = NULL;
    const Status s = open_fit(b, cfg, NULL, &d);
    if (s != code || !strstr(b->cx.msg, part))
        fail_msg("wants %d \"%s\", got %d \"%s\"", code, part, s, b->cx.msg);
    assert_null(d);
}

static void fetch1(Bench *b, const Data *d, Split s, int64_t i, float *x, void *y)
{
    void *in[] = { x };
    assert_int_equal(data_fetch(&b->cx, d, s, &i, 1, in, y), ST_OK);
}

/* Columns u = row, v = 100 + row * row. */
static void put_series(Bench *b, int rows, const char *gap)
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
    put(b, "a.csv", s.s, s.n);
    strbuf_free(&s);
}

static void windows_and_splits(void **state)
{
    Bench *b = *state;
    put_series(b, 20, NULL);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.window = 3;
    cfg.horizon = 2;
    Data *d = open_ok(b, &cfg);
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
    fetch1(b, d, SPLIT_VAL, 0, x, y); /* target row 12: inputs 8 9 10 */
    for (int i = 0; i < 6; i++)
        assert_float_equal(x[i], (i % 2 ? 100 + (8 + i / 2) * (8 + i / 2) : 8 + i / 2), 0);
    assert_float_equal(y[0], 244, 0);
    assert_string_equal(data_row_label(d, SPLIT_VAL, 0, 0, buf, sizeof buf), "13");
    assert_true(data_has_persistence(d));
    assert_float_equal(data_persistence(d, SPLIT_VAL, 0, 0, 0), 200, 0);
    assert_string_equal(data_target_name(d, 0), "v");
    const int64_t far = 4;
    assert_int_equal(data_fetch(&b->cx, d, SPLIT_TEST, &far, 1, NULL, y), ST_VALUE);
    data_close(d);

    cfg.split[0] = 10, cfg.split[1] = 3, cfg.split[2] = 2; /* rows; the rest is unused */
    cfg.stride = 2;
    d = open_ok(b, &cfg); /* ends 2 4 6 ..: targets 4 6 8 | 10 12 | 14 */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 3);
    assert_int_equal(data_rows(d, SPLIT_VAL), 2);
    assert_int_equal(data_rows(d, SPLIT_TEST), 1);
    data_close(d);
    cfg.split[0] = 100;
    open_fails(b, &cfg, ST_VALUE, "wants 105 rows");
}

static void several_horizons(void **state)
{
    Bench *b = *state;
    put_series(b, 20, NULL);
    DataConfig cfg = config_csv();
    int h[] = { 1, 4 };
    cfg.targets = (StrList)STRS("v", "u");
    cfg.window = 2;
    cfg.horizons = h, cfg.nhorizons = 2;
    cfg.target_scaler = SCALER_STANDARD;
    Data *d = open_ok(b, &cfg);
    /* both targets within a split: ends 1..7 | 11 | 15 */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 7);
    assert_int_equal(data_rows(d, SPLIT_VAL), 1);
    assert_string_equal(shape_str(&data_shape(d)->target), "[4]");
    float x[4], y[4];
    fetch1(b, d, SPLIT_TRAIN, 0, x, y);
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
    Bench *b = *state;
    put_series(b, 10, NULL);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    Data *d = open_ok(b, &cfg);
    assert_string_equal(shape_str(&data_shape(d)->input[0].shape), "[1]"); /* not the target */
    assert_int_equal(data_fit(d)->features.n, 1);
    assert_string_equal(data_fit(d)->features.at[0], "u");
    assert_false(data_has_persistence(d));
    float x[1], y[1];
    fetch1(b, d, SPLIT_TEST, 1, x, y);
    assert_float_equal(x[0], 9, 0);
    assert_float_equal(y[0], 181, 0);
    data_close(d);
    cfg.features = (StrList)STRS("u", "v");
    open_fails(b, &cfg, ST_VALUE, "see the answer");
    cfg.features = (StrList)STRS("V");
    open_fails(b, &cfg, ST_DATA, "did you mean \"v\"");
    cfg.features = (StrList)STRS("pressure");
    open_fails(b, &cfg, ST_DATA, "there are u, v");
}

static void scalers_on_train_rows(void **state)
{
    Bench *b = *state;
    put_series(b, 20, NULL);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.window = 2;
    cfg.horizon = 1;
    cfg.scaler = SCALER_MINMAX;
    cfg.target_scaler = SCALER_STANDARD;
    Data *d = open_ok(b, &cfg);
    const DataFit *f = data_fit(d);
    /* train: targets 2..11, inputs 0..10 */
    assert_float_equal(f->x.shift[0], 0, 0);
    assert_float_equal(f->x.scale[0], 10, 0);
    assert_float_equal(f->x.scale[1], 100, 0);
    double sum = 0, square = 0;
    for (int r = 2; r < 12; r++)
        sum += 100 + r * r;
    for (int r = 2; r < 12; r++)
        square += (100 + r * r - sum / 10) * (100 + r * r - sum / 10);
    assert_float_equal(f->y.shift[0], sum / 10, 1e-12);
    assert_float_equal(f->y.scale[0], sqrt(square / 10), 1e-12);
    data_close(d);

    put_text(b, "a.csv", "u,v\n0.1,1\n0.1,2\n0.1,3\n0.1,4\n0.1,5\n0.1,6\n");
    cfg.window = 0, cfg.horizon = 0;
    cfg.scaler = SCALER_STANDARD;
    d = open_ok(b, &cfg); /* a constant column */
    assert_float_equal(data_fit(d)->x.scale[0], 1, 0);
    float x[1], y[1];
    fetch1(b, d, SPLIT_TRAIN, 0, x, y);
    assert_float_equal(x[0], 0, 0);
    data_close(d);
}

static void missing_policies(void **state)
{
    Bench *b = *state;
    const char gap[] = "v........vv..u......"; /* by row */
    put_series(b, 20, gap);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.window = 3, cfg.horizon = 1;
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0;
    cfg.missing = MISSING_ERROR;
    open_fails(b, &cfg, ST_DATA, "\"v\" has a missing value");
    assert_int_equal(b->cx.line, 2);
    assert_int_equal(b->cx.col, 3);

    float x[6], y[1];
    cfg.missing = MISSING_DROP; /* ends 3..7 (8: target missing), 17, 18 and 12? (row 10 gone) */
    Data *d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 5 + 3);
    data_close(d);

    cfg.missing = MISSING_FFILL; /* row 0 stays missing: ends 3..18 but 8 and 9 */
    d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 14);
    fetch1(b, d, SPLIT_TRAIN, 5, x, y); /* end 10 */
    assert_float_equal(x[1], 164, 0);
    assert_float_equal(x[3], 164, 0);
    assert_float_equal(x[5], 164, 0);
    assert_float_equal(y[0], 221, 0);
    assert_float_equal(data_persistence(d, SPLIT_TRAIN, 5, 0, 0), 164, 0);
    data_close(d);

    cfg.missing = MISSING_INTERPOLATE;
    d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 14);
    fetch1(b, d, SPLIT_TRAIN, 5, x, y); /* end 10: 11 is not to be seen */
    assert_float_equal(x[3], 164, 0);
    assert_float_equal(x[5], 164, 0);
    fetch1(b, d, SPLIT_TRAIN, 6, x, y); /* end 11 */
    assert_float_equal(x[1], 164 + 57 / 3.0, 1e-4);
    assert_float_equal(x[3], 164 + 2 * 57 / 3.0, 1e-4);
    assert_float_equal(x[5], 221, 0);
    data_close(d);

    cfg.missing = MISSING_VALUE;
    cfg.missing_value = -5;
    d = open_ok(b, &cfg); /* ends 2..18 but 8 and 9: a missing target is never trained on */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 15);
    fetch1(b, d, SPLIT_TRAIN, 0, x, y);
    assert_float_equal(x[1], -5, 0);
    data_close(d);
}

/* What is known of one run says nothing of the next. */
static void missing_at_a_run(void **state)
{
    Bench *b = *state;
    DataConfig cfg = config_csv();
    cfg.features = cfg.targets = (StrList)STRS("v");
    cfg.categories = (StrList)STRS("w");
    cfg.segment = "s";
    cfg.window = 1, cfg.horizon = 1;
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0;
    static const Missing policy[] = { MISSING_FFILL, MISSING_INTERPOLATE };
    for (int m = 0; m < 2; m++) {
        cfg.missing = policy[m];
        put_text(b, "a.csv", "s,v,w\n1,1,p\n1,,q\n1,3,p\n2,,p\n2,5,p\n2,6,q\n2,7,p\n");
        Data *d = open_ok(b, &cfg); /* ends 1, 4, 5: row 3 has no past */
        assert_int_equal(data_rows(d, SPLIT_TRAIN), 3);
        float x[3], y[1];
        fetch1(b, d, SPLIT_TRAIN, 0, x, y);
        assert_float_equal(x[0], 1, 0);
        assert_float_equal(x[2], 1, 0);
        fetch1(b, d, SPLIT_TRAIN, 1, x, y);
        assert_float_equal(x[0], 5, 0);
        data_close(d);
        put_text(b, "a.csv", "s,v,w\n1,1,p\n1,2,q\n1,3,p\n2,4,\n2,5,p\n2,6,\n2,7,p\n");
        d = open_ok(b, &cfg); /* ends 0, 1, 4, 5 */
        assert_int_equal(data_rows(d, SPLIT_TRAIN), 4);
        fetch1(b, d, SPLIT_TRAIN, 3, x, y);
        assert_float_equal(x[1], 1, 0);
        data_close(d);
    }
}

static void groups_and_segments(void **state)
{
    Bench *b = *state;
    Strbuf s = { 0 };
    strbuf_add(&s, "who,u,v\n");
    for (int r = 0; r < 30; r++)
        strbuf_printf(&s, "%s,%d,%d\n", r < 10 ? "ann" : r < 20 ? "bob" : "eve", r, r);
    put(b, "a.csv", s.s, s.n);
    strbuf_free(&s);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.window = 4, cfg.horizon = 1;
    cfg.segment = "who";
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0;
    Data *d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 3 * 6);
    data_close(d);
    cfg.segment = NULL;
    cfg.group = "who";
    cfg.split_by = SPLIT_GROUPS;
    cfg.split_groups[SPLIT_TRAIN] = (StrList)STRS("eve");
    cfg.split_groups[SPLIT_TEST] = (StrList)STRS("ann");
    d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 6);
    assert_int_equal(data_rows(d, SPLIT_VAL), 0);
    assert_int_equal(data_rows(d, SPLIT_TEST), 6);
    float x[8], y[1];
    fetch1(b, d, SPLIT_TRAIN, 0, x, y);
    assert_float_equal(x[0], 20, 0);
    data_close(d);
    cfg.split_groups[SPLIT_VAL] = (StrList)STRS("zoe");
    open_fails(b, &cfg, ST_DATA, "no group \"zoe\"");
    cfg.split_groups[SPLIT_VAL] = (StrList)STRS("ann");
    open_fails(b, &cfg, ST_VALUE, "in two splits");
    cfg.split_by = SPLIT_RANDOM; /* whole groups, drawn */
    cfg.split[0] = cfg.split[1] = cfg.split[2] = 1 / 3.0;
    d = open_ok(b, &cfg);
    for (int k = 0; k < 3; k++)
        assert_int_equal(data_rows(d, (Split)k), 6);
    data_close(d);
}

static void random_split(void **state)
{
    Bench *b = *state;
    put_series(b, 100, NULL);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.split_by = SPLIT_RANDOM;
    Data *d = open_ok(b, &cfg);
    int seen[100] = { 0 }, moved = 0;
    for (int s = 0, at = 0; s < 3; s++)
        for (int64_t i = 0; i < data_rows(d, (Split)s); i++, at++) {
            float x[1];
            fetch1(b, d, (Split)s, i, x, NULL);
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
    Bench *b = *state;
    put_text(b, "a.csv",
             "wind,u,kind\nNE,1,\"b, or c\"\nSW,2,a\ncv,3,a\nNE,4,\"b, or c\"\nSW,5,a\n");
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("kind");
    cfg.categories = (StrList)STRS("wind");
    cfg.classification = true;
    Data *d = open_ok(b, &cfg);
    const DataFit *f = data_fit(d);
    assert_int_equal(f->classes.n, 2);
    assert_string_equal(f->classes.at[1], "b, or c");
    assert_int_equal(data_shape(d)->nclass, 2);
    assert_int_equal(data_shape(d)->target.rank, 0);
    assert_int_equal(f->features.n, 4);
    assert_string_equal(f->features.at[3], "wind=cv");
    float x[4];
    int32_t y[1];
    fetch1(b, d, SPLIT_TRAIN, 1, x, y);
    assert_int_equal(y[0], 0);
    assert_float_equal(x[0], 2, 0);
    assert_float_equal(x[1] + x[3], 0, 0);
    assert_float_equal(x[2], 1, 0);

    /* the same fit on other data: an unseen category, no target */
    put_text(b, "a.csv", "u,wind\n8,N\n9,cv\n");
    Data *e = NULL;
    cfg.split[0] = cfg.split[1] = 0, cfg.split[2] = 1;
    assert_int_equal(open_fit(b, &cfg, f, &e), ST_OK);
    assert_false(data_has_targets(e));
    assert_int_equal(data_rows(e, SPLIT_TEST), 2);
    fetch1(b, e, SPLIT_TEST, 0, x, y);
    assert_float_equal(x[0], 8, 0);
    assert_float_equal(x[1] + x[2] + x[3], 0, 0);
    assert_non_null(strstr(b->log, "unknown to the model"));
    data_close(e);
    put_text(b, "a.csv", "u,wind,kind\n8,SW,q\n9,cv,a\n");
    assert_int_equal(open_fit(b, &cfg, f, &e), ST_DATA);
    assert_non_null(strstr(b->cx.msg, "none of the 2 known classes"));
    assert_int_equal(b->cx.line, 2);
    assert_int_equal(b->cx.col, 6);
    data_close(d);
}

static void files_joined_by_time(void **state)
{
    Bench *b = *state;
    put_text(b, "a.csv", "when,t\n2014-01-01,1\n2014-01-02,2\n2014-01-03,3\n2014-01-05,5\n");
    put_text(b, "b.csv",
             "t;when\r\n30;03/01/2014\r\n20;02/01/2014\r\n130;13/01/2014\r\n50;05/01/2014");
    DataConfig cfg = config_csv();
    cfg.files = (StrList)STRS("a.csv", "b.csv");
    cfg.targets = (StrList)STRS("t");
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0;
    open_fails(b, &cfg, ST_DATA, "no column \"t\""); /* it is a.t or b.t */
    cfg.targets = (StrList)STRS("b.t");
    put_text(b, "a.csv", "when,t\n2014-01-01,1\n2014-01-02,2\n2014-01-05,5\n");
    open_fails(b, &cfg, ST_DATA, "name their \"time\" column");
    cfg.time = "when";
    Data *d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 2);
    float x[1], y[1];
    char buf[32];
    fetch1(b, d, SPLIT_TRAIN, 1, x, y);
    assert_float_equal(x[0], 5, 0);
    assert_float_equal(y[0], 50, 0);
    assert_string_equal(data_row_label(d, SPLIT_TRAIN, 1, 0, buf, sizeof buf), "2014-01-05");
    data_close(d);
}

/* Without targets there are forecasts beyond the last row. */
static void forecasts_ahead(void **state)
{
    Bench *b = *state;
    put_series(b, 20, NULL);
    DataConfig cfg = config_csv();
    cfg.features = (StrList)STRS("u");
    cfg.targets = (StrList)STRS("v");
    cfg.window = 3, cfg.horizon = 2;
    Data *d = open_ok(b, &cfg), *e = NULL;
    put_text(b, "a.csv", "u\n0\n1\n2\n3\n4\n");
    cfg.split[0] = cfg.split[1] = 0, cfg.split[2] = 1;
    assert_int_equal(open_fit(b, &cfg, data_fit(d), &e), ST_OK);
    assert_int_equal(data_rows(e, SPLIT_TEST), 3);
    float x[3], y[1];
    char buf[16];
    fetch1(b, e, SPLIT_TEST, 2, x, y);
    assert_float_equal(x[2], 4, 0);
    assert_true(isnan(y[0]));
    assert_string_equal(data_row_label(e, SPLIT_TEST, 2, 0, buf, sizeof buf), "7");
    assert_string_equal(data_target_name(e, 0), "v");
    assert_false(data_has_targets(e) || data_has_persistence(e));
    data_close(e);
    data_close(d);
    open_fails(b, &cfg, ST_DATA, "no column \"v\"");
}

static void bad_classes_and_dates(void **state)
{
    Bench *b = *state;
    DataConfig cfg = config_csv();
    put_text(b, "a.csv", "u,k\n1,0\n2,1\n3,1.5\n4,0\n");
    cfg.targets = (StrList)STRS("k");
    cfg.classification = true;
    open_fails(b, &cfg, ST_DATA, "wants a text or an integer, got 1.5");
    assert_int_equal(b->cx.line, 4);
    put_text(b, "a.csv", "u,k\n1,10\n2,9\n3,\n4,9\n5,9\n");
    open_fails(b, &cfg, ST_DATA, "\"k\" has a missing value");
    cfg.missing = MISSING_DROP;
    Data *d = open_ok(b, &cfg);
    assert_string_equal(data_fit(d)->classes.at[0], "9"); /* by value */
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 2);
    data_close(d);

    cfg = config_csv();
    cfg.files = (StrList)STRS("a.csv", "b.csv");
    cfg.targets = (StrList)STRS("v");
    cfg.time = "t";
    put_text(b, "a.csv", "t,u\n03/04/2014,1\n04/04/2014,2\n");
    put_text(b, "b.csv", "t,v\n2014-04-03,1\n");
    open_fails(b, &cfg, ST_DATA, "cannot tell day from month");
    put_text(b, "a.csv", "t,u\n13/04/2014,1\nsoon,2\n");
    open_fails(b, &cfg, ST_DATA, "wants a date or a number, got \"soon\"");
    assert_int_equal(b->cx.line, 3);
    put_text(b, "a.csv", "t,u\n13/04/2014,1\n13/04/2014,2\n");
    open_fails(b, &cfg, ST_DATA, "appears twice");
    put_text(b, "a.csv", "t,u\n13/04/2014,1\n14/04/2014,2\n");
    open_fails(b, &cfg, ST_DATA, "no time in common");
}

/* Windows that end at row t do not change when all rows after t do. */
static void no_leak(void **state)
{
    Bench *b = *state;
    const char gap[] = "v........u......vv...u....v...";
    put_series(b, 30, gap);
    DataConfig cfg = config_csv();
    cfg.targets = (StrList)STRS("v");
    cfg.window = 5, cfg.horizon = 2;
    cfg.scaler = cfg.target_scaler = SCALER_STANDARD;
    static const Missing policy[] = { MISSING_DROP, MISSING_FFILL, MISSING_INTERPOLATE,
                                      MISSING_VALUE };
    for (size_t m = 0; m < sizeof policy / sizeof *policy; m++) {
        cfg.missing = policy[m];
        cfg.split[0] = 0.6, cfg.split[1] = cfg.split[2] = 0.2;
        put_series(b, 30, gap);
        Data *d = open_ok(b, &cfg);
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
            put(b, "a.csv", s.s, s.n);
            strbuf_free(&s);
            Data *e = NULL;
            assert_int_equal(open_fit(b, &cfg, data_fit(d), &e), ST_OK);
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
                    fetch1(b, d, (Split)k, i, xa, NULL);
                    fetch1(b, e, (Split)k, j, xb, NULL);
                    assert_memory_equal(xa, xb, sizeof xa);
                    compared++;
                }
            assert_true(compared > 0);
            data_close(e);
        }
        data_close(d);
    }
}

static void npy_files(void **state)
{
    Bench *b = *state;
    DataConfig cfg = config_csv();
    char x[256], y[256];
    memset(x, ' ', sizeof x);
    memcpy(x, "\x93NUMPY\x01\x00\x76\x00", 10);
    memcpy(x + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2), }", 59);
    float v[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    memcpy(x + 128, v, sizeof v);
    memset(y, ' ', sizeof y);
    memcpy(y, "\x93NUMPY\x02\x00\x74\x00\x00\x00", 12);
    memcpy(y + 12, "{'descr': '>i2', 'fortran_order': False, 'shape': (4,), }", 57);
    memcpy(y + 128, "\x00\x01\xff\xff\x01\x00\x00\x05", 8);
    put(b, "x.npy", x, 128 + sizeof v);
    put(b, "y.npy", y, 128 + 8);
    cfg.format = DATA_NPY;
    cfg.files = (StrList)STRS("x.npy");
    cfg.target_files = (StrList)STRS("y.npy");
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0;
    Data *d = open_ok(b, &cfg);
    float in[2], out[1];
    fetch1(b, d, SPLIT_TRAIN, 1, in, out);
    assert_float_equal(in[1], 4, 0);
    assert_float_equal(out[0], -1, 0);
    fetch1(b, d, SPLIT_TRAIN, 2, in, out);
    assert_float_equal(out[0], 256, 0);
    data_close(d);

    put(b, "x.npy", x, 128 + sizeof v - 1);
    open_fails(b, &cfg, ST_DATA, "wants 32 bytes for shape [4,2], got 31");
    memcpy(x + 10, "{'descr': '<f4', 'fortran_order': True, 'shape': (4, 2), } ", 59);
    put(b, "x.npy", x, 128 + sizeof v);
    open_fails(b, &cfg, ST_DATA, "Fortran order");
    memcpy(x + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,2,2)}", 58);
    x[68] = ' ';
    put(b, "x.npy", x, 128 + sizeof v);
    memcpy(y + 12, "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", 57);
    put(b, "y.npy", y, 128 + 2);
    cfg.scaler = SCALER_MINMAX;
    d = open_ok(b, &cfg);
    assert_string_equal(shape_str(&data_shape(d)->input[0].shape), "[2,2]");
    float whole[4];
    fetch1(b, d, SPLIT_TRAIN, 1, whole, out);
    assert_float_equal(whole[2], 1, 0);
    assert_float_equal(whole[0], 4 / 6.0, 1e-6);
    data_close(d);
}

static void idx_files(void **state)
{
    Bench *b = *state;
    DataConfig cfg = config_csv();
    put(b, "i.idx",
        "\0\0\x08\x03\0\0\0\x03\0\0\0\x02\0\0\0\x01"
        "\x00\xff\x33\x66\x01\x02",
        22);
    put(b, "l.idx",
        "\0\0\x08\x01\0\0\0\x03"
        "\x05\x00\x07",
        11);
    cfg.format = DATA_IDX;
    cfg.files = (StrList)STRS("i.idx");
    cfg.target_files = (StrList)STRS("l.idx");
    cfg.classification = true;
    cfg.split[0] = 2, cfg.split[1] = 1, cfg.split[2] = 0;
    cfg.test_files = (StrList)STRS("i.idx");
    cfg.test_target_files = (StrList)STRS("l.idx");
    Data *d = open_ok(b, &cfg);
    assert_string_equal(shape_str(&data_shape(d)->input[0].shape), "[2,1,1]");
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 2);
    assert_int_equal(data_rows(d, SPLIT_TEST), 3);
    float x[2];
    int32_t y[1];
    fetch1(b, d, SPLIT_VAL, 0, x, y);
    assert_float_equal(x[1], 2 / 255.0, 1e-8);
    assert_int_equal(y[0], 2);
    assert_string_equal(data_fit(d)->classes.at[2], "7");
    fetch1(b, d, SPLIT_TEST, 0, x, y);
    assert_float_equal(x[1], 1, 0);
    data_close(d);
    put(b, "l.idx",
        "\0\0\x08\x01\0\0\0\x03"
        "\x05\x00",
        10);
    open_fails(b, &cfg, ST_DATA, "wants 3 bytes");
}

static void wav_files(void **state)
{
    Bench *b = *state;
    put(b, "s.wav",
        "RIFF\x3c\0\0\0WAVE"
        "LIST\x03\0\0\0abc\0"
        "fmt \x10\0\0\0\x01\0\x02\0\x44\xac\0\0\x10\xb1\x02\0\x04\0\x10\0"
        "data\x0c\0\0\0"
        "\x00\x40\x00\x80\x01\x00\x02\x00\xff\xff\x00\x00",
        68);
    DataConfig cfg = config_csv();
    cfg.format = DATA_WAV;
    cfg.files = (StrList)STRS("s.wav");
    cfg.targets = (StrList)STRS("s.1");
    cfg.window = 1, cfg.horizon = 1;
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0;
    Data *d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 2);
    float x[2], y[1];
    fetch1(b, d, SPLIT_TRAIN, 0, x, y);
    assert_float_equal(x[0], 0.5, 0);
    assert_float_equal(x[1], -1, 0);
    assert_float_equal(y[0], 2 / 32768.0, 0);
    data_close(d);
}

static void text_files(void **state)
{
    Bench *b = *state;
    put_text(b, "t.txt",
             "ab\xc3\xa9"
             "ba");
    DataConfig cfg = config_csv();
    cfg.format = DATA_TEXT;
    cfg.files = (StrList)STRS("t.txt");
    cfg.window = 2;
    cfg.split[0] = 1, cfg.split[1] = cfg.split[2] = 0;
    Data *d = open_ok(b, &cfg);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 3);
    assert_string_equal(shape_str(&data_shape(d)->input[0].shape), "[2,3]");
    assert_int_equal(data_shape(d)->nclass, 3);
    assert_string_equal(data_fit(d)->classes.at[2], "\xc3\xa9");
    float x[6];
    int32_t y[1];
    fetch1(b, d, SPLIT_TRAIN, 0, x, y);
    assert_float_equal(x[0] + x[4], 2, 0);
    assert_float_equal(x[1] + x[2] + x[3] + x[5], 0, 0);
    assert_int_equal(y[0], 2);
    data_close(d);
    put_text(b, "t.txt", "ok\nno\xff");
    open_fails(b, &cfg, ST_DATA, "not UTF-8");
    assert_int_equal(b->cx.line, 2);
    assert_int_equal(b->cx.col, 3);
}

static void random_data(void **state)
{
    Bench *b = *state;
    NamedShape in[] = { { "x", { .rank = 2, .dim = { 3, 2 } } },
                        { "z", { .rank = 1, .dim = { 5 } } } };
    DataConfig cfg = { .format = DATA_RANDOM,
                       .random_inputs = in,
                       .nrandom = 2,
                       .random_rows = 500,
                       .random_classes = 4,
                       .split = { 0.8, 0.1, 0.1 } };
    Data *d = open_ok(b, &cfg), *e = open_ok(b, &cfg);
    assert_int_equal(data_shape(d)->ninput, 2);
    assert_int_equal(data_shape(d)->nclass, 4);
    double sum = 0, square = 0;
    int count[4] = { 0 };
    for (int64_t i = 0; i < 400; i++) {
        float x[6], z[5], x2[6], z2[5];
        int32_t y, y2;
        void *at[] = { x, z }, *at2[] = { x2, z2 };
        assert_int_equal(data_fetch(&b->cx, d, SPLIT_TRAIN, &i, 1, at, &y), ST_OK);
        assert_int_equal(data_fetch(&b->cx, e, SPLIT_TRAIN, &i, 1, at2, &y2), ST_OK);
        assert_memory_equal(x, x2, sizeof x);
        assert_memory_equal(z, z2, sizeof z);
        assert_int_equal(y, y2);
        assert_in_range(y, 0, 3);
        count[y]++;
        for (int k = 0; k < 6; k++)
            sum += (double)x[k], square += (double)x[k] * (double)x[k];
    }
    assert_true(fabs(sum / 2400) < 0.1 && fabs(square / 2400 - 1) < 0.15);
    for (int k = 0; k < 4; k++)
        assert_true(count[k] > 60);
    data_close(d);
    data_close(e);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(windows_and_splits),
        TEST(several_horizons),
        TEST(rows_without_windows),
        TEST(scalers_on_train_rows),
        TEST(missing_policies),
        TEST(missing_at_a_run),
        TEST(groups_and_segments),
        TEST(random_split),
        TEST(categories_and_classes),
        TEST(files_joined_by_time),
        TEST(no_leak),
        TEST(npy_files),
        TEST(idx_files),
        TEST(wav_files),
        TEST(text_files),
        TEST(random_data),
        TEST(forecasts_ahead),
        TEST(bad_classes_and_dates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
