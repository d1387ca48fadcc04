/* SPDX-License-Identifier: Apache-2.0 */
/* simt_graph: graphs of the host's CUDA driver.
 *
 * A node can only depend on nodes that are there, so their order of making is one in which they can
 * run.  To instantiate is to put child graphs in their places, between two empty nodes, and to find
 * for each node all those that the edges order before it.  A launch runs the nodes one at a time in
 * any order that the edges allow; the shadow takes what is before a node from the edges alone, so
 * that a missing one is found whatever the order was. */
#include "runtime/simt_driver_state.h"

#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------------------ graphs and nodes */

CUresult simt_graph_new(SimtDriver *d, bool listed, CUgraph *out)
{
    CUgraph g = *out = calloc(1, sizeof *g);
    if (!g)
        return CUDA_ERROR_OUT_OF_MEMORY;
    g->listed = listed;
    if (listed)
        simt_handle_add(&d->graph, &g->h);
    return CUDA_SUCCESS;
}

static void node_free(CUgraphNode n)
{
    if (!n)
        return;
    simt_task_free(&n->task);
    if (n->child)
        simt_graph_destroy(n->child);
    free(n->dep);
    free(n);
}

void simt_graph_destroy(CUgraph g)
{
    for (int i = 0; i < g->nnode; i++)
        node_free(g->node[i]);
    free(g->node);
    free(g);
}

static bool node_known(const struct CUgraph_st *g, const struct CUgraphNode_st *n)
{
    for (int i = 0; i < g->nnode; i++)
        if (g->node[i] == n)
            return true;
    return false;
}

CUresult simt_graph_node(CUgraph g, const CUgraphNode *dep, size_t ndep, Task *t, CUgraphNode *out)
{
    CUresult r = CUDA_SUCCESS;
    CUgraphNode n = calloc(1, sizeof *n);
    if (n && g->nnode == g->cap) {
        const int cap = g->cap ? 2 * g->cap : 32;
        CUgraphNode *more = realloc(g->node, (size_t)cap * sizeof(CUgraphNode));
        if (more) {
            g->node = more;
            g->cap = cap;
        }
    }
    if (n)
        n->dep = calloc(ndep + 1, sizeof(CUgraphNode));
    if (!n || !n->dep || g->nnode == g->cap)
        r = CUDA_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; r == CUDA_SUCCESS && i < ndep; i++)
        if (node_known(g, dep[i]))
            n->dep[n->ndep++] = dep[i];
        else
            r = CUDA_ERROR_INVALID_VALUE;
    if (r != CUDA_SUCCESS) {
        simt_task_free(t);
        node_free(n);
        return r;
    }
    n->graph = g;
    n->task = *t;
    n->index = g->nnode;
    g->node[g->nnode++] = *out = n;
    return CUDA_SUCCESS;
}

static CUresult graph_clone(const struct CUgraph_st *g, CUgraph *out)
{
    CUresult r = simt_graph_new(NULL, false, out);
    for (int i = 0; r == CUDA_SUCCESS && i < g->nnode; i++) {
        const struct CUgraphNode_st *from = g->node[i];
        CUgraphNode *dep = calloc(from->ndep + 1, sizeof *dep), node = NULL;
        Task t = { .kind = TASK_NONE };
        r = dep ? simt_task_clone(&t, &from->task) : CUDA_ERROR_OUT_OF_MEMORY;
        for (size_t k = 0; r == CUDA_SUCCESS && k < from->ndep; k++)
            dep[k] = (*out)->node[from->dep[k]->index];
        if (r == CUDA_SUCCESS)
            r = simt_graph_node(*out, dep, from->ndep, &t, &node);
        if (r == CUDA_SUCCESS && from->child)
            r = graph_clone(from->child, &node->child);
        free(dep);
    }
    if (r != CUDA_SUCCESS && *out) {
        simt_graph_destroy(*out);
        *out = NULL;
    }
    return r;
}

static CUresult graph_create(CUgraph *out, unsigned flags)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_OUT_OF_MEMORY);
    if (r == CUDA_SUCCESS)
        r = flags ? CUDA_ERROR_INVALID_VALUE : simt_graph_new(d, true, out);
    return simt_driver_leave(d, r);
}

static CUresult graph_destroy(CUgraph g)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (d && simt_handle_drop(&d->graph, (Handle *)(void *)g))
        simt_graph_destroy(g);
    else if (r == CUDA_SUCCESS)
        r = CUDA_ERROR_INVALID_HANDLE;
    return simt_driver_leave(d, r);
}

