/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/recording_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "ir/autodiff.h"
#include "models/layer.h"
#include "tests/recording.h"

/* ------------------------------------------------------------ what one way gives */

typedef struct Found {
    const char *name;
    Tensor value;
    bool compared;
} Found;

typedef struct Way { /* evaluator or program: results by name */
    Recording *r;
    const char *title;
    bool compiled, quiet;
    double output, gradient; /* tolerances */
    Found *at;
    unsigned n, cap;
    int failed;
} Way;

static void found(Way *w, const char *name, Tensor value)
{
    arena_grow(w->r->arena, w->at, w->n, w->cap);
    w->at[w->n++] = (Found){ .name = name, .value = value };
}

static bool starts(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

static void ok(Recording *r, Status st)
{
    if (st != ST_OK)
        fail_msg("%s: %s", r->name, r->cx.msg);
}

/* ------------------------------------------------------------ running */

/* out[step * g->nout + o] */
static Tensor *evaluate(Recording *r, const Graph *g, Tensor *in, int steps)
{
    Graph *whole = graph_new(r->arena);
    Tensor *out = arena_array(r->arena, Tensor, (int64_t)g->nout * steps);
    ok(r, autodiff_expand(&r->cx, g, whole));
    for (int s = 0; s < steps; s++) {
        Tensor *now = out + (int64_t)s * g->nout;
        ok(r, eval_graph(&r->cx, whole, EVAL_F64, r->arena, in, now));
        for (uint32_t o = 0; o < whole->nout; o++)
            for (uint32_t i = 0; i < whole->ninput; i++)
                if (whole->input[i] == whole->out[o].replaces)
                    in[i] = now[o];
    }
    return out;
}

static void give(GtcProgram *p, GtcStore *store, const Graph *g, const Tensor *in)
{
    for (uint32_t i = 0; i < g->ninput; i++) {
        const char *name = g->node[g->input[i]].name;
        const int at = gtc_program_find_input(p, name);
        GtcTensor *stored = gtc_store_find(store, name);
        if (stored)
            tensor_write(&in[i], stored->data);
        else if (at >= 0)
            tensor_write(&in[i], gtc_program_input(p, at).data);
    }
}

static void take(Recording *r, GtcProgram *p, GtcStore *store, const Graph *g, Tensor *out)
{
    for (uint32_t o = 0; o < g->nout; o++) {
        const Ref replaces = g->out[o].replaces;
        GtcTensor t = gtc_program_output(p, (int)o);
        if (replaces != REF_NONE)
            t = *gtc_store_find(store, g->node[replaces].name);
        out[o] = tensor_new(r->arena, graph_result_type(g, g->out[o].value, 0));
        tensor_read(&out[o], t.data);
    }
}

static Tensor *run_compiled(Recording *r, const Graph *g, const Tensor *in, int steps)
{
    const GtcOptions options = { .mode = GTC_DEFAULT };
    GtcDevice *device;
    GtcStore *store;
    GtcProgram *p;
    Tensor *out = arena_array(r->arena, Tensor, (int64_t)g->nout * steps);
    ok(r, gtc_device_open(&r->cx, "cpu", 2, &device));
    ok(r, gtc_store_create(&r->cx, device, &store));
    ok(r, gtc_compile(&r->cx, device, store, g, &options, &p));
    if (gtc_program_info(p).interpreted)
        fail_msg("%s: a kernel runs in the interpreter", r->name);
    give(p, store, g, in);
    ok(r, gtc_store_upload(&r->cx, store));
    for (int s = 0; s < steps; s++) {
        ok(r, gtc_program_run(&r->cx, p));
        ok(r, gtc_store_download(&r->cx, store));
        take(r, p, store, g, out + (int64_t)s * g->nout);
    }
    gtc_program_destroy(p);
    gtc_store_destroy(store);
    gtc_device_close(device);
    return out;
}

static Tensor *run(Way *w, const Graph *g, int steps)
{
    Tensor *in = recording_values(w->r, g);
    return w->compiled ? run_compiled(w->r, g, in, steps) : evaluate(w->r, g, in, steps);
}

/* ------------------------------------------------------------ what is run */

/* Adds the data inputs to what the graph takes gradients of. */
static void widen(Recording *r, const Graph *g, Node *n)
{
    Ref *arg = arena_array(r->arena, Ref, n->nargs + (uint32_t)r->d.ninput);
    memcpy(arg, n->arg, n->nargs * sizeof *arg);
    for (int i = 0; i < r->d.ninput; i++) {
        const Ref in = graph_find_input(g, r->d.input[i].name);
        if (dtype_is_float(g->node[in].type.dt) && !recording_is_whole(r, r->d.input[i].name))
            arg[n->nargs++] = in;
    }
    n->arg = arg;
}

static void output(Recording *r, Graph *g, const char **name, Ref value, const char *text)
{
    name[g->nout] = text;
    ok(r, graph_output(&r->cx, g, value, REF_NONE, NULL));
}

static void output_gradients(Recording *r, Graph *g, const char **name, Ref grad)
{
    const Node n = g->node[grad];
    for (uint32_t i = 0; i + 1 < n.nargs; i++) {
        Ref get;
        const Node node = { .op = OP_get, .nargs = 1, .arg = &grad, .attr.get.index = i };
        ok(r, graph_add(&r->cx, g, &node, &get));
        output(r, g, name, get, arena_printf(r->arena, "grad.%s", g->node[n.arg[i + 1]].name));
    }
}

/* The training step without its optimizer: loss, output, gradients and the next statistics. */
static Graph *gradient_graph(Recording *r, const char ***names)
{
    LayerCx lx = { .cx = &r->cx };
    Graph *step, *g = graph_new(r->arena);
    Ref grad = REF_NONE;
    ok(r, model_build_with(&lx, r->m, &r->d, BUILD_TRAIN, r->batch, r->arena, &step));
    for (uint32_t i = 1; i < step->nregion; i++)
        graph_region(g, step->region[i].kind, step->region[i].layer, step->region[i].bwd);
    for (Ref at = 1, to; at < step->nnode; at++) {
        Node n = step->node[at];
        if (n.op == OP_grad) {
            assert_int_equal(grad, REF_NONE);
            grad = at;
            widen(r, step, &n);
        }
        ok(r, graph_add(&r->cx, g, &n, &to));
        assert_int_equal(to, at);
    }
    *names = arena_array(r->arena, const char *, step->nout + g->node[grad].nargs + 2);
    output(r, g, *names, g->node[grad].arg[0], "loss");
    for (int i = 0; i < r->m->nlayer; i++)
        if (strcmp(r->m->layer[i]->name, r->m->loss->prediction) == 0)
            output(r, g, *names, lx.value[i], "output");
    output_gradients(r, g, *names, grad);
    for (uint32_t o = 0; o < step->nout; o++) {
        const Output *out = &step->out[o];
        const Node *in = &g->node[out->replaces];
        if (out->replaces != REF_NONE && in->attr.input.kind == INPUT_state &&
            strcmp(in->name, "step") != 0 && !starts(in->name, LAYER_OPT))
            output(r, g, *names, out->value, arena_printf(r->arena, "next.%s", in->name));
    }
    return g;
}

/* What PyTorch drew must all have been asked for. */
static void check_fills(const Recording *r, const Graph *g)
{
    for (int i = 0; i < r->file->nmeta; i++) {
        const char *key = r->file->meta[i].key;
        if (strncmp(key, "fill.", 5) == 0 && graph_find_input(g, key + 5) == REF_NONE)
            fail_msg("%s: gtc's net has no \"%s\"", r->name, key + 5);
    }
}

static void run_gradients(Way *w)
{
    const char **name;
    Graph *g = gradient_graph(w->r, &name);
    check_fills(w->r, g);
    Tensor *out = run(w, g, 1);
    for (uint32_t o = 0; o < g->nout; o++)
        found(w, name[o], out[o]);
}

static void run_steps(Way *w)
{
    Recording *r = w->r;
    Graph *g;
    ok(r, model_build(&r->cx, r->m, &r->d, BUILD_TRAIN, r->batch, r->arena, &g));
    check_fills(r, g);
    Tensor *out = run(w, g, r->steps);
    for (int s = 0; s < r->steps; s++)
        for (uint32_t o = 0; o < g->nout; o++) {
            const Ref replaces = g->out[o].replaces;
            const bool param = replaces && g->node[replaces].attr.input.kind == INPUT_param;
            const char *name = replaces ? g->node[replaces].name : g->out[o].name;
            if (param || starts(name, LAYER_EMA) || strcmp(name, "loss") == 0)
                found(w, arena_printf(r->arena, "step%d.%s", s + 1, name),
                      out[(int64_t)s * g->nout + o]);
        }
}

static void run_in_use(Way *w, BuildKind kind)
{
    Recording *r = w->r;
    Graph *g;
    ok(r, model_build(&r->cx, r->m, &r->d, kind, r->batch, r->arena, &g));
    Tensor *out = run(w, g, 1);
    for (uint32_t o = 0; o < g->nout; o++) {
        const char *name = g->out[o].name;
        if (kind == BUILD_PROBE)
            found(w, arena_printf(r->arena, "probe.%s", name), out[o]);
        else if (strcmp(name, "prediction") == 0)
            found(w, "predict", out[o]);
    }
}

/* ------------------------------------------------------------ the comparison */

static double largest_of(const Tensor *t)
{
    double most = 0;
    for (int64_t i = 0; i < shape_count(&t->type.shape); i++)
        most = fmax(most, fabs(t->at[i]));
    return most;
}

static Tensor recorded(const Recording *r, const GtcTensor *t)
{
    Tensor x = tensor_new(r->arena, t->type);
    tensor_read(&x, t->data);
    return x;
}

static double largest_gradient(const Recording *r)
{
    double most = 0;
    for (int i = 0; i < r->file->ntensor; i++) {
        const GtcTensor *t = &r->file->tensor[i];
        if (!starts(t->name, "grad.") && !starts(t->name, "some.grad."))
            continue;
        const Tensor x = recorded(r, t);
        most = fmax(most, t->name[0] == 's' ? x.at[1] : largest_of(&x));
    }
    return most;
}

typedef struct Claim { /* one recorded tensor */
    Way *w;
    const char *name;
    double most, tolerance; /* absolute */
    int64_t errors;
} Claim;

static void expect(Claim *c, const char *what, int64_t at, double want, double got)
{
    if (fabs(want - got) <= c->tolerance)
        return;
    if (c->errors++ == 0 && !c->w->quiet)
        print_error("%s, %s: %s%s[%lld]: PyTorch %.9g, gtc %.9g; largest %.3g\n", c->w->r->name,
                    c->w->title, what, c->name, (long long)at, want, got, c->most);
}

static void check_shape(const Recording *r, const char *name, Shape have, Shape want, bool by_row)
{
    if (by_row && want.rank && want.dim[0] == r->rows && have.dim[0] == r->batch)
        want.dim[0] = r->batch;
    if (!shape_eq(&have, &want))
        fail_msg("%s: %s is %s, in PyTorch %s", r->name, name, shape_str(&have), shape_str(&want));
}

/* t: a norm, the largest, and elements at drawn places. */
static void compare_some(Claim *c, const Tensor *t, const char *key, const Tensor *got)
{
    const Recording *r = c->w->r;
    const int64_t count = shape_count(&got->type.shape), n = shape_count(&t->type.shape);
    const char *shape = recording_text(r, arena_printf(r->arena, "shape.%s", c->name));
    double square = 0;
    check_shape(r, c->name, got->type.shape, recording_shape(shape), false);
    for (int64_t i = 0; i < count; i++)
        square += got->at[i] * got->at[i];
    for (int k = 0; k + 2 < n; k++) {
        const int64_t at = recording_place(r, key, k, count);
        expect(c, "", at, t->at[k + 2], got->at[at]);
    }
    expect(c, "largest of ", 0, t->at[1], largest_of(got));
    c->tolerance *= fmax(t->at[0] / fmax(c->most, 1e-30), 1);
    expect(c, "norm of ", 0, t->at[0], sqrt(square));
}

static void compare_all(Claim *c, const Tensor *t, const Tensor *got)
{
    const Recording *r = c->w->r;
    const int64_t n = shape_count(&t->type.shape), count = shape_count(&got->type.shape);
    const bool input = starts(c->name, "grad.") && !strchr(c->name + 5, '.');
    check_shape(r, c->name, got->type.shape, t->type.shape, input || !strchr(c->name, '.'));
    for (int64_t i = 0; i < n; i++)
        expect(c, "", i, t->at[i], got->at[i]);
    for (int64_t i = n; i < count && input; i++) /* rows that do not count */
        if (got->at[i] != 0)
            fail_msg("%s: %s[%d] of no valid row is %g", r->name, c->name, (int)i, got->at[i]);
}

static void compare(Way *w, const GtcTensor *stored)
{
    const bool some = starts(stored->name, "some.");
    const char *name = stored->name + (some ? 5 : 0);
    const Tensor t = recorded(w->r, stored);
    const bool gradient = starts(name, "grad.");
    Found *f = NULL;
    for (unsigned i = 0; i < w->n && !f; i++)
        f = strcmp(w->at[i].name, name) == 0 ? &w->at[i] : NULL;
    if (!f)
        fail_msg("%s: gtc gives no \"%s\"", w->r->name, name);
    f->compared = true;
    Claim c = { .w = w, .name = name, .most = some ? t.at[1] : largest_of(&t) };
    if (c.most == 0)
        c.most = largest_gradient(w->r);
    c.tolerance = c.most * (gradient ? w->gradient : w->output);
    if (some)
        compare_some(&c, &t, stored->name, &f->value);
    else
        compare_all(&c, &t, &f->value);
    w->failed += c.errors > 0;
}

static bool has(const Recording *r, const char *prefix)
{
    for (int i = 0; i < r->file->ntensor; i++) {
        const char *name = r->file->tensor[i].name;
        if (starts(starts(name, "some.") ? name + 5 : name, prefix))
            return true;
    }
    return false;
}

static void go(Way *w)
{
    const Recording *r = w->r;
    int compared = 0;
    if (r->steps)
        run_steps(w);
    else if (has(r, "loss"))
        run_gradients(w);
    if (has(r, "predict"))
        run_in_use(w, BUILD_PREDICT);
    if (has(r, "probe."))
        run_in_use(w, BUILD_PROBE);
    for (int i = 0; i < r->file->ntensor; i++) {
        if (starts(r->file->tensor[i].name, "given."))
            continue;
        compare(w, &r->file->tensor[i]);
        compared++;
    }
    for (unsigned i = 0; i < w->n; i++)
        if (!w->at[i].compared)
            fail_msg("%s: \"%s\" is not recorded", r->name, w->at[i].name);
    assert_true(compared > 0);
}

static void agrees(void **state)
{
    const char *path = *state;
    Recording *r = recording_open(path);
    recording_model(r);
    Way exact = { .r = r, .title = "evaluator", .output = 1e-6, .gradient = 1e-6 };
    Way fast = { .r = r, .title = "compiled", .compiled = true, .output = 1e-5, .gradient = 1e-4 };
    go(&exact);
    go(&fast);
    const int failed = exact.failed + fast.failed;
    recording_close(r);
    if (failed)
        fail_msg("%d tensors differ", failed);
}

/* One element of one tensor that is off by a little more than is granted. */
static void a_wrong_value_is_noticed(void **state)
{
    Recording *r = recording_open(*state);
    Way w = { .r = r, .title = "changed", .quiet = true, .output = 1e-5, .gradient = 1e-4 };
    recording_model(r);
    go(&w);
    assert_int_equal(w.failed, 0);
    for (int i = 0; i < r->file->ntensor; i++) {
        const GtcTensor *t = &r->file->tensor[i];
        Tensor x = recorded(r, t), changed = recorded(r, t);
        const int64_t last = shape_count(&t->type.shape) - 1;
        const double off = strstr(t->name, "grad.") ? 1.2e-4 : 1.2e-5;
        changed.at[last] += off * (starts(t->name, "some.") ? x.at[1] : largest_of(&x));
        tensor_write(&changed, t->data);
        w.failed = 0;
        compare(&w, t);
        if (w.failed != 1)
            fail_msg("%s: %s may change unnoticed", r->name, t->name);
        tensor_write(&x, t->data);
    }
    recording_close(r);
}

int recording_check(int argc, char **argv, bool zoo)
{
    Arena *arena = arena_new();
    const StrList path = recording_list(arena, "tests/recorded", ".safetensors");
    struct CMUnitTest *tests = arena_array(arena, struct CMUnitTest, path.n + 1);
    int n = 0;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    for (int i = 0; i < path.n; i++) {
        const char *name = strrchr(path.at[i], '/') + 1;
        void *at = (void *)(uintptr_t)path.at[i];
        if (starts(name, "zoo-") == zoo)
            tests[n++] = (struct CMUnitTest){ name, agrees, NULL, NULL, at };
    }
    const char *any =
        zoo ? "tests/recorded/zoo-demo.safetensors" : "tests/recorded/moves.safetensors";
    tests[n++] = (struct CMUnitTest){ .name = "a_wrong_value_is_noticed",
                                      .test_func = a_wrong_value_is_noticed,
                                      .initial_state = (void *)(uintptr_t)any };
    const int failed = _cmocka_run_group_tests("recorded", tests, (size_t)n, NULL, NULL);
    arena_free(arena);
    return failed;
}
