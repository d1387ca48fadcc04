/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_run: the steps of a program as one CUDA graph.
 *
 *     inputs ─copy─▶ stream ── graph: a node a launch, edges from addresses ── outputs ─copy─▶ host
 *
 * The graph is made at the first run, of the steps as they stand: edge.c finds which of them must
 * wait for which, a kernel's launches follow one another, the copies at the end are nodes too.  One
 * call launches it, and the driver runs side by side what no edge orders.
 *
 * A library is called once, while a stream records what it does, and stands in the graph as a graph
 * of its own.
 *
 * A step that has no code is evaluated on the host, between what it reads being fetched and what it
 * wrote being sent back; it cuts the program in parts, and each part is a graph of its own.  Where
 * the driver makes no graph the launches of a part are put into the stream one by one, which is
 * slower and said aloud once.
 *
 * Inputs that are large are copied by another stream, while the run before still works, into one of
 * two places from which the run takes them: two events for each place say when it is full, and when
 * it may be filled again.
 *
 * Memory that carries nothing from run to run is filled with NaN before the first: a step that
 * reads what no earlier one wrote then shows. */
#include "runtime/cuda_call.h"

#include <stdlib.h>
#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/os.h"
#include "runtime/edge.h"

typedef struct Part { /* steps[first .. last), or one step to interpret */
    int first, last;
    bool interpret;
    CUgraphExec exec; /* NULL: launched one by one */
} Part;

typedef struct CudaParts {
    Part *part;
    int n;
    CUevent event[2]; /* around a kernel that is timed; NULL until one is */
    CUevent *done;    /* [depth]: the last run of each slot */
    int depth;
    CUstream copies;           /* NULL: there are no stages */
    CUevent full[2], taken[2]; /* of each stage */
    int64_t staged;            /* runs so far */
} CudaParts;

/* What one call works with. */
typedef struct Run {
    Ctx *cx;
    const CudaDriver *cu;
    const CudaQueue *q;
    CudaModule *m;
    const Schedule *s;
    int slot;
} Run;

_Static_assert(sizeof(void *) == sizeof(CUdeviceptr), "a kernel's parameter is an address");

static CUdeviceptr address(const void *device)
{
    return (CUdeviceptr)(uintptr_t)device;
}

Status cuda_enter(Ctx *cx, const CudaQueue *q)
{
    return cuda_check(cx, q->cu, "cuCtxSetCurrent", q->cu->cuCtxSetCurrent(q->context));
}

static Status wait_all(const Run *r)
{
    return cuda_check(r->cx, r->cu, "cuStreamSynchronize",
                      r->cu->cuStreamSynchronize(r->q->stream));
}

static Status fetch(const Run *r, void *host, const void *device, int64_t bytes)
{
    if (bytes == 0)
        return ST_OK;
    return cuda_check(
        r->cx, r->cu, "cuMemcpyDtoHAsync",
        r->cu->cuMemcpyDtoHAsync_v2(host, address(device), (size_t)bytes, r->q->stream));
}

static Status send(const Run *r, void *device, const void *host, int64_t bytes)
{
    if (bytes == 0)
        return ST_OK;
    return cuda_check(
        r->cx, r->cu, "cuMemcpyHtoDAsync",
        r->cu->cuMemcpyHtoDAsync_v2(address(device), host, (size_t)bytes, r->q->stream));
}

/* Whatever the answer is. */
static void all_done(const CudaQueue *q, const CudaModule *m)
{
    if (m->parts && m->parts->copies)
        q->cu->cuStreamSynchronize(m->parts->copies);
    q->cu->cuStreamSynchronize(q->stream);
}

/* ------------------------------------------------------------ one by one */

static Status launch(const Run *r, CUfunction fn, const Launch *l, void **params)
{
    CUlaunchAttribute together = { .id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE, .value.cooperative = 1 };
    const CUlaunchConfig c = {
        .gridDimX = (unsigned)l->blocks,
        .gridDimY = 1,
        .gridDimZ = 1,
        .blockDimX = (unsigned)l->threads,
        .blockDimY = 1,
        .blockDimZ = 1,
        .sharedMemBytes = (unsigned)l->smem,
        .hStream = r->q->stream,
        .attrs = &together,
        .numAttrs = l->cooperative,
    };
    return cuda_check(r->cx, r->cu, l->entry, r->cu->cuLaunchKernelEx(&c, fn, params, NULL));
}

