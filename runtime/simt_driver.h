/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_SIMT_DRIVER_H
#define GTC_RUNTIME_SIMT_DRIVER_H

#include "runtime/cuda_dl.h"
#include "runtime/simt.h"

/* A CUDA driver on the host: the calls of CudaDriver, with one device "simt" that runs kernels on a
 * SimtMachine.  The image of a module is a shared object made with simt_code_flags.
 *
 * It does what the real one may do, at its worst: work on streams begins only when somebody waits
 * for it, in an order chosen by the seed; a copy to pinned memory leaves poison there until it is
 * done; nodes of a graph run in any order that the edges allow.  A kernel's mistake poisons the
 * context: every later call returns its error, and cuGetErrorString its message. */
typedef struct SimtDriverOptions {
    SimtOptions machine; /* memory is the device's; `resident` is set by the driver */
    int capability;      /* 90: sm_90 */
    uint64_t fail;       /* the call of this number (from 1) fails; 0: none does */
    bool fail_ever;      /* and so do all later ones */
} SimtDriverOptions;

/* The defaults, changed by the environment: GTC_SIMT_FAIL=N (once) or N+ (from then on),
 * GTC_SIMT_SEED=N, GTC_SIMT_SCHEDULE=forward|reverse|seeded, GTC_SIMT_SHADOW=0|1.  Fails with
 * ST_USAGE when one of them says nothing known. */
Status simt_driver_options(Ctx *cx, SimtDriverOptions *out);

/* Fills *out.  A process has one CUDA driver, and so one of these at a time: ST_INTERNAL when it is
 * open already. */
Status simt_driver_open(Ctx *cx, const SimtDriverOptions *opt, CudaDriver *out);
/* Waits for nothing and frees all.  Fails with ST_INTERNAL, after that, when something had not been
 * given back (memory, streams, events, graphs, modules), saying what. */
Status simt_driver_close(Ctx *cx);

/* Of the open driver: calls made so far, those that were made to fail, and the machine, for
 * simt_name. */
uint64_t simt_driver_calls(void);
uint64_t simt_driver_failed(void);
SimtMachine *simt_driver_machine(void);

#endif
