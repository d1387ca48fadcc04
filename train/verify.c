/* SPDX-License-Identifier: Apache-2.0 */
/* verify: a model's programs against the oracle.
 *
 * Three programs are checked, as they would be compiled to train and to predict:
 *
 *     training    some steps, the last one with a row less than the batch: the loss, what else the
 *                 step gives, and every parameter and optimizer state after each step, of which
 *                 each begins with what the one before left
 *     gradients   one step that gives the gradient of every parameter as well
 *     prediction  one batch
 *
 * and each in two ways: every kernel by itself, fed with the evaluator's values, which tells where
 * a fault is; and the whole program, which also covers what lies between kernels (memory that is
 * reused, order, what one step leaves to the next).
 *
 * The inputs are random numbers of the data's shapes: whether kernels are right is no question of
 * the data, and nothing of it is read.  Parameters begin as the model's do, but for those that are
 * all zeros or ones.  Rows beyond the valid ones are copies of a valid one, as the loader makes
 * them. */
#include "train/verify.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/autodiff.h"
#include "ir/base/hash.h"
#include "ir/base/rng.h"
#include "ir/text.h"
#include "train/verify_op.h"

typedef struct Part {
    const char *name;
    BuildKind kind;
    bool gradients; /* are outputs too */
    bool many;      /* steps, each with what the one before left, and not one */
} Part;

static const Part parts[] = {
    { "training", BUILD_TRAIN, false, true },
    { "gradients", BUILD_TRAIN, true, false },
    { "prediction", BUILD_PREDICT, false, false },
};
enum { NPARTS = sizeof parts / sizeof *parts };

/* ------------------------------------------------------------ what a step is given */

static int steps_of(const Verify *v, const Part *part)
{
    gtc_assert(v->work->steps > 0, "verify: no step of training");
    return part->many ? v->work->steps : 1;
}

static int rows_of(const Verify *v, const Part *part, int step)
{
    const int batch = v->work->batch;
    return part->many && step == steps_of(v, part) - 1 && batch > 1 ? batch - 1 : batch;
}

static double random_value(const Verify *v, const char *name, DType dt, Rng *rng)
{
    const DataShape *d = v->work->shape;
    if (dtype_is_float(dt))
        return round_to(dt, rng_normal(rng));
    const int below = strcmp(name, "y") == 0 && d->classification ? d->nclass
                      : d->words                                  ? d->words
                                                                  : 2;
    return (double)rng_below(rng, (uint64_t)(below > 0 ? below : 1));
}

static void fill_batch(const Verify *v, const Part *part, int step, const Node *n, Tensor *t)
{
    const int64_t count = shape_count(&t->type.shape);
    const int64_t row =
        t->type.shape.rank && t->type.shape.dim[0] > 0 ? count / t->type.shape.dim[0] : count;
    const int rows = rows_of(v, part, step);
    Rng rng;
    rng_init(&rng, v->work->model->train.seed + (uint64_t)step, n->name[0]);
    if (strcmp(n->name, "rows") == 0)
        t->at[0] = rows;
    else if (strcmp(n->name, "lr") == 0)
        t->at[0] = round_to(t->type.dt, model_learning_rate(v->work->model, step, v->work->steps));
    else if (strcmp(n->name, "row0") == 0)
        t->at[0] = 0;
    else
        for (int64_t i = 0; i < count; i++)
            t->at[i] = i < rows * row ? random_value(v, n->name, t->type.dt, &rng) : t->at[i % row];
}

/* Where an element begins that would begin as all others of its tensor: of a state, squares maybe,
 * a little above; a scale of 1 at about a half, an offset of 0 well to one side of it, so that few
 * of a normalisation's results stand where a relu behind it bends.  There rounding decides, which
 * in a deep model leaves most gradients open; beside it the same kernels run, with little in
 * doubt. */
static double apart(InputKind kind, double x, Rng *rng)
{
    static const double SPREAD = 0.1, SCALE = 0.5, OFFSET = 0.75;
    const double more = SPREAD * rng_normal(rng);
    if (kind == INPUT_state)
        return x + fabs(more);
    return x != 0 ? SCALE * x + more : more + (more < 0 ? -OFFSET : OFFSET);
}

/* As the model begins, but for tensors whose elements begin all alike (biases, scales, moments):
 * these would hide elements that change places, and gradients of 0 whatever is made of them. */
static Status first_value(const Verify *v, const Node *n, Tensor *t)
{
    void *data = arena_alloc(v->arena, (size_t)type_bytes(&t->type));
    const int64_t count = shape_count(&t->type.shape);
    Rng rng;
    TRY(model_init_tensor(v->cx, v->work->model, v->work->shape, n->name, &t->type, data));
    tensor_read(t, data);
    for (int64_t i = 1; i < count; i++)
        if (t->at[i] != t->at[0])
            return ST_OK;
    if (!dtype_is_float(t->type.dt) || t->type.shape.rank == 0 || n->attr.input.kind == INPUT_const)
        return ST_OK;
    rng_init(&rng, v->work->model->train.seed, hash_bytes(n->name, strlen(n->name), 0));
    for (int64_t i = 0; i < count; i++)
        t->at[i] = round_to(t->type.dt, apart(n->attr.input.kind, t->at[i], &rng));
    return ST_OK;
}

