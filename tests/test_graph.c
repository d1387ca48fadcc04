/* SPDX-License-Identifier: Apache-2.0 */
/* Graphs: what inference and the parser refuse and how they say it, what verify finds, and the
 * round trip through text of random graphs of every op. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/base/os.h"
#include "ir/base/rng.h"
#include "ir/build.h"
#include "ir/text.h"
#include "tests/random_graph.h"

typedef struct Case {
    const char *node, *message; /* of line 2 of a graph whose inputs are in case_text */
} Case;

static const char case_text[] = "graph (%x: f32[8,16], param %w: f32[16,4], %i: i32[8], %b: "
                                "bool[8,16], %s: f32[], %e: f32[0,3])"
                                " {\n%s\n  return %%x\n}\n";

static void print_case(char *out, size_t cap, const char *node)
{
    const char *at = strstr(case_text, " {\n%s");
    snprintf(out, cap, "%.*s {\n%s\n  return %%x\n}\n", (int)(at - case_text), case_text, node);
}

static Status parse(Ctx *cx, Arena *arena, const char *text, Graph **g)
{
    *g = NULL;
    return graph_parse(cx, arena, "t.gir", text, g);
}

static void expect_all(const Case *c, size_t n)
{
    int wrong = 0;
    for (size_t i = 0; i < n; i++) {
        char text[4096], got[1200];
        Ctx cx;
        Arena *a = arena_new();
        Graph *g;
        ctx_init(&cx);
        print_case(text, sizeof text, c[i].node);
        const Status status = parse(&cx, a, text, &g);
        snprintf(got, sizeof got, "%d:%d: %s", cx.line, cx.col, cx.msg);
        const bool as_wanted =
            c[i].message ? status != ST_OK && !strcmp(got, c[i].message) : status == ST_OK;
        if (!as_wanted) {
            print_error("%s\n  wants %s\n  got   %s\n", c[i].node,
                        c[i].message ? c[i].message : "ok", status == ST_OK ? "ok" : got);
            wrong++;
        }
        if (status != ST_OK)
            assert_string_equal(cx.file, "t.gir");
        arena_free(a);
    }
    assert_int_equal(wrong, 0);
}

static void inference_accepts(void **state)
{
    static const Case ok[] = {
        { "  %1 = matmul %x, %w : f32[8,4]", NULL },
        { "  %1 = matmul %x, %x over=[[0],[0]] : f32[16,16]", NULL },
        { "  %1 = matmul %x, %x over=[[1],[1]] batch=[[0],[0]] : f32[8]", NULL },
        { "  %1 = matmul %x, %w over=[[],[]] : f32[8,16,16,4]", NULL },
        { "  %1 = matmul %e, %e over=[[0],[0]] : f32[3,3]", NULL },
        { "  %1 = sum %x axes=[] : f32[8,16]", NULL },
        { "  %1 = amax %e axes=[0] : f32[3]", NULL },
        { "  %1 = slice %e lo=[0,2] step=[-1,-1] : f32[0,3]", NULL },
        { "  %1 = pad %e lo=[1,0] hi=[2,0] : f32[3,3]", NULL },
        { "  %1 = pad %x lo=[0,1] hi=[0,0] step=[3,1] : f32[22,17]", NULL },
        { "  %1 = window %x axes=[0,1] kernel=[3,3] stride=[2,1] dilation=[1,2] : f32[3,12,3,3]",
          NULL },
        { "  %1 = select %b, %x, %x : f32[8,16]", NULL },
        { "  %1 = cast %b : u8[8,16]", NULL },
        { "  %1 = reshape %e : f32[7,0]", NULL },
        { "  %1 = reshape %s : f32[1,1]", NULL },
        { "  %1 = concat %x, %x, %x axis=1 : f32[8,48]", NULL },
        { "  %1 = scan carry=0 step=0 trip=5 () {\n %c = const 1 : f32[2]\n return %c\n }\n"
          "  %2 = get %1 index=0 : f32[5,2]",
          NULL },
    };
    (void)state;
    expect_all(ok, sizeof ok / sizeof *ok);
}

