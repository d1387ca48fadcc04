/* SPDX-License-Identifier: Apache-2.0 */
/* emit_c against an interpreter of KIR: random programs over small integers, exact in any order,
 * that the verifier accepts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "codegen/kernel.h"
#include "ir/base/rng.h"
#include "tests/cc.h"
#include "tests/kernel_run.h"
#include "tests/kir_interp.h"
#include "tests/kir_make.h"

enum { NKERNEL = 12, MAX_POOL = 64, NTHREADS = 3 };

typedef struct Pool { /* values at hand, by type; [1]: vectors */
    Val val[MAX_POOL];
    int n;
} Pool;

typedef struct Program {
    Make m;
    Rng *rng;
    Pool pool[4][2];
    int64_t rows, cols;
    BufId x[6], y[6], sum, t, scratch;
} Program;

static const DType DTYPE[6] = { DT_F32, DT_F16, DT_BF16, DT_I32, DT_U8, DT_BOOL };
static const RegType REG_OF[6] = { REG_F32, REG_F32, REG_F32, REG_I32, REG_I32, REG_BOOL };

static uint64_t below(Program *g, uint64_t n)
{
    return rng_below(g->rng, n);
}

static void keep(Program *g, Val v)
{
    const ValInfo t = g->m.k->val[v];
    Pool *p = &g->pool[t.reg][t.vec];
    if (p->n < MAX_POOL)
        p->val[p->n++] = v;
}

static Val pick(Program *g, RegType reg, bool vec)
{
    Pool *p = &g->pool[reg][vec];
    return p->val[below(g, (uint64_t)p->n)];
}

/* Brings a number back to where products stay exact. */
static Val tame(Program *g, Val v, RegType reg, bool vec)
{
    Val lo = make_const(&g->m, reg, -9), hi = make_const(&g->m, reg, 100);
    if (vec) {
        lo = make_splat(&g->m, lo);
        hi = make_splat(&g->m, hi);
    }
    return make_ew(&g->m, OP_max, reg, vec, make_ew(&g->m, OP_min, reg, vec, v, hi, 0), lo, 0);
}

static void random_ew(Program *g, bool vec)
{
    static const Op NUMBER[] = { OP_add, OP_sub, OP_mul, OP_max, OP_min, OP_neg, OP_abs, OP_floor };
    static const Op COMPARE[] = { OP_lt, OP_le, OP_eq };
    static const Op LOGIC[] = { OP_and, OP_or, OP_not, OP_eq, OP_max, OP_min };
    static const RegType CAST[] = { REG_F32, REG_I32, REG_BOOL, REG_I64 };
    Make *m = &g->m;
    const RegType reg = (RegType[]){ REG_F32, REG_I32, REG_I64 }[below(g, vec ? 2 : 3)];
    Val v;
    switch (below(g, 6)) {
    case 0: {
        const Op op = COMPARE[below(g, 3)];
        v = make_ew(m, op, REG_BOOL, vec, pick(g, reg, vec), pick(g, reg, vec), 0);
        break;
    }
    case 1: {
        const Op op = LOGIC[below(g, 6)];
        v = make_ew(m, op, REG_BOOL, vec, pick(g, REG_BOOL, vec),
                    op == OP_not ? 0 : pick(g, REG_BOOL, vec), 0);
        break;
    }
    case 2:
        v = make_ew(m, OP_select, reg, vec, pick(g, REG_BOOL, vec), pick(g, reg, vec),
                    pick(g, reg, vec));
        break;
    case 3:
        v = make_ew(m, OP_cast, reg, vec, pick(g, CAST[below(g, vec ? 3 : 4)], vec), 0, 0);
        break;
    default: {
        const Op op = NUMBER[below(g, 8)];
        v = make_ew(m, op, reg, vec, pick(g, reg, vec),
                    op_info[op].nargs == 2 ? pick(g, reg, vec) : 0, 0);
        if (reg == REG_I32 && below(g, 4) == 0)
            v = make_ew(m, OP_div, reg, vec, v, pick(g, reg, vec), 0);
        v = tame(g, v, reg, vec);
    }
    }
    keep(g, v);
}

