/* SPDX-License-Identifier: Apache-2.0 */
/* schedule: the learning rate of each step.  Constant so far; the step and the number of steps
 * are here for warm-up and decay. */
#include "models/layer.h"

double model_learning_rate(const Model *m, int64_t step, int64_t total)
{
    (void)step;
    (void)total;
    return m->optimizer->learning_rate;
}