static void inference_refuses(void **state)
{
    static const Case bad[] = {
        { "  %1 = matmul %x, %x", "2:8: matmul: sizes of axes 1 and 0 differ in [8,16] x [8,16]" },
        { "  %1 = matmul %x, %i", "2:8: matmul: types differ in f32[8,16] x i32[8]" },
        { "  %1 = matmul %b, %b over=[[0],[0]]", "2:8: matmul: wants numbers, got bool[8,16]" },
        { "  %1 = matmul %x, %x over=[[2],[0]]",
          "2:8: matmul: the pair of axes 2 and 0 is not in f32[8,16] x f32[8,16]" },
        { "  %1 = matmul %x, %x over=[[0,0],[0,1]]",
          "2:8: matmul: the pair of axes 0 and 1 takes an axis twice" },
        { "  %1 = add %x, %w", "2:8: add: shapes differ in f32[8,16] and f32[16,4]" },
        { "  %1 = add %x", "2:8: add: wants 2 arguments, got 1" },
        { "  %1 = add %b, %b", "2:8: add: wants numbers, got bool[8,16]" },
        { "  %1 = add %x, %x : f32[8]", "2:8: add: gives f32[8,16], not f32[8]" },
        { "  %1 = exp %i", "2:8: exp: wants floats, got i32[8]" },
        { "  %1 = div %i, %i", "2:8: div: wants floats, got i32[8]" },
        { "  %1 = and %x, %x", "2:8: and: wants bool, got f32[8,16]" },
        { "  %1 = select %x, %x, %x", "2:8: select: wants a bool condition, got f32[8,16]" },
        { "  %1 = select %b, %w, %w", "2:8: select: shapes differ in bool[8,16] and f32[16,4]" },
        { "  %1 = cast %x : i32[8]", "2:8: cast: gives i32[8,16], not i32[8]" },
        { "  %1 = cast %x : i32[]", "2:8: cast: gives i32[8,16], not i32[]" },
        { "  %1 = const 2 : bool[]", "2:8: const: 2 is no value of type bool" },
        { "  %1 = const 1.5 : i32[]", "2:8: const: 1.5 is no value of type i32" },
        { "  %1 = const nan : u8[]", "2:8: const: nan is no value of type u8" },
        { "  %1 = iota axis=1 : i32[3]", "2:8: iota: axis 1 is none of i32[3]" },
        { "  %1 = iota axis=0 : bool[3]", "2:8: iota: counts in numbers, not in bool[3]" },
        { "  %1 = rand %s, %s, %s, %s, %s : f32[4]",
          "2:8: rand: seed wants i32[] or i64[], got f32[]" },
        { "  %1 = reshape %x : f32[5]", "2:8: reshape: f32[8,16] has 128 elements, [5] wants 5" },
        { "  %1 = reshape %x : i32[128]", "2:8: reshape: gives f32[128], not i32[128]" },
        { "  %1 = transpose %x perm=[0,0]",
          "2:8: transpose: perm is no permutation of the 2 axes of f32[8,16]" },
        { "  %1 = transpose %x perm=[0]", "2:8: transpose: lists of 1 entries for the 2 axes of "
                                          "f32[8,16]" },
        { "  %1 = broadcast %x axes=[0] : f32[3,8,15]",
          "2:8: broadcast: axis 2 of [3,8,15] is not axis 1 of f32[8,16]" },
        { "  %1 = broadcast %x axes=[2] : f32[8,16]",
          "2:8: broadcast: a new axis is none of [8,16]" },
        { "  %1 = broadcast %x axes=[0,1,2] : f32[3,8,16]",
          "2:8: broadcast: f32[8,16] has 2 axes, [3,8,16] keeps 0" },
        { "  %1 = slice %x lo=[0,9] : f32[8,8]",
          "2:8: slice: 8 elements from 9 in steps of 1 do not lie in axis 1 of f32[8,16]" },
        { "  %1 = slice %x lo=[7,0] step=[-2,1] : f32[5,16]",
          "2:8: slice: 5 elements from 7 in steps of -2 do not lie in axis 0 of f32[8,16]" },
        { "  %1 = slice %x lo=[0,0] step=[0,1] : f32[8,16]", "2:8: slice: step 0 at axis 0" },
        { "  %1 = pad %x lo=[0,9223372036854775807] hi=[0,0]",
          "2:8: pad: axis 1 of f32[8,16] becomes too large" },
        { "  %1 = pad %b lo=[0,0] hi=[0,1] value=2", "2:8: pad: 2 is no value of type bool" },
        { "  %1 = concat %x, %w axis=0",
          "2:8: concat: f32[16,4] does not fit f32[8,16] beside axis "
          "0" },
        { "  %1 = concat axis=0", "2:8: concat: wants at least one argument" },
        { "  %1 = window %x axes=[1] kernel=[17]",
          "2:8: window: a window of 17 does not fit axis 1 of extent 16" },
        { "  %1 = window %x axes=[1,0] kernel=[2,2]",
          "2:8: window: wants consecutive axes below 2" },
        { "  %1 = fold %x axes=[0] kernel=[16] extent=[24]",
          "2:8: fold: wants 9 windows of 16 at axis 0, got f32[8,16]" },
        { "  %1 = sum %x axes=[2]", "2:8: sum: an axis is none of f32[8,16]" },
        { "  %1 = amax %b axes=[0]", "2:8: amax: wants numbers, got bool[8,16]" },
        { "  %1 = get %x index=0",
          "2:8: get: wants a scan, fusion or grad, got input of type f32[8,16]" },
        { "  %1 = grad %s, %x\n  %2 = get %1 index=1",
          "3:8: get: wants result 1 of a grad that has 1" },
        { "  %1 = grad %s, %x\n  %2 = neg %1",
          "3:8: neg: argument 0 is a grad; take its parts with get" },
        { "  %1 = grad %x, %w", "2:8: grad: wants a float of rank 0 as the loss, got f32[8,16]" },
        { "  %1 = grad %s, %i", "2:8: grad: argument 1 wants floats, got i32[8]" },
        { "  %1 = const 0 : f32[4294967296,4294967296]",
          "2:8: const: f32[4294967296,4294967296] is too large" },
        { "  %1 = const 0 : f32[0,4294967296,4294967296]",
          "2:8: const: f32[0,4294967296,4294967296] is too large" },
        { "  %1 = scan %x carry=0 step=1 trip=9 (%t: f32[16]) {\n return %t\n }",
          "2:8: scan: argument 0 wants 9 steps on axis 0, got f32[8,16]" },
        { "  %1 = scan %x carry=1 step=0 trip=9 (%t: f32[16]) {\n return %t\n }",
          "2:8: scan: argument 0 (carry) is f32[8,16], the body wants f32[16]" },
        { "  %1 = scan %s carry=1 step=0 trip=9 (%t: f32[]) {\n %c = const 0 : f32[2]\n return "
          "%c\n "
          "}",
          "2:8: scan: carry 0 comes in as f32[] and leaves the body as f32[2]" },
        { "  %1 = scan %s carry=1 step=0 trip=9 () {\n return\n }",
          "2:8: scan: 1 arguments for the 0 inputs of the body" },
        { "  %1 = scan %s carry=0 step=0 trip=9223372036854775807 (%t: f32[]) {\n return %t\n }",
          "2:8: scan: result 0 is too large" },
        { "  %1 = fusion %s kind=map (%t: f32[1]) {\n return %t\n }",
          "2:8: fusion: argument 0 is f32[], the body wants f32[1]" },
    };
    (void)state;
    expect_all(bad, sizeof bad / sizeof *bad);
}

