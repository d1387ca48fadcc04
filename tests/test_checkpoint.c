/* SPDX-License-Identifier: Apache-2.0 */
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
#include "ir/base/rng.h"
#include "train/checkpoint.h"

static char folder[] = "/tmp/gtc-checkpoint-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static float weight[6] = { 1.5f, -2.0f, 0x1p-149f, 3.4e38f, -0.0f, 7.0f };
static int32_t counter = 12345;
static uint8_t byte[3] = { 1, 2, 255 };
static double wide[2] = { 1e300, -1e-300 };

static Checkpoint *sample(void)
{
    Checkpoint *c = checkpoint_new();
    checkpoint_add(c,
                   &(GtcTensor){ "a.weight", INPUT_param, { DT_F32, shape_of(2, 2, 3) }, weight });
    checkpoint_add(c, &(GtcTensor){ "step", INPUT_state, { DT_I32, shape_of(0) }, &counter });
    checkpoint_add(c, &(GtcTensor){ "q\"\\\n", INPUT_state, { DT_U8, shape_of(1, 3) }, byte });
    checkpoint_add(c, &(GtcTensor){ "none", INPUT_state, { DT_F32, shape_of(2, 0, 4) }, weight });
    checkpoint_add(c, &(GtcTensor){ "wide", INPUT_state, { DT_F64, shape_of(1, 2) }, wide });
    checkpoint_put(c, "train.step", "17");
    checkpoint_put(c, "odd", "tab\t quote\" back\\ end\n");
    return c;
}

static void write_sample(const char *name)
{
    Ctx cx;
    ctx_init(&cx);
    Checkpoint *c = sample();
    assert_int_equal(checkpoint_write(&cx, path_of(name), c), ST_OK);
    checkpoint_free(c);
}

static void test_round_trip(void **state)
{
    (void)state;
    Ctx cx;
    ctx_init(&cx);
    Checkpoint *was = sample(), *is;
    write_sample("a");
    assert_int_equal(checkpoint_read(&cx, path_of("a"), &is), ST_OK);
    assert_int_equal(is->ntensor, was->ntensor);
    for (int i = 0; i < was->ntensor; i++) {
        const GtcTensor *a = &was->tensor[i], *b = checkpoint_find(is, a->name);
        assert_non_null(b);
        assert_true(type_eq(&a->type, &b->type));
        if (type_bytes(&a->type))
            assert_memory_equal(a->data, b->data, (size_t)type_bytes(&a->type));
    }
    assert_string_equal(checkpoint_get(is, "train.step"), "17");
    assert_string_equal(checkpoint_get(is, "odd"), "tab\t quote\" back\\ end\n");
    assert_null(checkpoint_get(is, "even"));
    assert_null(checkpoint_find(is, "b"));
    checkpoint_free(was);
    checkpoint_free(is);
}

/* Equal contents, equal bytes. */
static void test_deterministic(void **state)
{
    (void)state;
    Ctx cx;
    ctx_init(&cx);
    char *a, *b;
    size_t na, nb;
    write_sample("a");
    write_sample("b");
    assert_int_equal(os_read_file(&cx, path_of("a"), &a, &na), ST_OK);
    assert_int_equal(os_read_file(&cx, path_of("b"), &b, &nb), ST_OK);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, na);
    free(a);
    free(b);
}

/* No byte of the file may change, and none may be missing, without being noticed. */
static void test_damage(void **state)
{
    (void)state;
    Ctx cx;
    ctx_init(&cx);
    char *bytes;
    size_t n;
    int missed = 0;
    write_sample("a");
    assert_int_equal(os_read_file(&cx, path_of("a"), &bytes, &n), ST_OK);
    for (size_t i = 0; i < n; i++) {
        Checkpoint *c = NULL;
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (char)(1 << bit);
            if (checkpoint_parse(&cx, "flipped", bytes, n, &c) == ST_OK) {
                missed++;
                checkpoint_free(c);
            } else {
                assert_int_equal(cx.code, ST_DATA);
                assert_true(cx.msg[0] != 0);
            }
            bytes[i] ^= (char)(1 << bit);
        }
    }
    /* The key "xxh3" itself is one word: a file with another key there has no checksum. */
    assert_true(missed <= 4 * 8);
    for (size_t k = 0; k < n; k++) {
        Checkpoint *c = NULL;
        char *cut = malloc(k + 1); /* its end is watched by the sanitizer */
        memcpy(cut, bytes, k);
        assert_int_equal(checkpoint_parse(&cx, "cut", cut, k, &c), ST_DATA);
        free(cut);
    }
    free(bytes);
}

static Status parse_header(const char *header, size_t data, Checkpoint **c)
{
    static Ctx cx;
    ctx_init(&cx);
    const size_t n = strlen(header);
    char *file = calloc(1, 8 + n + data);
    file[0] = (char)(n & 255);
    file[1] = (char)(n >> 8);
    memcpy(file + 8, header, n);
    const Status st = checkpoint_parse(&cx, "made", file, 8 + n + data, c);
    free(file);
    return st;
}

#define T(rest) "{\"a\":{\"dtype\":\"F32\"," rest "}"

