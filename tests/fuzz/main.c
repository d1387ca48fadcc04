/* SPDX-License-Identifier: Apache-2.0 */
/* What clang's fuzzer calls; FUZZ_TARGET says which reader it feeds. */
#include <stdint.h>

#include "tests/fuzz/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    FuzzResult r;
    fuzz_run(&FUZZ_TARGET, NULL, bytes, n, &r);
    return 0;
}
