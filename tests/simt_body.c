/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/simt_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/oracle.h"
#include "ir/text.h"
#include "tests/simt_case.h"

enum { LAUNCHES = 8 };

/* No order of adding these up gives the bits of another. */
static void give_numbers(SimtBody *b)
{
    for (uint32_t i = 0; i < b->graph->ninput; i++) {
        b->in[i] = tensor_new(b->arena, b->graph->node[b->graph->input[i]].type);
        const int64_t n = shape_count(&b->in[i].type.shape);
        for (int64_t e = 0; e < n; e++)
            b->in[i].at[e] = (double)(float)(.1 + .37 * (double)(e * 7 % 23));
    }
}

void simt_body_open(SimtBody *b, const Target *t, const Graph *g, Ref r)
{
    ctx_init(&b->cx);
    b->arena = arena_new();
    b->graph = g->node[r].attr.fusion.body;
    b->k = arena_alloc(b->arena, sizeof *b->k);
    if (kernel_build_cuda(&b->cx, b->arena, t, g, r, b->k) != ST_OK || b->cx.msg[0])
        fail_msg("no kernel: %s", b->cx.msg);
    assert_string_equal(b->k->planner, "cuda");
    assert_true(b->k->nin + b->k->nout + 2 <= SIMT_BODY_ARGS);
    give_numbers(b);
}

void simt_body_parse(SimtBody *b, const Target *t, const char *name, const char *text)
{
    Ctx cx;
    Arena *arena = arena_new();
    Graph *body, *g = graph_new(arena);
    Ref arg[SIMT_BODY_ARGS], fusion;
    ctx_init(&cx);
    if (graph_parse(&cx, arena, name, text, &body) != ST_OK)
        fail_msg("%s:%d: %s", name, cx.line, cx.msg);
    for (uint32_t i = 0; i < body->ninput; i++)
        assert_int_equal(graph_add(&cx, g, &body->node[body->input[i]], &arg[i]), ST_OK);
    const Node n = { .op = OP_fusion,
                     .nargs = body->ninput,
                     .arg = arg,
                     .attr.fusion = { .body = body, .kind = "body" } };
    assert_int_equal(graph_add(&cx, g, &n, &fusion), ST_OK);
    simt_body_open(b, t, g, fusion);
    b->text = arena;
}

void simt_body_close(SimtBody *b)
{
    arena_free(b->arena);
    arena_free(b->text);
}

static size_t bytes_of(const SimtBody *b, uint32_t i)
{
    const Kernel *k = b->k;
    if (i < k->nin + k->nout)
        return (size_t)type_bytes(
            i < k->nin ? &b->in[i].type : &b->graph->node[b->graph->out[i - k->nin].value].type);
    return i == k->nin + k->nout ? (size_t)k->shared_bytes : sizeof(uint32_t) * (size_t)k->counters;
}

static Status launch_all(SimtBody *b, SimtMachine *m, const SimtCode *code, SimtKernel *kernel,
                         void **arg, int *op)
{
    for (int i = 0; i < b->k->nlaunch; i++) {
        const Launch *l = &b->k->launch[i];
        if (!kernel[i].entry)
            kernel[i] =
                (SimtKernel){ l->entry, simt_code_entry(&b->cx, code, l->entry), code, false };
        const SimtLaunch launch = {
            &kernel[i], l->blocks, l->threads, l->smem, l->cooperative, arg
        };
        simt_op_begin(m, ++*op, l->entry, NULL);
        TRY(simt_launch(&b->cx, m, &launch));
    }
    return simt_red_zones(&b->cx, m);
}

