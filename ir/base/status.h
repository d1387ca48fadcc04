/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_BASE_STATUS_H
#define GTC_IR_BASE_STATUS_H

#include <stdarg.h>
#include <stdint.h>

/* Every function that can fail for a reason outside gtc returns a Status and has written the
 * reason into its Ctx.  What is gtc's own mistake goes through gtc_assert instead. */
typedef enum Status {
#define ST(id, exit_code, text) ST_##id,
#include "ir/base/status.def"
    ST_COUNT
} Status;

typedef enum LogLevel { LOG_INFO, LOG_WARN } LogLevel;

struct Os;

/* What a call carries: where it reports errors and messages, and how it reaches the system.
 * Owned by the caller; one thread at a time. */
typedef struct Ctx {
    const struct Os *os;      /* never NULL after ctx_init */
    Status           code;    /* of the last failure */
    char             msg[1024];
    char             file[256]; /* "" when the failure has no place in a file */
    int              line, col; /* from 1 */
    uint32_t         node;      /* Ref of the node at fault, 0 if none */
    void (*log)(void *log_arg, LogLevel level, const char *text); /* may be NULL */
    void *log_arg;
} Ctx;

void ctx_init(Ctx *cx);

/* Records a failure and returns its code.  FAIL is the form to use. */
Status status_fail(Ctx *cx, Status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same with a place in a file: "file:line:col: error: ..." is how cli prints it. */
Status status_fail_at(Ctx *cx, Status code, const char *file, int line, int col, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

#define FAIL(cx, id, ...) status_fail((cx), ST_##id, __VA_ARGS__)
#define TRY(call)                                                                                  \
    do {                                                                                           \
        Status try_status_ = (call);                                                               \
        if (try_status_ != ST_OK)                                                                  \
            return try_status_;                                                                    \
    } while (0)

const char *status_text(Status code);
int         status_exit_code(Status code);

/* Reports to cx->log, which says it aloud (stderr) or not; the library itself never prints. */
void log_say(Ctx *cx, LogLevel level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* gtc is wrong: prints the message with file and line to stderr and exits 70.  On in release. */
#define gtc_assert(cond, ...)                                                                      \
    do {                                                                                           \
        if (!(cond))                                                                               \
            status_assert_failed(__FILE__, __LINE__, #cond, __VA_ARGS__);                          \
    } while (0)
_Noreturn void status_assert_failed(const char *file, int line, const char *cond, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