static void scalar_leaves(Program *g, Ix r)
{
    Make *m = &g->m;
    keep(g, make_const(m, REG_F32, (double)below(g, 9) - 4));
    keep(g, make_const(m, REG_I32, (double)below(g, 9) - 4));
    keep(g, make_const(m, REG_I64, (double)below(g, 9) - 4));
    keep(g, make_const(m, REG_BOOL, (double)below(g, 2)));
    for (int i = 0; i < 6; i++)
        keep(g, make_load_node(m, REG_OF[i], g->x[i], 0, r,
                               ix_const(m->p, (int64_t)below(g, (uint64_t)g->cols)), 0)
                    ->dst);
    for (int wide = 0; wide < 2; wide++) {
        KNode *n = make_put(m, K_INDEX);
        n->ix = make_ix(m, ix_div(m->p, ix_shift(m->p, ix_scale(m->p, r, 3), 1), 2), 0, 0);
        n->dst = kir_val(m->k, wide ? REG_I64 : REG_I32, false);
        keep(g, n->dst);
    }
}

/* rand is a fraction: times 16, floored, it is one of the small integers. */
static Val random_rand(Program *g, Ix r, bool vec)
{
    Make *m = &g->m;
    KNode *at = make_put(m, K_INDEX);
    at->ix = make_ix(m, ix_scale(m->p, r, (int64_t)below(g, 9)), 0, 0);
    at->dst = kir_val(m->k, REG_I64, false);
    Val key = make_const(m, REG_I32, (double)below(g, 1000) - 500);
    Val wide = make_const(m, REG_I64, 12);
    KNode *n = make_put(m, K_RAND);
    for (int i = 0; i < 4; i++)
        n->arg[i] = i == 2 ? wide : key;
    n->arg[4] = at->dst;
    n->nargs = 5;
    n->dst = kir_val(m->k, REG_F32, vec);
    Val k = make_const(m, REG_F32, 16);
    Val v = make_ew(m, OP_mul, REG_F32, vec, n->dst, vec ? make_splat(m, k) : k, 0);
    return make_ew(m, OP_floor, REG_F32, vec, v, 0, 0);
}

static void vector_leaves(Program *g, Ix r, Ix col, int lanes)
{
    Make *m = &g->m;
    for (int i = 0; i < 6; i++) {
        KNode *n = make_load_node(m, REG_OF[i], g->x[i], lanes, r, col, 0);
        n->value = 2;
        keep(g, n->dst);
        const Ix next = ix_shift(m->p, r, below(g, 2) ? -1 : 1);
        n = make_load_node(m, REG_OF[i], g->x[i], lanes, next, col, 0);
        n->value = 3;
        make_guard(m, n, next, 0, g->rows);
        if (below(g, 2))
            make_guard(m, n, col, 1, 1000);
        keep(g, n->dst);
    }
    const RegType reg = (RegType)below(g, 2);
    keep(g, make_splat(m, pick(g, reg, false)));
    keep(g, make_splat(m, pick(g, REG_BOOL, false)));
    keep(g, random_rand(g, r, true));
    KNode *n = make_put(m, K_INDEX);
    n->ix = make_ix(m, ix_add(m->p, col, r), 0, 0);
    n->dst = kir_val(m->k, REG_I32, true);
    keep(g, n->dst);
    for (int kind = 0; kind < 3; kind++) {
        const RegType k = (RegType[]){ REG_F32, REG_I32, REG_BOOL }[kind];
        n = make_put(m, K_LANES);
        n->lanes = (uint8_t)(1 + below(g, (uint64_t)m->k->lanes));
        n->args = arena_array(m->arena, Val, n->lanes);
        for (int i = 0; i < n->lanes; i++)
            n->args[i] = pick(g, k, false);
        n->value = 1;
        n->dst = kir_val(m->k, k, true);
        keep(g, n->dst);
        n = make_node(m, K_LANE, k, false, pick(g, k, true), 0, 0);
        n->lanes = (uint8_t)below(g, (uint64_t)m->k->lanes);
        keep(g, n->dst);
        if (k == REG_BOOL)
            make_store(m, g->y[5], 0, n->dst, r, col); /* a true lane is 1, not -1 */
    }
}

/* Forgets what was made in a scope that is being closed. */
static void forget(Program *g, Pool (*saved)[2])
{
    memcpy(g->pool, saved, sizeof g->pool);
}

static void chunk(Program *g, Ix r, Ix col, int lanes, Val acc)
{
    Make *m = &g->m;
    Pool saved[4][2];
    memcpy(saved, g->pool, sizeof saved);
    vector_leaves(g, r, col, lanes);
    for (int i = 0; i < 14; i++)
        random_ew(g, i % 3 != 0);
    KNode *t = make_node(m, K_TAIL, REG_F32, true, pick(g, REG_F32, true), 0, 0);
    t->lanes = (uint8_t)lanes;
    t->value = -1;
    make_set(m, acc, make_ew(m, OP_add, REG_F32, true, acc, t->dst, 0));
    for (int i = 0; i < 5; i++)
        make_store(m, g->y[i], lanes, pick(g, REG_OF[i], true), r, col);
    if (below(g, 2))
        make_store(m, g->y[5], lanes, pick(g, REG_BOOL, true), r, col);
    forget(g, saved);
}

