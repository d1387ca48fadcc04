/* SPDX-License-Identifier: Apache-2.0 */
/* simt_stream: streams and events of the host's CUDA driver.
 *
 * What is enqueued becomes a Work that knows what it must come after: the one before it in its
 * stream, those of the NULL stream, the record that its stream was told to wait for.  Nothing runs
 * before somebody waits; then one after the other runs, of any stream whose first one is not held
 * back, by the machine's order, until the awaited one is done.
 *
 * With the shadow each has a number, as an op, and the set of the ops ordered before it: all that
 * its predecessors have in their sets, themselves, and what the host had waited for when it was
 * enqueued.  When numbers run out, everything runs and the history is forgotten. */
#include "runtime/simt_driver_state.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ------------------------------------------------------------ work */

static void work_drop(Work *work);

static void work_finish(Work *work)
{
    for (int i = 0; i < work->ndep; i++)
        work_drop(work->dep[i]);
    free(work->dep);
    work->dep = NULL;
    work->ndep = 0;
    simt_task_free(&work->task);
    if (work->exec)
        work->exec->pending--;
    work->exec = NULL;
}

static void work_drop(Work *work)
{
    if (!work || --work->refs > 0)
        return;
    work_finish(work);
    free(work->before);
    free(work);
}

static bool work_ready(const Work *work)
{
    for (int i = 0; i < work->ndep; i++)
        if (!work->dep[i]->done)
            return false;
    return true;
}

static void set_join(WorkSet *into, const WorkSet *from)
{
    for (int w = 0; w < SIMT_OP_WORDS; w++)
        into->word[w] |= from->word[w];
}

/* All that is ordered before what follows it. */
static void set_after(WorkSet *into, const Work *work)
{
    if (!work->before || !work->nid)
        return;
    set_join(into, work->before);
    for (int i = work->id; i < work->id + work->nid; i++)
        into->word[i / 64] |= 1ull << i % 64;
}

static bool work_after(Work *work, Work *dep)
{
    if (!dep)
        return true;
    Work **more = realloc(work->dep, (size_t)(work->ndep + 1) * sizeof *more);
    if (!more)
        return false;
    work->dep = more;
    work->dep[work->ndep++] = dep;
    dep->refs++;
    if (work->before)
        set_after(work->before, dep);
    return true;
}

/* ------------------------------------------------------------ running */

static CUresult run(SimtDriver *d, CUstream s)
{
    Work *work = s->head;
    CUresult r = d->sticky;
    s->head = work->next;
    if (!s->head)
        s->tail = NULL;
    work->next = NULL;
    if (!r && work->exec) {
        r = simt_exec_run(d, work->exec, work->id, work->before);
    } else if (!r && work->task.kind != TASK_NONE) {
        simt_op_begin(d->m, work->nid ? work->id : 1, simt_task_name(&work->task),
                      work->before ? work->before->word : NULL);
        r = simt_task_run(d, &work->task);
    }
    work->done = true;
    work->when = seconds();
    work_finish(work);
    work_drop(work);
    return r;
}

/* Runs the first of some stream; false: there is none. */
static bool run_one(SimtDriver *d)
{
    int n = d->null.head && work_ready(d->null.head), at = 0;
    for (Handle *h = d->stream; h; h = h->next) {
        const CUstream s = (CUstream)(void *)h;
        n += s->head && work_ready(s->head);
    }
    if (!n)
        return false;
    if (d->opt.machine.order == SIMT_SEEDED)
        at = (int)simt_driver_random(d, (uint32_t)n);
    else if (d->opt.machine.order == SIMT_REVERSE)
        at = n - 1;
    CUstream chosen = NULL;
    if (d->null.head && work_ready(d->null.head) && at-- == 0)
        chosen = &d->null;
    for (Handle *h = d->stream; h && !chosen; h = h->next) {
        const CUstream s = (CUstream)(void *)h;
        if (s->head && work_ready(s->head) && at-- == 0)
            chosen = s;
    }
    run(d, chosen);
    return true;
}