/* A launch's parameters are the addresses of the step's pointers. */
static void **params_of(Arena *arena, const Step *s)
{
    const uint32_t n = s->nin + s->nout + 2;
    void **p = arena_array(arena, void *, n);
    for (uint32_t i = 0; i < n; i++)
        p[i] = &s->arg[i];
    return p;
}

static Status step_launch(const Run *r, Arena *scratch, const Step *s)
{
    if (s->kernel < 0) {
        if (s->copy_bytes == 0)
            return ST_OK;
        return cuda_check(r->cx, r->cu, "cuMemcpyDtoDAsync",
                          r->cu->cuMemcpyDtoDAsync_v2(address(s->arg[1]), address(s->arg[0]),
                                                      (size_t)s->copy_bytes, r->q->stream));
    }
    const CudaCode *code = &r->m->code[s->kernel];
    if (code->call)
        return code->call->ops->enqueue(r->cx, code->call->lib, &code->call->plan, r->q->stream,
                                        s->arg);
    void **params = params_of(scratch, s);
    for (int i = 0; i < code->n; i++)
        TRY(launch(r, code->fn[i], &code->launch[i], params));
    return ST_OK;
}

static Status part_launch(const Run *r, const Part *p)
{
    Arena *scratch = arena_new();
    Status status = ST_OK;
    for (int i = p->first; i < p->last && status == ST_OK; i++)
        status = step_launch(r, scratch, &r->s->step[i]);
    arena_free(scratch);
    return status;
}

/* ------------------------------------------------------------ a graph */

static bool does_nothing(const Run *r, const Step *s)
{
    const CudaCode *code = s->kernel < 0 ? NULL : &r->m->code[s->kernel];
    return code ? code->n == 0 && !code->call : s->copy_bytes == 0;
}

/* What the steps of a part touch, without those that do nothing; step[] says which are left. */
static TouchList touches(const Run *r, Arena *a, const Part *p, int *step)
{
    Touch *touch = NULL;
    unsigned n = 0, cap = 0;
    int left = 0;
    int32_t *first = arena_array(a, int32_t, p->last - p->first + 1);
    for (int i = p->first; i < p->last; i++) {
        const Step *s = &r->s->step[i];
        if (does_nothing(r, s))
            continue;
        first[left] = (int32_t)n;
        step[left++] = i;
        for (uint32_t k = 0; k < s->nin + s->nout + 2; k++) {
            arena_grow(a, touch, n, cap);
            touch[n++] = (Touch){ address(s->arg[k]), s->bytes[k], k >= s->nin };
        }
    }
    first[left] = (int32_t)n;
    return (TouchList){ touch, first, left };
}

static Status add_copy(const Run *r, CUgraph g, const Step *s, const CUgraphNode *after,
                       size_t nafter, CUgraphNode *node)
{
    const size_t n = (size_t)s->copy_bytes;
    const CUDA_MEMCPY3D c = {
        .srcMemoryType = CU_MEMORYTYPE_DEVICE,
        .srcDevice = address(s->arg[0]),
        .srcPitch = n,
        .srcHeight = 1,
        .dstMemoryType = CU_MEMORYTYPE_DEVICE,
        .dstDevice = address(s->arg[1]),
        .dstPitch = n,
        .dstHeight = 1,
        .WidthInBytes = n,
        .Height = 1,
        .Depth = 1,
    };
    return cuda_check(r->cx, r->cu, "cuGraphAddMemcpyNode",
                      r->cu->cuGraphAddMemcpyNode(node, g, after, nafter, &c, r->q->context));
}

static Status add_launch(const Run *r, CUgraph g, CUfunction fn, const Launch *l, void **params,
                         const CUgraphNode *after, size_t nafter, CUgraphNode *node)
{
    const CUDA_KERNEL_NODE_PARAMS k = {
        .func = fn,
        .gridDimX = (unsigned)l->blocks,
        .gridDimY = 1,
        .gridDimZ = 1,
        .blockDimX = (unsigned)l->threads,
        .blockDimY = 1,
        .blockDimZ = 1,
        .sharedMemBytes = (unsigned)l->smem,
        .kernelParams = params,
    };
    TRY(cuda_check(r->cx, r->cu, "cuGraphAddKernelNode",
                   r->cu->cuGraphAddKernelNode_v2(node, g, after, nafter, &k)));
    if (!l->cooperative)
        return ST_OK;
    const CUkernelNodeAttrValue together = { .cooperative = 1 };
    return cuda_check(
        r->cx, r->cu, "cuGraphKernelNodeSetAttribute",
        r->cu->cuGraphKernelNodeSetAttribute(*node, CU_LAUNCH_ATTRIBUTE_COOPERATIVE, &together));
}

