#include "sample.h"

enum {
    FEW = 32,     /* values that are rather sorted than put into buckets */
    AT_ONCE = 8,  /* places that are compared at once */
    NOWHERE = UINT16_MAX,
};

bool
kobs_values_reserve(kobs_values *values, size_t more)
{
    size_t room = values->count + more;

    if (room <= values->room) {
        return true;
    }
    if (values->room > 0 && room < 2 * values->room) {
        room = 2 * values->room;
    }
    double *grown = PyMem_RawRealloc(values->at, room * sizeof(double));
    if (grown == NULL) {
        return false;
    }
    values->at = grown;
    values->room = room;
    return true;
}

void
kobs_sample_finish(kobs_sample *sample)
{
    kobs_values *values = &sample->values;

    if (!isfinite(values->sum)) {
        kobs_values kept = {.at = values->at, .room = values->room};
        for (size_t index = 0; index < values->count; index++) {
            if (isfinite(values->at[index])) {
                kobs_values_put(&kept, values->at[index]);
            }
        }
        sample->rejected = values->count - kept.count;
        *values = kept;
    }
    sample->total = values->lost != 0.0 && isfinite(values->lost) ? values->sum + values->lost
                                                                  : values->sum;
}

/* -- percentiles ----------------------------------------------------------------------------- */

/* Bits that are ordered as the floats are. */
static inline uint64_t
ordered(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits ^ ((uint64_t)((int64_t)bits >> 63) | 1ull << 63);
}

static void
find_extremes(kobs_sample *sample)
{
    const double *values = sample->values.at;
    double least = values[0], most = values[0];

    for (size_t index = 1; index < sample->values.count; index++) {
        least = least < values[index] ? least : values[index];
        most = most > values[index] ? most : values[index];
    }
    /* Of the zeros, which are equal, there may be the lesser and the greater one. */
    sample->least = least == 0.0 ? -0.0 : least;
    sample->most = most == 0.0 ? 0.0 : most;
}

/* Put the values into buckets by their leading bits, which are as their logarithms are. */
static bool
distribute(kobs_sample *sample)
{
    size_t count = sample->values.count, padded = (count + AT_ONCE - 1) / AT_ONCE * AT_ONCE;
    int bits = 5;

    while (bits < 14 && (size_t)1 << bits < count / 2) {
        bits++;
    }
    uint64_t least = ordered(sample->least);
    int width = 64 - __builtin_clzll((ordered(sample->most) - least) | 1);
    int shift = width > bits ? width - bits : 0;
    size_t buckets = (size_t)1 << bits, starts_size = (buckets + 1) * sizeof(uint32_t);
    uint8_t *memory = PyMem_RawMalloc(starts_size + padded * sizeof(uint16_t));
    if (memory == NULL) {
        return false;
    }
    uint32_t *starts = sample->starts = memset(memory, 0, starts_size);
    uint16_t *places = sample->places = (uint16_t *)(memory + starts_size);
    const double *values = sample->values.at;
    sample->buckets = buckets;
    for (size_t index = 0; index < count; index++) {
        size_t bucket = (ordered(values[index]) - least) >> shift;
        places[index] = (uint16_t)bucket;
        starts[bucket + 1]++;
    }
    for (size_t index = count; index < padded; index++) {
        places[index] = NOWHERE;
    }
    for (size_t bucket = 0; bucket < buckets; bucket++) {
        starts[bucket + 1] += starts[bucket];
    }
    return true;
}

/* The bucket of a rank. */
static size_t
bucket_of(const kobs_sample *sample, size_t rank)
{
    size_t low = 0, high = sample->buckets;

    while (high - low > 1) { /* the last one that begins at or before the rank */
        size_t middle = (low + high) / 2;
        if (sample->starts[middle] <= rank) {
            low = middle;
        }
        else {
            high = middle;
        }
    }
    return low;
}

/* The values of a bucket. */
static void
gather(const kobs_sample *sample, size_t bucket, kobs_values *to)
{
    typedef uint16_t places __attribute__((vector_size(2 * AT_ONCE), aligned(2)));
    const uint16_t here = (uint16_t)bucket;
    const places wanted = {here, here, here, here, here, here, here, here};
    size_t left = sample->starts[bucket + 1] - sample->starts[bucket];

    for (size_t index = 0; left > 0; index += AT_ONCE) {
        union {
            places each;
            uint64_t words[2];
        } found = {(places)(*(const places *)(sample->places + index) == wanted)};
        if ((found.words[0] | found.words[1]) == 0) {
            continue;
        }
        for (size_t each = index; each < index + AT_ONCE; each++) {
            if (sample->places[each] == here) {
                kobs_values_put(to, sample->values.at[each]);
                left--;
            }
        }
    }
}

static void
sort(double *values, size_t count)
{
    for (size_t index = 1; index < count; index++) {
        double value = values[index];
        size_t at = index;
        for (; at > 0 && values[at - 1] > value; at--) {
            values[at] = values[at - 1];
        }
        values[at] = value;
    }
}

static bool find(kobs_sample *, size_t rank, double *low, double *high);

/* The values at a rank within a bucket and at the next one; the least value where there is no next
 * one in there. */
static bool
find_in(const kobs_sample *sample, size_t bucket, size_t rank, double *low, double *high)
{
    double few[FEW];
    size_t count = sample->starts[bucket + 1] - sample->starts[bucket];
    kobs_sample part = {.values = {.at = few, .room = FEW}};

    if (count > FEW) {
        part.values.at = PyMem_RawMalloc(count * sizeof(double));
        part.values.room = count;
        if (part.values.at == NULL) {
            return false;
        }
    }
    gather(sample, bucket, &part.values);
    bool done = find(&part, rank, low, high);
    if (count <= FEW) {
        part.values.at = NULL;
    }
    kobs_sample_free(&part);
    return done;
}

/* The values at a rank and at the next one; where there is no next one, the same. */
static bool
find(kobs_sample *sample, size_t rank, double *low, double *high)
{
    kobs_values *values = &sample->values;

    if (values->count <= FEW) {
        sort(values->at, values->count);
        *low = values->at[rank];
        *high = values->at[rank + 1 < values->count ? rank + 1 : rank];
        return true;
    }
    if (sample->starts == NULL) {
        find_extremes(sample);
        if (sample->least == sample->most) {
            *low = *high = values->at[0];
            return true;
        }
        if (!distribute(sample)) {
            return false;
        }
    }
    size_t bucket = bucket_of(sample, rank);
    if (!find_in(sample, bucket, rank - sample->starts[bucket], low, high)) {
        return false;
    }
    if (rank + 1 < values->count && rank + 1 == sample->starts[bucket + 1]) {
        double next;
        bucket = bucket_of(sample, rank + 1);
        return find_in(sample, bucket, 0, high, &next);
    }
    return true;
}

bool
kobs_sample_percentile(kobs_sample *sample, double q, double *to)
{
    if (sample->values.count == 0) {
        *to = Py_NAN;
        return true;
    }
    double rank = (double)(sample->values.count - 1) * q / 100.0, low, high;
    size_t below = (size_t)rank;
    if (!find(sample, below, &low, &high)) {
        return false;
    }
    double part = rank - (double)below;
    *to = part != 0.0 ? low + (high - low) * part : low;
    return true;
}

void
kobs_sample_free(kobs_sample *sample)
{
    PyMem_RawFree(sample->values.at);
    PyMem_RawFree(sample->starts); /* and the places behind them */
    *sample = (kobs_sample){0};
}
