/* SPDX-License-Identifier: Apache-2.0 */
/* A program's tensor against the oracle's.  It passes when
 *
 *     masks   it is NaN where the reference surely is, infinite where that surely is (the sign of
 *             an infinity is not compared: 1/0 and 1/-0 are both right)
 *     bound   every element lies in its interval; integers and bools too, whose interval is a
 *             point unless a decision behind them was open
 *     RMSE    RMSE(got, ref) <= 2 RMSE(rounded, ref) + 8 eps RMS(ref)
 *             + max(1/2, 12 / sqrt n) of the samples' RMSE: few elements may be lucky, and the
 *             roundings of one long sum of nearly equal terms all err the same way
 *             + (2 + 6 / sqrt n) of what open decisions span: all may go the same way, and of
 *             what few of them do the samples know little
 *             n counts errors that are not each other's: where one factor spoils a whole tensor,
 *             the RMSE of one sample says nothing of the next one's, and n is as small as these
 *             differ
 *
 * The first is local and rigorous, but as wide as intervals get; the second is blind to a single
 * element and as narrow as real errors are. */
#include <math.h>
#include <stdio.h>

#include "ir/oracle.h"
#include "ir/oracle_op.h"

/* Wider than this part of the tensor's RMS, a bound says little of an element. */
static const double LOOSE = .05;

/* Distance of got from ref, as a part of the way to the interval's end on that side; 0: equal. */
static double part_of_bound(double ref, double got, double end)
{
    const double error = fabs(got - ref), bound = fabs(end - ref);
    return error == 0 ? 0 : bound > 0 ? error / bound : INFINITY;
}

static bool in_bounds(const OracleTensor *want, double got, int64_t i, bool skip_bound,
                      double *part)
{
    const double ref = want->ref.at[i], far = want->rounded.at[i], slack = fabs(far - ref) / 4;
    double lo = want->lo[i], hi = want->hi[i];
    *part = 0;
    if (bound_is_anything(lo, hi))
        return true;
    if (isnan(lo) || isnan(got))
        return isnan(lo) && isnan(got);
    if (isinf(lo) || isinf(got))
        return isinf(lo) && isinf(got);
    if (skip_bound && dtype_is_float(want->ref.type.dt))
        return true;
    if (isfinite(far) && far < lo) /* a correct program gave this: the interval was cut too far */
        lo = far - slack;
    if (isfinite(far) && far > hi)
        hi = far + slack;
    *part = part_of_bound(ref, got, got < ref ? lo : hi);
    return got >= lo && got <= hi;
}

static bool counts(const OracleTensor *want, int64_t i)
{
    return isfinite(want->ref.at[i]) && !bound_is_anything(want->lo[i], want->hi[i]);
}

typedef struct Rms { /* of the elements that count */
    double ref, rounded, got, span, sample;
    double n, nspan; /* elements, or errors that are not each other's when there are fewer */
    bool none;
} Rms;

/* Of so many independent normal errors the mean square is distributed as of these samples. */
static double independent(const double square[ORACLE_SAMPLES], double mean, double n)
{
    double variance = 0;
    for (int k = 0; k < ORACLE_SAMPLES; k++)
        variance += (square[k] - mean) * (square[k] - mean) / (ORACLE_SAMPLES - 1);
    return fmax(1, fmin(n, 2 * mean * mean / variance)); /* n of a NaN */
}

