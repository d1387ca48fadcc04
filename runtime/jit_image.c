/* SPDX-License-Identifier: Apache-2.0 */
/* jit_image: CUDA text to images, whichever compiler it is that makes them.
 *
 * An image is made of one kernel, so that a kernel that several programs have is compiled once, and
 * a bad one costs itself only.  Its key is all that its bytes depend on: the architecture, prelude
 * and text (what), the compiler's version and options (how).  In the cache the bytes stand behind
 * a line with what the compiler said of registers, which is not asked again. */
#include "runtime/jit_image.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"

typedef struct Job { /* one kernel to make */
    const Kernel *kernel;
    int at;      /* its number */
    Strbuf what; /* the key; the text stands behind its empty line */
    size_t text; /* where */
    Image image;
    Strbuf log;
} Job;

typedef struct Pool { /* jobs that a few threads take in turn */
    const ImageMaker *maker;
    Job **job;
    int n;
    _Atomic int next;
} Pool;

static void job_key(Job *job, const ImageMaker *m)
{
    strbuf_add(&job->what, m->what);
    strbuf_printf(&job->what, "kernel: %s\n\n", job->kernel->name);
    job->text = job->what.n;
    strbuf_add(&job->what, kernel_prelude_cuda());
    /* So that a message names a line of the kernel as it is printed. */
    strbuf_printf(&job->what, "#line 1 \"%s\"\n", job->kernel->name);
    strbuf_add(&job->what, job->kernel->source);
}

static CacheKey key_of(const Job *job, const ImageMaker *m)
{
    return (CacheKey){ m->kind, strbuf_str(&job->what), m->how };
}

/* ------------------------------------------------------------ the cache */

static bool image_read(const char *data, size_t n, Image *out)
{
    int length = 0;
    if (sscanf(data, "regs %d stack %d spill %d warnings %d%n", &out->regs, &out->stack,
               &out->spill, &out->warnings, &length) != 4 ||
        data[length] != '\n')
        return false;
    out->n = n - (size_t)length - 1;
    out->bytes = calloc(1, out->n + 1);
    if (out->bytes)
        memcpy(out->bytes, data + length + 1, out->n);
    return out->bytes != NULL;
}

static void job_lookup(Ctx *cx, Cache *cache, const ImageMaker *m, Job *job)
{
    const CacheKey key = key_of(job, m);
    char *data = NULL;
    size_t n = 0;
    if (!cache_get(cx, cache, &key, &data, &n))
        return;
    job->image.from = CODE_CACHED;
    if (!image_read(data, n, &job->image)) {
        log_say(cx, LOG_WARN, "a cached image of %s is damaged: it is made again",
                job->kernel->name);
        cache_drop(cx, cache, &key);
    }
    free(data);
}

static void job_store(Ctx *cx, Cache *cache, const ImageMaker *m, const Job *job)
{
    const Image *image = &job->image;
    const CacheKey key = key_of(job, m);
    char head[128];
    const int n = snprintf(head, sizeof head, "regs %d stack %d spill %d warnings %d\n",
                           image->regs, image->stack, image->spill, image->warnings);
    char *data = malloc((size_t)n + image->n);
    if (!data)
        return; /* a cache costs time only */
    memcpy(data, head, (size_t)n);
    memcpy(data + n, image->bytes, image->n);
    cache_put(cx, cache, &key, data, (size_t)n + image->n);
    free(data);
}

/* ------------------------------------------------------------ making */

static void *pool_main(void *arg)
{
    Pool *pool = arg;
    for (int i; (i = pool->next++) < pool->n;) {
        Job *job = pool->job[i];
        pool->maker->make(pool->maker->arg, job->kernel, job->what.s + job->text, &job->image,
                          &job->log);
    }
    return NULL;
}

static int core_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

static void pool_run(Pool *pool)
{
    enum { MAX_THREADS = 64 };
    pthread_t thread[MAX_THREADS];
    int started = 0;
    for (int more = core_count() - 1; started < more && started < pool->n - 1; started++)
        if (started == MAX_THREADS || pthread_create(&thread[started], NULL, pool_main, pool))
            break;
    pool_main(pool);
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
}

