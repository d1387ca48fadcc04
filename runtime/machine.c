/* SPDX-License-Identifier: Apache-2.0 */
/* machine: what can be asked of this machine without opening a device to work with. */
#include <stdio.h>
#include <string.h>

#include "runtime/cc.h"
#include "runtime/cublaslt_dl.h"
#include "runtime/cudnn_dl.h"
#include "runtime/dev_cuda.h"
#include "runtime/nvml.h"
#include "runtime/nvrtc_dl.h"

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

/* ------------------------------------------------------------ libraries */

static void find_driver(Ctx *cx, GtcLibrary *out, int *version)
{
    CudaDriver cu;
    Ctx quiet = *cx;
    snprintf(out->name, sizeof out->name, "CUDA driver");
    *version = 0;
    out->found =
        cuda_dl_open(&quiet, &cu) == ST_OK && cu.cuDriverGetVersion(version) == CUDA_SUCCESS;
    if (out->found)
        snprintf(out->text, sizeof out->text, "for CUDA %d.%d", *version / 1000,
                 *version % 1000 / 10);
    else
        snprintf(out->text, sizeof out->text, "%.500s", quiet.msg);
}

static void find_nvrtc(Ctx *cx, GtcLibrary *out, int driver)
{
    Nvrtc n;
    Ctx quiet = *cx;
    snprintf(out->name, sizeof out->name, "NVRTC");
    out->found = nvrtc_dl_open(&quiet, driver, &n) == ST_OK;
    if (out->found)
        snprintf(out->text, sizeof out->text, "%d.%d, for capability %d.%d to %d.%d: %.400s",
                 n.major, n.minor, n.arch[0] / 10, n.arch[0] % 10, n.arch[n.narch - 1] / 10,
                 n.arch[n.narch - 1] % 10, n.path);
    else
        snprintf(out->text, sizeof out->text, "%.500s", quiet.msg);
}

static void find_nvml(Ctx *cx, GtcLibrary *out)
{
    Ctx quiet = *cx;
    snprintf(out->name, sizeof out->name, "NVML");
    out->found = nvml_find(&quiet, out->text, sizeof out->text) == ST_OK;
    if (!out->found)
        snprintf(out->text, sizeof out->text, "%.500s", quiet.msg);
}

static void find_cublaslt(Ctx *cx, GtcLibrary *out)
{
    CublasLt lt;
    Ctx quiet = *cx;
    snprintf(out->name, sizeof out->name, "cuBLASLt");
    out->found = cublaslt_dl_open(&quiet, &lt) == ST_OK;
    if (out->found)
        snprintf(out->text, sizeof out->text, "%zu.%zu: %.450s", lt.version / 10000,
                 lt.version % 10000 / 100, lt.path);
    else
        snprintf(out->text, sizeof out->text, "%.500s", quiet.msg);
}

static void find_cudnn(Ctx *cx, GtcLibrary *out)
{
    Cudnn dnn;
    Ctx quiet = *cx;
    snprintf(out->name, sizeof out->name, "cuDNN");
    out->found = cudnn_dl_open(&quiet, &dnn) == ST_OK;
    if (out->found)
        snprintf(out->text, sizeof out->text, "%zu.%zu: %.450s", dnn.version / 10000,
                 dnn.version % 10000 / 100, dnn.path);
    else
        snprintf(out->text, sizeof out->text, "%.500s", quiet.msg);
}

int gtc_libraries(Ctx *cx, GtcLibrary *out, int max)
{
    int version = 0, n = 0;
    if (n < max)
        find_driver(cx, &out[n++], &version);
    if (n < max)
        find_nvrtc(cx, &out[n++], version);
    if (n < max)
        find_nvml(cx, &out[n++]);
    if (n < max)
        find_cublaslt(cx, &out[n++]);
    if (n < max)
        find_cudnn(cx, &out[n++]);
    return n;
}

/* ------------------------------------------------------------ devices */

/* One on the host: only when it is open it knows its compiler. */
static int list_opened(Ctx *cx, const DeviceOps *ops, GtcDeviceInfo *out)
{
    GtcDevice *d;
    Ctx quiet = *cx;
    if (ops->open(&quiet, &(DeviceCall){ .gpu = -1 }, &d) != ST_OK)
        return 0;
    if (ops == &device_simt) {
        cuda_tell(d, out);
    } else {
        *out = (GtcDeviceInfo){ .units = d->target.threads };
        snprintf(out->name, sizeof out->name, "%s", d->ops->name);
        snprintf(out->description, sizeof out->description, "%s", d->describe);
    }
    ops->close(d);
    return 1;
}

int gtc_devices(Ctx *cx, GtcDeviceInfo *out, int max)
{
    CudaDriver cu;
    Ctx quiet = *cx;
    int n = max > 0 ? list_opened(cx, &device_cpu, out) : 0;
    if (n < max && cuda_dl_open(&quiet, &cu) == ST_OK)
        n += cuda_list(&quiet, &cu, &device_cuda, out + n, max - n);
    if (n < max)
        n += list_opened(&quiet, &device_simt, out + n);
    return n;
}
