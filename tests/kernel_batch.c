/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/kernel_batch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "codegen/kernel.h"
#include "ir/text.h"
#include "tests/cc.h"
#include "tests/kernel_run.h"

enum { HEARD = 240 };

typedef struct Run {
    const KernelCase *c;
    Kernel k;
    Tensor *want;
} Run;

static void wrong(const Run *r, KernelTally *t, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void wrong(const Run *r, KernelTally *t, const char *fmt, ...)
{
    if (t->wrong++)
        return;
    char text[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    snprintf(t->first, sizeof t->first, "%s, %d threads: %s", r->c->name, r->c->threads, text);
    if (getenv("GTC_VERBOSE") && r->k.source)
        fputs(r->k.source, stderr);
}

/* ---- from a body to a kernel */

static const Graph *wrap(Ctx *cx, Arena *arena, const Graph *body, Ref *fusion)
{
    Graph *g = graph_new(arena);
    Ref *arg = arena_array(arena, Ref, body->ninput + 1);
    Status st = ST_OK;
    for (uint32_t i = 0; i < body->ninput && st == ST_OK; i++)
        st = graph_add(cx, g, &body->node[body->input[i]], &arg[i]);
    const Node n = { .op = OP_fusion,
                     .nargs = body->ninput,
                     .arg = arg,
                     .attr.fusion = { .body = (Graph *)body, .kind = "op" } };
    if (st == ST_OK)
        st = graph_add(cx, g, &n, fusion);
    gtc_assert(st == ST_OK, "a body that is none: %s", cx->msg);
    return g;
}

static void hear(void *arg, LogLevel level, const char *text)
{
    if (level == LOG_WARN)
        snprintf(arg, HEARD, "%s", text);
}

static void prepare(Ctx *cx, Arena *arena, const KernelCase *c, int lanes, Run *r, KernelTally *t)
{
    const Target target = { .lanes = lanes,
                            .vector_regs = lanes == 16 ? 32 : 16,
                            .threads = c->threads,
                            .l1_bytes = 32768,
                            .l2_bytes = 1 << 20 };
    Ref fusion = REF_NONE;
    char heard[HEARD] = "";
    cx->log = hear;
    cx->log_arg = heard;
    *r = (Run){ .c = c, .want = arena_array(arena, Tensor, c->body->nout) };
    const Graph *g = wrap(cx, arena, c->body, &fusion);
    t->kernels++;
    if (eval_graph(cx, c->body, EVAL_ROUND, arena, c->in, r->want) != ST_OK ||
        kernel_build_c(cx, arena, &target, g, fusion, &r->k) != ST_OK)
        wrong(r, t, "%s", cx->msg);
    else if (r->k.source[0] == '\0')
        wrong(r, t, "no planner takes it: %s", heard);
    else
        t->plain += strcmp(r->k.planner, "plain") == 0;
    cx->log = NULL;
}

static bool is_ready(const Run *r)
{
    return r->k.source && r->k.source[0];
}

/* ---- running */

/* One unit in the last place of x. */
static double last_place(DType dt, double x)
{
    const int bits = dt == DT_F16 ? 11 : dt == DT_BF16 ? 8 : 24;
    const int least = dt == DT_F16 ? -24 : dt == DT_BF16 ? -133 : -149;
    int e;
    frexp(x, &e);
    return ldexp(1, e - bits > least ? e - bits : least);
}

static bool agrees(DType dt, double want, double got, double ulps)
{
    if (want == got || (isnan(want) && isnan(got)))
        return true;
    if (dt == DT_I64 && fabs(want) > 0x1p53) /* as far as a double can tell */
        return fabs(want - got) <= 0x1p-52 * fabs(want);
    return dtype_is_float(dt) && isfinite(want) && isfinite(got) &&
           fabs(want - got) <= ulps * last_place(dt, want);
}

static void compare(const Run *r, uint32_t o, const void *mem, Arena *arena, KernelTally *t)
{
    const Tensor *want = &r->want[o];
    const int64_t n = shape_count(&want->type.shape);
    Tensor got = tensor_new(arena, want->type);
    tensor_read(&got, mem);
    t->elements += n;
    for (int64_t i = 0; i < n; i++)
        if (!agrees(want->type.dt, want->at[i], got.at[i], r->c->ulps[o])) {
            const Node *op = &r->c->body->node[r->c->body->out[o].value];
            wrong(r, t, "output %u, %s %s: [%lld] wants %.9g (%a), got %.9g (%a)", o,
                  op_info[op->op].name, type_str(&want->type), (long long)i, want->at[i],
                  want->at[i], got.at[i], got.at[i]);
            break;
        }
}

static void run(const Run *r, KernelFn *fn, KernelTally *t)
{
    const Graph *g = r->c->body;
    const uint32_t nin = g->ninput, nout = g->nout;
    const int nt = r->k.serial ? 1 : r->c->threads;
    const int64_t work[2] = { r->k.shared_bytes, r->k.private_bytes * nt };
    Arena *arena = arena_new();
    void **arg = arena_array(arena, void *, nin + nout + 2);

    for (uint32_t i = 0; i < nin; i++) {
        arg[i] = kernel_memory(type_bytes(&r->c->in[i].type));
        tensor_write(&r->c->in[i], arg[i]);
    }
    for (uint32_t o = 0; o < nout; o++)
        arg[nin + o] = kernel_memory(type_bytes(&r->want[o].type));
    for (uint32_t i = 0; i < 2; i++)
        arg[nin + nout + i] = kernel_memory(work[i]);
    kernel_run(fn, arg, nt);
    for (uint32_t o = 0; o < nout; o++) {
        compare(r, o, arg[nin + o], arena, t);
        if (!kernel_memory_is_whole(arg[nin + o], type_bytes(&r->want[o].type)))
            wrong(r, t, "output %u: written past its end", o);
    }
    for (uint32_t i = 0; i < 2; i++)
        if (!kernel_memory_is_whole(arg[nin + nout + i], work[i]))
            wrong(r, t, "workspace %u: written past its end", i);
    for (uint32_t i = 0; i < nin + nout + 2; i++)
        free(arg[i]);
    arena_free(arena);
}

void kernel_batch_run(const KernelCase *c, int n, int lanes, KernelTally *t)
{
    Ctx cx;
    Arena *arena = arena_new();
    Run *r = arena_array(arena, Run, n);
    Strbuf src = { 0 };
    ctx_init(&cx);
    strbuf_add(&src, kernel_prelude_c(lanes));
    for (int i = 0; i < n; i++) {
        prepare(&cx, arena, &c[i], lanes, &r[i], t);
        bool first = is_ready(&r[i]);
        for (int j = 0; j < i && first; j++) /* equal kernels are one */
            first = !is_ready(&r[j]) || strcmp(r[j].k.name, r[i].k.name) != 0;
        if (first)
            strbuf_add(&src, r[i].k.source);
    }
    void *lib = cc_load_at(0, CC_QUICK, lanes, false, strbuf_str(&src));
    for (int i = 0; i < n; i++) {
        if (!is_ready(&r[i]))
            continue;
        KernelFn *fn = NULL;
        void *symbol = lib ? dlsym(lib, r[i].k.name) : NULL;
        memcpy(&fn, &symbol, sizeof fn);
        if (fn)
            run(&r[i], fn, t);
        else
            wrong(&r[i], t, "does not compile");
    }
    if (lib)
        dlclose(lib);
    strbuf_free(&src);
    arena_free(arena);
}
