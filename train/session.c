/* SPDX-License-Identifier: Apache-2.0 */
#include "train/session.h"

#include <stdio.h>
#include <stdlib.h>

Status session_init(Ctx *cx, Session *s)
{
    for (int i = 0; i < gtc_store_count(s->store); i++) {
        const GtcTensor *t = gtc_store_at(s->store, i);
        TRY(model_init_tensor(cx, s->model, s->shape, t->name, &t->type, t->data));
    }
    return gtc_store_upload(cx, s->store);
}

static Status build_program(Ctx *cx, Session *s, const GtcOptions *opt, BuildKind k, Arena *arena)
{
    GtcOptions mine = *opt;
    Graph *g = NULL, *feed = NULL;
    TRY(model_build(cx, s->model, s->shape, k, s->batch, arena, &g));
    if (s->fed)
        TRY(feed_graph(cx, s->shape, g, s->batch, arena, &feed));
    mine.feed = feed;
    mine.depth = k == BUILD_TRAIN ? opt->depth : 0; /* others are looked at batch by batch */
    return gtc_compile(cx, s->device, s->store, g, &mine, &s->program[k]);
}

static Status build_programs(Ctx *cx, Session *s, const GtcOptions *opt, unsigned kinds)
{
    TRY(gtc_store_create(cx, s->device, &s->store));
    if (s->fed)
        TRY(feed_tables(cx, s->shape, kinds & (SESSION_TRAIN | SESSION_EVAL), s->store));
    for (int k = 0; k <= BUILD_PREDICT; k++) {
        if (!(kinds & (1u << k)))
            continue;
        Arena *arena = arena_new();
        const Status st = build_program(cx, s, opt, (BuildKind)k, arena);
        arena_free(arena);
        TRY(st);
    }
    return ST_OK;
}

static Status open_one(Ctx *cx, const Model *m, const DataShape *shape, GtcDevice *device,
                       const GtcOptions *opt, unsigned kinds, bool fed, Session **out)
{
    Session *s = calloc(1, sizeof *s);
    if (!s)
        return FAIL(cx, MEMORY, "session: no memory");
    *s = (Session){ .model = m,
                    .shape = shape,
                    .device = device,
                    .mode = opt->mode,
                    .batch = m->train.batch_size,
                    .fed = fed };
    const Status st = build_programs(cx, s, opt, kinds);
    if (st != ST_OK) {
        session_close(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

Status session_open(Ctx *cx, const Model *m, const DataShape *shape, GtcDevice *device,
                    const GtcOptions *opt, unsigned kinds, Session **out)
{
    return open_one(cx, m, shape, device, opt, kinds, false, out);
}

/* Why the data cannot or should not lie on the device; NULL: they may. */
static const char *refuse_place(const DataShape *shape, int64_t room, int64_t bytes,
                                DataPlace place, char why[160])
{
    if (feed_refuse(shape))
        return feed_refuse(shape);
    if (place == DATA_DEVICE || bytes <= room / 2)
        return NULL;
    snprintf(why, 160, "%.1f MB are more than half of the %.1f MB that are free there",
             (double)bytes / 1e6, (double)room / 1e6);
    return why;
}

Status session_open_fed(Ctx *cx, const Model *m, const DataShape *shape, GtcDevice *device,
                        const GtcOptions *opt, unsigned kinds, DataPlace place, Session **out)
{
    const int64_t room = gtc_device_room(device), bytes = feed_bytes(shape);
    char why[160];
    const char *no = "--data-on host";
    if (place == DATA_HOST || (place == DATA_AUTO && room < 0)) {
        TRY(session_open(cx, m, shape, device, opt, kinds, out));
    } else {
        no = refuse_place(shape, room, bytes, place, why);
        if (no && place == DATA_DEVICE)
            return FAIL(cx, USAGE, "--data-on device: %s", no);
        Status st = open_one(cx, m, shape, device, opt, kinds, !no, out);
        if (st == ST_MEMORY && !no && place == DATA_AUTO) {
            no = "there is no room left for the model beside them";
            st = session_open(cx, m, shape, device, opt, kinds, out);
        }
        TRY(st);
    }
    Session *s = *out;
    if (s->fed)
        snprintf(s->place, sizeof s->place,
                 "data: %lld rows, %.3f MB, lie on the device, where each batch is made",
                 (long long)shape->rows.n, (double)bytes / 1e6);
    else if (room >= 0)
        snprintf(s->place, sizeof s->place, "data: each batch is copied to the device (%s)", no);
    return ST_OK;
}

Status session_feed(Ctx *cx, Session *s, const Data *d)
{
    if (s->data == d)
        return ST_OK;
    if (s->place[0] && !s->data)
        log_say(cx, LOG_INFO, "%s", s->place);
    s->data = d;
    return s->fed ? feed_write(cx, d, s->program[BUILD_TRAIN] || s->program[BUILD_EVAL], s->store)
                  : ST_OK;
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

int32_t *session_at(Session *s, BuildKind k)
{
    return s->fed ? session_input(s, k, FEED_AT) : NULL;
}

Status session_inputs(Ctx *cx, Session *s, BuildKind k, void *const **x)
{
    *x = NULL;
    if (s->fed)
        return ST_OK;
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
