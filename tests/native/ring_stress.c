/* The ring protocol without Python, with threads that truly run in parallel: producers that lap the
 * ring while others stall anywhere between ticket and publish, readers that must never see a torn event and
 * must account for every ticket, and begins and ends in the in-flight table.
 *
 *     ring_stress [seconds a scenario] [seed]
 *
 * `make native` builds and runs it, `make sanitize` does so under ThreadSanitizer, and under
 * AddressSanitizer with UndefinedBehaviorSanitizer. Exit code 0: nothing wrong. */

#define _GNU_SOURCE

static void stall_now_and_then(void);
#define KOBS_MAY_STALL() stall_now_and_then()

#include "cursor.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

enum { PRODUCERS = 4, READERS = 2, PRIORITY_EVERY = 16, KEPT_SCOPES = 12, MOST_SLOTS = 4096 };

typedef struct {
    const char *name;
    uint64_t slots, first_ticket;
    unsigned stall_one_in; /* events; 0: none */
    bool discards, lossless, restless; /* restless: lossless readers go, and come again */
} scenario;

static const scenario scenarios[] = {
    {"lapping a tiny ring", 16, 0, 0, false, false, false},
    {"lapping a tiny ring while some stall", 16, 0, 50, false, false, false},
    {"a larger ring, some stall", 4096, 5, 500, false, false, false},
    {"through the wrap of an id's 42 bits", 64, (1ull << 42) - 1000, 100, false, false, false},
    {"near 2^62", 64, (1ull << 62) - 1000, 100, false, false, false},
    {"10^9 tickets on", 1024, 1000000000 - 5000, 300, false, false, false},
    {"discarding, with lossless readers", 64, 0, 0, true, true, false},
    {"discarding, with lossless readers, some stall", 256, 3, 200, true, true, false},
    {"discarding, with lossless readers that come and go", 64, 0, 0, true, true, true},
    {"discarding, without lossless readers", 64, 0, 100, true, false, false},
};

static kobs_ring ring;
static const scenario *now_running;
static atomic_bool stop, producers_done;
static _Atomic uint64_t faults;
static _Thread_local uint64_t random_state;
static _Thread_local bool may_stall;

static void
fault(const char *what, uint64_t one, uint64_t other)
{
    if (atomic_fetch_add(&faults, 1) < 20) {
        fprintf(stderr, "%s: %s: %" PRIu64 ", %" PRIu64 "\n", now_running->name, what, one, other);
    }
}

static uint64_t
random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void
stall_now_and_then(void)
{
    /* There are some 25 places a publish. */
    unsigned one_in = may_stall ? 25 * now_running->stall_one_in : 0;

    if (one_in == 0 || random_number() % one_in != 0) {
        return;
    }
    uint64_t kind = random_number() % 40;
    if (kind == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 15000000}, NULL); /* readers give up */
    }
    else if (kind < 6) {
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    else {
        sched_yield();
    }
}

/* -- producers ------------------------------------------------------------------------------- */

typedef struct {
    pthread_t thread;
    unsigned number;
    uint64_t seed;
    uint64_t kept, refused;
} producer;

/* A value with checksums of itself all over the slot. */
static void
fill(kobs_body *body, uint64_t value)
{
    memset(body, 0, sizeof(*body));
    body->timestamp_ns = kobs_now();
    body->causality_id = value;
    body->parent = ~value;
    body->pid = (uint32_t)value;
    body->origin = (uint32_t)(value >> 32);
    for (int word = 0; word < KOBS_PAYLOAD_SIZE / 8; word++) {
        body->words[KOBS_BODY_HEADER / 8 + word] = value * 31 + (uint64_t)word;
    }
}

static void
check(const kobs_copied *copied, unsigned lane)
{
    uint64_t value = copied->words[2];
    bool whole = copied->words[0] == kobs_finished((uint64_t)copied->ticket)
                 && copied->words[3] == ~value && copied->header.pid == (uint32_t)value
                 && copied->header.origin == (uint32_t)(value >> 32);

    for (uint64_t word = 0; word < KOBS_PAYLOAD_SIZE / 8; word++) {
        whole &= copied->words[8 + word] == value * 31 + word;
    }
    whole &= lane == (value % PRIORITY_EVERY == 0);
    if (!whole) {
        fault("a torn event", value, (uint64_t)copied->ticket);
    }
}

