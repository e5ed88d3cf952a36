/* Many numbers: their sum and percentiles. The Python twin is kobs/_analysis/stats.py. */

#ifndef KOBS_SAMPLE_H
#define KOBS_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    double *values;
    size_t count, room;
    size_t rejected;       /* that were not finite, and are left out */
    double total;
    /* Once a percentile was asked for: the values lie in buckets by size, each sorted when it is
     * needed. */
    uint32_t *starts;      /* where each bucket begins, and the end of the last */
    uint8_t *sorted;
    size_t buckets;
} kobs_sample;

/* Make room for one more value; false where there is none. */
bool kobs_sample_grow(kobs_sample *);

static inline bool
kobs_sample_add(kobs_sample *sample, double value)
{
    if (sample->count == sample->room && !kobs_sample_grow(sample)) {
        return false;
    }
    sample->values[sample->count++] = value;
    return true;
}

/* After the last value: leave out what is not finite, and add up. */
void kobs_sample_finish(kobs_sample *);

/* The value below which `q` percent lie, by linear interpolation; nan where there is no value.
 * False where there is no memory for it. */
bool kobs_sample_percentile(kobs_sample *, double q, double *to);

void kobs_sample_free(kobs_sample *);

#endif