static Rms rms_of(const OracleTensor *want, const Tensor *got)
{
    Rms s = { 0 };
    double square[ORACLE_SAMPLES] = { 0 }, more[ORACLE_SAMPLES] = { 0 };
    int64_t count = 0;
    for (int64_t i = 0; i < shape_count(&want->ref.type.shape); i++) {
        if (!counts(want, i))
            continue;
        const double ref = want->ref.at[i], far = want->rounded.at[i];
        s.ref += ref * ref;
        s.rounded += isfinite(far) ? (far - ref) * (far - ref) : 0;
        s.got += (got->at[i] - ref) * (got->at[i] - ref);
        for (int k = 0; k < ORACLE_SAMPLES; k++) {
            const double error = want->sample[k][i] - ref, open = want->open_sample[k][i] - ref;
            square[k] += isfinite(error) ? error * error : 0;
            more[k] += isfinite(open - error) ? fmax(open * open - error * error, 0) : 0;
        }
        count++;
    }
    for (int k = 0; k < ORACLE_SAMPLES; k++) {
        s.sample += square[k] / ORACLE_SAMPLES;
        s.span += more[k] / ORACLE_SAMPLES;
    }
    const double n = count ? (double)count : 1;
    return (Rms){ .ref = sqrt(s.ref / n),
                  .rounded = sqrt(s.rounded / n),
                  .got = sqrt(s.got / n),
                  .span = sqrt(s.span / n),
                  .sample = sqrt(s.sample / n),
                  .n = independent(square, s.sample, n),
                  .nspan = independent(more, s.span, n),
                  .none = count == 0 };
}

static void count_width(const OracleTensor *want, int64_t i, double rms, OracleReport *report)
{
    const double lo = want->lo[i], hi = want->hi[i], ref = want->ref.at[i];
    const double decided = want->hi_decided[i] - want->lo_decided[i];
    const double width = fmax(hi - ref, ref - lo);
    const bool open = bound_is_anything(lo, hi) || hi - lo > 2 * decided;
    if (!(width > (dtype_is_float(want->ref.type.dt) ? LOOSE * rms : 0)))
        return;
    report->undecided += open;
    report->loose += !open;
}

static void tell(OracleReport *r, const OracleTensor *want, const Tensor *got, int64_t wrong)
{
    const int64_t i = r->first;
    snprintf(r->text, sizeof r->text,
             "%lld of %lld elements wrong, first [%lld]: want %.9g in [%.9g, %.9g] (rounded %.9g), "
             "got %.9g",
             (long long)wrong, (long long)shape_count(&want->ref.type.shape), (long long)i,
             want->ref.at[i], want->lo[i], want->hi[i], want->rounded.at[i], got->at[i]);
}

static int64_t compare_elements(const OracleTensor *want, const Tensor *got, bool skip_bound,
                                double rms, OracleReport *report)
{
    int64_t wrong = 0;
    for (int64_t i = 0; i < shape_count(&want->ref.type.shape); i++) {
        double part;
        const bool ok = in_bounds(want, got->at[i], i, skip_bound, &part);
        count_width(want, i, rms, report);
        report->worst = fmax(report->worst, part);
        if (ok)
            continue;
        if (wrong++ == 0) {
            const double ref = want->ref.at[i], end = got->at[i] < ref ? want->lo[i] : want->hi[i];
            report->first = i;
            report->error = fabs(got->at[i] - ref);
            report->bound = fabs(end - ref);
        }
    }
    return wrong;
}

bool oracle_compare(const OracleTensor *want, const Tensor *got, const OracleLimits *limits,
                    OracleReport *report)
{
    const DType dt = want->ref.type.dt;
    const Rms s = rms_of(want, got);
    report->first = -1;
    report->error = report->bound = 0;
    report->text[0] = '\0';
    report->elements += shape_count(&want->ref.type.shape);

    const int64_t wrong = compare_elements(want, got, limits->skip_bound, s.ref, report);
    report->wrong += wrong;
    if (wrong > 0)
        tell(report, want, got, wrong);
    if (!dtype_is_float(dt) || limits->skip_rmse || s.none)
        return wrong == 0;

    const Rounding r = bound_rounding(dt);
    const double eps = 2 * fmax(r.unit, r.store);
    const double limit = 2 * s.rounded + 8 * eps * s.ref + (2 + 6 / sqrt(s.nspan)) * s.span +
                         r.tiny + fmax(.5, 12 / sqrt(s.n)) * s.sample;
    report->worst_rmse = fmax(report->worst_rmse, s.got / limit);
    if (s.got <= limit)
        return wrong == 0;
    report->wrong_rmse++;
    if (wrong == 0)
        snprintf(report->text, sizeof report->text,
                 "RMSE %.3g of %.0f independent errors, at most %.3g (rounded %.3g, RMS %.3g)",
                 s.got, s.n, limit, s.rounded, s.ref);
    return false;
}
