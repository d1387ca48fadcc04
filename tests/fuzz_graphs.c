/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-graphs: random programs against the evaluator.
 *
 *     fuzz-graphs [--count N] [--seed S] [--device D] [--each-pass] [--jobs J] [--seconds T]
 *                 [--reduce] [--out DIR] [--stop-at-first] [--verbose] [--print]
 *                 [--without bound|rmse] [FILE.gir ..]
 *
 * Graph i of a run is that of seed S + i, so one seed is one case, on every machine.  Each runs in
 * a process of its own.  A file is a case that was saved.  The last line is
 * `N graphs, M mismatches, K refused`; exit 1 when M > 0. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/text.h"
#include "tests/fuzz_child.h"
#include "tests/fuzz_reduce.h"
#include "tests/graph_grow.h"

enum { MAX_JOBS = 64 };

typedef struct Options {
    uint64_t seed;
    long count;
    int jobs, seconds;
    bool each_pass, reduce, stop, verbose, print;
    OracleLimits limits; /* what the oracle does without */
    const char *device, *out;
    char **file;
    int nfile;
} Options;

typedef struct Item { /* what one child works on */
    const Options *o;
    uint64_t seed;
    const char *file; /* NULL: grown */
} Item;

typedef struct Totals {
    long done, mismatches, refused, stopped;
    FuzzVerdict sum;
    double start;
} Totals;

/* ------------------------------------------------------------ one case */

static void item_case(Ctx *cx, Arena *arena, const Item *it, FuzzCase *c)
{
    Model *model = NULL;
    const GrowOptions by_seed = { .model = &model };
    if (it->file) {
        const Status st = fuzz_case_load(cx, arena, it->file, c);
        gtc_assert(st == ST_OK, "%s: %s", it->file, cx->msg);
        if (c->nway == 0)
            fuzz_case_ways(c, it->seed, it->o->each_pass);
    } else {
        *c = (FuzzCase){ .g = graph_grow(cx, arena, it->seed, &by_seed), .values = it->seed };
        c->model = model;
        fuzz_case_ways(c, it->seed, it->o->each_pass);
    }
    c->device = it->o->device;
    c->limits = it->o->limits;
}

static void work(void *arg, FuzzVerdict *v)
{
    Ctx cx;
    FuzzCase c;
    Arena *arena = arena_new();
    ctx_init(&cx);
    item_case(&cx, arena, arg, &c);
    fuzz_case_run(&c, v);
    arena_free(arena);
}

static void print_case(const Item *it)
{
    Ctx cx;
    FuzzCase c;
    Arena *arena = arena_new();
    Strbuf text = { 0 };
    ctx_init(&cx);
    item_case(&cx, arena, it, &c);
    graph_print(c.g, &text);
    fputs(strbuf_str(&text), stdout);
    strbuf_free(&text);
    arena_free(arena);
}

static void item_name(const Item *it, char *out, size_t cap)
{
    if (it->file)
        snprintf(out, cap, "%s", it->file);
    else
        snprintf(out, cap, "seed %llu", (unsigned long long)it->seed);
}

static void reduce_item(const Item *it, const FuzzVerdict *v)
{
    Ctx cx;
    FuzzCase c;
    char path[512], title[128];
    Arena *arena = arena_new();
    ctx_init(&cx);
    item_case(&cx, arena, it, &c);
    fuzz_reduce(arena, &c, v, it->o->seconds);
    item_name(it, title, sizeof title);
    snprintf(path, sizeof path, "%s/%llu.gir", it->o->out, (unsigned long long)it->seed);
    if (fuzz_case_save(&cx, &c, path, title) == ST_OK)
        printf("  reduced to %u nodes in %s\n", c.g->nnode - 1, path);
    else
        printf("  %s: %s\n", path, cx.msg);
    arena_free(arena);
}

/* ------------------------------------------------------------ the run */

static void add_up(FuzzVerdict *sum, const FuzzVerdict *v)
{
    sum->compared += v->compared;
    sum->undecided += v->undecided;
    sum->loose += v->loose;
    sum->kernels += v->kernels;
    sum->worst = fmax(sum->worst, v->worst);
    sum->worst_rmse = fmax(sum->worst_rmse, v->worst_rmse);
    for (int i = 0; i < v->ncover; i++)
        fuzz_cover(sum, v->cover[i].what, v->cover[i].n);
}

static void judge(const Item *it, const FuzzVerdict *v, Totals *t)
{
    char name[300];
    item_name(it, name, sizeof name);
    add_up(&t->sum, v);
    t->done++;
    t->mismatches += v->outcome == FUZZ_MISMATCH;
    t->refused += v->outcome == FUZZ_REFUSED;
    if (it->o->verbose && t->done % 25 == 0) {
        printf("%ld graphs so far\n", t->done);
        fflush(stdout);
    }
    if (v->outcome == FUZZ_AGREES)
        return;
    printf("%s %s, graph %ld: %s: %s\n", v->outcome == FUZZ_REFUSED ? "REFUSED" : "MISMATCH", name,
           t->done, v->way.threads ? fuzz_way_str(&v->way) : "all ways", v->text);
    if (it->o->print)
        print_case(it);
    if (v->outcome == FUZZ_MISMATCH && it->o->reduce)
        reduce_item(it, v);
    if (v->outcome == FUZZ_MISMATCH && it->o->stop)
        t->stopped = 1;
    fflush(stdout);
}