static CUresult add(SimtDriver *d, CUgraph g, const CUgraphNode *dep, size_t ndep, Task *t,
                    CUgraphNode *out)
{
    if (simt_handle_known(d->graph, (Handle *)(void *)g))
        return simt_graph_node(g, dep, ndep, t, out);
    simt_task_free(t);
    return CUDA_ERROR_INVALID_HANDLE;
}

static CUresult add_kernel(CUgraphNode *out, CUgraph g, const CUgraphNode *dep, size_t ndep,
                           const CUDA_KERNEL_NODE_PARAMS *p)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_OUT_OF_MEMORY);
    const Grid grid = { { p->gridDimX, p->gridDimY, p->gridDimZ },
                        { p->blockDimX, p->blockDimY, p->blockDimZ },
                        p->sharedMemBytes,
                        false };
    Task t = { .kind = TASK_NONE };
    if (r == CUDA_SUCCESS && (p->extra || p->kern))
        r = CUDA_ERROR_NOT_SUPPORTED;
    if (r == CUDA_SUCCESS)
        r = simt_task_kernel(d, &t, p->func, &grid, p->kernelParams);
    if (r == CUDA_SUCCESS)
        r = add(d, g, dep, ndep, &t, out);
    return simt_driver_leave(d, r);
}

static CUresult add_copy(CUgraphNode *out, CUgraph g, const CUgraphNode *dep, size_t ndep,
                         const CUDA_MEMCPY3D *p, CUcontext c)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_OUT_OF_MEMORY);
    const bool from = p->srcMemoryType == CU_MEMORYTYPE_DEVICE,
               to = p->dstMemoryType == CU_MEMORYTYPE_DEVICE;
    const char *src = from ? (const char *)(uintptr_t)p->srcDevice : p->srcHost;
    char *dst = to ? (char *)(uintptr_t)p->dstDevice : p->dstHost;
    Task t = { .kind = TASK_NONE };
    (void)c;
    if (r == CUDA_SUCCESS && (p->Height != 1 || p->Depth != 1 || p->srcY || p->srcZ || p->dstY ||
                              p->dstZ || p->srcArray || p->dstArray))
        r = CUDA_ERROR_NOT_SUPPORTED;
    if (r == CUDA_SUCCESS && (!src || !dst))
        r = CUDA_ERROR_INVALID_VALUE;
    if (r == CUDA_SUCCESS)
        r = simt_task_copy(d, &t, dst + p->dstXInBytes, src + p->srcXInBytes, p->WidthInBytes, to,
                           from);
    if (r == CUDA_SUCCESS)
        r = add(d, g, dep, ndep, &t, out);
    return simt_driver_leave(d, r);
}

static CUresult add_fill(CUgraphNode *out, CUgraph g, const CUgraphNode *dep, size_t ndep,
                         const CUDA_MEMSET_NODE_PARAMS *p, CUcontext c)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_OUT_OF_MEMORY);
    Task t = { .kind = TASK_FILL,
               .dst = (void *)(uintptr_t)p->dst,
               .bytes = p->width * p->elementSize,
               .rows = p->height,
               .pitch = p->pitch,
               .value = p->value,
               .width = p->elementSize,
               .to_device = true };
    const size_t last = p->height ? (p->height - 1) * p->pitch : 0;
    (void)c;
    if (r == CUDA_SUCCESS && ((p->elementSize != 1 && p->elementSize != 2 && p->elementSize != 4) ||
                              !p->height || !p->width || (p->height > 1 && p->pitch < t.bytes) ||
                              p->dst % p->elementSize || !simt_inside(d->m, t.dst, last + t.bytes)))
        r = CUDA_ERROR_INVALID_VALUE;
    if (r == CUDA_SUCCESS)
        r = add(d, g, dep, ndep, &t, out);
    return simt_driver_leave(d, r);
}

static CUresult add_child(CUgraphNode *out, CUgraph g, const CUgraphNode *dep, size_t ndep,
                          CUgraph child)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_OUT_OF_MEMORY);
    CUgraph copy = NULL;
    Task t = { .kind = TASK_NONE };
    if (r == CUDA_SUCCESS && !simt_handle_known(d->graph, (Handle *)(void *)child))
        r = CUDA_ERROR_INVALID_HANDLE;
    if (r == CUDA_SUCCESS)
        r = graph_clone(child, &copy);
    if (r == CUDA_SUCCESS)
        r = add(d, g, dep, ndep, &t, out);
    if (r == CUDA_SUCCESS)
        (*out)->child = copy;
    else if (copy)
        simt_graph_destroy(copy);
    return simt_driver_leave(d, r);
}

