/* SPDX-License-Identifier: Apache-2.0 */
/* What cuda_dl.h and nvrtc_dl.h declare by hand is what the toolkit's headers say: each call's
 * type, each constant, each struct's size and offsets, by a file of static assertions that the C
 * compiler reads; and each name is one that the driver exports, by the stub to link with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/cublaslt_dl.h"
#include "runtime/cuda_dl.h"
#include "runtime/cudnn_dl.h"
#include "runtime/nvrtc_dl.h"
#include "tests/cc.h"

#define LAUNCH_FIELDS(X, T)                                                                        \
    X(T, gridDimX)                                                                                 \
    X(T, gridDimY)                                                                                 \
    X(T, gridDimZ)                                                                                 \
    X(T, blockDimX)                                                                                \
    X(T, blockDimY)                                                                                \
    X(T, blockDimZ)                                                                                \
    X(T, sharedMemBytes)
#define COPY_FIELDS(X, T, side)                                                                    \
    X(T, side##XInBytes)                                                                           \
    X(T, side##Y)                                                                                  \
    X(T, side##Z)                                                                                  \
    X(T, side##LOD)                                                                                \
    X(T, side##MemoryType)                                                                         \
    X(T, side##Host)                                                                               \
    X(T, side##Device)                                                                             \
    X(T, side##Array)                                                                              \
    X(T, side##Pitch)                                                                              \
    X(T, side##Height)
#define CUDA_FIELDS(X)                                                                             \
    LAUNCH_FIELDS(X, CUlaunchConfig)                                                               \
    X(CUlaunchConfig, hStream)                                                                     \
    X(CUlaunchConfig, attrs)                                                                       \
    X(CUlaunchConfig, numAttrs)                                                                    \
    LAUNCH_FIELDS(X, CUDA_KERNEL_NODE_PARAMS)                                                      \
    X(CUDA_KERNEL_NODE_PARAMS, func)                                                               \
    X(CUDA_KERNEL_NODE_PARAMS, kernelParams)                                                       \
    X(CUDA_KERNEL_NODE_PARAMS, extra)                                                              \
    X(CUDA_KERNEL_NODE_PARAMS, kern)                                                               \
    X(CUDA_KERNEL_NODE_PARAMS, ctx)                                                                \
    X(CUlaunchAttribute, id)                                                                       \
    X(CUlaunchAttribute, value)                                                                    \
    X(CUlaunchAttributeValue, cooperative)                                                         \
    X(CUlaunchAttributeValue, clusterDim.x)                                                        \
    X(CUlaunchAttributeValue, clusterDim.z)                                                        \
    X(CUDA_MEMSET_NODE_PARAMS, dst)                                                                \
    X(CUDA_MEMSET_NODE_PARAMS, pitch)                                                              \
    X(CUDA_MEMSET_NODE_PARAMS, value)                                                              \
    X(CUDA_MEMSET_NODE_PARAMS, elementSize)                                                        \
    X(CUDA_MEMSET_NODE_PARAMS, width)                                                              \
    X(CUDA_MEMSET_NODE_PARAMS, height)                                                             \
    COPY_FIELDS(X, CUDA_MEMCPY3D, src)                                                             \
    COPY_FIELDS(X, CUDA_MEMCPY3D, dst)                                                             \
    X(CUDA_MEMCPY3D, reserved0)                                                                    \
    X(CUDA_MEMCPY3D, reserved1)                                                                    \
    X(CUDA_MEMCPY3D, WidthInBytes)                                                                 \
    X(CUDA_MEMCPY3D, Height)                                                                       \
    X(CUDA_MEMCPY3D, Depth)
#define CUDA_TYPES(X)                                                                              \
    X(CUlaunchConfig)                                                                              \
    X(CUlaunchAttribute)                                                                           \
    X(CUlaunchAttributeValue)                                                                      \
    X(CUkernelNodeAttrValue)                                                                       \
    X(CUDA_KERNEL_NODE_PARAMS)                                                                     \
    X(CUDA_MEMSET_NODE_PARAMS)                                                                     \
    X(CUDA_MEMCPY3D)                                                                               \
    X(CUresult)                                                                                    \
    X(CUdevice)                                                                                    \
    X(CUdevice_attribute)                                                                          \
    X(CUfunction_attribute)                                                                        \
    X(CUjit_option)                                                                                \
    X(CUmemorytype)                                                                                \
    X(CUstreamCaptureMode)                                                                         \
    X(CUlaunchAttributeID)                                                                         \
    X(CUkernelNodeAttrID)                                                                          \
    X(CUdeviceptr)

#define SAME               "#define SAME(f, ...) _Static_assert(__builtin_types_compatible_p(__typeof__(f), "
#define CALL(name, args)   strbuf_add(b, "SAME(" #name ", " #args ");\n");
#define VALUE(name, value) strbuf_printf(b, "_Static_assert(" #name " == %d, \"\");\n", name);
#define SIZE(type)                                                                                 \
    strbuf_printf(b, "_Static_assert(sizeof(" #type ") == %zu, \"" #type "\");\n", sizeof(type));
#define FIELD(type, field)                                                                         \
    strbuf_printf(b, "_Static_assert(offsetof(" #type ", " #field ") == %zu, \"\");\n",            \
                  offsetof(type, field));

static void cuda_assertions(Strbuf *b)
{
    strbuf_add(b, "#include <stddef.h>\n#include <cuda.h>\n" SAME "CUresult __VA_ARGS__), #f)\n");
    CUDA_CALLS(CALL)
    CUDA_VALUES(VALUE)
    CUDA_TYPES(SIZE)
    CUDA_FIELDS(FIELD)
}

static void nvrtc_assertions(Strbuf *b)
{
    strbuf_add(b, "#include <nvrtc.h>\n" SAME "nvrtcResult __VA_ARGS__), #f)\n");
    NVRTC_CALLS(CALL)
    NVRTC_VALUES(VALUE)
    SIZE(nvrtcResult)
    SIZE(nvrtcProgram)
}

#define CUBLASLT_TYPES(X)                                                                          \
    X(cublasStatus_t)                                                                              \
    X(cublasComputeType_t)                                                                         \
    X(cudaDataType)                                                                                \
    X(cublasLtMatmulDescAttributes_t)                                                              \
    X(cublasLtMatrixLayoutAttribute_t)                                                             \
    X(cublasLtMatmulPreferenceAttributes_t)                                                        \
    X(cublasLtMatmulDescOpaque_t)                                                                  \
    X(cublasLtMatrixLayoutOpaque_t)                                                                \
    X(cublasLtMatmulPreferenceOpaque_t)                                                            \
    X(cublasLtMatmulAlgo_t)                                                                        \
    X(cublasLtMatmulHeuristicResult_t)
#define CUBLASLT_FIELDS(X)                                                                         \
    X(cublasLtMatmulHeuristicResult_t, algo)                                                       \
    X(cublasLtMatmulHeuristicResult_t, workspaceSize)                                              \
    X(cublasLtMatmulHeuristicResult_t, state)                                                      \
    X(cublasLtMatmulHeuristicResult_t, reserved)

#define RETURNS            "#define RETURNS(r, f, ...) _Static_assert(__builtin_types_compatible_p(__typeof__(f), r __VA_ARGS__), #f)\n"
#define RESULT_CALL(result, name, args) strbuf_add(b, "RETURNS(" #result ", " #name ", " #args ");\n");

static void cublaslt_assertions(Strbuf *b)
{
    strbuf_add(b, "#include <stddef.h>\n#include <cublasLt.h>\n" RETURNS);
    CUBLASLT_CALLS(RESULT_CALL)
    CUBLASLT_VALUES(VALUE)
    CUBLASLT_TYPES(SIZE)
    CUBLASLT_FIELDS(FIELD)
}

static void cudnn_assertions(Strbuf *b)
{
    strbuf_add(b, "#include <cudnn.h>\n" RETURNS);
    CUDNN_CALLS(RESULT_CALL)
    CUDNN_VALUES(VALUE)
    SIZE(cudnnStatus_t)
    SIZE(cudnnDataType_t)
    SIZE(cudnnBackendDescriptorType_t)
    SIZE(cudnnBackendAttributeName_t)
    SIZE(cudnnBackendAttributeType_t)
    SIZE(cudnnConvolutionMode_t)
    SIZE(cudnnBackendHeurMode_t)
    SIZE(cudnnBackendNumericalNote_t)
    SIZE(cudnnBackendDescriptor_t)
    SIZE(cudnnMathType_t)
    SIZE(cudnnForwardMode_t)
    SIZE(cudnnRNNAlgo_t)
    SIZE(cudnnRNNMode_t)
    SIZE(cudnnRNNBiasMode_t)
    SIZE(cudnnDirectionMode_t)
    SIZE(cudnnRNNInputMode_t)
    SIZE(cudnnRNNDataLayout_t)
    SIZE(cudnnRNNDescriptor_t)
    SIZE(cudnnRNNDataDescriptor_t)
    SIZE(cudnnDropoutDescriptor_t)
}

/* ------------------------------------------------------------ the toolkit */

