/* SPDX-License-Identifier: Apache-2.0 */
/* simt_module: modules and functions of the host's CUDA driver.
 *
 * The image is a shared object.  A function is NAME_entry in it, and NAME_args spells its
 * parameters ("(*(float **)a[0], *(int *)a[1])"), from which their number and sizes are read:
 * a launch copies them when it is enqueued, as the real driver does. */
#include "runtime/simt_driver_state.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The bytes of an object in memory, by its own headers; 0: it is none. */
static size_t image_bytes(const void *image)
{
    const unsigned char *p = image;
    Elf64_Ehdr elf;
    size_t end = 0;
    if (memcmp(p, ELFMAG, SELFMAG) != 0 || p[EI_CLASS] != ELFCLASS64)
        return 0;
    memcpy(&elf, p, sizeof elf);
    if (elf.e_type != ET_DYN || elf.e_shentsize != sizeof(Elf64_Shdr))
        return 0;
    end = elf.e_shoff + (size_t)elf.e_shnum * elf.e_shentsize;
    for (size_t i = 0; i < elf.e_shnum; i++) {
        Elf64_Shdr s;
        memcpy(&s, p + elf.e_shoff + i * sizeof s, sizeof s);
        if (s.sh_type != SHT_NOBITS && s.sh_offset + s.sh_size > end)
            end = s.sh_offset + s.sh_size;
    }
    return end;
}

static void put_log(unsigned n, const CUjit_option *option, void **value, const char *text)
{
    char *log = NULL;
    size_t cap = 0;
    for (unsigned i = 0; i < n; i++) {
        if (option[i] == CU_JIT_ERROR_LOG_BUFFER)
            log = value[i];
        if (option[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
            cap = (size_t)(uintptr_t)value[i];
    }
    if (log && cap)
        snprintf(log, cap, "%s", text);
}

static CUresult module_load(CUmodule *out, const void *image, unsigned n, CUjit_option *option,
                            void **value)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_OUT_OF_MEMORY);
    if (r != CUDA_SUCCESS)
        return simt_driver_leave(d, r);
    const size_t bytes = image ? image_bytes(image) : 0;
    CUmodule mod = calloc(1, sizeof *mod);
    if (!mod) {
        r = CUDA_ERROR_OUT_OF_MEMORY;
    } else if (!bytes) {
        put_log(n, option, value, "the image is no shared object");
        r = CUDA_ERROR_INVALID_IMAGE;
    } else if (simt_code_load(&d->cx, d->m, image, bytes, &mod->code) != ST_OK) {
        put_log(n, option, value, d->cx.msg);
        r = CUDA_ERROR_INVALID_IMAGE;
    }
    if (r == CUDA_SUCCESS) {
        simt_handle_add(&d->module, &mod->h);
        *out = mod;
    } else {
        free(mod);
    }
    return simt_driver_leave(d, r);
}

void simt_module_destroy(SimtDriver *d, CUmodule mod)
{
    while (mod->function) {
        CUfunction f = (CUfunction)(void *)mod->function;
        simt_handle_drop(&mod->function, &f->h);
        free(f->size);
        free(f);
    }
    simt_code_unload(&d->cx, mod->code);
    free(mod);
}

static CUresult module_unload(CUmodule mod)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (d && simt_handle_known(d->module, (Handle *)(void *)mod)) {
        const CUresult drained = simt_stream_drain(d);
        r = r ? r : drained;
        simt_handle_drop(&d->module, &mod->h);
        simt_module_destroy(d, mod);
    } else if (d && r == CUDA_SUCCESS) {
        r = CUDA_ERROR_INVALID_HANDLE;
    }
    return simt_driver_leave(d, r);
}

/* The size of what "*(TYPE *)a[" at `a` reads: a pointer's when TYPE is one. */
static int parameter_size(const char *text, const char *a)
{
    const char *open = a;
    while (open > text && *open != '(')
        open--;
    const char *star = memchr(open, '*', (size_t)(a - open));
    if (star && memchr(star + 1, '*', (size_t)(a - star - 1)))
        return sizeof(void *);
    for (const char *p = open; p < a; p++)
        if (strncmp(p, "64", 2) == 0 || strncmp(p, "double", 6) == 0 || strncmp(p, "long", 4) == 0)
            return 8;
    return 4;
}

