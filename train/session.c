/* SPDX-License-Identifier: Apache-2.0 */
#include "train/session.h"

#include <stdlib.h>
#include <string.h>

Status session_init(Ctx *cx, Session *s)
{
    for (int i = 0; i < gtc_store_count(s->store); i++) {
        const GtcTensor *t = gtc_store_at(s->store, i);
        TRY(model_init_tensor(cx, s->model, s->shape, t->name, &t->type, t->data));
    }
    return gtc_store_upload(cx, s->store);
}

static Status build_programs(Ctx *cx, Session *s, const GtcOptions *opt, unsigned kinds)
{
    TRY(gtc_store_create(cx, s->device, &s->store));
    for (int k = 0; k <= BUILD_PREDICT; k++) {
        if (!(kinds & (1u << k)))
            continue;
        Arena *arena = arena_new();
        Graph *g = NULL;
        Status st = model_build(cx, s->model, s->shape, (BuildKind)k, s->batch, arena, &g);
        if (st == ST_OK)
            st = gtc_compile(cx, s->device, s->store, g, opt, &s->program[k]);
        arena_free(arena);
        TRY(st);
    }
    return ST_OK;
}

Status session_open(Ctx *cx, const Model *m, const DataShape *shape, GtcDevice *device,
                    const GtcOptions *opt, unsigned kinds, Session **out)
{
    Session *s = calloc(1, sizeof *s);
    if (!s)
        return FAIL(cx, MEMORY, "session: no memory");
    *s = (Session){ .model = m,
                    .shape = shape,
                    .device = device,
                    .mode = opt->mode,
                    .batch = m->train.batch_size };
    const Status st = build_programs(cx, s, opt, kinds);
    if (st != ST_OK) {
        session_close(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

void session_close(Session *s)
{
    if (!s)
        return;
    for (int k = 0; k <= BUILD_PREDICT; k++)
        if (s->program[k])
            gtc_program_destroy(s->program[k]);
    if (s->store)
        gtc_store_destroy(s->store);
    free(s);
}

Status session_inputs(Ctx *cx, Session *s, BuildKind k, void *const **x)
{
    if (s->shape->ninput > SESSION_INPUTS)
        return FAIL(cx, VALUE, "the model has %d inputs; at most %d are supported",
                    s->shape->ninput, SESSION_INPUTS);
    for (int i = 0; i < s->shape->ninput; i++) {
        s->input[k][i] = session_input(s, k, s->shape->input[i].name);
        if (!s->input[k][i]) /* no layer reads it, so that there is nowhere to put it */
            return FAIL(cx, VALUE, "no layer reads the input \"%s\"", s->shape->input[i].name);
    }
    *x = s->input[k];
    return ST_OK;
}

void *session_input(Session *s, BuildKind k, const char *name)
{
    const int i = gtc_program_find_input(s->program[k], name);
    return i < 0 ? NULL : gtc_program_input(s->program[k], i).data;
}

const GtcTensor *session_output(Session *s, BuildKind k, const char *name, GtcTensor *room)
{
    const int i = gtc_program_find_output(s->program[k], name);
    if (i < 0)
        return NULL;
    *room = gtc_program_output(s->program[k], i);
    return room;
}

double session_compile_ms(const Session *s)
{
    double ms = 0;
    for (int k = 0; k <= BUILD_PREDICT; k++)
        if (s->program[k])
            ms += gtc_program_info(s->program[k]).compile_ms;
    return ms;
}

int64_t session_params(const Session *s)
{
    int64_t n = 0;
    for (int i = 0; i < gtc_store_count(s->store); i++) {
        const GtcTensor *t = gtc_store_at(s->store, i);
        if (t->kind == INPUT_param)
            n += shape_count(&t->type.shape);
    }
    return n;
}

int64_t session_peak_bytes(const Session *s)
{
    int64_t most = 0;
    for (int k = 0; k <= BUILD_PREDICT; k++)
        if (s->program[k]) {
            const int64_t n = gtc_program_info(s->program[k]).peak_bytes;
            most = n > most ? n : most;
        }
    return most;
}