static void parser_refuses(void **state)
{
    static const Case bad[] = {
        { "  %1 = matmull %x, %w", "2:8: no such op: matmull; did you mean matmul?" },
        { "  %1 = sumt %x", "2:8: no such op: sumt; did you mean sum?" },
        { "  %1 = convolve2d %x", "2:8: no such op: convolve2d" },
        { "  %1 = none", "2:8: no such op: none; did you mean not?" },
        { "  %1 = neg %y", "2:12: %y is not defined above" },
        { "  %1 = neg %1", "2:12: %1 is not defined above" },
        { "  %x = neg %x", "2:3: %x is defined twice" },
        { "  %1 = neg %x %x", "2:15: wants the end of the line, got '%'" },
        { "  %1 = neg %x,", "2:15: wants '%', got the end of the line" },
        { "  %1 neg %x", "2:6: wants '=', got 'n'" },
        { "  %-a = neg %x",
          "2:4: wants a number or a name [A-Za-z_][A-Za-z0-9_.-]* after %, got '-'" },
        { "  %1a = neg %x",
          "2:4: wants a number or a name [A-Za-z_][A-Za-z0-9_.-]* after %, got '1'" },
        { "  neg %x", "2:3: wants a node or return, got 'n'" },
        { "  %1 = neg %x : f33[8,16]", "2:17: wants a type such as f32[2,3], got 'f'" },
        { "  %1 = neg %x : f32", "2:20: wants '[', got the end of the line" },
        { "  %1 = neg %x : f32[8,,16]", "2:23: wants an extent, got ','" },
        { "  %1 = neg %x : f32[-8]", "2:21: wants an extent, got '-'" },
        { "  %1 = neg %x : f32[1,1,1,1,1,1,1,1,1]", "2:37: wants at most 8 extents" },
        { "  %1 = neg %x : f32[9223372036854775808]", "2:21: the extent does not fit 64 bits" },
        { "  %1 = neg %x @lstm", "2:15: wants @kind.layer or @kind.layer.bwd" },
        { "  %1 = neg %x @lstm.1.2x", "2:15: wants @kind.layer or @kind.layer.bwd" },
        { "  %1 = neg %x @lstm.99999999999", "2:15: wants @kind.layer or @kind.layer.bwd" },
        { "  %1 = neg %x axis=0", "2:15: neg: unknown or repeated attribute axis=" },
        { "  %1 = neg %x 5", "2:15: neg: unexpected value" },
        { "  %1 = sum %x", "2:8: sum: wants axes=" },
        { "  %1 = sum %x axes=[0] axes=[1]", "2:24: sum: unknown or repeated attribute axes=" },
        { "  %1 = sum %x axes=[1,0]", "2:8: sum: axes= wants ascending axes" },
        { "  %1 = sum %x axes=[8]", "2:21: sum: wants an integer in 0 to 7" },
        { "  %1 = sum %x axes=[0", "2:22: wants ']', got the end of the line" },
        { "  %1 = sum %x axes=[[[0]]]", "2:22: wants at most lists of lists" },
        { "  %1 = sum %x axes=[0x1]", "2:22: sum: wants ']'" },
        { "  %1 = slice %x lo=[99999999999999999999,0] : f32[1,1]",
          "2:21: slice: the integer does not fit 64 bits" },
        { "  %1 = slice %x lo=[0,0] step=[1] : f32[8,16]",
          "2:31: slice: step= has another number of entries than the list before" },
        { "  %1 = slice %x lo=[0,0]", "2:25: wants ': ' and the type, got the end of the line" },
        { "  %1 = matmul %x, %w over=[[1],[0,1]]",
          "2:27: matmul: over= wants two lists of one length" },
        { "  %1 = const : f32[]", "2:8: const: wants a value" },
        { "  %1 = const 1e999 : f32[]", "2:14: const: 1e999 is too large for a number" },
        { "  %1 = const 1x : f32[]", "2:14: const: wants a number, got \"1x\"" },
        { "  %1 = const infinity : f32[]", "2:14: const: wants a number, got \"infinity\"" },
        { "  %1 = input kind=weight : f32[]",
          "2:19: input: wants kind=batch, param, state or const" },
        { "  %1 = input kind=param : f32[]", "2:8: input: wants a name" },
        { "  %1 = get %x index=-1", "2:21: get: wants an integer in 0 to 4294967295" },
        { "  %1 = fusion %s kind=map", "2:26: wants '(', got the end of the line" },
        { "  \x01", "2:3: wants a node or return, got byte 0x01" },
        { "  return %x, a: %x, a: %x", "2:21: output: there is a a already" },
        { "  return %x := %x",
          "2:10: output: replaces the batch input %x; wants a param or a state" },
        { "  return %w := %x", "2:10: output: replaces %w: f32[16,4] by f32[8,16]" },
        { "  return %x %x", "2:13: wants the end of the line, got '%'" },
        { "  return %x\n}\nmore", "4:1: wants nothing behind the graph, got 'm'" },
    };
    (void)state;
    expect_all(bad, sizeof bad / sizeof *bad);
}

