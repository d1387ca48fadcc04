/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/program_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ir/autodiff.h"
#include "ir/base/rng.h"
#include "ir/text.h"

struct Reference {
    Arena *arena;
    const Graph *asked; /* as given: what gets compiled */
    const Graph *g;     /* with gradients expanded */
    int steps;
    Tensor *start;                        /* [input] */
    OracleTensor *out[CHECK_STEPS_MAX];   /* [step][output] */
    OracleTensor *after[CHECK_STEPS_MAX]; /* [step][input]: its value when the step is done */
};

/* ------------------------------------------------------------ the reference */

static void fill(Rng *rng, Tensor *t)
{
    const int64_t n = shape_count(&t->type.shape);
    for (int64_t k = 0; k < n; k++)
        t->at[k] = dtype_is_float(t->type.dt)
                       ? round_to(t->type.dt, rng_normal(rng))
                       : (double)rng_below(rng, t->type.dt == DT_BOOL ? 2 : 4);
}

static void start_values(Reference *r, const ReferenceOptions *opt)
{
    const Graph *g = r->g;
    r->start = arena_array(r->arena, Tensor, g->ninput + 1);
    for (uint32_t i = 0; i < g->ninput; i++) {
        const Node *n = &g->node[g->input[i]];
        Rng rng;
        rng_init(&rng, opt->seed, i);
        r->start[i] = tensor_new(r->arena, n->type);
        if (!opt->init || !opt->init(opt->init_arg, n->name, n->attr.input.kind, &r->start[i]))
            fill(&rng, &r->start[i]);
    }
}

static uint32_t input_index(const Graph *g, Ref input)
{
    uint32_t i = 0;
    while (g->input[i] != input)
        i++;
    return i;
}

static void run_steps(Ctx *cx, Reference *r)
{
    const Graph *g = r->g;
    OracleTensor *in = arena_array(r->arena, OracleTensor, g->ninput + 1);
    for (uint32_t i = 0; i < g->ninput; i++)
        in[i] = oracle_exact(r->arena, &r->start[i]);
    for (int s = 0; s < r->steps; s++) {
        r->out[s] = arena_array(r->arena, OracleTensor, g->nout + 1);
        r->after[s] = arena_array(r->arena, OracleTensor, g->ninput + 1);
        if (oracle_graph(cx, g, r->arena, in, r->out[s]) != ST_OK)
            fail_msg("oracle: %s", cx->msg);
        memcpy(r->after[s], in, g->ninput * sizeof *in);
        for (uint32_t o = 0; o < g->nout; o++)
            if (g->out[o].replaces != REF_NONE)
                r->after[s][input_index(g, g->out[o].replaces)] = r->out[s][o];
        in = r->after[s];
    }
}

Reference *reference_new(Ctx *cx, const Graph *g, const ReferenceOptions *opt)
{
    Arena *arena = arena_new();
    Reference *r = arena_array(arena, Reference, 1);
    Graph *expanded = graph_new(arena);
    *r = (Reference){ .arena = arena, .asked = g, .g = expanded, .steps = opt->steps };
    assert_in_range(opt->steps, 1, CHECK_STEPS_MAX);
    if (autodiff_expand(cx, g, expanded) != ST_OK)
        fail_msg("autodiff: %s", cx->msg);
    assert_int_equal(expanded->ninput, g->ninput);
    assert_int_equal(expanded->nout, g->nout);
    start_values(r, opt);
    run_steps(cx, r);
    return r;
}

void reference_free(Reference *r)
{
    arena_free(r->arena);
}

const Tensor *reference_start(const Reference *r)
{
    return r->start;
}

/* ------------------------------------------------------------ one program */

typedef struct Judge {
    Ctx *cx;
    const Reference *r;
    GtcStore *store;
    GtcProgram *p;
    OracleLimits limits;
    ProgramVerdict *v;
} Judge;

static void tell_kernel(Judge *j, uint32_t output)
{
    Arena *arena = arena_new();
    Graph *fused;
    if (graph_parse(j->cx, arena, "fused", gtc_program_fused_text(j->p), &fused) == ST_OK &&
        output < fused->nout) {
        const Node *n = &fused->node[fused->out[output].value];
        for (int i = 0; n->op == OP_get && i < gtc_program_info(j->p).kernels; i++) {
            const GtcKernelInfo k = gtc_program_kernel(j->p, i);
            const size_t at = strlen(j->v->text);
            if (k.node == n->arg[0])
                snprintf(j->v->text + at, sizeof j->v->text - at, "; written by %s, layers [%s]",
                         k.name, k.layers);
        }
    }
    arena_free(arena);
}

