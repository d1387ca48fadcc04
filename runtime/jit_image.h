/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_JIT_IMAGE_H
#define GTC_RUNTIME_JIT_IMAGE_H

#include "codegen/kernel.h"
#include "ir/base/strbuf.h"
#include "runtime/cache.h"
#include "runtime/jit_cc.h"

/* A kernel's CUDA text made into what a driver loads: a CUBIN or PTX for libcuda, a shared object
 * for the host that stands in for it. */
typedef struct Image {
    char *bytes; /* of the caller, ended by a NUL that n does not count; NULL: nothing takes it */
    size_t n;
    CodeFrom from;
    int regs, stack, spill; /* the most of any entry, bytes; 0 where the maker does not know */
    int warnings;
} Image;

/* A compiler.  make is called from several threads at a time and reports through *out and the log
 * only: bytes stay NULL where the text does not compile. */
typedef struct ImageMaker {
    const char *kind;      /* the cache's subfolder: "cubin", "simt" */
    const char *what;      /* lines "field: value" of the key, on which the image depends */
    const char *how;       /* the same about the compiler and its options */
    const char *name;      /* for people: "NVRTC 13.0" */
    void (*make)(void *arg, const Kernel *k, const char *text, Image *out, Strbuf *log);
    void *arg;
} ImageMaker;

/* Images of n kernels, in image[]: from the cache, or made, as many at a time as there are cores.
 * Equal kernels are made once, each gets a copy.  A kernel without text gets none.  One that does
 * not compile is said aloud with the file that holds its text, its layers and the compiler's words;
 * layers may be NULL, or hold NULL.  Fails with ST_MEMORY only. */
Status jit_image_load(Ctx *cx, Cache *cache, const ImageMaker *maker, const Kernel *k,
                      const char *const *layers, int n, bool no_cache, Image *image);
void jit_image_free(Image *image, int n);

#endif
