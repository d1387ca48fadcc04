/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/work.h"
#include "models/json.h"

enum { MOST = 8 };

static void put_pair(Strbuf *b, int i, const char *k1, const char *v1, const char *k2,
                     const char *v2)
{
    strbuf_printf(b, "%s{\"%s\":", i ? "," : "", k1);
    json_print_string(v1, b);
    strbuf_printf(b, ",\"%s\":", k2);
    json_print_string(v2, b);
    strbuf_putc(b, '}');
}

/* The device that a run would take, and the others.  *passed_by: there is a GPU's driver, and it is
 * not that. */
static Status check_devices(Cli *c, bool *passed_by)
{
    GtcDevice *d;
    GtcDeviceInfo *info = arena_array(c->o->arena, GtcDeviceInfo, MOST);
    TRY(work_device(c, &d));
    if (cli_talks(c))
        printf("device    %s\n", gtc_device_describe(d));
    *passed_by = strstr(gtc_device_describe(d), "the GPU is not used") != NULL;
    gtc_device_close(d); /* there is one simt at a time, and it is listed too */
    const int n = gtc_devices(&c->cx, info, MOST);
    for (int i = 0; i < n; i++) {
        put_pair(&c->json, i, "name", info[i].name, "description", info[i].description);
        if (cli_talks(c))
            printf("there is  %s\n", info[i].description);
    }
    return ST_OK;
}

static void check_libraries(Cli *c)
{
    GtcLibrary *lib = arena_array(c->o->arena, GtcLibrary, MOST);
    const int n = gtc_libraries(&c->cx, lib, MOST);
    for (int i = 0; i < n; i++) {
        strbuf_printf(&c->json, "%s{\"name\":", i ? "," : "");
        json_print_string(lib[i].name, &c->json);
        strbuf_printf(&c->json, ",\"found\":%s,\"text\":", lib[i].found ? "true" : "false");
        json_print_string(lib[i].text, &c->json);
        strbuf_putc(&c->json, '}');
        if (cli_talks(c))
            printf("library   %s: %s\n", lib[i].name, lib[i].text);
    }
}

static Status test_gpu(Cli *c, bool *ok)
{
    GtcDevice *d;
    strbuf_add(&c->json, ",\"gpu\":[");
    TRY(work_device(c, &d));
    const Status s = doctor_gpu(c, d, ok);
    gtc_device_close(d);
    strbuf_add(&c->json, "]");
    return s;
}

/* ok: models train at full speed here.  Without a compiler they train too, in the evaluator. */
Status cli_doctor(Cli *c)
{
    GtcCompiler compiler[MOST];
    GtcCacheInfo cache = { 0 };
    strbuf_add(&c->json, "{\"devices\":[");
    bool passed_by;
    TRY(check_devices(c, &passed_by));
    strbuf_add(&c->json, "],\"compilers\":[");
    const int n = gtc_compilers(&c->cx, compiler, MOST);
    for (int i = 0; i < n; i++) {
        put_pair(&c->json, i, "path", compiler[i].path, "version", compiler[i].version);
        if (cli_talks(c))
            printf("compiler  %s: %s\n", compiler[i].path, compiler[i].version);
    }
    if (n == 0)
        log_say(&c->cx, LOG_WARN,
                "no C compiler found: kernels will run in the evaluator, which "
                "is slow; install gcc or clang, or set CC");
    const bool cached = gtc_cache_info(&c->cx, &cache) == ST_OK;
    if (!cached)
        log_say(&c->cx, LOG_WARN, "the kernel cache cannot be used: %s", c->cx.msg);
    else if (cli_talks(c))
        printf("cache     %s: %lld entries\n", cache.dir, (long long)cache.entries);
    strbuf_add(&c->json, "],\"libraries\":[");
    check_libraries(c);
    strbuf_add(&c->json, "],\"cache\":");
    json_print_string(cached ? cache.dir : "", &c->json);
    bool right = true;
    if (options_flag(c->o, OPT_test_gpu))
        TRY(test_gpu(c, &right));
    const bool ok = n > 0 && cached && right;
    strbuf_printf(&c->json, ",\"ok\":%s}", ok ? "true" : "false");
    if (cli_talks(c))
        printf("%s\n", ok && passed_by ? "all is well on the CPU"
                       : ok            ? "all is well"
                       : right         ? "gtc works, but not at full speed"
                                       : "do not train on this device");
    c->json_says_why = !right;
    return right ? ST_OK : FAIL(&c->cx, ENV, "the device does not do what it should");
}
