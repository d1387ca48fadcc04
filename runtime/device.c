/* SPDX-License-Identifier: Apache-2.0 */
/* device: which device a name means, and what all devices share. */
#include "runtime/device.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/eval.h"
#include "runtime/cuda_dl.h"

/* The CPU, with the reason at the end of its description. */
static Status open_cpu_because(Ctx *cx, const DeviceCall *call, const char *why, GtcDevice **out)
{
    TRY(device_cpu.open(cx, call, out));
    char *text = (*out)->describe;
    const size_t n = strlen(text);
    snprintf(text + n, sizeof(*out)->describe - n, "; %.*s", (int)strcspn(why, ":;"), why);
    return ST_OK;
}

/* A machine that has no driver is one without a GPU: the description says so.  Where there is a
 * driver and still no GPU to be used, somebody will want to know. */
static Status open_auto(Ctx *cx, const DeviceCall *call, GtcDevice **out)
{
    Ctx quiet = *cx;
    CudaDriver cu;
    const char *host = getenv("GTC_SIMT_AUTO");
    const DeviceOps *gpu = host && strcmp(host, "1") == 0 ? &device_simt : &device_cuda;
    if (gpu == &device_cuda && cuda_dl_open(&quiet, &cu) != ST_OK && !cu.cuInit)
        return open_cpu_because(cx, call, "no GPU driver", out);
    if (gpu->open(&quiet, call, out) == ST_OK) {
        (*out)->chosen = true;
        return ST_OK;
    }
    log_say(cx, LOG_WARN, "the GPU is not used: %s", quiet.msg);
    return open_cpu_because(cx, call, "the GPU is not used", out);
}

/* The number behind "cuda:", -1 when there is none. */
static Status spec_gpu(Ctx *cx, const char *spec, int *gpu)
{
    char *end;
    if (spec[4] == '\0')
        return ST_OK;
    const long n = strtol(spec + 5, &end, 10);
    if (!isdigit((unsigned char)spec[5]) || *end || n > 1 << 20)
        return FAIL(cx, USAGE, "--device %.40s: wants a number behind cuda:", spec);
    if (*gpu >= 0 && *gpu != n)
        return FAIL(cx, USAGE, "--device %.40s and --gpu-id %d name two GPUs", spec, *gpu);
    *gpu = (int)n;
    return ST_OK;
}

Status gtc_device_open_with(Ctx *cx, const char *spec, const GtcDeviceOptions *opt, GtcDevice **out)
{
    DeviceCall call = { opt->threads, opt->gpu_id - 1, opt->gpu_memory_fraction };
    *out = NULL;
    if (!spec || strcmp(spec, "auto") == 0)
        return opt->no_gpu       ? open_cpu_because(cx, &call, "GPUs are not wanted", out)
               : opt->gpu_id > 0 ? device_cuda.open(cx, &call, out)
                                 : open_auto(cx, &call, out);
    if (strcmp(spec, "cpu") == 0)
        return device_cpu.open(cx, &call, out);
    if (strcmp(spec, "cuda") == 0 || strncmp(spec, "cuda:", 5) == 0) {
        if (opt->no_gpu)
            return FAIL(cx, USAGE, "--device %.40s and --no-gpu contradict each other", spec);
        TRY(spec_gpu(cx, spec, &call.gpu));
        return device_cuda.open(cx, &call, out);
    }
    if (strcmp(spec, "simt") == 0)
        return device_simt.open(cx, &call, out);
    return FAIL(cx, USAGE, "no device \"%.40s\": wants auto, cpu, cuda, cuda:N or simt", spec);
}

Status gtc_device_open(Ctx *cx, const char *spec, int threads, GtcDevice **out)
{
    return gtc_device_open_with(cx, spec, &(GtcDeviceOptions){ .threads = threads }, out);
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

bool gtc_device_is_chosen(const GtcDevice *d)
{
    return d->chosen;
}

int64_t gtc_device_room(const GtcDevice *d)
{
    return d->room;
}

const char *gtc_device_describe(const GtcDevice *d)
{
    return d->describe;
}

bool gtc_device_load(GtcDevice *d, GtcGpuLoad *out)
{
    return d->ops->look && d->ops->look(d, out);
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
