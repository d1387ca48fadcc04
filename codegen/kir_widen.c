/* SPDX-License-Identifier: Apache-2.0 */
/* Four neighbours at once, for GPUs.
 *
 * Where four loads, or four stores, of one list of nodes are of neighbouring elements of 4 bytes,
 * the first at a multiple of four, they become one of 16 bytes.  Nobody plans for that: it follows
 * from tiles of four points along the axis that memory runs along, and from operands that a block
 * keeps in shared memory.  Loads come where the first stood and stores where the last stood, if no
 * other node between touches the buffer.  Buffers begin at multiples of 64 bytes.
 *
 * What kir_verify proved stays true: the same elements are touched by the same threads between the
 * same syncs. */
#include "codegen/kir.h"

#include <string.h>

enum { WIDE = 4, FAR = 400 }; /* FAR: nodes that are looked over from the first of four */

static Ix flat_index(const Kir *k, const KNode *n)
{
    const KBuf *b = &k->buf[n->buf];
    Ix at = 0;
    for (int d = 0; d < b->rank; d++)
        at = ix_add(k->pool, at, ix_scale(k->pool, n->ix[d], b->stride[d]));
    return at;
}

static bool may_start(const Kir *k, const KNode *n, Ix *at)
{
    int64_t rest;
    if ((n->op != K_LOAD && n->op != K_STORE) || n->nguard)
        return false;
    const KBuf *b = &k->buf[n->buf];
    if ((b->dt != DT_F32 && b->dt != DT_I32) || b->rank == 0 || b->cls == BUF_REGISTERS)
        return false;
    *at = flat_index(k, n);
    return ix_is_const(k->pool, ix_mod(k->pool, *at, WIDE), &rest) && rest == 0;
}

static bool touches(const Kir *k, const KNode *n, BufId buf, bool write_only)
{
    for (; n; n = n->next) {
        const bool access = n->op == K_STORE || (n->op == K_LOAD && !write_only);
        if ((access && n->buf == buf) || n->op == K_SYNC || n->op == K_LAST ||
            touches(k, n->body, buf, write_only))
            return true;
    }
    return false;
}

/* The nodes of the other three, in order; false: they are not there, or something is between. */
static bool find_three(const Kir *k, KNode *first, Ix at, KNode *found[WIDE])
{
    int left = WIDE - 1;
    memset(found, 0, sizeof *found * WIDE);
    found[0] = first;
    int seen = 0;
    for (KNode *n = first->next; n && left && seen < FAR; n = n->next, seen++) {
        if (n->op == first->op && n->buf == first->buf && !n->nguard) {
            int64_t c;
            if (ix_is_const(k->pool, ix_sub(k->pool, flat_index(k, n), at), &c) && c > 0 &&
                c < WIDE) {
                if (found[c])
                    return false;
                found[c] = n;
                left--;
                continue;
            }
        }
        if (n->op == K_SET && first->op == K_STORE)
            return false; /* it may be what is stored */
        KNode one = *n;
        one.next = NULL;
        if (touches(k, &one, first->buf, first->op == K_LOAD))
            return false;
    }
    return left == 0;
}

static void unlink_node(KNode **list, const KNode *n)
{
    while (*list != n)
        list = &(*list)->next;
    *list = n->next;
}

static void widen_loads(KNode *found[WIDE], Val *v)
{
    for (int i = 1; i < WIDE; i++)
        unlink_node(&found[0]->next, found[i]);
    found[0]->op = K_LOAD4;
    found[0]->args = v;
}

static void widen_stores(KNode **list, KNode *found[WIDE], Val *v)
{
    KNode *last = found[0];
    for (KNode *n = found[0]; n; n = n->next)
        for (int i = 1; i < WIDE; i++)
            last = found[i] == n ? n : last;
    last->ix = found[0]->ix;
    last->op = K_STORE4;
    last->args = v;
    for (int i = 0; i < WIDE; i++)
        if (found[i] != last)
            unlink_node(list, found[i]);
}

static void widen_list(Kir *k, KNode **list)
{
    for (KNode **at = list; *at;) {
        KNode *n = *at, *found[WIDE];
        Ix flat;
        if (n->body)
            widen_list(k, &n->body);
        const bool four = may_start(k, n, &flat) && find_three(k, n, flat, found);
        if (four) {
            Val *v = arena_array(k->arena, Val, WIDE);
            for (int i = 0; i < WIDE; i++)
                v[i] = n->op == K_LOAD ? found[i]->dst : found[i]->arg[0];
            if (n->op == K_LOAD)
                widen_loads(found, v);
            else
                widen_stores(at, found, v);
        }
        if (*at == n)
            at = &n->next;
    }
}

void kir_widen(Kir *k)
{
    widen_list(k, &k->body);
}
