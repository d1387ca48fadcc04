/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/cli.h"
#include "models/json.h"

enum { MOST = 64 };

static void put_device(Strbuf *b, int i, const GtcDeviceInfo *d)
{
    strbuf_printf(b, "%s{\"name\":", i ? "," : "");
    json_print_string(d->name, b);
    strbuf_add(b, ",\"description\":");
    json_print_string(d->description, b);
    strbuf_printf(b, ",\"threads\":%d,\"capability\":%d,\"memory_bytes\":%lld,\"free_bytes\":%lld}",
                  d->units, d->capability, (long long)d->memory_bytes, (long long)d->free_bytes);
}

Status cli_devices(Cli *c)
{
    static GtcDeviceInfo device[MOST];
    const int n = gtc_devices(&c->cx, device, MOST);
    strbuf_add(&c->json, "{\"devices\":[");
    for (int i = 0; i < n; i++) {
        if (cli_talks(c))
            printf("%s\n", device[i].description);
        put_device(&c->json, i, &device[i]);
    }
    strbuf_add(&c->json, "]}");
    return ST_OK;
}
