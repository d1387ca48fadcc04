/* SPDX-License-Identifier: Apache-2.0 */
/* Every system call of data_open made to fail, one after the other: one clear error, nothing
 * leaked, and the same call works afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "ir/base/os.h"
#include "ir/base/strbuf.h"
#include "train/loader.h"

/* Counts down to the call that fails; -1: none.  A table of functions has no argument for it. */
static struct {
    int left;
    int err;
    bool hit, short_reads;
    long live; /* buffers */
} fault;

static bool fault_now(void)
{
    if (fault.left < 0 || fault.left-- > 0)
        return false;
    fault.hit = true;
    errno = fault.err;
    return true;
}

static void *alloc_faulty(size_t n)
{
    void *p = fault_now() ? NULL : os_default()->alloc(n);
    fault.live += p != NULL;
    return p;
}
static void release_counted(void *p)
{
    fault.live -= p != NULL;
    os_default()->release(p);
}
static int open_faulty(const char *path, int flags, int mode)
{
    return fault_now() ? -1 : os_default()->open(path, flags, mode);
}
static ssize_t read_faulty(int fd, void *buf, size_t n)
{
    if (fault_now())
        return -1;
    return os_default()->read(fd, buf, fault.short_reads && n > 7 ? 7 : n);
}
static int stat_faulty(const char *path, struct stat *st)
{
    return fault_now() ? -1 : os_default()->stat(path, st);
}
static int fstat_faulty(int fd, struct stat *st)
{
    return fault_now() ? -1 : os_default()->fstat(fd, st);
}

static const Os *faulty(void)
{
    static Os os; /* filled once, the same each time */
    os = *os_default();
    os.alloc = alloc_faulty;
    os.release = release_counted;
    os.open = open_faulty;
    os.read = read_faulty;
    os.stat = stat_faulty;
    os.fstat = fstat_faulty;
    return &os;
}

static char folder[32];

static int folder_make(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/gtc_test_faults_XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int folder_remove(void **state)
{
    static const char *const name[] = { "a.csv", "b.csv.gz", "i.csv", "t.txt", "s.wav", "n.wav" };
    (void)state;
    for (int i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", folder, name[i]);
        unlink(path);
    }
    rmdir(folder);
    return 0;
}

static void files_write(void)
{
    Ctx cx;
    Strbuf s = { 0 };
    char path[64];
    unsigned char packed[2048];
    z_stream z = { 0 };
    ctx_init(&cx);
    strbuf_add(&s, "day,u,w\n");
    for (int r = 0; r < 28; r++)
        strbuf_printf(&s, "2014-02-%02d,%d,%s\n", r + 1, r, r % 3 ? "NE" : "SW");
    snprintf(path, sizeof path, "%s/a.csv", folder);
    assert_int_equal(os_write_file(&cx, path, s.s, s.n), ST_OK);
    strbuf_clear(&s);
    strbuf_add(&s, "day,v\n");
    for (int r = 2; r < 28; r++)
        strbuf_printf(&s, "2014-02-%02d,%d\n", r + 1, 10 * r);
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)s.s;
    z.avail_in = (unsigned)s.n;
    z.next_out = packed;
    z.avail_out = sizeof packed;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    snprintf(path, sizeof path, "%s/b.csv.gz", folder);
    assert_int_equal(os_write_file(&cx, path, packed, z.total_out), ST_OK);
    deflateEnd(&z);
    strbuf_free(&s);
}

/* Opens, joins, unpacks, fits and fetches; whatever is left open is closed. */
static Status everything(Ctx *cx)
{
    const char *files[] = { "a.csv", "b.csv.gz" }, *targets[] = { "v" }, *words[] = { "w" };
    const char *dirs[] = { "/nonexistent", folder };
    const DataConfig cfg = { .format = DATA_CSV,
                             .files = { files, 2 },
                             .targets = { targets, 1 },
                             .categories = { words, 1 },
                             .time = "day",
                             .window = 3,
                             .horizon = 1,
                             .scaler = SCALER_STANDARD,
                             .target_scaler = SCALER_MINMAX,
                             .missing = MISSING_FFILL,
                             .split = { 0.6, 0.2, 0.2 } };
    Data *d = NULL;
    Loader *l = NULL;
    int rows = 0;
    float x[4 * 3 * 4], y[4];
    void *in[] = { x };
    Status s = data_open(cx, &cfg, dirs, 2, 1, NULL, &d);
    if (s == ST_OK)
        s = loader_open(cx, d, SPLIT_TRAIN, 4, true, 1, &l);
    if (s == ST_OK)
        s = loader_next(cx, l, in, y, &rows);
    if (s == ST_OK)
        assert_int_equal(rows, 4);
    loader_close(l);
    data_close(d);
    return s;
}

