/* SPDX-License-Identifier: Apache-2.0 */
#include "ir/base/os.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void *alloc_zeroed(size_t bytes)
{
    return calloc(1, bytes ? bytes : 1);
}

static int open_file(const char *path, int flags, int mode)
{
    return open(path, flags | O_CLOEXEC, mode);
}

static int make_dir(const char *path, int mode)
{
    return mkdir(path, (mode_t)mode);
}
static int stat_path(const char *path, struct stat *st)
{
    return stat(path, st);
}
static int stat_fd(int fd, struct stat *st)
{
    return fstat(fd, st);
}
static void *open_library(const char *path)
{
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

/* The child's stdin is empty: a compiler that asks waits for nobody. */
static int spawn_and_wait(const char *const *argv, int out_fd)
{
    posix_spawn_file_actions_t io;
    pid_t pid = 0;
    int state = 0;

    if (posix_spawn_file_actions_init(&io))
        return -1;
    int bad = 0;
    if (out_fd >= 0)
        bad = posix_spawn_file_actions_adddup2(&io, out_fd, 1) ||
              posix_spawn_file_actions_adddup2(&io, out_fd, 2);
    bad = bad || posix_spawn_file_actions_addopen(&io, 0, "/dev/null", O_RDONLY, 0);
    /* posix_spawn does not write to argv; its type is older than const. */
    bad = bad || posix_spawnp(&pid, argv[0], &io, NULL, (char *const *)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&io);
    if (bad)
        return -1;
    while (waitpid(pid, &state, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(state) ? WEXITSTATUS(state) : -1;
}

static const Os os_system = {
    .alloc = alloc_zeroed,
    .release = free,
    .open = open_file,
    .read = read,
    .write = write,
    .lseek = lseek,
    .fsync = fsync,
    .close = close,
    .rename = rename,
    .unlink = unlink,
    .mkdir = make_dir,
    .stat = stat_path,
    .fstat = stat_fd,
    .spawn = spawn_and_wait,
    .dlopen = open_library,
    .dlsym = dlsym,
    .dlclose = dlclose,
};

const Os *os_default(void)
{
    return &os_system;
}

/* Reads to the end, whatever fstat said of the size: a pipe has none, a file may grow. */
static Status read_all(Ctx *cx, int fd, const char *path, size_t guess, char **data, size_t *n)
{
    size_t cap = guess + 2, have = 0;
    char *buf = malloc(cap);
    if (!buf)
        return FAIL(cx, MEMORY, "cannot read %s: no memory for %zu bytes", path, cap);
    for (;;) {
        const ssize_t got = cx->os->read(fd, buf + have, cap - have - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            const int why = errno;
            free(buf);
            return FAIL(cx, IO, "cannot read %s: %s", path, strerror(why));
        }
        if (got == 0)
            break;
        have += (size_t)got;
        if (cap - have > 1)
            continue;
        char *more = cap <= SIZE_MAX / 2 ? realloc(buf, cap * 2) : NULL;
        if (!more) {
            free(buf);
            return FAIL(cx, MEMORY, "cannot read %s: no memory for more than %zu bytes", path, cap);
        }
        buf = more;
        cap *= 2;
    }
    buf[have] = '\0';
    *data = buf;
    *n = have;
    return ST_OK;
}

Status os_read_file(Ctx *cx, const char *path, char **data, size_t *n)
{
    struct stat st;
    const int fd = cx->os->open(path, O_RDONLY, 0);
    if (fd < 0)
        return FAIL(cx, IO, "cannot open %s: %s", path, strerror(errno));

    Status status;
    if (cx->os->fstat(fd, &st))
        status = FAIL(cx, IO, "cannot read %s: %s", path, strerror(errno));
    else
        status = read_all(cx, fd, path, st.st_size > 0 ? (size_t)st.st_size : 0, data, n);
    cx->os->close(fd);
    return status;
}

static int write_all(const Os *os, int fd, const char *data, size_t n)
{
    while (n) {
        const ssize_t put = os->write(fd, data, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put == 0)
            errno = EIO;
        if (put <= 0)
            return -1;
        data += put;
        n -= (size_t)put;
    }
    return 0;
}

/* A rename is on the disk when its folder is.  Some file systems cannot sync folders and say
 * EINVAL: there is nothing more to do there. */
static int sync_folder_of(const Os *os, const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const int len = !slash ? 1 : slash == path ? 1 : (int)(slash - path);

    snprintf(folder, sizeof folder, "%.*s", len, slash ? path : ".");
    const int fd = os->open(folder, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return -1;
    const int bad = os->fsync(fd) && errno != EINVAL;
    const int why = errno;
    os->close(fd);
    errno = why;
    return bad ? -1 : 0;
}

/* /dev/stdout, a pipe: there is nothing to keep whole, and a rename would put a file in its place.
 */
static Status write_stream(Ctx *cx, const char *path, const void *data, size_t n)
{
    const Os *os = cx->os;
    const int fd = os->open(path, O_WRONLY, 0);
    if (fd < 0)
        return FAIL(cx, IO, "cannot write %s: open: %s", path, strerror(errno));
    int why = write_all(os, fd, data, n) ? errno : 0;
    if (os->close(fd) && !why)
        why = errno;
    return why ? FAIL(cx, IO, "cannot write %s: %s", path, strerror(why)) : ST_OK;
}

Status os_write_file(Ctx *cx, const char *path, const void *data, size_t n)
{
    const Os *os = cx->os;
    char temp[PATH_MAX];
    struct stat st;
    if (!os->stat(path, &st) && (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)))
        return write_stream(cx, path, data, n);
    const int len = snprintf(temp, sizeof temp, "%s.tmp.%ld", path, (long)getpid());
    if (len < 0 || (size_t)len >= sizeof temp)
        return FAIL(cx, IO, "cannot write %s: %s", path, strerror(ENAMETOOLONG));

    const char *doing = "create";
    const int fd = os->open(temp, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        return FAIL(cx, IO, "cannot write %s: %s %s: %s", path, doing, temp, strerror(errno));

    int why = 0;
    doing = "write";
    if (write_all(os, fd, data, n))
        why = errno;
    if (!why && (doing = "fsync", os->fsync(fd)))
        why = errno;
    if (os->close(fd) && !why) {
        doing = "close";
        why = errno;
    }
    if (!why && (doing = "rename", os->rename(temp, path)))
        why = errno;
    if (why) {
        os->unlink(temp);
        return FAIL(cx, IO, "cannot write %s: %s: %s", path, doing, strerror(why));
    }
    if (sync_folder_of(os, path))
        return FAIL(cx, IO, "cannot write %s: fsync of its folder: %s", path, strerror(errno));
    return ST_OK;
}

static Status make_dir_if_absent(Ctx *cx, const char *path)
{
    struct stat st;
    if (!cx->os->mkdir(path, 0777))
        return ST_OK;
    const int why = errno;
    if (!cx->os->stat(path, &st)) {
        if (S_ISDIR(st.st_mode))
            return ST_OK;
        return FAIL(cx, IO, "cannot make folder %s: it is a file", path);
    }
    return FAIL(cx, IO, "cannot make folder %s: %s", path, strerror(why));
}

Status os_make_dirs(Ctx *cx, const char *path)
{
    char part[PATH_MAX];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part)
        return FAIL(cx, IO, "cannot make folder \"%.80s\": %s", path,
                    strerror(n ? ENAMETOOLONG : ENOENT));
    for (size_t i = 1; i < n; i++)
        if (path[i] == '/' && path[i - 1] != '/') {
            snprintf(part, sizeof part, "%.*s", (int)i, path);
            TRY(make_dir_if_absent(cx, part));
        }
    return make_dir_if_absent(cx, path);
}