static void *
produce(void *argument)
{
    producer *self = argument;
    int64_t scopes[KEPT_SCOPES];
    uint64_t value = 0;

    random_state = self->seed;
    may_stall = self->number % 2 == 1; /* the others lap them */
    memset(scopes, -1, sizeof(scopes));
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        uint64_t mark = (uint64_t)(self->number + 1) << 40 | ++value;
        kobs_body body;
        fill(&body, mark);
        uint64_t event = kobs_publish(&ring, mark % PRIORITY_EVERY == 0, &body,
                                      KOBS_BODY_SIZE);
        if (event != 0) {
            self->kept++;
        }
        else {
            self->refused++;
        }
        int which = (int)(random_number() % KEPT_SCOPES);
        if (scopes[which] >= 0) {
            kobs_close_entry(&ring, scopes[which]);
        }
        kobs_in_flight entry = {
            .timestamp_ns = mark, .causality_id = ~mark, .span_id = mark * 3,
            .parent = mark * 5, .tid = self->number, .name = (uint32_t)mark,
            .origin = (uint32_t)~mark, .type_id = 7, .pid = (uint32_t)(mark >> 32),
        };
        scopes[which] = kobs_open_entry(&ring, &entry);
        if (scopes[which] < 0) {
            fault("the in-flight table is full", mark, 0);
        }
        else if (mark % 3 != 0) { /* the others' event was lost */
            kobs_name_entry(&ring, scopes[which], mark);
        }
    }
    for (int which = 0; which < KEPT_SCOPES; which++) {
        kobs_close_entry(&ring, scopes[which]);
    }
    return NULL;
}

/* -- readers --------------------------------------------------------------------------------- */

typedef struct {
    pthread_t thread;
    unsigned number;
    uint64_t seed, delivered, skipped;
    kobs_cursor cursors[KOBS_LANES];
    uint64_t last_of[PRODUCERS + 1][KOBS_LANES];
    uint64_t stamps[MOST_SLOTS];
} reader;

static kobs_reader_entry *
entry_of(const reader *self)
{
    return (kobs_reader_entry *)&ring.readers[self->number];
}

static void
note(reader *self)
{
    for (unsigned lane = 0; lane < KOBS_LANES; lane++) {
        __atomic_store_n(&entry_of(self)->cursors[lane], (uint64_t)self->cursors[lane].at,
                         __ATOMIC_RELEASE);
    }
}

static void
consume(reader *self, unsigned lane)
{
    kobs_cursor *cursor = &self->cursors[lane];
    int64_t previous = -1;

    for (; cursor->count > 0; cursor->begin++, cursor->count--) {
        const kobs_copied *copied = &cursor->copied[cursor->begin];
        uint64_t value = copied->words[2], source = value >> 40;
        check(copied, lane);
        if (copied->ticket <= previous) {
            fault("tickets out of order", (uint64_t)copied->ticket, (uint64_t)previous);
        }
        previous = copied->ticket;
        if (source == 0 || source > PRODUCERS || value <= self->last_of[source][lane]) {
            fault("a producer's events out of order", value,
                  source <= PRODUCERS ? self->last_of[source][lane] : source);
            continue;
        }
        self->last_of[source][lane] = value;
        self->delivered++;
    }
}

/* Nobody writes to a slot that a newer ticket has had. */
static void
look_at_stamps(reader *self)
{
    uint64_t from = random_number();

    for (uint64_t each = from; each < from + 64; each++) {
        uint64_t index = each & ring.lanes[0].mask;
        uint64_t stamp = atomic_load_explicit(&ring.first[0].slots[index].words[0],
                                              memory_order_acquire);
        if (stamp >> 1 < self->stamps[index] >> 1
            || (stamp >> 1 == self->stamps[index] >> 1 && stamp > self->stamps[index])) {
            fault("a slot went back to an older event", self->stamps[index], stamp);
        }
        self->stamps[index] = stamp;
    }
}

/* Go, and come again at the end. */
static void
come_again(reader *self)
{
    __atomic_store_n(&entry_of(self)->pid, 0, __ATOMIC_RELEASE);
    kobs_forget_limit(&ring, 0);
    kobs_forget_limit(&ring, 1);
    sched_yield();
    for (unsigned lane = 0; lane < KOBS_LANES; lane++) {
        __atomic_store_n(&entry_of(self)->cursors[lane], kobs_head(&ring, lane), __ATOMIC_RELEASE);
    }
    __atomic_store_n(&entry_of(self)->pid, 1, __ATOMIC_RELEASE);
    for (unsigned lane = 0; lane < KOBS_LANES; lane++) {
        kobs_cursor *cursor = &self->cursors[lane];
        int64_t from = cursor->at;
        kobs_forget_limit(&ring, lane);
        kobs_cursor_move(cursor, (int64_t)kobs_head(&ring, lane));
        self->skipped += (uint64_t)(cursor->at - from);
    }
    note(self);
    kobs_forget_limit(&ring, 0);
    kobs_forget_limit(&ring, 1);
}

