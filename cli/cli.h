/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CLI_CLI_H
#define GTC_CLI_CLI_H

#include "cli/options.h"
#include "runtime/gtc.h"

/* What main gives each verb.  Data go to stdout, messages through cx->log to stderr. */
typedef struct Cli {
    Ctx cx;
    Options *o;
    Strbuf json; /* the verb's object; main prints it last, when --json asks for it */
    bool json_says_why; /* of a failure: main prints it and not the error */
    bool bar;    /* a progress bar is on the terminal's line */
} Cli;

typedef Status CliVerb(Cli *c);
#define VERB(name, args, most, help) CliVerb cli_##name;
#include "cli/verbs.def"

/* Whether the verb should print its text for people: not when only the object is wanted. */
bool cli_talks(const Cli *c);
/* SIGINT and SIGTERM ask for a stop from now on; the second one ends the process at once. */
void cli_catch_signals(void);
bool cli_stop_asked(void *arg);
void cli_bar_clear(Cli *c);
/* --time-passes and --dump: what passes did, to stderr. */
void cli_pass_reports(Cli *c, GtcOptions *opt);

#endif
