/* SPDX-License-Identifier: Apache-2.0 */
/* build: a Model becomes the graph of a training step, of evaluation or of prediction.
 *
 * The whole step is one graph: layers, loss, `grad`, clipping, optimizer, and every parameter and
 * state with its next value.  A graph's inputs stand in front of its other nodes, yet only the
 * layers know which parameters they want.  So a graph is built twice: the first time on scrap, to
 * collect the inputs that are asked for, then in earnest with all of them declared in order
 * (batch, parameters, states).
 */
#include "models/layer_build.h"

#include <string.h>

/* ---- inputs ---- */

Ref layer_input(LayerCx *lx, InputKind kind, const char *name, DType dt, Shape shape, InitKind init,
                double value)
{
    for (unsigned i = 0; i < lx->ninput; i++) {
        if (strcmp(lx->input[i].name, name) == 0)
            return lx->input[i].ref;
    }
    if (lx->b->status != ST_OK)
        return REF_NONE;
    gtc_assert(!lx->declared, "input %s was not asked for the first time", name);
    arena_grow(lx->arena, lx->input, lx->ninput, lx->input_cap);
    ModelInput *in = &lx->input[lx->ninput++];
    *in = (ModelInput){ .name = arena_strdup(lx->arena, name),
                        .kind = kind,
                        .type = { dt, shape },
                        .init = init,
                        .value = value,
                        .layer = lx->layer };
    in->ref = build_input(lx->b, kind, in->name, dt, shape);
    return in->ref;
}

static const char *full_name(LayerCx *lx, const Layer *l, const char *suffix)
{
    return arena_printf(lx->arena, "%s.%s", l->name, suffix);
}

static const char *param_name(LayerCx *lx, const Layer *l, const char *suffix)
{
    const bool mean = lx->m->train.ema > 0 && lx->kind != BUILD_TRAIN;
    return arena_printf(lx->arena, "%s%s", mean ? LAYER_EMA : "", full_name(lx, l, suffix));
}

Ref layer_param(LayerCx *lx, const char *suffix, Shape shape, InitKind init, double value)
{
    const char *name = param_name(lx, lx->m->layer[lx->layer], suffix);
    return layer_input(lx, INPUT_param, name, DT_F32, shape, init, value);
}

Ref layer_param_of(LayerCx *lx, const Layer *owner, const char *suffix, Type *type)
{
    const char *name = param_name(lx, owner, suffix);
    for (unsigned i = 0; i < lx->ninput; i++) {
        if (strcmp(lx->input[i].name, name) == 0) {
            *type = lx->input[i].type;
            return lx->input[i].ref;
        }
    }
    return REF_NONE;
}

Ref layer_state(LayerCx *lx, const char *suffix, Shape shape, double value)
{
    const char *name = full_name(lx, lx->m->layer[lx->layer], suffix);
    return layer_input(lx, INPUT_state, name, DT_F32, shape, INIT_FILL, value);
}

void layer_replace(LayerCx *lx, Ref input, Ref value)
{
    arena_grow(lx->arena, lx->replace, lx->nreplace, lx->replace_cap);
    lx->replace[lx->nreplace++] = (ModelReplace){ input, value };
}

Ref layer_valid(LayerCx *lx)
{
    Builder *b = lx->b;
    if (lx->rows == REF_NONE || b->status != ST_OK)
        return REF_NONE;
    const Ref row = build_iota(b, (Type){ DT_I32, shape_of(1, (int64_t)lx->batch) }, 0);
    return build_op2(b, OP_lt, row, lx->rows);
}

Ref layer_valid_count(LayerCx *lx)
{
    Builder *b = lx->b;
    return build_cast(b, build_op2(b, OP_max, lx->rows, build_scalar(b, DT_I32, 1)), DT_F32);
}

/* ---- the graph ---- */

static Shape batched(int batch, Shape row)
{
    Shape s = { .rank = (int8_t)(row.rank + 1), .dim = { batch } };
    for (int i = 0; i < row.rank; i++)
        s.dim[i + 1] = row.dim[i];
    return s;
}