/* ------------------------------------------------------------ one program */

typedef struct Run {
    Verify *v;
    const Part *part;
    const Graph *g; /* gradients expanded */
    GtcStore *store;
    GtcProgram *p;
    OracleTensor *in;
} Run;

/* The gradient of each parameter as an output. */
static Status output_gradients(Ctx *cx, Graph *g)
{
    const uint32_t n = g->nnode;
    for (Ref r = 1; r < n; r++)
        for (uint32_t i = 0; g->node[r].op == OP_grad && i + 1 < g->node[r].nargs; i++) {
            char name[160];
            Ref get;
            const Node node = { .op = OP_get, .nargs = 1, .arg = &r, .attr.get.index = i };
            const char *of = g->node[g->node[r].arg[i + 1]].name;
            snprintf(name, sizeof name, "grad.%s", of ? of : "value");
            TRY(graph_add(cx, g, &node, &get));
            TRY(graph_output(cx, g, get, REF_NONE, graph_is_name(name) ? name : NULL));
        }
    return ST_OK;
}

static Status run_open(Run *w)
{
    Verify *v = w->v;
    Graph *g, *expanded = graph_new(v->arena);
    TRY(model_build(v->cx, v->work->model, v->work->shape, w->part->kind, v->work->batch, v->arena,
                    &g));
    if (w->part->gradients)
        TRY(output_gradients(v->cx, g));
    TRY(gtc_store_create(v->cx, v->work->device, &w->store));
    TRY(gtc_compile(v->cx, v->work->device, w->store, g, v->work->options, &w->p));
    TRY(autodiff_expand(v->cx, g, expanded));
    w->g = expanded;
    w->in = arena_array(v->arena, OracleTensor, expanded->ninput + 1);
    return ST_OK;
}

static void run_close(Run *w)
{
    if (w->p)
        gtc_program_destroy(w->p);
    if (w->store)
        gtc_store_destroy(w->store);
}

/* What step `step` begins with, in the oracle and in the program. */
static Status give_inputs(Run *w, int step)
{
    Verify *v = w->v;
    for (uint32_t i = 0; i < w->g->ninput; i++) {
        const Node *n = &w->g->node[w->g->input[i]];
        const bool batch = n->attr.input.kind == INPUT_batch;
        if (!batch && step > 0)
            continue;
        Tensor t = tensor_new(v->arena, n->type);
        if (batch)
            fill_batch(v, w->part, step, n, &t);
        else
            TRY(first_value(v, n, &t));
        w->in[i] = oracle_exact(v->arena, &t);
        const int at = gtc_program_find_input(w->p, n->name);
        GtcTensor *stored = batch ? NULL : gtc_store_find(w->store, n->name);
        if (stored)
            tensor_write(&t, stored->data);
        else if (at >= 0)
            tensor_write(&t, gtc_program_input(w->p, at).data);
    }
    return step > 0 ? ST_OK : gtc_store_upload(v->cx, w->store);
}

static const char *input_name(const Run *w, Ref input)
{
    return w->g->node[input].name;
}

/* The kernel that writes output o, NULL when none does. */
static const GtcKernelInfo *writer_of(const Run *w, const Graph *fused, uint32_t o,
                                      GtcKernelInfo *room)
{
    const Node *n = fused && o < fused->nout ? &fused->node[fused->out[o].value] : NULL;
    for (int i = 0; n && n->op == OP_get && i < gtc_program_info(w->p).kernels; i++) {
        *room = gtc_program_kernel(w->p, i);
        if (room->node == n->arg[0])
            return room;
    }
    return NULL;
}

typedef struct Comparing {
    Run *w;
    int step;
    const Graph *fused;
} Comparing;

static Status compare_output(void *to, uint32_t o, const OracleTensor *want)
{
    const Comparing *c = to;
    Run *w = c->w;
    const Output *out = &w->g->out[o];
    const GtcTensor t = gtc_program_output(w->p, (int)o);
    const char *name = out->replaces ? input_name(w, out->replaces) : t.name ? t.name : "";
    const GtcTensor *stored = out->replaces ? gtc_store_find(w->store, name) : NULL;
    char what[256];
    GtcKernelInfo room;
    snprintf(what, sizeof what, "%s, step %d, %s %s", w->part->name, c->step,
             name[0] ? name : "output", type_str(&want->ref.type));
    verify_compare(w->v, want, stored ? stored->data : t.data, writer_of(w, c->fused, o, &room),
                   what);
    return ST_OK;
}

