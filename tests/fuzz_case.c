/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"
#include "ir/base/rng.h"
#include "ir/text.h"
#include "passes/pass.h"
#include "tests/book_check.h"
#include "tests/book_nn.h"
#include "tests/program_check.h"
#include "tests/side_check.h"
#include "tests/slope_check.h"

/* ------------------------------------------------------------ ways */

/* Without these a graph does not become kernels at all. */
static bool is_needed(const char *pass)
{
    return strcmp(pass, "isolate") == 0 || strcmp(pass, "differentiate") == 0;
}

static FuzzWay *add_way(FuzzCase *c, GtcMode mode, int threads, const char *skip)
{
    FuzzWay *way = &c->way[c->nway++];
    *way = (FuzzWay){ .mode = mode, .threads = threads };
    snprintf(way->skip, sizeof way->skip, "%s", skip);
    return way;
}

void fuzz_case_ways(FuzzCase *c, uint64_t seed, bool each_pass)
{
    Rng rng;
    int may[64], n = 0;
    rng_init(&rng, seed, 9);
    for (int i = 0; i < pass_count && n < FUZZ_WAYS - 3; i++)
        if (pass_info[i].level != LEVEL_NEVER && !is_needed(pass_info[i].name))
            may[n++] = i;
    const int one = may[rng_below(&rng, (uint64_t)n)];
    c->nway = 0;
    add_way(c, GTC_DEFAULT, 1, "");
    add_way(c, GTC_EAGER, 1 + (int)rng_below(&rng, 2), "");
    add_way(c, GTC_DEFAULT, rng_below(&rng, 6) == 0 ? 3 : 2, "");
    for (int i = 0; i < n; i++)
        if (each_pass || may[i] == one)
            add_way(c, GTC_DEFAULT, 1 + (int)rng_below(&rng, 2), pass_info[may[i]].name);
}

const char *fuzz_way_str(const FuzzWay *way)
{
    static char text[4][256];
    static int turn;
    char *s = text[turn++ % 4];
    snprintf(s, sizeof *text, "%s, %d thread%s%s%s", way->mode == GTC_EAGER ? "eager" : "default",
             way->threads, way->threads == 1 ? "" : "s", way->skip[0] ? ", without " : "",
             way->skip);
    return s;
}

/* ------------------------------------------------------------ values */

static double plain_value(Rng *rng)
{
    return 3 * rng_unit(rng) - 1.5;
}

/* Everything but arithmetic that could differ between machines: no libm. */
static double styled_value(Rng *rng, int style)
{
    static const double edge[] = { 0.0, -0.0, 1, -1, 0x1p-126, -0x1p-130, 0x1p-149, 0.5 };
    const double u = plain_value(rng);
    if (style < 50)
        return u;
    if (style < 65) /* near normal */
        return u + plain_value(rng) + plain_value(rng) - plain_value(rng);
    if (style < 78) /* ties */
        return ((double)rng_below(rng, 9) - 4) / 4;
    if (style < 84) /* many zeros */
        return rng_below(rng, 3) ? (rng_below(rng, 2) ? 0.0 : -0.0) : u;
    if (style < 89)
        return ldexp(u, -8 - (int)rng_below(rng, 16));
    if (style < 93)
        return ldexp(u, (int)rng_below(rng, 12));
    if (style < 96) /* one large element among small ones */
        return rng_below(rng, 40) ? u : 1000 * u;
    return edge[rng_below(rng, sizeof edge / sizeof *edge)];
}

/* The evaluator's integers are exact up to 2^53. */
static bool has_long_products(const Graph *g)
{
    bool has = false;
    for (Ref r = 1; r < g->nnode && !has; r++) {
        const Node *n = &g->node[r];
        has = n->type.dt == DT_I64 && (n->op == OP_mul || n->op == OP_matmul);
        if (n->op == OP_scan)
            has |= has_long_products(n->attr.scan.body);
    }
    return has;
}

static double whole_value(const FuzzCase *c, Rng *rng, DType dt, int style)
{
    if (dt == DT_BOOL)
        return (double)rng_below(rng, 2);
    if (dt == DT_I64 && style >= 80 && !has_long_products(c->g))
        return (double)rng_below(rng, 1ull << 34) - (double)(1ull << 33);
    if (dt == DT_U8 || style < 60)
        return (double)rng_below(rng, 6);
    return (double)rng_below(rng, 30) - 12;
}

static bool named_value(const char *name, Rng *rng, Tensor *t)
{
    if (strcmp(name, "rows") == 0)
        t->at[0] = 1 + (double)rng_below(rng, 40);
    else if (strcmp(name, "lr") == 0)
        t->at[0] = round_to(DT_F32, 0.05);
    else if (strcmp(name, "step") == 0)
        t->at[0] = (double)rng_below(rng, 3);
    else
        return false;
    return true;
}

