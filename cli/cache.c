/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "models/json.h"

Status cli_cache(Cli *c)
{
    const char *what = c->o->arg ? c->o->arg : "stats";
    const bool clear = strcmp(what, "clear") == 0;
    GtcCacheInfo info = { 0 };
    if (!clear && strcmp(what, "stats") != 0)
        return FAIL(&c->cx, USAGE, "gtc cache: wants stats or clear, got '%s'", what);
    TRY(clear ? gtc_cache_clear(&c->cx, &info) : gtc_cache_info(&c->cx, &info));
    if (cli_talks(c))
        printf("%s: %s%lld entries, %.1f MB\n", info.dir, clear ? "removed " : "",
               (long long)info.entries, (double)info.bytes / 1e6);
    strbuf_add(&c->json, "{\"dir\":");
    json_print_string(info.dir, &c->json);
    strbuf_printf(&c->json, ",\"%s\":%lld,\"bytes\":%lld}", clear ? "removed" : "entries",
                  (long long)info.entries, (long long)info.bytes);
    return ST_OK;
}