/* Runs what it takes to have it done, and knows of it from then on. */
static CUresult wait_for(SimtDriver *d, Work *work)
{
    if (!work)
        return d->sticky;
    work->refs++;
    while (!work->done)
        gtc_assert(run_one(d), "streams that wait for each other");
    set_after(&d->host, work);
    work_drop(work);
    return d->sticky;
}

CUresult simt_stream_drain(SimtDriver *d)
{
    while (run_one(d))
        ;
    if (d->null.last)
        set_after(&d->host, d->null.last);
    for (Handle *h = d->stream; h; h = h->next)
        if (((CUstream)(void *)h)->last)
            set_after(&d->host, ((CUstream)(void *)h)->last);
    return d->sticky;
}

/* ------------------------------------------------------------ numbers */

static void forget(Work *work)
{
    if (work)
        work->nid = 0;
}

/* n numbers, from a multiple of 64 on when they are several. */
static CUresult take_ids(SimtDriver *d, Work *work, int n)
{
    int at = n > 1 ? (d->next_id + 63) / 64 * 64 : d->next_id;
    if (!d->opt.machine.shadow)
        return CUDA_SUCCESS;
    if (n > SIMT_MAX_OPS - 64)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (at + n > SIMT_MAX_OPS) {
        simt_stream_drain(d);
        simt_op_reset(d->m);
        d->host = (WorkSet){ { 0 } };
        forget(d->null.last);
        for (Handle *h = d->stream; h; h = h->next)
            forget(((CUstream)(void *)h)->last);
        for (Handle *h = d->event; h; h = h->next)
            forget(((CUevent)(void *)h)->work);
        at = n > 1 ? 64 : 1;
    }
    work->before = calloc(1, sizeof *work->before);
    if (!work->before)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *work->before = d->host;
    work->id = at;
    work->nid = n;
    d->next_id = at + n;
    return CUDA_SUCCESS;
}

/* ------------------------------------------------------------ enqueueing */

CUstream simt_stream_known(SimtDriver *d, CUstream s)
{
    if (!s || s == (CUstream)1) /* CU_STREAM_LEGACY */
        return &d->null;
    return simt_handle_known(d->stream, (Handle *)(void *)s) ? s : NULL;
}

