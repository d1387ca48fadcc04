/* SPDX-License-Identifier: Apache-2.0 */
/* KIR as C.  One node is one line; what is not plain C is a gtc_ function of the prelude, whose
 * suffix says the type: f i l b for a value, h bf u beside them for memory.
 *
 * Constants stand where they are used.  All other values are locals that are set once, v12, and
 * accumulators are a12.  Each access writes its flattened index; what is common to several is left
 * to the C compiler, which sees all of it as sums of loop counters. */
#include "codegen/emit.h"
#include "codegen/emit_once.h"

#include <ctype.h>
#include <string.h>

#include "ir/base/bug.h"

static const char *const REG_SUFFIX[] = {
    [REG_F32] = "f", [REG_I32] = "i", [REG_I64] = "l", [REG_BOOL] = "b"
};

static const char *c_type(ValInfo t)
{
    static const char *const SCALAR[] = { "float", "int", "long", "int" };
    static const char *const VECTOR[] = { "gtc_vf", "gtc_vi", NULL, "gtc_vi" };
    const char *s = t.vec ? VECTOR[t.reg] : SCALAR[t.reg];
    gtc_assert(s, "a vector of i64");
    return s;
}

static const char *c_memory_type(DType dt)
{
    switch (dt) {
    case DT_F32:
        return "float";
    case DT_F16:
    case DT_BF16:
        return "unsigned short";
    case DT_I32:
        return "int";
    case DT_I64:
        return "long";
    case DT_U8:
    case DT_BOOL:
        return "unsigned char";
    default:
        gtc_assert(0, "a kernel buffer of %s", dtype_name(dt));
        return NULL;
    }
}

static void put_splat(Emit *e, RegType reg, double x)
{
    strbuf_printf(e->out, "gtc_splat_%s(", REG_SUFFIX[reg]);
    emit_constant(e, reg, x);
    strbuf_putc(e->out, ')');
}

/* ---- values */

static void put_load(Emit *e, const KNode *n)
{
    const KBuf *b = &e->k->buf[n->buf];
    ValInfo t = e->k->val[n->dst];
    if (n->nguard) {
        emit_guards(e, n);
        strbuf_add(e->out, " ? ");
    }
    if (t.vec) {
        strbuf_printf(e->out, "gtc_load_%s%s(&", emit_memory_suffix(b->dt),
                      n->lanes < e->k->lanes ? "_part" : "");
        emit_element(e, n);
        if (n->lanes < e->k->lanes) {
            strbuf_printf(e->out, ", %d, ", n->lanes);
            /* A mask's pad is a mask. */
            strbuf_add(e->out, t.reg == REG_BOOL ? "-" : "");
            emit_constant(e, t.reg, n->value);
        }
        strbuf_putc(e->out, ')');
    } else if (b->dt == DT_F16 || b->dt == DT_BF16) {
        strbuf_printf(e->out, "gtc_f_from_%s(", emit_memory_suffix(b->dt));
        emit_element(e, n);
        strbuf_putc(e->out, ')');
    } else {
        emit_element(e, n);
        strbuf_add(e->out, b->dt == DT_BOOL ? " != 0" : "");
    }
    if (n->nguard) {
        strbuf_add(e->out, " : ");
        if (t.vec)
            put_splat(e, t.reg, n->value);
        else
            emit_constant(e, t.reg, n->value);
    }
}

static void put_cast(Emit *e, const KNode *n)
{
    ValInfo from = e->k->val[n->arg[0]], to = e->k->val[n->dst];
    if (from.reg == to.reg) {
        emit_val(e, n->arg[0]);
        if (to.reg == REG_I32)
            strbuf_add(e->out, to.vec ? " & gtc_splat_i(255)" : " & 255");
        return;
    }
    const char *name = NULL;
    if (to.reg == REG_BOOL && !to.vec) {
        emit_val(e, n->arg[0]);
        strbuf_add(e->out, " != 0");
        return;
    }
    if (to.vec)
        name = to.reg == REG_BOOL    ? (from.reg == REG_F32 ? "gtc_b_from_f_v" : "gtc_b_from_i_v")
               : to.reg == REG_F32   ? (from.reg == REG_I32 ? "gtc_f_from_i_v" : "gtc_f_from_b_v")
               : from.reg == REG_F32 ? "gtc_i_from_f_v"
                                     : "gtc_i_from_b_v";
    else if (from.reg == REG_F32)
        name = to.reg == REG_I32 ? "gtc_i_from_f_s" : "gtc_l_from_f";
    else if (from.reg == REG_I64 && to.reg == REG_I32)
        name = "gtc_i_from_l";
    else
        name = to.reg == REG_F32 ? "(float)" : to.reg == REG_I64 ? "(long)" : "";
    strbuf_add(e->out, name);
    strbuf_add(e->out, *name && name[0] != '(' ? "(" : "");
    emit_val(e, n->arg[0]);
    strbuf_add(e->out, *name && name[0] != '(' ? ")" : "");
}

