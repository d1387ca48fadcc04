/* SPDX-License-Identifier: Apache-2.0 */
/* app_c: the C app.  Steps are calls, barriers stand where gtc has them, and the Makefile has the
 * compiler and the flags of gtc's own kernels, without which the last bits would differ. */
#include <string.h>

#include "runtime/app.h"
#include "runtime/cc.h"

static const char main_text[] =
#include "runtime/app_c.inc"
    ;

static const char team_text[] =
    "/* Who runs: each thread of the team calls app_step, which does one training step. */\n"
    "typedef struct gtc_team {\n"
    "    int tid, nt;\n"
    "    void *bar;\n"
    "    void (*barrier)(void *bar);\n"
    "} gtc_team;\n"
    "void app_step(char *m, const gtc_team *me);\n\n"
    "/* The kernels: addresses of inputs, outputs and workspace. */\n";

static Status write_header(const AppWriter *w)
{
    Strbuf out = { 0 };
    strbuf_printf(&out,
                  "/* Sizes of this app. */\n#ifndef APP_H\n#define APP_H\n\n"
                  "#define APP_THREADS %d\n",
                  w->view.d->target.threads);
    app_put_sizes(w, &out);
    strbuf_putc(&out, '\n');
    strbuf_add(&out, team_text);
    for (int i = 0; i < w->nkernel; i++)
        strbuf_printf(&out, "void %s(void *const *arg, const gtc_team *team);\n",
                      w->kernel[i]->name);
    strbuf_add(&out, "\n#endif\n");
    const Status st = app_file(w, "app.h", strbuf_str(&out));
    strbuf_free(&out);
    return st;
}

static void put_call(const AppWriter *w, const Step *s, Strbuf *out)
{
    if (s->barrier)
        strbuf_add(out, "    me->barrier(me->bar);\n");
    if (s->kernel < 0) {
        strbuf_printf(out, "    copy(m + %lld, m + %lld, %lldLL, me);\n",
                      (long long)app_offset(w, s->arg[1]), (long long)app_offset(w, s->arg[0]),
                      (long long)s->copy_bytes);
        return;
    }
    strbuf_printf(out, "    %s%s((void *[]){ ", s->serial ? "if (me->tid == 0)\n        " : "",
                  w->view.kernel[s->kernel].name);
    app_put_args(w, s, out);
    strbuf_printf(out, " }, %s);\n", s->serial ? "&alone" : "me");
}

static Status write_steps(const AppWriter *w)
{
    const Schedule *s = w->view.schedule;
    Strbuf out = { 0 };
    strbuf_add(&out, "/* One training step: every thread walks these steps.  A barrier stands where"
                     " one reads what\n * another thread's share of an earlier one wrote; m is all"
                     " of memory. */\n"
                     "#include <string.h>\n\n#include \"app.h\"\n\n"
                     "static void no_barrier(void *bar)\n{\n    (void)bar;\n}\n\n"
                     "static void copy(char *to, const char *from, long long bytes, const gtc_team "
                     "*me)\n{\n"
                     "    const long long share = ((bytes + me->nt - 1) / me->nt + 63) / 64 * 64,\n"
                     "                    lo = share * me->tid, rest = bytes - lo;\n"
                     "    if (rest > 0)\n"
                     "        memcpy(to + lo, from + lo, (size_t)(rest < share ? rest : share));\n"
                     "}\n\n"
                     "void app_step(char *m, const gtc_team *me)\n{\n"
                     "    const gtc_team alone = { 0, 1, 0, no_barrier };\n"
                     "    (void)alone, (void)copy;\n");
    for (int i = 0; i < s->nstep; i++) {
        app_put_step(w, i, &out);
        put_call(w, &s->step[i], &out);
    }
    strbuf_add(&out, "}\n");
    const Status st = app_file(w, "steps.c", strbuf_str(&out));
    strbuf_free(&out);
    return st;
}

static Status write_kernels(const AppWriter *w)
{
    Strbuf out = { 0 };
    strbuf_add(&out, kernel_prelude_c(w->view.d->target.lanes));
    for (int i = 0; i < w->nkernel; i++)
        strbuf_printf(&out, "\n%s", w->kernel[i]->source);
    const Status st = app_file(w, "kernels.c", strbuf_str(&out));
    strbuf_free(&out);
    return st;
}

/* Whether a word means itself in a Makefile's recipe. */
static bool is_plain(const char *s)
{
    return *s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                           "_./+-=,") == strlen(s);
}

static void put_compiler(const CompilerList *cc, Strbuf *out)
{
    bool plain = cc->n > 0;
    for (int i = 0; plain && i < cc->at[0].nword; i++)
        plain = is_plain(cc->at[0].word[i]);
    strbuf_add(out, "CC =");
    for (int i = 0; plain && i < cc->at[0].nword; i++)
        strbuf_printf(out, " %s", cc->at[0].word[i]);
    strbuf_add(out, plain ? "\nCFLAGS =" : " cc\nCFLAGS =");
}

/* Those of gtc's kernels, but for what makes a library of them. */
static void put_flags(const AppWriter *w, const CompilerList *cc, Strbuf *out)
{
    static const Compiler unknown;
    const char *flag[MAX_CC_FLAGS];
    const int n = cc_flags(cc->n ? &cc->at[0] : &unknown, w->view.d->target.lanes, flag);
    for (int i = 0; i < n; i++)
        if (strcmp(flag[i], "-fPIC") != 0 && strcmp(flag[i], "-shared") != 0 &&
            strcmp(flag[i], "-w") != 0 && strcmp(flag[i], "-pipe") != 0)
            strbuf_printf(out, " %s", flag[i]);
}

static Status write_makefile(const AppWriter *w)
{
    Cache *cache;
    CompilerList cc;
    Strbuf out = { 0 };
    TRY(cache_open(w->cx, &cache));
    cc_find(w->cx, cache, &cc);
    cache_close(cache);
    strbuf_add(&out,
               "# make, then ./app [STEPS [FOLDER]].  With another compiler or other flags the"
               " last bits of the\n# losses may differ from gtc's.\n");
    put_compiler(&cc, &out);
    put_flags(w, &cc, &out);
    strbuf_add(&out, "\n\napp: main.o steps.o kernels.o\n"
                     "\t$(CC) $(CFLAGS) -o $@ main.o steps.o kernels.o -lm -lpthread\n\n"
                     "main.o: main.c app.h\n\t$(CC) $(CFLAGS) -c main.c\n"
                     "steps.o: steps.c app.h\n\t$(CC) $(CFLAGS) -c steps.c\n"
                     "kernels.o: kernels.c\n\t$(CC) $(CFLAGS) -w -c kernels.c\n\n"
                     "clean:\n\trm -f app main.o steps.o kernels.o\n\n.PHONY: clean\n");
    const Status st = app_file(w, "Makefile", strbuf_str(&out));
    strbuf_free(&out);
    return st;
}

Status app_write_c(AppWriter *w)
{
    TRY(write_makefile(w));
    TRY(write_header(w));
    TRY(write_steps(w));
    TRY(write_kernels(w));
    return app_file(w, "main.c", main_text);
}
