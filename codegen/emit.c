/* SPDX-License-Identifier: Apache-2.0 */
/* What the spellings of KIR have in common: names of values, constants, flat indices, guards and
 * comments are the same in C and in CUDA C. */
#include "codegen/emit.h"

#include <math.h>
#include <string.h>

#include "ir/base/bug.h"

const char *const emit_value[OP_COUNT] = {
#define OP(id, args, cls, flags, prec, shape, attr, grad)
#define EW(id, args, flags, prec, shape, grad, value) [OP_##id] = #value,
#include "ir/ops.def"
};

const char *emit_memory_suffix(DType dt)
{
    static const char *const S[DT_COUNT] = {
        [DT_F32] = "f", [DT_F16] = "h", [DT_BF16] = "bf",
        [DT_I32] = "i", [DT_U8] = "u",  [DT_BOOL] = "b",
    };
    gtc_assert(S[dt], "a vector of %s in memory", dtype_name(dt));
    return S[dt];
}

/* ---- pieces of expressions */

void emit_line(Emit *e)
{
    strbuf_printf(e->out, "%*s", 4 * e->indent, "");
}

/* A literal; operands are primary expressions, so a negative one has parentheses. */
void emit_constant(Emit *e, RegType reg, double x)
{
    if (reg == REG_BOOL) {
        strbuf_add(e->out, x != 0 ? "1" : "0");
    } else if (reg == REG_F32) {
        float f = (float)x;
        if (isnan(f))
            strbuf_add(e->out, "GTC_NAN");
        else if (isinf(f))
            strbuf_add(e->out, f > 0 ? "GTC_INF" : "(-GTC_INF)");
        else
            strbuf_printf(e->out, signbit(f) ? "(%af)" : "%af", (double)f);
    } else {
        int64_t i = x >= 0x1p63 ? INT64_MAX : (int64_t)x;
        const char *l = reg == REG_I64 ? e->long_suffix : "";
        if (i == (reg == REG_I64 ? INT64_MIN : INT32_MIN))
            strbuf_printf(e->out, "(%lld%s - 1)", (long long)(i + 1), l);
        else
            strbuf_printf(e->out, i < 0 ? "(%lld%s)" : "%lld%s", (long long)i, l);
    }
}

void emit_val(Emit *e, Val v)
{
    gtc_assert(v > 0 && v < e->k->nval, "no value %u", v);
    if (e->constant[v])
        emit_constant(e, e->k->val[v].reg, *e->constant[v]);
    else
        strbuf_printf(e->out, "%c%u", e->acc[v] ? 'a' : 'v', v);
}

void emit_vals(Emit *e, const Val *v, int n)
{
    for (int i = 0; i < n; i++) {
        strbuf_add(e->out, i ? ", " : "");
        emit_val(e, v[i]);
    }
}

/* name[flattened index] */
void emit_element(Emit *e, const KNode *n)
{
    const KBuf *b = &e->k->buf[n->buf];
    Ix at = 0;
    for (int d = 0; d < b->rank; d++)
        at = ix_add(e->k->pool, at, ix_scale(e->k->pool, n->ix[d], b->stride[d]));
    strbuf_printf(e->out, "%s[", e->name[n->buf]);
    ix_print(e->k->pool, at, e->out);
    strbuf_putc(e->out, ']');
}

static void put_bound(Emit *e, Ix ix, const char *op, int64_t bound, bool *any)
{
    strbuf_add(e->out, *any ? " && " : "");
    ix_print(e->k->pool, ix, e->out);
    strbuf_printf(e->out, " %s %lld", op, (long long)bound);
    *any = true;
}

/* What the ranges of the loops already say is left out. */
void emit_guards(Emit *e, const KNode *n)
{
    bool any = false;
    for (int i = 0; i < n->nguard; i++) {
        const Guard *g = &n->guard[i];
        IxRange r = ix_range(e->k->pool, g->ix);
        if (r.lo < g->lo)
            put_bound(e, g->ix, ">=", g->lo, &any);
        if (r.hi >= g->hi + BUG(40))
            put_bound(e, g->ix, "<", g->hi, &any);
    }
    if (!any)
        strbuf_putc(e->out, '1');
}

/* Text inside a comment. */
void emit_comment_text(Strbuf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        strbuf_putc(out, s[i]);
        if (i + 1 < n && ((s[i] == '*' && s[i + 1] == '/') || (s[i] == '/' && s[i + 1] == '*')))
            strbuf_putc(out, ' ');
    }
}

void emit_header(Strbuf *out, const char *s)
{
    const char *lead = "/* ";
    for (size_t n; *s; s += n + (s[n] == '\n')) {
        n = strcspn(s, "\n");
        strbuf_add(out, lead);
        emit_comment_text(out, s, n);
        lead = "\n * ";
    }
    strbuf_add(out, " */\n");
}