static bool read_parameters(CUfunction f, const char *text)
{
    int n = 0;
    for (const char *a = text; (a = strstr(a, "a[")) != NULL; a += 2)
        n++;
    f->nparam = n;
    f->size = calloc((size_t)n + 1, sizeof *f->size);
    for (const char *a = text; f->size && (a = strstr(a, "a[")) != NULL; a += 2) {
        const int i = atoi(a + 2);
        if (i < 0 || i >= n)
            return false;
        f->size[i] = parameter_size(text, a);
    }
    return f->size != NULL;
}

static CUresult get_function(CUfunction *out, CUmodule mod, const char *name)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_NOT_FOUND);
    if (r == CUDA_SUCCESS && !simt_handle_known(d->module, (Handle *)(void *)mod))
        r = CUDA_ERROR_INVALID_HANDLE;
    if (r != CUDA_SUCCESS)
        return simt_driver_leave(d, r);
    SimtEntry *entry = simt_code_entry(&d->cx, mod->code, name);
    const char *args = simt_code_arguments(&d->cx, mod->code, name);
    if (!entry || !args)
        return simt_driver_leave(d, CUDA_ERROR_NOT_FOUND);
    CUfunction f = calloc(1, sizeof *f);
    if (!f || !read_parameters(f, args)) {
        free(f ? f->size : NULL);
        free(f);
        return simt_driver_leave(d, CUDA_ERROR_OUT_OF_MEMORY);
    }
    snprintf(f->name, sizeof f->name, "%s", name);
    f->kernel = (SimtKernel){ .name = f->name, .entry = entry, .code = mod->code };
    f->max_smem = SIMT_SMEM_DEFAULT;
    simt_handle_add(&mod->function, &f->h);
    *out = f;
    return simt_driver_leave(d, CUDA_SUCCESS);
}

bool simt_function_known(const SimtDriver *d, CUfunction f)
{
    for (const Handle *m = d->module; m; m = m->next)
        if (simt_handle_known(((const struct CUmod_st *)(const void *)m)->function,
                              (const Handle *)(const void *)f))
            return true;
    return false;
}

static CUresult get_attribute(int *out, CUfunction_attribute a, CUfunction f)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (r == CUDA_SUCCESS && !simt_function_known(d, f))
        r = CUDA_ERROR_INVALID_HANDLE;
    if (r != CUDA_SUCCESS)
        return simt_driver_leave(d, r);
    switch (a) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *out = 1024;
        break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
        *out = 64;
        break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
        *out = 0;
        break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *out = f->max_smem;
        break;
    default:
        r = CUDA_ERROR_INVALID_VALUE;
    }
    return simt_driver_leave(d, r);
}

static CUresult set_attribute(CUfunction f, CUfunction_attribute a, int value)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (r == CUDA_SUCCESS && !simt_function_known(d, f))
        r = CUDA_ERROR_INVALID_HANDLE;
    if (r != CUDA_SUCCESS)
        return simt_driver_leave(d, r);
    if (a == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES && value >= 0 &&
        value <= SIMT_MAX_SMEM)
        f->max_smem = value;
    else if (a == CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED)
        f->cluster = value;
    else
        r = CUDA_ERROR_INVALID_VALUE;
    return simt_driver_leave(d, r);
}

int simt_function_occupancy(int threads, size_t smem)
{
    const int by_threads = SIMT_MAX_THREADS_SM / threads;
    const int by_smem = (int)((SIMT_MAX_SMEM + 1024) / (smem + 1024));
    const int n = by_threads < by_smem ? by_threads : by_smem;
    return n < SIMT_BLOCKS_SM ? n : SIMT_BLOCKS_SM;
}

static CUresult occupancy(int *out, CUfunction f, int threads, size_t smem)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (r == CUDA_SUCCESS && !simt_function_known(d, f))
        r = CUDA_ERROR_INVALID_HANDLE;
    if (r == CUDA_SUCCESS && (threads < 1 || threads > 1024))
        r = CUDA_ERROR_INVALID_VALUE;
    if (r == CUDA_SUCCESS)
        *out = simt_function_occupancy(threads, smem);
    return simt_driver_leave(d, r);
}

void simt_module_fill(CudaDriver *cu)
{
    cu->cuModuleLoadDataEx = module_load;
    cu->cuModuleUnload = module_unload;
    cu->cuModuleGetFunction = get_function;
    cu->cuFuncGetAttribute = get_attribute;
    cu->cuFuncSetAttribute = set_attribute;
    cu->cuOccupancyMaxActiveBlocksPerMultiprocessor = occupancy;
}
