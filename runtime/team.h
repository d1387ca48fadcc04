/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_TEAM_H
#define GTC_RUNTIME_TEAM_H

#include <stdbool.h>

#include "ir/base/status.h"

/* What a kernel sees of the thread that runs it; the kernels' prelude declares the same struct.
 * barrier(bar): every thread of the team gets there before any goes on. */
typedef struct gtc_team {
    int tid, nt;
    void *bar;
    void (*barrier)(void *bar);
} gtc_team;

/* The one compute pool of a device: nt - 1 workers and the caller, which is thread 0. */
typedef struct Team Team;
typedef void TeamFn(void *arg, const gtc_team *me);

/* nt >= 1.  ST_ENV when a thread cannot be started. */
Status team_create(Ctx *cx, int nt, Team **out);
void team_destroy(Team *t); /* NULL is fine; joins the workers */
int team_size(const Team *t);

/* Every thread calls fn once, or with all false only the caller does, as a team of one; returns
 * when they have.  Denormals are zero in fn, and the caller's
 * own floating-point mode is as before afterwards.  One caller at a time; fn calls no team_run. */
void team_run(Team *t, bool all, TeamFn *fn, void *arg);

/* The barrier of a team of one: nothing. */
void team_no_barrier(void *bar);

#endif