/* A new one at the end of s; *out is borrowed. */
static CUresult enqueue(SimtDriver *d, CUstream s, Work *also, int ids, Work **out)
{
    Work *work = calloc(1, sizeof *work);
    CUresult r = work ? take_ids(d, work, ids) : CUDA_ERROR_OUT_OF_MEMORY;
    if (r != CUDA_SUCCESS) {
        free(work);
        return r;
    }
    work->refs = 2; /* of the queue and of s->last */
    bool ok = work_after(work, s->last) && work_after(work, also);
    if (s == &d->null) {
        for (Handle *h = d->stream; h; h = h->next) {
            const CUstream other = (CUstream)(void *)h;
            ok = ok && (!other->blocking || work_after(work, other->last));
        }
    } else if (s->blocking) {
        ok = ok && work_after(work, d->null.last);
    }
    if (!ok) {
        work->refs = 1;
        work_drop(work);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (s->tail)
        s->tail->next = work;
    else
        s->head = work;
    s->tail = work;
    work_drop(s->last);
    s->last = *out = work;
    return CUDA_SUCCESS;
}

CUresult simt_stream_task(SimtDriver *d, CUstream s, Task *t)
{
    Work *work = NULL;
    if (s->capture) {
        CUgraphNode node = NULL;
        const CUresult r = simt_graph_node(s->capture, &s->captured, s->captured ? 1 : 0, t, &node);
        if (r == CUDA_SUCCESS)
            s->captured = node;
        return r;
    }
    const CUresult r = enqueue(d, s, NULL, 1, &work);
    if (r != CUDA_SUCCESS) {
        simt_task_free(t);
        return r;
    }
    work->task = *t;
    return CUDA_SUCCESS;
}

CUresult simt_stream_graph(SimtDriver *d, CUstream s, CUgraphExec exec)
{
    Work *work = NULL;
    if (s->capture)
        return CUDA_ERROR_NOT_SUPPORTED;
    const CUresult r = enqueue(d, s, NULL, exec->nnode > 1 ? exec->nnode : 1, &work);
    if (r != CUDA_SUCCESS)
        return r;
    work->exec = exec;
    exec->pending++;
    return CUDA_SUCCESS;
}

/* ------------------------------------------------------------ copies */

/* Pageable memory is read before the call returns, and written only then. */
static CUresult enqueue_copy(CUstream handle, void *dst, const void *src, size_t bytes,
                             bool to_device, bool from_device)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    CUstream s = r == CUDA_SUCCESS ? simt_stream_known(d, handle) : NULL;
    Task t = { .kind = TASK_NONE };
    if (r == CUDA_SUCCESS)
        r = s ? simt_task_copy(d, &t, dst, src, bytes, to_device, from_device)
              : CUDA_ERROR_INVALID_HANDLE;
    if (r != CUDA_SUCCESS)
        return simt_driver_leave(d, r);
    const bool pinned = (to_device || simt_pinned_find(d, dst, bytes) >= 0) &&
                        (from_device || simt_pinned_find(d, src, bytes) >= 0);
    if (!pinned && s->capture)
        return simt_driver_leave(d, CUDA_ERROR_NOT_SUPPORTED);
    if (!pinned && !from_device && bytes) {
        t.snapshot = malloc(bytes);
        if (!t.snapshot)
            return simt_driver_leave(d, CUDA_ERROR_OUT_OF_MEMORY);
        memcpy(t.snapshot, src, bytes);
        t.src = t.snapshot;
    }
    const bool late = !s->capture;
    r = simt_stream_task(d, s, &t);
    if (r == CUDA_SUCCESS && !to_device && pinned && late)
        memset(dst, 0xff, bytes); /* whoever reads it too early shall see that */
    if (r == CUDA_SUCCESS && !to_device && !pinned)
        r = wait_for(d, s->last);
    return simt_driver_leave(d, r);
}

static CUresult to_device(CUdeviceptr dst, const void *src, size_t bytes, CUstream s)
{
    return enqueue_copy(s, (void *)(uintptr_t)dst, src, bytes, true, false);
}

static CUresult to_host(void *dst, CUdeviceptr src, size_t bytes, CUstream s)
{
    return enqueue_copy(s, dst, (const void *)(uintptr_t)src, bytes, false, true);
}

static CUresult on_device(CUdeviceptr dst, CUdeviceptr src, size_t bytes, CUstream s)
{
    return enqueue_copy(s, (void *)(uintptr_t)dst, (const void *)(uintptr_t)src, bytes, true, true);
}

static CUresult fill(CUdeviceptr dst, unsigned char value, size_t bytes, CUstream handle)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    CUstream s = r == CUDA_SUCCESS ? simt_stream_known(d, handle) : NULL;
    void *p = (void *)(uintptr_t)dst;
    if (r == CUDA_SUCCESS)
        r = !s                                      ? CUDA_ERROR_INVALID_HANDLE
            : bytes && !simt_inside(d->m, p, bytes) ? CUDA_ERROR_INVALID_VALUE
                                                    : CUDA_SUCCESS;
    Task t = { .kind = TASK_FILL,
               .dst = p,
               .bytes = bytes,
               .rows = 1,
               .value = value,
               .width = 1,
               .to_device = true };
    if (r == CUDA_SUCCESS)
        r = simt_stream_task(d, s, &t);
    return simt_driver_leave(d, r);
}

static CUresult launch(const CUlaunchConfig *c, CUfunction f, void **params, void **extra)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    CUstream s = r == CUDA_SUCCESS ? simt_stream_known(d, c->hStream) : NULL;
    Grid g = { { c->gridDimX, c->gridDimY, c->gridDimZ },
               { c->blockDimX, c->blockDimY, c->blockDimZ },
               c->sharedMemBytes,
               false };
    Task t = { .kind = TASK_NONE };
    if (r == CUDA_SUCCESS && (!s || extra))
        r = s ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_HANDLE;
    for (unsigned i = 0; r == CUDA_SUCCESS && i < c->numAttrs; i++)
        if (c->attrs[i].id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
            g.cooperative = c->attrs[i].value.cooperative;
        else
            r = CUDA_ERROR_NOT_SUPPORTED;
    if (r == CUDA_SUCCESS)
        r = simt_task_kernel(d, &t, f, &g, params);
    if (r == CUDA_SUCCESS)
        r = simt_stream_task(d, s, &t);
    return simt_driver_leave(d, r);
}

