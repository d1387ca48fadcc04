/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_RECORDING_CHECK_H
#define GTC_TESTS_RECORDING_CHECK_H

#include <stdbool.h>

/* Agreement with PyTorch, as tests/recorded/make.py wrote it down: outputs, loss, each gradient (of
 * data inputs too), running statistics, and the parameters after some steps of each optimizer.
 *
 * Each recording goes two ways: through the evaluator in f64, where only the file's own rounding to
 * f32 separates the two, and as compiled.  Errors are relative to the largest value of the recorded
 * tensor: 1e-6 for the evaluator; as compiled 1e-5, of gradients 1e-4.  A tensor that is 0 in
 * PyTorch but for rounding is compared with the largest of all gradients in its place.
 *
 * One test a file of tests/recorded, those of the zoo or all others; argv[1]: a pattern of file
 * names.  Returns how many failed. */
int recording_check(int argc, char **argv, bool zoo);

#endif
