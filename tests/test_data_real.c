/* SPDX-License-Identifier: Apache-2.0 */
/* Real data sets, where GTC_DATA_DIR (or ../shared/data) has them: their formats, and the known
 * errors of persistence, which show that windows, splits and missing values are as meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "train/data.h"

#define STRS(...)                                                                                  \
    {                                                                                              \
        .at = (const char *[]){ __VA_ARGS__ },                                                     \
        .n = sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(const char *)                        \
    }

static DataConfig config_csv(void)
{
    return (DataConfig){
        .format = DATA_CSV, .stride = 1, .split = { 0.6, 0.2, 0.2 }, .pixel_scale = 1 / 255.0
    };
}

static int setup(void **state)
{
    Ctx *cx = calloc(1, sizeof *cx);
    *state = cx;
    if (cx)
        ctx_init(cx);
    return cx == NULL;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static const char *real_dir(const char *file)
{
    static char path[600];
    const char *env = getenv("GTC_DATA_DIR"), *dir = env ? env : "../shared/data";
    snprintf(path, sizeof path, "%s/%s", dir, file);
    if (access(path, R_OK)) {
        print_message("SKIPPED: no %s (GTC_DATA_DIR)\n", path);
        skip();
    }
    return dir;
}

static double persistence_rmse(Ctx *cx, const Data *d, Split s)
{
    double sum = 0;
    const int64_t n = data_rows(d, s);
    for (int64_t i = 0; i < n; i++) {
        float y[1];
        assert_int_equal(data_fetch(cx, d, s, &i, 1, NULL, y), ST_OK);
        const double e = data_unscale(d, 0, (double)y[0]) - data_persistence(d, s, i, 0, 0);
        sum += e * e;
    }
    return sqrt(sum / (double)n);
}

/* Known figures of real series, last 20 %: dirt and all (CRLF, quotes, NA, no last newline). */
static void real_series(void **state)
{
    static const struct {
        const char *file, *target, *time;
        int horizon;
        double rmse, within;
    } row[] = {
        { "daily/daily-min-temperatures.csv", "Temp", "Date", 1, 2.481, 0.002 },
        { "daily/daily-max-temperatures.csv", "Temperature", "Date", 1, 4.361, 0.002 },
        { "daily/DailyDelhiClimateTrain.csv", "meantemp", "date", 1, 1.685, 0.002 },
        { "beijing_multisite/PRSA_Data_Aotizhongxin_20130301-20170228.csv", "PM2.5", NULL, 1, 19.54,
          0.5 },
        { "beijing_multisite/PRSA_Data_Aotizhongxin_20130301-20170228.csv", "PM2.5", NULL, 24,
          92.24, 1 },
    };
    Ctx *cx = *state;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        const char *dirs[] = { real_dir(row[i].file) };
        DataConfig cfg = config_csv();
        Data *d = NULL;
        cfg.files = (StrList)STRS(row[i].file);
        cfg.targets = cfg.features = (StrList)STRS(row[i].target);
        cfg.time = row[i].time;
        cfg.window = 24, cfg.horizon = row[i].horizon;
        cfg.missing = MISSING_DROP;
        cfg.target_scaler = SCALER_STANDARD;
        cfg.split[0] = 0.7, cfg.split[1] = 0.1, cfg.split[2] = 0.2;
        if (data_open(cx, &cfg, dirs, 1, 1, NULL, &d) != ST_OK)
            fail_msg("%s:%d:%d: %s", cx->file, cx->line, cx->col, cx->msg);
        const double rmse = persistence_rmse(cx, d, SPLIT_TEST);
        print_message("%s %s +%d: %.3f (known: %.3f)\n", row[i].file, row[i].target, row[i].horizon,
                      rmse, row[i].rmse);
        assert_true(fabs(rmse - row[i].rmse) <= row[i].within);
        data_close(d);
    }
}