/* ------------------------------------------------------------ streams */

static CUresult stream_create(CUstream *out, unsigned flags)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_OUT_OF_MEMORY);
    if (r == CUDA_SUCCESS && flags & ~(unsigned)CU_STREAM_NON_BLOCKING)
        r = CUDA_ERROR_INVALID_VALUE;
    CUstream s = r == CUDA_SUCCESS ? calloc(1, sizeof *s) : NULL;
    if (s) {
        s->blocking = !(flags & CU_STREAM_NON_BLOCKING);
        simt_handle_add(&d->stream, &s->h);
        *out = s;
    } else if (r == CUDA_SUCCESS) {
        r = CUDA_ERROR_OUT_OF_MEMORY;
    }
    return simt_driver_leave(d, r);
}

/* What is in its queue does not run. */
void simt_stream_destroy(SimtDriver *d, CUstream s)
{
    while (s->head) {
        Work *work = s->head;
        s->head = work->next;
        work->done = true;
        work_finish(work);
        work_drop(work);
    }
    work_drop(s->last);
    s->last = s->tail = NULL;
    if (s->capture)
        simt_graph_destroy(s->capture);
    if (simt_handle_drop(&d->stream, &s->h))
        free(s);
}

static CUresult stream_destroy(CUstream s)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (d && simt_handle_known(d->stream, (Handle *)(void *)s)) {
        const CUresult done = wait_for(d, s->last); /* the real one would let it run on */
        r = r ? r : done;
        simt_stream_destroy(d, s);
    } else if (r == CUDA_SUCCESS) {
        r = CUDA_ERROR_INVALID_HANDLE;
    }
    return simt_driver_leave(d, r);
}

static CUresult stream_synchronize(CUstream handle)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    CUstream s = r == CUDA_SUCCESS ? simt_stream_known(d, handle) : NULL;
    if (r == CUDA_SUCCESS)
        r = !s           ? CUDA_ERROR_INVALID_HANDLE
            : s->capture ? CUDA_ERROR_NOT_PERMITTED
                         : wait_for(d, s->last);
    return simt_driver_leave(d, r);
}

static CUresult begin_capture(CUstream handle, CUstreamCaptureMode mode)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    CUstream s = r == CUDA_SUCCESS ? simt_stream_known(d, handle) : NULL;
    if (r == CUDA_SUCCESS)
        r = !s || s == &d->null || s->capture || mode < 0 || mode > 2 ? CUDA_ERROR_INVALID_VALUE
                                                                      : CUDA_SUCCESS;
    if (r == CUDA_SUCCESS)
        r = simt_graph_new(d, false, &s->capture);
    if (r == CUDA_SUCCESS)
        s->captured = NULL;
    return simt_driver_leave(d, r);
}

static CUresult end_capture(CUstream handle, CUgraph *out)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    CUstream s = d ? simt_stream_known(d, handle) : NULL;
    CUgraph g = s ? s->capture : NULL;
    if (s)
        s->capture = NULL;
    if (r == CUDA_SUCCESS && g) {
        g->listed = true;
        simt_handle_add(&d->graph, &g->h);
        *out = g;
    } else if (r == CUDA_SUCCESS) {
        r = CUDA_ERROR_INVALID_VALUE;
    } else if (g) {
        simt_graph_destroy(g);
    }
    return simt_driver_leave(d, r);
}

/* ------------------------------------------------------------ events */

