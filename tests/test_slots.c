/* SPDX-License-Identifier: Apache-2.0 */
/* The proof of time slots: right programs pass, each wrong one is refused for its reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/kir.h"

typedef struct Case {
    int64_t trip, slots, first, read, write,
        last; /* step v reads (v+read) and writes (v+write) mod slots */
    enum {
        LATER,
        SAME,
        OTHER
    } where;         /* its new value is read: in a later nest; the same element in
                      the same nest; another one there */
    const char *why; /* NULL: right */
} Case;

static KNode *add(Kir *k, KNode ***tail, KOp op)
{
    KNode *n = arena_array(k->arena, KNode, 1);
    n->op = (uint8_t)op;
    **tail = n;
    *tail = &n->next;
    return n;
}

static void access(Kir *k, KNode ***tail, KOp op, BufId buf, Ix slot, Ix at, Val v)
{
    KNode *n = add(k, tail, op);
    n->buf = buf;
    n->ix = arena_array(k->arena, Ix, 2);
    n->ix[0] = slot;
    n->ix[1] = at;
    n->lanes = 1;
    if (op == K_STORE) {
        n->nargs = 1;
        n->arg[0] = v;
    } else {
        n->dst = kir_val(k, REG_F32, false);
    }
}

static Status build_and_prove(Ctx *cx, Arena *arena, const Case *c)
{
    IxPool *p = ix_pool_new(arena);
    Kir *k = kir_new(arena, p, 4);
    const KBuf kb = { .name = "c0",
                      .dt = DT_F32,
                      .cls = BUF_PRIVATE,
                      .rank = 2,
                      .shape = { c->slots, 3 },
                      .stride = { 3, 1 },
                      .slots = true };
    const BufId buf = kir_buf(k, &kb);
    KNode **tail = &k->body;
    KNode *zero = add(k, &tail, K_CONST);
    zero->dst = kir_val(k, REG_F32, false);
    access(k, &tail, K_STORE, buf, ix_const(p, c->first), 0, zero->dst);
    const Var v = ix_var_new(p, "step", c->trip);
    KNode *loop = add(k, &tail, K_LOOP);
    loop->var = v;
    loop->step = true;
    KNode **body = &loop->body;
    const Ix w = ix_mod(p, ix_shift(p, ix_var(p, v), c->write), c->slots);
    access(k, &body, K_LOAD, buf, ix_mod(p, ix_shift(p, ix_var(p, v), c->read), c->slots), 0, 0);
    KNode *nest = add(k, &body, K_LOOP);
    nest->var = ix_var_new(p, "i", 3);
    KNode **inner = &nest->body;
    const Ix i = ix_var(p, nest->var), other = ix_sub(p, ix_const(p, 2), i);
    access(k, &inner, K_STORE, buf, w, i, zero->dst);
    access(k, c->where == LATER ? &body : &inner, K_LOAD, buf, w,
           c->where == LATER  ? 0
           : c->where == SAME ? i
                              : other,
           0);
    access(k, &tail, K_LOAD, buf, ix_const(p, c->last), 0, 0);
    return kir_verify_slots(cx, k);
}

static void slots_are_proved(void **state)
{
    (void)state;
    static const Case cases[] = {
        { 5, 2, 0, 0, 1, 1, LATER, NULL },
        { 2, 2, 0, 0, 1, 0, LATER, NULL },
        { 1000, 2, 0, 0, 1, 0, LATER, NULL },
        { 9, 3, 0, 0, 1, 0, LATER, NULL },
        { 5, 1, 0, 0, 0, 0, LATER, "still reads" },
        { 5, 2, 0, 0, 2, 1, LATER, "still reads" },
        { 5, 2, 1, 0, 1, 1, LATER, "the one before wrote" },
        { 5, 2, 0, 0, 1, 0, LATER, "the last step wrote" },
        { 9, 3, 0, 0, 2, 1, LATER, "the one before wrote" },
        { 1000, 3, 0, 0, 2, 1, LATER, "the one before wrote" },
        { 5, 2, 0, 0, 1, 1, OTHER, "reads the slot that it writes" },
        { 5, 2, 0, 0, 1, 1, SAME, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Ctx cx;
        ctx_init(&cx);
        Arena *arena = arena_new();
        const Status st = build_and_prove(&cx, arena, &cases[i]);
        if (!cases[i].why && st != ST_OK)
            fail_msg("case %zu is right, but: %s", i, cx.msg);
        if (cases[i].why && (st == ST_OK || !strstr(cx.msg, cases[i].why)))
            fail_msg("case %zu: wanted \"%s\", got \"%s\"", i, cases[i].why,
                     st ? cx.msg : "nothing");
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(slots_are_proved) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