static void wav_write(const char *name, int rows)
{
    Ctx cx;
    Strbuf s = { 0 };
    char path[80];
    ctx_init(&cx);
    strbuf_addn(&s,
                "RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0"
                "data",
                40);
    const char size[4] = { (char)(2 * rows) };
    strbuf_addn(&s, size, 4);
    for (int r = 0; r < 2 * rows; r++)
        strbuf_putc(&s, (char)(r * 7 % 50));
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(os_write_file(&cx, path, s.s, s.n), ST_OK);
    strbuf_free(&s);
}

static void sequences_write(void)
{
    static const char index[] = "first,rows\n0,9\n9,11\n", text[] = "abcabcabcabcabcabcab";
    Ctx cx;
    char path[80];
    ctx_init(&cx);
    snprintf(path, sizeof path, "%s/i.csv", folder);
    assert_int_equal(os_write_file(&cx, path, index, sizeof index - 1), ST_OK);
    snprintf(path, sizeof path, "%s/t.txt", folder);
    assert_int_equal(os_write_file(&cx, path, text, sizeof text - 1), ST_OK);
    wav_write("s.wav", 20);
    wav_write("n.wav", 30);
}

static Status sequence(Ctx *cx, const DataConfig *cfg)
{
    const char *dirs[] = { folder };
    Data *d = NULL;
    int32_t x[4], y[4]; /* or f32 */
    void *in[] = { x };
    Status s = data_open(cx, cfg, dirs, 1, 1, NULL, &d);
    if (s == ST_OK)
        s = data_fetch(cx, d, SPLIT_TRAIN, &(int64_t){ 0 }, 1, in, y);
    data_close(d);
    return s;
}

/* A mix, and a text in segments, with a target for each row. */
static Status sequences(Ctx *cx)
{
    const char *wav[] = { "s.wav" }, *noise[] = { "n.wav" }, *text[] = { "t.txt" };
    const DataConfig mix = { .format = DATA_WAV,
                             .files = { wav, 1 },
                             .mix = true,
                             .noise_files = { noise, 1 },
                             .scaler = SCALER_STANDARD,
                             .window = 4,
                             .target_rows = TARGET_EACH,
                             .split = { 0.6, 0.2, 0.2 } };
    const DataConfig words = { .format = DATA_TEXT,
                               .files = { text, 1 },
                               .category_as = CATEGORY_INDEX,
                               .classification = true,
                               .index = "i.csv",
                               .index_start = "first",
                               .index_count = "rows",
                               .window = 4,
                               .target_rows = TARGET_EACH,
                               .split = { 0.6, 0.2, 0.2 } };
    TRY(sequence(cx, &mix));
    return sequence(cx, &words);
}

static void each_call_of(Status (*all)(Ctx *cx))
{
    static const int errors[] = { EIO, ENOMEM, EACCES };
    for (size_t e = 0; e < sizeof errors / sizeof *errors; e++) {
        int n = 0, failed = 0;
        for (;; n++) {
            Ctx cx;
            ctx_init(&cx);
            cx.os = faulty();
            fault.left = n;
            fault.err = errors[e];
            fault.hit = fault.short_reads = false;
            const Status s = all(&cx);
            assert_int_equal(fault.live, 0);
            if (!fault.hit) {
                assert_int_equal(s, ST_OK);
                break;
            }
            if (s == ST_OK)
                continue; /* one of several folders to look into */
            failed++;
            assert_true(s == ST_IO || s == ST_MEMORY);
            assert_true(strlen(cx.msg) > 10);
        }
        print_message("%s: %d calls, %d of them fatal\n", strerror(errors[e]), n, failed);
        assert_true(n > 25 && failed > 20);
    }
    fault.left = -1;
}

static void each_call_fails(void **state)
{
    (void)state;
    files_write();
    each_call_of(everything);
    sequences_write();
    each_call_of(sequences);
}

static void short_reads(void **state)
{
    Ctx cx;
    (void)state;
    files_write();
    ctx_init(&cx);
    cx.os = faulty();
    fault.left = -1;
    fault.short_reads = true;
    assert_int_equal(everything(&cx), ST_OK);
    sequences_write();
    assert_int_equal(sequences(&cx), ST_OK);
    assert_int_equal(fault.live, 0);
}

/* What is no regular file, or may not be read. */
static void odd_files(void **state)
{
    const char *files[] = { folder }, *targets[] = { "v" };
    DataConfig cfg = {
        .format = DATA_CSV, .files = { files, 1 }, .targets = { targets, 1 }, .split = { 1, 0, 0 }
    };
    Data *d = NULL;
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    assert_int_equal(data_open(&cx, &cfg, NULL, 0, 1, NULL, &d), ST_IO);
    files[0] = "/dev/null";
    const Status s = data_open(&cx, &cfg, NULL, 0, 1, NULL, &d);
    assert_true(s == ST_DATA || s == ST_IO);
    cfg.files.n = 0;
    assert_int_equal(data_open(&cx, &cfg, NULL, 0, 1, NULL, &d), ST_VALUE);
    assert_null(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_fails),
        cmocka_unit_test(short_reads),
        cmocka_unit_test(odd_files),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
