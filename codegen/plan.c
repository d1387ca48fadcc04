/* SPDX-License-Identifier: Apache-2.0 */
/* Plans as text, for people and for the comment above a kernel. */
#include "codegen/plan.h"

#include <string.h>

void phase_take(Arena *arena, Phase *ph, const Nest *n)
{
    if (ph->nnest == ph->nest_cap) {
        ph->nest_cap = ph->nest_cap ? 2 * ph->nest_cap : 4;
        Nest *more = arena_array(arena, Nest, ph->nest_cap);
        if (ph->nnest)
            memcpy(more, ph->nest, sizeof *more * (size_t)ph->nnest);
        ph->nest = more;
    }
    ph->nest[ph->nnest++] = *n;
}

static void print_held(const Nest *n, Strbuf *out)
{
    const Held *h = n->held;
    int kept = 0;
    for (int i = 0; i < n->nred; i++)
        kept += h->buf[i] != 0;
    strbuf_printf(out, " %s %dx%d threads", kept ? "in registers of" : "by", h->units,
                  h->rows * h->cols * h->rest);
    if (kept && kept < n->nred)
        strbuf_printf(out, ", %d of %d factors,", kept, n->nred);
}

static void print_team(const Plan *p, const Phase *ph, Strbuf *out)
{
    for (int i = 0; i < ph->ngrid; i++)
        strbuf_printf(out, " %s", ix_var_name(p->s->pool, ph->grid[i]));
    if (ph->team)
        strbuf_printf(out, " %s in blocks of %lld", ix_var_name(p->s->pool, ph->team),
                      (long long)ph->block);
    else if (!ph->ngrid && !ph->each && !ph->last)
        strbuf_add(out, " of one");
    if (ph->walk)
        strbuf_printf(out, ", loops over %s", ix_var_name(p->s->pool, ph->walk));
}

static void print_nest(const Plan *p, const Nest *n, bool last, Strbuf *out)
{
    static const char *const when[] = { "", "first ", "each step ", "last " };
    if (n->walk)
        strbuf_printf(out, "    loop %d:", n->walk);
    strbuf_printf(out, "    %s%s%s ", last ? "last block: " : "", when[n->when],
                  n->row    ? "row"
                  : n->nred ? "contract"
                            : "map");
    for (int i = 0; i < n->naxis; i++) {
        const bool vec = n->axis[i] == n->vec;
        strbuf_printf(out, "%s%s", i ? " " : "", ix_var_name(p->s->pool, n->axis[i]));
        if (n->tile[i] > 1 || vec)
            strbuf_printf(out, ":%d%s", n->tile[i], vec ? "v" : "");
    }
    if (n->lanes)
        strbuf_printf(out, " by %d threads", n->lanes);
    if (n->blocked)
        strbuf_printf(out, " in blocks of %dx%dx%d, %dx%d a thread", n->blocked->bm, n->blocked->bn,
                      n->blocked->bk, n->blocked->tm, n->blocked->tn);
    if (n->held)
        print_held(n, out);
    if (n->part)
        strbuf_printf(out, " in %lld parts", (long long)ix_var_count(p->s->pool, n->part));
    if (n->kaxis)
        strbuf_printf(out, " blocks of %s:%lld", ix_var_name(p->s->pool, n->kaxis),
                      (long long)n->kstep);
    strbuf_add(out, " stages");
    for (int i = 0; i < n->nred; i++)
        strbuf_printf(out, " s%u", n->red[i]);
    for (int i = 0; i < n->nroot; i++)
        strbuf_printf(out, " s%u", n->root[i]);
    strbuf_putc(out, '\n');
}

void plan_print(const Plan *p, Strbuf *out)
{
    for (int i = 0; i < p->nphase; i++) {
        const Phase *ph = &p->phase[i];
        strbuf_printf(out, "  %s%s", ph->barrier && !ph->last ? "barrier, " : "",
                      ph->last   ? "last block"
                      : ph->each ? "each thread"
                      : ph->flat ? "all threads"
                                 : "team");
        if (!ph->flat)
            print_team(p, ph, out);
        strbuf_putc(out, '\n');
        for (int j = 0; j < ph->nnest; j++)
            print_nest(p, &ph->nest[j], ph->flat && j > 0, out);
    }
    for (uint32_t b = 0; b < p->s->nbuf; b++) {
        const GBuf *g = &p->s->buf[b];
        if (g->home == HOME_ARG || g->home == HOME_NONE)
            continue;
        strbuf_printf(out, "  %s: %s[", g->name, dtype_name(g->dt));
        for (int d = 0; d < g->rank; d++)
            strbuf_printf(out, "%s%lld", d ? "," : "", (long long)g->shape[d]);
        strbuf_printf(out, "] %s\n",
                      g->home == HOME_PRIVATE     ? "private"
                      : g->home == HOME_REGISTERS ? "registers"
                                                  : "shared");
    }
}
