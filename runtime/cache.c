/* SPDX-License-Identifier: Apache-2.0 */
/* cache: one immutable file an entry, published by rename.
 *
 *     DIR/KIND/<hash of what>-<hash of how>.gtc
 *
 *     +------+------+-----+-----------------------------------------------+
 *     | data | what | how | magic, three lengths, XXH3 of all before it    |
 *     +------+------+-----+-----------------------------------------------+
 *
 * The data stands first, so that an entry that holds a shared object is one (ELF does not mind what
 * follows it).  A reader takes the file as a whole, checks the sum and compares both keys in full,
 * so neither a torn write nor equal hashes can give a wrong result; processes that race to write an
 * entry write the same one.  No locks.
 *
 * The sum finds damage, not malice.  What keeps others' code out is ownership: the folder, its
 * subfolder and the entry must belong to us (or root), be no symbolic link and be writable by
 * nobody else, checked on the opened descriptors. */
#include "runtime/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ir/base/hash.h"
#include "ir/base/os.h"

enum { NAME_HEX = 32, HOW_HEX = 16, MAX_KIND = 16, MAX_ENTRY = 1 << 30 };

static const char magic[16] = "gtc cache 1\n";

typedef struct Footer {
    char magic[16];
    uint64_t n_data, n_what, n_how;
    char sum[32]; /* hex, of everything before this field */
} Footer;

struct Cache {
    char dir[PATH_MAX / 2]; /* "": none */
    bool refused;           /* not ours alone: neither read nor write */
    bool said_read, said_write;
    unsigned temps; /* names of temporary files */
};

typedef struct Entry { /* a whole file in memory */
    char *all;
    size_t n_data, n_what, n_how;
    const char *what, *how;
} Entry;

