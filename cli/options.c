/* SPDX-License-Identifier: Apache-2.0 */
/* The command line is read by one loop over two tables.  Three layers meet here, weakest first:
 * the environment (GTC_*), then flags in the order given; what names a model.json key becomes an
 * override, in that same order, so that of two the later wins and any flag beats the environment.
 */
#include "cli/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum Kind { FLAG, TEXT, INT, MANY, MAYBE } Kind;

typedef struct OptionInfo {
    const char *name;
    char letter;
    Kind kind;
    const char *arg, *env, *key;
    unsigned verbs; /* bit v: verb v takes it */
    const char *help;
} OptionInfo;

#define ALL     (~0u)
#define V(verb) (1u << VERB_##verb)
static const OptionInfo option_info[OPT_COUNT] = {
#define OPT(id, name, s, kind, arg, env, key, verbs, help)                                         \
    [OPT_##id] = { name, s, kind, arg, env, key, verbs, help },
#include "cli/options.def"
};
#undef V
#undef ALL

typedef struct VerbInfo {
    const char *name, *args;
    int most;
    const char *help;
} VerbInfo;

static const VerbInfo verb_info[VERB_COUNT] = {
#define VERB(name, args, most, help) [VERB_##name] = { #name, args, most, help },
#include "cli/verbs.def"
};

static void list_add(Arena *a, StrList *l, const char *s)
{
    const char **at = arena_array(a, const char *, l->n + 1);
    if (l->n > 0)
        memcpy(at, l->at, (size_t)l->n * sizeof *at);
    at[l->n++] = s;
    l->at = at;
}

/* Edits (insert, delete, replace, swap neighbours) from a to b, at most 63 bytes each. */
static int edit_distance(const char *a, const char *b)
{
    int na = (int)strlen(a), nb = (int)strlen(b), d[3][64];
    if (na > 63 || nb > 63)
        return 64;
    for (int j = 0; j <= nb; j++)
        d[0][j] = j;
    for (int i = 1; i <= na; i++) {
        int *row = d[i % 3], *up = d[(i + 2) % 3], *up2 = d[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            int best = up[j - 1] + (a[i - 1] != b[j - 1]);
            if (up[j] + 1 < best)
                best = up[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                up2[j - 2] + 1 < best)
                best = up2[j - 2] + 1;
            row[j] = best;
        }
    }
    return d[na % 3][nb];
}

/* The nearest name, or NULL when none is near. */
static const char *nearest(const char *word, const char *const *names, int n)
{
    const char *best = NULL;
    int least = (int)strlen(word) / 3 + 2;
    for (int i = 0; i < n; i++) {
        int d = edit_distance(word, names[i]);
        if (strlen(word) >= 3 && strncmp(names[i], word, strlen(word)) == 0)
            d = 1;
        if (d < least) {
            least = d;
            best = names[i];
        }
    }
    return best;
}

static Status unknown_verb(Ctx *cx, const char *word)
{
    const char *names[VERB_COUNT];
    for (int v = 0; v < VERB_COUNT; v++)
        names[v] = verb_info[v].name;
    const char *near = nearest(word, names, VERB_COUNT);
    if (near != NULL)
        return FAIL(cx, USAGE, "there is no verb '%s'; did you mean '%s'?", word, near);
    return FAIL(cx, USAGE, "there is no verb '%s'; gtc --help lists them", word);
}

static Status unknown_option(Ctx *cx, Verb verb, const char *word, const char *name)
{
    const char *names[OPT_COUNT];
    int n = 0;
    for (int i = 0; i < OPT_COUNT; i++)
        if (option_info[i].verbs & (1u << verb))
            names[n++] = option_info[i].name;
    const char *near = nearest(name, names, n);
    if (near != NULL)
        return FAIL(cx, USAGE, "gtc %s: there is no option '%s'; did you mean '--%s'?",
                    verb_info[verb].name, word, near);
    return FAIL(cx, USAGE, "gtc %s: there is no option '%s'; gtc %s --help lists them",
                verb_info[verb].name, word, verb_info[verb].name);
}

static bool is_int(const char *s)
{
    char *end;
    errno = 0;
    (void)strtoll(s, &end, 10);
    return end != s && *end == '\0' && errno == 0;
}

/* where: "--epochs" or "GTC_EPOCHS", for messages; by: 1 environment, 2 flag. */
static Status option_give(Ctx *cx, Options *o, OptionId id, const char *where, const char *value,
                          int by)
{
    const OptionInfo *info = &option_info[id];
    if (info->kind == INT && !is_int(value))
        return FAIL(cx, USAGE, "%s: wants an integer, got '%s'", where, value);
    if (info->kind != FLAG && info->kind != MAYBE && *value == '\0')
        return FAIL(cx, USAGE, "%s: wants %s, got nothing", where, info->arg);
    if (id == OPT_set && strchr(value, '=') == NULL)
        return FAIL(cx, USAGE, "%s: wants KEY=VALUE, got '%s'", where, value);
    if (id == OPT_set)
        list_add(o->arena, &o->overrides, value);
    if (id == OPT_data_dir && by == 2)
        list_add(o->arena, &o->data_dirs, value);
    if (info->key != NULL)
        list_add(o->arena, &o->overrides, arena_printf(o->arena, "%s=%s", info->key, value));
    o->text[id] = value;
    o->set_by[id] = by;
    return ST_OK;
}

static Status read_environment(Ctx *cx, Options *o, OptionsEnv *env)
{
    for (int i = 0; i < OPT_COUNT; i++) {
        const OptionInfo *info = &option_info[i];
        if (info->env == NULL || !(info->verbs & (1u << o->verb)))
            continue;
        const char *value = env(info->env);
        if (value == NULL || *value == '\0')
            continue;
        if (info->kind == FLAG) {
            if (strcmp(value, "0") == 0)
                continue;
            if (strcmp(value, "1") != 0)
                return FAIL(cx, USAGE, "%s: wants 1 or 0, got '%s'", info->env, value);
        }
        TRY(option_give(cx, o, (OptionId)i, info->env, value, 1));
    }
    return ST_OK;
}

/* GTC_DATA_DIR is a list, and comes after every --data-dir. */
static void split_data_dirs(Options *o, OptionsEnv *env)
{
    const char *list = env("GTC_DATA_DIR");
    while (list != NULL && *list != '\0') {
        size_t n = strcspn(list, ":");
        if (n > 0)
            list_add(o->arena, &o->data_dirs, arena_printf(o->arena, "%.*s", (int)n, list));
        list += n + (list[n] == ':');
    }
}

static int find_long(Verb verb, const char *name, size_t n)
{
    for (int i = 0; i < OPT_COUNT; i++)
        if (strlen(option_info[i].name) == n && memcmp(option_info[i].name, name, n) == 0 &&
            (option_info[i].verbs & (1u << verb)))
            return i;
    return -1;
}

static int find_letter(Verb verb, char letter)
{
    for (int i = 0; i < OPT_COUNT; i++)
        if (option_info[i].letter == letter && (option_info[i].verbs & (1u << verb)))
            return i;
    return -1;
}

/* One option at argv[*i]; *i moves on when its value is the next word. */
static Status read_option(Ctx *cx, Options *o, int argc, char **argv, int *i)
{
    const char *word = argv[*i], *value = NULL;
    int id;
    if (word[1] == '-') {
        size_t n = strcspn(word + 2, "=");
        value = word[2 + n] == '=' ? word + 2 + n + 1 : NULL;
        id = find_long(o->verb, word + 2, n);
        if (id < 0)
            return unknown_option(cx, o->verb, word,
                                  arena_printf(o->arena, "%.*s", (int)n, word + 2));
    } else {
        value = word[2] != '\0' ? word + 2 : NULL;
        id = find_letter(o->verb, word[1]);
        if (id < 0)
            return unknown_option(cx, o->verb, word, word + 1);
    }
    const OptionInfo *info = &option_info[id];
    const char *where = arena_printf(o->arena, "--%s", info->name);
    if (info->kind == FLAG) {
        if (value != NULL)
            return FAIL(cx, USAGE, "%s: takes no value, got '%s'", where, value);
        return option_give(cx, o, (OptionId)id, where, "1", 2);
    }
    if (info->kind == MAYBE)
        return option_give(cx, o, (OptionId)id, where, value != NULL ? value : "", 2);
    if (value == NULL && *i + 1 == argc)
        return FAIL(cx, USAGE, "%s: wants %s, got nothing", where, info->arg);
    if (value == NULL)
        value = argv[++*i];
    return option_give(cx, o, (OptionId)id, where, value, 2);
}

static Status read_verb(Ctx *cx, Options *o, const char *word)
{
    for (int v = 0; v < VERB_COUNT; v++)
        if (strcmp(word, verb_info[v].name) == 0) {
            o->verb = (Verb)v;
            return ST_OK;
        }
    if (word[0] == '-')
        return FAIL(cx, USAGE, "wants a verb before '%s'; gtc --help lists them", word);
    return unknown_verb(cx, word);
}

static Status read_words(Ctx *cx, Options *o, int argc, char **argv, OptionsEnv *env)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        o->no_verb = true;
        o->text[OPT_help] = argc < 2 ? NULL : "1";
        return ST_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        o->version = true;
        return ST_OK;
    }
    TRY(read_verb(cx, o, argv[1]));
    TRY(read_environment(cx, o, env));
    int nargs = 0;
    bool plain = false; /* after "--" */
    for (int i = 2; i < argc; i++) {
        if (!plain && strcmp(argv[i], "--") == 0) {
            plain = true;
        } else if (!plain && argv[i][0] == '-' && argv[i][1] != '\0') {
            TRY(read_option(cx, o, argc, argv, &i));
        } else {
            if (nargs++ >= verb_info[o->verb].most)
                return FAIL(cx, USAGE, "gtc %s: what is '%s' for?  usage: gtc %s %s",
                            verb_info[o->verb].name, argv[i], verb_info[o->verb].name,
                            verb_info[o->verb].args);
            o->arg = argv[i];
        }
    }
    if (find_long(o->verb, "data-dir", 8) >= 0)
        split_data_dirs(o, env);
    return ST_OK;
}