bool fuzz_case_value(void *arg, const char *name, InputKind kind, Tensor *t)
{
    const FuzzCase *c = arg;
    uint64_t h = 14695981039346656037u;
    Rng rng;
    (void)kind;
    for (const char *p = name; *p; p++)
        h = (h ^ (unsigned char)*p) * 1099511628211u;
    rng_init(&rng, c->values, h);
    const int style = c->plain ? 0 : (int)rng_below(&rng, 100);
    if (named_value(name, &rng, t))
        return true;
    const bool is_opt = strncmp(name, "opt.", 4) == 0; /* sums of squares are none below 0 */
    for (int64_t i = 0; i < shape_count(&t->type.shape); i++) {
        if (!dtype_is_float(t->type.dt))
            t->at[i] = whole_value(c, &rng, t->type.dt, style);
        else if (is_opt)
            t->at[i] = round_to(t->type.dt, fabs(plain_value(&rng)));
        else
            t->at[i] = round_to(t->type.dt, styled_value(&rng, style));
    }
    return true;
}

/* ------------------------------------------------------------ coverage */

void fuzz_cover(FuzzVerdict *v, const char *what, int64_t n)
{
    int i = 0;
    while (i < v->ncover && strcmp(v->cover[i].what, what) != 0)
        i++;
    if (i == FUZZ_COVER)
        return;
    if (i == v->ncover)
        snprintf(v->cover[v->ncover++].what, sizeof v->cover[0].what, "%s", what);
    v->cover[i].n += n;
}

static void pass_done(void *arg, const char *pass, uint32_t changed, uint32_t nodes, double ms)
{
    char what[64];
    (void)nodes, (void)ms;
    snprintf(what, sizeof what, "pass %.30s", pass);
    if (changed)
        fuzz_cover(arg, what, 1);
}

/* The words of a plan that name a shape of it. */
static void cover_plan(FuzzVerdict *v, const char *plan)
{
    static const char *const word[] = { "row ",   "contract ",   "map ",        "barrier, ",
                                        "team ",  "each thread", "blocks of",   "private",
                                        "shared", "each step ",  "team of one", "copy" };
    for (size_t i = 0; i < sizeof word / sizeof *word; i++) {
        char what[64];
        snprintf(what, sizeof what, "plan: %s", word[i]);
        if (strstr(plan, word[i]))
            fuzz_cover(v, what, 1);
    }
}

static void look(void *arg, const GtcProgram *p)
{
    FuzzVerdict *v = arg;
    for (int i = 0; i < gtc_program_info(p).kernels; i++) {
        const GtcKernelInfo k = gtc_program_kernel(p, i);
        v->kernels++;
        cover_plan(v, k.plan);
        char what[64];
        if (k.flops > 24000)
            fuzz_cover(v, "kernels large enough for the team", 1);
        snprintf(what, sizeof what, "kernel: %.*s", (int)strcspn(k.label, "_"), k.label);
        fuzz_cover(v, what, 1);
    }
}

/* ------------------------------------------------------------ a case */

typedef struct Ear { /* the last warning */
    char heard[700];
} Ear;

static void hear(void *arg, LogLevel level, const char *text)
{
    Ear *ear = arg;
    if (level == LOG_WARN)
        snprintf(ear->heard, sizeof ear->heard, "%s", text);
}

static void fail_way(FuzzVerdict *v, const FuzzWay *way, FuzzOutcome how, const char *text,
                     const char *more)
{
    if (how <= v->outcome)
        return;
    v->outcome = how;
    v->way = *way;
    snprintf(v->text, sizeof v->text, "%s%s", text, more);
}

/* Threads are the device's own on simt: there a way with more than one goes on in a seeded order and
 * one with a single thread forward, unless the environment says how all go. */
static void set_schedule(const FuzzCase *c, const FuzzWay *way)
{
    char seed[32];
    snprintf(seed, sizeof seed, "%u", (unsigned)(c->values * 8 + (unsigned)way->threads));
    setenv("GTC_SIMT_SCHEDULE", way->threads > 1 ? "seeded" : "forward", 1);
    setenv("GTC_SIMT_SEED", seed, 1);
}

/* False when nothing more can be learnt. */
static bool run_way(Ctx *cx, const FuzzCase *c, const FuzzWay *way, const Reference *ref,
                    FuzzVerdict *v)
{
    Ear ear = { "" };
    cx->log = hear;
    cx->log_arg = &ear;
    const ProgramCheck pc = { .mode = way->mode,
                              .threads = way->threads,
                              .skip_passes = way->skip[0] ? way->skip : NULL,
                              .device = c->device,
                              .pass_done = pass_done,
                              .look = look,
                              .arg = v,
                              .may_refuse = true,
                              .limits = c->limits };
    const ProgramVerdict pv = program_check(cx, ref, &pc);
    fuzz_cover(v, way->mode == GTC_EAGER ? "kernels, eager" : "kernels, default", pv.kernels);
    v->compared += pv.compared;
    v->undecided += pv.undecided;
    v->loose += pv.loose;
    v->worst = fmax(v->worst, pv.worst);
    v->worst_rmse = fmax(v->worst_rmse, pv.worst_rmse);
    if (pv.wrong)
        fail_way(v, way, FUZZ_MISMATCH, pv.text, "");
    else if (pv.plain)
        fail_way(v, way, FUZZ_MISMATCH, "left to the last resort: ", ear.heard);
    else if (pv.refused)
        fail_way(v, way, FUZZ_REFUSED, ear.heard, "");
    return v->outcome != FUZZ_MISMATCH;
}