/* What the step left in the program, which was compared, is what the next one begins with: so
 * errors of one step are no excuse in the next. */
static void carry_over(Run *w)
{
    for (uint32_t o = 0; o < w->g->nout; o++)
        for (uint32_t i = 0; i < w->g->ninput; i++) {
            if (w->g->out[o].replaces != w->g->input[i])
                continue;
            const Node *n = &w->g->node[w->g->input[i]];
            const GtcTensor *stored = gtc_store_find(w->store, n->name);
            gtc_assert(stored, "verify: nothing is stored as %s", n->name);
            Tensor t = tensor_new(w->v->arena, n->type);
            tensor_read(&t, stored->data);
            w->in[i] = oracle_exact(w->v->arena, &t);
        }
}

static Status check_kernels(Run *w)
{
    Verify *v = w->v;
    VerifyInput *in = arena_array(v->arena, VerifyInput, w->g->ninput + 1);
    for (uint32_t i = 0; i < w->g->ninput; i++)
        in[i] = (VerifyInput){ input_name(w, w->g->input[i]), &w->in[i].rounded };
    return verify_kernels(v, w->p, w->part->name, in, (int)w->g->ninput);
}

/* The oracle's spans and samples of large parameters are gigabytes: one tensor's at a time. */
static Status check_step(Run *w, int step)
{
    Verify *v = w->v;
    Graph *fused;
    TRY(gtc_store_download(v->cx, w->store));
    TRY(graph_parse(v->cx, v->arena, "fused", gtc_program_fused_text(w->p), &fused));
    Comparing c = { w, step, fused };
    return oracle_outputs(v->cx, w->g, w->in, compare_output, &c);
}

static Status run_steps(Run *w)
{
    Verify *v = w->v;
    for (int step = 0; step < steps_of(v, w->part); step++) {
        TRY(give_inputs(w, step));
        if (step == 0) /* so that a wrong kernel is named before what it spoils */
            TRY(check_kernels(w));
        TRY(gtc_program_run(v->cx, w->p));
        TRY(check_step(w, step));
        carry_over(w);
    }
    return ST_OK;
}

/* ------------------------------------------------------------ the whole */

/* The layers that a kernel does work for, by name: "conv", or "flat, hidden1". */
static void name_layers(Verify *v, const char *ordinals, char *out, size_t cap)
{
    LayerInfo *layer;
    int n;
    size_t at = 0;
    out[0] = 0;
    if (model_layers(v->cx, v->work->model, v->work->shape, v->arena, &layer, &n) != ST_OK)
        return;
    for (const char *p = ordinals; *p && at < cap; p += strcspn(p, ","), p += *p == ',') {
        const long k = strtol(p, NULL, 10);
        if (k >= 0 && k < n)
            at += (size_t)snprintf(out + at, cap - at, "%s%s", at ? ", " : "", layer[k].name);
    }
}

void verify_compare(Verify *v, const OracleTensor *want, const void *data,
                    const GtcKernelInfo *kernel, const char *what)
{
    static const OracleLimits all;
    VerifyReport *r = v->report;
    OracleReport o = { .worst = 0 };
    Arena *arena = arena_new();
    Tensor got = tensor_new(arena, want->ref.type);
    tensor_read(&got, data);
    const bool ok = oracle_compare(want, &got, &all, &o);
    arena_free(arena);
    r->checked++;
    r->elements += o.elements;
    r->undecided += o.undecided;
    r->loose += o.loose;
    r->worst = fmax(r->worst, o.worst);
    r->worst_rmse = fmax(r->worst_rmse, o.worst_rmse);
    if (ok || r->wrong++ > 0)
        return;
    snprintf(r->kernel, sizeof r->kernel, "%s", kernel ? kernel->name : "");
    name_layers(v, kernel ? kernel->layers : "", r->layers, sizeof r->layers);
    snprintf(r->what, sizeof r->what, "%s: %s", what, o.text);
}

static Status verify_part(Verify *v, const Part *part)
{
    Run w = { .v = v, .part = part };
    Status status = run_open(&w);
    if (status == ST_OK)
        status = run_steps(&w);
    run_close(&w);
    return status;
}

Status verify_model(Ctx *cx, const VerifyWork *work, VerifyReport *out)
{
    Status status = ST_OK;
    NameSet alone = { .arena = arena_new() };
    GtcOptions options = *work->options;
    VerifyWork mine = *work;
    options.depth = 1; /* run by run: one place for all that kernels take and leave is enough */
    mine.options = &options;
    *out = (VerifyReport){ .checked = 0 };
    for (int i = 0; i < NPARTS && status == ST_OK; i++) {
        Verify v = { .cx = cx, .work = &mine, .report = out, .arena = arena_new(), .alone = &alone };
        status = verify_part(&v, &parts[i]);
        arena_free(v.arena);
    }
    arena_free(alone.arena);
    return status;
}
