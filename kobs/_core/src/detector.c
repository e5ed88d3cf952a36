#define _GNU_SOURCE
#include "detector.h"

#include "clock.h"

static const double resolution = 1e-6, smallest_spread = 1e-9, largest_deviation = 1e6;

static void
learn(kobs_baseline *baseline, double value)
{
    double count = baseline->count + 1.0;
    double distance = value - baseline->mean;
    double mean = baseline->mean + distance / count;

    baseline->squares += distance * (value - mean);
    baseline->mean = mean;
    baseline->count = count;
}

static double
spread_of(const kobs_baseline *baseline)
{
    double squares = baseline->squares > 0.0 ? baseline->squares : 0.0;

    return baseline->count != 0.0 ? sqrt(squares / baseline->count) : 0.0;
}

/* How far out, in standard deviations. The comparisons are those of Python's `min` and `max`, which
 * matters where one side is nan. */
static double
distance_of(double value, double expected, double spread)
{
    double least = resolution * fabs(expected);

    if (smallest_spread > least) {
        least = smallest_spread;
    }
    double out = fabs(value - expected) / (least > spread ? least : spread);
    return out < largest_deviation ? out : largest_deviation;
}

/* Learn from an anomaly as what may be normal from now on; after `min_samples` in a row it is. */
static void
learn_anew(kobs_detector *detector, kobs_metric *metric, double value)
{
    metric->quick = false;
    if (!metric->succeeded) {
        metric->succeeded = true;
        metric->successor = (kobs_baseline){0.0, 0.0, 0.0};
    }
    learn(&metric->successor, value);
    if (metric->successor.count >= detector->min_samples) {
        metric->baseline = metric->successor;
        metric->succeeded = false;
        metric->quick = true;
    }
}

bool
kobs_judge(kobs_detector *detector, kobs_metric *metric, double value, const int64_t *now_ns,
           kobs_anomaly *found)
{
    kobs_baseline *baseline = &metric->baseline;

    if (!isfinite(value)) {
        detector->rejected++;
        return false;
    }
    if (baseline->count < detector->min_samples) {
        learn(baseline, value);
        metric->quick |= baseline->count == detector->min_samples;
        return false;
    }
    double expected = baseline->mean, spread = spread_of(baseline);
    double deviation = distance_of(value, expected, spread);
    if (deviation <= detector->threshold) {
        metric->succeeded = false;
        metric->quick = true;
        learn(baseline, value);
        return false;
    }
    if (!metric->succeeded) {
        double reach = detector->reach * detector->threshold * spread;
        double low = expected - reach, high = expected + reach;
        double least = low > value ? low : value;
        learn(baseline, high < least ? high : least);
    }
    learn_anew(detector, metric, value);
    int64_t now = now_ns != NULL ? *now_ns : (int64_t)kobs_now();
    metric->kept_back++;
    if (metric->told && now - metric->told_ns < detector->interval_ns) {
        detector->suppressed++;
        return false;
    }
    metric->told = true;
    metric->told_ns = now;
    *found = (kobs_anomaly){expected, deviation, metric->kept_back};
    metric->kept_back = 0;
    return true;
}
