#include "core.h"
#include "sample.h"

#include <math.h>

bool
kobs_sample_grow(kobs_sample *sample)
{
    size_t room = sample->room == 0 ? 1024 : 2 * sample->room;
    double *grown = PyMem_RawRealloc(sample->values, room * sizeof(double));

    if (grown == NULL) {
        return false;
    }
    sample->values = grown;
    sample->room = room;
    return true;
}

/* As Python's `sum` adds floats: since 3.12 with Neumaier's compensation. */
static double
sum_of(const double *values, size_t count)
{
    double total = 0.0;

#if PY_VERSION_HEX >= 0x030C0000
    double lost = 0.0;
    for (size_t index = 0; index < count; index++) {
        double value = values[index], next = total + value;
        if (fabs(total) >= fabs(value)) {
            lost += (total - next) + value;
        }
        else {
            lost += (value - next) + total;
        }
        total = next;
    }
    if (lost != 0.0 && isfinite(lost)) {
        total += lost;
    }
#else
    for (size_t index = 0; index < count; index++) {
        total += values[index];
    }
#endif
    return total;
}

void
kobs_sample_finish(kobs_sample *sample)
{
    sample->total = sum_of(sample->values, sample->count);
    if (!isfinite(sample->total)) {
        size_t kept = 0;
        for (size_t index = 0; index < sample->count; index++) {
            if (isfinite(sample->values[index])) {
                sample->values[kept++] = sample->values[index];
            }
        }
        sample->rejected = sample->count - kept;
        sample->count = kept;
        sample->total = sum_of(sample->values, kept);
    }
}

/* Bits that are ordered as the floats are. */
static inline uint64_t
ordered(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits >> 63 ? ~bits : bits | 1ull << 63;
}

static int
by_value(const void *one, const void *other)
{
    double first = *(const double *)one, second = *(const double *)other;

    return (first > second) - (first < second);
}

static void
sort(double *values, size_t count)
{
    if (count > 24) {
        qsort(values, count, sizeof(double), by_value);
        return;
    }
    for (size_t index = 1; index < count; index++) {
        double value = values[index];
        size_t at = index;
        for (; at > 0 && values[at - 1] > value; at--) {
            values[at] = values[at - 1];
        }
        values[at] = value;
    }
}

/* Put the values into buckets by their leading bits, which are as their logarithms are. */
static bool
distribute(kobs_sample *sample)
{
    size_t count = sample->count, bits = 4;
    const double *values = sample->values;
    uint64_t least = UINT64_MAX, most = 0;

    while (bits < 14 && (size_t)1 << bits < count / 2) {
        bits++;
    }
    for (size_t index = 0; index < count; index++) {
        uint64_t key = ordered(values[index]);
        least = key < least ? key : least;
        most = key > most ? key : most;
    }
    int width = most == least ? 0 : 64 - __builtin_clzll(most - least);
    int shift = width > (int)bits ? width - (int)bits : 0;
    size_t buckets = (size_t)1 << bits;
    uint32_t *starts = PyMem_RawCalloc(buckets + 1, sizeof(uint32_t));
    uint8_t *sorted = PyMem_RawCalloc(buckets, 1);
    double *placed = PyMem_RawMalloc(count * sizeof(double));
    if (starts == NULL || sorted == NULL || placed == NULL) {
        PyMem_RawFree(starts);
        PyMem_RawFree(sorted);
        PyMem_RawFree(placed);
        return false;
    }
    for (size_t index = 0; index < count; index++) {
        starts[((ordered(values[index]) - least) >> shift)]++;
    }
    uint32_t before = 0;
    for (size_t bucket = 0; bucket <= buckets; bucket++) {
        uint32_t here = starts[bucket];
        starts[bucket] = before;
        before += here;
    }
    for (size_t index = 0; index < count; index++) {
        placed[starts[(ordered(values[index]) - least) >> shift]++] = values[index];
    }
    /* Each start has moved to where the next bucket begins. */
    memmove(starts + 1, starts, buckets * sizeof(uint32_t));
    starts[0] = 0;
    PyMem_RawFree(sample->values);
    sample->values = placed;
    sample->room = count;
    sample->starts = starts;
    sample->sorted = sorted;
    sample->buckets = buckets;
    return true;
}

/* The value at a rank. */
static double
at_rank(kobs_sample *sample, size_t rank)
{
    size_t low = 0, high = sample->buckets;

    while (high - low > 1) { /* the last bucket that begins at or before the rank */
        size_t middle = (low + high) / 2;
        if (sample->starts[middle] <= rank) {
            low = middle;
        }
        else {
            high = middle;
        }
    }
    if (!sample->sorted[low]) {
        sort(sample->values + sample->starts[low], sample->starts[low + 1] - sample->starts[low]);
        sample->sorted[low] = 1;
    }
    return sample->values[rank];
}

bool
kobs_sample_percentile(kobs_sample *sample, double q, double *to)
{
    if (sample->count == 0) {
        *to = Py_NAN;
        return true;
    }
    if (sample->starts == NULL && !distribute(sample)) {
        return false;
    }
    double rank = (double)(sample->count - 1) * q / 100.0;
    size_t below = (size_t)rank;
    double low = at_rank(sample, below), part = rank - (double)below;
    *to = part != 0.0 ? low + (at_rank(sample, below + 1) - low) * part : low;
    return true;
}

void
kobs_sample_free(kobs_sample *sample)
{
    PyMem_RawFree(sample->values);
    PyMem_RawFree(sample->starts);
    PyMem_RawFree(sample->sorted);
    *sample = (kobs_sample){0};
}
