/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/work.h"
#include "ir/base/os.h"
#include "models/json.h"

typedef struct Emit {
    Cli *c;
    const GtcProgram *p;
    LayerInfo *layer;
    int nlayer;
} Emit;

/* "0,3" with names: "conv, pool". */
static void layer_names(const Emit *e, const char *ordinals, bool json, Strbuf *out)
{
    const char *sep = "";
    while (*ordinals) {
        char *end;
        const long k = strtol(ordinals, &end, 10);
        if (end == ordinals)
            return;
        if (k >= 0 && k < e->nlayer) {
            strbuf_add(out, sep);
            if (json)
                json_print_string(e->layer[k].name, out);
            else
                strbuf_add(out, e->layer[k].name);
            sep = json ? "," : ", ";
        }
        ordinals = *end == ',' ? end + 1 : end;
    }
}

/* The first launch with the same source, which may be this one. */
static int first_equal(const Emit *e, int i)
{
    const char *source = gtc_program_kernel(e->p, i).source;
    for (int j = 0; j < i; j++) {
        const char *other = gtc_program_kernel(e->p, j).source;
        if (source && other && strcmp(source, other) == 0)
            return j;
    }
    return i;
}

/* Launches of one run before those of kernel i. */
static int first_launch(const Emit *e, int i)
{
    int n = 0;
    for (int j = 0; j < i; j++)
        n += gtc_program_kernel(e->p, j).launches;
    return n;
}

/* The map of launches, then each kernel once. */
static void emit_kernels(const Emit *e, bool plans, Strbuf *out)
{
    const int n = gtc_program_info(e->p).kernels;
    for (int i = 0; i < n; i++) {
        const GtcKernelInfo k = gtc_program_kernel(e->p, i);
        const int same = first_equal(e, i), at = first_launch(e, i);
        Strbuf names = { 0 };
        layer_names(e, k.layers ? k.layers : "", false, &names);
        strbuf_printf(out, k.launches > 1 ? "// launches %d to %d: " : "// launch %d: ", at,
                      at + k.launches - 1);
        strbuf_printf(out, "%s, by %s%s%s%s", k.name, k.planner ? k.planner : "the evaluator",
                      names.n ? ", for " : "", strbuf_str(&names),
                      k.interpreted ? ", in the evaluator" : "");
        strbuf_printf(out, same < i ? ", the kernel of launch %d\n" : "\n", first_launch(e, same));
        strbuf_free(&names);
    }
    for (int i = 0; i < n; i++) {
        const GtcKernelInfo k = gtc_program_kernel(e->p, i);
        const char *text = plans ? k.plan : k.source;
        if (first_equal(e, i) == i)
            strbuf_printf(out, "\n// ---- %s\n%s", k.name, text ? text : "");
    }
}

static void emit_json(const Emit *e, Strbuf *out)
{
    const int n = gtc_program_info(e->p).kernels;
    strbuf_add(out, "{\"kernels\":[");
    for (int i = 0; i < n; i++) {
        const GtcKernelInfo k = gtc_program_kernel(e->p, i);
        strbuf_printf(out, "%s{\"name\":", i ? "," : "");
        json_print_string(k.name, out);
        strbuf_add(out, ",\"label\":");
        json_print_string(k.label ? k.label : "", out);
        strbuf_add(out, ",\"planner\":");
        json_print_string(k.planner ? k.planner : "", out);
        strbuf_printf(out, ",\"same_as\":%d,\"layers\":[", first_equal(e, i));
        layer_names(e, k.layers ? k.layers : "", true, out);
        strbuf_printf(out, "],\"launches\":%d,\"flops\":%.6g,\"bytes\":%.6g,\"interpreted\":%s}",
                      k.launches, k.flops, k.bytes, k.interpreted ? "true" : "false");
    }
    strbuf_add(out, "]}");
}

static Status parse_kind(Cli *c, BuildKind *out)
{
    static const char *const names[] = {
        [BUILD_TRAIN] = "train", [BUILD_EVAL] = "eval", [BUILD_PREDICT] = "predict"
    };
    const char *name = options_text(c->o, OPT_program, "train");
    for (int k = 0; k <= BUILD_PREDICT; k++)
        if (strcmp(name, names[k]) == 0) {
            *out = (BuildKind)k;
            return ST_OK;
        }
    return FAIL(&c->cx, USAGE, "--program: wants train, eval or predict, got '%s'", name);
}