static void real_open(Ctx *cx, const DataConfig *cfg, const char *const *dirs, Data **d)
{
    if (data_open(cx, cfg, dirs, 2, 1, NULL, d) != ST_OK)
        fail_msg("%s:%d:%d: %s", cx->file, cx->line, cx->col, cx->msg);
}

static void real_formats(void **state)
{
    Ctx *cx = *state;
    const char *dirs[] = { real_dir("har_sp_sw/x_sp.npy"), "/usr/share/datasets" };
    DataConfig cfg = config_csv();
    Data *d = NULL;
    cfg.format = DATA_NPY;
    cfg.files = (StrList)STRS("har_sp_sw/x_sp.npy");
    cfg.target_files = (StrList)STRS("har_sp_sw/y_sp.npy");
    cfg.classification = true;
    cfg.scaler = SCALER_MINMAX;
    cfg.window = 50, cfg.stride = 25;
    real_open(cx, &cfg, dirs, &d);
    assert_string_equal(shape_str(&data_shape(d)->input[0].shape), "[50,6]");
    assert_int_equal(data_shape(d)->nclass, 5);
    data_close(d);

    cfg = config_csv();
    cfg.format = DATA_TEXT;
    cfg.files = (StrList)STRS("text/tinyshakespeare.txt");
    cfg.window = 64;
    real_open(cx, &cfg, dirs, &d);
    assert_int_equal(data_shape(d)->nclass, 64); /* the first 60 % have no $ */
    data_close(d);

    cfg.format = DATA_WAV;
    cfg.files = (StrList)STRS("audio/rain.wav");
    cfg.window = 256, cfg.horizon = 1;
    real_open(cx, &cfg, dirs, &d);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), llround(0.6 * 311067) - 256);
    data_close(d);

    if (access("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz", R_OK)) {
        print_message("SKIPPED: no Fashion-MNIST in /usr/share/datasets\n");
        skip();
    }
    cfg = config_csv();
    cfg.format = DATA_IDX;
    cfg.files = (StrList)STRS("fashion-mnist/t10k-images-idx3-ubyte.gz");
    cfg.target_files = (StrList)STRS("fashion-mnist/t10k-labels-idx1-ubyte.gz");
    cfg.classification = true;
    cfg.split[0] = 9000, cfg.split[1] = cfg.split[2] = 500;
    real_open(cx, &cfg, dirs, &d);
    static float x[784];
    double sum = 0;
    for (int64_t i = 0; i < 9000; i++) {
        int32_t y;
        assert_int_equal(data_fetch(cx, d, SPLIT_TRAIN, &i, 1, (void *const[]){ x }, &y), ST_OK);
        assert_in_range(y, 0, 9);
        for (int k = 0; k < 784; k++)
            sum += (double)x[k];
    }
    assert_true(fabs(sum / (9000.0 * 784) - 0.2868) < 0.003);
    data_close(d);
}

/* The Beijing PM2.5 series: persistence 24 h ahead on the last 20 %. */
static void pm25_persistence(void **state)
{
    const char *const file = "beijing_pm25/PRSA_data_2010.1.1-2014.12.31.csv";
    Ctx *cx = *state;
    const char *dirs[] = { real_dir(file) };
    DataConfig cfg = config_csv();
    cfg.files = (StrList)STRS(file);
    cfg.features = (StrList)STRS("DEWP", "TEMP", "PRES", "Iws", "pm2.5");
    cfg.targets = (StrList)STRS("pm2.5");
    cfg.categories = (StrList)STRS("cbwd");
    cfg.window = 48, cfg.horizon = 24;
    cfg.split[0] = 0.7, cfg.split[1] = 0.1, cfg.split[2] = 0.2;
    cfg.missing = MISSING_FFILL;
    cfg.scaler = cfg.target_scaler = SCALER_STANDARD;
    Data *d = NULL;
    const clock_t start = clock();
    assert_int_equal(data_open(cx, &cfg, dirs, 1, 1, NULL, &d), ST_OK);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    static float x[48 * 9];
    const int64_t n = data_rows(d, SPLIT_TEST);
    for (int64_t i = 0; i < n; i++) {
        assert_int_equal(data_fetch(cx, d, SPLIT_TEST, &i, 1, (void *const[]){ x }, NULL), ST_OK);
        for (int k = 0; k < 48 * 9; k++)
            assert_true(isfinite(x[k]));
    }
    const double rmse = persistence_rmse(cx, d, SPLIT_TEST);
    print_message("pm2.5: %lld test windows, persistence rmse %.3f, opened in %.3f s\n",
                  (long long)n, rmse, seconds);
    assert_true(rmse > 99.0 && rmse < 99.8);
    data_close(d);
}

