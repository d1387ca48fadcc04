/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_SIMT_DRIVER_STATE_H
#define GTC_RUNTIME_SIMT_DRIVER_STATE_H

#include <pthread.h>

#include "runtime/simt_driver.h"

/* The inside of the host's CUDA driver, for simt_driver.c, simt_module.c, simt_stream.c and
 * simt_graph.c. */

enum {
    SIMT_SMS = 8,
    SIMT_BLOCKS_SM = 2, /* resident blocks of a multiprocessor */
    SIMT_MAX_THREADS_SM = 2048,
    SIMT_SMEM_DEFAULT = 48 << 10,
    SIMT_OP_WORDS = SIMT_MAX_OPS / 64,
    SIMT_CONTEXT_THREADS = 64, /* host threads that can have the context current */
};

/* Ops of the shadow, a bit each. */
typedef struct WorkSet {
    uint64_t word[SIMT_OP_WORDS];
} WorkSet;

typedef struct SimtDriver SimtDriver;

/* Everything the caller holds handles of is in a list, which tells handles from other pointers and
 * what has not been given back. */
typedef struct Handle Handle;
struct Handle {
    Handle *next;
};

struct CUfunc_st {
    Handle h; /* in its module's list */
    SimtKernel kernel;
    char name[128];
    int nparam, *size; /* bytes of each parameter */
    int max_smem;
    bool cluster; /* more than 8 blocks of one allowed */
};

struct CUmod_st {
    Handle h;
    SimtCode *code;
    Handle *function;
};

/* What a launch, copy or fill does; kept by Work and by nodes. */
typedef enum TaskKind { TASK_NONE, TASK_KERNEL, TASK_COPY, TASK_FILL, TASK_CALL } TaskKind;
typedef struct Task {
    TaskKind kind;
    CUfunction f;
    SimtLaunch launch;
    void **arg;   /* pointers into `values` */
    char *values; /* the parameters */
    void *dst;
    const void *src;
    size_t bytes;          /* of a row */
    size_t rows, pitch;    /* of a fill */
    unsigned value, width; /* the element that is filled in, and its bytes: 1, 2 or 4 */
    bool to_device, from_device;
    char *snapshot; /* of pageable memory; src points to it */
    const struct Graph *body; /* of a call: inputs and results are arg[], then workspace */
} Task;

/* Something enqueued.  Freed when no queue, stream, event or later work refers to it. */
typedef struct Work Work;
struct Work {
    int refs;
    bool done;
    Work *next; /* in the stream's queue */
    Work **dep; /* that come before, also of other streams */
    int ndep;
    Task task;        /* of a launch, copy, fill */
    CUgraphExec exec; /* of a graph's launch */
    int id, nid;      /* its numbers in the shadow */
    WorkSet *before;  /* with the shadow: ops ordered before it */
    double when;      /* done, in seconds */
};

struct CUstream_st {
    Handle h;
    bool blocking;        /* waits for the NULL stream, and it for this one */
    Work *head, *tail;    /* the queue */
    Work *last;           /* enqueued last, done or not; NULL: none ever */
    CUgraph capture;      /* what it records into, or NULL */
    CUgraphNode captured; /* the last node recorded */
};

struct CUevent_st {
    Handle h;
    Work *work; /* recorded last, or NULL */
    bool timed;
};

struct CUgraphNode_st {
    CUgraph graph;
    int index;
    Task task;
    CUgraph child; /* a copy, or NULL */
    CUgraphNode *dep;
    size_t ndep;
};

struct CUgraph_st {
    Handle h;
    bool listed; /* a caller's, not a copy */
    CUgraphNode *node;
    int nnode, cap;
};

typedef struct ExecNode { /* of a graph whose child graphs have been put in their places */
    Task task;
    char name[64];
    int *dep;
    int ndep;
} ExecNode;

struct CUgraphExec_st {
    Handle h;
    ExecNode *node;
    int nnode;
    uint64_t *before; /* of each node: the nodes ordered before it, `words` words */
    int words;
    int pending; /* launches that have not run */
};