static void store_scalars(Program *g, Ix r, Ix col)
{
    for (int i = 0; i < 6; i++)
        make_store(&g->m, g->y[i], 0, pick(g, REG_OF[i], false), r, col);
}

static void program_make(Program *g, Rng *rng, int lanes)
{
    *g = (Program){ .m = make_new(lanes), .rng = rng };
    Make *m = &g->m;
    g->rows = 1 + (int64_t)below(g, 9);
    g->cols = 1 + (int64_t)below(g, 3 * (uint64_t)lanes);
    for (uint32_t i = 0; i < 6; i++) {
        g->x[i] = make_buf(m, arena_printf(m->arena, "x%u", i), DTYPE[i], BUF_IN, i, g->rows,
                           g->cols, -1);
        g->y[i] = make_buf(m, arena_printf(m->arena, "y%u", i), DTYPE[i], BUF_OUT, i, g->rows,
                           g->cols, -1);
    }
    g->sum = make_buf(m, "sum", DT_F32, BUF_OUT, 6, g->rows, -1, -1);
    g->t = make_buf(m, "t", DT_F32, BUF_SHARED, 64, g->rows, -1, -1);
    g->scratch = make_buf(m, "v1", DT_I64, BUF_PRIVATE, 128, 3, -1, -1); /* a name to be changed */
    m->k->private_bytes = 4096;
}

static void program_fill(Program *g)
{
    Make *m = &g->m;
    const int lanes = m->k->lanes;
    Pool none[4][2];
    memcpy(none, g->pool, sizeof none);
    make_put(m, K_NOTE)->text = "rows, then their sums from the other end */";
    Ix r = make_loop(m, "r", g->rows, BIND_TEAM);
    scalar_leaves(g, r);
    for (int i = 0; i < 6; i++)
        random_ew(g, false);
    Val acc = make_node(m, K_ACC, REG_F32, true, make_splat(m, pick(g, REG_F32, false)), 0, 0)->dst;
    if (g->cols >= lanes) {
        Ix j = make_loop(m, "j", g->cols / lanes, below(g, 2) ? BIND_SERIAL : BIND_UNROLL);
        chunk(g, r, ix_scale(m->p, j, lanes), lanes, acc);
        make_out(m);
    }
    if (g->cols % lanes)
        chunk(g, r, ix_const(m->p, g->cols / lanes * lanes), (int)(g->cols % lanes), acc);
    KNode *red = make_node(m, K_REDUCE, REG_F32, false, acc, 0, 0);
    red->ew = (uint16_t)(Op[]){ OP_add, OP_max, OP_min }[below(g, 3)];
    make_store(m, g->t, 0, red->dst, r, 0);
    make_store(m, g->scratch, 0, pick(g, REG_I64, false), ix_const(m->p, 2), 0);
    KNode *back = make_load_node(m, REG_I64, g->scratch, 0, ix_const(m->p, 2), 0, 0);
    keep(g, back->dst);
    for (int i = 0; i < 4; i++)
        random_ew(g, false);
    Ix j = make_loop(m, "j", g->cols, BIND_SERIAL);
    make_when(m, ix_mod(m->p, ix_add(m->p, j, r), 3), 1, 3);
    store_scalars(g, r, j);
    make_out(m);
    make_out(m);
    make_out(m);
    forget(g, none);
    make_put(m, K_BARRIER);
    Ix q = make_loop(m, "r", g->rows, BIND_TEAM);
    Ix other = ix_shift(m->p, ix_scale(m->p, q, -1), g->rows - 1);
    make_store(m, g->sum, 0, make_load_node(m, REG_F32, g->t, 0, other, 0, 0)->dst, q, 0);
    make_out(m);
}

/* ---- running both */

enum { NARG = 15, ROOM = 8192 };

