/* SPDX-License-Identifier: Apache-2.0 */
/* program_place: where values and workspaces lie.  A value lives from the first to the last epoch
 * that touches it; those and the workspaces are laid out by memplan, each in one block. */
#include "runtime/program_state.h"

#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"

/* A line of the cache; on a GPU what a warp reads at once. */
static int64_t align_of(const Bind *b)
{
    return b->p->d->target.smem_bytes > 0 ? 256 : 64;
}

/* Only what runs as code needs its workspace. */
static void plan_workspace(Bind *b)
{
    const Schedule *s = &b->p->schedule;
    b->work = arena_array(b->p->arena, MemBuf, 2 * s->nstep);
    for (int i = 0; i < s->nstep; i++) {
        const Step *step = &s->step[i];
        const Kernel *k = step->kernel >= 0 && !step->body ? &b->k[step->kernel] : NULL;
        const int64_t nt = step->serial ? 1 : b->p->d->target.threads;
        b->work[2 * i] = b->work[2 * i + 1] =
            (MemBuf){ .align = align_of(b), .first = step->epoch, .last = step->epoch };
        if (k && b->code[step->kernel].from == CODE_CALL) {
            b->work[2 * i].bytes = b->code[step->kernel].workspace;
        } else if (k) {
            b->work[2 * i].bytes = k->shared_bytes;
            b->work[2 * i + 1].bytes = size_mul(k->private_bytes, BUG(63) ? 1 : nt);
            b->work[2 * i + 1].align = 4096;
        }
    }
    b->nwork = 2 * s->nstep;
}

static void plan_slots(Bind *b)
{
    b->buf = arena_array(b->p->arena, MemBuf, b->nslot);
    for (unsigned i = 0; i < b->nslot; i++) {
        Slot *s = &b->slot[i];
        if (s->fixed || s->root != (int32_t)i || s->last < 0)
            continue;
        s->plan = b->nbuf;
        b->buf[b->nbuf++] =
            (MemBuf){ .bytes = s->bytes, .align = align_of(b), .first = s->first, .last = s->last };
    }
}

static Status no_memory(const Bind *b, const char *what, int64_t bytes)
{
    return FAIL(b->cx, MEMORY, "no memory for %s: %lld bytes%s", what, (long long)bytes,
                b->p->d->trouble);
}

static void planned_add(Bind *b, void *at, int64_t bytes)
{
    Schedule *s = &b->p->schedule;
    if (bytes)
        s->planned[s->nplanned++] = (Transfer){ .device = at, .bytes = bytes };
}

/* Gives each buffer its address in at[]: in one block, or in sanitized builds each on its own. */
static Status place(Bind *b, MemBuf *buf, int n, int64_t peak, const char *what, char **at)
{
#if defined(GTC_SANITIZE)
    Schedule *s = &b->p->schedule;
    Guard *more = arena_array(b->p->arena, Guard, s->nguard + n);
    if (s->nguard)
        memcpy(more, s->guard, (size_t)s->nguard * sizeof *more);
    s->guard = more;
    for (int i = 0; i < n; i++) {
        at[i] = program_own(b, buf[i].bytes);
        if (!at[i])
            return no_memory(b, what, peak);
        planned_add(b, at[i], buf[i].bytes);
        if (buf[i].bytes)
            s->guard[s->nguard++] = (Guard){ at[i], &buf[i] };
    }
#else
    char *block = program_own(b, peak);
    if (!block)
        return no_memory(b, what, peak);
    planned_add(b, block, peak);
    for (int i = 0; i < n; i++)
        at[i] = block + buf[i].offset;
#endif
    return ST_OK;
}

static int64_t counters_of(const Bind *b, const Step *s)
{
    const bool own = s->kernel >= 0 && !s->body && b->code[s->kernel].from != CODE_CALL;
    return own ? b->k[s->kernel].counters : 0;
}

enum { COUNTER_LINE = 128 };

static int64_t counter_bytes(const Bind *b)
{
    const Schedule *s = &b->p->schedule;
    int64_t bytes = 0;
    for (int i = 0; i < s->nstep; i++)
        bytes =
            size_add(bytes, size_round_up(size_mul(counters_of(b, &s->step[i]), 4), COUNTER_LINE));
    return bytes;
}

/* Counters keep their values from run to run, so that each kernel has its own. */
static Status place_counters(Bind *b, int64_t bytes)
{
    Schedule *s = &b->p->schedule;
    if (bytes == 0)
        return ST_OK;
    char *at = program_own(b, bytes);
    if (!at)
        return no_memory(b, "the kernels' counters", bytes);
    for (int i = 0; i < s->nstep; i++) {
        Step *step = &s->step[i];
        const int64_t n = 4 * counters_of(b, step);
        if (n == 0)
            continue;
        step->arg[step->nin + step->nout + 1] = at;
        step->bytes[step->nin + step->nout + 1] = n;
        at += size_round_up(n, COUNTER_LINE);
    }
    return ST_OK;
}

Status program_place(Bind *b, int32_t **slots)
{
    GtcProgram *p = b->p;
    Schedule *s = &p->schedule;
    plan_slots(b);
    plan_workspace(b);
    const int64_t values = memplan_solve(b->arena, b->buf, b->nbuf);
    const int64_t work_bytes = memplan_solve(b->arena, b->work, b->nwork),
                  counters = counter_bytes(b);
    p->info.workspace_bytes = size_add(work_bytes, counters);
    p->info.arena_bytes = size_add(p->info.arena_bytes, values);
    p->info.peak_bytes =
        size_add(size_add(p->info.arena_bytes, p->info.weight_bytes), p->info.workspace_bytes);
    p->info.peak_bytes = size_add(p->info.peak_bytes, p->info.data_bytes);
    s->planned = arena_array(p->arena, Transfer, b->nbuf + b->nwork + 2);
    char **at = arena_array(b->arena, char *, b->nbuf),
         **work = arena_array(b->arena, char *, b->nwork);
    TRY(place(b, b->buf, b->nbuf, values, "the values of a run", at));
    TRY(place(b, b->work, b->nwork, work_bytes, "the kernels' workspace", work));
    for (int i = 0; i < s->nstep; i++) {
        Step *step = &s->step[i];
        const uint32_t n = step->nin + step->nout;
        step->arg = arena_array(p->arena, void *, n + 2);
        step->bytes = arena_array(p->arena, int64_t, n + 2);
        for (uint32_t a = 0; a < n; a++) {
            const Slot *root = &b->slot[b->slot[slots[i][a]].root];
            step->arg[a] = root->fixed ? root->fixed : at[root->plan];
            step->bytes[a] = root->bytes;
        }
        for (int w = 0; w < 2; w++) {
            step->arg[n + w] = work[2 * i + w];
            step->bytes[n + w] = b->work[2 * i + w].bytes;
        }
    }
    return place_counters(b, counters);
}
