/* SPDX-License-Identifier: Apache-2.0 */
/* Recordings: headers of all kinds, mono and stereo, and mixes with noise. */
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

static const char *const file_s[] = { "s.wav" }, *const file_n[] = { "n.wav" };

static void put_u32(Strbuf *s, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        strbuf_putc(s, (char)(v >> 8 * i));
}

static void put_wav(Folder *f, const char *name, int channels, int rate, const int16_t *v, int n)
{
    Strbuf s = { 0 };
    strbuf_add(&s, "RIFF");
    put_u32(&s, 36 + 2 * (uint32_t)n);
    strbuf_add(&s, "WAVEfmt ");
    put_u32(&s, 16);
    put_u32(&s, 1 | (uint32_t)channels << 16);
    put_u32(&s, (uint32_t)rate);
    put_u32(&s, (uint32_t)(rate * channels) * 2);
    put_u32(&s, (uint32_t)channels * 2 | 16u << 16);
    strbuf_add(&s, "data");
    put_u32(&s, 2 * (uint32_t)n);
    for (int i = 0; i < n; i++) {
        strbuf_putc(&s, (char)v[i]);
        strbuf_putc(&s, (char)((uint16_t)v[i] >> 8));
    }
    folder_put(f, name, s.s, s.n);
    strbuf_free(&s);
}

static DataConfig config_wav(void)
{
    return (DataConfig){ .format = DATA_WAV,
                         .files = { (const char **)(uintptr_t)file_s, 1 },
                         .window = 2,
                         .stride = 2,
                         .target_rows = TARGET_EACH,
                         .split = { 1, 0, 0 } };
}

static const int16_t speech[] = { 1000, -2000, 3000, -4000, 5000, -6000 };
static const int16_t noise[] = { 100, 100, -100, -100, 100, 100, 32767, 32767 };

static void a_mix(void **state)
{
    Folder *f = *state;
    DataConfig cfg = config_wav();
    cfg.mix = true;
    cfg.noise_files = (StrList){ (const char **)(uintptr_t)file_n, 1 };
    cfg.snr = 6;
    put_wav(f, "s.wav", 1, 8000, speech, 6);
    put_wav(f, "n.wav", 1, 8000, noise, 8);
    /* powers over six samples: what lies beyond in the noise does not count */
    const double gain = sqrt(91e6 / 6e4) / pow(10, 0.3);
    float x[2], y[2];
    Data *d = folder_open(f, &cfg, NULL);
    assert_int_equal(data_rows(d, SPLIT_TRAIN), 3);
    assert_string_equal(shape_str(&data_shape(d)->input[0].shape), "[2,1]");
    assert_string_equal(shape_str(&data_shape(d)->target), "[2,1]");
    assert_string_equal(data_target_name(d, 0), "s");
    assert_true(data_has_persistence(d));
    for (int i = 0; i < 3; i++) {
        folder_fetch(f, d, SPLIT_TRAIN, i, x, y);
        for (int t = 0; t < 2; t++) {
            const int r = 2 * i + t;
            const double mix = (speech[r] + gain * noise[r]) / 32768;
            assert_float_equal(x[t], mix, 1e-6);
            assert_float_equal(y[t], speech[r] / 32768.0, 1e-6);
            assert_float_equal(data_persistence(d, SPLIT_TRAIN, i, t, 0), mix, 1e-9);
        }
    }

    /* what is given later is the mixture itself */
    cfg.noise_files = (StrList){ 0 };
    Data *e = folder_open(f, &cfg, data_fit(d));
    assert_false(data_has_targets(e));
    folder_fetch(f, e, SPLIT_TRAIN, 1, x, y);
    assert_float_equal(x[0], speech[2] / 32768.0, 1e-6);
    assert_true(isnan(y[0]));
    data_close(e);
    data_close(d);
}

static void what_is_no_mix(void **state)
{
    Folder *f = *state;
    static const int16_t silence[6] = { 0 };
    DataConfig cfg = config_wav();
    cfg.mix = true;
    cfg.noise_files = (StrList){ (const char **)(uintptr_t)file_n, 1 };
    put_wav(f, "s.wav", 1, 8000, speech, 6);
    put_wav(f, "n.wav", 1, 8000, noise, 5);
    folder_fails(f, &cfg, 0, 0, "n.wav: wants 6 samples of noise or more, got 5");
    put_wav(f, "n.wav", 2, 8000, noise, 8);
    folder_fails(f, &cfg, 0, 0, "n.wav: wants one channel at 8000 Hz as the recording, got 2 at");
    put_wav(f, "n.wav", 1, 8001, noise, 8);
    folder_fails(f, &cfg, 0, 0, "got 1 at 8001");
    put_wav(f, "n.wav", 1, 8000, silence, 6);
    folder_fails(f, &cfg, 0, 0, "n.wav: a mix wants sound, got silence");
    put_wav(f, "n.wav", 1, 8000, noise, 8);
    put_wav(f, "s.wav", 1, 8000, silence, 6);
    folder_fails(f, &cfg, 0, 0, "s.wav: a mix wants sound, got silence");
    put_wav(f, "s.wav", 2, 8000, speech, 6);
    folder_fails(f, &cfg, 0, 0, "s.wav: a mix wants one recording of one channel, got 2");
}

