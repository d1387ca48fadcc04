/* SPDX-License-Identifier: Apache-2.0 */
/* KIR: building blocks and text.  A dump reads like this:
 *
 *   in x: f32[8,20]   arg 0
 *   out y: f32[8]   arg 0
 *   team i < 8
 *     a1 = acc v2
 *     loop j < 2
 *       v3 = load x[i,10*j] x10 pad 0x0p+0
 *       a1 = set v4
 *     v5 = reduce add a1
 *     store y[i] = v5 */
#include "codegen/kir.h"

#include "ir/base/size.h"

Kir *kir_new(Arena *arena, IxPool *pool, int lanes)
{
    Kir *k = arena_alloc(arena, sizeof *k);
    k->arena = arena;
    k->pool = pool;
    k->lanes = lanes;
    kir_val(k, REG_F32, false); /* value 0 is none */
    return k;
}

BufId kir_buf(Kir *k, const KBuf *b)
{
    gtc_assert(k->nbuf < UINT16_MAX, "more than %d buffers", UINT16_MAX);
    arena_grow(k->arena, k->buf, k->nbuf, k->buf_cap);
    k->buf[k->nbuf] = *b;
    if (b->cls == BUF_IN && k->nin <= b->arg)
        k->nin = b->arg + 1;
    if (b->cls == BUF_OUT && k->nout <= b->arg)
        k->nout = b->arg + 1;
    return (BufId)k->nbuf++;
}

Val kir_val(Kir *k, RegType reg, bool vec)
{
    arena_grow(k->arena, k->val, k->nval, k->val_cap);
    k->val[k->nval] = (ValInfo){ reg, vec };
    return k->nval++;
}

static void find_accumulators(const Kir *k, const KNode *n, bool *acc)
{
    for (; n; n = n->next) {
        if (n->op == K_ACC && n->dst < k->nval)
            acc[n->dst] = true;
        find_accumulators(k, n->body, acc);
    }
}

bool *kir_accumulators(const Kir *k)
{
    bool *acc = arena_array(k->arena, bool, k->nval);
    find_accumulators(k, k->body, acc);
    return acc;
}

/* ---- text */

typedef struct Printer {
    const Kir *k;
    const bool *acc;
    Strbuf *out;
} Printer;

static void print_val(const Printer *p, Val v)
{
    strbuf_printf(p->out, "%c%u", v < p->k->nval && p->acc[v] ? 'a' : 'v', v);
}

static void print_vals(const Printer *p, const Val *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        strbuf_putc(p->out, ' ');
        print_val(p, v[i]);
    }
}

static void print_access(const Printer *p, const KNode *n)
{
    const KBuf *b = &p->k->buf[n->buf];
    strbuf_printf(p->out, " %s[", b->name);
    for (int d = 0; d < b->rank; d++) {
        strbuf_add(p->out, d ? "," : "");
        ix_print(p->k->pool, n->ix[d], p->out);
    }
    strbuf_putc(p->out, ']');
    if (n->lanes != 1)
        strbuf_printf(p->out, " x%d", n->lanes);
}

static void print_guards(const Printer *p, const KNode *n)
{
    for (int i = 0; i < n->nguard; i++) {
        strbuf_printf(p->out, "%s%lld <= ", i ? " and " : "", (long long)n->guard[i].lo);
        ix_print(p->k->pool, n->guard[i].ix, p->out);
        strbuf_printf(p->out, " < %lld", (long long)n->guard[i].hi);
    }
}

static void print_loop(const Printer *p, const KNode *n)
{
    static const char *const BIND[] = { "loop", "unroll", "team", "grid", "thread" };
    strbuf_printf(p->out, "%s %s < %lld", BIND[n->bind], ix_var_name(p->k->pool, n->var),
                  (long long)ix_var_count(p->k->pool, n->var));
    if (n->bind == BIND_UNROLL)
        strbuf_printf(p->out, " by %d", n->unroll);
}

