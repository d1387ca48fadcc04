/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_SIMT_BODY_H
#define GTC_TESTS_SIMT_BODY_H

#include "codegen/kernel.h"
#include "ir/eval.h"
#include "runtime/simt.h"

/* One kernel of a fusion's body, run alone on the host's CUDA machine.  A failure ends the test. */
enum { SIMT_BODY_ARGS = 24 };

typedef struct SimtBody {
    Ctx cx;
    Arena *arena, *text; /* own all */
    const Graph *graph;
    Kernel *k;
    Tensor in[SIMT_BODY_ARGS]; /* those of the graph's inputs, some numbers in them */
} SimtBody;

/* Of a graph as text, as if it were the body of one fusion. */
void simt_body_parse(SimtBody *b, const Target *t, const char *name, const char *text);
/* Of the fusion r of g, which outlives b. */
void simt_body_open(SimtBody *b, const Target *t, const Graph *g, Ref r);
void simt_body_close(SimtBody *b);

/* Runs it so often over the same memory; out: what each run leaves, one behind the other, of
 * simt_body_bytes each.  code: from simt_case_compile. */
Status simt_body_run(SimtBody *b, const char *code, size_t n, const SimtOptions *opt, int runs,
                     char *out);
size_t simt_body_bytes(const SimtBody *b);

/* Compiles it and runs it under so many schedules, watched for hazards: it agrees with the evaluator
 * each time.  Gives how many outputs are more than a tenth undecided or loose, in all runs. */
int simt_body_check(SimtBody *b, int schedules, const char *what);
int simt_body_loops(const SimtBody *b); /* over tiles, in its text */

#endif
