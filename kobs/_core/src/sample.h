/* Many numbers: their sum and percentiles. The Python twin is kobs/_analysis/stats.py. */

#ifndef KOBS_SAMPLE_H
#define KOBS_SAMPLE_H

#include "core.h"

#include <math.h>

/* Numbers as they come. Small, so that a loop can keep a copy in registers. */
typedef struct {
    double *at;
    size_t count, room;
    double sum, lost; /* as Python's `sum` adds: since 3.12 with Neumaier's compensation */
} kobs_values;

typedef struct {
    kobs_values values;
    size_t rejected; /* that were not finite, and are left out */
    double total;
    /* Once a percentile was asked for: the extremes, and which of so many buckets by size each
     * value is in. */
    double least, most;
    uint16_t *places;
    uint32_t *starts; /* how many values are in lower ones; one more than there are buckets */
    size_t buckets;
} kobs_sample;

/* Make room for so many values more; false where there is none. */
bool kobs_values_reserve(kobs_values *, size_t more);

/* Take in a value that there is room for. */
static inline void
kobs_values_put(kobs_values *values, double value)
{
    double next = values->sum + value;

#if PY_VERSION_HEX >= 0x030C0000
    if (fabs(values->sum) >= fabs(value)) {
        values->lost += (values->sum - next) + value;
    }
    else {
        values->lost += (value - next) + values->sum;
    }
#endif
    values->sum = next;
    values->at[values->count++] = value;
}

/* After the last value: leave out what is not finite, and add up. */
void kobs_sample_finish(kobs_sample *);

/* The value below which `q` percent lie, by linear interpolation; nan where there is no value.
 * False where there is no memory for it. */
bool kobs_sample_percentile(kobs_sample *, double q, double *to);

void kobs_sample_free(kobs_sample *);

#endif