/* The op's text with operands in place of x0 x1 x2. */
static void put_ew(Emit *e, const KNode *n)
{
    RegType reg = e->k->val[n->arg[0]].reg;
    const char *s = emit_value[n->ew];
    gtc_assert(s, "%s is not elementwise", op_info[n->ew].name);
    if (n->ew == OP_cast) {
        put_cast(e, n);
        return;
    }
    if (n->ew == OP_div && reg != REG_F32)
        s = "gtc_div(x0, x1)"; /* never traps */
    if (reg == REG_BOOL && (n->ew == OP_max || n->ew == OP_min))
        s = n->ew == OP_max ? "x0 | x1" : "x0 & x1"; /* true in a mask is -1 */
    for (const char *c = s; *c; c++) {
        bool word = c > s && (isalnum((unsigned char)c[-1]) || c[-1] == '_');
        if (*c == 'x' && !word && c[1] >= '0' && c[1] < '0' + n->nargs)
            emit_val(e, n->arg[*++c - '0']);
        else
            strbuf_putc(e->out, *c);
    }
}

static void put_lanes(Emit *e, const KNode *n)
{
    ValInfo t = e->k->val[n->dst];
    const char *minus = t.reg == REG_BOOL ? "-" : "";
    strbuf_printf(e->out, "(%s){ ", c_type(t));
    for (int i = 0; i < e->k->lanes; i++) {
        strbuf_add(e->out, i ? ", " : "");
        strbuf_add(e->out, minus);
        if (i < n->lanes)
            emit_val(e, n->args[i]);
        else
            emit_constant(e, t.reg, n->value);
    }
    strbuf_add(e->out, " }");
}

static void put_rand(Emit *e, const KNode *n)
{
    strbuf_add(e->out, e->k->val[n->dst].vec ? "gtc_rand_vf(" : "gtc_rand_f(");
    for (int i = 0; i < 4; i++) {
        strbuf_add(e->out, "(unsigned)");
        emit_val(e, n->arg[i]);
        strbuf_add(e->out, ", ");
    }
    emit_val(e, n->arg[4]);
    strbuf_putc(e->out, ')');
}

static void put_index(Emit *e, const KNode *n)
{
    ValInfo t = e->k->val[n->dst];
    strbuf_add(e->out, t.vec ? "gtc_count(" : t.reg == REG_I32 ? "(int)(" : "");
    ix_print(e->k->pool, n->ix[0], e->out);
    strbuf_add(e->out, t.vec || t.reg == REG_I32 ? ")" : "");
}

static void put_value(Emit *e, const KNode *n)
{
    ValInfo t = e->k->val[n->dst];
    switch (n->op) {
    case K_INDEX:
        put_index(e, n);
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
    case K_SPLAT:
        strbuf_printf(e->out, "gtc_splat_%s(", REG_SUFFIX[t.reg]);
        emit_vals(e, n->arg, 1);
        strbuf_putc(e->out, ')');
        break;
    case K_LANES:
        put_lanes(e, n);
        break;
    case K_LANE:
        emit_val(e, n->arg[0]);
        strbuf_printf(e->out, t.reg == REG_BOOL ? "[%d] & 1" : "[%d]", n->lanes);
        break;
    case K_TAIL:
        strbuf_printf(e->out, "gtc_tail_%s(", t.reg == REG_F32 ? "f" : "i");
        emit_vals(e, n->arg, 1);
        strbuf_printf(e->out, ", %d, %s", n->lanes, t.reg == REG_BOOL ? "-" : "");
        emit_constant(e, t.reg, n->value);
        strbuf_putc(e->out, ')');
        break;
    case K_ACC:
    case K_SET:
        emit_val(e, n->arg[0]);
        break;
    case K_REDUCE:
        strbuf_printf(e->out, "gtc_h%s_%s(", op_info[n->ew].name, REG_SUFFIX[t.reg]);
        emit_vals(e, n->arg, 1);
        strbuf_putc(e->out, ')');
        break;
    default:
        gtc_assert(0, "KIR node %d has no value", n->op);
    }
}

/* ---- statements */

