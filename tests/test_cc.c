/* SPDX-License-Identifier: Apache-2.0 */
/* From C text to a shared object: by compiler and linker, or where the linker cannot do it alone,
 * by the compiler. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ir/base/os.h"
#include "runtime/cc.h"
#include "runtime/library.h"

static const char loops[] =
    "void fill(char *p, long n) { for (long i = 0; i < n; i++) p[i] = 7; }\n"
    "float call(float x) { char a[99]; fill(a, 99); return x + a[98]; }\n";
/* libgcc has this one, and nobody else */
static const char needy[] = "extern float __powisf2(float, int);\n"
                            "float call(float x) { return __powisf2(x, 3); }\n";

typedef struct Fixture {
    Ctx cx;
    Cache *cache;
    CompilerList list;
    char dir[64], c[80], so[80], log[80];
    Os os;
} Fixture;

static int calls; /* of programs: an Os has no argument of its own */

static int count_spawn(const char *const *argv, int fd)
{
    calls++;
    return os_default()->spawn(argv, fd);
}

static void setup(Fixture *f)
{
    ctx_init(&f->cx);
    strcpy(f->dir, "/tmp/gtc-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->c, sizeof f->c, "%s/k.c", f->dir);
    snprintf(f->so, sizeof f->so, "%s/k.so", f->dir);
    snprintf(f->log, sizeof f->log, "%s/k.log", f->dir);
    assert_int_equal(cache_open(&f->cx, &f->cache), ST_OK);
    cc_find(&f->cx, f->cache, &f->list);
    assert_true(f->list.n > 0);
    f->os = *os_default();
    f->os.spawn = count_spawn;
}

static void teardown(Fixture *f)
{
    unlink(f->c);
    unlink(f->so);
    unlink(f->log);
    assert_int_equal(rmdir(f->dir), 0); /* nothing else was left there */
    cache_close(f->cache);
}

/* What cc_run exits with; *made: what call(2) gives. */
static int make(Fixture *f, const Compiler *cc, const char *text, float *made)
{
    const char *flag[MAX_CC_FLAGS];
    float (*call)(float) = NULL;
    char *bytes;
    size_t n;
    Library lib;
    calls = 0;
    unlink(f->so);
    assert_int_equal(os_write_file(&f->cx, f->c, text, strlen(text)), ST_OK);
    const int rc = cc_run(&f->os, cc, flag, cc_flags(cc, 4, flag), f->c, f->so, f->log);
    if (rc)
        return rc;
    assert_int_equal(os_read_file(&f->cx, f->so, &bytes, &n), ST_OK);
    assert_true(library_open(f->cx.os, bytes, n, &lib));
    void *symbol = f->cx.os->dlsym(lib.handle, "call");
    assert_non_null(symbol);
    memcpy(&call, &symbol, sizeof call);
    *made = call(2);
    library_close(f->cx.os, &lib);
    free(bytes);
    return 0;
}

static void every_compiler_links(void **state)
{
    (void)state;
    Fixture f;
    float made = 0;
    setup(&f);
    for (int i = 0; i < f.list.n; i++) {
        const Compiler *cc = &f.list.at[i];
        assert_int_equal(make(&f, cc, loops, &made), 0);
        assert_true(made == 9);
        assert_int_equal(calls, cc->linker[0] ? 2 : 1);
        assert_int_equal(make(&f, cc, needy, &made), 0);
        assert_true(made == 8);
        assert_int_equal(calls, cc->linker[0] ? 3 : 1);
        assert_int_not_equal(make(&f, cc, "float call(float x) { return y; }\n", &made), 0);
        assert_int_equal(calls, 1);
    }
    teardown(&f);
}

static void a_linker_that_fails_is_replaced(void **state)
{
    (void)state;
    Fixture f;
    float made = 0;
    setup(&f);
    Compiler cc = f.list.at[0];
    snprintf(cc.linker, sizeof cc.linker, "/nonexistent/ld");
    assert_int_equal(make(&f, &cc, loops, &made), 0);
    assert_true(made == 9);
    assert_int_equal(calls, 3);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_compiler_links),
        cmocka_unit_test(a_linker_that_fails_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
