/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_CUDA_PLACE_H
#define GTC_RUNTIME_CUDA_PLACE_H

#include <stddef.h>

#include "ir/base/status.h"

/* Loads a library of CUDA by its name ("libnvrtc.so.13") from the first place of many that has it,
 * and says in path as what it was found.  NULL: it is nowhere.  It stays loaded. */
void *cuda_place_load(Ctx *cx, const char *soname, char *path, size_t n);

/* The same in the folder that GTC_CUDA_PATH names, and nowhere else. */
void *cuda_place_load_asked(Ctx *cx, const char *soname, char *path, size_t n);

#endif