#define RIFF "RIFF\x3c\0\0\0WAVE"
#define FMT  "fmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0"

static void headers_that_lie(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *part;
    } bad[] = {
#define BYTES(s) s, sizeof s - 1
        { BYTES("RIFF"), "this is no WAV file" },
        { BYTES("RIFX\x3c\0\0\0WAVE" FMT), "this is no WAV file" },
        { BYTES(RIFF), "has no samples" },
        { BYTES(RIFF FMT), "has no samples" },
        { BYTES(RIFF "data\x04\0\0\0\0\0\0\0"), "the data come before their format" },
        { BYTES(RIFF FMT "data\xff\xff\xff\xff\x01\0"),
          "wants 4294967295 bytes of samples, got 2" },
        { BYTES(RIFF FMT "data\x06\0\0\0\x01\0\0\0"), "wants 6 bytes of samples, got 4" },
        { BYTES(RIFF FMT "data\0\0\0\0"), "has no samples" },
        { BYTES(RIFF FMT "LIST\xff\xff\xff\xff\x01\0"), "has no samples" },
        { BYTES(RIFF "fmt \x0f\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10"), "too short" },
        { BYTES(RIFF "fmt \x10\0\0\0\x03\0\x01\0\x40\x1f\0\0\0\x7d\0\0\x04\0\x20\0"),
          "wants 16-bit PCM, got format 3 with 32 bits" },
        { BYTES(RIFF "fmt \x10\0\0\0\x01\0\0\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0"),
          "0 channels at 8000 Hz" },
        { BYTES(RIFF "fmt \x10\0\0\0\x01\0\xff\xff\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0"),
          "65535 channels" },
        { BYTES(RIFF "fmt \x10\0\0\0\x01\0\x01\0\0\0\0\0\x80\x3e\0\0\x02\0\x10\0"), "at 0 Hz" },
    };
    Folder *f = *state;
    DataConfig cfg = config_wav();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        folder_put(f, "s.wav", bad[i].bytes, bad[i].n);
        folder_fails(f, &cfg, 0, 0, bad[i].part);
    }
}

/* Cut anywhere, or with any byte of the header changed: data or a message, never worse. */
static void damaged_files(void **state)
{
    Folder *f = *state;
    static const char whole[] = RIFF FMT "data\x0c\0\0\0\x01\0\x02\0\x03\0\x04\0\x05\0\x06\0";
    const char *dirs[] = { f->dir };
    DataConfig cfg = config_wav();
    cfg.horizon = 1; /* so that the recording is input and target */
    int taken = 0;
    for (size_t n = 0; n < sizeof whole - 1; n++)
        for (int c = -1; c < 256; c += 17) {
            char damaged[sizeof whole];
            Data *d;
            memcpy(damaged, whole, sizeof whole);
            if (c >= 0)
                damaged[n] = (char)c;
            folder_put(f, "s.wav", damaged, c < 0 ? n : sizeof whole - 1);
            const Status s = data_open(&f->cx, &cfg, dirs, 1, 7, NULL, &d);
            taken += s == ST_OK;
            if (s == ST_OK)
                data_close(d);
            else
                assert_true(s == ST_DATA && f->cx.msg[0]);
        }
    assert_in_range(taken, 100, 700);
}

static void what_mix_wants(void **state)
{
    static const struct {
        const char *data, *part;
    } bad[] = {
        { "\"csv\": \"a.csv\", \"target\": \"y\", \"mix\": {\"noise\": \"n.wav\"}",
          "noise is added to wav data alone" },
        { "\"wav\": [\"a.wav\", \"b.wav\"], \"mix\": {\"noise\": \"n.wav\"}",
          "noise is added to one recording, got 2" },
        { "\"wav\": \"a.wav\", \"test\": \"t.wav\", \"mix\": {\"noise\": \"n.wav\"}",
          "the test files would hear the noise" },
        { "\"wav\": \"a.wav\", \"mix\": {\"snr\": 3}", "mix wants \"noise\"" },
        { "\"wav\": \"a.wav\", \"mix\": {\"noise\": \"n.wav\", \"snr\": 101}",
          "wants a number in [-100, 100], got 101" },
        { "\"wav\": \"a.wav\", \"mix\": \"n.wav\"", "data.mix" },
    };
    Folder *f = *state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        Model *m;
        snprintf(text, sizeof text,
                 "{\"data\": {%s}, \"layers\": [{\"type\": \"dense\", \"units\": 1}],"
                 "\"loss\": {\"type\": \"mse\"}}",
                 bad[i].data);
        const Status s = model_parse(&f->cx, "m.json", text, NULL, 0, &m);
        if (s != ST_VALUE || !strstr(f->cx.msg, bad[i].part) || f->cx.line != 1)
            fail_msg("wants \"%s\", got %d \"%s\"", bad[i].part, s, f->cx.msg);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_mix),         TEST(what_is_no_mix), TEST(headers_that_lie),
        TEST(damaged_files), TEST(what_mix_wants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