static void put_store(Emit *e, const KNode *n)
{
    const KBuf *b = &e->k->buf[n->buf];
    const char *m = b->dt == DT_I64 ? "" : emit_memory_suffix(b->dt);
    if (!e->k->val[n->arg[0]].vec) {
        emit_element(e, n);
        bool half = b->dt == DT_F16 || b->dt == DT_BF16, byte = b->dt == DT_U8 || b->dt == DT_BOOL;
        strbuf_add(e->out, " = ");
        if (half)
            strbuf_printf(e->out, "gtc_%s_from_f(", m);
        strbuf_add(e->out, byte ? "(unsigned char)" : "");
        emit_val(e, n->arg[0]);
        strbuf_add(e->out, half ? ");\n" : ";\n");
        return;
    }
    bool part = n->lanes < e->k->lanes;
    strbuf_printf(e->out, "gtc_store_%s%s(&", m, part ? "_part" : "");
    emit_element(e, n);
    strbuf_add(e->out, ", ");
    emit_val(e, n->arg[0]);
    if (part)
        strbuf_printf(e->out, ", %d", n->lanes);
    strbuf_add(e->out, ");\n");
}

static void put_nodes(Emit *e, const KNode *n);

static void put_body(Emit *e, const KNode *n)
{
    e->indent++;
    put_nodes(e, n->body);
    e->indent--;
    emit_line(e);
    strbuf_add(e->out, "}\n");
}

static void put_loop(Emit *e, const KNode *n)
{
    const char *v = ix_var_name(e->k->pool, n->var);
    long long count = ix_var_count(e->k->pool, n->var);
    if (count == 0)
        return;
    if (n->bind == BIND_UNROLL && count > 1) {
        emit_line(e);
        strbuf_printf(e->out, "#pragma GCC unroll %d\n", n->unroll ? n->unroll : 1);
    }
    emit_line(e);
    if (n->bind == BIND_TEAM)
        strbuf_printf(e->out,
                      BUG(41)
                          ? "for (long %s = %lldL / team->nt * team->tid, "
                            "%s_end = %lldL / team->nt * (team->tid + 1); %s < %s_end; %s++) {\n"
                          : "for (long %s = %lldL * team->tid / team->nt, "
                            "%s_end = %lldL * (team->tid + 1) / team->nt; %s < %s_end; %s++) {\n",
                      v, count, v, count, v, v, v);
    else if (count == 1)
        strbuf_add(e->out, "{\n");
    else
        strbuf_printf(e->out, "for (long %s = 0; %s < %lld; %s++) {\n", v, v, count, v);
    put_body(e, n);
}

static void put_node(Emit *e, const KNode *n)
{
    switch (n->op) {
    case K_LOOP:
        put_loop(e, n);
        return;
    case K_CONST:
        e->constant[n->dst] = &n->value;
        return;
    default:
        break;
    }
    emit_line(e);
    switch (n->op) {
    case K_WHEN:
        strbuf_add(e->out, "if (");
        emit_guards(e, n);
        strbuf_add(e->out, ") {\n");
        put_body(e, n);
        return;
    case K_BARRIER:
        strbuf_add(e->out, "team->barrier(team->bar);\n");
        return;
    case K_NOTE:
        strbuf_add(e->out, "/* ");
        emit_comment_text(e->out, n->text, strlen(n->text));
        strbuf_add(e->out, " */\n");
        return;
    case K_STORE:
        put_store(e, n);
        return;
    case K_PICK:
        strbuf_printf(e->out, "const long %s = gtc_pick(", ix_var_name(e->k->pool, n->var));
        emit_vals(e, n->arg, 1);
        strbuf_printf(e->out, ", %lldL);\n", (long long)ix_var_count(e->k->pool, n->var));
        return;
    case K_SET:
        strbuf_printf(e->out, "a%u = ", n->dst);
        break;
    case K_ACC:
        strbuf_printf(e->out, "%s a%u = ", c_type(e->k->val[n->dst]), n->dst);
        break;
    default:
        strbuf_printf(e->out, "const %s v%u = ", c_type(e->k->val[n->dst]), n->dst);
    }
    put_value(e, n);
    strbuf_add(e->out, ";\n");
}

static void put_nodes(Emit *e, const KNode *n)
{
    for (; n; n = n->next)
        put_node(e, n);
}

/* ---- the function */

