/* SPDX-License-Identifier: Apache-2.0 */
/* One file in memory, and a count of the memory that is held.
 *
 * Big buffers go through the os table and are counted anywhere; under sanitizers every malloc is,
 * by their hooks.  So a reader that believes a size that a file declares is found at once, not
 * when a machine is out of memory. */
#include "tests/fuzz/target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FD_FILE = 1000, FD_FOLDER = 1001 };

/* One input at a time, in one thread. */
static struct {
    const FuzzTarget *target;
    FuzzFile file;
    const char *bytes;
    size_t n, at;
    int opened;
    FuzzResult *result;
} now;

static struct {
    ptrdiff_t live, peak, limit; /* limit 0: not counting */
} memory;

_Noreturn void fuzz_failed(const char *file, int line, const char *cond, const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "%s:%d: %s: %s: ", file, line, now.target ? now.target->name : "", cond);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

/* ---- memory ---- */

size_t fuzz_allowed(size_t n)
{
    return ((size_t)64 << 20) + 4 * n;
}

int __sanitizer_install_malloc_and_free_hooks(void (*taken)(const volatile void *, size_t),
                                              void (*given)(const volatile void *))
    __attribute__((weak));
size_t __sanitizer_get_allocated_size(const volatile void *p) __attribute__((weak));

static void taken(const volatile void *p, size_t n)
{
    (void)p;
    memory.live += (ptrdiff_t)n;
    if (memory.live > memory.peak)
        memory.peak = memory.live;
    if (memory.limit && memory.live > memory.limit) {
        memory.limit = 0; /* the message takes memory too */
        fuzz_failed(__FILE__, __LINE__, "memory", "%td bytes are held for an input of %zu",
                    memory.live, now.n);
    }
}

static void given(const volatile void *p)
{
    memory.live -= p ? (ptrdiff_t)__sanitizer_get_allocated_size(p) : 0;
}

/* From here on; what was taken before and is given back counts below zero. */
static void memory_start(size_t limit)
{
    static bool installed;
    if (!installed && __sanitizer_install_malloc_and_free_hooks)
        __sanitizer_install_malloc_and_free_hooks(taken, given);
    installed = true;
    memory.live = memory.peak = 0;
    memory.limit = (ptrdiff_t)limit;
}

static void *mem_alloc(size_t bytes)
{
    fuzz_check(bytes <= fuzz_allowed(now.n), "%zu bytes are asked for, for an input of %zu", bytes,
               now.n);
    return calloc(1, bytes ? bytes : 1);
}

/* ---- the file ---- */

static bool is_input(const char *path)
{
    const size_t n = strlen(path), want = strlen(now.target->file);
    return n >= want && strcmp(path + n - want, now.target->file) == 0;
}

/* Folders: whatever has no dot in its last part. */
static bool is_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    return !strchr(slash ? slash : path, '.');
}

static int mem_open(const char *path, int flags, int mode)
{
    (void)mode;
    const bool folder = is_folder(path), input = is_input(path);
    errno = ENOENT;
    if (!folder && !input)
        return -1;
    errno = ELOOP;
    if ((flags & O_NOFOLLOW) && (folder ? now.file.folder_link : now.file.link))
        return -1;
    errno = EROFS;
    if (flags & (O_WRONLY | O_RDWR | O_CREAT))
        return -1;
    now.opened++;
    now.at = input ? 0 : now.at;
    return input ? FD_FILE : FD_FOLDER;
}

/* In pieces, as a pipe would. */
static ssize_t mem_read(int fd, void *to, size_t n)
{
    fuzz_check(fd == FD_FILE, "read of fd %d", fd);
    const size_t left = now.n - now.at, piece = now.at % 2 ? 4096 : 1 << 20;
    n = n < left ? n : left;
    n = n < piece ? n : piece;
    if (n)
        memcpy(to, now.bytes + now.at, n);
    now.at += n;
    return (ssize_t)n;
}

static off_t mem_lseek(int fd, off_t off, int whence)
{
    fuzz_check(fd == FD_FILE, "lseek of fd %d", fd);
    const off_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? (off_t)now.at : (off_t)now.n;
    errno = EINVAL;
    if (base + off < 0)
        return -1;
    now.at = (size_t)(base + off) < now.n ? (size_t)(base + off) : now.n;
    return base + off;
}

static int mem_fstat(int fd, struct stat *st)
{
    const FuzzFile *f = &now.file;
    *st = (struct stat){ .st_uid = geteuid() };
    if (fd == FD_FOLDER) {
        st->st_mode = S_IFDIR | (f->folder_mode ? f->folder_mode : 0700);
        return 0;
    }
    st->st_mode = f->mode ? f->mode : S_IFREG | 0600;
    st->st_uid += f->owner_off;
    st->st_size = (off_t)now.n;
    return 0;
}

static int mem_stat(const char *path, struct stat *st)
{
    errno = ENOENT;
    if (!is_folder(path) && !is_input(path))
        return -1;
    return mem_fstat(is_folder(path) ? FD_FOLDER : FD_FILE, st);
}

static int mem_close(int fd)
{
    fuzz_check(fd == FD_FILE || fd == FD_FOLDER, "close of fd %d", fd);
    now.opened--;
    return 0;
}

static int mem_unlink(const char *path)
{
    (void)path;
    return 0;
}

static const Os *memory_os(void)
{
    static Os os;
    if (!os.alloc) {
        os = *os_default();
        os.alloc = mem_alloc;
        os.open = mem_open;
        os.read = mem_read;
        os.lseek = mem_lseek;
        os.close = mem_close;
        os.stat = mem_stat;
        os.fstat = mem_fstat;
        os.unlink = mem_unlink;
    }
    return &os;
}

/* ---- one input ---- */

static void hear(void *arg, LogLevel level, const char *text)
{
    FuzzResult *r = arg;
    (void)level;
    snprintf(r->said, sizeof r->said, "%s", text);
}

const char *fuzz_bytes(size_t *n)
{
    *n = now.n;
    return now.bytes;
}

void fuzz_replace(const char *bytes)
{
    now.bytes = bytes;
}

void fuzz_accepted(void)
{
    now.result->accepted = true;
    now.result->peak = (size_t)memory.peak;
    memory.limit = 0;
}

void fuzz_run(const FuzzTarget *t, const FuzzFile *file, const void *bytes, size_t n,
              FuzzResult *out)
{
    *out = (FuzzResult){ 0 };
    now.target = t;
    now.file = file ? *file : (FuzzFile){ 0 };
    now.bytes = bytes;
    now.n = n;
    now.at = 0;
    now.opened = 0;
    now.result = out;
    ctx_init(&out->cx);
    out->cx.os = memory_os();
    out->cx.log = hear;
    out->cx.log_arg = out;
    memory_start(fuzz_allowed(n));
    const Status st = t->read(&out->cx);
    if (!out->accepted)
        out->peak = (size_t)memory.peak;
    memory.limit = 0;
    fuzz_check(now.opened == 0, "%d files stay open", now.opened);
    fuzz_check((st == ST_OK) == out->accepted, "status %d: %s", (int)st, out->cx.msg);
    fuzz_check(st == ST_OK || (st != ST_INTERNAL && out->cx.code == st && out->cx.msg[0]),
               "a refusal without a reason: status %d, \"%s\"", (int)st, out->cx.msg);
}
