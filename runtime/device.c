/* SPDX-License-Identifier: Apache-2.0 */
/* device: which device a name means, and what can be asked without opening one. */
#include "runtime/device.h"

#include <stdio.h>
#include <string.h>

#include "ir/eval.h"
#include "runtime/cc.h"

static const DeviceOps *const devices[] = { &device_cpu };

Status gtc_device_open(Ctx *cx, const char *spec, int threads, GtcDevice **out)
{
    *out = NULL;
    if (!spec || strcmp(spec, "auto") == 0)
        spec = "cpu";
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (strcmp(devices[i]->name, spec) == 0)
            return devices[i]->open(cx, threads, out);
    if (strcmp(spec, "cuda") == 0 || strncmp(spec, "cuda:", 5) == 0 || strcmp(spec, "simt") == 0)
        return FAIL(cx, ENV, "this build has no %.4s device yet: use --device cpu", spec);
    return FAIL(cx, USAGE, "no device \"%.40s\": wants auto or cpu", spec);
}

void gtc_device_close(GtcDevice *d)
{
    if (d)
        d->ops->close(d);
}

const char *gtc_device_name(const GtcDevice *d)
{
    return d->ops->name;
}

const char *gtc_device_describe(const GtcDevice *d)
{
    return d->describe;
}

int gtc_device_threads(const GtcDevice *d)
{
    return d->target.threads;
}

/* ------------------------------------------------------------ the interpreter */

Status device_interpret(Ctx *cx, const Step *s, void *const *arg)
{
    const Graph *g = s->body;
    Arena *a = arena_new();
    Tensor *in = arena_array(a, Tensor, s->nin), *out = arena_array(a, Tensor, s->nout);

    for (uint32_t i = 0; i < s->nin; i++) {
        in[i] = tensor_new(a, g->node[g->input[i]].type);
        tensor_read(&in[i], arg[i]);
    }
    const Status status = eval_graph(cx, g, EVAL_ROUND, a, in, out);
    for (uint32_t i = 0; status == ST_OK && i < s->nout; i++)
        tensor_write(&out[i], arg[s->nin + i]);
    arena_free(a);
    return status;
}

/* ------------------------------------------------------------ cache and compilers */

static Status ask_cache(Ctx *cx, GtcCacheInfo *out,
                        Status (*ask)(Ctx *cx, Cache *c, CacheInfo *info))
{
    Cache *c = NULL;
    CacheInfo info = { 0 };
    memset(out, 0, sizeof *out);
    TRY(cache_open(cx, &c));
    snprintf(out->dir, sizeof out->dir, "%s", cache_dir(c));
    const Status status = ask(cx, c, &info);
    cache_close(c);
    out->entries = info.entries;
    out->bytes = info.bytes;
    return status;
}

Status gtc_cache_info(Ctx *cx, GtcCacheInfo *out)
{
    return ask_cache(cx, out, cache_stats);
}

Status gtc_cache_clear(Ctx *cx, GtcCacheInfo *out)
{
    return ask_cache(cx, out, cache_clear);
}

int gtc_compilers(Ctx *cx, GtcCompiler *out, int max)
{
    Cache *c = NULL;
    CompilerList list;
    if (cache_open(cx, &c) != ST_OK)
        return 0;
    cc_find(cx, c, &list);
    cache_close(c);
    const int n = list.n < max ? list.n : max;
    for (int i = 0; i < n; i++) {
        snprintf(out[i].path, sizeof out[i].path, "%s", list.at[i].path);
        snprintf(out[i].version, sizeof out[i].version, "%s", list.at[i].version);
    }
    return n;
}