static CUresult event_create(CUevent *out, unsigned flags)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_OUT_OF_MEMORY);
    CUevent e = r == CUDA_SUCCESS ? calloc(1, sizeof *e) : NULL;
    if (e) {
        e->timed = !(flags & CU_EVENT_DISABLE_TIMING);
        simt_handle_add(&d->event, &e->h);
        *out = e;
    } else if (r == CUDA_SUCCESS) {
        r = CUDA_ERROR_OUT_OF_MEMORY;
    }
    return simt_driver_leave(d, r);
}

void simt_event_destroy(CUevent e)
{
    work_drop(e->work);
    free(e);
}

static CUresult event_destroy(CUevent e)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (d && simt_handle_drop(&d->event, (Handle *)(void *)e))
        simt_event_destroy(e);
    else if (r == CUDA_SUCCESS)
        r = CUDA_ERROR_INVALID_HANDLE;
    return simt_driver_leave(d, r);
}

static bool event_known(const SimtDriver *d, CUevent e)
{
    return simt_handle_known(d->event, (Handle *)(void *)e);
}

static CUresult event_record(CUevent e, CUstream handle)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    CUstream s = r == CUDA_SUCCESS ? simt_stream_known(d, handle) : NULL;
    Work *work = NULL;
    if (r == CUDA_SUCCESS)
        r = !s || !event_known(d, e) ? CUDA_ERROR_INVALID_HANDLE
            : s->capture             ? CUDA_ERROR_NOT_SUPPORTED
                                     : enqueue(d, s, NULL, 1, &work);
    if (r == CUDA_SUCCESS) {
        work_drop(e->work);
        e->work = work;
        work->refs++;
    }
    return simt_driver_leave(d, r);
}

/* An event that was never recorded holds nothing back. */
static CUresult stream_wait_event(CUstream handle, CUevent e, unsigned flags)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    CUstream s = r == CUDA_SUCCESS ? simt_stream_known(d, handle) : NULL;
    Work *work = NULL;
    if (r == CUDA_SUCCESS)
        r = !s || !event_known(d, e) ? CUDA_ERROR_INVALID_HANDLE
            : flags                  ? CUDA_ERROR_INVALID_VALUE
            : s->capture             ? CUDA_ERROR_NOT_SUPPORTED
            : e->work                ? enqueue(d, s, e->work, 1, &work)
                                     : CUDA_SUCCESS;
    return simt_driver_leave(d, r);
}

static CUresult event_synchronize(CUevent e)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (r == CUDA_SUCCESS)
        r = event_known(d, e) ? wait_for(d, e->work) : CUDA_ERROR_INVALID_HANDLE;
    return simt_driver_leave(d, r);
}

static CUresult event_elapsed(float *out, CUevent from, CUevent to)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (r == CUDA_SUCCESS)
        r = !event_known(d, from) || !event_known(d, to) || !from->timed || !to->timed ||
                    !from->work || !to->work
                ? CUDA_ERROR_INVALID_HANDLE
            : !from->work->done || !to->work->done ? CUDA_ERROR_NOT_READY
                                                   : CUDA_SUCCESS;
    if (r == CUDA_SUCCESS)
        *out = (float)(1e3 * (to->work->when - from->work->when));
    return simt_driver_leave(d, r);
}

void simt_stream_fill(CudaDriver *cu)
{
    cu->cuMemcpyHtoDAsync_v2 = to_device;
    cu->cuMemcpyDtoHAsync_v2 = to_host;
    cu->cuMemcpyDtoDAsync_v2 = on_device;
    cu->cuMemsetD8Async = fill;
    cu->cuStreamCreate = stream_create;
    cu->cuStreamDestroy_v2 = stream_destroy;
    cu->cuStreamSynchronize = stream_synchronize;
    cu->cuStreamWaitEvent = stream_wait_event;
    cu->cuStreamBeginCapture_v2 = begin_capture;
    cu->cuStreamEndCapture = end_capture;
    cu->cuEventCreate = event_create;
    cu->cuEventDestroy_v2 = event_destroy;
    cu->cuEventRecord = event_record;
    cu->cuEventSynchronize = event_synchronize;
    cu->cuEventElapsedTime = event_elapsed;
    cu->cuLaunchKernelEx = launch;
}
