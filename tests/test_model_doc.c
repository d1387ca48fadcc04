/* SPDX-License-Identifier: Apache-2.0 */
/* docs/model.md and docs/model.schema.json are what the tables say.  With GTC_UPDATE set they are
 * written instead of compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/base/os.h"
#include "models/json.h"
#include "models/model.h"

static void check_file(const char *path, void (*write)(Strbuf *out))
{
    Strbuf want = { 0 };
    Ctx cx;
    char *have;
    size_t n;
    write(&want);
    ctx_init(&cx);
    if (getenv("GTC_UPDATE"))
        assert_int_equal(os_write_file(&cx, path, want.s, want.n), ST_OK);
    if (os_read_file(&cx, path, &have, &n) != ST_OK)
        fail_msg("%s", cx.msg);
    if (n != want.n || memcmp(have, want.s, n) != 0)
        fail_msg("%s is not what the tables say: GTC_UPDATE=1 build/tests/test_model_doc", path);
    free(have);
    strbuf_free(&want);
}

static void the_page_is_current(void **state)
{
    (void)state;
    check_file("docs/model.md", model_describe);
}

static void the_schema_is_current_and_is_json(void **state)
{
    (void)state;
    check_file("docs/model.schema.json", model_schema);
    Strbuf s = { 0 };
    Arena *a = arena_new();
    Ctx cx;
    Json *v;
    model_schema(&s);
    ctx_init(&cx);
    if (json_parse(&cx, a, "schema", s.s, s.n, &v) != ST_OK)
        fail_msg("%d:%d: %s", cx.line, cx.col, cx.msg);
    strbuf_free(&s);
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_is_current),
        cmocka_unit_test(the_schema_is_current_and_is_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
