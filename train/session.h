/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_SESSION_H
#define GTC_TRAIN_SESSION_H

#include "models/model.h"
#include "runtime/gtc.h"

enum { SESSION_INPUTS = 16 }; /* at most */

/* A model made to run: its train, eval and predict Programs over one Store of weights.  Model,
 * shape and device are the caller's and outlive it. */
typedef struct Session {
    const Model *model;
    const DataShape *shape;
    GtcDevice *device;
    GtcMode mode;
    int batch;
    GtcStore *store;
    GtcProgram *program[BUILD_PREDICT + 1];         /* by BuildKind; NULL when not asked for */
    void *input[BUILD_PREDICT + 1][SESSION_INPUTS]; /* what session_inputs gives */
} Session;

enum {
    SESSION_TRAIN = 1 << BUILD_TRAIN,
    SESSION_EVAL = 1 << BUILD_EVAL,
    SESSION_PREDICT = 1 << BUILD_PREDICT
};

/* Builds and compiles the programs in `kinds`.  Tensors are zero until session_init or a
 * checkpoint fills them. */
Status session_open(Ctx *cx, const Model *m, const DataShape *shape, GtcDevice *device,
                    const GtcOptions *opt, unsigned kinds, Session **out);
/* Gives every tensor its first value. */
Status session_init(Ctx *cx, Session *s);
void session_close(Session *s); /* NULL is fine */

/* Where to write a batch of program k: the data inputs in order, as data_fetch wants them. */
Status session_inputs(Ctx *cx, Session *s, BuildKind k, void *const **x);
/* The data of a named input or output; NULL when there is none. */
void *session_input(Session *s, BuildKind k, const char *name);
const GtcTensor *session_output(Session *s, BuildKind k, const char *name, GtcTensor *room);

double session_compile_ms(const Session *s);
int64_t session_params(const Session *s); /* elements of all params */
int64_t session_peak_bytes(const Session *s);

#endif
