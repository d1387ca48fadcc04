/* SPDX-License-Identifier: Apache-2.0 */
/* The cache: full keys decide, damage and strangers' files cost a miss, every failing system call
 * costs a miss, and processes that race leave whole entries. */
#include "runtime/cache.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "ir/base/os.h"

static const CacheKey key = { "tu", "isa: x\nprelude: 1\n\nint f;\n", "cc: gcc\nflags: -O2\n" };
static char dir[64];
static int said;

static void hear(void *arg, LogLevel level, const char *text)
{
    (void)arg, (void)level, (void)text;
    said++;
}

static Cache *fresh(Ctx *cx)
{
    Cache *c = NULL;
    ctx_init(cx);
    cx->log = hear;
    said = 0;
    assert_int_equal(cache_open(cx, &c), ST_OK);
    assert_string_equal(cache_dir(c), dir);
    return c;
}

static bool hits(Ctx *cx, Cache *c, const CacheKey *k, const char *want)
{
    char *data = NULL;
    size_t n = 0;
    if (!cache_get(cx, c, k, &data, &n))
        return false;
    assert_int_equal(n, strlen(want));
    assert_memory_equal(data, want, n);
    free(data);
    return true;
}

static void entry_file(char path[600])
{
    char tu[128];
    snprintf(tu, sizeof tu, "%s/tu", dir);
    DIR *d = opendir(tu);
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d));)
        if (strstr(f->d_name, ".gtc"))
            snprintf(path, 600, "%s/%s", tu, f->d_name);
    closedir(d);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/gtc-cache-test-%ld", (long)getpid());
    return setenv("GTC_CACHE_DIR", dir, 1);
}

static int teardown(void **state)
{
    (void)state;
    Ctx cx;
    chmod(dir, 0700);
    Cache *c = fresh(&cx);
    CacheInfo info;
    cache_clear(&cx, c, &info);
    cache_close(c);
    const char *sub[] = { "tu", "plan", "cc", "log", "" };
    for (int i = 0; i < 5; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, sub[i]);
        rmdir(path);
    }
    return access(dir, F_OK) == 0 ? 1 : 0;
}

static void cache_gives_what_was_put(void **state)
{
    (void)state;
    Ctx cx;
    Cache *c = fresh(&cx);
    CacheInfo info;
    CacheKey other = key;

    assert_false(hits(&cx, c, &key, ""));
    cache_put(&cx, c, &key, "machine code", 12);
    assert_true(hits(&cx, c, &key, "machine code"));
    other.how = "cc: clang\nflags: -O1\n";
    assert_false(hits(&cx, c, &other, ""));
    other.how = NULL; /* any maker */
    assert_true(hits(&cx, c, &other, "machine code"));
    other.what = "isa: y\n\n";
    assert_false(hits(&cx, c, &other, ""));

    assert_int_equal(cache_stats(&cx, c, &info), ST_OK);
    assert_int_equal(info.entries, 1);
    assert_true(info.bytes > 12);
    assert_int_equal(cache_clear(&cx, c, &info), ST_OK);
    assert_int_equal(info.entries, 1);
    assert_int_equal(cache_stats(&cx, c, &info), ST_OK);
    assert_int_equal(info.entries + info.bytes, 0);
    assert_int_equal(said, 0);
    cache_close(c);
    cache_close(NULL);
}

static void cache_explains_by_field(void **state)
{
    (void)state;
    Ctx cx;
    Cache *c = fresh(&cx);
    Strbuf s = { 0 };
    const CacheKey other = { "tu", "isa: z\nprelude: 1\n\nint f;\nint g;\n",
                             "cc: gcc\nflags: -O1\n" };
    cache_put(&cx, c, &key, "x", 1);
    cache_explain(&cx, c, &other, &s);
    assert_string_equal(strbuf_str(&s), "isa: has x, wants z\ntext: differs from line 2 on\n"
                                        "flags: has -O2, wants -O1\n");
    strbuf_clear(&s);
    cache_explain(&cx, c, &key, &s);
    assert_string_equal(strbuf_str(&s), "hit\n");
    strbuf_free(&s);
    cache_close(c);
}