/* The reference is expanded by autodiff like the program, and the optimizer's nodes are those of
 * models/ and ir/build_nn: whether these are right shows only in slopes and by the book. */
static bool check_reference(Ctx *cx, const FuzzCase *c, const Tensor *start, FuzzVerdict *v)
{
    const SlopeVerdict slope = slope_check(cx, c->g, start, c->values);
    fuzz_cover(v, "slopes compared", slope.compared);
    fuzz_cover(v, "slopes undecided", slope.undecided);
    if (slope.wrong)
        fail_way(v, &(FuzzWay){ 0 }, FUZZ_MISMATCH, slope.text, "");
    const BookVerdict nn = book_nn(cx, c->values);
    if (nn.wrong)
        fail_way(v, &(FuzzWay){ 0 }, FUZZ_MISMATCH, nn.text, "");
    if (!c->model || nn.wrong || slope.wrong)
        return !nn.wrong && !slope.wrong;
    const BookVerdict book = book_check(cx, c->g, c->model, start, FUZZ_STEPS);
    fuzz_cover(v, "optimizers by the book", book.compared > 0);
    if (book.wrong)
        fail_way(v, &(FuzzWay){ 0 }, FUZZ_MISMATCH, book.text, "");
    return !book.wrong;
}

void fuzz_case_run(const FuzzCase *c, FuzzVerdict *v)
{
    Ctx cx;
    memset(v, 0, sizeof *v);
    ctx_init(&cx);
    const ReferenceOptions ro = { .steps = FUZZ_STEPS,
                                  .seed = c->values,
                                  .init = fuzz_case_value,
                                  .init_arg = (void *)(uintptr_t)c };
    side_check(&cx, c->values);
    Reference *ref = reference_new(&cx, c->g, &ro);
    bool go_on = check_reference(&cx, c, reference_start(ref), v);
    const bool free_order = !getenv("GTC_SIMT_SCHEDULE") && !getenv("GTC_SIMT_SEED");
    for (int i = 0; i < c->nway && go_on; i++) {
        if (free_order)
            set_schedule(c, &c->way[i]);
        go_on = run_way(&cx, c, &c->way[i], ref, v);
    }
    reference_free(ref);
}

/* ------------------------------------------------------------ files */

Status fuzz_case_save(Ctx *cx, const FuzzCase *c, const char *path, const char *title)
{
    Strbuf text = { 0 };
    strbuf_printf(&text, "# %s\n# values: %llu%s\n", title, (unsigned long long)c->values,
                  c->plain ? " plain" : "");
    for (int i = 0; i < c->nway; i++)
        strbuf_printf(&text, "# way: %s %d %s\n", c->way[i].mode == GTC_EAGER ? "eager" : "default",
                      c->way[i].threads, c->way[i].skip);
    graph_print(c->g, &text);
    const Status st = os_write_file(cx, path, strbuf_str(&text), text.n);
    strbuf_free(&text);
    return st;
}

static Status load_ways(Ctx *cx, const char *path, const char *text, FuzzCase *c)
{
    for (const char *line = text; *line == '#';
         line += strcspn(line, "\n"), line += *line == '\n') {
        char mode[16] = "", skip[160] = "";
        int threads = 0;
        unsigned long long values;
        if (sscanf(line, "# values: %llu", &values) == 1) {
            c->values = values;
            c->plain = strncmp(line + strcspn(line, "\n") - 6, " plain", 6) == 0;
        } else if (strncmp(line, "# way: ", 7) == 0) {
            sscanf(line, "# way: %15s %d%*[ ]%159[^\n]", mode, &threads, skip);
            if (threads < 1 || c->nway == FUZZ_WAYS)
                return FAIL(cx, PARSE, "%s: a way wants a mode and threads", path);
            add_way(c, strcmp(mode, "eager") == 0 ? GTC_EAGER : GTC_DEFAULT, threads, skip);
        }
    }
    return ST_OK;
}

Status fuzz_case_load(Ctx *cx, Arena *arena, const char *path, FuzzCase *c)
{
    char *text = NULL;
    size_t n = 0;
    Graph *g = NULL;
    *c = (FuzzCase){ 0 };
    TRY(os_read_file(cx, path, &text, &n));
    Status st = load_ways(cx, path, text, c);
    if (st == ST_OK)
        st = graph_parse(cx, arena, path, text, &g);
    c->g = g;
    free(text);
    return st;
}