static Status add_call(const Run *r, CUgraph g, const Step *s, const CudaCall *call,
                       const CUgraphNode *after, size_t nafter, CUgraphNode *node)
{
    CUgraph child = NULL;
    TRY(cuda_call_capture(r->cx, r->q, call, s->arg, &child));
    const Status status =
        cuda_check(r->cx, r->cu, "cuGraphAddChildGraphNode",
                   r->cu->cuGraphAddChildGraphNode(node, g, after, nafter, child));
    r->cu->cuGraphDestroy(child);
    return status;
}

/* The nodes of a step, the first of which waits for after[]; *node is the last. */
static Status add_step(const Run *r, Arena *a, CUgraph g, const Step *s, const CUgraphNode *after,
                       size_t nafter, CUgraphNode *node)
{
    if (s->kernel < 0)
        return add_copy(r, g, s, after, nafter, node);
    const CudaCode *code = &r->m->code[s->kernel];
    if (code->call)
        return add_call(r, g, s, code->call, after, nafter, node);
    void **params = params_of(a, s);
    for (int i = 0; i < code->n; i++) {
        const CUgraphNode before = *node;
        TRY(add_launch(r, g, code->fn[i], &code->launch[i], params, i ? &before : after,
                       i ? 1 : nafter, node));
    }
    return ST_OK;
}

static Status add_steps(const Run *r, Arena *a, CUgraph g, const Part *p)
{
    int *step = arena_array(a, int, p->last - p->first);
    const TouchList list = touches(r, a, p, step);
    const EdgeList edge = edge_find(a, &list);
    CUgraphNode *last = arena_array(a, CUgraphNode, list.n),
                *after = arena_array(a, CUgraphNode, list.n);
    for (int i = 0; i < list.n; i++) {
        size_t n = 0;
        for (int32_t k = edge.first[i]; k < edge.first[i + 1]; k++)
            after[n++] = last[edge.from[k]];
        TRY(add_step(r, a, g, &r->s->step[step[i]], after, n, &last[i]));
    }
    return ST_OK;
}

static Status make_exec(const Run *r, CUgraph g, const Part *p, CUgraphExec *exec)
{
    Arena *a = arena_new();
    Status status = add_steps(r, a, g, p);
    arena_free(a);
    TRY(status);
    TRY(cuda_check(r->cx, r->cu, "cuGraphInstantiate",
                   r->cu->cuGraphInstantiateWithFlags(exec, g, 0)));
    status = cuda_check(r->cx, r->cu, "cuGraphUpload", r->cu->cuGraphUpload(*exec, r->q->stream));
    if (status != ST_OK) {
        r->cu->cuGraphExecDestroy(*exec);
        *exec = NULL;
    }
    return status;
}

static void part_make(const Run *r, Part *p)
{
    Ctx quiet = *r->cx; /* what fails here is no failure of the run */
    Run mine = *r;
    CUgraph g = NULL;
    mine.cx = &quiet;
    Status status = cuda_check(&quiet, r->cu, "cuGraphCreate", r->cu->cuGraphCreate(&g, 0));
    if (status == ST_OK) {
        status = make_exec(&mine, g, p, &p->exec);
        r->cu->cuGraphDestroy(g);
    }
    if (status != ST_OK)
        log_say(r->cx, LOG_WARN, "no CUDA graph: %s; kernels are launched one by one", quiet.msg);
}

/* ------------------------------------------------------------ on the host */

static Status interpret(const Run *r, const Step *s)
{
    const uint32_t n = s->nin + s->nout;
    Arena *a = arena_new();
    void **host = arena_array(a, void *, n + 1);
    Status status = ST_OK;
    for (uint32_t i = 0; i < n && status == ST_OK; i++) {
        host[i] = r->q->os->alloc(s->bytes[i] > 0 ? (size_t)s->bytes[i] : 1);
        if (!host[i])
            status = FAIL(r->cx, MEMORY, "no memory to interpret a kernel: %lld bytes",
                          (long long)s->bytes[i]);
        else if (i < s->nin)
            status = fetch(r, host[i], s->arg[i], s->bytes[i]);
    }
    if (status == ST_OK)
        status = wait_all(r);
    if (status == ST_OK)
        status = device_interpret(r->cx, s, host);
    for (uint32_t i = s->nin; i < n && status == ST_OK; i++)
        status = send(r, s->arg[i], host[i], s->bytes[i]);
    const Status done = wait_all(r); /* whatever happened: the buffers go */
    for (uint32_t i = 0; i < n; i++)
        if (host[i])
            r->q->os->release(host[i]);
    arena_free(a);
    return status == ST_OK ? done : status;
}