/* No entry is a mixture of two, except while it is freed and taken again. */
static void
look_at_in_flight(void)
{
    for (int index = 0; index < KOBS_IN_FLIGHT_ENTRIES; index++) {
        const uint64_t *from = (const uint64_t *)&ring.in_flight[index];
        union {
            uint64_t words[sizeof(kobs_in_flight) / 8];
            kobs_in_flight entry;
        } copy;
        copy.words[0] = __atomic_load_n(&from[0], __ATOMIC_ACQUIRE);
        for (size_t word = 1; word < sizeof(copy.words) / 8; word++) {
            copy.words[word] = __atomic_load_n(&from[word], __ATOMIC_RELAXED);
        }
        atomic_thread_fence(memory_order_acquire);
        const kobs_in_flight *entry = &copy.entry;
        uint64_t event = entry->event, mark = entry->timestamp_ns;
        if (event == 0 || __atomic_load_n(&from[0], __ATOMIC_RELAXED) != event) {
            continue;
        }
        if ((event != mark && event >> 42 != ring.no_lane_prefix >> 42)
            || entry->causality_id != ~mark
            || entry->span_id != mark * 3 || entry->parent != mark * 5
            || entry->name != (uint32_t)mark || entry->origin != (uint32_t)~mark
            || entry->type_id != 7 || entry->pid != (uint32_t)(mark >> 32)) {
            fault("a corrupt entry in the in-flight table", mark, entry->timestamp_ns);
        }
    }
}

static void *
read_on(void *argument)
{
    reader *self = argument;
    uint64_t settled_since = 0;

    random_state = self->seed;
    while (true) {
        bool last = atomic_load(&producers_done);
        uint64_t before = self->delivered + self->cursors[0].lost + self->cursors[1].lost;
        size_t limit = 1 + random_number() % 300;
        for (unsigned lane = 0; lane < KOBS_LANES; lane++) {
            kobs_cursor *cursor = &self->cursors[lane];
            int64_t behind = kobs_cursor_head(cursor) - cursor->at;
            if (now_running->lossless && behind > cursor->slots) {
                fault("producers overwrote what a lossless reader has not read",
                      (uint64_t)behind, (uint64_t)cursor->slots);
            }
            if (kobs_cursor_fill(&self->cursors[lane], limit) < 0) {
                fault("no memory", 0, 0);
            }
            consume(self, lane);
        }
        if (now_running->lossless) {
            note(self);
        }
        if (now_running->restless && !last && random_number() % 8 == 0) {
            come_again(self);
        }
        look_at_in_flight();
        look_at_stamps(self);
        if (random_number() % 64 == 0) {
            nanosleep(&(struct timespec){.tv_nsec = (long)(random_number() % 2000000)}, NULL);
        }
        if (!last || before != self->delivered + self->cursors[0].lost + self->cursors[1].lost) {
            settled_since = kobs_now();
        }
        else if (kobs_now() - settled_since > 4 * KOBS_STALL_NS) {
            return NULL;
        }
        else {
            sched_yield();
        }
    }
}

/* -- scenarios ------------------------------------------------------------------------------- */

static uint8_t *
make_ring(const scenario *with)
{
    const uint64_t in_flight = 2 * KOBS_PAGE,
                   readers = in_flight + KOBS_IN_FLIGHT_ENTRIES * sizeof(kobs_in_flight),
                   lanes = readers + KOBS_PAGE, priority = with->slots < 64 ? 16 : with->slots / 4;
    size_t size = lanes + (with->slots + priority) * KOBS_SLOT_SIZE;
    kobs_header header = {.pid = 77, .overflow = with->discards ? KOBS_OVERFLOW_DISCARD : 0};

    size = (size + KOBS_PAGE - 1) / KOBS_PAGE * KOBS_PAGE;
    uint8_t *memory = aligned_alloc(KOBS_PAGE, size);
    if (memory == NULL) {
        abort();
    }
    memset(memory, 0, size);
    header.counters.offset = KOBS_PAGE;
    header.in_flight.offset = in_flight;
    header.readers.offset = readers;
    header.recording = 1;
    header.lanes[0] = (kobs_lane_info){lanes, with->slots};
    header.lanes[1] = (kobs_lane_info){lanes + with->slots * KOBS_SLOT_SIZE, priority};
    memset(&ring, 0, sizeof(ring));
    kobs_ring_init(&ring, memory, &header, with->first_ticket);
    return memory;
}

