/* SPDX-License-Identifier: Apache-2.0 */
/* Golden tests of passes: every tests/gir/NAME.gir holds a graph, the passes to run on it and what
 * they must make of it, all of it compared as text:
 *
 *     # what is tested
 *     # run: gtc opt --passes=cse,dce
 *     graph (...) { ... }
 *     # expect:
 *     graph (...) { ... }
 *
 * or, for what must fail, a line that ends in `# expect error: part of the message`.
 * GTC_UPDATE=1 writes what came out into the files; review the change in git.  Each graph on the
 * way is verified, parsed again from its text and, where possible, evaluated against the one
 * before. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/base/os.h"
#include "ir/text.h"
#include "tests/pass_check.h"

static const char expect_line[] = "\n# expect:\n", error_mark[] = "# expect error: ";
static const char run_mark[] = "# run: gtc opt --passes=";

typedef struct Case {
    const char *path;
    char *text;     /* of the whole file */
    char *expected; /* into text; NULL when an error is expected */
    char passes[256], error[256];
} Case;

/* The rest of the line after mark, which is in text. */
static void rest_of_line(const char *at, size_t skip, char *out, size_t size)
{
    const size_t n = strcspn(at + skip, "\n");
    assert_true(n < size);
    memcpy(out, at + skip, n);
    out[n] = 0;
}

static void case_read(Ctx *cx, Case *c)
{
    size_t n;
    if (os_read_file(cx, c->path, &c->text, &n) != ST_OK)
        fail_msg("%s", cx->msg);
    const char *run = strstr(c->text, run_mark), *error = strstr(c->text, error_mark);
    if (!run)
        fail_msg("%s: has no line '%s...'", c->path, run_mark);
    rest_of_line(run, strlen(run_mark), c->passes, sizeof c->passes);
    char *expect = strstr(c->text, expect_line);
    if (!expect == !error)
        fail_msg("%s: wants either '# expect:' or '# expect error: ...'", c->path);
    if (error) {
        rest_of_line(error, strlen(error_mark), c->error, sizeof c->error);
    } else {
        expect[1] = 0; /* what is parsed ends here */
        c->expected = expect + strlen(expect_line);
    }
}

static void case_update(Ctx *cx, const Case *c, const char *got)
{
    Strbuf file = { 0 };
    strbuf_add(&file, c->text);
    strbuf_add(&file, expect_line + 1);
    strbuf_add(&file, got);
    if (os_write_file(cx, c->path, strbuf_str(&file), file.n) != ST_OK)
        fail_msg("%s", cx->msg);
    strbuf_free(&file);
}

static void case_run(void **state)
{
    Case c = { .path = *state };
    Ctx cx;
    ctx_init(&cx);
    case_read(&cx, &c);
    Arena *arena = arena_new();
    Graph *in;
    const Graph *out;
    Status status = graph_parse(&cx, arena, c.path, c.text, &in);
    if (status == ST_OK)
        status = check_passes(&cx, arena, &(PassOptions){ .passes = c.passes }, in, &out);

    if (!c.expected) {
        if (status == ST_OK)
            fail_msg("%s: wants the error '%s', got none", c.path, c.error);
        if (!strstr(cx.msg, c.error))
            fail_msg("%s: wants the error '%s', got '%s'", c.path, c.error, cx.msg);
    } else {
        if (status != ST_OK)
            fail_msg("%s:%d:%d: %s", c.path, cx.line, cx.col, cx.msg);
        Strbuf got = { 0 };
        graph_print(out, &got);
        if (getenv("GTC_UPDATE"))
            case_update(&cx, &c, strbuf_str(&got));
        else if (strcmp(strbuf_str(&got), c.expected) != 0)
            fail_msg("%s: wants\n%s\ngot\n%s", c.path, c.expected, strbuf_str(&got));
        strbuf_free(&got);
    }
    arena_free(arena);
    free(c.text);
}

static int is_gir(const struct dirent *d)
{
    const size_t n = strlen(d->d_name);
    return n > 4 && !strcmp(d->d_name + n - 4, ".gir");
}

int main(void)
{
    enum { MOST = 512 };
    static struct CMUnitTest test[MOST];
    static char path[MOST][300];
    struct dirent **entry;
    const int n = scandir("tests/gir", &entry, is_gir, alphasort);
    if (n < 1 || n > MOST) {
        fprintf(stderr, "tests/gir: %d cases\n", n);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        snprintf(path[i], sizeof path[i], "tests/gir/%s", entry[i]->d_name);
        test[i] = (struct CMUnitTest){ path[i], case_run, NULL, NULL, path[i] };
        free(entry[i]);
    }
    free(entry);
    return _cmocka_run_group_tests("gir", test, (size_t)n, NULL, NULL);
}
