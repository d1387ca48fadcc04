/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CLI_OPTIONS_H
#define GTC_CLI_OPTIONS_H

#include "ir/base/strbuf.h"
#include "models/model.h"

/* The command line, parsed: one verb, its arguments and options.  options.def has the options,
 * verbs.def the verbs.  Values point into argv, the environment or the arena. */

typedef enum Verb {
#define VERB(name, args, most, help) VERB_##name,
#include "cli/verbs.def"
    VERB_COUNT
} Verb;

typedef enum OptionId {
#define OPT(id, name, s, kind, arg, env, key, verbs, help) OPT_##id,
#include "cli/options.def"
    OPT_COUNT
} OptionId;

typedef struct Options {
    Arena *arena;
    Verb verb;
    const char *arg;             /* the verb's argument, or NULL */
    const char *text[OPT_COUNT]; /* the value; "1" of a FLAG or bare MAYBE; NULL when not given */
    int set_by[OPT_COUNT];       /* 0 not given, 1 by the environment, 2 by a flag */
    StrList data_dirs;           /* --data-dir, then GTC_DATA_DIR */
    StrList overrides; /* KEY=VALUE for model_load: the environment's, then flags in order */
    bool version;      /* --version: nothing else is to be done */
    bool no_verb;      /* gtc alone, or gtc --help */
} Options;

/* getenv's signature, so that tests can bring their own environment. */
typedef const char *OptionsEnv(const char *name);

/* Fails with ST_USAGE and a hint.  Free with options_free. */
Status options_parse(Ctx *cx, int argc, char **argv, OptionsEnv *env, Options **out);
void options_free(Options *o);

const char *options_text(const Options *o, OptionId id, const char *fallback);
int64_t options_int(const Options *o, OptionId id, int64_t fallback);
bool options_flag(const Options *o, OptionId id);

void options_help(Verb v, Strbuf *out); /* of one verb */
void options_usage(Strbuf *out);        /* of gtc */

#endif