static void parser_bounds_nesting(void **state)
{
    Ctx cx;
    Arena *a = arena_new();
    Strbuf text = { 0 };
    Graph *g;
    (void)state;

    ctx_init(&cx);
    strbuf_add(&text, "graph () {\n");
    for (int i = 0; i < 100000; i++)
        strbuf_add(&text, "%s = scan carry=0 step=0 trip=1 () {\n");
    assert_int_equal(parse(&cx, a, strbuf_str(&text), &g), ST_PARSE);
    assert_string_equal(cx.msg, "bodies are nested deeper than 32");
    strbuf_clear(&text);
    strbuf_add(&text, "graph (%");
    for (int i = 0; i < 100000; i++)
        strbuf_putc(&text, 'a');
    assert_int_equal(parse(&cx, a, strbuf_str(&text), &g), ST_PARSE);
    assert_string_equal(cx.msg, "the name is longer than 200 bytes");
    assert_int_equal(parse(&cx, a, "", &g), ST_PARSE);
    assert_string_equal(cx.msg, "wants graph, got the end of the text");
    strbuf_free(&text);
    arena_free(a);
}

static void print_is_exact(void **state)
{
    static const char text[] =
        "graph (%x: f32[8,16], param %conv.weight: f32[16,4]  @dense.0, state %step: i32[],\n"
        "    const %a-very-long-name-of-a-table-that-nobody-would-write-but-somebody-will: f32[4]) "
        "{\n"
        "  %5 = matmul %x, %conv.weight : f32[8,4]  @dense.0\n"
        "  %late = input kind=state : f16[2]\n"
        "  %c = const -0x1.8p-1 : f32[8,4]\n"
        "  %8 = const -inf : f64[]\n"
        "  %9 = const nan : bf16[]\n"
        "  %s = scan %5, %x carry=1 step=1 trip=8 reverse=1  @lstm.-1.bwd (%h: f32[8,4], %xt: "
        "f32[16]) "
        "{\n"
        "    %f = fusion %h kind=map (%q: f32[8,4]) {\n"
        "      return y: %q\n"
        "    }\n"
        "    %4 = get %f index=0 : f32[8,4]\n"
        "    return %4, %xt\n"
        "  }\n"
        "  %11 = pad %x lo=[0,1] hi=[0,0] step=[2,1] value=-0x0p+0 : f32[15,17]\n"
        "  return loss: %5, %conv.weight := %conv.weight\n"
        "}\n";
    Ctx cx;
    Arena *a = arena_new();
    Strbuf out = { 0 };
    Graph *g;
    (void)state;

    ctx_init(&cx);
    if (parse(&cx, a, text, &g) != ST_OK)
        fail_msg("%d:%d: %s", cx.line, cx.col, cx.msg);
    graph_print(g, &out);
    assert_string_equal(strbuf_str(&out), text);
    assert_int_equal(graph_verify(&cx, g), ST_OK);
    strbuf_free(&out);
    arena_free(a);
}

