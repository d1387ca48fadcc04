/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CLI_WORK_H
#define GTC_CLI_WORK_H

#include "cli/cli.h"
#include "train/bundle.h"
#include "train/session.h"

/* What most verbs work on: a model with its data, device and programs, opened in that order, each
 * with the options that concern it.  { 0 } is a closed one. */
typedef struct Work {
    Model *model;   /* the bundle's, or own */
    Bundle *bundle; /* of a run, else NULL */
    Strbuf dir;     /* the run's folder */
    StrList dirs;   /* where data are looked for, in order; the arena of the options */
    GtcOptions opt;
    Data *data;
    const DataShape *shape; /* the data's, or what the plan says of it */
    GtcDevice *device;
    Session *session;
} Work;

/* arg: a model.json or a plan; NULL: the newest plan, whose name and age are said. */
Status work_open_model(Cli *c, Work *w, const char *arg);
/* arg: a run's folder; NULL: the newest run. */
Status work_open_run(Cli *c, Work *w, const char *arg);
/* --data and --split of predict and eval, before work_open_data: *split is what is left to read. */
Status work_choose_rows(Cli *c, Work *w, Split *split);
Status work_open_data(Cli *c, Work *w);
/* Only the shape: from the plan, when its data files are as they were, else from the data. */
Status work_open_shape(Cli *c, Work *w);
Status work_open_device(Cli *c, Work *w);
/* The same alone: what --device and its kin ask for. */
Status work_device(Cli *c, GtcDevice **out);
/* Tries out a GPU, a line and a JSON object each thing; ok: nothing was wrong. */
Status doctor_gpu(Cli *c, GtcDevice *d, bool *ok);
Status work_open_session(Cli *c, Work *w, unsigned kinds); /* and the device, if none is open */
/* emit_app.c.  The training step as a folder of C for w->device, one of text. */
Status work_write_app(Cli *c, Work *w);
void work_close(Work *w);

/* The plan of a model: .gtc/NAME.plan.json, or --out. */
const char *work_plan_path(Cli *c, const Work *w);
Status work_write_plan(Cli *c, const Work *w);

/* shape.c.  A digest of all that a data set's shape depends on, and the shape as JSON. */
const char *shape_stamp(Cli *c, const Work *w);
void shape_print(const DataShape *shape, Strbuf *out);
/* NULL when the plan at path has no shape with that stamp. */
const DataShape *shape_read(Cli *c, const char *path, const char *stamp);

#endif