static Ref data_input(LayerCx *lx, const char *name, DType dt, Shape shape)
{
    return layer_input(lx, INPUT_batch, name, dt, shape, INIT_FILL, 0);
}

static DType input_type(const DataShape *d, int i)
{
    return i == 0 && d->words > 0 ? DT_I32 : DT_F32;
}

static Status find_value(LayerCx *lx, const Layer *l, const char *name, Ref *out)
{
    for (int i = 0; i < l->index; i++) {
        if (strcmp(lx->m->layer[i]->name, name) == 0) {
            *out = lx->value[i];
            return ST_OK;
        }
    }
    for (int i = 0; i < lx->d->ninput; i++) {
        const NamedShape *in = &lx->d->input[i];
        if (strcmp(in->name, name) == 0) {
            *out = data_input(lx, name, input_type(lx->d, i), batched(lx->batch, in->shape));
            return ST_OK;
        }
    }
    return json_fail(lx->cx, ST_SHAPE, l->at, NULL, "the data has no input \"%s\"", name);
}

/* Whole numbers are for layers that look something up. */
static Status check_words(LayerCx *lx, const Layer *l, Ref in)
{
    if (lx->b->status != ST_OK || build_type(lx->b, in).dt == DT_F32 ||
        l->type->build == layer_embedding)
        return lx->b->status;
    return json_fail(lx->cx, ST_SHAPE, l->at, "an embedding makes vectors of them",
                     "%s \"%s\" wants real numbers, and its input are the numbers of words",
                     l->type->name, l->name);
}

static Status build_layers(LayerCx *lx)
{
    const Model *m = lx->m;
    for (int i = 0; i < m->nlayer; i++) {
        const Layer *l = m->layer[i];
        Ref *in = arena_array(lx->arena, Ref, l->input.n + 1);
        for (int k = 0; k < l->input.n; k++)
            TRY(find_value(lx, l, l->input.at[k], &in[k]));
        if (l->mask)
            TRY(find_value(lx, l, l->mask, &in[l->input.n]));
        lx->layer = i;
        for (int k = 0; k < l->input.n; k++)
            TRY(check_words(lx, l, in[k]));
        build_region(lx->b, l->type->name, i);
        TRY(l->type->build(lx, l, in, l->input.n, &lx->value[i]));
        TRY(lx->b->status);
    }
    lx->layer = -1;
    lx->b->region = 0;
    return ST_OK;
}

static Ref prediction(const LayerCx *lx)
{
    for (int i = 0; i < lx->m->nlayer; i++) {
        if (strcmp(lx->m->layer[i]->name, lx->m->loss->prediction) == 0)
            return lx->value[i];
    }
    gtc_assert(false, "prediction %s was not checked", lx->m->loss->prediction);
    return REF_NONE;
}

static Status build_outputs(LayerCx *lx, Ref y)
{
    Builder *b = lx->b;
    if (lx->kind == BUILD_PROBE) {
        for (int i = 0; i < lx->m->nlayer; i++) {
            if (lx->probe[i] != REF_NONE)
                build_output(b, lx->probe[i], lx->m->layer[i]->probe);
        }
        return b->status;
    }
    LossOut o;
    TRY(loss_build(lx, prediction(lx), y, &o));
    if (lx->kind != BUILD_PREDICT)
        build_output(b, o.loss, "loss");
    if (lx->kind != BUILD_TRAIN)
        build_output(b, o.prediction, "prediction");
    if (o.correct != REF_NONE)
        build_output(b, o.correct, "correct");
    if (lx->kind == BUILD_TRAIN)
        TRY(optimizer_build(lx, o.loss));
    for (unsigned i = 0; i < lx->nreplace; i++)
        build_replace(b, lx->replace[i].input, lx->replace[i].value);
    return b->status;
}