static CUresult set_attribute(CUgraphNode n, CUkernelNodeAttrID id, const CUkernelNodeAttrValue *v)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    bool known = false;
    for (const Handle *h = d ? d->graph : NULL; h && !known; h = h->next)
        known = node_known((const struct CUgraph_st *)(const void *)h, n);
    if (r == CUDA_SUCCESS)
        r = !known || n->task.kind != TASK_KERNEL   ? CUDA_ERROR_INVALID_VALUE
            : id != CU_LAUNCH_ATTRIBUTE_COOPERATIVE ? CUDA_ERROR_NOT_SUPPORTED
                                                    : CUDA_SUCCESS;
    if (r != CUDA_SUCCESS)
        return simt_driver_leave(d, r);
    const SimtLaunch *l = &n->task.launch;
    const int fit = SIMT_SMS * simt_function_occupancy(l->threads, (size_t)l->smem);
    if (v->cooperative && l->blocks > fit)
        return simt_driver_leave(d, CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    n->task.launch.cooperative = v->cooperative;
    return simt_driver_leave(d, CUDA_SUCCESS);
}

/* ------------------------------------------------------------ instantiation */

static int count(const struct CUgraph_st *g)
{
    int n = 0;
    for (int i = 0; i < g->nnode; i++)
        n += g->node[i]->child ? 2 + count(g->node[i]->child) : 1;
    return n;
}

static bool depend(ExecNode *n, int on)
{
    int *more = realloc(n->dep, (size_t)(n->ndep + 1) * sizeof *more);
    if (!more)
        return false;
    n->dep = more;
    n->dep[n->ndep++] = on;
    return true;
}

/* Puts g's nodes behind those of e; nodes without edges depend on `after` (-1: on none). */
static CUresult flatten(CUgraphExec e, const struct CUgraph_st *g, int after)
{
    int *end = calloc((size_t)g->nnode + 1, sizeof *end); /* of each node: where it is done */
    CUresult r = end ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    for (int i = 0; r == CUDA_SUCCESS && i < g->nnode; i++) {
        const struct CUgraphNode_st *from = g->node[i];
        const int at = e->nnode++;
        ExecNode *n = &e->node[at];
        bool ok = true;
        r = simt_task_clone(&n->task, &from->task);
        snprintf(n->name, sizeof n->name, "%.40s (node %d)", simt_task_name(&n->task), at);
        for (size_t k = 0; k < from->ndep; k++)
            ok = ok && depend(n, end[from->dep[k]->index]);
        if (!from->ndep && after >= 0)
            ok = ok && depend(n, after);
        end[i] = at;
        if (r == CUDA_SUCCESS && from->child) {
            r = flatten(e, from->child, at);
            end[i] = e->nnode++;
            for (int k = at; k < end[i]; k++)
                ok = ok && depend(&e->node[end[i]], k);
        }
        if (r == CUDA_SUCCESS && !ok)
            r = CUDA_ERROR_OUT_OF_MEMORY;
    }
    free(end);
    return r;
}

static CUresult close_order(CUgraphExec e)
{
    const size_t words = ((size_t)e->nnode + 63) / 64;
    e->words = (int)words;
    e->before = calloc((size_t)e->nnode * words + 1, sizeof *e->before);
    if (!e->before)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (int i = 0; i < e->nnode; i++)
        for (int k = 0; k < e->node[i].ndep; k++) {
            const int on = e->node[i].dep[k];
            uint64_t *set = e->before + (size_t)i * words;
            for (size_t w = 0; w < words; w++)
                set[w] |= e->before[(size_t)on * words + w];
            set[on / 64] |= 1ull << on % 64;
        }
    return CUDA_SUCCESS;
}

void simt_exec_destroy(CUgraphExec e)
{
    for (int i = 0; e->node && i < e->nnode; i++) {
        simt_task_free(&e->node[i].task);
        free(e->node[i].dep);
    }
    free(e->node);
    free(e->before);
    free(e);
}

static CUresult instantiate(CUgraphExec *out, CUgraph g, unsigned long long flags)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_OUT_OF_MEMORY);
    if (r == CUDA_SUCCESS)
        r = !simt_handle_known(d->graph, (Handle *)(void *)g) ? CUDA_ERROR_INVALID_HANDLE
            : flags                                           ? CUDA_ERROR_NOT_SUPPORTED
                                                              : CUDA_SUCCESS;
    if (r != CUDA_SUCCESS)
        return simt_driver_leave(d, r);
    CUgraphExec e = calloc(1, sizeof *e);
    if (e)
        e->node = calloc((size_t)count(g) + 1, sizeof *e->node);
    r = e && e->node ? flatten(e, g, -1) : CUDA_ERROR_OUT_OF_MEMORY;
    if (r == CUDA_SUCCESS)
        r = close_order(e);
    if (r == CUDA_SUCCESS) {
        simt_handle_add(&d->exec, &e->h);
        *out = e;
    } else if (e) {
        simt_exec_destroy(e);
    }
    return simt_driver_leave(d, r);
}