Status options_parse(Ctx *cx, int argc, char **argv, OptionsEnv *env, Options **out)
{
    Arena *a = arena_new();
    Options *o = arena_alloc(a, sizeof *o);
    o->arena = a;
    Status st = read_words(cx, o, argc, argv, env);
    if (st != ST_OK) {
        arena_free(a);
        return st;
    }
    *out = o;
    return ST_OK;
}

void options_free(Options *o)
{
    if (o != NULL)
        arena_free(o->arena);
}

const char *options_text(const Options *o, OptionId id, const char *fallback)
{
    return o->text[id] != NULL ? o->text[id] : fallback;
}

int64_t options_int(const Options *o, OptionId id, int64_t fallback)
{
    return o->text[id] != NULL ? strtoll(o->text[id], NULL, 10) : fallback;
}

bool options_flag(const Options *o, OptionId id)
{
    return o->text[id] != NULL;
}

static void help_row(const OptionInfo *info, Strbuf *out)
{
    char left[64];
    char letter[8] = "    ";
    if (info->letter)
        snprintf(letter, sizeof letter, "-%c, ", info->letter);
    snprintf(left, sizeof left, "%s--%s%s%s%s", letter, info->name,
             info->arg == NULL     ? ""
             : info->kind == MAYBE ? "[="
                                   : " ",
             info->arg == NULL ? "" : info->arg, info->kind == MAYBE ? "]" : "");
    strbuf_printf(out, "  %-28s %s", left, info->help);
    if (info->env != NULL || info->key != NULL)
        strbuf_printf(out, " (%s%s%s)", info->key != NULL ? info->key : "",
                      info->env != NULL && info->key != NULL ? ", " : "",
                      info->env != NULL ? info->env : "");
    strbuf_putc(out, '\n');
}