static Status build_once(LayerCx *lx)
{
    const DataShape *d = lx->d;
    const int n = lx->m->nlayer;
    Ref y = REF_NONE;
    lx->nreplace = 0;
    lx->layer = -1;
    lx->value = arena_array(lx->arena, Ref, n);
    lx->probe = arena_array(lx->arena, Ref, n);
    for (int i = 0; i < d->ninput; i++)
        data_input(lx, d->input[i].name, input_type(d, i), batched(lx->batch, d->input[i].shape));
    if (lx->kind == BUILD_TRAIN || lx->kind == BUILD_EVAL) {
        y = data_input(lx, "y", d->classification ? DT_I32 : DT_F32, batched(lx->batch, d->target));
        lx->rows = data_input(lx, "rows", DT_I32, shape_of(0));
    }
    if (lx->kind == BUILD_TRAIN) {
        data_input(lx, "lr", DT_F32, shape_of(0));
        lx->row0 = data_input(lx, "row0", DT_I64, shape_of(0));
        lx->step = layer_input(lx, INPUT_state, "step", DT_I32, shape_of(0), INIT_FILL, 0);
    }
    TRY(build_layers(lx));
    return build_outputs(lx, y);
}

/* Declares what the first time asked for, batch inputs first, then parameters, then states. */
static void declare_inputs(LayerCx *lx)
{
    static const InputKind order[] = { INPUT_batch, INPUT_param, INPUT_state };
    ModelInput *sorted = arena_array(lx->arena, ModelInput, lx->ninput);
    unsigned n = 0;
    for (int k = 0; k < 3; k++) {
        for (unsigned i = 0; i < lx->ninput; i++) {
            ModelInput in = lx->input[i];
            if (in.kind != order[k])
                continue;
            in.ref = build_input(lx->b, in.kind, in.name, in.type.dt, in.type.shape);
            sorted[n++] = in;
        }
    }
    lx->input = sorted;
    lx->input_cap = lx->ninput;
    lx->declared = true;
}

Status model_build_with(LayerCx *lx, const Model *m, const DataShape *d, BuildKind kind, int batch,
                        Arena *arena, Graph **out)
{
    Builder b;
    *lx = (LayerCx){
        .cx = lx->cx, .arena = arena, .b = &b, .m = m, .d = d, .kind = kind, .batch = batch
    };
    Status st = ST_OK;
    for (int time = 0; time < 2 && st == ST_OK; time++) {
        *out = graph_new(arena);
        b = build_start(lx->cx, *out);
        if (time == 1)
            declare_inputs(lx);
        st = build_once(lx);
    }
    lx->b = NULL;
    return st;
}

Status model_build(Ctx *cx, const Model *m, const DataShape *d, BuildKind kind, int batch,
                   Arena *arena, Graph **out)
{
    LayerCx lx = { .cx = cx };
    return model_build_with(&lx, m, d, kind, batch, arena, out);
}

Status model_layers(Ctx *cx, const Model *m, const DataShape *d, Arena *arena, LayerInfo **out,
                    int *n)
{
    LayerCx lx = { .cx = cx };
    Graph *g;
    TRY(model_build_with(&lx, m, d, BUILD_PREDICT, 1, arena, &g));
    *n = m->nlayer;
    *out = arena_array(arena, LayerInfo, m->nlayer);
    for (int i = 0; i < m->nlayer; i++) {
        LayerInfo *info = &(*out)[i];
        const Shape s = graph_result_type(g, lx.value[i], 0).shape;
        info->name = m->layer[i]->name;
        info->type = m->layer[i]->type->name;
        info->out.rank = (int8_t)(s.rank - 1);
        for (int k = 1; k < s.rank; k++)
            info->out.dim[k - 1] = s.dim[k];
        for (unsigned k = 0; k < lx.ninput; k++) {
            if (lx.input[k].kind == INPUT_param && lx.input[k].layer == i)
                info->params += shape_count(&lx.input[k].type.shape);
        }
    }
    return ST_OK;
}
