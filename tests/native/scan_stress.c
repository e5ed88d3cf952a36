/* Scans of a ring (scan.c) while threads that truly run in parallel lap it: no slot that a scan keeps
 * and no duration that it takes is torn, and each lane's are in order.
 *
 *     scan_stress [seconds a scenario]
 *
 * `make sanitize` builds and runs it under ThreadSanitizer, and under AddressSanitizer with
 * UndefinedBehaviorSanitizer. scan.c needs little of Python, which stands at the end of this file.
 * Exit code 0: nothing wrong. */

#define _GNU_SOURCE

#include "scan.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PRODUCERS = 3, SCANNERS = 2, PRIORITY_EVERY = 16, TIMED = 7, UNTIMED = 8 };
enum { DURATION = KOBS_SLOT_HEADER_SIZE + 12 }; /* lies across two words */
enum { WANTED = 0x21, OTHER = 0x31, SENSELESS = 0xf1 };

typedef struct {
    const char *name;
    uint64_t slots;
    bool windowed; /* headers are looked at one by one */
} scenario;

static const scenario scenarios[] = {
    {"a tiny ring", 16, false},
    {"a tiny ring, by time", 16, true},
    {"a larger ring", 4096, false},
    {"a larger ring, by time", 4096, true},
};

static const kobs_column duration = {.kind = KIND_FLOAT, .known = true, .offset = DURATION, .size = 8};
static const kobs_type types[] = {
    {.type_id = TIMED, .words = KOBS_SLOT_WORDS, .durations = &duration, .factor = 1.0},
    {.type_id = UNTIMED, .words = KOBS_SLOT_WORDS},
};

static kobs_ring ring;
static const scenario *now_running;
static atomic_bool stop;
static _Atomic uint64_t faults, scans, kept;

static void
fault(const char *what, uint64_t one, uint64_t other)
{
    if (atomic_fetch_add(&faults, 1) < 20) {
        fprintf(stderr, "%s: %s: %" PRIu64 ", %" PRIu64 "\n", now_running->name, what, one, other);
    }
}

/* -- producers ------------------------------------------------------------------------------- */

static uint16_t
type_of(uint64_t value)
{
    return value % 64 < 8 ? UNTIMED : TIMED; /* now and then several of one type in a row */
}

static uint8_t
level_of(uint64_t value)
{
    return value % 11 == 0 ? OTHER : value % 13 == 0 ? SENSELESS : WANTED;
}

/* A value with checksums of itself all over the slot, and as the duration. */
static void
publish(uint64_t value)
{
    kobs_body body = {
        .timestamp_ns = kobs_now(), .causality_id = value, .parent = ~value,
        .pid = (uint32_t)value, .origin = (uint32_t)(value >> 32), .type_id = type_of(value),
        .severity_category = level_of(value),
    };
    double took = (double)value;

    for (int word = 0; word < KOBS_PAYLOAD_SIZE / 8; word++) {
        body.words[KOBS_BODY_HEADER / 8 + word] = value * 31 + (uint64_t)word;
    }
    memcpy((uint8_t *)body.words + DURATION - 8, &took, sizeof(took));
    kobs_publish(&ring, value % PRIORITY_EVERY == 0, &body, KOBS_BODY_SIZE);
}

static void *
produce(void *number)
{
    uint64_t value = (uint64_t)(uintptr_t)number << 40;

    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        publish(++value);
    }
    return NULL;
}

/* -- scanners -------------------------------------------------------------------------------- */

/* The value of a slot that was kept. */
static uint64_t
check(const uint64_t *words, unsigned lane, uint64_t ticket)
{
    const kobs_slot_header *header = (const kobs_slot_header *)words;
    uint64_t value = words[2];
    double took = (double)value;
    bool whole = words[0] == kobs_finished(ticket) && words[3] == ~value
                 && header->pid == (uint32_t)value && header->origin == (uint32_t)(value >> 32)
                 && header->type_id == type_of(value) && level_of(value) == WANTED
                 && (words[7] >> 16 & 255) == WANTED && lane == (value % PRIORITY_EVERY == 0)
                 && memcmp((const uint8_t *)words + DURATION, &took, sizeof(took)) == 0;

    for (uint64_t word = 3; word < KOBS_PAYLOAD_SIZE / 8; word++) {
        whole &= words[8 + word] == value * 31 + word;
    }
    if (!whole) {
        fault("a torn event", value, ticket);
    }
    return value;
}

/* Scan once; how many events were looked at. */
static uint64_t
scan_once(void)
{
    static types_object no_types; /* each is asked for */
    static const uint64_t start[KOBS_LANES] = {0};
    condition_object condition = {
        .types = &no_types, .until = UINT64_MAX, .windowed = now_running->windowed,
        .pids = {.count = -1}, .tids = {.count = -1}, .chains = {.count = -1},
    };
    kobs_scan scan = {.keep = SIZE_MAX, .durations = true};
    uint64_t next[KOBS_LANES] = {0}, timed = 0;

    memset(condition.levels, KOBS_OTHER, sizeof(condition.levels));
    condition.levels[WANTED] = KOBS_WANTED;
    condition.levels[SENSELESS] = KOBS_SENSELESS;
    if (kobs_scan_ring(&condition, &scan, &ring, start) < 0 || scan.given_up) {
        fault("the scan was given up", 0, 0);
    }
    const uint64_t *at = scan.kept;
    for (size_t each = 0; each < scan.kept_count; each++) {
        unsigned count = (unsigned)at[0], lane = at[0] >> 32 & 3;
        uint64_t ticket = at[1], value = check(at + 2, lane, ticket);
        if (ticket < next[lane]) {
            fault("tickets out of order", ticket, next[lane]);
        }
        next[lane] = ticket + 1;
        if (type_of(value) == TIMED) {
            if (timed >= scan.sample.values.count
                || scan.sample.values.at[timed] != (double)value) {
                fault("a torn duration", value, timed);
            }
            timed++;
        }
        at += 2 + count;
    }
    if (timed != scan.sample.values.count || scan.kept_count != kobs_scan_matching(&scan)) {
        fault("what was kept is not what was counted", scan.kept_count, timed);
    }
    atomic_fetch_add(&scans, 1);
    atomic_fetch_add(&kept, scan.kept_count);
    uint64_t seen = scan.seen + scan.undecoded;
    kobs_scan_free(&scan);
    return seen;
}

