/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_GTC_H
#define GTC_RUNTIME_GTC_H

#include "ir/base/strbuf.h"
#include "ir/graph.h"

/* The public API: a Graph becomes a Program; Programs share the tensors of a Store. */

typedef struct GtcDevice GtcDevice;
typedef struct GtcStore GtcStore;
typedef struct GtcProgram GtcProgram;

typedef enum GtcMode { GTC_EAGER, GTC_DEFAULT } GtcMode;

/* Who may do what a library on the GPU (cuBLASLt, cuDNN) does too.  Auto: in mode eager the library, where
 * there is one, else an own kernel; all, none: the same in every mode. */
typedef enum GtcLibraryUse { GTC_LIBRARIES_AUTO, GTC_LIBRARIES_ALL, GTC_LIBRARIES_NONE } GtcLibraryUse;

typedef struct GtcOptions {
    GtcMode mode;
    GtcLibraryUse libraries;
    const char *passes;      /* NULL, or the passes to run instead of the mode's, comma separated */
    const char *skip_passes; /* NULL, or passes to leave out */
    bool verify;             /* verify the graph after every pass */
    bool no_cache;           /* neither read nor write the cache */
    /* NULL, or a fused graph whose outputs are batch inputs by name: each run computes them from
     * inputs of that graph's own instead of being given them.  No pass sees the two together, so
     * that the kernels of the rest are what they are without it. */
    const Graph *feed;
    int depth; /* runs that may be under way on a device that works by itself; 0: 4 */
    /* Batch inputs of so many bytes are brought to a GPU while the run before works, and cost their
     * size twice more there; 0: 256 KiB. */
    int64_t stage_bytes;
    void (*dump)(void *arg, const char *stage, const char *text); /* may be NULL */
    void *dump_arg;
    void (*pass_done)(void *arg, const char *pass, uint32_t changed, uint32_t nodes,
                      double ms); /* may be NULL */
    void *pass_done_arg;
} GtcOptions;

/* Devices.  spec: "cpu"; "cuda", the GPU with most free memory; "cuda:N", GPU N of those that are
 * visible; "simt", the host in a GPU's place; "auto", a GPU where one can be used and else the CPU,
 * saying why.  threads: of a CPU; 0: one a core.  ST_ENV when there is no such device. */
typedef struct GtcDeviceOptions {
    int threads;
    bool no_gpu;                /* auto is cpu, and cuda an error */
    int gpu_id;                 /* 1 + N: cuda is cuda:N, auto too; 0: not said */
    double gpu_memory_fraction; /* of a GPU's memory that may be used, 0: all of it */
} GtcDeviceOptions;
Status gtc_device_open_with(Ctx *cx, const char *spec, const GtcDeviceOptions *opt,
                            GtcDevice **out);
Status gtc_device_open(Ctx *cx, const char *spec, int threads, GtcDevice **out);
void gtc_device_close(GtcDevice *d);
const char *gtc_device_name(const GtcDevice *d); /* "cpu" */
const char *
gtc_device_describe(const GtcDevice *d); /* "cpu: 2 threads, AVX-512 (16 lanes), gcc 12.2.0" */
int gtc_device_threads(const GtcDevice *d); /* of a GPU: multiprocessors */
bool gtc_device_is_chosen(const GtcDevice *d); /* a GPU that "auto" took: the CPU would do as well */
/* Bytes of its memory that may yet be taken, as far as is known; -1: its memory is the host's. */
int64_t gtc_device_room(const GtcDevice *d);

/* Devices that plan and spell kernels and run none (ST_USAGE): for one that is open, or for a GPU
 * of that architecture, "sm_80" (NULL: sm_90). */
Status gtc_device_open_text(Ctx *cx, const GtcDevice *like, GtcDevice **out);
Status gtc_device_open_arch(Ctx *cx, const char *arch, GtcDevice **out);

/* The devices of this machine: the CPU, each GPU, the host in a GPU's place.  Returns how many there
 * are, at most max. */
