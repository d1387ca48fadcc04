/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_call: kernels that are calls of a library.
 *
 * A library may not have what is asked for, may allocate behind our back or do something that no
 * graph can hold.  It is found out when a program is loaded, on memory of the trial's own: the call
 * runs once, so that the library loads its code, and is captured once, as part of another graph.
 * One that fails there is refused with the reason, and since every call stands beside a kernel of
 * gtc's own, that one is compiled instead.  Nothing of it is left to the first step. */
#include "runtime/cuda_call.h"

#include <stdio.h>
#include <string.h>

const CallOps *const call_cuda[CALL_LIBRARIES] = {
    [CALL_CUBLASLT] = &call_cublaslt, [CALL_CUDNN] = &call_cudnn, [CALL_CUDNN_RNN] = &call_cudnn_rnn
};

static bool is_open(Ctx *cx, CudaCalls *c, CallLibrary which)
{
    if (!c->tried[which] && c->ops[which]) {
        Ctx quiet = *cx;
        c->tried[which] = true;
        if (c->ops[which]->open(&quiet, &c->lib[which]) != ST_OK) {
            c->lib[which] = NULL;
            log_say(cx, LOG_WARN, "%s; own kernels are taken in its place", quiet.msg);
        }
    }
    return c->lib[which] != NULL;
}

void cuda_call_close(CudaCalls *c)
{
    for (int i = 0; i < CALL_LIBRARIES; i++)
        if (c->lib[i])
            c->ops[i]->close(c->lib[i]);
    *c = (CudaCalls){ .ops = c->ops };
}

Status cuda_call_capture(Ctx *cx, const CudaQueue *q, const CudaCall *call, void *const *arg,
                         CUgraph *out)
{
    CUgraph g = NULL;
    TRY(cuda_check(cx, q->cu, "cuStreamBeginCapture",
                   q->cu->cuStreamBeginCapture_v2(q->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)));
    Status status = call->ops->enqueue(cx, call->lib, &call->plan, q->stream, arg);
    const CUresult end = q->cu->cuStreamEndCapture(q->stream, &g); /* whatever happened */
    if (status == ST_OK)
        status = cuda_check(cx, q->cu, "cuStreamEndCapture", end);
    if (status != ST_OK && end == CUDA_SUCCESS && g)
        q->cu->cuGraphDestroy(g);
    *out = status == ST_OK ? g : NULL;
    return status;
}

/* ------------------------------------------------------------ the trial */

enum { ALIGN = 256 };

static int64_t room(int64_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Where each argument of the trial lies from `at` on; returns the bytes of all. */
static int64_t trial_lay(const LibraryCall *call, int64_t workspace, char *at, void **arg)
{
    const Graph *g = call->body;
    int64_t used = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->ninput; i++) {
        arg[n++] = at + used;
        used += room(type_bytes(&g->node[g->input[i]].type));
    }
    for (uint32_t i = 0; i < g->nout; i++) {
        arg[n++] = at + used;
        used += room(type_bytes(&g->node[g->out[i].value].type));
    }
    arg[n] = at + used;
    return used + room(workspace);
}

/* A graph with memory of its own can be captured, but not stand in another. */
static Status as_child(Ctx *cx, const CudaDriver *cu, CUgraph child)
{
    CUgraph g = NULL;
    CUgraphNode node;
    TRY(cuda_check(cx, cu, "cuGraphCreate", cu->cuGraphCreate(&g, 0)));
    const Status status = cuda_check(cx, cu, "cuGraphAddChildGraphNode",
                                     cu->cuGraphAddChildGraphNode(&node, g, NULL, 0, child));
    cu->cuGraphDestroy(g);
    return status;
}

static Status trial_run(Ctx *cx, const CudaQueue *q, const CudaCall *call, void *const *arg)
{
    CUgraph g = NULL;
    TRY(call->ops->enqueue(cx, call->lib, &call->plan, q->stream, arg));
    TRY(cuda_check(cx, q->cu, "cuStreamSynchronize", q->cu->cuStreamSynchronize(q->stream)));
    TRY(cuda_call_capture(cx, q, call, arg, &g));
    const Status status = as_child(cx, q->cu, g);
    q->cu->cuGraphDestroy(g);
    return status;
}

