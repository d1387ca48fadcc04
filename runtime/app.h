/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_APP_H
#define GTC_RUNTIME_APP_H

#include "ir/base/strbuf.h"
#include "runtime/program.h"

/* A program on its way into a folder; app.c says what stands in it.  All of an app's memory is one
 * block, in which each block of the program and each tensor of the store has its place. */
typedef struct AppPart {
    const char *at; /* where gtc has it */
    int64_t bytes, offset;
} AppPart;

typedef struct AppWriter {
    Ctx *cx;
    Arena *arena;
    GtcProgram *p;
    const GtcApp *app;
    ProgramView view;
    AppPart *part; /* by address */
    int npart;
    const Kernel **kernel; /* the distinct ones */
    int nkernel;
    int64_t memory, start_bytes, input_at, input_bytes, loss_at;
} AppWriter;

/* The files of a C app and of a CUDA app, but for the data. */
Status app_write_c(AppWriter *w);
Status app_write_cuda(AppWriter *w);

/* A file of the folder. */
Status app_file(const AppWriter *w, const char *name, const char *text);
/* Its place in the app's memory; p lies in a part. */
int64_t app_offset(const AppWriter *w, const void *p);
/* The lines with sizes that both kinds have in app.h, and what lies where as a comment. */
void app_put_sizes(const AppWriter *w, Strbuf *out);
/* The comment above step i: its number, kernel and layers. */
void app_put_step(const AppWriter *w, int i, Strbuf *out);
/* "m + 4096, m + 8192", the arguments of a kernel step. */
void app_put_args(const AppWriter *w, const Step *s, Strbuf *out);

#endif