Status cache_open(Ctx *cx, Cache **out)
{
    Cache *c = *out = calloc(1, sizeof *c);
    if (!c)
        return FAIL(cx, MEMORY, "no memory for the cache's state");
    const char *own = getenv("GTC_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    int n = 0;
    if (own && *own)
        n = snprintf(c->dir, sizeof c->dir, "%s", own);
    else if (xdg && *xdg == '/')
        n = snprintf(c->dir, sizeof c->dir, "%s/gtc", xdg);
    else if (home && *home == '/')
        n = snprintf(c->dir, sizeof c->dir, "%s/.cache/gtc", home);
    if (n <= 0 || (size_t)n >= sizeof c->dir)
        c->dir[0] = '\0';
    while (n > 1 && c->dir[n - 1] == '/')
        c->dir[--n] = '\0';
    return ST_OK;
}

void cache_close(Cache *c)
{
    free(c);
}

const char *cache_dir(const Cache *c)
{
    return c->dir;
}

/* What is wrong with a file or folder that code is to be loaded from, or NULL. */
static const char *distrust(const struct stat *st)
{
    if (st->st_uid != geteuid() && st->st_uid != 0)
        return "it belongs to another user";
    if (st->st_mode & (S_IWGRP | S_IWOTH))
        return "others may write to it";
    return NULL;
}

static void refuse(Ctx *cx, Cache *c, const char *path, const char *why)
{
    c->refused = true;
    log_say(cx, LOG_WARN, "the cache is not used: %s: %s", path, why);
}

/* Is this folder there, and ours?  Absent is no reason for a message. */
static bool folder_ok(Ctx *cx, Cache *c, const char *path)
{
    struct stat st;
    const int fd = cx->os->open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    if (fd < 0) {
        if (errno == ELOOP || errno == ENOTDIR)
            refuse(cx, c, path, "it is no folder, or a symbolic link");
        else if (errno != ENOENT)
            refuse(cx, c, path, strerror(errno));
        return false;
    }
    const int bad = cx->os->fstat(fd, &st);
    cx->os->close(fd);
    const char *why = bad ? strerror(errno) : distrust(&st);
    if (why)
        refuse(cx, c, path, why);
    return !why;
}

static bool folders_ok(Ctx *cx, Cache *c, const char *kind)
{
    char path[PATH_MAX];
    if (!c->dir[0] || c->refused || !folder_ok(cx, c, c->dir))
        return false;
    snprintf(path, sizeof path, "%s/%.*s", c->dir, MAX_KIND, kind);
    return folder_ok(cx, c, path);
}

static void entry_path(const Cache *c, const CacheKey *key, char path[PATH_MAX])
{
    char what[33], how[33];
    hash_hex(key->what, strlen(key->what), what);
    hash_hex(key->how, strlen(key->how), how);
    snprintf(path, PATH_MAX, "%s/%.*s/%s-%.*s.gtc", c->dir, MAX_KIND, key->kind, what, HOW_HEX,
             how);
}

static void say_read(Ctx *cx, Cache *c, const char *path, const char *why)
{
    if (!c->said_read)
        log_say(cx, LOG_WARN, "cache entry not read, made again: %s: %s", path, why);
    c->said_read = true;
}

static bool read_all(const Os *os, int fd, char *to, size_t n)
{
    while (n) {
        const ssize_t got = os->read(fd, to, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            errno = got ? errno : EIO; /* shorter than fstat said */
            return false;
        }
        to += got;
        n -= (size_t)got;
    }
    return true;
}

/* What is wrong with the file, or NULL. */
static const char *entry_parse(Entry *e, size_t n)
{
    Footer f;
    char sum[33];
    if (n < sizeof f)
        return "it is damaged: shorter than its footer";
    memcpy(&f, e->all + n - sizeof f, sizeof f);
    const size_t body = n - sizeof f;
    if (memcmp(f.magic, magic, sizeof magic) != 0)
        return "it is damaged: no footer at its end";
    if (f.n_data > body || f.n_what > body || f.n_how > body ||
        f.n_data + f.n_what + f.n_how != body)
        return "it is damaged: its lengths do not fit its size";
    hash_hex(e->all, n - sizeof f.sum, sum);
    if (memcmp(sum, f.sum, sizeof f.sum) != 0)
        return "it is damaged: its checksum does not fit";
    e->n_data = f.n_data;
    e->n_what = f.n_what;
    e->n_how = f.n_how;
    e->what = e->all + f.n_data;
    e->how = e->what + f.n_what;
    return NULL;
}

/* Reads and checks a file of an already checked folder; false with no memory held. */
static bool entry_read(Ctx *cx, Cache *c, const char *path, Entry *e)
{
    struct stat st;
    *e = (Entry){ 0 };
    const int fd = cx->os->open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0) {
        if (errno != ENOENT)
            say_read(cx, c, path, strerror(errno));
        return false;
    }
    const char *why = NULL;
    bool damaged = false;
    if (cx->os->fstat(fd, &st))
        why = strerror(errno);
    else if (!S_ISREG(st.st_mode) || st.st_size > MAX_ENTRY)
        why = "it is no entry";
    else if (!(why = distrust(&st))) {
        e->all = malloc((size_t)st.st_size + 1);
        if (!e->all || !read_all(cx->os, fd, e->all, (size_t)st.st_size))
            why = strerror(errno);
        else
            damaged = (why = entry_parse(e, (size_t)st.st_size)) != NULL;
    }
    cx->os->close(fd);
    if (!why)
        return true;
    say_read(cx, c, path, why);
    if (damaged)
        cx->os->unlink(path);
    free(e->all);
    e->all = NULL;
    return false;
}

static bool text_is(const char *s, size_t n, const char *want)
{
    return strlen(want) == n && memcmp(s, want, n) == 0;
}

static bool take(Ctx *cx, Cache *c, const CacheKey *key, const char *path, char **data, size_t *n)
{
    Entry e;
    if (!entry_read(cx, c, path, &e))
        return false;
    if (!text_is(e.what, e.n_what, key->what) || (key->how && !text_is(e.how, e.n_how, key->how))) {
        free(e.all);
        return false;
    }
    *data = e.all;
    *n = e.n_data;
    return true;
}