/* Random graphs. */

static void check_round_trip(Ctx *cx, Arena *a, const Graph *g, uint64_t seed)
{
    Strbuf text = { 0 }, again = { 0 };
    Graph *back, *copy = graph_new(arena_new());

    if (graph_verify(cx, g) != ST_OK)
        fail_msg("seed %llu: %s", (unsigned long long)seed, cx->msg);
    graph_print(g, &text);
    if (parse(cx, a, strbuf_str(&text), &back) != ST_OK)
        fail_msg("seed %llu: %d:%d: %s\n%s", (unsigned long long)seed, cx->line, cx->col, cx->msg,
                 strbuf_str(&text));
    graph_print(back, &again);
    assert_string_equal(strbuf_str(&text), strbuf_str(&again));
    if (!graph_eq(g, back))
        fail_msg("seed %llu: parse(print(g)) differs\n%s", (unsigned long long)seed,
                 strbuf_str(&text));
    assert_int_equal(graph_copy(cx, g, copy), ST_OK);
    assert_true(graph_eq(copy, g));
    assert_int_equal(graph_verify(cx, copy), ST_OK);
    arena_free(copy->arena);
    strbuf_free(&text);
    strbuf_free(&again);
}

static void count_ops(const Graph *g, int depth, int count[OP_COUNT], int *deepest)
{
    *deepest = depth > *deepest ? depth : *deepest;
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        count[n->op]++;
        if (n->op == OP_scan)
            count_ops(n->attr.scan.body, depth + 1, count, deepest);
        if (n->op == OP_fusion)
            count_ops(n->attr.fusion.body, depth + 1, count, deepest);
    }
}

/* The graphs in docs/il.md are right, and between them have every op. */
static void documentation(void **state)
{
    int count[OP_COUNT] = { 0 }, deepest = 0, graphs = 0;
    Ctx cx;
    char *text = NULL;
    size_t n = 0;
    (void)state;

    ctx_init(&cx);
    if (os_read_file(&cx, "docs/il.md", &text, &n) != ST_OK)
        fail_msg("%s", cx.msg);
    for (char *at = strstr(text, "```\ngraph"); at; at = strstr(at, "```\ngraph")) {
        Arena *a = arena_new();
        Graph *g;
        at += 4;
        char *end = strstr(at, "```");
        assert_non_null(end);
        *end = '\0';
        if (parse(&cx, a, at, &g) != ST_OK)
            fail_msg("graph %d: %d:%d: %s", graphs, cx.line, cx.col, cx.msg);
        check_round_trip(&cx, a, g, 0);
        count_ops(g, 0, count, &deepest);
        arena_free(a);
        at = end + 1;
        graphs++;
    }
    assert_int_equal(graphs, 2);
    for (Op op = OP_none + 1; op < OP_COUNT; op++)
        if (count[op] == 0)
            fail_msg("docs/il.md has no %s", op_info[op].name);
    free(text);
}

static const RandomOptions everything = {
    .nodes = 40, .zeros = true, .dtypes = true, .grads = true, .bodies = true, .random = true
};