static void print_value(const Printer *p, const KNode *n)
{
    static const char *const REG[] = { "f32", "i32", "i64", "bool" };
    static const char *const NAME[] = {
        [K_CONST] = "const", [K_INDEX] = "index", [K_LOAD] = "load",     [K_RAND] = "rand",
        [K_SPLAT] = "splat", [K_LANES] = "lanes", [K_LANE] = "lane",     [K_TAIL] = "tail",
        [K_ACC] = "acc",     [K_SET] = "set",     [K_REDUCE] = "reduce",
        [K_ACROSS] = "across",  [K_MEET] = "meet",
    };
    ValInfo t = p->k->val[n->dst];
    print_val(p, n->dst);
    strbuf_printf(p->out, ": %s%s = %s", REG[t.reg], t.vec ? "*" : "",
                  n->op == K_EW ? op_info[n->ew].name : NAME[n->op]);
    if (n->op == K_REDUCE || n->op == K_ACROSS)
        strbuf_printf(p->out, " %s", op_info[n->ew].name);
    if (n->op == K_MEET)
        strbuf_printf(p->out, " by %u", n->bit);
    if (n->op == K_CONST)
        strbuf_printf(p->out, " %a", n->value);
    if (n->op == K_LOAD)
        print_access(p, n);
    if (n->op == K_INDEX) {
        strbuf_putc(p->out, ' ');
        ix_print(p->k->pool, n->ix[0], p->out);
    }
    if (n->op == K_LANES)
        print_vals(p, n->args, n->lanes);
    else
        print_vals(p, n->arg, n->nargs);
    if (n->op == K_LANE || n->op == K_TAIL)
        strbuf_printf(p->out, " x%d", n->lanes);
    if ((n->op == K_LOAD && (n->nguard || (t.vec && n->lanes < p->k->lanes))) || n->op == K_TAIL ||
        n->op == K_LANES)
        strbuf_printf(p->out, " pad %a", n->value);
    if (n->op == K_LOAD && n->nguard) {
        strbuf_add(p->out, " if ");
        print_guards(p, n);
    }
}

static void print_nodes(const Printer *p, const KNode *n, int indent)
{
    for (; n; n = n->next) {
        strbuf_printf(p->out, "%*s", 2 * indent, "");
        if (n->op == K_LOOP) {
            print_loop(p, n);
        } else if (n->op == K_WHEN) {
            strbuf_add(p->out, "when ");
            print_guards(p, n);
        } else if (n->op == K_PICK) {
            strbuf_printf(p->out, "pick %s < %lld =", ix_var_name(p->k->pool, n->var),
                          (long long)ix_var_count(p->k->pool, n->var));
            print_vals(p, n->arg, 1);
        } else if (n->op == K_BARRIER || n->op == K_SYNC) {
            strbuf_add(p->out, n->op == K_SYNC ? "sync"
                               : n->last       ? "barrier, last block"
                                               : "barrier");
        } else if (n->op == K_LAST) {
            strbuf_printf(p->out, "last of %s", ix_var_name(p->k->pool, n->var));
        } else if (n->op == K_NOTE) {
            strbuf_printf(p->out, "# %s", n->text);
        } else if (n->op == K_STORE || n->op == K_STORE4) {
            strbuf_add(p->out, n->op == K_STORE ? "store" : "store4");
            print_access(p, n);
            strbuf_add(p->out, " =");
            if (n->op == K_STORE)
                print_vals(p, n->arg, 1);
            else
                print_vals(p, n->args, 4);
        } else if (n->op == K_LOAD4) {
            strbuf_add(p->out, "load4");
            print_vals(p, n->args, 4);
            strbuf_add(p->out, " =");
            print_access(p, n);
        } else {
            print_value(p, n);
        }
        strbuf_putc(p->out, '\n');
        print_nodes(p, n->body, indent + 1);
    }
}

static void print_buf(const KBuf *b, Strbuf *out)
{
    static const char *const CLASS[] = { "in", "out", "shared", "private", "registers" };
    strbuf_printf(out, "%s %s: %s[", CLASS[b->cls], b->name, dtype_name(b->dt));
    int64_t packed = 1;
    bool strided = false;
    for (int d = b->rank - 1; d >= 0; d--) {
        strided |= b->stride[d] != packed;
        packed = size_mul(packed, b->shape[d]);
    }
    for (int d = 0; d < b->rank; d++) {
        strbuf_printf(out, "%s%lld", d ? "," : "", (long long)b->shape[d]);
        if (strided)
            strbuf_printf(out, ":%lld", (long long)b->stride[d]);
    }
    if (b->cls == BUF_IN || b->cls == BUF_OUT)
        strbuf_printf(out, "]   arg %u%s\n", b->arg, b->aliased ? " aliased" : "");
    else if (b->cls == BUF_REGISTERS)
        strbuf_printf(out, "]   of %d loops over threads\n", b->threads);
    else
        strbuf_printf(out, "]   at %lld%s\n", (long long)b->offset, b->aliased ? " aliased" : "");
}

void kir_print(const Kir *k, Strbuf *out)
{
    for (uint32_t i = 0; i < k->nbuf; i++)
        print_buf(&k->buf[i], out);
    Printer p = { k, kir_accumulators(k), out };
    print_nodes(&p, k->body, 0);
}
