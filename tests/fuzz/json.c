/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: what is taken prints, and what is printed reads back as the same tree. */
#include <stdlib.h>
#include <string.h>

#include "models/json.h"
#include "tests/fuzz/target.h"

static bool equal(const Json *a, const Json *b)
{
    if (a->kind != b->kind || a->count != b->count || a->index != b->index)
        return false;
    if (!a->key != !b->key || (a->key && strcmp(a->key, b->key) != 0))
        return false;
    if (a->kind == JSON_NUMBER && (a->number != b->number || a->integer != b->integer))
        return false;
    if (a->kind == JSON_STRING && strcmp(a->string, b->string) != 0)
        return false;
    if (a->kind == JSON_BOOL && a->truth != b->truth)
        return false;
    const Json *x = a->first, *y = b->first;
    for (; x && y; x = x->next, y = y->next)
        if (!equal(x, y))
            return false;
    return !x && !y;
}

static Status read_json(Ctx *cx)
{
    char *text;
    size_t n;
    Json *v, *again;
    TRY(os_read_file(cx, "input.json", &text, &n));
    Arena *arena = arena_new();
    const Status st = json_parse(cx, arena, "input.json", text, n, &v);
    if (st == ST_OK) {
        Strbuf s = { 0 };
        fuzz_accepted();
        json_print(v, &s);
        fuzz_check(json_parse(cx, arena, "printed", s.s, s.n, &again) == ST_OK, "%s", cx->msg);
        fuzz_check(equal(v, again), "%s", s.s);
        strbuf_free(&s);
    }
    free(text);
    arena_free(arena);
    return st;
}

const FuzzTarget fuzz_json = { "json", "input.json", read_json };