static void round_trip(void **state)
{
    int count[OP_COUNT] = { 0 }, deepest = 0;
    (void)state;

    for (uint64_t seed = 0; seed < 300; seed++) {
        Ctx cx;
        Arena *a = arena_new();
        ctx_init(&cx);
        const Graph *g = random_graph(&cx, a, seed, &everything);
        check_round_trip(&cx, a, g, seed);
        count_ops(g, 0, count, &deepest);
        arena_free(a);
    }
    for (Op op = OP_none + 1; op < OP_COUNT; op++)
        if (count[op] < 5)
            fail_msg("random graphs have %d nodes of %s", count[op], op_info[op].name);
    assert_int_equal(deepest, 2);
}

/* Text with a few bytes changed parses to a graph that is right, or fails at a place. */
static void mutated_text(void **state)
{
    int parsed = 0, refused = 0;
    (void)state;

    for (uint64_t seed = 0; seed < 1500; seed++) {
        static const char bytes[] = "%=[](){},:@#.-+0123456789aefinpx \n\t\x01\x80";
        Ctx cx;
        Arena *a = arena_new();
        Strbuf text = { 0 };
        Graph *back;
        Rng rng;
        RandomOptions opt = everything;
        ctx_init(&cx);
        opt.nodes = 8;
        rng_init(&rng, seed, 77);
        graph_print(random_graph(&cx, a, seed / 10, &opt), &text);
        for (uint64_t n = 1 + rng_below(&rng, 2); n > 0; n--) {
            const size_t at = rng_below(&rng, text.n);
            if (rng_below(&rng, 3) == 0) { /* a deletion */
                memmove(text.s + at, text.s + at + 1, text.n - at);
                text.n--;
            } else {
                text.s[at] = bytes[rng_below(&rng, sizeof bytes)]; /* NUL ends the text */
            }
        }
        if (parse(&cx, a, strbuf_str(&text), &back) == ST_OK) {
            parsed++;
            check_round_trip(&cx, a, back, seed);
        } else {
            refused++;
            assert_true(cx.line >= 1 && cx.col >= 1 && cx.msg[0]);
        }
        strbuf_free(&text);
        arena_free(a);
    }
    assert_true(parsed > 50 && refused > 200);
}

static void one_seed_one_graph(void **state)
{
    Ctx cx;
    Arena *a = arena_new();
    (void)state;
    ctx_init(&cx);
    assert_true(
        graph_eq(random_graph(&cx, a, 5, &everything), random_graph(&cx, a, 5, &everything)));
    assert_false(
        graph_eq(random_graph(&cx, a, 5, &everything), random_graph(&cx, a, 6, &everything)));
    arena_free(a);
}

/* Seeded mistakes, one at a time, in a graph that is right. */

static Graph *good_graph(Ctx *cx, Arena *a)
{
    static const char text[] = "graph (%x: f32[8,16], param %w: f32[16,4], state %v: f32[16,4]) {\n"
                               "  %y = matmul %x, %w : f32[8,4]  @dense.0\n"
                               "  %z = tanh %y : f32[8,4]\n"
                               "  %s = scan %z carry=0 step=1 trip=8 (%t: f32[4]) {\n"
                               "    %e = exp %t : f32[4]\n"
                               "    return %e\n"
                               "  }\n"
                               "  %o = get %s index=0 : f32[8,4]\n"
                               "  %f = fusion %o kind=map (%q: f32[8,4]) {\n"
                               "    %r = neg %q : f32[8,4]\n"
                               "    return %r\n"
                               "  }\n"
                               "  %p = get %f index=0 : f32[8,4]\n"
                               "  %d = neg %w : f32[16,4]\n"
                               "  return loss: %p, %w := %d\n"
                               "}\n";
    Graph *g;
    if (parse(cx, a, text, &g) != ST_OK)
        fail_msg("%d:%d: %s", cx->line, cx->col, cx->msg);
    return g;
}

enum { GX = 1, GW, GV, GY, GZ, GS, GO, GF, GP, GD };

