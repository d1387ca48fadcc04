/* SPDX-License-Identifier: Apache-2.0 */
/* Each kernel of a program by itself.
 *
 * The program's graph after all passes is evaluated, rounded to the dtypes, and every value between
 * kernels is kept.  A second graph holds the same groups side by side, none reading another: each
 * group's arguments are inputs.  Compiled without a pass it has the very same kernels, so one run
 * gives what each of them makes of right arguments.  A kernel that an earlier program has too, of
 * the same text, is not compared again. */
#include <stdio.h>
#include <string.h>

#include "ir/text.h"
#include "train/verify_op.h"

typedef struct Apart {
    Verify *v;
    Graph *fused;     /* every value that a get takes is an output too */
    Tensor *value;    /* by Ref of fused: of inputs and gets */
    Graph *g;         /* the groups side by side */
    Ref *from;        /* by input of g: whose value it is given */
    OracleTensor *in; /* of g, when the oracle is asked */
} Apart;

static const Tensor *value_named(const VerifyInput *in, int nin, const char *name)
{
    for (int i = 0; i < nin; i++)
        if (strcmp(in[i].name, name) == 0)
            return in[i].value;
    return NULL;
}

/* Evaluates fused and fills value. */
static Status find_values(Apart *a, const VerifyInput *in, int nin)
{
    Verify *v = a->v;
    Graph *g = a->fused;
    const uint32_t first = g->nout;
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op == OP_get)
            TRY(graph_output(v->cx, g, r, REF_NONE, NULL));
    Tensor *given = arena_array(v->arena, Tensor, g->ninput + 1);
    Tensor *out = arena_array(v->arena, Tensor, g->nout + 1);
    a->value = arena_array(v->arena, Tensor, g->nnode);
    for (uint32_t i = 0; i < g->ninput; i++) {
        const Tensor *t = value_named(in, nin, g->node[g->input[i]].name);
        if (!t)
            return FAIL(v->cx, INTERNAL, "verify: input %s has no value",
                        g->node[g->input[i]].name);
        given[i] = a->value[g->input[i]] = *t;
    }
    TRY(eval_graph(v->cx, g, EVAL_ROUND, v->arena, given, out));
    for (uint32_t o = first; o < g->nout; o++)
        a->value[g->out[o].value] = out[o];
    return ST_OK;
}

/* One group with inputs of its own. */
static Status add_group(Apart *a, int kernel, Ref node)
{
    Verify *v = a->v;
    const Node *n = &a->fused->node[node];
    Ref *arg = arena_array(v->arena, Ref, n->nargs + 1), group, get;
    for (uint32_t i = 0; i < n->nargs; i++) {
        const Node input = { .op = OP_input,
                             .type = a->fused->node[n->arg[i]].type,
                             .attr.input.kind = INPUT_batch,
                             .name = arena_printf(v->arena, "k%d.%u", kernel, i) };
        TRY(graph_add(v->cx, a->g, &input, &arg[i]));
        a->from[a->g->ninput - 1] = n->arg[i];
    }
    Node copy = *n;
    copy.arg = arg;
    copy.region = 0;
    copy.name = NULL;
    TRY(graph_add(v->cx, a->g, &copy, &group));
    for (uint32_t i = 0; i < graph_result_count(a->g, group); i++) {
        const Node take = { .op = OP_get, .nargs = 1, .arg = &group, .attr.get.index = i };
        TRY(graph_add(v->cx, a->g, &take, &get));
        TRY(graph_output(v->cx, a->g, get, REF_NONE, NULL));
    }
    return ST_OK;
}

static void start_graph(Apart *a, uint32_t args)
{
    a->g = graph_new(a->v->arena);
    a->from = arena_array(a->v->arena, Ref, args + 1);
}

static Status lay_apart(Apart *a, const GtcProgram *p)
{
    const int kernels = gtc_program_info(p).kernels;
    uint32_t args = 0;
    for (int k = 0; k < kernels; k++)
        args += a->fused->node[gtc_program_kernel(p, k).node].nargs;
    start_graph(a, args);
    for (int k = 0; k < kernels; k++)
        TRY(add_group(a, k, gtc_program_kernel(p, k).node));
    return ST_OK;
}

/* One group, and its arguments for the oracle.  Of a fusion the body, whose outputs are taken one
 * by one: an optimizer's kernel alone makes all the state of a model. */
static Status lay_one(Apart *a, int kernel, Ref node)
{
    const Node *n = &a->fused->node[node];
    start_graph(a, n->nargs);
    if (n->op != OP_fusion)
        TRY(add_group(a, kernel, node));
    else
        a->g = n->attr.fusion.body;
    a->in = arena_array(a->v->arena, OracleTensor, n->nargs + 1);
    for (uint32_t i = 0; i < n->nargs; i++)
        a->in[i] = oracle_exact(a->v->arena, &a->value[n->arg[i]]);
    return ST_OK;
}

