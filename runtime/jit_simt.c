/* SPDX-License-Identifier: Apache-2.0 */
/* jit_simt: the C compiler as a maker of images for the host runner.  The text and its prelude are
 * the very ones that NVRTC gets; the prelude's other bodies are compiled. */
#include "runtime/jit_simt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/base/os.h"
#include "runtime/simt.h"

struct JitSimt {
    const Os *os;
    CompilerList cc;
    bool shadow;
    char isa[48], name[160];
    Strbuf what, how;
    char folder[256]; /* "" until one can be made */
    ImageMaker maker;
};

/* Reads a file that the compiler wrote, and removes it. */
static bool take_file(const Os *os, const char *path, char **bytes, size_t *n)
{
    Ctx quiet; /* of this thread alone */
    ctx_init(&quiet);
    quiet.os = os;
    const bool ok = os_read_file(&quiet, path, bytes, n) == ST_OK;
    os->unlink(path);
    return ok;
}

static int compile(const JitSimt *j, const char *c, const char *so, const char *log)
{
    const Compiler *cc = &j->cc.at[0];
    const char *flag[SIMT_MAX_FLAGS];
    return cc_run(j->os, cc, flag, simt_code_flags(cc->clang, j->shadow, flag), c, so, log);
}

static void make(void *arg, const Kernel *k, const char *text, Image *out, Strbuf *log)
{
    const JitSimt *j = arg;
    char c[512], so[512], words[512], *said = NULL;
    size_t n = 0;
    Ctx quiet;
    ctx_init(&quiet);
    quiet.os = j->os;
    if (!j->folder[0]) {
        strbuf_add(log, "no folder for the compiler's files\n");
        return;
    }
    snprintf(c, sizeof c, "%s/%.200s.c", j->folder, k->name);
    snprintf(so, sizeof so, "%s/%.200s.so", j->folder, k->name);
    snprintf(words, sizeof words, "%s/%.200s.log", j->folder, k->name);
    if (os_write_file(&quiet, c, text, strlen(text)) != ST_OK) {
        strbuf_add(log, quiet.msg);
        return;
    }
    const int rc = compile(j, c, so, words);
    if (take_file(j->os, words, &said, &n))
        strbuf_add(log, said);
    free(said);
    if (rc != 0)
        strbuf_printf(log, "\nexit %d of %s\n", rc, j->cc.at[0].path);
    else if (!take_file(j->os, so, &out->bytes, &out->n))
        out->bytes = NULL;
    j->os->unlink(c);
}

static void describe(JitSimt *j)
{
    const char *flag[SIMT_MAX_FLAGS];
    const Compiler *cc = &j->cc.at[0];
    const int n = simt_code_flags(cc->clang, j->shadow, flag);
    strbuf_printf(&j->what, "isa: %s\n", j->isa);
    strbuf_printf(&j->how, "compiler: %s\nprogram: %s\nflags:", cc->version, cc->id);
    for (int i = 0; i < n; i++)
        strbuf_printf(&j->how, " %s", flag[i]);
    for (int i = 1; i < cc->nword; i++)
        strbuf_printf(&j->how, " %s", cc->word[i]);
    strbuf_putc(&j->how, '\n');
    cc_name(cc, j->name, sizeof j->name);
    j->maker = (ImageMaker){ .kind = "simt",
                             .what = strbuf_str(&j->what),
                             .how = strbuf_str(&j->how),
                             .name = j->name,
                             .make = make,
                             .arg = j };
}

Status jit_simt_open(Ctx *cx, Cache *cache, bool shadow, JitSimt **out)
{
    JitSimt *j = *out = calloc(1, sizeof *j);
    if (!j)
        return FAIL(cx, MEMORY, "no memory for the compiler driver");
    j->os = cx->os;
    j->shadow = shadow;
    cc_isa(j->isa, sizeof j->isa);
    cc_find(cx, cache, &j->cc);
    if (!j->cc.n)
        return FAIL(cx, ENV, "simt: %s; its kernels need one", j->cc.why_none);
    if (!cc_folder(cx, cache, j->folder, sizeof j->folder))
        log_say(cx, LOG_WARN,
                "simt: no folder for the C compiler's files; there are no kernels but those of "
                "the cache");
    describe(j);
    return ST_OK;
}

void jit_simt_close(JitSimt *j)
{
    if (!j)
        return;
    if (j->folder[0])
        rmdir(j->folder);
    strbuf_free(&j->what);
    strbuf_free(&j->how);
    free(j);
}

const ImageMaker *jit_simt_maker(const JitSimt *j)
{
    return &j->maker;
}