static char toolkit[256]; /* its folder, "" without one */

static bool toolkit_find(void)
{
    const char *at[] = { getenv("CUDA_HOME"), getenv("CUDA_PATH"), "/usr/local/cuda", "/opt/cuda" };
    char path[300];
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        if (!at[i])
            continue;
        snprintf(toolkit, sizeof toolkit, "%s", at[i]);
        snprintf(path, sizeof path, "%s/include/cuda.h", toolkit);
        if (access(path, R_OK) == 0)
            return true;
    }
    toolkit[0] = '\0';
    return false;
}

/* The libraries come in packages of their own. */
static bool has_header(const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/include/%s", toolkit, name);
    if (access(path, R_OK) == 0)
        return true;
    print_message("SKIP: the toolkit has no %s\n", name);
    return false;
}

static int compile(const char *text)
{
    char c[] = "/tmp/gtc-headers-XXXXXX.c", include[300];
    const int fd = mkstemps(c, 2);
    assert_true(fd >= 0);
    close(fd);
    cc_write(c, text);
    snprintf(include, sizeof include, "-I%s/include", toolkit);
    const char *argv[] = { cc_present(0) ? "gcc" : "clang",
                           "-std=gnu11",
                           "-Wall",
                           "-Werror",
                           "-fsyntax-only",
                           include,
                           c,
                           NULL };
    const int rc = os_default()->spawn(argv, STDERR_FILENO);
    unlink(c);
    return rc;
}

