/* What is usual for a metric, and what is not: the z-score detector. The Python twin is
 * kobs/anomaly.py with the `ZScore` of kobs/_analysis/baselines.py, and both do the same
 * floating-point operations in the same order: what one says, the other says to the last bit. */

#ifndef KOBS_DETECTOR_H
#define KOBS_DETECTOR_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

/* Mean and sum of squared distances of all values (Welford). */
typedef struct {
    double count, mean, squares;
} kobs_baseline;

typedef struct {
    kobs_baseline baseline, successor;
    bool quick;          /* nothing but learning is to be done about normal values */
    bool succeeded;      /* `successor` learns from anomalies in a row */
    bool told;           /* at `told_ns`, last */
    int64_t told_ns;
    uint64_t kept_back;  /* anomalies since then */
} kobs_metric;

typedef struct {
    double threshold, threshold_squared, min_samples, reach;
    int64_t interval_ns;
    uint64_t rejected, suppressed;
} kobs_detector;

typedef struct {
    double expected, deviation;
    uint64_t count;
} kobs_anomaly;

/* Learn a value that is plainly normal; false, and nothing learned, where it may be an anomaly. */
static inline bool
kobs_accept(kobs_baseline *baseline, double value, double threshold_squared)
{
    double distance = value - baseline->mean;
    double far = distance * distance * baseline->count;

    if (!(0.0 < far && far <= threshold_squared * baseline->squares) && distance != 0.0) {
        return false;
    }
    baseline->count += 1.0;
    double step = distance / baseline->count;
    baseline->squares += distance * (distance - step);
    baseline->mean += step;
    return true;
}

/* Take in a value that `kobs_accept` did not; true where it is an anomaly that is to be told now.
 * `now_ns` is asked for only where there is one. */
bool kobs_judge(kobs_detector *, kobs_metric *, double value, const int64_t *now_ns,
                kobs_anomaly *);

/* Take in a value; true where it is an anomaly that is to be told now. */
static inline bool
kobs_observe(kobs_detector *detector, kobs_metric *metric, double value, const int64_t *now_ns,
             kobs_anomaly *found)
{
    if (metric->quick && kobs_accept(&metric->baseline, value, detector->threshold_squared)) {
        return false;
    }
    return kobs_judge(detector, metric, value, now_ns, found);
}

#endif
