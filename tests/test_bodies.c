/* SPDX-License-Identifier: Apache-2.0 */
/* Random fusion bodies through the planners, the emitter and the C compiler, against the evaluator:
 * one to three threads, every vector width, and the last-resort planner too.  Every buffer starts
 * as 0xff bytes and has a red zone behind it.  Kernels share out a C file, as compilers are slow.
 *
 * GTC_FUZZ_COUNT bodies, from seed GTC_FUZZ_SEED on.  GTC_VERBOSE tells each seed before it runs,
 * and why the last-resort planner had to take a body.  GTC_PLAN_ONLY compiles and runs nothing. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "codegen/kernel.h"
#include "ir/base/rng.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "tests/cc.h"
#include "tests/kernel_run.h"
#include "tests/random_graph.h"

enum { BATCH = 30, RUNS = 7, THREADS_MAX = 3 };

typedef struct Body {
    uint64_t seed;
    const Graph *g; /* the fusion's body */
    const Graph *outer;
    Ref fusion;
    Tensor *in, *exact, *rounded;
} Body;

typedef struct Case {
    const Body *body;
    int lanes, threads;
    bool plain;
    Kernel k;
} Case;

typedef struct Count {
    int bodies, kernels, wrong, resorts;
    int64_t compared, skipped;
    const Body *at; /* the body at hand */
    bool verbose, plan_only;
    char heard[512]; /* the last warning */
} Count;

/* ------------------------------------------------------------ bodies */

static const Graph *wrap(Ctx *cx, Arena *arena, const Graph *body, Ref *fusion)
{
    Graph *g = graph_new(arena);
    Ref *arg = arena_array(arena, Ref, body->ninput + 1);
    for (uint32_t i = 0; i < body->ninput; i++) {
        Node in = body->node[body->input[i]];
        in.region = 0;
        assert_int_equal(graph_add(cx, g, &in, &arg[i]), ST_OK);
    }
    const Node n = { .op = OP_fusion,
                     .nargs = body->ninput,
                     .arg = arg,
                     .attr.fusion = { .body = (Graph *)body, .kind = "body" } };
    if (graph_add(cx, g, &n, fusion) != ST_OK)
        fail_msg("%s", cx->msg);
    return g;
}

static void fill(Tensor *t, Rng *rng)
{
    const int64_t n = shape_count(&t->type.shape);
    for (int64_t i = 0; i < n; i++)
        t->at[i] = dtype_is_float(t->type.dt)
                       ? round_to(t->type.dt, 0.5 * rng_normal(rng))
                       : (double)rng_below(rng, t->type.dt == DT_BOOL ? 2 : 4);
}

static void make_body(Ctx *cx, Arena *arena, uint64_t seed, Body *b)
{
    const RandomOptions opt = {
        .nodes = 3 + (int)(seed % 7) * 3,
        .max_count = seed % 4 == 3 ? 4096 : 600,
        .zeros = seed % 5 == 4,
        .dtypes = seed % 6 == 5,
        .bodies = true,
        .fused = true,
        .random = true,
        .tame = true,
    };
    const Graph *g = random_graph(cx, arena, seed, &opt);
    Rng rng;
    *b = (Body){ .seed = seed, .g = g };
    b->outer = wrap(cx, arena, g, &b->fusion);
    b->in = arena_array(arena, Tensor, g->ninput + 1);
    b->exact = arena_array(arena, Tensor, g->nout);
    b->rounded = arena_array(arena, Tensor, g->nout);
    rng_init(&rng, seed, 1);
    for (uint32_t i = 0; i < g->ninput; i++) {
        b->in[i] = tensor_new(arena, g->node[g->input[i]].type);
        fill(&b->in[i], &rng);
    }
    if (eval_graph(cx, g, EVAL_F64, arena, b->in, b->exact) != ST_OK ||
        eval_graph(cx, g, EVAL_ROUND, arena, b->in, b->rounded) != ST_OK)
        fail_msg("seed %llu: eval: %s", (unsigned long long)seed, cx->msg);
}

static void show(const Body *b)
{
    Strbuf text = { 0 };
    graph_print(b->g, &text);
    fputs(strbuf_str(&text), stderr);
    strbuf_free(&text);
}

/* ------------------------------------------------------------ runs */

static bool agrees(DType dt, double ref, double got, double largest)
{
    if (ref == got || (isnan(ref) && isnan(got)))
        return true;
    const double ulp = dt == DT_F16 ? 0x1p-10 : dt == DT_BF16 ? 0x1p-7 : 0;
    return dtype_is_float(dt) && fabs(ref - got) <= 1e-5 * largest + (1e-4 + ulp) * fabs(ref);
}