static void
prepare_reader(reader *self, unsigned number, uint64_t seed)
{
    memset(self, 0, sizeof(*self));
    self->number = number;
    self->seed = seed;
    for (unsigned lane = 0; lane < KOBS_LANES; lane++) {
        kobs_cursor *cursor = &self->cursors[lane];
        cursor->lane = lane;
        cursor->slots = (int64_t)ring.lanes[lane].mask + 1;
        cursor->first = (int64_t)ring.lanes[lane].first_ticket;
        cursor->head = ring.lanes[lane].head;
        cursor->place = (kobs_located){.slots = ring.first[lane].slots, .ring = true};
        kobs_cursor_move(cursor, cursor->first);
    }
    if (now_running->lossless) {
        note(self);
        __atomic_store_n(&entry_of(self)->pid, 1, __ATOMIC_RELEASE);
    }
}

static uint64_t
value_of(const kobs_count *count)
{
    return atomic_load(&((kobs_count *)count)->value);
}

static void
run(const scenario *with, double seconds, uint64_t seed)
{
    producer producers[PRODUCERS] = {0};
    static reader readers[READERS];
    uint64_t kept = 0, refused = 0, before = atomic_load(&faults);

    now_running = with;
    atomic_store(&stop, false);
    atomic_store(&producers_done, false);
    uint8_t *memory = make_ring(with);
    for (unsigned number = 0; number < READERS; number++) {
        prepare_reader(&readers[number], number, seed + 100 + number);
        pthread_create(&readers[number].thread, NULL, read_on, &readers[number]);
    }
    for (unsigned number = 0; number < PRODUCERS; number++) {
        producers[number].number = number;
        producers[number].seed = seed + number + 1;
        pthread_create(&producers[number].thread, NULL, produce, &producers[number]);
    }
    nanosleep(&(struct timespec){(time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9)}, NULL);
    atomic_store(&stop, true);
    for (unsigned number = 0; number < PRODUCERS; number++) {
        pthread_join(producers[number].thread, NULL);
        kept += producers[number].kept;
        refused += producers[number].refused;
    }
    atomic_store(&producers_done, true);

    uint64_t produced = kobs_head(&ring, 0) + kobs_head(&ring, 1) - 2 * with->first_ticket;
    uint64_t contended = value_of(&ring.counters->contended);
    uint64_t discarded = value_of(&ring.counters->discarded);
    if (produced != kept + contended) {
        fault("produced is not kept + contended", produced, kept + contended);
    }
    if (refused != contended + discarded) {
        fault("refused is not contended + discarded", refused, contended + discarded);
    }
    if (discarded != 0 && !with->discards) {
        fault("discarded", discarded, with->discards);
    }
    printf("%s: %" PRIu64 " produced, %" PRIu64 " contended, %" PRIu64 " discarded", with->name,
           produced, contended, discarded);
    for (unsigned number = 0; number < READERS; number++) {
        reader *each = &readers[number];
        pthread_join(each->thread, NULL);
        uint64_t lost = each->cursors[0].lost + each->cursors[1].lost;
        if (each->delivered + lost + each->skipped != produced) {
            fault("delivered + lost is not produced", each->delivered + lost + each->skipped,
                  produced);
        }
        printf(", reader %u: %" PRIu64 " + %" PRIu64 " lost", number, each->delivered, lost);
        for (unsigned lane = 0; lane < KOBS_LANES; lane++) {
            free(each->cursors[lane].copied);
        }
    }
    for (int group = 0; group < KOBS_IN_FLIGHT_ENTRIES / 64; group++) {
        if (atomic_load(&ring.in_flight_used[group]) != 0) {
            fault("an entry is left in the in-flight table", (uint64_t)group, 0);
        }
    }
    printf("%s\n", atomic_load(&faults) == before ? "" : "  FAILED");
    fflush(stdout);
    free(memory);
}

int
main(int count, char **arguments)
{
    double seconds = count > 1 ? atof(arguments[1]) : 1.0;
    uint64_t seed = count > 2 ? strtoull(arguments[2], NULL, 10) : kobs_now() % 1000000 + 1;

    printf("seed %" PRIu64 "\n", seed);
    for (size_t index = 0; index < sizeof(scenarios) / sizeof(scenarios[0]); index++) {
        run(&scenarios[index], seconds, (seed + 1) * 7919 + 1000 * index);
    }
    uint64_t found = atomic_load(&faults);
    if (found != 0) {
        fprintf(stderr, "%" PRIu64 " faults\n", found);
    }
    return found != 0;
}