struct SimtDriver {
    pthread_mutex_t lock;
    SimtDriverOptions opt;
    Ctx cx; /* of the machine */
    SimtMachine *m;
    uint32_t rng;
    uint64_t calls, failed;
    bool initialised;
    int retained;                           /* of the primary context */
    pthread_t thread[SIMT_CONTEXT_THREADS]; /* that have it current */
    int nthread;
    CUresult sticky;
    char msg[1024]; /* of the kernel that failed */
    Handle *stream, *event, *graph, *exec, *module;
    struct CUstream_st null; /* the NULL stream */
    struct PinnedMemory {
        char *p;
        size_t bytes;
    } * pinned;
    int npinned, pinned_cap;
    int next_id;
    WorkSet host; /* what the host has waited for */
};

/* What a call needs, for simt_driver_enter. */
typedef enum Needs { NEEDS_NOTHING, NEEDS_INIT, NEEDS_CONTEXT } Needs;

/* Every call begins and ends with these.  enter counts the call, locks, and returns the error with
 * which it must fail: `injected` when it is its turn, the sticky one, or that something it needs is
 * not there.  *d is NULL when there is no driver. */
CUresult simt_driver_enter(SimtDriver **d, Needs needs, CUresult injected);
CUresult simt_driver_leave(SimtDriver *d, CUresult r);

uint32_t simt_driver_random(SimtDriver *d, uint32_t below);

void simt_handle_add(Handle **list, Handle *h);
/* False: it is not there. */
bool simt_handle_drop(Handle **list, Handle *h);
bool simt_handle_known(const Handle *list, const Handle *h);

/* The pinned allocation that holds these bytes, -1: none. */
int simt_pinned_find(const SimtDriver *d, const void *p, size_t bytes);

/* simt_module.c */
void simt_module_fill(CudaDriver *cu);
void simt_module_destroy(SimtDriver *d, CUmodule mod);
bool simt_function_known(const SimtDriver *d, CUfunction f);
/* Resident blocks of a multiprocessor. */
int simt_function_occupancy(int threads, size_t smem);

/* simt_task.c: copies parameters; CUDA_ERROR_INVALID_VALUE when the launch cannot be. */
typedef struct Grid {
    unsigned grid[3], block[3], smem;
    bool cooperative;
} Grid;
CUresult simt_task_kernel(SimtDriver *d, Task *t, CUfunction f, const Grid *g, void **params);
CUresult simt_task_copy(SimtDriver *d, Task *t, void *dst, const void *src, size_t bytes,
                        bool to_device, bool from_device);
/* A library's call, which does what body does, on arg: inputs, results, workspace of so many bytes,
 * all of them the device's.  The body stays the caller's. */
CUresult simt_task_call(SimtDriver *d, Task *t, const struct Graph *body, void *const *arg,
                        size_t workspace);
CUresult simt_task_clone(Task *out, const Task *t);
void simt_task_free(Task *t);
/* Runs it as the op that has begun. */
CUresult simt_task_run(SimtDriver *d, Task *t);
/* "NAME", "a copy", "a fill". */
const char *simt_task_name(const Task *t);

/* simt_stream.c */
void simt_stream_fill(CudaDriver *cu);
void simt_stream_destroy(SimtDriver *d, CUstream s);
void simt_event_destroy(CUevent e);
/* Runs everything that is in a queue. */
CUresult simt_stream_drain(SimtDriver *d);
/* Enqueues; takes over *t or drops a launch of exec on the stream. */
CUresult simt_stream_task(SimtDriver *d, CUstream s, Task *t);
CUresult simt_stream_graph(SimtDriver *d, CUstream s, CUgraphExec exec);
/* The stream of a handle; NULL: none. */
CUstream simt_stream_known(SimtDriver *d, CUstream s);

/* simt_graph.c */
void simt_graph_fill(CudaDriver *cu);
void simt_graph_destroy(CUgraph g);
void simt_exec_destroy(CUgraphExec e);
CUresult simt_graph_new(SimtDriver *d, bool listed, CUgraph *out);
/* Adds a node; takes over *t. */
CUresult simt_graph_node(CUgraph g, const CUgraphNode *dep, size_t ndep, Task *t, CUgraphNode *out);
/* Runs an instantiated graph whose first node has that number in the shadow. */
CUresult simt_exec_run(SimtDriver *d, CUgraphExec e, int id, const WorkSet *before);

#endif
