/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzzer once found, for ever: every case in tests/regress, in the ways in which it failed
 * and in those of any graph. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/fuzz_child.h"

static const char folder[] = "tests/regress";

static int is_case(const struct dirent *d)
{
    const char *dot = strrchr(d->d_name, '.');
    return dot && strcmp(dot, ".gir") == 0;
}

static void work(void *arg, FuzzVerdict *v)
{
    fuzz_case_run(arg, v);
}

static bool agrees(FuzzCase *c, const char *name, FuzzVerdict *v)
{
    fuzz_child_run(work, c, 120, v);
    if (v->outcome != FUZZ_AGREES)
        print_error("%s, %s: %s\n", name, fuzz_way_str(&v->way), v->text);
    return v->outcome == FUZZ_AGREES;
}

static void old_finds_stay_fixed(void **state)
{
    struct dirent **entry;
    const int n = scandir(folder, &entry, is_case, alphasort);
    FuzzVerdict *v = calloc(1, sizeof *v);
    int wrong = 0;
    (void)state;
    assert_true(n > 0);
    assert_non_null(v);
    for (int i = 0; i < n; i++) {
        char path[512];
        Ctx cx;
        FuzzCase c;
        Arena *arena = arena_new();
        ctx_init(&cx);
        snprintf(path, sizeof path, "%s/%s", folder, entry[i]->d_name);
        if (fuzz_case_load(&cx, arena, path, &c) != ST_OK)
            fail_msg("%s: %s", path, cx.msg);
        assert_true(c.nway > 0); /* a file without its ways would lose what it was about */
        bool good = agrees(&c, path, v);
        fuzz_case_ways(&c, c.values, false);
        good &= agrees(&c, path, v);
        wrong += !good;
        arena_free(arena);
        free(entry[i]);
    }
    free(entry);
    free(v);
    print_message("%d cases\n", n);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(old_finds_stay_fixed) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
