/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "ir/base/os.h"
#include "models/json.h"

static Status read_stdin(Cli *c, Strbuf *out)
{
    char buf[65536];
    size_t n;
    while ((n = fread(buf, 1, sizeof buf, stdin)) > 0)
        strbuf_addn(out, buf, n);
    return ferror(stdin) ? FAIL(&c->cx, IO, "cannot read stdin: %s", strerror(errno)) : ST_OK;
}

static Status read_text(Cli *c, const char *file, Strbuf *out)
{
    char *text;
    size_t n;
    if (strcmp(file, "-") == 0)
        return read_stdin(c, out);
    TRY(os_read_file(&c->cx, file, &text, &n));
    strbuf_addn(out, text, n);
    free(text);
    return ST_OK;
}

/* A golden file of tests/gir holds a second graph, the expected one, below this line. */
static void keep_first(Strbuf *text)
{
    char *expect = text->n ? strstr(strbuf_str(text), "\n# expect:") : NULL;
    if (!expect)
        return;
    text->n = (size_t)(expect + 1 - text->s);
    text->s[text->n] = '\0';
}

static Status opt(Cli *c, Strbuf *text, Strbuf *out)
{
    const Options *o = c->o;
    const char *mode = options_text(o, OPT_mode, "default");
    if (strcmp(mode, "default") != 0 && strcmp(mode, "eager") != 0)
        return FAIL(&c->cx, USAGE, "--mode: wants default or eager, got '%s'", mode);
    GtcOptions g = { .mode = strcmp(mode, "eager") == 0 ? GTC_EAGER : GTC_DEFAULT,
                     .passes = options_text(o, OPT_passes, NULL),
                     .skip_passes = options_text(o, OPT_skip_passes, NULL),
                     .verify = options_flag(o, OPT_verify) };
    cli_pass_reports(c, &g);
    if (options_flag(o, OPT_list)) {
        gtc_pass_list(out);
    } else if (!o->arg) {
        return FAIL(&c->cx, USAGE, "gtc opt: wants a FILE.gir, or - for stdin");
    } else {
        const char *file = strcmp(o->arg, "-") == 0 ? "<stdin>" : o->arg;
        TRY(read_text(c, o->arg, text));
        keep_first(text);
        TRY(gtc_opt(&c->cx, file, strbuf_str(text), &g, out));
    }
    strbuf_add(&c->json, "{\"text\":");
    json_print_string(strbuf_str(out), &c->json);
    strbuf_putc(&c->json, '}');
    const char *path = options_text(o, OPT_out, NULL);
    if (path)
        return os_write_file(&c->cx, path, strbuf_str(out), out->n);
    if (cli_talks(c))
        fputs(strbuf_str(out), stdout);
    return ST_OK;
}

Status cli_opt(Cli *c)
{
    Strbuf text = { 0 }, out = { 0 };
    const Status st = opt(c, &text, &out);
    strbuf_free(&text);
    strbuf_free(&out);
    return st;
}
