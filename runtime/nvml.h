/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_NVML_H
#define GTC_RUNTIME_NVML_H

#include "runtime/gtc.h"

/* NVML, the library behind nvidia-smi, about one GPU. */
typedef struct Nvml Nvml;

/* The GPU at that place of the PCI bus.  ST_ENV, and what to do, when there is no NVML or it does
 * not know the GPU. */
Status nvml_open(Ctx *cx, unsigned domain, unsigned bus, unsigned device, Nvml **out);
void nvml_close(Nvml *n); /* NULL is fine */
/* What cannot be asked (a GPU without a sensor) is -1 or NAN. */
void nvml_read(const Nvml *n, GtcGpuLoad *out);

/* Whether the library is there, for doctor: its version, or what to do. */
Status nvml_find(Ctx *cx, char *text, size_t cap);

#endif