/* ------------------------------------------------------------ the first run */

static int parts_cut(const Schedule *s, Part *part)
{
    int n = 0;
    for (int i = 0; i < s->nstep; i++) {
        const bool alone = s->step[i].body != NULL;
        if (alone || n == 0 || part[n - 1].interpret)
            part[n++] = (Part){ .first = i, .interpret = alone };
        part[n - 1].last = i + 1;
    }
    return n;
}

static Status prepare(const Run *r)
{
    CudaModule *m = r->m;
    for (int i = 0; i < r->s->nplanned; i++) {
        const Transfer *t = &r->s->planned[i];
        TRY(cuda_check(
            r->cx, r->cu, "cuMemsetD8Async",
            r->cu->cuMemsetD8Async(address(t->device), 0xff, (size_t)t->bytes, r->q->stream)));
    }
    m->parts = arena_array(m->arena, CudaParts, 1);
    m->parts->part = arena_array(m->arena, Part, r->s->nstep);
    m->parts->n = parts_cut(r->s, m->parts->part);
    for (int i = 0; i < m->parts->n; i++)
        if (!m->parts->part[i].interpret)
            part_make(r, &m->parts->part[i]);
    return ST_OK;
}

/* One that is not timed costs less to record. */
static Status slots_make(const Run *r)
{
    CudaParts *p = r->m->parts;
    if (!p->done)
        p->done = arena_array(r->m->arena, CUevent, r->s->depth);
    for (; p->depth < r->s->depth; p->depth++)
        TRY(cuda_check(r->cx, r->cu, "cuEventCreate",
                       r->cu->cuEventCreate(&p->done[p->depth], CU_EVENT_DISABLE_TIMING)));
    return ST_OK;
}

/* Each of them may be there already, from a time when the next could not be made. */
static Status stages_make(const Run *r)
{
    CudaParts *p = r->m->parts;
    if (!p->copies)
        TRY(cuda_check(r->cx, r->cu, "cuStreamCreate",
                       r->cu->cuStreamCreate(&p->copies, CU_STREAM_NON_BLOCKING)));
    CUevent *const event[] = { &p->full[0], &p->full[1], &p->taken[0], &p->taken[1] };
    for (int i = 0; i < 4; i++)
        if (!*event[i])
            TRY(cuda_check(r->cx, r->cu, "cuEventCreate",
                           r->cu->cuEventCreate(event[i], CU_EVENT_DISABLE_TIMING)));
    return ST_OK;
}

void cuda_run_end(const CudaQueue *q, CudaModule *m)
{
    CudaParts *p = m->parts;
    if (!p)
        return;
    all_done(q, m);
    if (p->copies)
        q->cu->cuStreamDestroy_v2(p->copies);
    for (int i = 0; i < 2; i++) {
        if (p->full[i])
            q->cu->cuEventDestroy_v2(p->full[i]);
        if (p->taken[i])
            q->cu->cuEventDestroy_v2(p->taken[i]);
    }
    for (int i = 0; i < p->depth; i++)
        q->cu->cuEventDestroy_v2(p->done[i]);
    for (int i = 0; i < p->n; i++)
        if (p->part[i].exec)
            q->cu->cuGraphExecDestroy(p->part[i].exec);
    for (int i = 0; i < 2; i++)
        if (p->event[i])
            q->cu->cuEventDestroy_v2(p->event[i]);
    m->parts = NULL;
}

/* ------------------------------------------------------------ running */

static Status part_run(const Run *r, const Part *p)
{
    if (p->interpret)
        return interpret(r, &r->s->step[p->first]);
    if (!p->exec)
        return part_launch(r, p);
    return cuda_check(r->cx, r->cu, "cuGraphLaunch", r->cu->cuGraphLaunch(p->exec, r->q->stream));
}

static Status step_timed(const Run *r, Arena *scratch, const Step *s, double *ms)
{
    const CUevent *e = r->m->parts->event;
    float spent = 0;
    if (s->body)
        return interpret(r, s);
    TRY(cuda_check(r->cx, r->cu, "cuEventRecord", r->cu->cuEventRecord(e[0], r->q->stream)));
    TRY(step_launch(r, scratch, s));
    TRY(cuda_check(r->cx, r->cu, "cuEventRecord", r->cu->cuEventRecord(e[1], r->q->stream)));
    TRY(cuda_check(r->cx, r->cu, "cuEventSynchronize", r->cu->cuEventSynchronize(e[1])));
    TRY(cuda_check(r->cx, r->cu, "cuEventElapsedTime",
                   r->cu->cuEventElapsedTime(&spent, e[0], e[1])));
    if (s->kernel >= 0)
        ms[s->kernel] += (double)spent;
    return ST_OK;
}