Status simt_body_run(SimtBody *b, const char *bytes, size_t n, const SimtOptions *opt, int runs,
                     char *out)
{
    const Kernel *k = b->k;
    SimtMachine *m = NULL;
    SimtCode *code = NULL;
    SimtKernel kernel[LAUNCHES] = { { 0 } };
    void *buffer[SIMT_BODY_ARGS], *arg[SIMT_BODY_ARGS];
    int op = 1;
    assert_true(k->nlaunch <= LAUNCHES);
    assert_int_equal(simt_create(&b->cx, opt, &m), ST_OK);
    assert_int_equal(simt_code_load(&b->cx, m, bytes, n, &code), ST_OK);
    for (uint32_t i = 0; i < k->nin + k->nout + 2; i++) {
        const size_t size = bytes_of(b, i);
        arg[i] = &buffer[i];
        buffer[i] = simt_alloc(m, size ? size : 1);
        assert_non_null(buffer[i]);
        if (i < k->nin)
            tensor_write(&b->in[i], buffer[i]);
        else if (i == k->nin + k->nout + 1)
            memset(buffer[i], 0, size);
        else
            continue;
        if (size)
            assert_int_equal(simt_op_access(&b->cx, m, buffer[i], size, true), ST_OK);
    }
    Status s = ST_OK;
    for (int r = 0; r < runs && s == ST_OK; r++) {
        s = launch_all(b, m, code, kernel, arg, &op);
        for (uint32_t i = k->nin; i < k->nin + k->nout && s == ST_OK; i++) {
            memcpy(out, buffer[i], bytes_of(b, i));
            out += bytes_of(b, i);
        }
    }
    simt_code_unload(&b->cx, code);
    simt_destroy(m);
    return s;
}

size_t simt_body_bytes(const SimtBody *b)
{
    size_t n = 0;
    for (uint32_t i = 0; i < b->k->nout; i++)
        n += bytes_of(b, b->k->nin + i);
    return n;
}

static void print_body(const SimtBody *b)
{
    Strbuf s = { 0 };
    graph_print(b->graph, &s);
    fprintf(stderr, "%s%s", strbuf_str(&s), b->k->plan);
    strbuf_free(&s);
}

static int check_outputs(SimtBody *b, const OracleTensor *want, const char *out, const char *what)
{
    int loose = 0;
    for (uint32_t i = 0; i < b->k->nout; i++) {
        OracleReport report = { 0 };
        Tensor got = tensor_new(b->arena, want[i].ref.type);
        tensor_read(&got, out);
        out += type_bytes(&got.type);
        if (!oracle_compare(&want[i], &got, &(OracleLimits){ 0 }, &report)) {
            print_body(b);
            fail_msg("%s, output %u: %s", what, i, report.text);
        }
        loose += (report.undecided + report.loose) * 10 > report.elements;
    }
    return loose;
}

int simt_body_check(SimtBody *b, int schedules, const char *what)
{
    size_t n;
    int loose = 0;
    OracleTensor in[SIMT_BODY_ARGS], want[SIMT_BODY_ARGS];
    for (uint32_t i = 0; i < b->graph->ninput; i++)
        in[i] = oracle_exact(b->arena, &b->in[i]);
    if (oracle_graph(&b->cx, b->graph, b->arena, in, want) != ST_OK)
        fail_msg("%s: %s", what, b->cx.msg);
    char *code = simt_case_compile(b->k->name, b->k->source, true, &n);
    assert_non_null(code);
    char *out = arena_alloc(b->arena, simt_body_bytes(b));
    for (int k = 0; k < schedules; k++) {
        const SimtOptions opt = { .order = (SimtOrder)k, .seed = (uint32_t)k, .shadow = true };
        if (simt_body_run(b, code, n, &opt, 1, out) != ST_OK) {
            print_body(b);
            fail_msg("%s, schedule %d: %s", what, k, b->cx.msg);
        }
        loose += check_outputs(b, want, out, what);
    }
    free(code);
    return loose;
}

int simt_body_loops(const SimtBody *b)
{
    int n = 0;
    for (const char *at = b->k->source; (at = strstr(at, "for (int tile")) != NULL; at++)
        n++;
    return n;
}
