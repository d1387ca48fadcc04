/* SPDX-License-Identifier: Apache-2.0 */
/* pass: the pass manager.
 *
 * A pass reads one graph and builds the next, so the manager is a fold over a list of names.  It
 * owns what every pass would else repeat: scratch memory that dies with the pass, the check of the
 * pass's contract (its row in passes.def), verification, timing and the report.
 *
 * There is one pipeline, written once below; a mode leaves out the passes above its level:
 *
 *     clean        canonicalise fold cse dce
 *     expand       differentiate
 *     clean        canonicalise fold cse dce
 *     group        fuse-scan fuse-attention fuse-contract             (from mode default on)
 *                  fuse-reduce fuse-loop
 *     close        isolate dce
 *     join         fuse-horizontal                                    (from mode default on)
 *
 * Gradients are taken of a clean graph, so that what the forward part does not need is not
 * differentiated; and cleaned again, because a gradient rule is written for the general case.
 * Where a gradient is by a value that is no input, expanding comes first: cleaning may replace that
 * value, or merge it with another, and would lose the paths from it to the loss.
 * Groups form from the scarcest shape of kernel to the most common: a scan takes what feeds it,
 * attention its softmax, a contraction its epilogue, a reduction its sweep, loops the rest. */
#include "passes/pass.h"

#include <string.h>
#include <time.h>

#include "ir/base/strbuf.h"
#include "ir/text.h"

static const char pipeline[] = "canonicalise,fold,cse,dce,"
                               "differentiate,"
                               "canonicalise,fold,cse,dce,"
                               "fuse-scan,fuse-attention,fuse-contract,fuse-reduce,fuse-loop,"
                               "isolate,dce,"
                               "fuse-horizontal";

#define VERIFIED PROP_VERIFIED
#define EXPANDED PROP_EXPANDED
#define NAMES    PROP_NAMES
#define REGIONS  PROP_REGIONS
const PassInfo pass_info[] = {
#define PASS(name, requires, keeps, level, help)                                                   \
    { #name, help, requires, keeps, LEVEL_##level, pass_##name },
#include "passes/passes.def"
};
const int pass_count = sizeof pass_info / sizeof *pass_info;

static bool same_name(const char *name, const char *s, int n)
{
    for (int i = 0; i < n; i++)
        if (name[i] != s[i] && !(name[i] == '_' && s[i] == '-'))
            return false;
    return name[n] == 0;
}

const PassInfo *pass_find(const char *name, int n)
{
    for (int i = 0; i < pass_count; i++)
        if (same_name(pass_info[i].name, name, n))
            return &pass_info[i];
    return NULL;
}

/* The next name of a comma list, without the blanks around it; false at its end. */
static bool list_next(const char **list, const char **name, int *n)
{
    const char *s = *list;
    while (*s == ' ' || *s == ',')
        s++;
    *name = s;
    *n = (int)strcspn(s, ", ");
    *list = s + *n;
    return *n > 0;
}

static Status list_check(Ctx *cx, const char *list)
{
    const char *name;
    int n;
    while (list && list_next(&list, &name, &n))
        if (!pass_find(name, n)) {
            Strbuf all = { 0 };
            for (int i = 0; i < pass_count; i++)
                strbuf_printf(&all, " %s", pass_info[i].name);
            FAIL(cx, USAGE, "no pass is called '%.*s'; there are:%s", n, name, strbuf_str(&all));
            strbuf_free(&all);
            return ST_USAGE;
        }
    return ST_OK;
}

static bool list_has(const char *list, const PassInfo *info)
{
    const char *name;
    int n;
    while (list && list_next(&list, &name, &n))
        if (pass_find(name, n) == info)
            return true;
    return false;
}

bool pass_is_expanded(const Graph *g)
{
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op == OP_grad)
            return false;
    return true;
}

/* No gradient is by a value that cleaning could replace. */
static bool grads_by_inputs(const Graph *g)
{
    for (Ref r = 1; r < g->nnode; r++)
        for (uint32_t i = 1; g->node[r].op == OP_grad && i < g->node[r].nargs; i++)
            if (g->node[g->node[r].arg[i]].op != OP_input)
                return false;
    return true;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

/* The pass's word on inputs, outputs and regions, held against what it did. */
static void check_kept(const PassInfo *info, const Graph *in, const Graph *out)
{
    gtc_assert(in->ninput == out->ninput && in->nout == out->nout,
               "%s: %u inputs and %u outputs became %u and %u", info->name, in->ninput, in->nout,
               out->ninput, out->nout);
    for (uint32_t i = 0; i < in->ninput && (info->keeps & PROP_NAMES); i++) {
        const Node *a = &in->node[in->input[i]], *b = &out->node[out->input[i]];
        gtc_assert(same_text(a->name, b->name) && type_eq(&a->type, &b->type),
                   "%s: input %u was '%s' and is '%s'", info->name, i, a->name, b->name);
    }
    for (uint32_t i = 0; i < in->nout && (info->keeps & PROP_NAMES); i++)
        gtc_assert(same_text(in->out[i].name, out->out[i].name) &&
                       !in->out[i].replaces == !out->out[i].replaces,
                   "%s: output %u changed its name or what it replaces", info->name, i);
    gtc_assert(!(info->keeps & PROP_REGIONS) || out->nregion <= in->nregion,
               "%s: %u regions became %u", info->name, in->nregion, out->nregion);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static Status run_one(Ctx *cx, Arena *arena, const Target *target, const PassOptions *opt,
                      const PassInfo *info, const Graph **g)
{
    const Graph *in = *g;
    if ((info->requires_ & PROP_EXPANDED) && !pass_is_expanded(in))
        return FAIL(cx, USAGE, "%s: the graph holds a grad node; run differentiate first",
                    info->name);
    Graph *out = graph_new(arena);
    PassCx pcx = { .cx = cx, .scratch = arena_new(), .target = target };
    const double start = now_ms();
    const Status status = info->run(&pcx, in, out);
    const double ms = now_ms() - start;
    arena_free(pcx.scratch);
    TRY(status);

    check_kept(info, in, out);
    if (opt->verify)
        TRY(graph_verify(cx, out));
    if (opt->report)
        opt->report(opt->report_arg, &(PassReport){ .name = info->name,
                                                    .nchanged = pcx.nchanged,
                                                    .nodes_before = in->nnode - 1,
                                                    .nodes_after = out->nnode - 1,
                                                    .ms = ms,
                                                    .after = out });
    *g = out;
    return ST_OK;
}

Status pass_run(Ctx *cx, Arena *arena, const Target *target, const PassOptions *opt,
                const Graph *in, const Graph **out)
{
    TRY(list_check(cx, opt->passes));
    TRY(list_check(cx, opt->skip));
    if (opt->verify)
        TRY(graph_verify(cx, in));

    Graph *own = graph_new(arena);
    TRY(graph_copy(cx, in, own));
    *out = own;
    const char *list = opt->passes ? opt->passes : pipeline, *name;
    int n;
    if (!opt->passes && !grads_by_inputs(in))
        list = strstr(pipeline, "differentiate");
    while (list_next(&list, &name, &n)) {
        const PassInfo *info = pass_find(name, n);
        gtc_assert(info, "the pipeline names '%.*s', which is no pass", n, name);
        if (list_has(opt->skip, info) || (!opt->passes && info->level > opt->level))
            continue;
        TRY(run_one(cx, arena, target, opt, info, out));
    }
    return ST_OK;
}
