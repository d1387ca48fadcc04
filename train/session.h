/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_SESSION_H
#define GTC_TRAIN_SESSION_H

#include "train/feed.h"

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
    bool fed;         /* batches are made on the device */
    const Data *data; /* whose tables are written */
    char place[256];  /* where the data lie, for people; "" where that goes without saying */
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
/* The same, but the device may be given all rows of the data at once (train/feed.h) instead of each
 * batch.  DATA_AUTO does so where the tables take at most half of the memory that is free there, and
 * never where its memory is the host's.  ST_USAGE when DATA_DEVICE cannot be. */
typedef enum DataPlace { DATA_AUTO, DATA_DEVICE, DATA_HOST } DataPlace;
Status session_open_fed(Ctx *cx, const Model *m, const DataShape *shape, GtcDevice *device,
                        const GtcOptions *opt, unsigned kinds, DataPlace place, Session **out);
/* Before the first batch: says where the data lie, and brings them there, unless they are there
 * already.  d has the session's shape, and outlives what is made of it. */
Status session_feed(Ctx *cx, Session *s, const Data *d);
/* Gives every tensor its first value. */
Status session_init(Ctx *cx, Session *s);
void session_close(Session *s); /* NULL is fine */

/* Where to write a batch of program k: the data inputs in order, as data_fetch wants them.  Of a
 * session that is fed, NULL: data_locate writes to session_at, which is NULL of others. */
Status session_inputs(Ctx *cx, Session *s, BuildKind k, void *const **x);
int32_t *session_at(Session *s, BuildKind k);
/* The data of a named input or output; NULL when there is none. */
void *session_input(Session *s, BuildKind k, const char *name);
const GtcTensor *session_output(Session *s, BuildKind k, const char *name, GtcTensor *room);

double session_compile_ms(const Session *s);
int64_t session_params(const Session *s); /* elements of all params */
int64_t session_peak_bytes(const Session *s);

#endif