static void test_foreign(void **state)
{
    (void)state;
    Checkpoint *c = NULL;
    /* as other writers do it: no metadata, spaces, any order of keys and tensors */
    assert_int_equal(
        parse_header("{ \"b\": {\"shape\":[2], \"data_offsets\":[4,12],\"dtype\":\"F32\"},"
                     "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]} }  ",
                     12, &c),
        ST_OK);
    assert_int_equal(c->ntensor, 2);
    checkpoint_free(c);
    assert_int_equal(parse_header("{}", 0, &c), ST_OK);
    checkpoint_free(c);

    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "{}x",
        "{\"a\"}",
        T("\"shape\":[1],\"data_offsets\":[0,4]"),     /* not closed */
        T("\"shape\":[1],\"data_offsets\":[0,8]") "}", /* 8 bytes for one f32 */
        T("\"shape\":[1],\"data_offsets\":[1,5]") "}", /* a hole */
        T("\"shape\":[2],\"data_offsets\":[0,8]") "}", /* past the end */
        T("\"shape\":[1],\"data_offsets\":[4,0]") "}", /* backwards */
        T("\"shape\":[-1],\"data_offsets\":[0,4]") "}",
        T("\"shape\":[01],\"data_offsets\":[0,4]") "}",
        T("\"shape\":[1.0],\"data_offsets\":[0,4]") "}",
        T("\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]") "}", /* rank 9 */
        T("\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]") "}",
        T("\"shape\":[99999999999999999999],\"data_offsets\":[0,4]") "}",
        T("\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]") "}",
        T("\"shape\":[1],\"data_offsets\":[0,4],\"x\":1") "}",
        T("\"shape\":[1],\"data_offsets\":[0]") "}",
        T("\"shape\":[1]") "}",
        "{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        T("\"shape\":[1],\"data_offsets\":[0,4]") ",\"a\":{\"dtype\":\"F32\",\"shape\":[0],"
                                                  "\"data_offsets\":[4,4]}}",
        "{\"__metadata__\":{},\"__metadata__\":{}}",
        "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}",
        "{\"__metadata__\":{\"a\":1}}",
        "{\"__metadata__\":{\"a\":\"\\u0000\"}}",
        "{\"__metadata__\":{\"a\":\"\\x\"}}",
        "{\"__metadata__\":{\"a\":\"\x01\"}}",
        "{\"__metadata__\":{\"a\":\"",
        "{\"__metadata__\":{\"a\":\"\\",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        c = NULL;
        if (parse_header(bad[i], 4, &c) != ST_DATA)
            fail_msg("taken: %s", bad[i]);
    }
}

/* NaN never reaches a file, and the file that is there stays. */
static void test_not_finite(void **state)
{
    (void)state;
    static const float values[] = { NAN, INFINITY, -INFINITY };
    Ctx cx;
    ctx_init(&cx);
    write_sample("a");
    for (int i = 0; i < 3; i++) {
        const float was = weight[4];
        Checkpoint *c = sample();
        weight[4] = values[i];
        assert_int_equal(checkpoint_write(&cx, path_of("a"), c), ST_NUMERIC);
        assert_non_null(strstr(cx.msg, "a.weight"));
        weight[4] = was;
        checkpoint_free(c);
        assert_int_equal(checkpoint_read(&cx, path_of("a"), &c), ST_OK);
        checkpoint_free(c);
    }
    uint16_t half = 0x7C01, brain = 0xFF80;
    Checkpoint *c = checkpoint_new();
    checkpoint_add(c, &(GtcTensor){ "h", INPUT_param, { DT_F16, shape_of(1, 1) }, &half });
    assert_int_equal(checkpoint_write(&cx, path_of("h"), c), ST_NUMERIC);
    half = 0x7BFF;
    checkpoint_add(c, &(GtcTensor){ "b", INPUT_param, { DT_BF16, shape_of(1, 1) }, &brain });
    assert_int_equal(checkpoint_write(&cx, path_of("h"), c), ST_NUMERIC);
    brain = 0x7F7F;
    assert_int_equal(checkpoint_write(&cx, path_of("h"), c), ST_OK);
    checkpoint_free(c);
}

static void test_unreadable(void **state)
{
    (void)state;
    Ctx cx;
    Checkpoint *c;
    ctx_init(&cx);
    assert_int_equal(checkpoint_read(&cx, path_of("absent"), &c), ST_IO);
    assert_int_equal(checkpoint_read(&cx, folder, &c), ST_IO);
}

/* Random headers made of the reader's own words: no crash, no leak, and a verdict. */
static void test_random(void **state)
{
    (void)state;
    static const char *const words[] = { "{",
                                         "}",
                                         "[",
                                         "]",
                                         ":",
                                         ",",
                                         "\"",
                                         "\\",
                                         "\"a\"",
                                         "\"dtype\"",
                                         "\"F32\"",
                                         "\"shape\"",
                                         "\"data_offsets\"",
                                         "\"__metadata__\"",
                                         "0",
                                         "4",
                                         "18446744073709551616",
                                         " ",
                                         "\\u00",
                                         "x" };
    Rng rng;
    rng_init(&rng, 1, 2);
    for (int i = 0; i < 20000; i++) {
        char header[512] = "{";
        Checkpoint *c = NULL;
        const int n = (int)rng_below(&rng, 24);
        for (int k = 0; k < n; k++)
            strcat(header, words[rng_below(&rng, sizeof words / sizeof *words)]);
        if (parse_header(header, 4, &c) == ST_OK)
            checkpoint_free(c);
    }
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    (void)state;
    static const char *const names[] = { "a", "b", "h" };
    for (int i = 0; i < 3; i++)
        unlink(path_of(names[i]));
    return rmdir(folder); /* fails when a temporary file was left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_damage),     cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