static Data *open_model(Ctx *cx, const char *path, const char *dir)
{
    Model *m;
    Data *d = NULL;
    if (model_load(cx, path, NULL, 0, &m) != ST_OK ||
        data_open(cx, &m->data, &dir, 1, m->train.seed, NULL, &d) != ST_OK)
        fail_msg("%s: %s", path, cx->msg);
    model_free(m); /* what a data set keeps is its own */
    return d;
}

/* Windows, labels and scaled values as counted with NumPy from the same files. */
static void real_segments(void **state)
{
    Ctx *cx = *state;
    static const int count[SPLIT_COUNT][5] = { { 726, 850, 3241, 1497, 980 },
                                               { 62, 75, 339, 148, 88 },
                                               { 80, 147, 677, 317, 158 } };
    static const double row[] = { -0.4034324586, -1.331990242, -0.5714275241,
                                  -3.1044824123, 2.8498315812, 0.0479018576 };
    Data *d = open_model(cx, "models/behaviour_cnn.json", real_dir("har_sp_sw/x_sp.npy"));
    for (int s = 0; s < SPLIT_COUNT; s++) {
        int is[5] = { 0 };
        for (int64_t i = 0; i < data_rows(d, (Split)s); i++) {
            int32_t y;
            assert_int_equal(data_fetch(cx, d, (Split)s, &i, 1, NULL, &y), ST_OK);
            assert_in_range(y, 0, 4);
            is[y]++;
        }
        assert_memory_equal(is, count[s], sizeof is);
    }
    float x[64 * 6];
    void *at[] = { x };
    assert_int_equal(data_fetch(cx, d, SPLIT_TEST, &(int64_t){ 100 }, 1, at, NULL), ST_OK);
    for (int k = 0; k < 6; k++)
        assert_float_equal(x[5 * 6 + k], row[k], 1e-6);
    data_close(d);
}

/* The usual split of this text, whose first 90 % have all of its 65 characters. */
static void real_text(void **state)
{
    Ctx *cx = *state;
    Data *d = open_model(cx, "models/gpt_char.json", real_dir("text/tinyshakespeare.txt"));
    assert_int_equal(data_shape(d)->words, 65);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), (1003854 - 65) / 16 + 1);
    assert_in_range(data_rows(d, SPLIT_VAL), 111540 / 64 - 1, 111540 / 64);
    int32_t x[64], y[64];
    void *at[] = { x };
    static const char first[] =
        "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll";
    assert_int_equal(data_fetch(cx, d, SPLIT_TRAIN, &(int64_t){ 0 }, 1, at, y), ST_OK);
    for (int t = 0; t < 64; t++) {
        assert_int_equal(data_fit(d)->classes.at[x[t]][0], first[t]);
        assert_int_equal(data_fit(d)->classes.at[y[t]][0], first[t + 1]);
    }
    data_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pm25_persistence, setup, teardown),
        cmocka_unit_test_setup_teardown(real_series, setup, teardown),
        cmocka_unit_test_setup_teardown(real_formats, setup, teardown),
        cmocka_unit_test_setup_teardown(real_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(real_text, setup, teardown),
    };
    const char *env = getenv("GTC_DATA_DIR");
    if (access(env ? env : "../shared/data", R_OK)) {
        printf("SKIPPED: no real data sets (GTC_DATA_DIR)\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