/* Elements of output o that are wrong, with the first in *first. */
static int64_t compare(const Body *b, uint32_t o, const Tensor *got, Count *count, int64_t *first)
{
    const Tensor *exact = &b->exact[o];
    const int64_t n = shape_count(&exact->type.shape);
    const DType dt = exact->type.dt;
    double largest = 0;
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(exact->at[i]))
            largest = fmax(largest, fabs(exact->at[i]));
    for (int64_t i = 0; i < n; i++) {
        count->compared++;
        if (agrees(dt, exact->at[i], got->at[i], largest))
            continue;
        if (!agrees(dt, exact->at[i], b->rounded[o].at[i], largest)) {
            count->skipped++;
            continue;
        }
        if (!wrong++)
            *first = i;
    }
    if (!dtype_is_float(dt) &&
        wrong * 64 <= n) { /* x <= tanh(x) where x is small: one ulp decides */
        count->skipped += wrong;
        return 0;
    }
    return wrong;
}

static void complain(const Case *c, Count *count, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void complain(const Case *c, Count *count, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    show(c->body);
    print_error("WRONG seed %llu, %d lanes, %d threads, %s: %s\n",
                (unsigned long long)c->body->seed, c->lanes, c->threads,
                c->plain ? "plain" : c->k.planner, text);
    if (getenv("GTC_VERBOSE"))
        fputs(c->k.source ? c->k.source : "", stderr);
    count->wrong++;
}

/* inplace: outputs take the place of inputs where the kernel says that they may. */
static void run_case(const Case *c, KernelFn *fn, bool inplace, Count *count)
{
    const Body *b = c->body;
    const uint32_t nin = b->g->ninput, nout = b->g->nout;
    const int nt = c->k.serial ? 1 : c->threads;
    const int64_t work[2] = { c->k.shared_bytes, c->k.private_bytes * nt };
    void **arg = calloc(nin + nout + 2, sizeof *arg);
    Arena *arena = arena_new();

    assert_non_null(arg);
    for (uint32_t i = 0; i < nin; i++) {
        arg[i] = kernel_memory(type_bytes(&b->in[i].type));
        tensor_write(&b->in[i], arg[i]);
    }
    for (uint32_t o = 0; o < nout; o++)
        arg[nin + o] = inplace && c->k.inplace[o] >= 0
                           ? arg[c->k.inplace[o]]
                           : kernel_memory(type_bytes(&b->exact[o].type));
    for (int i = 0; i < 2; i++)
        arg[nin + nout + (uint32_t)i] = kernel_memory(work[i]);
    kernel_run(fn, arg, nt);
    for (uint32_t o = 0; o < nout; o++) {
        Tensor got = tensor_new(arena, b->exact[o].type);
        int64_t first = 0;
        tensor_read(&got, arg[nin + o]);
        const int64_t wrong = compare(b, o, &got, count, &first);
        if (wrong)
            complain(c, count,
                     "output %u %s%s: %lld wrong, first [%lld]: want %.9g (rounded %.9g), "
                     "got %.9g",
                     o, type_str(&got.type), inplace ? " in place" : "", (long long)wrong,
                     (long long)first, b->exact[o].at[first], b->rounded[o].at[first],
                     got.at[first]);
        if (!kernel_memory_is_whole(arg[nin + o], type_bytes(&got.type)))
            complain(c, count, "output %u written past its end", o);
    }
    for (int i = 0; i < 2; i++)
        if (!kernel_memory_is_whole(arg[nin + nout + (uint32_t)i], work[i]))
            complain(c, count, "workspace %d written past its end", i);
    for (uint32_t i = 0; i < nin + nout + 2; i++)
        if (i < nin || i >= nin + nout || !inplace || c->k.inplace[i - nin] < 0)
            free(arg[i]);
    free(arg);
    arena_free(arena);
}

/* ------------------------------------------------------------ batches */

static void hear(void *arg, LogLevel level, const char *text)
{
    Count *count = arg;
    if (level == LOG_WARN)
        snprintf(count->heard, sizeof count->heard, "%s", text);
    if (level != LOG_WARN || !strstr(text, "last-resort"))
        return;
    count->resorts++;
    if (count->verbose) {
        show(count->at);
        fprintf(stderr, "RESORT seed %llu: %s\n", (unsigned long long)count->at->seed, text);
    }
}

/* Which lanes and threads body b runs with as its run number i. */
static Case choose(const Body *b, int i)
{
    const int all = cc_lanes(), half = all > 4 ? all / 2 : 4;
    const int odd = 1 + (int)(b->seed % 3);
    const Case way[RUNS] = {
        { .lanes = all, .threads = 1 },
        { .lanes = all, .threads = 2 },
        { .lanes = all, .threads = 3 },
        { .lanes = half, .threads = odd },
        { .lanes = 4, .threads = odd },
        { .lanes = all, .threads = 2, .plain = true },
        { .lanes = 4, .threads = 1, .plain = true },
    };
    Case c = way[i];
    c.body = b;
    return c;
}

static void plan_case(Ctx *cx, Arena *arena, Case *c, Count *count)
{
    const Target target = { .lanes = c->lanes,
                            .vector_regs = c->lanes == 16 ? 32 : 16,
                            .threads = c->threads,
                            .l1_bytes = 32768,
                            .l2_bytes = 1 << 20 };
    count->at = c->body;
    const Status st = (c->plain ? kernel_build_plain_c : kernel_build_c)(
        cx, arena, &target, c->body->outer, c->body->fusion, &c->k);
    if (st != ST_OK || strcmp(c->k.planner, "none") == 0) {
        complain(c, count, "%s", st != ST_OK ? cx->msg : count->heard);
        c->k.source = NULL;
    }
    count->kernels++;
}

static void run_cases(const Case *c, void *lib, Count *count)
{
    KernelFn *fn;
    CC_SYMBOL(lib, c->k.name, fn);
    if (count->verbose)
        print_message("seed %llu, %d lanes, %d threads%s\n", (unsigned long long)c->body->seed,
                      c->lanes, c->threads, c->plain ? ", plain" : "");
    run_case(c, fn, false, count);
    for (uint32_t o = 0; o < c->k.nout; o++)
        if (c->k.inplace[o] >= 0) {
            run_case(c, fn, true, count);
            break;
        }
}

/* All cases of one vector width: one C file, or each its own when that one does not compile. */
static void check_lanes(const Case *c, int n, int lanes, Count *count)
{
    Strbuf src = { 0 };
    strbuf_add(&src, kernel_prelude_c(lanes));
    for (int i = 0; i < n; i++) {
        bool first = c[i].lanes == lanes && c[i].k.source;
        for (int j = 0; j < i && first; j++) /* equal kernels are one */
            first = c[j].lanes != lanes || !c[j].k.source || strcmp(c[j].k.name, c[i].k.name) != 0;
        if (first)
            strbuf_add(&src, c[i].k.source);
    }
    void *lib = cc_load_at(0, CC_QUICK, lanes, false, strbuf_str(&src));
    for (int i = 0; i < n; i++) {
        if (c[i].lanes != lanes || !c[i].k.source)
            continue;
        void *mine = lib;
        if (!lib) {
            strbuf_clear(&src);
            strbuf_add(&src, kernel_prelude_c(lanes));
            strbuf_add(&src, c[i].k.source);
            mine = cc_load_at(0, CC_QUICK, lanes, false, strbuf_str(&src));
        }
        if (mine)
            run_cases(&c[i], mine, count);
        else
            complain(&c[i], count, "does not compile");
        if (mine && mine != lib)
            dlclose(mine);
    }
    if (lib)
        dlclose(lib);
    strbuf_free(&src);
}

static void check_batch(uint64_t first, int n, Count *count)
{
    Ctx cx;
    Arena *arena = arena_new();
    Body *body = arena_array(arena, Body, BATCH);
    Case *c = arena_array(arena, Case, BATCH * RUNS);
    ctx_init(&cx);
    cx.log = hear;
    cx.log_arg = count;
    for (int i = 0; i < n; i++) {
        make_body(&cx, arena, first + (uint64_t)i, &body[i]);
        for (int k = 0; k < RUNS; k++) {
            c[i * RUNS + k] = choose(&body[i], k);
            plan_case(&cx, arena, &c[i * RUNS + k], count);
        }
    }
    for (int lanes = cc_lanes(); lanes >= 4 && !count->plan_only; lanes /= 2)
        check_lanes(c, n * RUNS, lanes, count);
    count->bodies += n;
    arena_free(arena);
}

static long from_env(const char *name, long otherwise)
{
    const char *s = getenv(name);
    return s && *s ? strtol(s, NULL, 10) : otherwise;
}

static void random_bodies_agree(void **state)
{
    (void)state;
    const long n = from_env("GTC_FUZZ_COUNT", 120), first = from_env("GTC_FUZZ_SEED", 1);
    Count count = { .verbose = getenv("GTC_VERBOSE") != NULL,
                    .plan_only = getenv("GTC_PLAN_ONLY") != NULL };
    for (long i = 0; i < n; i += BATCH)
        check_batch((uint64_t)(first + i), n - i < BATCH ? (int)(n - i) : BATCH, &count);
    print_message("%d bodies, %d kernels, %d of the last resort; %lld elements compared, %lld "
                  "skipped\n",
                  count.bodies, count.kernels, count.resorts, (long long)count.compared,
                  (long long)count.skipped);
    assert_int_equal(count.wrong, 0);
    assert_true(count.skipped * 20 <= count.compared);
    assert_true(count.resorts * 100 <= count.kernels);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_bodies_agree) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