typedef struct GtcDeviceInfo {
    char name[32]; /* as a spec: "cuda:1" */
    char description[256];
    int units;                         /* threads; of a GPU: multiprocessors */
    int capability;                    /* of a GPU: 90 is 9.0; else 0 */
    int64_t memory_bytes, free_bytes; /* of a GPU; else 0 */
} GtcDeviceInfo;
int gtc_devices(Ctx *cx, GtcDeviceInfo *out, int max);

/* What a GPU is busy with, as NVML says; what it does not say is -1 or NAN.  False when nothing is
 * known: no GPU, or no NVML. */
typedef struct GtcGpuLoad {
    int percent;   /* of the last moments in which it worked */
    int64_t bytes; /* of its memory in use, by all processes */
    int others;    /* processes that compute on it besides this one */
    double celsius, watts;
} GtcGpuLoad;
bool gtc_device_load(GtcDevice *d, GtcGpuLoad *out);

/* What kernels of a GPU rest on, tried out one by one: each intrinsic against the host's arithmetic,
 * and how fast copies are.  ST_USAGE on a CPU; a check that fails is no failure but not ok. */
typedef struct GtcCheck {
    char name[32];
    bool ok;
    char text[200];
} GtcCheck;
Status gtc_device_check(Ctx *cx, GtcDevice *d, GtcCheck *out, int max, int *n);

/* The params and states (by name) that Programs share.  A program works on what the device has of
 * them; `data` is the host's.  On a device whose memory is not the host's these are two: whoever
 * wrote to data uploads before the next run, whoever wants to read it downloads first.  Both do all
 * tensors, and nothing where the two are one. */
Status gtc_store_create(Ctx *cx, GtcDevice *d, GtcStore **out);
void gtc_store_destroy(GtcStore *s);
int gtc_store_count(const GtcStore *s);
typedef struct GtcTensor {
    const char *name;
    InputKind kind;
    Type type;
    void *data; /* packed, row-major */
} GtcTensor;
GtcTensor *gtc_store_at(GtcStore *s, int i);
GtcTensor *gtc_store_find(GtcStore *s, const char *name); /* NULL if absent */
Status gtc_store_upload(Ctx *cx, GtcStore *s);
/* A table is a const, zeroed, that is the device's alone: it is written piece by piece, and neither
 * counted nor found nor copied with the others. */
Status gtc_store_table(Ctx *cx, GtcStore *s, const char *name, const Type *type);
Status gtc_store_write(Ctx *cx, GtcStore *s, const char *name, int64_t at, const void *from,
                       int64_t bytes);
Status gtc_store_download(Ctx *cx, GtcStore *s);

/* Compiles g: passes, kernels, C compiler (or cache), memory plan.  Params and states that the
 * store does not have yet are added, zeroed; an existing one must have the same type (ST_TYPE).
 * g must outlive nothing: all that is needed is copied. */
Status gtc_compile(Ctx *cx, GtcDevice *d, GtcStore *s, const Graph *g, const GtcOptions *opt,
                   GtcProgram **out);
void gtc_program_destroy(GtcProgram *p);

/* Batch inputs and outputs, in the graph's order.  Data pointers are the host's, stay valid and are
 * the place to write a batch to and to read results from after a run (outputs that replace a param or state are in the
 * store instead, and have data NULL). */
int gtc_program_input_count(const GtcProgram *p);
GtcTensor gtc_program_input(const GtcProgram *p, int i);
int gtc_program_output_count(const GtcProgram *p);
GtcTensor gtc_program_output(const GtcProgram *p, int i);
int gtc_program_find_input(const GtcProgram *p, const char *name); /* -1 if absent */
int gtc_program_find_output(const GtcProgram *p, const char *name);

/* One run, of the batch inputs as they are now.  Fails with ST_ENV or ST_MEMORY, and only when the
 * device does; else results are in place. */
Status gtc_program_run(Ctx *cx, GtcProgram *p);

