/* SPDX-License-Identifier: Apache-2.0 */
/* program_describe: what a program says of its kernels. */
#include "runtime/program_state.h"

#include "ir/base/strbuf.h"

static void layers_of(const Graph *body, uint8_t *seen, int n)
{
    for (Ref r = 1; r < body->nnode; r++) {
        const Node *node = &body->node[r];
        const int layer = node->region ? body->region[node->region].layer : -1;
        if (layer >= 0 && layer < n && op_info[node->op].cls != CLASS_SOURCE)
            seen[layer] = 1;
        if (node->op == OP_scan)
            layers_of(node->attr.scan.body, seen, n);
    }
}

static const char *layers_text(Arena *arena, const Graph *body)
{
    enum { MAX_LAYERS = 4096 };
    uint8_t seen[MAX_LAYERS] = { 0 };
    Strbuf b = { 0 };
    layers_of(body, seen, MAX_LAYERS);
    for (int i = 0; i < MAX_LAYERS; i++)
        if (seen[i])
            strbuf_printf(&b, "%s%d", b.n ? "," : "", i);
    const char *text = arena_strdup(arena, strbuf_str(&b));
    strbuf_free(&b);
    return text;
}

static const char *keep(Arena *arena, const char *s)
{
    return arena_strdup(arena, s ? s : "");
}

/* What ProgramView says of a kernel. */
static Kernel keep_code(Arena *arena, const Kernel *k, const GtcKernelInfo *info)
{
    Launch *launch = arena_array(arena, Launch, k->nlaunch);
    for (int i = 0; i < k->nlaunch; i++) {
        launch[i] = k->launch[i];
        launch[i].entry = keep(arena, k->launch[i].entry);
    }
    return (Kernel){ .name = info->name,
                     .label = info->label,
                     .source = info->source,
                     .launch = launch,
                     .nlaunch = k->nlaunch };
}

void program_describe(Bind *b, const Code *code, const char *const *layers)
{
    GtcProgram *p = b->p;
    Kernel *kept = arena_array(p->arena, Kernel, b->nk);
    p->code = kept;
    p->kernel = arena_array(p->arena, GtcKernelInfo, b->nk);
    for (int i = 0; i < b->nk; i++) {
        const Kernel *k = &b->k[i];
        const bool call = code[i].from == CODE_CALL;
        p->kernel[i] = (GtcKernelInfo){
            .name = keep(p->arena, k->name),
            .label = keep(p->arena, k->label),
            .planner = keep(p->arena, call ? "library" : k->planner),
            .node = b->fusion[i],
            .layers = layers[i],
            .source = call ? arena_printf(p->arena, "/* %s */\n", code[i].call)
                           : keep(p->arena, k->source),
            .plan = call ? arena_printf(p->arena, "%s\n", code[i].call) : keep(p->arena, k->plan),
            .flops = k->flops,
            .bytes = k->bytes,
            .launches = code[i].from != CODE_NONE && !call && k->launch ? k->nlaunch : 1,
            .interpreted = code[i].from == CODE_NONE,
        };
        kept[i] = keep_code(p->arena, k, &p->kernel[i]);
        p->info.compiled += code[i].from == CODE_COMPILED;
        p->info.cached += code[i].from == CODE_CACHED;
        p->info.interpreted += code[i].from == CODE_NONE;
        p->info.calls += call;
        p->info.launches += p->kernel[i].launches;
    }
    p->info.kernels = b->nk;
}

const char **program_layers(Bind *b)
{
    const char **layers = arena_array(b->p->arena, const char *, b->nk);
    for (int i = 0; i < b->nk; i++)
        layers[i] = layers_text(b->p->arena, b->g->node[b->fusion[i]].attr.fusion.body);
    return layers;
}
