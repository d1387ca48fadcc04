/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ir/base/arena.h"
#include "ir/base/hash.h"
#include "ir/base/os.h"
#include "ir/base/rng.h"
#include "ir/base/size.h"
#include "ir/base/status.h"
#include "ir/base/strbuf.h"

/* The known answers for philox4x32-10 that its authors publish. */
static void philox_known_answers(void **state)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff },
          { 0xffffffff, 0xffffffff },
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        philox4x32(known[i].counter, known[i].key, out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

static void rand_op_is_philox(void **state)
{
    const uint32_t key[2] = { 7, 9 };
    (void)state;
    for (uint64_t index = 0; index < 64; index++) {
        const uint32_t counter[4] = { (uint32_t)(index / 4), 3, 5, 0 };
        uint32_t word[4];
        philox4x32(counter, key, word);
        const float x = rng_rand_op(7, 9, 3, 5, index);
        assert_true(x == (float)(word[index % 4] >> 8) * 0x1p-24f);
        assert_true(x >= 0 && x < 1);
    }
    assert_true(rng_rand_op(1, 2, 3, 4, 5) != rng_rand_op(1, 2, 3, 4, 5 + (UINT64_C(4) << 32)));
}

static void rng_streams(void **state)
{
    Rng a, b, c;
    double sum = 0, squares = 0;
    int hits[7] = { 0 }, equal = 0;
    (void)state;

    rng_init(&a, 1, 0);
    rng_init(&b, 1, 0);
    rng_init(&c, 1, 1);
    for (int i = 0; i < 1000; i++) {
        const uint32_t x = rng_u32(&a);
        assert_int_equal(x, rng_u32(&b));
        equal += x == rng_u32(&c);
    }
    assert_true(equal < 3);
    for (int i = 0; i < 7000; i++)
        hits[rng_below(&a, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(hits[i], 850, 1150);
    assert_int_equal(rng_below(&a, 1), 0);
    for (int i = 0; i < 10000; i++) {
        const double u = rng_unit(&a), x = rng_normal(&a);
        assert_true(u >= 0 && u < 1 && isfinite(x));
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / 10000) < 0.05 && fabs(squares / 10000 - 1) < 0.06);
}

static void sizes(void **state)
{
    int64_t x;
    (void)state;
    assert_true(size_mul_ok(1 << 20, 1 << 20, &x) && x == INT64_C(1) << 40);
    assert_false(size_mul_ok(INT64_C(1) << 40, INT64_C(1) << 40, &x));
    assert_false(size_add_ok(INT64_MAX, 1, &x));
    assert_true(size_add_ok(INT64_MAX, -1, &x));
    assert_int_equal(size_round_up(0, 64), 0);
    assert_int_equal(size_round_up(65, 64), 128);
    assert_int_equal(size_ceil_div(64, 64), 1);
    assert_int_equal(size_ceil_div(INT64_MAX, 1), INT64_MAX);
}

static void arenas(void **state)
{
    Arena *a = arena_new();
    int *grown = NULL;
    unsigned cap = 0;
    (void)state;

    assert_int_equal(arena_bytes(a), 0);
    for (size_t n = 0; n < 3000000; n = n * 3 + 1) {
        unsigned char *p = arena_alloc(a, n);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xee, n);
    }
    for (int i = 0; i < 1000; i++) {
        arena_grow(a, grown, (unsigned)i, cap);
        grown[i] = i;
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(grown[i], i);
    assert_string_equal(arena_printf(a, "%s-%d", "x", 7), "x-7");
    assert_string_equal(arena_strdup(a, "abc"), "abc");
    arena_free(a);
    arena_free(NULL);
}

static void strbufs(void **state)
{
    Strbuf b = { 0 };
    (void)state;
    assert_string_equal(strbuf_str(&b), "");
    for (int i = 0; i < 100; i++)
        strbuf_printf(&b, "%d,", i);
    strbuf_putc(&b, '!');
    assert_int_equal(b.n, 10 * 2 + 90 * 3 + 1);
    assert_int_equal(strlen(b.s), b.n);
    strbuf_clear(&b);
    assert_string_equal(strbuf_str(&b), "");
    strbuf_add(&b, "abc");
    strbuf_addn(&b, "defgh", 2);
    assert_string_equal(strbuf_str(&b), "abcde");
    strbuf_free(&b);
    assert_string_equal(strbuf_str(&b), "");
}

static void hashes(void **state)
{
    char a[33], b[33];
    (void)state;
    assert_int_equal(hash_bytes("", 0, 0), UINT64_C(0x2D06800538D394C2)); /* XXH3_64 of nothing */
    assert_true(hash_bytes("a", 1, 0) != hash_bytes("a", 1, 1));
    hash_hex("", 0, a);
    assert_string_equal(a, "99aa06d3014798d86001c324468d497f"); /* XXH128 of nothing */
    hash_hex("x", 1, b);
    assert_string_not_equal(a, b);
}

static void failures(void **state)
{
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    assert_int_equal(FAIL(&cx, SHAPE, "first %d", 1), ST_SHAPE);
    assert_int_equal(status_fail(&cx, ST_IO, "outer: %s", cx.msg), ST_IO);
    assert_string_equal(cx.msg, "outer: first 1");
    assert_string_equal(cx.file, "");
    status_fail_at(&cx, ST_PARSE, "a.gir", 3, 4, "bad");
    assert_string_equal(cx.file, "a.gir");
    assert_int_equal(cx.line * 10 + cx.col, 34);
    assert_int_equal(status_exit_code(ST_IO), 4);
    assert_string_equal(status_text(ST_OK), "ok");
}

/* Files, with each system call failing in turn. */

typedef enum Fault {
    FAULT_NONE,
    FAULT_OPEN,
    FAULT_WRITE,
    FAULT_SHORT,
    FAULT_FSYNC,
    FAULT_CLOSE,
    FAULT_RENAME,
    FAULT_READ,
    FAULT_FSTAT,
    FAULT_COUNT
} Fault;

static Fault fault; /* what the next calls do */

static int refuse(int error)
{
    errno = error;
    return -1;
}
static int faulty_open(const char *path, int flags, int mode)
{
    return fault == FAULT_OPEN ? refuse(EACCES) : os_default()->open(path, flags, mode);
}
static ssize_t faulty_write(int fd, const void *buf, size_t n)
{
    if (fault == FAULT_WRITE)
        return refuse(ENOSPC);
    return os_default()->write(fd, buf, fault == FAULT_SHORT && n > 1 ? n / 2 : n);
}
static ssize_t faulty_read(int fd, void *buf, size_t n)
{
    return fault == FAULT_READ ? refuse(EIO) : os_default()->read(fd, buf, n > 3 ? 3 : n);
}
static int faulty_fsync(int fd)
{
    return fault == FAULT_FSYNC ? refuse(EIO) : os_default()->fsync(fd);
}
static int faulty_close(int fd)
{
    const int rc = os_default()->close(fd);
    return fault == FAULT_CLOSE ? refuse(EDQUOT) : rc;
}
static int faulty_rename(const char *from, const char *to)
{
    return fault == FAULT_RENAME ? refuse(EXDEV) : os_default()->rename(from, to);
}
static int faulty_fstat(int fd, struct stat *st)
{
    return fault == FAULT_FSTAT ? refuse(EIO) : os_default()->fstat(fd, st);
}

static int count_files(const char *dir)
{
    DIR *d = opendir(dir);
    int n = 0;
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void expect_file(Ctx *cx, const char *path, const char *text)
{
    char *data = NULL;
    size_t n = 0;
    assert_int_equal(os_read_file(cx, path, &data, &n), ST_OK);
    assert_string_equal(data, text);
    assert_int_equal(n, strlen(text));
    free(data);
}

static void whole_files(void **state)
{
    char dir[] = "/tmp/gtc-base-XXXXXX", path[64], deep[96];
    Os os = *os_default();
    Ctx cx;
    char *data = NULL;
    size_t n = 0;
    (void)state;

    ctx_init(&cx);
    cx.os = &os;
    os.open = faulty_open;
    os.write = faulty_write;
    os.read = faulty_read;
    os.fsync = faulty_fsync;
    os.close = faulty_close;
    os.rename = faulty_rename;
    os.fstat = faulty_fstat;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/f", dir);
    assert_int_equal(os_write_file(&cx, path, "old text", 8), ST_OK);
    for (fault = FAULT_OPEN; fault <= FAULT_RENAME; fault++) {
        const Status status = os_write_file(&cx, path, "new text", 8);
        const bool harmless = fault == FAULT_SHORT;
        const Fault was = fault;
        assert_int_equal(status, harmless ? ST_OK : ST_IO);
        fault = FAULT_NONE;
        expect_file(&cx, path, harmless ? "new text" : "old text");
        if (!harmless)
            assert_non_null(strstr(cx.msg, path));
        assert_int_equal(count_files(dir), 1);
        assert_int_equal(os_write_file(&cx, path, "old text", 8), ST_OK);
        fault = was;
    }
    for (fault = FAULT_READ; fault <= FAULT_FSTAT; fault++)
        assert_int_equal(os_read_file(&cx, path, &data, &n), ST_IO);
    fault = FAULT_NONE;
    assert_int_equal(os_read_file(&cx, dir, &data, &n), ST_IO);
    assert_int_equal(os_read_file(&cx, "/nonexistent/x", &data, &n), ST_IO);
    assert_string_equal(cx.msg, "cannot open /nonexistent/x: No such file or directory");

    /* A device stays one. */
    struct stat st;
    snprintf(deep, sizeof deep, "%s/pipe", dir);
    assert_int_equal(mkfifo(deep, 0600), 0);
    const int end = open(deep, O_RDWR | O_NONBLOCK);
    assert_int_equal(os_write_file(&cx, deep, "text", 4), ST_OK);
    assert_true(stat(deep, &st) == 0 && S_ISFIFO(st.st_mode));
    char got[8] = "";
    assert_int_equal(read(end, got, sizeof got), 4);
    close(end);
    unlink(deep);

    snprintf(deep, sizeof deep, "%s/a//b/c/", dir);
    assert_int_equal(os_make_dirs(&cx, deep), ST_OK);
    assert_int_equal(os_make_dirs(&cx, deep), ST_OK);
    snprintf(deep, sizeof deep, "%s/f/x", dir);
    assert_int_equal(os_make_dirs(&cx, deep), ST_IO);
    assert_int_equal(os_make_dirs(&cx, ""), ST_IO);

    static const char *const made[] = { "a/b/c", "a/b", "a" };
    for (int i = 0; i < 3; i++) {
        snprintf(deep, sizeof deep, "%s/%s", dir, made[i]);
        assert_int_equal(rmdir(deep), 0);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void spawning(void **state)
{
    char name[] = "/tmp/gtc-spawn-XXXXXX", text[64] = "";
    const int fd = mkstemp(name);
    const char *echo[] = { "sh", "-c", "echo out; echo err >&2; cat; exit 9", NULL };
    const char *none[] = { "/nonexistent/cc", NULL };
    const char *dies[] = { "sh", "-c", "kill -9 $$", NULL };
    (void)state;
    assert_int_equal(os_default()->spawn(echo, fd), 9);
    assert_int_equal(pread(fd, text, sizeof text - 1, 0), 8);
    assert_string_equal(text, "out\nerr\n");
    assert_int_equal(os_default()->spawn(none, fd), -1);
    assert_int_equal(os_default()->spawn(dies, fd), -1);
    for (int i = 0; i < 2; i++) { /* zeroed, also where something else stood before */
        char *p = os_default()->alloc(100);
        for (int j = 0; j < 100; j++)
            assert_int_equal(p[j], 0);
        memset(p, 0xff, 100);
        os_default()->release(p);
    }
    close(fd);
    unlink(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(rand_op_is_philox),
        cmocka_unit_test(rng_streams),
        cmocka_unit_test(sizes),
        cmocka_unit_test(arenas),
        cmocka_unit_test(strbufs),
        cmocka_unit_test(hashes),
        cmocka_unit_test(failures),
        cmocka_unit_test(whole_files),
        cmocka_unit_test(spawning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