/* The words of the compiler, and the text they speak of, as a file. */
static void say_failed(Ctx *cx, Cache *cache, const ImageMaker *m, const Job *job,
                       const char *layers)
{
    char name[160], path[600];
    Strbuf b = { 0 };
    const bool known = layers && layers[0];
    strbuf_printf(&b, "kernel: %s\nlayers: %s\ncompiler: %s\n%s\n%s\n", job->kernel->name,
                  known ? layers : "none", m->name, m->how, strbuf_str(&job->log));
    strbuf_add(&b, job->kernel->source);
    snprintf(name, sizeof name, "%.120s.%s.txt", job->kernel->name, m->kind);
    cache_note(cx, cache, name, b.s, b.n, path, sizeof path);
    strbuf_free(&b);
    log_say(cx, LOG_WARN, "%s%s%s: %s does not compile it%s%s",
            job->kernel->name, known ? ", of layers " : "", known ? layers : "", m->name,
            path[0] ? "; the compiler's words: " : "", path);
}

/* The longest first, that none of them is waited for alone at the end. */
static int longer_text(const void *pa, const void *pb)
{
    const Job *a = *(Job *const *)pa, *b = *(Job *const *)pb;
    const size_t na = strlen(a->kernel->source), nb = strlen(b->kernel->source);
    return na != nb ? (na < nb) - (na > nb) : a->at - b->at;
}

static void jobs_make(Ctx *cx, Cache *cache, const ImageMaker *m, const char *const *layers,
                      bool no_cache, Job *job, int n)
{
    Pool pool = { .maker = m };
    Arena *arena = arena_new();
    pool.job = arena_array(arena, Job *, n);
    for (int i = 0; i < n; i++)
        if (!job[i].image.bytes)
            pool.job[pool.n++] = &job[i];
    if (pool.n) {
        qsort(pool.job, (size_t)pool.n, sizeof *pool.job, longer_text);
        pool_run(&pool);
    }
    for (int i = 0; i < pool.n; i++) {
        Job *made = pool.job[i];
        made->image.from = made->image.bytes ? CODE_COMPILED : CODE_NONE;
        if (!made->image.bytes)
            say_failed(cx, cache, m, made, layers ? layers[made->at] : NULL);
        else if (!no_cache)
            job_store(cx, cache, m, made);
    }
    arena_free(arena);
}

/* ------------------------------------------------------------ a program's kernels */

static int by_name(const void *pa, const void *pb)
{
    const Job *a = pa, *b = pb;
    const int c = strcmp(a->kernel->name, b->kernel->name);
    return c ? c : a->at - b->at;
}

static Status hand_out(Ctx *cx, const Job *job, int njob, const Kernel *k, int n, Image *image)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < njob && k[i].source[0]; j++) {
            if (strcmp(job[j].kernel->name, k[i].name) != 0)
                continue;
            image[i] = job[j].image;
            if (!image[i].bytes)
                break;
            image[i].bytes = malloc(image[i].n + 1);
            if (!image[i].bytes)
                return FAIL(cx, MEMORY, "no memory for the code of %s", k[i].name);
            memcpy(image[i].bytes, job[j].image.bytes, image[i].n + 1);
            break;
        }
    return ST_OK;
}

Status jit_image_load(Ctx *cx, Cache *cache, const ImageMaker *maker, const Kernel *k,
                      const char *const *layers, int n, bool no_cache, Image *image)
{
    Arena *arena = arena_new();
    Job *job = arena_array(arena, Job, n);
    int all = 0, njob = 0;
    for (int i = 0; i < n; i++) {
        image[i] = (Image){ .from = CODE_NONE };
        if (k[i].source[0]) /* else no planner took it */
            job[all++] = (Job){ .kernel = &k[i], .at = i };
    }
    if (all)
        qsort(job, (size_t)all, sizeof *job, by_name);
    for (int i = 0; i < all; i++) /* equal kernels have equal names */
        if (!njob || strcmp(job[njob - 1].kernel->name, job[i].kernel->name) != 0)
            job[njob++] = job[i];
    for (int i = 0; i < njob; i++) {
        job_key(&job[i], maker);
        if (!no_cache)
            job_lookup(cx, cache, maker, &job[i]);
    }
    jobs_make(cx, cache, maker, layers, no_cache, job, njob);
    const Status status = hand_out(cx, job, njob, k, n, image);
    for (int i = 0; i < njob; i++) {
        strbuf_free(&job[i].what);
        strbuf_free(&job[i].log);
        free(job[i].image.bytes);
    }
    if (status != ST_OK)
        jit_image_free(image, n);
    arena_free(arena);
    return status;
}

void jit_image_free(Image *image, int n)
{
    for (int i = 0; i < n; i++) {
        free(image[i].bytes);
        image[i].bytes = NULL;
    }
}