static void check_header(void (*assertions)(Strbuf *b))
{
    Strbuf b = { 0 };
    assertions(&b);
    assert_int_equal(compile(strbuf_str(&b)), 0);
    strbuf_free(&b);
}

static void cuda_h_says_the_same(void **state)
{
    (void)state;
    check_header(cuda_assertions);
}

static void nvrtc_h_says_the_same(void **state)
{
    (void)state;
    check_header(nvrtc_assertions);
}

static void cublaslt_h_says_the_same(void **state)
{
    (void)state;
    if (!has_header("cublasLt.h"))
        skip();
    check_header(cublaslt_assertions);
}

static void cudnn_h_says_the_same(void **state)
{
    (void)state;
    if (!has_header("cudnn.h"))
        skip();
    check_header(cudnn_assertions);
}

/* The assertions can fail: each kind of them, on a lie. */
static void a_lie_is_found(void **state)
{
    static const char *const lie[] = {
        "SAME(cuInit, (int *));\n", "_Static_assert(CU_LAUNCH_ATTRIBUTE_COOPERATIVE == 3, \"\");\n",
        "_Static_assert(sizeof(CUlaunchConfig) == 48, \"\");\n",
        "_Static_assert(offsetof(CUDA_MEMCPY3D, Depth) == 0, \"\");\n"
    };
    (void)state;
    for (size_t i = 0; i < sizeof lie / sizeof *lie; i++) {
        Strbuf b = { 0 };
        cuda_assertions(&b);
        strbuf_add(&b, lie[i]);
        assert_int_not_equal(compile(strbuf_str(&b)), 0);
        strbuf_free(&b);
    }
    if (!has_header("cublasLt.h"))
        return;
    Strbuf b = { 0 };
    cublaslt_assertions(&b);
    strbuf_add(&b, "RETURNS(size_t, cublasLtCreate, (cublasLtHandle_t *));\n");
    assert_int_not_equal(compile(strbuf_str(&b)), 0);
    strbuf_free(&b);
}

static void the_driver_exports_each_name(void **state)
{
    static const char *const place[] = { "lib64/stubs", "lib/stubs",
                                         "targets/x86_64-linux/lib/stubs" };
    char path[400];
    void *lib = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof place / sizeof *place && !lib; i++) {
        snprintf(path, sizeof path, "%s/%s/libcuda.so", toolkit, place[i]);
        lib = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    }
    if (!lib) {
        print_message("SKIP: the toolkit has no stub of libcuda\n");
        skip();
    }
#define EXPORTED(name, args)                                                                       \
    if (!dlsym(lib, #name))                                                                        \
        fail_msg("libcuda has no %s", #name);
    CUDA_CALLS(EXPORTED)
    dlclose(lib);
}

int main(void)
{
    if (!toolkit_find()) {
        fprintf(stderr, "SKIP: no CUDA toolkit with include/cuda.h here (CUDA_HOME)\n");
        return 77;
    }
    if (!cc_present(0) && !cc_present(1)) {
        fprintf(stderr, "SKIP: no C compiler to read cuda.h with\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuda_h_says_the_same),
        cmocka_unit_test(nvrtc_h_says_the_same),
        cmocka_unit_test(cublaslt_h_says_the_same),
        cmocka_unit_test(cudnn_h_says_the_same),
        cmocka_unit_test(a_lie_is_found),
        cmocka_unit_test(the_driver_exports_each_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