void options_help(Verb v, Strbuf *out)
{
    const VerbInfo *verb = &verb_info[v];
    strbuf_printf(out, "usage: gtc %s%s%s [options]\n%s\n\noptions:\n", verb->name,
                  *verb->args != '\0' ? " " : "", verb->args, verb->help);
    for (int i = 0; i < OPT_COUNT; i++)
        if (option_info[i].verbs & (1u << v))
            help_row(&option_info[i], out);
    strbuf_add(
        out, "\nFlags beat GTC_* variables, which beat the model.json, which beats defaults.\n"
             "Exit codes: 0 ok, 2 usage, 3 bad input, 4 environment or resource, 5 numeric abort,\n"
             "70 internal error, 75 stopped by a signal after saving.\n");
}

void options_usage(Strbuf *out)
{
    strbuf_add(out, "gtc compiles a model.json to fast native code and trains it.\n\n"
                    "usage: gtc VERB [argument] [options]\n\nverbs:\n");
    for (int v = 0; v < VERB_COUNT; v++)
        strbuf_printf(out, "  %-8s %s\n", verb_info[v].name, verb_info[v].help);
    strbuf_add(out, "\ngtc VERB --help describes a verb; gtc --version prints the version.\n"
                    "First steps: gtc init --from data.csv --target COLUMN; gtc compile "
                    "model.json; gtc train\n");
}