static void self_argument(Graph *g)
{
    ((Ref *)(uintptr_t)g->node[GZ].arg)[0] = GZ;
}
static void later_argument(Graph *g)
{
    ((Ref *)(uintptr_t)g->node[GZ].arg)[0] = GP;
}
static void no_argument(Graph *g)
{
    ((Ref *)(uintptr_t)g->node[GZ].arg)[0] = REF_NONE;
}
static void wrong_arity(Graph *g)
{
    g->node[GZ].nargs = 0;
}
static void wrong_type(Graph *g)
{
    g->node[GZ].type.shape.dim[0] = 9;
}
static void wrong_dtype(Graph *g)
{
    g->node[GZ].type.dt = DT_F16;
}
static void wrong_op(Graph *g)
{
    g->node[GZ].op = OP_COUNT;
}
static void other_op(Graph *g)
{
    g->node[GZ].op = OP_not;
}
static void wrong_region(Graph *g)
{
    g->node[GZ].region = 7;
}
static void bad_name(Graph *g)
{
    g->node[GZ].name = "a b";
}
static void same_name(Graph *g)
{
    g->node[GZ].name = "y";
}
static void no_name(Graph *g)
{
    g->node[GX].name = NULL;
}
static void leftover(Graph *g)
{
    g->node[GY].attr.contract.over_a[3] = 1;
}
static void no_body(Graph *g)
{
    g->node[GS].attr.scan.body = NULL;
}
static void body_type(Graph *g)
{
    g->node[GS].attr.scan.body->node[2].type.dt = DT_F16;
}
static void body_kind(Graph *g)
{
    g->node[GS].attr.scan.body->node[1].attr.input.kind = INPUT_param;
}
static void body_replaces(Graph *g)
{
    g->node[GS].attr.scan.body->out[0].replaces = 1;
}
static void wrong_trip(Graph *g)
{
    g->node[GS].attr.scan.trip = 7;
}
static void wrong_index(Graph *g)
{
    g->node[GO].attr.get.index = 1;
}
static void input_list(Graph *g)
{
    g->input[0] = GW;
}
static void input_count(Graph *g)
{
    g->ninput--;
}
static void output_ref(Graph *g)
{
    g->out[0].value = 99;
}
static void output_tuple(Graph *g)
{
    g->out[0].value = GF;
}
static void output_input(Graph *g)
{
    g->out[0].value = GW;
}
static void replaces_batch(Graph *g)
{
    g->out[1].replaces = GX;
}
static void replaces_node(Graph *g)
{
    g->out[1].replaces = GY;
}
static void replaces_type(Graph *g)
{
    g->out[1].value = GY;
}
static void replaces_twice(Graph *g)
{
    g->out[0].value = GD;
    g->out[0].replaces = GW;
}
static void fusion_in_fusion(Graph *g)
{
    Graph *body = g->node[GF].attr.fusion.body;
    Node n = g->node[GF];
    Ref r, arg = 1;
    Ctx cx;
    ctx_init(&cx);
    n.arg = &arg;
    n.name = NULL;
    n.attr.fusion.body = graph_new(g->arena);
    assert_int_equal(graph_copy(&cx, body, n.attr.fusion.body), ST_OK);
    assert_int_equal(graph_add(&cx, body, &n, &r), ST_OK);
}

