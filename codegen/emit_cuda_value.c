/* SPDX-License-Identifier: Apache-2.0 */
/* One node of KIR as CUDA C: values, loads and stores.  Loops and launches: emit_cuda.c. */
#include "codegen/emit.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const char REG_SUFFIX[] = {
    [REG_F32] = 'f', [REG_I32] = 'i', [REG_I64] = 'l', [REG_BOOL] = 'b'
};

const char *emit_cuda_register(RegType reg)
{
    static const char *const type[] = {
        [REG_F32] = "float", [REG_I32] = "int", [REG_I64] = "gtc_i64", [REG_BOOL] = "int"
    };
    return type[reg];
}

const char *emit_cuda_memory(DType dt)
{
    switch (dt) {
    case DT_F32:
        return "float";
    case DT_F16:
    case DT_BF16:
        return "gtc_u16";
    case DT_I32:
        return "int";
    case DT_I64:
        return "gtc_i64";
    case DT_U8:
    case DT_BOOL:
        return "gtc_u8";
    default:
        gtc_assert(0, "a kernel buffer of %s", dtype_name(dt));
        return NULL;
    }
}

static void put_load(Emit *e, const KNode *n)
{
    const KBuf *b = &e->k->buf[n->buf];
    const RegType reg = e->k->val[n->dst].reg;
    const bool half = b->dt == DT_F16 || b->dt == DT_BF16;
    gtc_assert(!e->k->val[n->dst].vec, "a vector on a GPU");
    if (n->nguard) {
        emit_guards(e, n);
        strbuf_add(e->out, " ? ");
    }
    if (half)
        strbuf_printf(e->out, "gtc_f_from_%s(", emit_memory_suffix(b->dt));
    emit_element(e, n);
    strbuf_add(e->out, half ? ")" : b->dt == DT_BOOL ? " != 0" : "");
    if (n->nguard) {
        strbuf_add(e->out, " : ");
        emit_constant(e, reg, n->value);
    }
}

static void put_cast(Emit *e, const KNode *n)
{
    const RegType from = e->k->val[n->arg[0]].reg, to = e->k->val[n->dst].reg;
    const char *name = "";
    if (from == to) {
        emit_val(e, n->arg[0]);
        strbuf_add(e->out, to == REG_I32 ? " & 255" : "");
    } else if (to == REG_BOOL) {
        emit_val(e, n->arg[0]);
        strbuf_add(e->out, " != 0");
    } else {
        if (from == REG_F32)
            name = to == REG_I32 ? "gtc_i_from_f" : "gtc_l_from_f";
        else if (from == REG_I64 && to == REG_I32)
            name = "gtc_i_from_l";
        else if (from != REG_BOOL || to != REG_I32)
            name = to == REG_F32 ? "(float)" : "(gtc_i64)";
        strbuf_printf(e->out, "%s(", name);
        emit_val(e, n->arg[0]);
        strbuf_putc(e->out, ')');
    }
}

/* The op's text with operands in place of x0 x1 x2, and the type's letter behind the names of the
 * prelude's functions; integers wrap around by functions of their own. */
static const char *ew_text(const Emit *e, const KNode *n, char *own, size_t size)
{
    const RegType reg = e->k->val[n->arg[n->ew == OP_select]].reg;
    const bool integer = reg == REG_I32 || reg == REG_I64;
    if (reg == REG_BOOL && (n->ew == OP_max || n->ew == OP_min))
        return n->ew == OP_max ? "x0 | x1" : "x0 & x1";
    if (integer && n->ew == OP_neg)
        return "gtc_neg(x0)";
    if (integer && (n->ew == OP_add || n->ew == OP_sub || n->ew == OP_mul || n->ew == OP_div)) {
        snprintf(own, size, "gtc_%s(x0, x1)", op_info[n->ew].name);
        return own;
    }
    gtc_assert(emit_value[n->ew], "%s is not elementwise", op_info[n->ew].name);
    return emit_value[n->ew];
}

static void put_ew(Emit *e, const KNode *n)
{
    char own[48];
    if (n->ew == OP_cast) {
        put_cast(e, n);
        return;
    }
    const char suffix = REG_SUFFIX[e->k->val[n->arg[n->ew == OP_select]].reg];
    bool name = false;
    for (const char *c = ew_text(e, n, own, sizeof own); *c; c++) {
        const bool word = isalnum((unsigned char)*c) || *c == '_';
        if (*c == 'x' && !name && c[1] >= '0' && c[1] < '0' + n->nargs) {
            emit_val(e, n->arg[*++c - '0']);
            continue;
        }
        if (name && *c == '(')
            strbuf_printf(e->out, "_%c", suffix);
        name = word && (name || isalpha((unsigned char)*c));
        strbuf_putc(e->out, *c);
    }
}

