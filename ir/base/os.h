/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_BASE_OS_H
#define GTC_IR_BASE_OS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "ir/base/status.h"

/* The one table of system calls that can fail for a reason outside gtc, so that a test can make
 * any of them fail by number.  Signatures are the libc ones; errors are in errno. */
typedef struct Os {
    void *(*alloc)(size_t bytes); /* big buffers, zeroed; os->release frees */
    void (*release)(void *p);
    int (*open)(const char *path, int flags, int mode);
    ssize_t (*read)(int fd, void *buf, size_t n);
    ssize_t (*write)(int fd, const void *buf, size_t n);
    off_t (*lseek)(int fd, off_t off, int whence);
    int (*fsync)(int fd);
    int (*close)(int fd);
    int (*rename)(const char *from, const char *to);
    int (*unlink)(const char *path);
    int (*mkdir)(const char *path, int mode);
    int (*stat)(const char *path, struct stat *st);
    int (*fstat)(int fd, struct stat *st);
    /* argv[0] is looked up in PATH when it has no slash; stdout and stderr go to out_fd.
     * Returns the exit status (0..255), -1 when it could not be started or died by a signal. */
    int (*spawn)(const char *const *argv, int out_fd);
    void *(*dlopen)(const char *path);
    void *(*dlsym)(void *handle, const char *name);
    int (*dlclose)(void *handle);
} Os;

const Os *os_default(void);

/* Whole files, through cx->os.  Read: *data is NUL-terminated, to be freed with free(). */
Status os_read_file(Ctx *cx, const char *path, char **data, size_t *n);
/* Writes path.tmp.PID, fsyncs it, renames it over path and fsyncs the folder: after a crash path
 * holds all of the old or all of the new bytes. */
Status os_write_file(Ctx *cx, const char *path, const void *data, size_t n);
/* mkdir -p. */
Status os_make_dirs(Ctx *cx, const char *path);

#endif
