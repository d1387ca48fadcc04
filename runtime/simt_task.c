/* SPDX-License-Identifier: Apache-2.0 */
/* simt_task: a launch, a copy or a fill of the host's CUDA driver, with all that it needs copied,
 * so that it can run later or, in a graph, again. */
#include "runtime/device.h"
#include "runtime/simt_driver_state.h"

#include <stdlib.h>
#include <string.h>

static CUresult copy_values(Task *t, void *const *params)
{
    const CUfunction f = t->f;
    t->arg = calloc((size_t)f->nparam + 1, sizeof *t->arg);
    t->values = calloc((size_t)f->nparam + 1, sizeof(void *));
    if (!t->arg || !t->values)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < f->nparam; i++) {
        if (!params || !params[i])
            return CUDA_ERROR_INVALID_VALUE;
        t->arg[i] = t->values + (size_t)i * sizeof(void *);
        memcpy(t->arg[i], params[i], (size_t)f->size[i]);
    }
    return CUDA_SUCCESS;
}

CUresult simt_task_kernel(SimtDriver *d, Task *t, CUfunction f, const Grid *g, void **params)
{
    *t = (Task){ .kind = TASK_KERNEL, .f = f };
    if (!simt_function_known(d, f))
        return CUDA_ERROR_INVALID_HANDLE;
    if (g->grid[1] != 1 || g->grid[2] != 1 || g->block[1] != 1 || g->block[2] != 1 ||
        g->grid[0] < 1 || g->grid[0] > INT32_MAX || g->block[0] < 1 || g->block[0] > 1024 ||
        g->smem > (unsigned)f->max_smem)
        return CUDA_ERROR_INVALID_VALUE;
    const int fit = SIMT_SMS * simt_function_occupancy((int)g->block[0], g->smem);
    if (g->cooperative && g->grid[0] > (unsigned)fit)
        return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    const CUresult r = copy_values(t, params);
    if (r != CUDA_SUCCESS) {
        simt_task_free(t);
        return r;
    }
    t->launch = (SimtLaunch){ .kernel = &f->kernel,
                              .blocks = g->grid[0],
                              .threads = (int)g->block[0],
                              .smem = (int)g->smem,
                              .cooperative = g->cooperative,
                              .arg = t->arg };
    return CUDA_SUCCESS;
}

CUresult simt_task_copy(SimtDriver *d, Task *t, void *dst, const void *src, size_t bytes,
                        bool to_device, bool from_device)
{
    *t = (Task){ .kind = TASK_COPY,
                 .dst = dst,
                 .src = src,
                 .bytes = bytes,
                 .to_device = to_device,
                 .from_device = from_device };
    if (bytes && ((to_device && !simt_inside(d->m, dst, bytes)) ||
                  (from_device && !simt_inside(d->m, src, bytes)) || !dst || !src))
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

static size_t call_args(const Task *t)
{
    return t->body->ninput + t->body->nout;
}

/* Bytes of argument i of a call, the workspace last. */
static size_t call_bytes(const Task *t, size_t i)
{
    const Graph *g = t->body;
    if (i == call_args(t))
        return t->bytes;
    return (size_t)type_bytes(
        &g->node[i < g->ninput ? g->input[i] : g->out[i - g->ninput].value].type);
}

static CUresult copy_args(Task *t, void *const *arg)
{
    const size_t n = call_args(t) + 1;
    t->arg = calloc(n, sizeof *t->arg);
    if (!t->arg)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(t->arg, arg, n * sizeof *arg);
    return CUDA_SUCCESS;
}

CUresult simt_task_call(SimtDriver *d, Task *t, const Graph *body, void *const *arg,
                        size_t workspace)
{
    *t = (Task){ .kind = TASK_CALL, .body = body, .bytes = workspace };
    for (size_t i = 0; i <= call_args(t); i++)
        if (!simt_inside(d->m, arg[i], call_bytes(t, i)))
            return CUDA_ERROR_INVALID_VALUE;
    return copy_args(t, arg);
}

CUresult simt_task_clone(Task *out, const Task *t)
{
    *out = *t;
    out->arg = NULL;
    out->values = NULL;
    if (t->kind == TASK_CALL)
        return copy_args(out, t->arg);
    if (t->kind != TASK_KERNEL)
        return CUDA_SUCCESS;
    const CUresult r = copy_values(out, t->arg);
    if (r != CUDA_SUCCESS)
        simt_task_free(out);
    out->launch.arg = out->arg;
    return r;
}

void simt_task_free(Task *t)
{
    free(t->arg);
    free(t->values);
    free(t->snapshot);
    *t = (Task){ .kind = TASK_NONE };
}

const char *simt_task_name(const Task *t)
{
    return t->kind == TASK_KERNEL ? t->f->name
           : t->kind == TASK_FILL ? "a fill"
           : t->kind == TASK_CALL ? "a library call"
                                  : "a copy";
}

static Status run_copy(SimtDriver *d, const Task *t)
{
    if (t->from_device)
        TRY(simt_op_access(&d->cx, d->m, t->src, t->bytes, false));
    if (t->to_device)
        TRY(simt_op_access(&d->cx, d->m, t->dst, t->bytes, true));
    memmove(t->dst, t->src, t->bytes);
    return ST_OK;
}

static Status run_fill(SimtDriver *d, const Task *t)
{
    for (size_t r = 0; r < t->rows; r++) {
        char *row = (char *)t->dst + r * t->pitch;
        TRY(simt_op_access(&d->cx, d->m, row, t->bytes, true));
        for (size_t i = 0; i < t->bytes; i += t->width)
            memcpy(row + i, &t->value, t->width); /* little-endian */
    }
    return ST_OK;
}

static Status run_call(SimtDriver *d, const Task *t)
{
    const Step step = { .body = t->body, .nin = t->body->ninput, .nout = t->body->nout };
    for (size_t i = 0; i <= call_args(t); i++)
        TRY(simt_op_access(&d->cx, d->m, t->arg[i], call_bytes(t, i), i >= step.nin));
    memset(t->arg[call_args(t)], 0xff, t->bytes);
    return device_interpret(&d->cx, &step, t->arg);
}

CUresult simt_task_run(SimtDriver *d, Task *t)
{
    Status s = ST_OK;
    if (t->kind == TASK_KERNEL && !simt_function_known(d, t->f))
        s = FAIL(&d->cx, INTERNAL, "simt: a launch of a kernel whose module has been unloaded");
    else if (t->kind == TASK_KERNEL)
        s = simt_launch(&d->cx, d->m, &t->launch);
    else if (t->kind == TASK_COPY && t->bytes)
        s = run_copy(d, t);
    else if (t->kind == TASK_FILL && t->bytes)
        s = run_fill(d, t);
    else if (t->kind == TASK_CALL)
        s = run_call(d, t);
    if (s == ST_OK && t->kind == TASK_KERNEL)
        s = simt_red_zones(&d->cx, d->m);
    if (s == ST_OK)
        return CUDA_SUCCESS;
    memcpy(d->msg, d->cx.msg, sizeof d->msg);
    const SimtFault fault = simt_fault(d->m);
    d->sticky = s == ST_MEMORY                  ? CUDA_ERROR_OUT_OF_MEMORY
                : fault == SIMT_FAULT_BOUNDS    ? CUDA_ERROR_ILLEGAL_ADDRESS
                : fault == SIMT_FAULT_ALIGNMENT ? CUDA_ERROR_MISALIGNED_ADDRESS
                                                : CUDA_ERROR_LAUNCH_FAILED;
    return d->sticky;
}
