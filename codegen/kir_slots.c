/* SPDX-License-Identifier: Apache-2.0 */
/* Proves that a carry's time slots suffice.
 *
 * A buffer marked `slots` keeps what one step of a loop hands to the next: its first index says
 * which slot.  Bounds and races do not see a slot too few, and at one tile the result may even be
 * right.  Let step v write slot W(v) and read slot R(v).  The proof:
 *
 *     R(v + 1) = W(v)     the next step reads what this one wrote
 *     R(v) != W(v)        and nothing that is still to be read is written over
 *     before the loop R(0) is written, after it W(last) is read
 *
 * A step may also read W(v), its own new value, in a nest after the one that stores it, or the very
 * element that the same loop body has stored just before. */
#include "codegen/kir.h"

#include <string.h>

typedef struct Slots {
    Ctx *cx;
    const Kir *k;
    BufId buf;
    Var step;           /* of the loop over the steps while we are in it, else 0 */
    int place, written; /* which child of its body we are in; the last one that stores */
    bool done;          /* behind such a loop */
    Ix w, r;            /* IX_KEEP: not seen yet */
    int64_t first;      /* slot of the first value, -1: none */
    int64_t last;       /* W(last) */
} Slots;

#define REFUSE(s, what)                                                                            \
    FAIL((s)->cx, INTERNAL, "kernel: time slots of %s: %s", (s)->k->buf[(s)->buf].name, what)

static Ix at_step(const Slots *s, Ix ix, Ix v)
{
    Ix *map = arena_array(s->k->arena, Ix, s->step + 1u);
    for (Var i = 0; i < s->step; i++)
        map[i] = IX_KEEP;
    map[s->step] = v;
    return ix_subst(s->k->pool, ix, map, s->step + 1u);
}

static Status outside(Slots *s, const KNode *n)
{
    int64_t c;
    if (!ix_is_const(s->k->pool, n->ix[0], &c))
        return REFUSE(s, "outside the loop over the steps the slot must be a constant");
    if (n->op == K_STORE) { /* the first value of a loop to come */
        s->first = c;
        s->done = false;
        return ST_OK;
    }
    if (s->done && s->last >= 0 && c != s->last)
        return REFUSE(s, "the last value is not where the last step wrote");
    return ST_OK;
}

/* Between head and load, in one list: a store of what load reads? */
static bool just_stored(const Slots *s, const KNode *head, const KNode *load)
{
    const size_t bytes = sizeof *load->ix * (size_t)s->k->buf[s->buf].rank;
    for (; head != load; head = head->next)
        if (head->op == K_STORE && head->buf == s->buf && head->lanes >= load->lanes &&
            memcmp(head->ix, load->ix, bytes) == 0)
            return true;
    return false;
}

static Status inside(Slots *s, const KNode *head, const KNode *n)
{
    if (n->op == K_STORE) {
        if (s->w != IX_KEEP && s->w != n->ix[0])
            return REFUSE(s, "a step writes more than one slot");
        s->w = n->ix[0];
        s->written = s->place;
        return ST_OK;
    }
    if (s->w != IX_KEEP && n->ix[0] == s->w) /* its own new value: complete only in a later nest */
        return s->place > s->written || just_stored(s, head, n)
                   ? ST_OK
                   : REFUSE(s, "a nest reads the slot that it writes");
    if (s->r != IX_KEEP && s->r != n->ix[0])
        return REFUSE(s, "a step reads more than one slot");
    s->r = n->ix[0];
    return ST_OK;
}

/* The slot ix names at step v; false when it depends on more than the step. */
static bool slot_at(const Slots *s, Ix ix, int64_t v, int64_t *slot)
{
    return ix_is_const(s->k->pool, at_step(s, ix, ix_const(s->k->pool, v)), slot);
}

/* At the end of the loop over the steps.  Few steps are gone through one by one; for many, whose
 * ranges simplify nothing, the indices themselves must agree, and the first steps show the rest. */
static Status prove(Slots *s)
{
    enum { FEW = 64 };
    IxPool *p = s->k->pool;
    const int64_t trip = ix_var_count(p, s->step);
    int64_t r = -1, w = -1, before = s->first;
    s->last = -1;
    if (s->w == IX_KEEP)
        return ST_OK; /* nothing goes from step to step */
    if (s->r != IX_KEEP && trip > FEW &&
        at_step(s, s->r, ix_shift(p, ix_var(p, s->step), 1)) != s->w)
        return REFUSE(s, "a step does not read what the one before wrote");
    for (int64_t v = 0; v < trip && v < FEW && s->r != IX_KEEP; v++) {
        if (!slot_at(s, s->r, v, &r) || !slot_at(s, s->w, v, &w))
            return REFUSE(s, "the slot depends on more than the step");
        if (r == w)
            return REFUSE(s, "a step writes over what it still reads");
        if (before >= 0 && before != r)
            return REFUSE(s, "a step does not read what the one before wrote");
        before = w;
    }
    if (!slot_at(s, s->w, trip - 1, &s->last))
        return REFUSE(s, "the slot depends on more than the step");
    return ST_OK;
}

static Status walk(Slots *s, const KNode *n);

static Status step_loop(Slots *s, const KNode *loop)
{
    s->step = loop->var;
    s->w = s->r = IX_KEEP;
    s->place = s->written = 0;
    for (const KNode *c = loop->body; c; c = c->next) {
        KNode one = *c;
        one.next = NULL;
        s->place++;
        TRY(walk(s, &one));
    }
    TRY(prove(s));
    s->step = 0;
    s->done = true;
    return ST_OK;
}

static Status walk(Slots *s, const KNode *head)
{
    for (const KNode *n = head; n; n = n->next) {
        if ((n->op == K_LOAD || n->op == K_STORE) && n->buf == s->buf)
            TRY(s->step ? inside(s, head, n) : outside(s, n));
        if (n->op == K_LOOP && n->step && !s->step)
            TRY(step_loop(s, n));
        else if (n->body)
            TRY(walk(s, n->body));
    }
    return ST_OK;
}

Status kir_verify_slots(Ctx *cx, const Kir *k)
{
    for (uint32_t b = 0; b < k->nbuf; b++) {
        if (!k->buf[b].slots)
            continue;
        Slots s = { .cx = cx, .k = k, .buf = (BufId)b, .first = -1, .last = -1 };
        TRY(walk(&s, k->body));
    }
    return ST_OK;
}
