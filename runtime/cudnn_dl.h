/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_CUDNN_DL_H
#define GTC_RUNTIME_CUDNN_DL_H

#include <stddef.h>
#include <stdint.h>

#include "ir/base/status.h"

/* cuDNN 9 as far as gtc calls it: graphs by the backend interface, recurrent
 * layers, and copies between layouts.  Declared as in cuda_dl.h and compared with cudnn.h
 * by tests/test_cuda_headers.c. */
typedef int cudnnStatus_t, cudnnDataType_t, cudnnBackendDescriptorType_t,
    cudnnBackendAttributeName_t, cudnnBackendAttributeType_t, cudnnConvolutionMode_t,
    cudnnBackendHeurMode_t, cudnnBackendNumericalNote_t, cudnnMathType_t, cudnnForwardMode_t,
    cudnnRNNAlgo_t, cudnnRNNMode_t, cudnnRNNBiasMode_t, cudnnDirectionMode_t, cudnnRNNInputMode_t,
    cudnnRNNDataLayout_t;
typedef struct cudnnContext *cudnnHandle_t;
typedef struct cudnnTensorStruct *cudnnTensorDescriptor_t;
typedef struct cudnnDropoutStruct *cudnnDropoutDescriptor_t;
typedef struct cudnnRNNStruct *cudnnRNNDescriptor_t;
typedef struct cudnnRNNDataStruct *cudnnRNNDataDescriptor_t;
typedef void *cudnnBackendDescriptor_t;
typedef struct CUstream_st *cudaStream_t;

/* X(name, value) for every constant. */
#define CUDNN_VALUES(X)                                                                            \
    X(CUDNN_STATUS_SUCCESS, 0)                                                                     \
    X(CUDNN_STATUS_NOT_SUPPORTED, 3000)                                                            \
    X(CUDNN_DATA_FLOAT, 0)                                                                         \
    X(CUDNN_FMA_MATH, 3)                                                                           \
    X(CUDNN_FWD_MODE_INFERENCE, 0)                                                                 \
    X(CUDNN_RNN_ALGO_STANDARD, 0)                                                                  \
    X(CUDNN_RNN_TANH, 1)                                                                           \
    X(CUDNN_LSTM, 2)                                                                               \
    X(CUDNN_GRU, 3)                                                                                \
    X(CUDNN_RNN_SINGLE_INP_BIAS, 1)                                                                \
    X(CUDNN_RNN_DOUBLE_BIAS, 2)                                                                    \
    X(CUDNN_UNIDIRECTIONAL, 0)                                                                     \
    X(CUDNN_LINEAR_INPUT, 0)                                                                       \
    X(CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, 0)                                                 \
    X(CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED, 2)                                               \
    X(CUDNN_RNN_PADDED_IO_ENABLED, 1)                                                              \
    X(CUDNN_CONVOLUTION, 0)                                                                        \
    X(CUDNN_CROSS_CORRELATION, 1)                                                                  \
    X(CUDNN_HEUR_MODE_A, 3)                                                                        \
    X(CUDNN_HEUR_MODE_FALLBACK, 2)                                                                 \
    X(CUDNN_NUMERICAL_NOTE_TENSOR_CORE, 0)                                                         \
    X(CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP, 9)                                                     \
    X(CUDNN_NUMERICAL_NOTE_TYPE_COUNT, 10)                                                         \
    X(CUDNN_TYPE_HANDLE, 0)                                                                        \
    X(CUDNN_TYPE_DATA_TYPE, 1)                                                                     \
    X(CUDNN_TYPE_INT64, 3)                                                                         \
    X(CUDNN_TYPE_FLOAT, 4)                                                                         \
    X(CUDNN_TYPE_VOID_PTR, 6)                                                                      \
    X(CUDNN_TYPE_CONVOLUTION_MODE, 7)                                                              \
    X(CUDNN_TYPE_HEUR_MODE, 8)                                                                     \
    X(CUDNN_TYPE_NUMERICAL_NOTE, 11)                                                               \
    X(CUDNN_TYPE_BACKEND_DESCRIPTOR, 15)                                                           \
    X(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, 1)                                                     \
    X(CUDNN_BACKEND_ENGINE_DESCRIPTOR, 2)                                                          \
    X(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, 3)                                                       \
    X(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, 4)                                                      \
    X(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, 5)                                                  \
    X(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, 10)                                  \
    X(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, 11)                          \
    X(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, 12)                            \
    X(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, 15)                                                 \
    X(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, 16)                                                   \
    X(CUDNN_BACKEND_TENSOR_DESCRIPTOR, 17)                                                         \
    X(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, 100)                                                       \
    X(CUDNN_ATTR_CONVOLUTION_CONV_MODE, 101)                                                       \
    X(CUDNN_ATTR_CONVOLUTION_DILATIONS, 102)                                                       \
    X(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 103)                                                  \
    X(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, 104)                                                   \
    X(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, 105)                                                    \
    X(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 106)                                                    \
    X(CUDNN_ATTR_ENGINEHEUR_MODE, 200)                                                             \
    X(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, 201)                                                  \
    X(CUDNN_ATTR_ENGINEHEUR_RESULTS, 202)                                                          \
    X(CUDNN_ATTR_ENGINECFG_ENGINE, 300)                                                            \
    X(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, 400)                                                       \
    X(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, 401)                                                \
    X(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, 402)                                               \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, 700)                                         \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, 701)                                          \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, 702)                                     \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, 703)                                             \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, 704)                                             \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, 705)                                             \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, 706)                                        \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, 707)                                         \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, 708)                                    \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, 709)                                            \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, 710)                                           \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, 711)                                           \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, 712)                                      \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, 713)                                       \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, 714)                                  \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, 715)                                         \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, 716)                                          \
    X(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, 717)                                         \
    X(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, 800)                                                       \
    X(CUDNN_ATTR_OPERATIONGRAPH_OPS, 801)                                                          \
    X(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 900)                                                       \
    X(CUDNN_ATTR_TENSOR_DATA_TYPE, 901)                                                            \
    X(CUDNN_ATTR_TENSOR_DIMENSIONS, 902)                                                           \
    X(CUDNN_ATTR_TENSOR_STRIDES, 903)                                                              \
    X(CUDNN_ATTR_TENSOR_UNIQUE_ID, 906)                                                            \
    X(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, 1000)                                                    \
    X(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, 1001)                                                 \
    X(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, 1003)                                                     \
    X(CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, 1303)