static Status trial(Ctx *cx, GtcDevice *d, const CudaQueue *q, const CudaCall *call)
{
    const LibraryCall *what = call->plan.call;
    Arena *scratch = arena_new();
    void **arg = arena_array(scratch, void *, what->body->ninput + what->body->nout + 1);
    const int64_t bytes = trial_lay(what, call->plan.workspace, NULL, arg);
    char *at = d->ops->alloc(d, MEMORY_DEVICE, bytes);
    Status status = at ? ST_OK
                       : FAIL(cx, MEMORY, "no memory to try it out: %lld bytes%s", (long long)bytes,
                              d->trouble);
    if (at) {
        trial_lay(what, call->plan.workspace, at, arg);
        status = trial_run(cx, q, call, arg);
        q->cu->cuStreamSynchronize(q->stream); /* before its memory goes */
        d->ops->release(d, MEMORY_DEVICE, at);
    }
    arena_free(scratch);
    return status;
}

/* ------------------------------------------------------------ a program's calls */

/* NULL: refused, said aloud. */
static CudaCall *call_make(Ctx *cx, CudaCalls *c, GtcDevice *d, const CudaQueue *q, Arena *arena,
                           const Kernel *k)
{
    const CallLibrary which = k->call->library;
    Ctx quiet = *cx;
    char name[48];
    if (!is_open(cx, c, which))
        return NULL;
    CudaCall *made = arena_array(arena, CudaCall, 1);
    *made = (CudaCall){ .ops = c->ops[which], .lib = c->lib[which], .plan.call = k->call };
    Status status = made->ops->prepare(&quiet, made->lib, k->call, &made->plan);
    if (status == ST_OK) {
        status = trial(&quiet, d, q, made);
        if (status != ST_OK)
            made->ops->release(made->lib, &made->plan);
    }
    if (status == ST_OK)
        return made;
    made->ops->name(made->lib, name, sizeof name);
    log_say(cx, LOG_WARN, "%s: not by %s: %s; its own kernel is taken", k->name, name, quiet.msg);
    return NULL;
}

static const char *call_text(Arena *arena, const CudaCall *call)
{
    char name[48];
    const CallPlan *plan = &call->plan;
    call->ops->name(call->lib, name, sizeof name);
    return arena_printf(arena, "%s, a child graph: %s%s%s; %lld bytes of workspace", name,
                        plan->call->text, plan->text[0] ? "; " : "", plan->text,
                        (long long)plan->workspace);
}

Status cuda_call_load(Ctx *cx, CudaCalls *c, GtcDevice *d, const CudaQueue *q, const LoadCall *call,
                      CudaModule *m, Code *code)
{
    for (int i = 0; i < call->n; i++) {
        int same = 0;
        code[i] = (Code){ .from = CODE_NONE };
        if (!call->k[i].call)
            continue;
        while (!call->k[same].call || strcmp(call->k[same].name, call->k[i].name) != 0)
            same++;
        if (same < i) { /* equal kernels have equal names; one that was refused stays so */
            m->code[i].call = m->code[same].call;
            code[i] = code[same];
            continue;
        }
        CudaCall *made = call_make(cx, c, d, q, m->arena, &call->k[i]);
        if (!made)
            continue;
        arena_grow(m->arena, m->call, m->ncall, m->call_cap);
        m->call[m->ncall++] = m->code[i].call = made;
        code[i] = (Code){ NULL, CODE_CALL, call_text(m->arena, made), made->plan.workspace };
        made->plan.call = NULL; /* it goes with the pipeline; plans have what they need */
    }
    return ST_OK;
}

void cuda_call_unload(CudaModule *m)
{
    for (unsigned i = 0; i < m->ncall; i++)
        m->call[i]->ops->release(m->call[i]->lib, &m->call[i]->plan);
    m->ncall = 0;
}