static CUresult exec_destroy(CUgraphExec e)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (d && simt_handle_known(d->exec, (Handle *)(void *)e)) {
        if (e->pending)
            simt_stream_drain(d);
        simt_handle_drop(&d->exec, &e->h);
        simt_exec_destroy(e);
        r = r ? r : d->sticky;
    } else if (r == CUDA_SUCCESS) {
        r = CUDA_ERROR_INVALID_HANDLE;
    }
    return simt_driver_leave(d, r);
}

static CUresult on_stream(CUgraphExec e, CUstream handle, bool launch)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    CUstream s = r == CUDA_SUCCESS ? simt_stream_known(d, handle) : NULL;
    if (r == CUDA_SUCCESS)
        r = !s || !simt_handle_known(d->exec, (Handle *)(void *)e) ? CUDA_ERROR_INVALID_HANDLE
            : launch                                               ? simt_stream_graph(d, s, e)
                                                                   : CUDA_SUCCESS;
    return simt_driver_leave(d, r);
}

static CUresult upload(CUgraphExec e, CUstream s)
{
    return on_stream(e, s, false);
}

static CUresult launch_graph(CUgraphExec e, CUstream s)
{
    return on_stream(e, s, true);
}

/* ------------------------------------------------------------ running */

/* What is ordered before node i: what is before the launch, and what the edges say. */
static void node_before(const struct CUgraphExec_st *e, int i, int id, WorkSet *set)
{
    for (int w = 0; w < e->words; w++)
        set->word[id / 64 + w] |= e->before[(size_t)i * (size_t)e->words + (size_t)w];
}

static int next_node(SimtDriver *d, const int *open, int n)
{
    int ready = 0, at = 0;
    for (int i = 0; i < n; i++)
        ready += open[i] == 0;
    if (d->opt.machine.order == SIMT_SEEDED)
        at = (int)simt_driver_random(d, (uint32_t)ready);
    else if (d->opt.machine.order == SIMT_REVERSE)
        at = ready - 1;
    for (int i = 0; i < n; i++)
        if (open[i] == 0 && at-- == 0)
            return i;
    return -1;
}

CUresult simt_exec_run(SimtDriver *d, CUgraphExec e, int id, const WorkSet *before)
{
    enum { DONE = -1 };
    int *open = calloc((size_t)e->nnode + 1, sizeof *open); /* edges whose node has not run */
    WorkSet *set = before ? malloc(sizeof *set) : NULL;
    CUresult r = open && (set || !before) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    for (int i = 0; open && i < e->nnode; i++)
        open[i] = e->node[i].ndep;
    for (int left = e->nnode; r == CUDA_SUCCESS && left; left--) {
        const int i = next_node(d, open, e->nnode);
        gtc_assert(i >= 0, "a graph with a circle");
        ExecNode *n = &e->node[i];
        if (set) {
            *set = *before;
            if (e->nnode > 1)
                node_before(e, i, id, set);
        }
        if (n->task.kind != TASK_NONE) {
            simt_op_begin(d->m, set ? id + i : 1, n->name, set ? set->word : NULL);
            r = simt_task_run(d, &n->task);
        }
        open[i] = DONE;
        for (int k = 0; k < e->nnode; k++)
            for (int j = 0; j < e->node[k].ndep; j++)
                open[k] -= e->node[k].dep[j] == i;
    }
    free(set);
    free(open);
    if (r != CUDA_SUCCESS && !d->sticky)
        d->sticky = r;
    return r;
}

void simt_graph_fill(CudaDriver *cu)
{
    cu->cuGraphCreate = graph_create;
    cu->cuGraphDestroy = graph_destroy;
    cu->cuGraphAddKernelNode_v2 = add_kernel;
    cu->cuGraphAddMemcpyNode = add_copy;
    cu->cuGraphAddMemsetNode = add_fill;
    cu->cuGraphAddChildGraphNode = add_child;
    cu->cuGraphKernelNodeSetAttribute = set_attribute;
    cu->cuGraphInstantiateWithFlags = instantiate;
    cu->cuGraphExecDestroy = exec_destroy;
    cu->cuGraphUpload = upload;
    cu->cuGraphLaunch = launch_graph;
}
