/* Which slots match a condition, and what they amount to. The Python twins are kobs/filters.py and
 * kobs/query.py with kobs/_analysis. */

#ifndef KOBS_SCAN_H
#define KOBS_SCAN_H

#include "types.h"

#include "sample.h"

enum { KOBS_SENSELESS, KOBS_OTHER, KOBS_WANTED };

/* Numbers of which one is to match; all do where there are none. */
typedef struct {
    uint64_t *numbers;
    Py_ssize_t count; /* -1: any number */
} kobs_numbers;

typedef struct {
    PyObject_HEAD
    types_object *types;
    uint8_t levels[256]; /* what `severity | category << 4` says: KOBS_SENSELESS and so on */
    uint64_t since, until;
    bool windowed, numbered, deeper; /* there is a time; there are numbers; there is more */
    kobs_numbers pids, tids, chains;
    PyObject *type_names, *names; /* frozensets, or NULL */
    bool timed;                   /* `slower` counts */
    double slower;                /* microseconds at least */
    uint8_t *by_type;             /* by index of the type: 0 not known, 1 yes, 2 no */
    size_t type_room;
    uint8_t *by_name;             /* the same by id of a string */
    size_t name_room;
} condition_object;

typedef struct {
    PyObject_HEAD
    kobs_sample sample;
} sample_object;

/* Counts by a number, in the order in which the numbers came. */
typedef struct {
    uint64_t *keys, *counts;
    uint32_t *index; /* of a key plus one, by hash */
    size_t count, room;
} kobs_tally;

bool kobs_tally_grow(kobs_tally *);
void kobs_tally_free(kobs_tally *);

static inline size_t
kobs_tally_place(const kobs_tally *tally, uint64_t key)
{
    size_t mask = 4 * tally->room - 1, at = (size_t)(key * 0x9E3779B97F4A7C15ull >> 32) & mask;

    while (tally->index[at] != 0 && tally->keys[tally->index[at] - 1] != key) {
        at = (at + 1) & mask;
    }
    return at;
}

static inline bool
kobs_tally_add(kobs_tally *tally, uint64_t key)
{
    if (tally->count == tally->room && !kobs_tally_grow(tally)) {
        return false;
    }
    size_t at = kobs_tally_place(tally, key);
    if (tally->index[at] == 0) {
        tally->keys[tally->count] = key;
        tally->counts[tally->count++] = 1;
        tally->index[at] = (uint32_t)tally->count;
    }
    else {
        tally->counts[tally->index[at] - 1]++;
    }
    return true;
}

/* What is needed of the events of one type. */
typedef struct {
    uint32_t type_id;
    bool wanted;            /* the type is */
    bool plain;             /* it is the level alone that says which events are */
    bool timed, by_python;  /* it has a duration that counts; one that is no float */
    uint16_t offset;        /* of that in the slot */
    double factor;
    const kobs_type *type;  /* NULL: not declared */
} kobs_outlook;

enum { KOBS_OUTLOOKS = 16 };

/* What a scan is to find out, and what it found. */
typedef struct {
    size_t keep; /* matching slots to copy at most */
    bool durations, by_pid, by_type;
    uint64_t seen, undecoded;
    uint64_t levels[256];     /* matching, by severity | category << 4 */
    uint8_t level_order[256]; /* in which they came */
    unsigned level_count;
    kobs_tally pids, types;
    kobs_sample sample;
    uint64_t *kept; /* of each: words | lane << 32 | source << 34, ticket, the words */
    size_t kept_words, kept_room, kept_count;
    kobs_outlook *outlooks; /* of the types that were met last, by type id; KOBS_OUTLOOKS */
    kobs_outlook first[KOBS_OUTLOOKS]; /* those, where there is one source only */
    unsigned source; /* whose turn it is, of several */
    uint64_t last_ns; /* the latest moment of an event, where slots are given */
    bool given_up;  /* there is something that Python is to look at */
} kobs_scan;

/* Whether a type is one of those that are looked for: 1, 0, -1 with an exception set. */
int kobs_type_matches(condition_object *, const kobs_type *);

/* The same of what an event happened to, by a copy of the slot. */
int kobs_name_matches(condition_object *, kobs_scan *, const kobs_type *, const uint8_t *slot);

/* Look at the copy of a slot. -1 with an exception set. */
int kobs_scan_slot(condition_object *, kobs_scan *, const uint64_t *slot, unsigned lane,
                   uint64_t ticket);

/* Look at all there is in a ring from these tickets on, merged by time. */
int kobs_scan_ring(condition_object *, kobs_scan *, kobs_ring *, const uint64_t start[KOBS_LANES]);

/* How many matched. */
uint64_t kobs_scan_matching(const kobs_scan *);

void kobs_scan_free(kobs_scan *);

/* -- from Python: Found (scan_found.c), Condition (scan_type.c), scan() (scan_merge.c) --------- */

typedef struct {
    PyObject_HEAD
    types_object *types; /* of the first source */
    PyObject *sources;   /* where there are several: a list of the `Types` of each */
    PyObject *undecoded; /* and a list of how many slots of each made no sense */
    kobs_scan scan;
    PyObject *durations; /* a Sample, or NULL */
    uint64_t produced, discarded, too_big, errors;
} found_object;

/* What is to be found: from (keep, durations, by_pid, by_type). */
found_object *kobs_found_new(core_state *, types_object *, PyObject *const *wanted);

/* After the scan: `done` of which is -1 with an exception set. None where Python is to do it. */
PyObject *kobs_found_finish(core_state *, found_object *, int done);

int kobs_add_found_type(PyObject *module);

/* A `Sample` of the values, which it takes over. */
PyObject *kobs_make_sample(PyTypeObject *, kobs_sample *);

#endif