static void verify_finds(void **state)
{
    static const struct {
        void (*spoil)(Graph *g);
        const char *message;
    } mistake[] = {
        { self_argument, "verify: %5: tanh: argument 0 is %5, which is not before it" },
        { later_argument, "verify: %5: tanh: argument 0 is %9, which is not before it" },
        { no_argument, "verify: %5: tanh: argument 0 is %0, which is not before it" },
        { wrong_arity, "verify: %5: tanh: wants 1 argument, got 0" },
        { wrong_type, "verify: %5: tanh: gives f32[8,4], not f32[9,4]" },
        { wrong_dtype, "verify: %5: tanh: gives f32[8,4], not f16[8,4]" },
        { wrong_op, NULL },
        { other_op, "verify: %5: not: wants bool, got f32[8,4]" },
        { wrong_region, "verify: %5: tanh: region 7 of 2" },
        { bad_name, "verify: %5: tanh: \"a b\" is no name" },
        { same_name, "verify: %5: %4 is called y too" },
        { no_name, "verify: %1: input: has no name" },
        { leftover, "verify: %4: matmul: attributes are not in normal form" },
        { no_body, "verify: %6: scan: has no body" },
        { body_type, "verify: %6: body of scan: verify: %2: exp: gives f32[4], not f16[4]" },
        { body_kind, NULL },
        { body_replaces, NULL },
        { wrong_trip, "verify: %6: scan: argument 0 wants 7 steps on axis 0, got f32[8,4]" },
        { wrong_index, "verify: %7: get: wants result 1 of a scan that has 1" },
        { input_list, "verify: %1: input: is not number 0 of the graph's list of inputs" },
        { input_count, NULL },
        { output_ref, "verify: %99: output 0 is no value" },
        { output_tuple, "verify: %8: output 0 is no value" },
        { output_input, "verify: %2: output 0 reads %w, which another output replaces" },
        { replaces_batch, "verify: %10: output 1 replaces %x, neither a param nor a state" },
        { replaces_node, "verify: %10: output 1 replaces %4, which is no input" },
        { replaces_type, "verify: %4: output 1 replaces %w: f32[16,4] by f32[8,4]" },
        { replaces_twice, "verify: %10: %w is replaced twice" },
        { fusion_in_fusion, "verify: %8: body of fusion: verify: %3: a fusion stands in a fusion" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof mistake / sizeof *mistake; i++) {
        Ctx cx;
        Arena *a = arena_new();
        ctx_init(&cx);
        Graph *g = good_graph(&cx, a);
        assert_int_equal(graph_verify(&cx, g), ST_OK);
        mistake[i].spoil(g);
        if (graph_verify(&cx, g) != ST_INTERNAL)
            fail_msg("mistake %zu is not found", i);
        if (mistake[i].message)
            assert_string_equal(cx.msg, mistake[i].message);
        arena_free(a);
    }
}

/* The builder. */

static void builder_broadcasts_and_sticks(void **state)
{
    Ctx cx;
    Arena *a = arena_new();
    Graph *g = graph_new(a);
    const int no = 3;
    (void)state;

    ctx_init(&cx);
    Builder b = build_start(&cx, g);
    const Ref x = build_input(&b, INPUT_batch, "x", DT_F32, shape_of(2, (int64_t)8, (int64_t)3));
    const Ref w = build_input(&b, INPUT_param, "w", DT_F32, shape_of(2, (int64_t)3, (int64_t)4));
    const Ref c = build_scalar(&b, DT_F32, 2);
    const Ref y = build_op2(&b, OP_mul, c, build_matmul(&b, x, w));
    const Type t = build_type(&b, y);
    assert_string_equal(type_str(&t), "f32[8,4]");
    assert_int_equal(build_reshape(&b, y, t.shape), y);
    build_name(&b, y, "y");
    assert_string_equal(g->node[y].name, "y");
    assert_int_equal(graph_find_input(g, "w"), w);
    assert_int_equal(graph_find_input(g, "y"), REF_NONE);
    build_output(&b, y, "y");
    assert_int_equal(b.status, ST_OK);
    assert_int_equal(graph_verify(&cx, g), ST_OK);

    assert_int_equal(build_slice(&b, y, no, 0, 1), REF_NONE);
    assert_int_equal(b.status, ST_SHAPE);
    assert_string_equal(cx.msg, "slice: axis 3 is none of f32[8,4]");
    assert_int_equal(build_op1(&b, OP_neg, y), REF_NONE);
    assert_string_equal(cx.msg, "slice: axis 3 is none of f32[8,4]");

    b = build_start(&cx, g);
    build_input(&b, INPUT_batch, "w", DT_F32, shape_of(0));
    assert_string_equal(cx.msg, "input: there is a %w already");
    b = build_start(&cx, g);
    build_input(&b, INPUT_batch, "1w", DT_F32, shape_of(0));
    assert_string_equal(cx.msg, "input: \"1w\" is no name: wants [A-Za-z_][A-Za-z0-9_.-]*");
    arena_free(a);
}

static void attributes_hash_and_compare(void **state)
{
    Ctx cx;
    Arena *a = arena_new();
    (void)state;
    ctx_init(&cx);
    Graph *g = good_graph(&cx, a), *h = good_graph(&cx, a);
    const Node *n = &g->node[GS], *m = &h->node[GS];
    assert_true(attr_eq(ATTR_scan, &n->attr, &m->attr));
    assert_int_equal(attr_hash(ATTR_scan, &n->attr), attr_hash(ATTR_scan, &m->attr));
    h->node[GS].attr.scan.reverse = true;
    assert_false(attr_eq(ATTR_scan, &n->attr, &m->attr));
    assert_true(attr_hash(ATTR_scan, &n->attr) != attr_hash(ATTR_scan, &m->attr));
    assert_false(graph_eq(g, h));
    arena_free(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inference_accepts),
        cmocka_unit_test(inference_refuses),
        cmocka_unit_test(parser_refuses),
        cmocka_unit_test(parser_bounds_nesting),
        cmocka_unit_test(print_is_exact),
        cmocka_unit_test(one_seed_one_graph),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(documentation),
        cmocka_unit_test(mutated_text),
        cmocka_unit_test(verify_finds),
        cmocka_unit_test(builder_broadcasts_and_sticks),
        cmocka_unit_test(attributes_hash_and_compare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