static void fill_inputs(Program *g, unsigned char (*mem)[ROOM])
{
    for (int i = 0; i < 6; i++)
        for (int64_t e = 0; e < g->rows * g->cols; e++) {
            const int x = (int)below(g, 17) - (i == 4 ? 0 : 8);
            const float f = (float)x;
            const uint16_t h = i == 1 ? interp_narrow(f, 10, 15) : interp_narrow(f, 7, 127);
            if (i == 0)
                memcpy(mem[i] + 4 * e, &f, 4);
            else if (i == 3)
                memcpy(mem[i] + 4 * e, &x, 4);
            else if (i < 3)
                memcpy(mem[i] + 2 * e, &h, 2);
            else
                mem[i][e] = (unsigned char)(i == 5 ? x & 1 : x);
        }
}

/* Kernels are compiled without signed zeros: all zeros become +0. */
static void one_zero(unsigned char *p, size_t bytes)
{
    for (size_t i = 0; bytes && i + bytes <= ROOM; i += bytes) {
        unsigned char zero[4] = { 0 };
        zero[bytes - 1] = 0x80;
        if (!memcmp(p + i, zero, bytes))
            p[i + bytes - 1] = 0;
    }
}

/* Each argument is its own block with a red zone, which must not change. */
static void program_run(Program *g, KernelFn *fn, const char *who)
{
    static unsigned char start[NARG][ROOM], want[NARG][ROOM], got[NARG][ROOM];
    static unsigned char private_want[NTHREADS * 4096], private_got[NTHREADS * 4096];
    void *arg_want[NARG], *arg_got[NARG];
    memset(start, 0xa5, sizeof start);
    fill_inputs(g, start);
    for (int nt = 1; nt <= NTHREADS; nt += NTHREADS - 1) {
        memcpy(want, start, sizeof want);
        memcpy(got, start, sizeof got);
        for (int i = 0; i < NARG; i++) {
            arg_want[i] = want[i];
            arg_got[i] = got[i];
        }
        arg_want[14] = private_want;
        arg_got[14] = private_got;
        kir_interpret(g->m.k, arg_want, nt, g->m.nvar);
        kernel_run(fn, arg_got, nt);
        for (int a = 6; a < 13; a++) {
            one_zero(want[a], a == 6 || a == 12 ? 4 : a < 9 ? 2 : 0);
            one_zero(got[a], a == 6 || a == 12 ? 4 : a < 9 ? 2 : 0);
        }
        for (int a = 0; a < 14; a++)
            if (memcmp(want[a], got[a], ROOM)) {
                size_t at = 0;
                while (want[a][at] == got[a][at])
                    at++;
                Strbuf text = { 0 };
                kir_print(g->m.k, &text);
                emit_c(g->m.k, "k", NULL, &text);
                fail_msg("%s, %d threads: argument %d differs at byte %zu\n%s", who, nt, a, at,
                         strbuf_str(&text));
            }
    }
}

static void test_emit(void **state)
{
    (void)state;
    int done = 0;
    for (int cc = 0; cc < CC_COUNT; cc++)
        for (int lanes = 4; lanes <= 16; lanes *= 2) {
            if (!cc_present(cc) || !cc_march(lanes))
                continue;
            Program *g = calloc(NKERNEL, sizeof *g);
            Rng rng;
            rng_init(&rng, 7, (uint64_t)lanes);
            Strbuf text = { 0 };
            strbuf_add(&text, kernel_prelude_c(lanes));
            for (int i = 0; i < NKERNEL; i++) {
                char name[16];
                snprintf(name, sizeof name, "k%d", i);
                program_make(&g[i], &rng, lanes);
                program_fill(&g[i]);
                Ctx cx;
                ctx_init(&cx);
                if (kir_verify(&cx, g[i].m.k) != ST_OK)
                    fail_msg("program %d is refused: %s", i, cx.msg);
                emit_c(g[i].m.k, name, "a random program\nof /* two */ lines", &text);
            }
            void *lib = cc_load(cc, lanes, cc == 0, strbuf_str(&text));
            if (!lib)
                fail_msg("%s does not compile:\n%s", CC_NAME[cc],
                         strstr(strbuf_str(&text), "a random program"));
            for (int i = 0; i < NKERNEL; i++) {
                char name[16], who[64];
                snprintf(name, sizeof name, "k%d", i);
                snprintf(who, sizeof who, "%s, %d lanes, program %d", CC_NAME[cc], lanes, i);
                KernelFn *fn;
                CC_SYMBOL(lib, name, fn);
                program_run(&g[i], fn, who);
                arena_free(g[i].m.arena);
            }
            dlclose(lib);
            strbuf_free(&text);
            free(g);
            done++;
        }
    if (!done) {
        print_message("no C compiler here\n");
        exit(77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_emit) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