static void put_buffer(Emit *e, BufId id)
{
    const Kir *k = e->k;
    const KBuf *b = &k->buf[id];
    const char *type = c_memory_type(b->dt);
    uint32_t shared = k->nin + k->nout;

    e->name[id] = b->name;
    while (ix_name_taken(k->pool, e->name[id]))
        e->name[id] = arena_printf(k->arena, "%s_", e->name[id]);
    emit_line(e);
    strbuf_printf(e->out, "%s%s *%s%s = ", b->cls == BUF_IN ? "const " : "", type,
                  b->aliased ? "" : "restrict ", e->name[id]);
    if (b->cls == BUF_IN || b->cls == BUF_OUT)
        strbuf_printf(e->out, "arg[%u];\n", b->cls == BUF_IN ? b->arg : k->nin + b->arg);
    else if (b->cls == BUF_SHARED)
        strbuf_printf(e->out, "(void *)((char *)arg[%u] + %lld);\n", shared, (long long)b->offset);
    else
        strbuf_printf(e->out, "(void *)((char *)arg[%u] + %lldL * team->tid + %lld);\n", shared + 1,
                      (long long)k->private_bytes, (long long)b->offset);
}

/* ---- equal loops */

static void put_parameters(Emit *e, const Piece *p, bool call)
{
    for (uint32_t i = 0; i < p->nbuf; i++) {
        const KBuf *b = &e->k->buf[p->buf[i]];
        if (call)
            strbuf_printf(e->out, "%s, ", e->name[p->buf[i]]);
        else
            strbuf_printf(e->out, "%s%s *%sb%u, ", b->cls == BUF_IN ? "const " : "",
                          c_memory_type(b->dt), b->aliased ? "" : "restrict ", i);
    }
    for (uint32_t i = 0; i < p->nval; i++) {
        if (call)
            emit_val(e, p->val[i]);
        else
            strbuf_printf(e->out, "%s v%u", c_type(e->k->val[p->val[i]]), p->number[i]);
        strbuf_add(e->out, ", ");
    }
    strbuf_add(e->out, call ? "team" : "const gtc_team *restrict team");
}

/* The function's body: loops that others equal are calls, and their functions go to `before`. */
static void put_top(Emit *e, const char *name, Strbuf *before)
{
    enum { SHORT = 400 }; /* characters that are no more than a call */
    int n = 0;
    for (const KNode *at = e->k->body; at; at = at->next)
        n++;
    Piece *piece = arena_array(e->k->arena, Piece, n);
    const char **text = arena_array(e->k->arena, const char *, n);
    Strbuf *const out = e->out, line = { 0 };
    e->out = &line;
    n = 0;
    for (const KNode *at = e->k->body; at; at = at->next, n++) {
        strbuf_clear(&line);
        put_node(e, at);
        text[n] = arena_strdup(e->k->arena, strbuf_str(&line));
        if (at->op == K_LOOP && at->bind == BIND_TEAM)
            piece[n] = emit_piece(e->k, e->name, at, text[n]);
        else
            piece[n].text = arena_printf(e->k->arena, "%d", n);
    }
    strbuf_free(&line);
    emit_match(e->k, piece, n);
    for (int i = 0; i < n; i++) {
        const int f = piece[i].first;
        if (piece[f].uses == 1 || strlen(piece[f].text) < SHORT) {
            strbuf_add(out, text[i]);
            continue;
        }
        if (f == i) {
            e->out = before;
            strbuf_printf(before, "static __attribute__((noinline)) void %s_%d(", name, f);
            put_parameters(e, &piece[i], false);
            strbuf_printf(before, ")\n{\n%s}\n\n", piece[i].text);
        }
        e->out = out;
        emit_line(e);
        strbuf_printf(out, "%s_%d(", name, f);
        put_parameters(e, &piece[i], true);
        strbuf_add(out, ");\n");
    }
    e->out = out;
}

void emit_c(const Kir *k, const char *name, const char *header_comment, Strbuf *out)
{
    Emit e = { .k = k,
               .acc = kir_accumulators(k),
               .constant = arena_array(k->arena, const double *, k->nval),
               .name = arena_array(k->arena, const char *, k->nbuf),
               .out = out,
               .long_suffix = "L",
               .indent = 1 };
    if (header_comment && *header_comment)
        emit_header(out, header_comment);
    Strbuf text = { 0 };
    e.out = &text;
    for (uint32_t i = 0; i < k->nbuf; i++)
        put_buffer(&e, (BufId)i);
    put_top(&e, name, out);
    strbuf_printf(out,
                  "void %s(void *const *restrict arg, const gtc_team *restrict team)\n{\n%s}\n",
                  name, strbuf_str(&text));
    strbuf_free(&text);
}
