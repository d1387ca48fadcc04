/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "cli/cli.h"
#include "models/json.h"

Status cli_devices(Cli *c)
{
    GtcDevice *d;
    TRY(gtc_device_open(&c->cx, "cpu", 0, &d));
    if (cli_talks(c))
        printf("%s\n", gtc_device_describe(d));
    strbuf_add(&c->json, "{\"devices\":[{\"name\":");
    json_print_string(gtc_device_name(d), &c->json);
    strbuf_add(&c->json, ",\"description\":");
    json_print_string(gtc_device_describe(d), &c->json);
    strbuf_printf(&c->json, ",\"threads\":%d}]}", gtc_device_threads(d));
    gtc_device_close(d);
    return ST_OK;
}
