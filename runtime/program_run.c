/* SPDX-License-Identifier: Apache-2.0 */
/* program_run: running a program, and asking it. */
#include "runtime/program_state.h"

#include <string.h>

#include "ir/base/bug.h"

int gtc_program_depth(const GtcProgram *p)
{
    return p->schedule.depth;
}

/* Between what the caller sees and a slot. */
static void fill_slot(GtcProgram *p, int slot)
{
    const Schedule *s = &p->schedule;
    const Transfer *in = s->in + slot % s->in_depth;
    if (s->nin)
        memcpy(in->host, p->in_host, (size_t)in->bytes);
}

static void empty_slot(GtcProgram *p, int slot)
{
    const Schedule *s = &p->schedule;
    if (s->nout)
        memcpy(p->out_host, s->out[slot].host, (size_t)s->out[slot].bytes);
}

/* The run whose inputs lie where the next one's go has read them. */
static Status inputs_wait(Ctx *cx, const GtcProgram *p)
{
    const Schedule *s = &p->schedule;
    const int64_t run = p->submitted - s->in_depth;
    if (BUG(73) || run < p->collected || !p->d->ops->wait)
        return ST_OK;
    return p->d->ops->wait(cx, p->d, s, (int)(run % s->depth));
}

Status gtc_program_submit(Ctx *cx, GtcProgram *p)
{
    const Schedule *s = &p->schedule;
    gtc_assert(p->submitted - p->collected < s->depth, "%lld runs under way",
               (long long)(p->submitted - p->collected));
    const int slot = (int)(p->submitted % s->depth);
    TRY(inputs_wait(cx, p));
    fill_slot(p, slot);
    TRY(p->d->ops->run(cx, p->d, s, slot, NULL));
    p->submitted++;
    return ST_OK;
}

Status gtc_program_collect(Ctx *cx, GtcProgram *p)
{
    gtc_assert(p->submitted > p->collected, "no run is under way");
    const int slot = (int)(p->collected++ % p->schedule.depth);
    if (p->d->ops->wait)
        TRY(p->d->ops->wait(cx, p->d, &p->schedule, slot));
    empty_slot(p, slot);
    return ST_OK;
}

Status gtc_program_run(Ctx *cx, GtcProgram *p)
{
    TRY(gtc_program_submit(cx, p));
    return gtc_program_collect(cx, p);
}

Status gtc_program_profile(Ctx *cx, GtcProgram *p, int runs, double *ms)
{
    memset(ms, 0, (size_t)p->info.kernels * sizeof *ms);
    fill_slot(p, 0);
    for (int i = 0; i < runs; i++)
        TRY(p->d->ops->run(cx, p->d, &p->schedule, 0, ms));
    empty_slot(p, 0);
    return ST_OK;
}

int gtc_program_input_count(const GtcProgram *p)
{
    return p->nin;
}
GtcTensor gtc_program_input(const GtcProgram *p, int i)
{
    return p->in[i].tensor;
}
int gtc_program_output_count(const GtcProgram *p)
{
    return p->nout;
}
GtcTensor gtc_program_output(const GtcProgram *p, int i)
{
    return p->out[i].tensor;
}

static int port_find(const Port *port, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(port[i].tensor.name, name) == 0)
            return i;
    return -1;
}

int gtc_program_find_input(const GtcProgram *p, const char *name)
{
    return port_find(p->in, p->nin, name);
}
int gtc_program_find_output(const GtcProgram *p, const char *name)
{
    return port_find(p->out, p->nout, name);
}
GtcProgramInfo gtc_program_info(const GtcProgram *p)
{
    return p->info;
}
GtcKernelInfo gtc_program_kernel(const GtcProgram *p, int i)
{
    return p->kernel[i];
}
const char *gtc_program_fused_text(const GtcProgram *p)
{
    return p->fused_text;
}

ProgramView program_view(const GtcProgram *p)
{
    return (ProgramView){ p->d, &p->schedule, p->code, p->info.kernels, p->owned, (int)p->nowned };
}

void program_set_info(GtcProgram *p, int ops, double compile_ms)
{
    p->info.ops = ops;
    p->info.compile_ms = compile_ms;
}

int program_barriers(const GtcProgram *p)
{
    int n = 0;
    for (int i = 0; i < p->schedule.nstep; i++)
        n += p->schedule.step[i].barrier;
    return n;
}
