/* SPDX-License-Identifier: Apache-2.0 */
#include "ir/base/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"

typedef struct StatusInfo {
    const char *text;
    int exit_code;
} StatusInfo;

static const StatusInfo status_info[ST_COUNT] = {
#define ST(id, code, words) [ST_##id] = { words, code },
#include "ir/base/status.def"
};

void ctx_init(Ctx *cx)
{
    memset(cx, 0, sizeof *cx);
    cx->os = os_default();
}

/* Goes through a buffer of its own: callers add to a failure by printing cx->msg into itself. */
static Status fail(Ctx *cx, Status code, const char *file, int line, int col, const char *fmt,
                   va_list ap)
{
    char msg[sizeof cx->msg], place[sizeof cx->file];

    vsnprintf(msg, sizeof msg, fmt, ap);
    snprintf(place, sizeof place, "%s", file);
    memcpy(cx->msg, msg, sizeof msg);
    memcpy(cx->file, place, sizeof place);
    cx->code = code;
    cx->line = line;
    cx->col = col;
    cx->node = 0;
    return code;
}

Status status_fail(Ctx *cx, Status code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail(cx, code, "", 0, 0, fmt, ap);
    va_end(ap);
    return code;
}

Status status_fail_at(Ctx *cx, Status code, const char *file, int line, int col, const char *fmt,
                      ...)
{
    va_list ap;
    va_start(ap, fmt);
    fail(cx, code, file, line, col, fmt, ap);
    va_end(ap);
    return code;
}

const char *status_text(Status code)
{
    return (unsigned)code < ST_COUNT ? status_info[code].text : "unknown status";
}

int status_exit_code(Status code)
{
    return (unsigned)code < ST_COUNT ? status_info[code].exit_code : 70;
}

void log_say(Ctx *cx, LogLevel level, const char *fmt, ...)
{
    char text[2048];
    va_list ap;

    if (!cx->log)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    cx->log(cx->log_arg, level, text);
}

_Noreturn void status_assert_failed(const char *file, int line, const char *cond, const char *fmt,
                                    ...)
{
    va_list ap;

    fprintf(stderr, "%s:%d: gtc is wrong: %s: ", file, line, cond);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(status_exit_code(ST_INTERNAL));
}