/* Every byte flipped and every length cut: a miss, one message, and the file is gone. */
static void cache_survives_damage(void **state)
{
    (void)state;
    Ctx cx;
    char path[600];
    Cache *c = fresh(&cx);
    cache_put(&cx, c, &key, "machine code", 12);
    entry_file(path);
    char *good = NULL;
    size_t n = 0;
    assert_int_equal(os_read_file(&cx, path, &good, &n), ST_OK);
    cache_close(c);
    for (size_t i = 0; i < 2 * n; i++) {
        const bool cut = i >= n;
        c = fresh(&cx);
        good[i % n] ^= (char)(cut ? 0 : 1 << i % 8);
        assert_int_equal(os_write_file(&cx, path, good, cut ? i - n : n), ST_OK);
        assert_false(hits(&cx, c, &key, ""));
        assert_int_equal(said, 1);
        assert_int_equal(access(path, F_OK), -1);
        good[i % n] ^= (char)(cut ? 0 : 1 << i % 8);
        cache_close(c);
    }
    free(good);
}

static void cache_refuses_strangers(void **state)
{
    (void)state;
    Ctx cx;
    char path[600], moved[700], tu[128];
    Cache *c = fresh(&cx);
    cache_put(&cx, c, &key, "machine code", 12);
    entry_file(path);
    snprintf(moved, sizeof moved, "%s.moved", path);
    snprintf(tu, sizeof tu, "%s/tu", dir);
    cache_close(c);

#define REFUSED(before, after)                                                                     \
    do {                                                                                           \
        c = fresh(&cx);                                                                            \
        assert_int_equal((before), 0);                                                             \
        assert_false(hits(&cx, c, &key, ""));                                                      \
        assert_false(hits(&cx, c, &key, ""));                                                      \
        assert_int_equal(said, 1);                                                                 \
        assert_int_equal((after), 0);                                                              \
        cache_close(c);                                                                            \
    } while (0)
    REFUSED(chmod(path, 0620), chmod(path, 0600));
    REFUSED(chmod(path, 0602), chmod(path, 0600));
    REFUSED(chmod(tu, 0777), chmod(tu, 0700));
    REFUSED(chmod(dir, 0770), chmod(dir, 0700));
    REFUSED(rename(path, moved) || symlink(moved, path), unlink(path) || rename(moved, path));
    REFUSED(rename(path, moved) || mkfifo(path, 0600), unlink(path) || rename(moved, path));
    REFUSED(rename(path, moved) || mkdir(path, 0700), rmdir(path) || rename(moved, path));
    if (geteuid() == 0) {
        REFUSED(chown(path, 1234, 0), chown(path, 0, 0));
        REFUSED(chown(dir, 1234, 0), chown(dir, 0, 0));
    }
    c = fresh(&cx);
    assert_true(hits(&cx, c, &key, "machine code"));
    cache_close(c);
}

/* System calls that fail by number, from the k-th on or only once. */
static struct {
    int calls, fail_at, error;
    bool once;
} fault;

static bool fails(void)
{
    const int k = fault.calls++;
    const bool now = fault.once ? k == fault.fail_at : k >= fault.fail_at;
    if (now)
        errno = fault.error;
    return now;
}
static int f_open(const char *p, int flags, int mode)
{
    return fails() ? -1 : os_default()->open(p, flags, mode);
}
static ssize_t f_read(int fd, void *b, size_t n)
{
    return fails() ? -1 : os_default()->read(fd, b, n);
}
static ssize_t f_write(int fd, const void *b, size_t n)
{
    return fails() ? -1 : os_default()->write(fd, b, n > 100 ? n / 2 : n);
}
static int f_rename(const char *a, const char *b)
{
    return fails() ? -1 : os_default()->rename(a, b);
}
static int f_mkdir(const char *p, int mode)
{
    return fails() ? -1 : os_default()->mkdir(p, mode);
}
static int f_fstat(int fd, struct stat *st)
{
    return fails() ? -1 : os_default()->fstat(fd, st);
}
static int f_close(int fd)
{
    const bool bad = fails();
    const int r = os_default()->close(fd);
    errno = bad ? fault.error : errno;
    return bad ? -1 : r;
}

