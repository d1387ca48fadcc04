/* SPDX-License-Identifier: Apache-2.0 */
/* compile: the pipeline.
 *
 *     Graph ──pass_run──▶ fused Graph ──ops->build──▶ Kernels ──program_create──▶ GtcProgram
 *             passes/     inputs, fusions   codegen/   C text    ops->load: cache or compiler
 *                         and gets only                          memory plan, barriers, steps
 *
 * docs/pipeline.md follows a graph along this line. */
#include <time.h>

#include "ir/text.h"
#include "passes/pass.h"
#include "runtime/call.h"
#include "runtime/program.h"

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void dump_graph(const GtcOptions *opt, const char *stage, const Graph *g)
{
    if (!opt->dump)
        return;
    Strbuf text = { 0 };
    graph_print(g, &text);
    opt->dump(opt->dump_arg, stage, strbuf_str(&text));
    strbuf_free(&text);
}

/* ------------------------------------------------------------ passes */

typedef struct Watch { /* what the pass manager reports to */
    const GtcOptions *opt;
    int ops;
} Watch;

/* What computes: of a scan also its body, once.  -1 when the graph is fused already. */
static int count_ops(const Graph *g)
{
    int n = 0;
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *node = &g->node[r];
        const OpClass cls = op_info[node->op].cls;
        if (node->op == OP_fusion)
            return -1;
        n += cls != CLASS_SOURCE && cls != CLASS_VIEW && cls != CLASS_TUPLE;
        if (node->op == OP_scan)
            n += count_ops(node->attr.scan.body);
    }
    return n;
}

static void pass_done(void *arg, const PassReport *r)
{
    Watch *w = arg;
    const int ops = count_ops(r->after);
    if (ops >= 0) /* the last graph before fusion counts */
        w->ops = ops;
    if (w->opt->pass_done)
        w->opt->pass_done(w->opt->pass_done_arg, r->name, r->nchanged, r->nodes_after, r->ms);
    dump_graph(w->opt, r->name, r->after);
}

static Status run_passes(Ctx *cx, Arena *arena, const Target *target, const Graph *g, Watch *watch,
                         const Graph **fused)
{
    const GtcOptions *opt = watch->opt;
    const PassOptions passes = {
        .level = opt->mode == GTC_EAGER ? LEVEL_eager : LEVEL_default,
        .passes = opt->passes,
        .skip = opt->skip_passes,
        .verify = opt->verify,
        .report = pass_done,
        .report_arg = watch,
    };
    watch->ops = count_ops(g);
    dump_graph(opt, "input", g);
    return pass_run(cx, arena, target, &passes, g, fused);
}

/* ------------------------------------------------------------ kernels */

static void dump_kernels(const GtcOptions *opt, const Kernel *k, int n)
{
    if (!opt->dump)
        return;
    Strbuf plans = { 0 }, sources = { 0 };
    for (int i = 0; i < n; i++) {
        strbuf_printf(&plans, "%s\n%s\n", k[i].name, k[i].plan ? k[i].plan : "");
        strbuf_printf(&sources, "%s\n", k[i].source ? k[i].source : "");
    }
    opt->dump(opt->dump_arg, "plans", strbuf_str(&plans));
    opt->dump(opt->dump_arg, "kernels", strbuf_str(&sources));
    strbuf_free(&plans);
    strbuf_free(&sources);
}

static bool wants_calls(const GtcDevice *d, const GtcOptions *opt)
{
    return d->calls && (opt->libraries == GTC_LIBRARIES_ALL ||
                        (opt->libraries == GTC_LIBRARIES_AUTO && opt->mode == GTC_EAGER));
}

/* The plan says why a product is none. */
static void want_call(Arena *arena, const Graph *body, Kernel *k)
{
    const char *why;
    k->call = call_find(arena, body, &why);
    if (!k->call && why[0])
        k->plan = arena_printf(arena, "%sno library call: %s\n", k->plan, why);
}

/* What a library may do has a kernel too, for when it cannot. */
static Status build_kernels(Ctx *cx, GtcDevice *d, Arena *arena, const GtcOptions *opt,
                            const Graph *fused, Kernel **out, int *n)
{
    Kernel *k = *out = arena_array(arena, Kernel, fused->nnode);
    *n = 0;
    for (Ref r = 1; r < fused->nnode; r++) {
        if (fused->node[r].op != OP_fusion)
            continue;
        TRY(d->ops->build(cx, d, arena, fused, r, &k[*n]));
        if (wants_calls(d, opt))
            want_call(arena, fused->node[r].attr.fusion.body, &k[*n]);
        ++*n;
    }
    return ST_OK;
}

/* ------------------------------------------------------------ the whole way */

static Status compile_in(Ctx *cx, GtcDevice *d, GtcStore *s, const Graph *g, const GtcOptions *opt,
                         Arena *arena, GtcProgram **out)
{
    const double start = now_ms();
    Watch watch = { .opt = opt };
    const Graph *fused = NULL;
    Kernel *kernel = NULL;
    int n = 0;

    TRY(run_passes(cx, arena, &d->target, g, &watch, &fused));
    if (opt->feed) {
        TRY(program_join(cx, arena, opt->feed, fused, &fused));
        dump_graph(opt, "join", fused);
    }
    TRY(build_kernels(cx, d, arena, opt, fused, &kernel, &n));
    dump_kernels(opt, kernel, n);
    TRY(program_create(cx, d, s, fused, kernel, n, opt, out));
    program_set_info(*out, watch.ops, now_ms() - start);
    return ST_OK;
}

Status gtc_compile(Ctx *cx, GtcDevice *d, GtcStore *s, const Graph *g, const GtcOptions *opt,
                   GtcProgram **out)
{
    const GtcOptions none = { .mode = GTC_DEFAULT };
    *out = NULL;
    Arena *arena = arena_new();
    const Status status = compile_in(cx, d, s, g, opt ? opt : &none, arena, out);
    arena_free(arena);
    return status;
}

static Status opt_in(Ctx *cx, Arena *arena, const char *file, const char *text,
                     const GtcOptions *opt, Strbuf *out)
{
    const Target target = device_cpu_target(0);
    Watch watch = { .opt = opt };
    Graph *g = NULL;
    const Graph *result = NULL;
    TRY(graph_parse(cx, arena, file, text, &g));
    TRY(run_passes(cx, arena, &target, g, &watch, &result));
    graph_print(result, out);
    return ST_OK;
}

Status gtc_opt(Ctx *cx, const char *file, const char *text, const GtcOptions *opt, Strbuf *out)
{
    const GtcOptions none = { .mode = GTC_DEFAULT };
    Arena *arena = arena_new();
    const Status status = opt_in(cx, arena, file, text, opt ? opt : &none, out);
    arena_free(arena);
    return status;
}

void gtc_pass_list(Strbuf *out)
{
    static const char *const level[] = { "eager", "default", "by name" };
    for (int i = 0; i < pass_count; i++)
        strbuf_printf(out, "%-16s %-8s %s\n", pass_info[i].name, level[pass_info[i].level],
                      pass_info[i].help);
}