/* data: what the program left, of output number `output`. */
static void compare(Judge *j, int step, const char *name, uint32_t output, const void *data,
                    const OracleTensor *want)
{
    ProgramVerdict *v = j->v;
    OracleReport report = { 0 };
    Arena *arena = arena_new();
    Tensor got = tensor_new(arena, want->ref.type);

    tensor_read(&got, data);
    const bool ok = oracle_compare(want, &got, &j->limits, &report);
    v->compared += report.elements;
    v->undecided += report.undecided;
    v->loose += report.loose;
    v->worst = fmax(v->worst, report.worst);
    v->worst_rmse = fmax(v->worst_rmse, report.worst_rmse);
    if (!ok && !v->wrong) {
        v->wrong = true;
        snprintf(v->text, sizeof v->text, "step %d, %s %s: %s", step, name,
                 type_str(&want->ref.type), report.text);
        tell_kernel(j, output);
    }
    arena_free(arena);
}

static void put_start(Judge *j)
{
    const Graph *g = j->r->g;
    for (uint32_t i = 0; i < g->ninput; i++) {
        const Node *n = &g->node[g->input[i]];
        const int at = gtc_program_find_input(j->p, n->name);
        GtcTensor *stored = gtc_store_find(j->store, n->name);
        if (n->attr.input.kind != INPUT_batch && stored)
            tensor_write(&j->r->start[i], stored->data);
        else if (at >= 0)
            tensor_write(&j->r->start[i], gtc_program_input(j->p, at).data);
    }
    if (gtc_store_upload(j->cx, j->store) != ST_OK)
        fail_msg("upload: %s", j->cx->msg);
}

static void compare_step(Judge *j, int step)
{
    const Graph *g = j->r->g;
    const Reference *r = j->r;
    assert_int_equal(gtc_program_output_count(j->p), (int)g->nout);
    for (uint32_t o = 0; o < g->nout; o++) {
        const GtcTensor t = gtc_program_output(j->p, (int)o);
        char name[128];
        snprintf(name, sizeof name, "output %u %s", o, t.name ? t.name : "");
        const void *data = t.data;
        if (g->out[o].replaces != REF_NONE) {
            const char *input = g->node[g->out[o].replaces].name;
            const GtcTensor *stored = gtc_store_find(j->store, input);
            assert_non_null(stored);
            data = stored->data;
            snprintf(name, sizeof name, "%s", input);
        }
        compare(j, step, name, o, data, &r->out[step][o]);
    }
    for (uint32_t i = 0; i < g->ninput; i++) { /* also those that must stay as they were */
        const Node *n = &g->node[g->input[i]];
        const GtcTensor *stored =
            n->attr.input.kind == INPUT_batch ? NULL : gtc_store_find(j->store, n->name);
        if (stored)
            compare(j, step, n->name, UINT32_MAX, stored->data, &r->after[step][i]);
    }
}

static void look_at_kernels(Judge *j, const ProgramCheck *opt)
{
    const GtcProgramInfo info = gtc_program_info(j->p);
    j->v->refused = info.interpreted && opt->may_refuse;
    if (!opt->may_refuse)
        assert_int_equal(info.interpreted, 0);
    if (opt->look)
        opt->look(opt->arg, j->p);
    j->v->kernels = info.kernels;
    j->v->calls = info.calls;
    for (int i = 0; i < info.kernels; i++)
        j->v->plain += strcmp(gtc_program_kernel(j->p, i).planner, "plain") == 0;
}

static void check_steps(Judge *j, const ProgramCheck *opt)
{
    look_at_kernels(j, opt);
    put_start(j);
    for (int s = 0; s < j->r->steps && !j->v->wrong; s++) {
        if (gtc_program_run(j->cx, j->p) != ST_OK ||
            gtc_store_download(j->cx, j->store) != ST_OK)
            fail_msg("run: %s", j->cx->msg);
        compare_step(j, s);
    }
    gtc_program_destroy(j->p);
}

ProgramVerdict program_check(Ctx *cx, const Reference *r, const ProgramCheck *opt)
{
    ProgramVerdict v = { 0 };
    Judge j = { .cx = cx, .r = r, .limits = opt->limits, .v = &v };
    GtcDevice *device;
    const GtcOptions options = { .mode = opt->mode,
                                 .libraries = opt->libraries,
                                 .skip_passes = opt->skip_passes,
                                 .verify = true,
                                 .pass_done = opt->pass_done,
                                 .pass_done_arg = opt->arg };

    if (gtc_device_open(cx, opt->device ? opt->device : "cpu", opt->threads, &device) != ST_OK ||
        gtc_store_create(cx, device, &j.store) != ST_OK)
        fail_msg("no device: %s", cx->msg);
    if (gtc_compile(cx, device, j.store, r->asked, &options, &j.p) == ST_OK) {
        check_steps(&j, opt);
    } else {
        v.wrong = true;
        snprintf(v.text, sizeof v.text, "does not compile: %s", cx->msg);
    }
    gtc_store_destroy(j.store);
    gtc_device_close(device);
    return v;
}
