/* SPDX-License-Identifier: Apache-2.0 */
/* docs/ops.md is what the code has: each op of the table with the dtypes that inference takes,
 * where its gradient and its evaluator stand, what the planner makes of it alone, and what tests
 * hold it. With GTC_UPDATE set it is written instead of compared. */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/kernel.h"
#include "ir/base/os.h"
#include "ir/base/strbuf.h"
#include "tests/op_cases.h"

typedef struct Row { /* of ops.def, as text */
    const char *name, *args, *cls, *shape, *grad, *value;
} Row;

static const Row row[OP_COUNT] = {
#define OP(id, args, cls, flags, prec, shape, attr, grad)                                          \
    [OP_##id] = { #id, #args, #cls, #shape, #grad, NULL },
#define EW(id, args, flags, prec, shape, grad, value)                                              \
    [OP_##id] = { #id, #args, "ELEMENTWISE", #shape, #grad, #value },
#include "ir/ops.def"
};

static char *read_file(const char *path)
{
    Ctx cx;
    char *text;
    size_t n;
    ctx_init(&cx);
    if (os_read_file(&cx, path, &text, &n) != ST_OK)
        fail_msg("%s", cx.msg);
    return text;
}

/* The sources that may define a function of an op. */
typedef struct Sources {
    glob_t file;
    char **text;
} Sources;

/* The file in which a line begins with the head of a function. */
static const char *home(const Sources *src, const char *head)
{
    for (size_t i = 0; i < src->file.gl_pathc; i++)
        for (const char *at = src->text[i]; (at = strstr(at, head)) != NULL; at++)
            if (at > src->text[i] && at[-1] == '\n')
                return src->file.gl_pathv[i];
    return NULL;
}

static void add_file(Strbuf *out, const char *file)
{
    strbuf_printf(out, "[%s](../%s)", strrchr(file, '/') + 1, file);
}

static void print_types(const OpCases *s, Op op, Strbuf *out)
{
    int n = 0;
    for (int d = 1; d < DT_COUNT; d++)
        if (s->seen[op][d])
            strbuf_printf(out, "%s%s", n++ ? " " : "", dtype_name((DType)d));
    if (n == 0)
        strbuf_putc(out, '-');
}

static void print_gradient(const Sources *src, Op op, Strbuf *out)
{
    char head[64];
    snprintf(head, sizeof head, "void vjp_%s(Vjp *v", row[op].grad);
    const char *file = home(src, head);
    if (strcmp(row[op].grad, "none") == 0) {
        strbuf_add(out, "none");
    } else if (strcmp(row[op].grad, "zero") == 0) {
        strbuf_add(out, "0");
    } else {
        if (!file)
            fail_msg("no file has %s", head);
        strbuf_printf(out, "`vjp_%s` in ", row[op].grad);
        add_file(out, file);
    }
}

static void print_evaluator(const Sources *src, Op op, Strbuf *out)
{
    char head[64];
    snprintf(head, sizeof head, "Status eval_%s(const Eval *e", row[op].name);
    if (row[op].value) {
        strbuf_add(out, "`");
        for (const char *c = row[op].value; *c; c++)
            strbuf_printf(out, *c == '|' ? "\\%c" : "%c", *c);
        strbuf_add(out, "`");
    } else {
        const char *file = home(src, head);
        if (!file)
            fail_msg("no file has %s", head);
        add_file(out, file);
    }
}

/* A copy of what output o of a case needs, as a graph with a fusion of it. */
static const Graph *alone(Ctx *cx, const KernelCase *c, uint32_t o, Arena *arena, Ref *fusion)
{
    const Graph *g = c->body;
    Graph *body = graph_new(arena), *outer = graph_new(arena);
    bool *live = arena_array(arena, bool, g->nnode);
    Ref *map = arena_array(arena, Ref, g->nnode), arg[8];
    uint32_t n = 0;
    live[g->out[o].value] = true;
    for (Ref r = g->nnode; r-- > 1;)
        for (uint32_t i = 0; live[r] && i < g->node[r].nargs; i++)
            live[g->node[r].arg[i]] = true;
    for (Ref r = 1; r < g->nnode; r++) {
        Node node = g->node[r];
        Ref *in = arena_array(arena, Ref, node.nargs + 1);
        for (uint32_t i = 0; i < node.nargs; i++)
            in[i] = map[node.arg[i]];
        node.arg = in;
        if (!live[r])
            continue;
        assert_int_equal(graph_add(cx, body, &node, &map[r]), ST_OK);
        if (node.op == OP_input)
            assert_int_equal(graph_add(cx, outer, &node, &arg[n++]), ST_OK);
    }
    assert_int_equal(graph_output(cx, body, map[g->out[o].value], REF_NONE, NULL), ST_OK);
    const Node whole = {
        .op = OP_fusion, .nargs = n, .arg = arg, .attr.fusion = { .body = body, .kind = "op" }
    };
    assert_int_equal(graph_add(cx, outer, &whole, fusion), ST_OK);
    return outer;
}

/* The op itself, or what takes its result. */
static bool is_of(const Graph *g, Ref r, Op op)
{
    const Node *n = &g->node[r];
    return n->op == op || (n->op == OP_get && g->node[n->arg[0]].op == op);
}

/* The nests that the kernel of the op alone has, over all cases of one extent. */
static void print_nests(OpCases *s, Op op, Strbuf *out)
{
    static const Target target = {
        .lanes = 8, .vector_regs = 16, .threads = 2, .l1_bytes = 32768, .l2_bytes = 1 << 20
    };
    static const char *const shape[] = { "map ", "contract ", "row " };
    bool has[3] = { false };
    for (int i = 0; i < s->n; i++) {
        const KernelCase *c = &s->c[i];
        for (uint32_t o = 0; strstr(c->name, "extent 33 ") && o < c->body->nout; o++) {
            if (!is_of(c->body, c->body->out[o].value, op))
                continue;
            Kernel k;
            Ref fusion = REF_NONE;
            const Graph *g = alone(&s->cx, c, o, s->arena, &fusion);
            assert_int_equal(kernel_build_c(&s->cx, s->arena, &target, g, fusion, &k), ST_OK);
            for (int w = 0; w < 3; w++)
                has[w] |= strstr(k.plan, shape[w]) != NULL;
        }
    }
    const char *sep = "";
    for (int w = 0; w < 3; w++)
        if (has[w]) {
            strbuf_printf(out, "%s%.*s", sep, (int)strcspn(shape[w], " "), shape[w]);
            sep = ", ";
        }
    if (*sep == '\0')
        strbuf_putc(out, '-');
}

/* What holds the op beside the tests that walk the table: the largest error of its function. */
static void print_tests(const char *prelude, const OpCases *s, Op op, Strbuf *out)
{
    char head[64];
    const char *sep = "";
    bool any = false;
    for (int d = 0; d < DT_COUNT; d++)
        any |= s->seen[op][d];
    if (any) {
        strbuf_add(out, "shapes");
        sep = ", ";
    }
    if (strcmp(row[op].grad, "none") != 0) {
        strbuf_printf(out, "%sslopes", sep);
        sep = ", ";
    }
    snprintf(head, sizeof head, " F(%s, ", row[op].name);
    const char *at = row[op].value ? strstr(prelude, head) : NULL;
    if (at) {
        at += strlen(head);
        strbuf_printf(out, "%s%.*s ulp", sep, (int)strcspn(at, ")"), at);
    } else if (*sep == '\0') {
        strbuf_putc(out, '-');
    }
}

static const char INTRO[] =
    "# Ops\n"
    "\n"
    "What a graph is made of. Written by `GTC_UPDATE=1 build/tests/test_ops_doc` from `ir/ops.def` "
    "and\n"
    "the code; [il.md](il.md) says what each op means, [adding-an-op.md](adding-an-op.md) how to "
    "add one.\n"
    "\n"
    "- **types**: the dtypes that kernels take, of the first argument (of `select` the second), or "
    "of the\n"
    "  result where there is none. f64 is the evaluator's own.\n"
    "- **gradient**: `none` refuses to be differentiated, 0 is flat.\n"
    "- **evaluator**: the value of an elementwise op, which kernels print too; else the file.\n"
    "- **nests**: what the planner makes of the op alone, over an axis of 33 in any place: *map* has\n"
    "  no reduction, *contract* has one, in registers or a loop, *row* one along its vector axis. In a\n"
    "  larger kernel elementwise ops and views have no nest of their own.\n"
    "- **tests**: *shapes*, compiled on each of its types at boundary shapes against the "
    "evaluator\n"
    "  (`test_op_shapes`); *slopes*, the gradient against forward mode and differences "
    "(`test_grad`); and\n"
    "  the largest error that `test_prelude` allows its function over all exponents. All ops are "
    "in the\n"
    "  random graphs of `test_grad_random`, `test_passes`, `test_bodies` and `fuzz-graphs`.\n"
    "\n"
    "| op | class | args | types | gradient | evaluator | nests | tests |\n"
    "|---|---|---|---|---|---|---|---|\n";

static void print_row(OpCases *s, const Sources *src, const char *prelude, Op op, Strbuf *out)
{
    const char *args = strcmp(row[op].args, "N") == 0 ? "any" : row[op].args;
    strbuf_printf(out, "| `%s` | ", row[op].name);
    for (const char *c = row[op].cls; *c; c++)
        strbuf_putc(out, (char)(*c | 32));
    strbuf_printf(out, " | %s | ", args);
    print_types(s, op, out);
    strbuf_add(out, " | ");
    print_gradient(src, op, out);
    strbuf_add(out, " | ");
    print_evaluator(src, op, out);
    strbuf_add(out, " | ");
    print_nests(s, op, out);
    strbuf_add(out, " | ");
    print_tests(prelude, s, op, out);
    strbuf_add(out, " |\n");
}

static void the_page_is_current(void **state)
{
    (void)state;
    static const char path[] = "docs/ops.md";
    OpCases *s = op_cases_new();
    char *prelude = read_file("tests/test_prelude.c");
    Strbuf want = { 0 };
    Sources src;
    assert_int_equal(glob("ir/*.c", 0, NULL, &src.file), 0); /* in order */
    src.text = arena_array(s->arena, char *, src.file.gl_pathc);
    for (size_t i = 0; i < src.file.gl_pathc; i++)
        src.text[i] = read_file(src.file.gl_pathv[i]);
    strbuf_add(&want, INTRO);
    for (Op op = 1; op < OP_COUNT; op++)
        print_row(s, &src, prelude, op, &want);
    if (getenv("GTC_UPDATE"))
        assert_int_equal(os_write_file(&s->cx, path, want.s, want.n), ST_OK);
    char *have = read_file(path);
    if (strcmp(have, strbuf_str(&want)) != 0)
        fail_msg("%s is not what the code has: GTC_UPDATE=1 build/tests/test_ops_doc", path);
    for (size_t i = 0; i < src.file.gl_pathc; i++)
        free(src.text[i]);
    globfree(&src.file);
    free(prelude);
    free(have);
    strbuf_free(&want);
    op_cases_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_page_is_current) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