/* Calls fn with the path of every file in DIR/kind, until it returns true. */
typedef bool FileFn(void *arg, const char *path, const char *name);
static bool files_each(const Cache *c, const char *kind, FileFn *fn, void *arg)
{
    char path[PATH_MAX];
    bool done = false;
    snprintf(path, sizeof path, "%s/%.*s", c->dir, MAX_KIND, kind);
    DIR *d = opendir(path);
    for (struct dirent *f; d && !done && (f = readdir(d));) {
        if (f->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%.*s/%s", c->dir, MAX_KIND, kind, f->d_name);
        done = fn(arg, path, f->d_name);
    }
    if (d)
        closedir(d);
    return done;
}

static bool is_entry(const char *name)
{
    const size_t n = strlen(name);
    return n == NAME_HEX + 1 + HOW_HEX + 4 && strcmp(name + n - 4, ".gtc") == 0;
}

typedef struct AnyMaker {
    Ctx *cx;
    Cache *c;
    const CacheKey *key;
    char hex[33];
    char **data;
    size_t *n;
} AnyMaker;

static bool take_any(void *arg, const char *path, const char *name)
{
    AnyMaker *a = arg;
    return is_entry(name) && memcmp(name, a->hex, NAME_HEX) == 0 &&
           take(a->cx, a->c, a->key, path, a->data, a->n);
}

bool cache_get(Ctx *cx, Cache *c, const CacheKey *key, char **data, size_t *n)
{
    char path[PATH_MAX];
    if (!folders_ok(cx, c, key->kind))
        return false;
    if (!key->how) {
        AnyMaker a = { .cx = cx, .c = c, .key = key, .data = data, .n = n };
        hash_hex(key->what, strlen(key->what), a.hex);
        return files_each(c, key->kind, take_any, &a);
    }
    entry_path(c, key, path);
    return take(cx, c, key, path, data, n);
}

static bool write_all(const Os *os, int fd, const char *s, size_t n)
{
    while (n) {
        const ssize_t put = os->write(fd, s, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0) {
            errno = put ? errno : ENOSPC;
            return false;
        }
        s += put;
        n -= (size_t)put;
    }
    return true;
}

static void say_write(Ctx *cx, Cache *c, const char *path)
{
    if (!c->said_write)
        log_say(cx, LOG_WARN, "the cache takes nothing new: %s: %s", path, strerror(errno));
    c->said_write = true;
}

/* Private folders, whatever the umask. */
static bool folders_make(Ctx *cx, Cache *c, const char *kind)
{
    char path[PATH_MAX];
    Ctx quiet = *cx; /* a failure here is no failure of the caller's */

    if (!c->dir[0] || c->refused)
        return false;
    snprintf(path, sizeof path, "%s", c->dir);
    char *slash = strrchr(path, '/');
    if (slash && slash != path) {
        *slash = '\0';
        os_make_dirs(&quiet, path);
    }
    snprintf(path, sizeof path, "%s", c->dir);
    if (cx->os->mkdir(path, 0700) && errno != EEXIST) {
        say_write(cx, c, path);
        return false;
    }
    snprintf(path, sizeof path, "%s/%.*s", c->dir, MAX_KIND, kind);
    if (cx->os->mkdir(path, 0700) && errno != EEXIST) {
        say_write(cx, c, path);
        return false;
    }
    return folders_ok(cx, c, kind);
}

/* No fsync: what a power failure tears, the sum finds. */
static bool publish(Ctx *cx, Cache *c, const char *path, const char *s, size_t n)
{
    char temp[PATH_MAX + 64];
    snprintf(temp, sizeof temp, "%s.%ld-%u.tmp", path, (long)getpid(), c->temps++);
    cx->os->unlink(temp); /* of a dead process that had our number */
    const int fd = cx->os->open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && write_all(cx->os, fd, s, n);
    int why = ok ? 0 : errno;
    if (fd >= 0 && cx->os->close(fd) && ok) {
        ok = false;
        why = errno;
    }
    if (ok && cx->os->rename(temp, path)) {
        ok = false;
        why = errno;
    }
    if (!ok && fd >= 0)
        cx->os->unlink(temp);
    errno = why;
    if (!ok)
        say_write(cx, c, path);
    return ok;
}

void cache_put(Ctx *cx, Cache *c, const CacheKey *key, const void *data, size_t n)
{
    char path[PATH_MAX], sum[33];
    Strbuf b = { 0 };
    Footer f = { .n_data = n, .n_what = strlen(key->what), .n_how = strlen(key->how) };

    if (!folders_make(cx, c, key->kind))
        return;
    memcpy(f.magic, magic, sizeof magic);
    strbuf_addn(&b, data, n);
    strbuf_addn(&b, key->what, f.n_what);
    strbuf_addn(&b, key->how, f.n_how);
    strbuf_addn(&b, &f, sizeof f - sizeof f.sum);
    hash_hex(b.s, b.n, sum);
    strbuf_addn(&b, sum, sizeof f.sum);
    entry_path(c, key, path);
    publish(cx, c, path, b.s, b.n);
    strbuf_free(&b);
}

void cache_drop(Ctx *cx, Cache *c, const CacheKey *key)
{
    char path[PATH_MAX];
    if (!key->how || !folders_ok(cx, c, key->kind))
        return;
    entry_path(c, key, path);
    cx->os->unlink(path);
}

void cache_note(Ctx *cx, Cache *c, const char *name, const void *data, size_t n, char *path,
                size_t cap)
{
    char full[PATH_MAX];
    path[0] = '\0';
    if (!folders_make(cx, c, "log"))
        return;
    snprintf(full, sizeof full, "%s/log/%s", c->dir, name);
    if (publish(cx, c, full, data, n) && strlen(full) < cap)
        memcpy(path, full, strlen(full) + 1);
}

/* ------------------------------------------------------------ looking after */

typedef struct Sweep {
    Ctx *cx;
    CacheInfo *info;
    bool remove, failed;
} Sweep;

static bool sweep_file(void *arg, const char *path, const char *name)
{
    Sweep *s = arg;
    struct stat st;
    if (s->cx->os->stat(path, &st))
        return false;
    if (s->remove && s->cx->os->unlink(path)) {
        s->failed = true;
        FAIL(s->cx, IO, "cannot remove %s: %s", path, strerror(errno));
        return false;
    }
    s->info->entries += is_entry(name);
    s->info->bytes += (int64_t)st.st_size;
    return false;
}

static Status sweep(Ctx *cx, Cache *c, bool remove, CacheInfo *out)
{
    static const char *const kinds[] = { "tu", "cubin", "ptx", "simt", "plan", "cc", "log" };
    Sweep s = { .cx = cx, .info = out, .remove = remove };
    *out = (CacheInfo){ 0 };
    for (size_t i = 0; c->dir[0] && i < sizeof kinds / sizeof *kinds; i++)
        files_each(c, kinds[i], sweep_file, &s);
    return s.failed ? cx->code : ST_OK;
}

Status cache_stats(Ctx *cx, Cache *c, CacheInfo *out)
{
    return sweep(cx, c, false, out);
}

Status cache_clear(Ctx *cx, Cache *c, CacheInfo *out)
{
    return sweep(cx, c, true, out);
}

/* ------------------------------------------------------------ explaining a miss */

typedef struct Span {
    const char *s;
    size_t n;
} Span;

static bool span_eq(Span a, Span b)
{
    return a.n == b.n && (!a.n || memcmp(a.s, b.s, a.n) == 0);
}

/* The next line, without its end. */
static Span line_of(Span *rest)
{
    const char *end = rest->n ? memchr(rest->s, '\n', rest->n) : NULL;
    const Span line = { rest->s, end ? (size_t)(end - rest->s) : rest->n };
    const size_t used = line.n + (end != NULL);
    rest->s += used;
    rest->n -= used;
    return line;
}

/* The value of a field among the "field: value" lines that stand before the first empty line. */
static Span field_of(Span text, Span name)
{
    while (text.n) {
        const Span line = line_of(&text);
        if (!line.n)
            break;
        if (line.n >= name.n + 2 && memcmp(line.s, name.s, name.n) == 0 &&
            memcmp(line.s + name.n, ": ", 2) == 0)
            return (Span){ line.s + name.n + 2, line.n - name.n - 2 };
    }
    return (Span){ "nothing", 7 };
}

static Span body_of(Span text)
{
    while (text.n && line_of(&text).n)
        continue;
    return text;
}

/* How many fields of want has, and the differences when out is not NULL. */
static int fields_compare(Span want, Span has, Strbuf *out)
{
    int same = 0;
    for (Span rest = want; rest.n;) {
        const Span line = line_of(&rest);
        const char *colon = line.n ? memchr(line.s, ':', line.n) : NULL;
        if (!line.n)
            break;
        if (!colon)
            continue;
        const Span name = { line.s, (size_t)(colon - line.s) };
        const Span w = field_of(want, name), h = field_of(has, name);
        if (span_eq(w, h))
            same++;
        else if (out)
            strbuf_printf(out, "%.*s: has %.*s, wants %.*s\n", (int)name.n, name.s, (int)h.n, h.s,
                          (int)w.n, w.s);
    }
    const Span wb = body_of(want), hb = body_of(has);
    if (span_eq(wb, hb))
        return same + (wb.n ? 4 : 0);
    size_t at = 0, line = 1;
    while (at < wb.n && at < hb.n && wb.s[at] == hb.s[at])
        line += wb.s[at++] == '\n';
    if (out)
        strbuf_printf(out, "text: differs from line %zu on\n", line);
    return same;
}

typedef struct Nearest {
    Ctx *cx;
    Cache *c;
    const CacheKey *key;
    Entry best;
    int score;
    bool hit;
} Nearest;

static bool nearest_file(void *arg, const char *path, const char *name)
{
    Nearest *x = arg;
    Entry e;
    if (!is_entry(name) || !entry_read(x->cx, x->c, path, &e))
        return false;
    const CacheKey *k = x->key;
    const char *how = k->how ? k->how : "";
    const int score =
        fields_compare((Span){ k->what, strlen(k->what) }, (Span){ e.what, e.n_what }, NULL) +
        fields_compare((Span){ how, strlen(how) }, (Span){ e.how, e.n_how }, NULL);
    x->hit |= text_is(e.what, e.n_what, k->what) && (!k->how || text_is(e.how, e.n_how, k->how));
    if (score > x->score) {
        free(x->best.all);
        x->best = e;
        x->score = score;
    } else {
        free(e.all);
    }
    return x->hit;
}

void cache_explain(Ctx *cx, Cache *c, const CacheKey *key, Strbuf *out)
{
    Nearest x = { .cx = cx, .c = c, .key = key, .score = -1 };
    if (!c->dir[0])
        strbuf_add(out, "no folder: none of GTC_CACHE_DIR, XDG_CACHE_HOME, HOME is set\n");
    else if (!folders_ok(cx, c, key->kind))
        strbuf_printf(out, "%s: %s\n", c->dir, c->refused ? "refused" : "empty");
    else
        files_each(c, key->kind, nearest_file, &x);
    if (x.hit) {
        strbuf_add(out, "hit\n");
    } else if (x.best.all) {
        const char *how = key->how ? key->how : "";
        fields_compare((Span){ key->what, strlen(key->what) }, (Span){ x.best.what, x.best.n_what },
                       out);
        fields_compare((Span){ how, strlen(how) }, (Span){ x.best.how, x.best.n_how }, out);
    } else if (!out->n) {
        strbuf_add(out, "no entry of this kind\n");
    }
    free(x.best.all);
}
