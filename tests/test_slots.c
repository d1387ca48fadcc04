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
        last;        /* step v reads (v+read) and writes (v+write) mod slots */
    bool same_nest;  /* the new value is read back in the nest that stores it */
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

static void access(Kir *k, KNode ***tail, KOp op, BufId buf, Ix slot, Val v)
{
    KNode *n = add(k, tail, op);
    n->buf = buf;
    n->ix = arena_array(k->arena, Ix, 1);
    n->ix[0] = slot;
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
                      .rank = 1,
                      .shape = { c->slots },
                      .stride = { 1 },
                      .slots = true };
    const BufId buf = kir_buf(k, &kb);
    KNode **tail = &k->body;
    KNode *zero = add(k, &tail, K_CONST);
    zero->dst = kir_val(k, REG_F32, false);
    access(k, &tail, K_STORE, buf, ix_const(p, c->first), zero->dst);
    const Var v = ix_var_new(p, "step", c->trip);
    KNode *loop = add(k, &tail, K_LOOP);
    loop->var = v;
    loop->step = true;
    KNode **body = &loop->body;
    const Ix w = ix_mod(p, ix_shift(p, ix_var(p, v), c->write), c->slots);
    access(k, &body, K_LOAD, buf, ix_mod(p, ix_shift(p, ix_var(p, v), c->read), c->slots), 0);
    KNode *nest = add(k, &body, K_LOOP);
    nest->var = ix_var_new(p, "i", 3);
    KNode **inner = &nest->body;
    access(k, &inner, K_STORE, buf, w, zero->dst);
    access(k, c->same_nest ? &inner : &body, K_LOAD, buf, w, 0);
    access(k, &tail, K_LOAD, buf, ix_const(p, c->last), 0);
    return kir_verify_slots(cx, k);
}

static void slots_are_proved(void **state)
{
    (void)state;
    static const Case cases[] = {
        { 5, 2, 0, 0, 1, 1, false, NULL },
        { 2, 2, 0, 0, 1, 0, false, NULL },
        { 1000, 2, 0, 0, 1, 0, false, NULL },
        { 9, 3, 0, 0, 1, 0, false, NULL },
        { 5, 1, 0, 0, 0, 0, false, "still reads" },
        { 5, 2, 0, 0, 2, 1, false, "still reads" },
        { 5, 2, 1, 0, 1, 1, false, "the one before wrote" },
        { 5, 2, 0, 0, 1, 0, false, "the last step wrote" },
        { 9, 3, 0, 0, 2, 1, false, "the one before wrote" },
        { 1000, 3, 0, 0, 2, 1, false, "the one before wrote" },
        { 5, 2, 0, 0, 1, 1, true, "reads the slot that it writes" },
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
