/* SPDX-License-Identifier: Apache-2.0 */
/* Equal parts of a kernel are spelled once.
 *
 * A kernel that does the same to many tensors (an optimizer's update, the squares of a norm) has a
 * team loop for each, which differ in nothing but buffers, numbers of values and names of loop
 * variables.  So each loop at top level is also written in a canonical way: buffers b0, b1 .. in
 * the order in which they are met, values and variables numbered anew, and what comes from outside
 * as parameters.  Loops with equal canonical text are calls of one function.  The C compiler then
 * sees a transformer's update once a shape and not once a parameter. */
#include "codegen/emit_once.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

typedef struct Rename {
    const Kir *k;
    const char *const *buffer; /* names of buffers in the text */
    Piece *p;
    uint8_t *inside; /* by value: made inside the loop */
    uint32_t *value; /* by value: its new number, or 0 */
    uint32_t nvalue;
    Var *var; /* variables of the loop */
    uint32_t nvar, var_cap;
    BufId *buf; /* buffers of the loop */
    uint32_t nbuf, buf_cap;
} Rename;

static void note_buffer(Rename *r, BufId b)
{
    for (uint32_t i = 0; i < r->nbuf; i++)
        if (r->buf[i] == b)
            return;
    arena_grow(r->k->arena, r->buf, r->nbuf, r->buf_cap);
    r->buf[r->nbuf++] = b;
}

static void note_nodes(Rename *r, const KNode *n)
{
    for (; n; n = n->next) {
        if (n->op == K_LOOP || n->op == K_PICK) {
            arena_grow(r->k->arena, r->var, r->nvar, r->var_cap);
            r->var[r->nvar++] = n->var;
        }
        if (n->op == K_LOAD || n->op == K_STORE)
            note_buffer(r, n->buf);
        r->inside[n->dst] = 1;
        note_nodes(r, n->body);
    }
}

static bool is_word(const char *s, size_t n, const char *word)
{
    return strncmp(s, word, n) == 0 && word[n] == 0;
}

/* v12 and a12, which no variable and no buffer is called. */
static bool put_value(Rename *r, const char *s, size_t n, Strbuf *out)
{
    if (n < 2 || (*s != 'v' && *s != 'a'))
        return false;
    for (size_t i = 1; i < n; i++)
        if (!isdigit((unsigned char)s[i]))
            return false;
    const Val v = (Val)strtoul(s + 1, NULL, 10);
    if (!r->value[v]) {
        r->value[v] = ++r->nvalue;
        if (!r->inside[v]) {
            arena_grow(r->k->arena, r->p->val, r->p->nval, r->p->val_cap);
            arena_grow(r->k->arena, r->p->number, r->p->nval, r->p->number_cap);
            r->p->number[r->p->nval] = r->nvalue;
            r->p->val[r->p->nval++] = v;
        }
    }
    strbuf_printf(out, "%c%u", *s, r->value[v]);
    return true;
}

static bool put_buffer(Rename *r, const char *s, size_t n, Strbuf *out)
{
    for (uint32_t i = 0; i < r->nbuf; i++) {
        if (!is_word(s, n, r->buffer[r->buf[i]]))
            continue;
        uint32_t at = 0;
        while (at < r->p->nbuf && r->p->buf[at] != r->buf[i])
            at++;
        if (at == r->p->nbuf) {
            arena_grow(r->k->arena, r->p->buf, r->p->nbuf, r->p->buf_cap);
            r->p->buf[r->p->nbuf++] = r->buf[i];
        }
        strbuf_printf(out, "b%u", at);
        return true;
    }
    return false;
}

/* A variable, or the end of a team loop's share: share_2, share_2_end. */
static bool put_variable(Rename *r, const char *s, size_t n, Strbuf *out)
{
    static const char end[] = "_end";
    for (int k = 0; k < 2; k++) {
        const size_t tail = k ? sizeof end - 1 : 0;
        if (n <= tail || memcmp(s + n - tail, end, tail) != 0)
            continue;
        for (uint32_t i = 0; i < r->nvar; i++)
            if (is_word(s, n - tail, ix_var_name(r->k->pool, r->var[i]))) {
                strbuf_printf(out, "i%u%s", i, k ? end : "");
                return true;
            }
    }
    return false;
}

Piece emit_piece(const Kir *k, const char *const *buffer, const KNode *loop, const char *text)
{
    Piece p = { 0 };
    Rename r = { .k = k,
                 .buffer = buffer,
                 .p = &p,
                 .inside = arena_array(k->arena, uint8_t, k->nval + 1),
                 .value = arena_array(k->arena, uint32_t, k->nval + 1) };
    KNode only = *loop;
    only.next = NULL;
    note_nodes(&r, &only);
    Strbuf out = { 0 };
    for (const char *s = text; *s;) {
        size_t n = 0;
        while (isalnum((unsigned char)s[n]) || s[n] == '_')
            n++;
        const bool word = n && !isdigit((unsigned char)*s);
        if (!word || !(put_buffer(&r, s, n, &out) || put_variable(&r, s, n, &out) ||
                       put_value(&r, s, n, &out)))
            strbuf_addn(&out, s, n ? n : 1);
        s += n ? n : 1;
    }
    p.text = arena_strdup(k->arena, strbuf_str(&out));
    strbuf_free(&out);
    return p;
}

static bool same_kind(const Kir *k, const Piece *a, const Piece *b)
{
    if (a->nbuf != b->nbuf || a->nval != b->nval || strcmp(a->text, b->text) != 0)
        return false;
    for (uint32_t i = 0; i < a->nbuf; i++) {
        const KBuf *x = &k->buf[a->buf[i]], *y = &k->buf[b->buf[i]];
        if (x->dt != y->dt || (x->cls == BUF_IN) != (y->cls == BUF_IN) || x->aliased != y->aliased)
            return false;
    }
    for (uint32_t i = 0; i < a->nval; i++)
        if (k->val[a->val[i]].reg != k->val[b->val[i]].reg ||
            k->val[a->val[i]].vec != k->val[b->val[i]].vec)
            return false;
    return true;
}

void emit_match(const Kir *k, Piece *piece, int n)
{
    for (int i = 0; i < n; i++) {
        piece[i].first = i;
        piece[i].uses = 1;
        for (int j = 0; j < i && piece[i].first == i; j++)
            if (piece[j].first == j && same_kind(k, &piece[j], &piece[i])) {
                piece[i].first = j;
                piece[j].uses++;
            }
    }
}