/* A run in two halves, for a caller that need not see each result before it begins the next: submit
 * begins a run of the batch inputs as they are now, which may be written to again when it returns;
 * collect waits for the oldest run that is under way and puts its outputs in place.  As many may be
 * under way as gtc_program_depth says: 1 where submit itself does the work. */
int gtc_program_depth(const GtcProgram *p);
Status gtc_program_submit(Ctx *cx, GtcProgram *p);
Status gtc_program_collect(Ctx *cx, GtcProgram *p);

typedef struct GtcKernelInfo {
    const char *name, *label, *planner;
    uint32_t node;      /* Ref in the fused graph */
    const char *layers; /* comma separated ordinals of the layers it does work for, "" if none */
    const char *source, *plan;
    double flops, bytes;
    int launches;     /* of one call: on a GPU there may be several, or none */
    bool interpreted; /* no compiler took it: it runs in the evaluator */
} GtcKernelInfo;
typedef struct GtcProgramInfo {
    int ops;     /* nodes of the graph after differentiation, views and inputs aside */
    int kernels;
    int launches; /* of one run; on a GPU a kernel may be several */
    int compiled, cached, interpreted; /* kernels by where their code came from */
    int calls;                         /* and those that a library does */
    double compile_ms;                 /* whole gtc_compile */
    int64_t peak_bytes;                /* arena + store + workspace: exact, known before running */
    int64_t arena_bytes, weight_bytes, workspace_bytes;
    int64_t data_bytes; /* of consts: tables of data */
} GtcProgramInfo;
GtcProgramInfo gtc_program_info(const GtcProgram *p);
GtcKernelInfo gtc_program_kernel(const GtcProgram *p, int i); /* i < info.kernels */
const char *gtc_program_fused_text(const GtcProgram *p);      /* the graph after all passes */

/* Milliseconds of each kernel, summed over `runs` runs (thread 0's clock).  ms has info.kernels
 * entries. */
Status gtc_program_profile(Ctx *cx, GtcProgram *p, int runs, double *ms);

/* A program of a device of text, written down as a folder of C that runs without gtc: its kernels,
 * steps and memory, the store's tensors as they are, some batches, a Makefile.  The program has an
 * output `loss`.  docs/apps.md. */
typedef struct GtcApp {
    const char *dir;          /* made where it is missing; what it has of these names is replaced */
    const char *const *layer; /* names by ordinal, for comments */
    int nlayer;
    int batches;                               /* at least 1 */
    Status (*fill)(Ctx *cx, void *arg, int i); /* puts batch i, in turn, into the program's inputs */
    void *arg;
} GtcApp;
Status gtc_program_write(Ctx *cx, GtcProgram *p, GtcStore *s, const GtcApp *app);

/* IR text in, IR text out: parses text (file is for messages), runs the passes that opt asks for
 * (all of the mode's when it names none) and prints the graph.  opt.c or compile.c. */
Status gtc_opt(Ctx *cx, const char *file, const char *text, const GtcOptions *opt, Strbuf *out);
void gtc_pass_list(Strbuf *out); /* one line a pass: name, level, help */

/* The kernel cache's folder and what is in it. */
typedef struct GtcCacheInfo {
    char dir[512];
    int64_t entries, bytes;
} GtcCacheInfo;
Status gtc_cache_info(Ctx *cx, GtcCacheInfo *out);
Status gtc_cache_clear(Ctx *cx, GtcCacheInfo *out); /* out: what was removed */

/* The C compilers that kernels may be built with, in the order they are tried; returns how many
 * were found (at most max), each as its path and the first line it says of itself. */
typedef struct GtcCompiler {
    char path[256], version[128];
} GtcCompiler;
int gtc_compilers(Ctx *cx, GtcCompiler *out, int max);

/* The libraries that gtc uses where there are any: what was found, or what is missing and what to do
 * about it.  Returns how many there are, at most max. */
typedef struct GtcLibrary {
    char name[32];
    bool found;
    char text[512];
} GtcLibrary;
int gtc_libraries(Ctx *cx, GtcLibrary *out, int max);

#endif