static void cache_survives_failing_calls(void **state)
{
    (void)state;
    const int errors[] = { ENOSPC, EIO, EACCES, EROFS, EMFILE };
    Os os = *os_default();
    os.open = f_open, os.read = f_read, os.write = f_write, os.rename = f_rename;
    os.mkdir = f_mkdir, os.fstat = f_fstat, os.close = f_close;

    int tried = 0;
    for (int e = 0; e < 5; e++)
        for (int once = 0; once < 2; once++)
            for (int k = 0; k < 40; k++) {
                Ctx cx;
                CacheInfo info;
                Cache *c = fresh(&cx);
                cache_clear(&cx, c, &info);
                cx.os = &os;
                fault.calls = 0, fault.fail_at = k, fault.error = errors[e], fault.once = once;
                cache_put(&cx, c, &key, "machine code", 12);
                hits(&cx, c, &key, "machine code");
                assert_true(said <= 3);
                tried += fault.calls > k;
                cache_close(c);

                c = fresh(&cx); /* and afterwards all is well */
                cache_put(&cx, c, &key, "machine code", 12);
                assert_true(hits(&cx, c, &key, "machine code"));
                cache_close(c);
            }
    printf("%d faults\n", tried);
    assert_true(tried > 100);
}

static void cache_survives_a_race(void **state)
{
    (void)state;
    pid_t child[6];
    for (int i = 0; i < 6; i++) {
        fflush(stdout);
        child[i] = fork();
        if (child[i])
            continue;
        int bad = 0;
        Ctx cx;
        Cache *c = NULL;
        ctx_init(&cx);
        cache_open(&cx, &c);
        for (int round = 0; round < 200; round++) {
            char *data = NULL;
            size_t n = 0;
            cache_put(&cx, c, &key, "machine code", 12);
            if (!cache_get(&cx, c, &key, &data, &n) || n != 12)
                bad = 1;
            free(data);
        }
        cache_close(c);
        _exit(bad);
    }
    for (int i = 0; i < 6; i++) {
        int st = 0;
        assert_int_equal(waitpid(child[i], &st, 0), child[i]);
        assert_int_equal(st, 0);
    }
}

static void cache_does_without_a_folder(void **state)
{
    (void)state;
    Ctx cx;
    Cache *c = NULL;
    char *data = NULL;
    size_t n = 0;
    CacheInfo info;
    ctx_init(&cx);
    cx.log = hear;
    said = 0;
    setenv("GTC_CACHE_DIR", "/proc/nowhere/gtc", 1);
    assert_int_equal(cache_open(&cx, &c), ST_OK);
    cache_put(&cx, c, &key, "x", 1);
    cache_put(&cx, c, &key, "x", 1);
    assert_false(cache_get(&cx, c, &key, &data, &n));
    assert_int_equal(cache_stats(&cx, c, &info), ST_OK);
    assert_int_equal(info.entries, 0);
    assert_int_equal(said, 1);
    cache_close(c);
    setenv("GTC_CACHE_DIR", dir, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(cache_gives_what_was_put, setup, teardown),
        cmocka_unit_test_setup_teardown(cache_explains_by_field, setup, teardown),
        cmocka_unit_test_setup_teardown(cache_survives_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(cache_refuses_strangers, setup, teardown),
        cmocka_unit_test_setup_teardown(cache_survives_failing_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(cache_survives_a_race, setup, teardown),
        cmocka_unit_test_setup_teardown(cache_does_without_a_folder, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