/* The kernels apart must be those of the program, or the comparison says nothing of it. */
static Status same_kernels(Apart *a, const GtcProgram *whole, const GtcProgram *apart)
{
    const int n = gtc_program_info(whole).kernels;
    if (gtc_program_info(apart).kernels != n)
        return FAIL(a->v->cx, INTERNAL, "verify: %d kernels became %d when laid apart", n,
                    gtc_program_info(apart).kernels);
    for (int k = 0; k < n; k++) {
        const GtcKernelInfo x = gtc_program_kernel(whole, k), y = gtc_program_kernel(apart, k);
        if (!x.source != !y.source || (x.source && strcmp(x.source, y.source) != 0))
            return FAIL(a->v->cx, INTERNAL, "verify: kernel %s is another one when laid apart",
                        x.name);
    }
    return ST_OK;
}

typedef struct One { /* kernel, of which output `first` of p is the first */
    Verify *v;
    const GtcProgram *p;
    const GtcKernelInfo *kernel;
    int number;
    uint32_t first;
    const char *what;
} One;

static Status compare_result(void *to, uint32_t o, const OracleTensor *want)
{
    const One *k = to;
    char text[256];
    snprintf(text, sizeof text, "%s, kernel %d %s alone, %s", k->what, k->number, k->kernel->name,
             type_str(&want->ref.type));
    verify_compare(k->v, want, gtc_program_output(k->p, (int)(k->first + o)).data, k->kernel, text);
    return ST_OK;
}

/* The kernel's results against the oracle's for its group alone: so that no more than one group's
 * bounds are in memory. */
static Status compare_kernel(Apart *a, One *k)
{
    Verify v = *a->v;
    v.arena = arena_new();
    Apart one = { .v = &v, .fused = a->fused, .value = a->value };
    Status status = lay_one(&one, k->number, k->kernel->node);
    if (status == ST_OK)
        status = oracle_outputs(v.cx, one.g, one.in, compare_result, k);
    arena_free(v.arena);
    return status;
}

/* A name ends in a hash of the kernel's text. */
static bool is_known(const NameSet *set, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(set->name[i], name) == 0)
            return true;
    return false;
}

static Status run_apart(Apart *a, GtcProgram *p, const GtcProgram *whole, const char *what)
{
    Verify *v = a->v;
    const int kernels = gtc_program_info(whole).kernels;
    TRY(same_kernels(a, whole, p));
    for (uint32_t i = 0; i < a->g->ninput; i++) {
        const int at = gtc_program_find_input(p, a->g->node[a->g->input[i]].name);
        if (at >= 0)
            tensor_write(&a->value[a->from[i]], gtc_program_input(p, at).data);
    }
    TRY(gtc_program_run(v->cx, p));
    uint32_t first = 0;
    const unsigned before = v->alone->n;
    for (int k = 0; k < kernels; k++) {
        const GtcKernelInfo info = gtc_program_kernel(whole, k);
        if (!is_known(v->alone, before, info.name)) {
            One one = { v, p, &info, k, first, what };
            TRY(compare_kernel(a, &one));
            v->report->kernels++;
            arena_grow(v->alone->arena, v->alone->name, v->alone->n, v->alone->cap);
            v->alone->name[v->alone->n++] = arena_strdup(v->alone->arena, info.name);
        }
        first += graph_result_count(a->fused, info.node);
    }
    return ST_OK;
}

static Status compile_and_run(Apart *a, const GtcProgram *whole, const char *what)
{
    Verify *v = a->v;
    GtcOptions options = *v->work->options;
    GtcStore *store;
    GtcProgram *p = NULL;
    options.passes = "isolate"; /* groups are made: it finds nothing to do */
    options.skip_passes = NULL;
    TRY(gtc_store_create(v->cx, v->work->device, &store));
    Status status = gtc_compile(v->cx, v->work->device, store, a->g, &options, &p);
    if (status == ST_OK)
        status = run_apart(a, p, whole, what);
    if (p)
        gtc_program_destroy(p);
    gtc_store_destroy(store);
    return status;
}

Status verify_kernels(Verify *v, const GtcProgram *p, const char *what, const VerifyInput *in,
                      int nin)
{
    Apart a = { .v = v };
    TRY(graph_parse(v->cx, v->arena, "fused", gtc_program_fused_text(p), &a.fused));
    TRY(find_values(&a, in, nin));
    TRY(lay_apart(&a, p));
    return compile_and_run(&a, p, what);
}
