/* SPDX-License-Identifier: Apache-2.0 */
/* The program: reads the command line, runs one verb, and turns its Status into messages and an
 * exit code.  This is the only place that prints errors or exits. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "models/json.h"

#ifndef GTC_VERSION
#define GTC_VERSION "0.1.0"
#endif

static volatile sig_atomic_t stop_asked;

static void on_signal(int number)
{
    (void)number;
    stop_asked = 1;
}

void cli_catch_signals(void)
{
    /* SA_RESETHAND: who asks twice does not want to wait for a checkpoint. */
    struct sigaction sa = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

bool cli_stop_asked(void *arg)
{
    (void)arg;
    return stop_asked != 0;
}

bool cli_talks(const Cli *c)
{
    return !options_flag(c->o, OPT_json);
}

void cli_bar_clear(Cli *c)
{
    if (c->bar)
        fputs("\r\033[K", stderr);
    c->bar = false;
}

static void say(void *arg, LogLevel level, const char *text)
{
    Cli *c = arg;
    if (level == LOG_INFO && c->o && options_flag(c->o, OPT_quiet))
        return;
    cli_bar_clear(c);
    fprintf(stderr, level == LOG_WARN ? "gtc: warning: %s\n" : "%s\n", text);
}

static void say_pass(void *arg, const char *pass, uint32_t changed, uint32_t nodes, double ms)
{
    (void)arg;
    fprintf(stderr, "pass %-16s %8.3f ms  %6u changes  %6u nodes\n", pass, ms, changed, nodes);
}

static void say_dump(void *arg, const char *stage, const char *text)
{
    (void)arg;
    fprintf(stderr, "# after %s\n%s\n", stage, text);
}

void cli_pass_reports(Cli *c, GtcOptions *opt)
{
    if (options_flag(c->o, OPT_time_passes))
        opt->pass_done = say_pass;
    if (options_flag(c->o, OPT_dump))
        opt->dump = say_dump;
}

static void print_error(const Ctx *cx)
{
    if (cx->file[0] && cx->line > 0)
        fprintf(stderr, "%s:%d:%d: error: %s\n", cx->file, cx->line, cx->col, cx->msg);
    else if (cx->file[0])
        fprintf(stderr, "%s: error: %s\n", cx->file, cx->msg);
    else
        fprintf(stderr, "gtc: error: %s\n", cx->msg);
}

static CliVerb *const verbs[VERB_COUNT] = {
#define VERB(name, args, most, help) [VERB_##name] = cli_##name,
#include "cli/verbs.def"
};

static void json_error(Cli *c, Status st)
{
    strbuf_clear(&c->json);
    strbuf_add(&c->json, "{\"error\":");
    json_print_string(c->cx.msg, &c->json);
    if (c->cx.file[0]) {
        strbuf_add(&c->json, ",\"file\":");
        json_print_string(c->cx.file, &c->json);
        strbuf_printf(&c->json, ",\"line\":%d,\"col\":%d", c->cx.line, c->cx.col);
    }
    strbuf_printf(&c->json, ",\"exit_code\":%d}", status_exit_code(st));
}

static Status run(Cli *c)
{
    Strbuf text = { 0 };
    if (c->o->version) {
        puts("gtc " GTC_VERSION);
        return ST_OK;
    }
    if (c->o->no_verb || options_flag(c->o, OPT_help)) {
        if (c->o->no_verb)
            options_usage(&text);
        else
            options_help(c->o->verb, &text);
        const bool asked = options_flag(c->o, OPT_help);
        fputs(strbuf_str(&text), asked ? stdout : stderr);
        strbuf_free(&text);
        return asked ? ST_OK : FAIL(&c->cx, USAGE, "wants a verb");
    }
    return verbs[c->o->verb](c);
}

static const char *environment(const char *name)
{
    return getenv(name);
}

/* A full disk or a closed pipe shows when what was printed is flushed. */
static Status flush(Cli *c)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return ST_OK;
    return FAIL(&c->cx, IO, "cannot write to stdout");
}

int main(int argc, char **argv)
{
    Cli c = { 0 };
    ctx_init(&c.cx);
    c.cx.log = say;
    c.cx.log_arg = &c;
    Status st = options_parse(&c.cx, argc, argv, environment, &c.o);
    const bool parsed = st == ST_OK;
    if (parsed)
        st = run(&c);
    cli_bar_clear(&c);
    if (parsed && options_flag(c.o, OPT_json) && !options_flag(c.o, OPT_help)) {
        if (st != ST_OK && !c.json_says_why)
            json_error(&c, st);
        if (c.json.n > 0)
            puts(strbuf_str(&c.json));
    }
    if (st == ST_OK)
        st = flush(&c);
    if (st != ST_OK)
        print_error(&c.cx);
    strbuf_free(&c.json);
    options_free(c.o);
    return status_exit_code(st);
}