static void *
scan_on(void *unused)
{
    (void)unused;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        scan_once();
    }
    return NULL;
}

/* -- scenarios ------------------------------------------------------------------------------- */

static uint8_t *
make_ring(uint64_t slots)
{
    const uint64_t in_flight = 2 * KOBS_PAGE,
                   readers = in_flight + KOBS_IN_FLIGHT_ENTRIES * sizeof(kobs_in_flight),
                   lanes = readers + KOBS_PAGE, priority = slots < 64 ? 16 : slots / 4;
    size_t size = lanes + (slots + priority) * KOBS_SLOT_SIZE;
    kobs_header header = {.pid = 77, .recording = 1};

    size = (size + KOBS_PAGE - 1) / KOBS_PAGE * KOBS_PAGE;
    uint8_t *memory = aligned_alloc(KOBS_PAGE, size);
    if (memory == NULL) {
        abort();
    }
    memset(memory, 0, size);
    header.counters.offset = KOBS_PAGE;
    header.in_flight.offset = in_flight;
    header.readers.offset = readers;
    header.lanes[0] = (kobs_lane_info){lanes, slots};
    header.lanes[1] = (kobs_lane_info){lanes + slots * KOBS_SLOT_SIZE, priority};
    memset(&ring, 0, sizeof(ring));
    kobs_ring_init(&ring, memory, &header, 0);
    return memory;
}

static void
run(const scenario *with, double seconds)
{
    pthread_t threads[PRODUCERS + SCANNERS];
    uint64_t before = atomic_load(&faults);

    now_running = with;
    atomic_store(&stop, false);
    atomic_store(&scans, 0);
    atomic_store(&kept, 0);
    uint8_t *memory = make_ring(with->slots);
    for (uintptr_t number = 0; number < PRODUCERS + SCANNERS; number++) {
        pthread_create(&threads[number], NULL, number < PRODUCERS ? produce : scan_on,
                       (void *)(number + 1));
    }
    nanosleep(&(struct timespec){(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)}, NULL);
    atomic_store(&stop, true);
    for (int number = 0; number < PRODUCERS + SCANNERS; number++) {
        pthread_join(threads[number], NULL);
    }
    printf("%s: %" PRIu64 " produced, %" PRIu64 " scans kept %" PRIu64, with->name,
           kobs_head(&ring, 0) + kobs_head(&ring, 1), atomic_load(&scans), atomic_load(&kept));
    /* Once every slot is finished, a scan leaves none out. */
    uint64_t slots = ring.lanes[0].mask + ring.lanes[1].mask + 2;
    for (uint64_t value = 1; value <= PRIORITY_EVERY * slots; value++) {
        publish(value);
    }
    uint64_t seen = scan_once();
    if (seen != slots) {
        fault("slots are left out", seen, slots);
    }
    printf("%s\n", atomic_load(&faults) == before ? "" : "  FAILED");
    fflush(stdout);
    free(memory);
}

int
main(int count, char **arguments)
{
    double seconds = count > 1 ? atof(arguments[1]) : 1.0;

    for (size_t index = 0; index < sizeof(scenarios) / sizeof(scenarios[0]); index++) {
        run(&scenarios[index], seconds);
    }
    return atomic_load(&faults) != 0;
}

/* -- what the rest of the core, and Python, do for a scan ------------------------------------ */

const kobs_type *
kobs_type_unknown(types_object *self, uint16_t type_id)
{
    (void)self;
    return type_id == TIMED || type_id == UNTIMED ? &types[type_id - TIMED] : NULL;
}

int
kobs_type_matches(condition_object *self, const kobs_type *type)
{
    (void)self, (void)type;
    return 1;
}

int
kobs_name_matches(condition_object *self, kobs_scan *scan, const kobs_type *type,
                  const uint8_t *slot)
{
    (void)self, (void)scan, (void)type, (void)slot;
    return 1;
}

bool
kobs_tally_grow(kobs_tally *tally)
{
    (void)tally;
    return false;
}

void
kobs_tally_free(kobs_tally *tally)
{
    (void)tally;
}

void *
PyMem_RawMalloc(size_t size)
{
    return malloc(size);
}

void *
PyMem_RawRealloc(void *memory, size_t size)
{
    return realloc(memory, size);
}

void
PyMem_RawFree(void *memory)
{
    free(memory);
}

PyObject *
PyErr_NoMemory(void)
{
    abort();
}

PyObject *
PyErr_Occurred(void)
{
    return NULL;
}