static bool starts_with(const char *s, const char *start)
{
    return strncmp(s, start, strlen(start)) == 0;
}

/* A device of that kind which only writes: as the one that --device names, if it is of the kind,
 * else as this machine's CPU, or a GPU that need not be here. */
static Status open_text(Cli *c, bool cuda, GtcDevice **out)
{
    const char *spec = options_text(c->o, OPT_device, "auto"),
               *arch = options_text(c->o, OPT_arch, NULL);
    const bool gpu = starts_with(spec, "cuda") || starts_with(spec, "simt");
    GtcDevice *like = NULL;
    if (arch && !cuda)
        return FAIL(&c->cx, USAGE, "--arch %.40s: C kernels are for this machine's CPU", arch);
    if (cuda && (arch || !gpu))
        return gtc_device_open_arch(&c->cx, arch, out);
    if (gpu != cuda)
        return FAIL(&c->cx, USAGE, "--device %.40s has no C kernels: wants cpu", spec);
    if (cuda)
        TRY(work_device(c, &like));
    else
        TRY(gtc_device_open(&c->cx, "cpu", (int)options_int(c->o, OPT_threads, 0), &like));
    const Status st = gtc_device_open_text(&c->cx, like, out);
    gtc_device_close(like);
    return st;
}

static Status emit_app(Cli *c, Work *w)
{
    if (options_flag(c->o, OPT_graph) || options_flag(c->o, OPT_plan) ||
        options_flag(c->o, OPT_kernels) || options_text(c->o, OPT_program, NULL))
        return FAIL(&c->cx, USAGE,
                    "--target %s writes the training step: --program, --graph, --plan and "
                    "--kernels are not for it",
                    options_text(c->o, OPT_target, ""));
    return work_write_app(c, w);
}

static Status emit(Cli *c, Work *w, Strbuf *out)
{
    const char *target = options_text(c->o, OPT_target, NULL);
    const bool cuda = target && starts_with(target, "cuda"), app = target && strstr(target, "-app");
    BuildKind kind = BUILD_TRAIN;
    TRY(parse_kind(c, &kind));
    if (target && strcmp(target, "c") != 0 && strcmp(target, "cuda") != 0 &&
        strcmp(target, "c-app") != 0 && strcmp(target, "cuda-app") != 0)
        return FAIL(&c->cx, USAGE, "--target: wants c, cuda, c-app or cuda-app, got '%.40s'",
                    target);
    TRY(work_open_model(c, w, c->o->arg));
    if (target)
        TRY(open_text(c, cuda, &w->device));
    if (app)
        return emit_app(c, w);
    TRY(work_open_shape(c, w));
    TRY(work_open_session(c, w, 1u << kind));
    Emit e = { .c = c, .p = w->session->program[kind] };
    TRY(model_layers(&c->cx, w->model, w->shape, c->o->arena, &e.layer, &e.nlayer));
    if (target)
        strbuf_printf(out, "// %s\n", gtc_device_describe(w->device));
    if (options_flag(c->o, OPT_graph))
        strbuf_add(out, gtc_program_fused_text(e.p));
    if (options_flag(c->o, OPT_plan))
        emit_kernels(&e, true, out);
    if (options_flag(c->o, OPT_kernels) ||
        (!options_flag(c->o, OPT_graph) && !options_flag(c->o, OPT_plan)))
        emit_kernels(&e, false, out);
    emit_json(&e, &c->json);
    const char *path = options_text(c->o, OPT_out, NULL);
    if (path)
        return os_write_file(&c->cx, path, strbuf_str(out), out->n);
    if (cli_talks(c))
        fputs(strbuf_str(out), stdout);
    return ST_OK;
}

Status cli_emit(Cli *c)
{
    Work w = { 0 };
    Strbuf out = { 0 };
    const Status st = emit(c, &w, &out);
    strbuf_free(&out);
    work_close(&w);
    return st;
}
