/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_BASE_BUG_H
#define GTC_IR_BASE_BUG_H

#include <stdbool.h>

/* Seeded bugs: mistakes a person could have made, one of which a test build (preset `bugs`) makes
 * on purpose when the environment says GTC_BUG=n, so that the tests themselves can be tested.
 * tests/seeded_bugs.def lists them; in every other build BUG(n) is the constant false. */
#ifdef GTC_SEEDED_BUGS
#define BUG(n) (bug_seeded() == (n))
int bug_seeded(void);
#else
#define BUG(n) false
#endif

#endif