static void put_rand(Emit *e, const KNode *n)
{
    strbuf_add(e->out, "gtc_rand_f(");
    for (int i = 0; i < 4; i++) {
        strbuf_add(e->out, "(gtc_u32)");
        emit_val(e, n->arg[i]);
        strbuf_add(e->out, ", ");
    }
    emit_val(e, n->arg[4]);
    strbuf_putc(e->out, ')');
}

static void put_meet(Emit *e, const KNode *n)
{
    const bool same = n->arg[0] == n->arg[1];
    for (int mine = 1; mine >= 0; mine--) {
        strbuf_add(e->out, mine ? "" : " + gtc_shfl_xor_f(");
        if (!same) {
            strbuf_printf(e->out, mine ? "(tid & %u ? " : "tid & %u ? ", n->bit);
            emit_val(e, n->arg[mine]);
            strbuf_add(e->out, " : ");
        }
        emit_val(e, n->arg[!mine]);
        if (mine)
            strbuf_add(e->out, same ? "" : ")");
    }
    strbuf_printf(e->out, ", %u)", n->bit);
}

void emit_cuda_value(Emit *e, const KNode *n, int64_t along)
{
    const RegType reg = e->k->val[n->dst].reg;
    switch (n->op) {
    case K_INDEX:
        strbuf_printf(e->out, "(%s)(", emit_cuda_register(reg));
        ix_print(e->k->pool, n->ix[0], e->out);
        strbuf_putc(e->out, ')');
        break;
    case K_LOAD:
        put_load(e, n);
        break;
    case K_EW:
        put_ew(e, n);
        break;
    case K_RAND:
        put_rand(e, n);
        break;
    case K_ACC:
    case K_SET:
        emit_val(e, n->arg[0]);
        break;
    case K_ACROSS:
        strbuf_printf(e->out, "gtc_%s_%s_%c(", along == 32 ? "warp" : "block", op_info[n->ew].name,
                      REG_SUFFIX[reg]);
        emit_val(e, n->arg[0]);
        if (along == 32)
            strbuf_add(e->out, ", __LINE__)");
        else
            strbuf_printf(e->out, ", (%s *)scratch, %d, __LINE__)", emit_cuda_register(reg),
                          (int)along / 32);
        break;
    case K_MEET:
        put_meet(e, n);
        break;
    default:
        gtc_assert(0, "KIR node %d has no value on a GPU", n->op);
    }
}

static void put_store(Emit *e, const KNode *n)
{
    const KBuf *b = &e->k->buf[n->buf];
    const bool half = b->dt == DT_F16 || b->dt == DT_BF16,
               byte = b->dt == DT_U8 || b->dt == DT_BOOL;
    emit_element(e, n);
    strbuf_add(e->out, " = ");
    if (half)
        strbuf_printf(e->out, "gtc_%s_from_f(", emit_memory_suffix(b->dt));
    strbuf_add(e->out, byte ? "(gtc_u8)" : "");
    emit_val(e, n->arg[0]);
    strbuf_add(e->out, half ? ");\n" : ";\n");
}

/* Four elements at once. */
static void put_load4(Emit *e, const KNode *n)
{
    const KBuf *b = &e->k->buf[n->buf];
    const char kind = b->dt == DT_F32 ? 'f' : 'i';
    strbuf_printf(e->out, "const gtc_%c4 q%u = gtc_ld_%c4_at(&", kind, n->args[0], kind);
    emit_element(e, n);
    strbuf_add(e->out, ", __LINE__);\n");
    emit_line(e);
    strbuf_printf(e->out, "const %s", emit_cuda_memory(b->dt));
    for (int i = 0; i < 4; i++)
        strbuf_printf(e->out, "%s v%u = q%u.%c", i ? "," : "", n->args[i], n->args[0], "xyzw"[i]);
    strbuf_add(e->out, ";\n");
}

static void put_store4(Emit *e, const KNode *n)
{
    const char kind = e->k->buf[n->buf].dt == DT_F32 ? 'f' : 'i';
    strbuf_printf(e->out, "gtc_st_%c4_at(&", kind);
    emit_element(e, n);
    strbuf_printf(e->out, ", gtc_%c4_of(", kind);
    emit_vals(e, n->args, 4);
    strbuf_add(e->out, "), __LINE__);\n");
}

void emit_cuda_access(Emit *e, const KNode *n)
{
    if (n->op == K_STORE)
        put_store(e, n);
    else if (n->op == K_LOAD4)
        put_load4(e, n);
    else
        put_store4(e, n);
}
