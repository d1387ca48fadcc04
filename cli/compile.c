/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/work.h"
#include "models/json.h"

/* Whether the comma separated ordinals hold this one. */
static bool serves(const char *layers, int layer)
{
    while (*layers) {
        char *end;
        const long k = strtol(layers, &end, 10);
        if (end == layers)
            return false;
        if (k == layer)
            return true;
        layers = *end == ',' ? end + 1 : end;
    }
    return false;
}

/* "0 3 7 .. 31 (9)": the launches of a training step that do work for a layer. */
static void launches_text(const GtcProgram *p, int layer, Strbuf *out)
{
    enum { SHOWN = 6 };
    const int n = gtc_program_info(p).kernels;
    int count = 0, last = -1;
    for (int i = 0; i < n; i++) {
        if (!serves(gtc_program_kernel(p, i).layers, layer))
            continue;
        if (count < SHOWN)
            strbuf_printf(out, "%s%d", count ? " " : "", i);
        last = i;
        count++;
    }
    if (count > SHOWN)
        strbuf_printf(out, " .. %d (%d)", last, count);
    if (count == 0)
        strbuf_add(out, "-");
}

static Status print_layers(Cli *c, const Work *w)
{
    LayerInfo *layer;
    int n;
    TRY(model_layers(&c->cx, w->model, w->shape, c->o->arena, &layer, &n));
    printf("%-18s %-15s %-14s %10s  %s\n", "layer", "type", "output", "params", "launches");
    for (int i = 0; i < n; i++) {
        Strbuf launches = { 0 };
        launches_text(w->session->program[BUILD_TRAIN], i, &launches);
        printf("%-18s %-15s %-14s %10lld  %s\n", layer[i].name, layer[i].type,
               shape_str(&layer[i].out), (long long)layer[i].params, strbuf_str(&launches));
        strbuf_free(&launches);
    }
    return ST_OK;
}

/* Kernels of all three programs by where their code came from; equal ones count once each. */
static GtcProgramInfo total(const Session *s)
{
    GtcProgramInfo all = gtc_program_info(s->program[BUILD_TRAIN]);
    for (int k = BUILD_EVAL; k <= BUILD_PREDICT; k++) {
        const GtcProgramInfo i = gtc_program_info(s->program[k]);
        all.compiled += i.compiled;
        all.cached += i.cached;
        all.interpreted += i.interpreted;
        all.calls += i.calls;
    }
    all.compile_ms = session_compile_ms(s);
    all.peak_bytes = session_peak_bytes(s);
    return all;
}

static Status report(Cli *c, const Work *w, const char *plan)
{
    const GtcProgramInfo info = total(w->session);
    const long long params = (long long)session_params(w->session);
    if (cli_talks(c)) {
        TRY(print_layers(c, w));
        char calls[48] = "";
        if (info.calls)
            snprintf(calls, sizeof calls, ", %d library calls", info.calls);
        printf("%lld params, %d ops in %d launches a step; kernels: %d compiled, %d cached%s%s; "
               "%.0f ms, peak %.1f MB\nplan: %s\n",
               params, info.ops, info.launches, info.compiled, info.cached,
               info.interpreted ? ", some interpreted" : "", calls, info.compile_ms,
               (double)info.peak_bytes / 1e6, plan);
    }
    strbuf_add(&c->json, "{\"plan\":");
    json_print_string(plan, &c->json);
    strbuf_add(&c->json, ",\"device\":");
    json_print_string(gtc_device_name(w->device), &c->json);
    strbuf_printf(&c->json,
                  ",\"mode\":\"%s\",\"precision\":\"f32\",\"params\":%lld,\"ops\":%d,"
                  "\"kernels\":%d,\"compiled\":%d,\"cached\":%d,\"interpreted\":%d,"
                  "\"calls\":%d,\"compile_ms\":%.3f,\"peak_bytes\":%lld,\"data_bytes\":%lld}",
                  w->opt.mode == GTC_EAGER ? "eager" : "default", params, info.ops, info.launches,
                  info.compiled, info.cached, info.interpreted, info.calls, info.compile_ms,
                  (long long)info.peak_bytes, (long long)info.data_bytes);
    return ST_OK;
}

static Status compile(Cli *c, Work *w)
{
    TRY(work_open_model(c, w, c->o->arg));
    TRY(work_open_shape(c, w));
    TRY(work_open_session(c, w, SESSION_TRAIN | SESSION_EVAL | SESSION_PREDICT));
    log_say(&c->cx, LOG_INFO, "%s", gtc_device_describe(w->device));
    TRY(work_write_plan(c, w));
    return report(c, w, work_plan_path(c, w));
}

Status cli_compile(Cli *c)
{
    Work w = { 0 };
    if (!c->o->arg)
        return FAIL(&c->cx, USAGE, "gtc compile: wants a MODEL.json");
    const Status st = compile(c, &w);
    work_close(&w);
    return st;
}