/* One by one, so that a time is one step's own. */
static Status run_timed(const Run *r, double *ms)
{
    CUevent *e = r->m->parts->event;
    for (int i = 0; i < 2; i++)
        if (!e[i])
            TRY(cuda_check(r->cx, r->cu, "cuEventCreate",
                           r->cu->cuEventCreate(&e[i], CU_EVENT_DEFAULT)));
    Arena *scratch = arena_new();
    Status status = ST_OK;
    for (int i = 0; i < r->s->nstep && status == ST_OK; i++)
        status = step_timed(r, scratch, &r->s->step[i], ms);
    arena_free(scratch);
    return status;
}

static Status inputs_stage(const Run *r, const Transfer *in)
{
    CudaParts *p = r->m->parts;
    const int turn = (int)(p->staged++ % 2);
    const CUdeviceptr stage = address(r->s->stage[turn]);
    const size_t n = (size_t)in->bytes;
    TRY(stages_make(r));
    if (p->staged > 2 && !BUG(72))
        TRY(cuda_check(r->cx, r->cu, "cuStreamWaitEvent",
                       r->cu->cuStreamWaitEvent(p->copies, p->taken[turn], 0)));
    TRY(cuda_check(r->cx, r->cu, "cuMemcpyHtoDAsync",
                   r->cu->cuMemcpyHtoDAsync_v2(stage, in->host, n, p->copies)));
    TRY(cuda_check(r->cx, r->cu, "cuEventRecord", r->cu->cuEventRecord(p->full[turn], p->copies)));
    TRY(cuda_check(r->cx, r->cu, "cuStreamWaitEvent",
                   r->cu->cuStreamWaitEvent(r->q->stream, p->full[turn], 0)));
    TRY(cuda_check(r->cx, r->cu, "cuMemcpyDtoDAsync",
                   r->cu->cuMemcpyDtoDAsync_v2(address(in->device), stage, n, r->q->stream)));
    return cuda_check(r->cx, r->cu, "cuEventRecord",
                      r->cu->cuEventRecord(p->taken[turn], r->q->stream));
}

static Status run_all(const Run *r, double *ms)
{
    const Schedule *s = r->s;
    if (!r->m->parts)
        TRY(prepare(r));
    if (r->m->parts->depth < s->depth)
        TRY(slots_make(r));
    const Transfer *in = s->in + (ptrdiff_t)(r->slot % s->in_depth) * s->nin,
                   *out = s->out + (ptrdiff_t)r->slot * s->nout;
    for (int i = 0; i < s->nin; i++)
        TRY(s->stage[0] ? inputs_stage(r, &in[i]) : send(r, in[i].device, in[i].host, in[i].bytes));
    if (ms)
        TRY(run_timed(r, ms));
    for (int i = 0; i < r->m->parts->n && !ms; i++)
        TRY(part_run(r, &r->m->parts->part[i]));
    for (int i = 0; i < s->nout; i++)
        TRY(fetch(r, out[i].host, out[i].device, out[i].bytes));
    if (ms)
        return wait_all(r);
    return cuda_check(r->cx, r->cu, "cuEventRecord",
                      r->cu->cuEventRecord(r->m->parts->done[r->slot], r->q->stream));
}

Status cuda_run_wait(Ctx *cx, const CudaQueue *q, const CudaModule *m, int slot)
{
    TRY(cuda_enter(cx, q));
    const Status status = cuda_check(cx, q->cu, "cuEventSynchronize",
                                     q->cu->cuEventSynchronize(m->parts->done[slot]));
    if (status != ST_OK)
        all_done(q, m);
    return status;
}

Status cuda_run(Ctx *cx, const CudaQueue *q, CudaModule *m, const Schedule *s, int slot, double *ms)
{
    const Run r = { .cx = cx, .cu = q->cu, .q = q, .m = m, .s = s, .slot = slot };
    TRY(cuda_enter(cx, q));
    const Status status = run_all(&r, ms);
    if (status != ST_OK)
        all_done(q, m); /* nothing may still be under way */
    return status;
}
