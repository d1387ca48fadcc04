/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is left out of tests/recorded: every layer type, loss and optimizer, each of their keys
 * and choices, and every model of the zoo has a recording of PyTorch, or stands in the list of
 * those without a counterpart.  test_recorded compares them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "models/layer.h"
#include "tests/recording.h"

typedef struct Without {                   /* no recording is asked of it */
    const char *section, *key, *but, *why; /* section "*": all layers; but: for this one it is */
} Without;

static const Without without[] = {
    { "*", "init", "", "first values; a recording sets all weights" },
    { "*", "init_value", "", "first values" },
    { "prelu", "start", "", "first values" },
    { "*", "slope", "dense", "of an activation, and one function serves all layers" },
    { "*", "alpha", "dense", "of an activation, and one function serves all layers" },
    { "optimizer", "learning_rate", "", "the schedule's: a step is given its rate" },
};

typedef struct Seen {
    Arena *arena;
    const char **word; /* "dense", "dense.units", "dense.activation=relu" */
    unsigned n, cap;
    bool excused[sizeof without / sizeof *without];
} Seen;

static void see(Seen *s, const char *word)
{
    arena_grow(s->arena, s->word, s->n, s->cap);
    s->word[s->n++] = word;
}

static bool is_seen(const Seen *s, const char *word)
{
    for (unsigned i = 0; i < s->n; i++)
        if (strcmp(s->word[i], word) == 0)
            return true;
    return false;
}

/* An object with a "type"; common: the section of the keys that all types share. */
static void see_object(Seen *s, const Json *o, const char *common)
{
    const Json *type = json_member(o, "type");
    if (!type)
        return;
    see(s, type->string);
    for (const Json *v = o->first; v; v = v->next) {
        see(s, arena_printf(s->arena, "%s.%s", type->string, v->key));
        see(s, arena_printf(s->arena, "%s.%s", common, v->key));
        if (v->kind == JSON_STRING)
            see(s, arena_printf(s->arena, "%s.%s=%s", type->string, v->key, v->string));
    }
}

static void see_recording(Seen *s, const Recording *r)
{
    const char *file = checkpoint_get(r->file, "file"), *text;
    Ctx cx;
    Json *root;
    ctx_init(&cx);
    if (file) { /* a zoo model says nothing of single options */
        see(s, arena_strdup(s->arena, file));
        return;
    }
    text = arena_strdup(s->arena, recording_text(r, "model"));
    if (json_parse(&cx, s->arena, r->name, text, strlen(text), &root) != ST_OK)
        fail_msg("%s: %s", r->name, cx.msg);
    for (const Json *l = json_member(root, "layers")->first; l; l = l->next)
        see_object(s, l, "layer");
    see_object(s, json_member(root, "loss"), "loss");
    if (r->steps)
        see_object(s, json_member(root, "optimizer"), "optimizer");
}

static bool is_excused(Seen *s, const KeyTable *t, const KeyInfo *k)
{
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        const Without *w = &without[i];
        const bool here =
            w->section[0] == '*' ? t == &key_layers : strcmp(w->section, k->section) == 0;
        if (here && strcmp(w->key, k->key) == 0 && strcmp(w->but, k->section) != 0)
            return s->excused[i] = true;
    }
    return false;
}

static int miss(const char *what)
{
    print_error("no recording of %s: an entry in tests/recorded, then its make.py\n", what);
    return 1;
}

static int check_choices(const Seen *s, const char *type, const KeyInfo *k)
{
    int missing = 0;
    for (int i = 0; i < key_nchoice; i++) {
        const char *name = key_choice[i].name,
                   *word = arena_printf(s->arena, "%s.%s=%s", type, k->key, name);
        const bool is_default = k->deflt && strncmp(k->deflt + 1, name, strlen(name)) == 0;
        if (strcmp(key_choice[i].set, k->constraint) == 0 && !is_default && !is_seen(s, word))
            missing += miss(word);
    }
    return missing;
}

/* The keys of one type, or of all (section "loss", "optimizer"). */
static int check_keys(Seen *s, const KeyTable *t, const char *section)
{
    int missing = 0;
    for (int i = 0; i < t->n; i++) {
        const KeyInfo *k = &t->row[i];
        if (strcmp(k->section, section) != 0)
            continue;
        const char *word = arena_printf(s->arena, "%s.%s", section, k->key);
        const bool seen = is_seen(s, word);
        if (!seen && !is_excused(s, t, k))
            missing += miss(word);
        else if (seen && k->type == KEY_ENUM && strcmp(section, "optimizer") != 0 &&
                 (strcmp(k->constraint, "activation") != 0 || strcmp(section, "dense") == 0))
            missing += check_choices(s, section, k);
    }
    return missing;
}

static void everything_is_recorded(void **state)
{
    (void)state;
    Seen s = { .arena = arena_new() };
    const StrList zoo = recording_list(s.arena, "models", ".json"),
                  path = recording_list(s.arena, "tests/recorded", ".safetensors");
    int missing = 0;
    for (int i = 0; i < path.n; i++) {
        Recording *r = recording_open(path.at[i]);
        see_recording(&s, r);
        recording_close(r);
    }
    for (int i = 0; i < layer_ntypes; i++) {
        missing += is_seen(&s, layer_types[i].name) ? 0 : miss(layer_types[i].name);
        missing += check_keys(&s, &key_layers, layer_types[i].name);
    }
    for (int i = 0; i < loss_ntypes; i++) {
        missing += is_seen(&s, loss_types[i].name) ? 0 : miss(loss_types[i].name);
        missing += check_keys(&s, &key_losses, loss_types[i].name);
    }
    for (int i = 0; i < optimizer_ntypes; i++) {
        const char *name = optimizer_types[i].name;
        missing += is_seen(&s, name) ? 0 : miss(name);
        missing += check_keys(&s, &key_optimizers, name);
    }
    missing += check_keys(&s, &key_losses, "loss") + check_keys(&s, &key_optimizers, "optimizer");
    for (int i = 0; i < zoo.n; i++)
        missing += is_seen(&s, zoo.at[i]) ? 0 : miss(zoo.at[i]);
    for (size_t i = 0; i < sizeof without / sizeof *without; i++)
        if (!s.excused[i])
            fail_msg("%s.%s needs no excuse", without[i].section, without[i].key);
    assert_true(zoo.n > 0);
    arena_free(s.arena);
    assert_int_equal(missing, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(everything_is_recorded) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
