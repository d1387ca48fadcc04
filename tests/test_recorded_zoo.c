/* SPDX-License-Identifier: Apache-2.0 */
/* The models of models/ agree with PyTorch. */
#include "tests/recording_check.h"

int main(int argc, char **argv)
{
    return recording_check(argc, argv, true);
}