static void run_all(const Options *o, Totals *t)
{
    FuzzChild child[MAX_JOBS] = { 0 };
    Item item[MAX_JOBS];
    FuzzVerdict *v = calloc(1, sizeof *v);
    const long count = o->nfile ? o->nfile : o->count;
    long next = 0;
    gtc_assert(v, "no memory");
    for (int i = 0, busy = 0; next < count || busy; i = (i + 1) % o->jobs) {
        FuzzChild *c = &child[i];
        if (c->pid && fuzz_child_wait(c, fuzz_now() + 0.02, v)) {
            busy--;
            judge(&item[i], v, t);
        }
        if (t->stopped)
            next = count;
        if (!c->pid && next < count) {
            item[i] = (Item){ o, o->seed + (uint64_t)next, o->nfile ? o->file[next] : NULL };
            fuzz_child_start(c, work, &item[i], o->seconds);
            busy++;
            next++;
        }
    }
    free(v);
}

static double percent(int64_t part, int64_t of)
{
    return of ? 100.0 * (double)part / (double)of : 0;
}

static void report(const Options *o, const Totals *t)
{
    const double seconds = fuzz_now() - t->start;
    for (int i = 0; i < t->sum.ncover && o->verbose; i++)
        printf("%-40s %8lld\n", t->sum.cover[i].what, (long long)t->sum.cover[i].n);
    printf("%lld elements compared, %.2f %% undecided, %.2f %% loose; worst error %.2f, worst RMSE "
           "%.2f of its bound\n",
           (long long)t->sum.compared, percent(t->sum.undecided, t->sum.compared),
           percent(t->sum.loose, t->sum.compared), t->sum.worst, t->sum.worst_rmse);
    printf("%d kernels; %.0f s, %.0f graphs a minute\n", t->sum.kernels, seconds,
           60 * (double)t->done / seconds);
    printf("%ld graphs, %ld mismatches, %ld refused\n", t->done, t->mismatches, t->refused);
}

/* ------------------------------------------------------------ options */

static _Noreturn void usage(const char *what)
{
    fprintf(
        stderr,
        "fuzz-graphs: %s\n"
        "usage: fuzz-graphs [--count N] [--seed S] [--device D] [--each-pass] [--jobs J]\n"
        "                   [--seconds T] [--reduce] [--out DIR] [--stop-at-first] [--verbose]\n"
        "                   [--print] [--without bound|rmse] [FILE.gir ..]\n",
        what);
    exit(2);
}

static uint64_t number(const char *option, const char *s)
{
    char *end = NULL;
    const unsigned long long n = s ? strtoull(s, &end, 10) : 0;
    if (!s || !*s || *end)
        usage(option);
    return n;
}

static void set_limit(Options *o, const char *what)
{
    if (strcmp(what, "bound") == 0)
        o->limits.skip_bound = true;
    else if (strcmp(what, "rmse") == 0)
        o->limits.skip_rmse = true;
    else
        usage("--without wants bound or rmse");
}

static void read_options(int argc, char **argv, Options *o)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = { { "--each-pass", &o->each_pass },
                  { "--reduce", &o->reduce },
                  { "--stop-at-first", &o->stop },
                  { "--verbose", &o->verbose },
                  { "--print", &o->print } };
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        bool *flag = NULL;
        for (size_t k = 0; k < sizeof flags / sizeof *flags; k++)
            if (strcmp(a, flags[k].name) == 0)
                flag = flags[k].flag;
        if (flag)
            *flag = true;
        else if (strcmp(a, "--count") == 0)
            o->count = (long)number("--count wants a number", value), i++;
        else if (strcmp(a, "--seed") == 0)
            o->seed = number("--seed wants a number", value), i++;
        else if (strcmp(a, "--jobs") == 0)
            o->jobs = (int)number("--jobs wants a number", value), i++;
        else if (strcmp(a, "--seconds") == 0)
            o->seconds = (int)number("--seconds wants a number", value), i++;
        else if (strcmp(a, "--device") == 0 && value)
            o->device = value, i++;
        else if (strcmp(a, "--out") == 0 && value)
            o->out = value, i++;
        else if (strcmp(a, "--without") == 0 && value)
            set_limit(o, value), i++;
        else if (a[0] == '-')
            usage(a);
        else
            o->file[o->nfile++] = argv[i];
    }
    if (o->jobs < 1 || o->jobs > MAX_JOBS || o->seconds < 1)
        usage("--jobs wants 1 to 64, --seconds at least 1");
}

int main(int argc, char **argv)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    Options o = { .seed = 1,
                  .count = 100,
                  .jobs = cores < 1          ? 1
                          : cores > MAX_JOBS ? MAX_JOBS
                                             : (int)cores,
                  .seconds = 300,
                  .device = "cpu",
                  .out = "tests/regress",
                  .file = calloc((size_t)argc + 1, sizeof *o.file) };
    Totals *t = calloc(1, sizeof *t);
    gtc_assert(t && o.file, "no memory");
    read_options(argc, argv, &o);
    t->start = fuzz_now();
    run_all(&o, t);
    report(&o, t);
    const bool failed = t->mismatches > 0;
    free(t);
    free(o.file);
    return failed;
}
