/* SPDX-License-Identifier: Apache-2.0 */
/* label: what a group is called in dumps and kernels.
 *
 * The region kind that its contractions (or without any, all its nodes) share, `_bwd` in a
 * backward region, then what else it does, each word once and at most WORDS of them:
 * "conv1d_bias_relu", "dense_bwd", "lstm_fwd", "exp_mul".  A group of many ops that a region names
 * is called by the region alone: "adam"; attention, whatever layer it is of, "attention_fwd".  No layer, no user text: equal bodies, equal labels. */
#include <string.h>

#include "passes/group.h"

enum { WORDS = 3, LABEL_MAX = 40 };

typedef struct Label {
    char s[LABEL_MAX + 1];
    size_t n;
    int words;
} Label;

static bool has_word(const Label *l, const char *word)
{
    const size_t n = strlen(word);
    for (const char *at = l->s; (at = strstr(at, word)); at++)
        if ((at == l->s || at[-1] == '_') && (at[n] == 0 || at[n] == '_'))
            return true;
    return false;
}

static bool add_word(Label *l, const char *word)
{
    if (has_word(l, word))
        return true;
    const size_t start = l->n;
    if (l->n && l->n < LABEL_MAX)
        l->s[l->n++] = '_';
    for (; *word && l->n < LABEL_MAX; word++) {
        const char c = *word >= 'A' && *word <= 'Z' ? (char)(*word + 32) : *word;
        l->s[l->n++] = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : '_';
    }
    if (*word)
        l->n = start; /* half a word says less than none */
    l->s[l->n] = 0;
    l->words += l->n > start;
    return l->n > start;
}

static bool has_large_work(const Graph *g)
{
    for (uint32_t i = 0; i < g->nout; i++)
        if (shape_count(&g->node[g->out[i].value].type.shape) > 1)
            return true;
    return false;
}

/* What computes, single numbers aside where the results are larger. */
static bool is_work(const Graph *g, const Node *n)
{
    const int cls = op_info[n->op].cls;
    if (cls == CLASS_ELEMENTWISE && shape_count(&n->type.shape) <= 1 && has_large_work(g))
        return false;
    return cls != CLASS_SOURCE && cls != CLASS_VIEW && cls != CLASS_TUPLE;
}

static bool is_main(const Node *n)
{
    return n->op == OP_scan || op_info[n->op].cls == CLASS_CONTRACT;
}

/* The region whose kind all nodes that count share; NULL when they differ. */
static const Region *shared_region(const Graph *g, bool only_main, int *nops)
{
    const Region *shared = NULL;
    bool first = true;
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        if (!is_work(g, n) || (only_main && !is_main(n)))
            continue;
        const Region *region = n->region ? &g->region[n->region] : NULL;
        ++*nops;
        if (first)
            shared = region;
        else if (!region || !shared || strcmp(region->kind, shared->kind) != 0)
            return NULL;
        first = false;
    }
    return shared;
}

/* What a person calls this node. */
static const char *word_of(const Graph *g, const Node *n)
{
    if (n->op == OP_add)
        for (int i = 0; i < 2; i++) {
            const Node *x = &g->node[n->arg[i]];
            if (x->op == OP_broadcast && g->node[x->arg[0]].op == OP_input)
                return "bias";
        }
    if (n->op == OP_max)
        for (int i = 0; i < 2; i++) {
            const Node *x = &g->node[n->arg[i]];
            if (x->op == OP_const && x->attr.fill.value == 0)
                return "relu";
        }
    return op_info[n->op].name;
}

static void add_ops(Label *l, const Graph *g, bool named)
{
    int left = WORDS;
    for (Ref r = 1; r < g->nnode && left > 0; r++) {
        const Node *n = &g->node[r];
        if ((!is_work(g, n) && n->op != OP_rand && n->op != OP_concat) || (named && is_main(n)))
            continue;
        const int words = l->words;
        if (!add_word(l, word_of(g, n)))
            return;
        left -= l->words - words;
    }
}

static void add_views(Label *l, const Graph *g)
{
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op != OP_input && !add_word(l, op_info[g->node[r].op].name))
            return;
}

/* Scores, a softmax of their rows (or its gradient), and a product with those. */
static bool is_attention(const Graph *g)
{
    int nproduct = 0;
    bool sums = false;
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        if (op_info[n->op].cls == CLASS_CONTRACT && !n->attr.contract.nbatch)
            return false;
        nproduct += op_info[n->op].cls == CLASS_CONTRACT;
        sums |= op_info[n->op].cls == CLASS_REDUCE;
    }
    return nproduct > 1 && sums;
}

const char *group_label(Arena *arena, const Graph *body)
{
    Label l = { .n = 0 };
    int nmain = 0, nops = 0;
    bool has_scan = false;
    for (Ref r = 1; r < body->nnode; r++)
        has_scan |= body->node[r].op == OP_scan;
    const Region *main_region = shared_region(body, true, &nmain);
    const Region *region = nmain ? main_region : shared_region(body, false, &nops);

    if (is_attention(body)) {
        add_word(&l, "attention");
        add_word(&l, region && region->bwd ? "bwd" : "fwd");
        return arena_strdup(arena, l.s);
    }
    if (region)
        add_word(&l, region->kind);
    if (has_scan)
        add_word(&l, !region ? "scan" : region->bwd ? "bwd" : "fwd");
    else if (region && region->bwd)
        add_word(&l, "bwd");
    if (!has_scan && !(region && !nmain && nops > WORDS))
        add_ops(&l, body, region != NULL);
    if (!l.n)
        add_views(&l, body);
    return arena_strdup(arena, l.n ? l.s : "copy");
}

const char *group_label_region(Arena *arena, const Region *region)
{
    Label l = { .n = 0 };
    add_word(&l, region->kind);
    if (region->bwd)
        add_word(&l, "bwd");
    return arena_strdup(arena, l.n ? l.s : "copy");
}
