/* SPDX-License-Identifier: Apache-2.0 */
/* Layers, losses and optimizers agree with PyTorch; test_recorded_all sees to it that nothing is
 * left out.  `test_recorded "conv*"` runs those files of tests/recorded. */
#include "tests/recording_check.h"

int main(int argc, char **argv)
{
    return recording_check(argc, argv, false);
}