enum {
#define CUDNN_VALUE(name, value) name = value,
    CUDNN_VALUES(CUDNN_VALUE)
#undef CUDNN_VALUE
};

/* X(result, name, parameters) for every call. */
#define CUDNN_CALLS(X)                                                                             \
    X(size_t, cudnnGetVersion, (void))                                                             \
    X(const char *, cudnnGetErrorString, (cudnnStatus_t))                                          \
    X(cudnnStatus_t, cudnnCreate, (cudnnHandle_t *))                                               \
    X(cudnnStatus_t, cudnnDestroy, (cudnnHandle_t))                                                \
    X(cudnnStatus_t, cudnnSetStream, (cudnnHandle_t, cudaStream_t))                                \
    X(cudnnStatus_t, cudnnCreateTensorDescriptor, (cudnnTensorDescriptor_t *))                     \
    X(cudnnStatus_t, cudnnDestroyTensorDescriptor, (cudnnTensorDescriptor_t))                      \
    X(cudnnStatus_t, cudnnSetTensorNdDescriptor,                                                   \
      (cudnnTensorDescriptor_t, cudnnDataType_t, int, const int *, const int *))                   \
    X(cudnnStatus_t, cudnnTransformTensor,                                                         \
      (cudnnHandle_t, const void *, const cudnnTensorDescriptor_t, const void *, const void *,     \
       const cudnnTensorDescriptor_t, void *))                                                     \
    X(cudnnStatus_t, cudnnGetTensorNdDescriptor,                                                   \
      (const cudnnTensorDescriptor_t, int, cudnnDataType_t *, int *, int *, int *))                \
    X(cudnnStatus_t, cudnnSetTensor,                                                               \
      (cudnnHandle_t, const cudnnTensorDescriptor_t, void *, const void *))                        \
    X(cudnnStatus_t, cudnnCreateRNNDescriptor, (cudnnRNNDescriptor_t *))                           \
    X(cudnnStatus_t, cudnnDestroyRNNDescriptor, (cudnnRNNDescriptor_t))                            \
    X(cudnnStatus_t, cudnnSetRNNDescriptor_v8,                                                     \
      (cudnnRNNDescriptor_t, cudnnRNNAlgo_t, cudnnRNNMode_t, cudnnRNNBiasMode_t,                   \
       cudnnDirectionMode_t, cudnnRNNInputMode_t, cudnnDataType_t, cudnnDataType_t,                \
       cudnnMathType_t, int32_t, int32_t, int32_t, int32_t, cudnnDropoutDescriptor_t, uint32_t))   \
    X(cudnnStatus_t, cudnnCreateRNNDataDescriptor, (cudnnRNNDataDescriptor_t *))                   \
    X(cudnnStatus_t, cudnnDestroyRNNDataDescriptor, (cudnnRNNDataDescriptor_t))                    \
    X(cudnnStatus_t, cudnnSetRNNDataDescriptor,                                                    \
      (cudnnRNNDataDescriptor_t, cudnnDataType_t, cudnnRNNDataLayout_t, int, int, int, const int *,\
       void *))                                                                                    \
    X(cudnnStatus_t, cudnnGetRNNTempSpaceSizes,                                                    \
      (cudnnHandle_t, cudnnRNNDescriptor_t, cudnnForwardMode_t, cudnnRNNDataDescriptor_t, size_t *,\
       size_t *))                                                                                  \
    X(cudnnStatus_t, cudnnGetRNNWeightSpaceSize, (cudnnHandle_t, cudnnRNNDescriptor_t, size_t *))  \
    X(cudnnStatus_t, cudnnGetRNNWeightParams,                                                      \
      (cudnnHandle_t, cudnnRNNDescriptor_t, int32_t, size_t, const void *, int32_t,                \
       cudnnTensorDescriptor_t, void **, cudnnTensorDescriptor_t, void **))                        \
    X(cudnnStatus_t, cudnnRNNForward,                                                              \
      (cudnnHandle_t, cudnnRNNDescriptor_t, cudnnForwardMode_t, const int32_t *,                   \
       cudnnRNNDataDescriptor_t, const void *, cudnnRNNDataDescriptor_t, void *,                   \
       cudnnTensorDescriptor_t, const void *, void *, cudnnTensorDescriptor_t, const void *,       \
       void *, size_t, const void *, size_t, void *, size_t, void *))                              \
    X(cudnnStatus_t, cudnnBackendCreateDescriptor,                                                 \
      (cudnnBackendDescriptorType_t, cudnnBackendDescriptor_t *))                                  \
    X(cudnnStatus_t, cudnnBackendDestroyDescriptor, (cudnnBackendDescriptor_t))                    \
    X(cudnnStatus_t, cudnnBackendFinalize, (cudnnBackendDescriptor_t))                             \
    X(cudnnStatus_t, cudnnBackendSetAttribute,                                                     \
      (cudnnBackendDescriptor_t, cudnnBackendAttributeName_t, cudnnBackendAttributeType_t,         \
       int64_t, const void *))                                                                     \
    X(cudnnStatus_t, cudnnBackendGetAttribute,                                                     \
      (cudnnBackendDescriptor_t, cudnnBackendAttributeName_t, cudnnBackendAttributeType_t,         \
       int64_t, int64_t *, void *))                                                                \
    X(cudnnStatus_t, cudnnBackendExecute,                                                          \
      (cudnnHandle_t, cudnnBackendDescriptor_t, cudnnBackendDescriptor_t))

typedef struct Cudnn {
#define CUDNN_CALL(result, name, args) result(*name) args;
    CUDNN_CALLS(CUDNN_CALL)
#undef CUDNN_CALL
    size_t version; /* 91900: 9.19 */
    char path[512]; /* as it was found */
} Cudnn;

typedef struct CudnnLib {
    Cudnn dnn;
    cudnnHandle_t handle;
} CudnnLib;

/* Fills *out; ST_ENV, and what to do, when there is no cuDNN 9. */
Status cudnn_dl_open(Ctx *cx, Cudnn *out);
/* Loads it and makes a handle; *lib is a CudnnLib. */
Status cudnn_dl_create(Ctx *cx, void **lib);
void cudnn_dl_destroy(void *lib);
void cudnn_dl_name(const void *lib, char *buf, size_t n); /* "cudnn 9.19" */
/* ST_ENV and what the library says, when a call failed. */
Status cudnn_dl_check(Ctx *cx, const CudnnLib *l, const char *call, cudnnStatus_t r);

#endif
