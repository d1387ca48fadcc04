/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_DEV_CUDA_H
#define GTC_RUNTIME_DEV_CUDA_H

#include "runtime/cuda_dl.h"
#include "runtime/device.h"

/* The GPUs behind a driver, as gtc_devices tells of them.  None when the driver cannot say. */
int cuda_list(Ctx *cx, const CudaDriver *cu, const DeviceOps *ops, GtcDeviceInfo *out, int max);

/* The same of one that is open. */
void cuda_tell(const GtcDevice *d, GtcDeviceInfo *out);

/* A GPU behind any driver table, with kernels made by NVRTC; device_cuda.open has libcuda's. */
Status cuda_open_gpu(Ctx *cx, const CudaDriver *cu, const DeviceCall *call, GtcDevice **out);

/* A device behind the host's driver, which is open and stays the caller's; shadow: with kernels
 * that are watched.  device_simt.open opens a driver too. */
Status cuda_open_simt(Ctx *cx, const CudaDriver *cu, bool shadow, const DeviceCall *call,
                      GtcDevice **out);

/* What plans may know of a GPU with so many multiprocessors, and bytes of shared memory a block. */
Target cuda_target(int units, int64_t smem_bytes, int64_t l2_bytes);

#endif
