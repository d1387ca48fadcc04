/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays, images, recordings, texts and drawn data, each read from a file of a few bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tests/data_folder.h"

static DataConfig config(DataFormat format, const char **file)
{
    return (DataConfig){ .format = format,
                         .files = { file, 1 },
                         .stride = 1,
                         .split = { 1, 0, 0 },
                         .pixel_scale = 1 / 255.0 };
}

static void npy_files(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config(DATA_NPY, &(const char *){ "x.npy" });
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
    folder_put(f, "x.npy", x, 128 + sizeof v);
    folder_put(f, "y.npy", y, 128 + 8);
    cfg.target_files = (StrList)STRS("y.npy");
    Data *d = folder_open(f, &cfg, NULL);
    float in[2], out[1];
    folder_fetch(f, d, SPLIT_TRAIN, 1, in, out);
    assert_float_equal(in[1], 4, 0);
    assert_float_equal(out[0], -1, 0);
    folder_fetch(f, d, SPLIT_TRAIN, 2, in, out);
    assert_float_equal(out[0], 256, 0);
    data_close(d);

    folder_put(f, "x.npy", x, 128 + sizeof v - 1);
    folder_refuses(f, &cfg, ST_DATA, "wants 32 bytes for shape [4,2], got 31");
    memcpy(x + 10, "{'descr': '<f4', 'fortran_order': True, 'shape': (4, 2), } ", 59);
    folder_put(f, "x.npy", x, 128 + sizeof v);
    folder_refuses(f, &cfg, ST_DATA, "Fortran order");
    memcpy(x + 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,2,2)}", 58);
    x[68] = ' ';
    folder_put(f, "x.npy", x, 128 + sizeof v);
    memcpy(y + 12, "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }", 57);
    folder_put(f, "y.npy", y, 128 + 2);
    cfg.scaler = SCALER_MINMAX;
    d = folder_open(f, &cfg, NULL);
    assert_string_equal(shape_str(&data_shape(d)->input[0].shape), "[2,2]");
    float whole[4];
    folder_fetch(f, d, SPLIT_TRAIN, 1, whole, out);
    assert_float_equal(whole[2], 1, 0);
    assert_float_equal(whole[0], 4 / 6.0, 1e-6);
    data_close(d);
}

static void idx_files(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config(DATA_IDX, &(const char *){ "i.idx" });
    folder_put(f, "i.idx",
               "\0\0\x08\x03\0\0\0\x03\0\0\0\x02\0\0\0\x01"
               "\x00\xff\x33\x66\x01\x02",
               22);
    folder_put(f, "l.idx",
               "\0\0\x08\x01\0\0\0\x03"
               "\x05\x00\x07",
               11);
    cfg.target_files = (StrList)STRS("l.idx");
    cfg.classification = true;
    cfg.split[0] = 2, cfg.split[1] = 1, cfg.split[2] = 0;
    cfg.test_files = (StrList)STRS("i.idx");
    cfg.test_target_files = (StrList)STRS("l.idx");
    Data *d = folder_open(f, &cfg, NULL);
    assert_string_equal(shape_str(&data_shape(d)->input[0].shape), "[2,1,1]");
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 2);
    assert_int_equal(data_rows(d, SPLIT_TEST), 3);
    float x[2];
    int32_t y[1];
    folder_fetch(f, d, SPLIT_VAL, 0, x, y);
    assert_float_equal(x[1], 2 / 255.0, 1e-8);
    assert_int_equal(y[0], 2);
    assert_string_equal(data_fit(d)->classes.at[2], "7");
    folder_fetch(f, d, SPLIT_TEST, 0, x, y);
    assert_float_equal(x[1], 1, 0);
    data_close(d);
    folder_put(f, "l.idx",
               "\0\0\x08\x01\0\0\0\x03"
               "\x05\x00",
               10);
    folder_refuses(f, &cfg, ST_DATA, "wants 3 bytes");
}

static void wav_files(void **state)
{
    Folder *f = *state;
    folder_put(f, "s.wav",
               "RIFF\x3c\0\0\0WAVE"
               "LIST\x03\0\0\0abc\0"
               "fmt \x10\0\0\0\x01\0\x02\0\x44\xac\0\0\x10\xb1\x02\0\x04\0\x10\0"
               "data\x0c\0\0\0"
               "\x00\x40\x00\x80\x01\x00\x02\x00\xff\xff\x00\x00",
               68);
    DataConfig cfg = config(DATA_WAV, &(const char *){ "s.wav" });
    cfg.targets = (StrList)STRS("s.1");
    cfg.window = 1, cfg.horizon = 1;
    Data *d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 2);
    float x[2], y[1];
    folder_fetch(f, d, SPLIT_TRAIN, 0, x, y);
    assert_float_equal(x[0], 0.5, 0);
    assert_float_equal(x[1], -1, 0);
    assert_float_equal(y[0], 2 / 32768.0, 0);
    data_close(d);
}

static void text_files(void **state)
{
    Folder *f = *state;
    folder_put_text(f, "t.txt",
                    "ab\xc3\xa9"
                    "ba");
    DataConfig cfg = config(DATA_TEXT, &(const char *){ "t.txt" });
    cfg.window = 2;
    Data *d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 3);
    assert_string_equal(shape_str(&data_shape(d)->input[0].shape), "[2,3]");
    assert_int_equal(data_shape(d)->nclass, 3);
    assert_string_equal(data_fit(d)->classes.at[2], "\xc3\xa9");
    float x[6];
    int32_t y[1];
    folder_fetch(f, d, SPLIT_TRAIN, 0, x, y);
    assert_float_equal(x[0] + x[4], 2, 0);
    assert_float_equal(x[1] + x[2] + x[3] + x[5], 0, 0);
    assert_int_equal(y[0], 2);
    data_close(d);
    folder_put_text(f, "t.txt", "ok\nno\xff");
    folder_refuses(f, &cfg, ST_DATA, "not UTF-8");
    assert_int_equal(f->cx.line, 2);
    assert_int_equal(f->cx.col, 3);
}

static void random_data(void **state)
{
    Folder *f = *state;
    NamedShape in[] = { { "x", { .rank = 2, .dim = { 3, 2 } } },
                        { "z", { .rank = 1, .dim = { 5 } } } };
    DataConfig cfg = { .format = DATA_RANDOM,
                       .random_inputs = in,
                       .nrandom = 2,
                       .random_rows = 500,
                       .random_classes = 4,
                       .split = { 0.8, 0.1, 0.1 } };
    Data *d = folder_open(f, &cfg, NULL), *e = folder_open(f, &cfg, NULL);
    assert_int_equal(data_shape(d)->ninput, 2);
    assert_int_equal(data_shape(d)->nclass, 4);
    double sum = 0, square = 0;
    int count[4] = { 0 };
    for (int64_t i = 0; i < 400; i++) {
        float x[6], z[5], x2[6], z2[5];
        int32_t y, y2;
        void *at[] = { x, z }, *at2[] = { x2, z2 };
        assert_int_equal(data_fetch(&f->cx, d, SPLIT_TRAIN, &i, 1, at, &y), ST_OK);
        assert_int_equal(data_fetch(&f->cx, e, SPLIT_TRAIN, &i, 1, at2, &y2), ST_OK);
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
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {
        TEST(npy_files), TEST(idx_files), TEST(wav_files), TEST(text_files), TEST(random_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
