/* The ring beside what was tried in its place and lost: the same events from 1, 2, 4 ... threads that
 * run in parallel, no Python around them.
 *
 *     rivals THREADS EVENTS -> one line a rival: name, nanoseconds an event (of one thread)
 *
 * Every way is run in turn over a ring of the default size, ROUNDS times; the median is told. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "ring.h"

enum { SLOTS = 65536, PAYLOAD = 24, BLOCK = 64, ROUNDS = 9, MOST_THREADS = 64 };

static kobs_ring ring;

/* -- the ways to publish --------------------------------------------------------------------- */

/* As kobs_publish, from the ticket on. */
static inline void
write_slot(kobs_lane *lane, uint64_t ticket, const kobs_body *body, size_t size)
{
    const kobs_place *place = atomic_load_explicit(&lane->place, memory_order_acquire);
    kobs_slot *slot = &place->slots[ticket & lane->mask];
    uint64_t done = kobs_finished(ticket);
    uint64_t seen = atomic_load_explicit(&slot->words[0], memory_order_relaxed);

    if ((seen & 1) || seen >= done
        || !atomic_compare_exchange_strong_explicit(&slot->words[0], &seen, done | 1,
                                                    memory_order_acquire, memory_order_relaxed)) {
        kobs_add(&ring.counters->contended, 1);
        return;
    }
    atomic_thread_fence(memory_order_release);
    for (size_t word = 0; word < (size + 7) / 8; word++) {
        atomic_store_explicit(&slot->words[word + 1], body->words[word], memory_order_relaxed);
    }
    atomic_store_explicit(&slot->words[0], done, memory_order_release);
}

static void
as_it_is(kobs_body *body)
{
    body->timestamp_ns = kobs_now();
    kobs_publish(&ring, 0, body, KOBS_BODY_HEADER + PAYLOAD);
}

static void
kernels_clock(kobs_body *body)
{
    body->timestamp_ns = kobs_monotonic();
    kobs_publish(&ring, 0, body, KOBS_BODY_HEADER + PAYLOAD);
}

static void
nothing_fetched(kobs_body *body)
{
    kobs_lane *lane = &ring.lanes[0];

    body->timestamp_ns = kobs_now();
    uint64_t ticket = atomic_fetch_add_explicit(&lane->head->value, 1, memory_order_relaxed);
    write_slot(lane, ticket, body, KOBS_BODY_HEADER + PAYLOAD);
}

/* A thread takes the tickets of a block at once. Events of other threads are then out of order by
 * up to a block, and what is left of a block when a thread rests holds up every reader. */
static void
blocks_of_a_thread(kobs_body *body)
{
    static _Thread_local uint64_t next, end;
    kobs_lane *lane = &ring.lanes[0];

    if (next == end) {
        next = atomic_fetch_add_explicit(&lane->head->value, BLOCK, memory_order_relaxed);
        end = next + BLOCK;
    }
    body->timestamp_ns = kobs_now();
    uint64_t ticket = next++;
    kobs_fetch(&ring.first[0].slots[(ticket + KOBS_FETCH_AHEAD) & lane->mask]);
    write_slot(lane, ticket, body, KOBS_BODY_HEADER + PAYLOAD);
}

static const struct {
    const char *name;
    void (*publish)(kobs_body *);
} WAYS[] = {
    {"as it is", as_it_is},
    {"nothing fetched ahead", nothing_fetched},
    {"clock_gettime", kernels_clock},
    {"thread-owned blocks", blocks_of_a_thread},
};
enum { WAYS_COUNT = sizeof(WAYS) / sizeof(WAYS[0]) };

/* -- the race -------------------------------------------------------------------------------- */

static pthread_barrier_t start;
static long long events;
static int way;

static void *
produce(void *told)
{
    kobs_body body = {.causality_id = 1, .type_id = 1, .severity_category = 0x12};
    uint64_t *took = told;
    void (*publish)(kobs_body *) = WAYS[way].publish;

    body.tid = kobs_thread_id();
    pthread_barrier_wait(&start);
    uint64_t began = kobs_monotonic();
    for (long long turn = 0; turn < events; turn++) {
        body.words[KOBS_BODY_HEADER / 8] = (uint64_t)turn;
        publish(&body);
    }
    *took = kobs_monotonic() - began;
    return NULL;
}

static void
set_up(void)
{
    const uint64_t tables = 2 * KOBS_PAGE,
                   readers = tables + KOBS_IN_FLIGHT_ENTRIES * sizeof(kobs_in_flight),
                   lanes = readers + KOBS_PAGE;
    kobs_header header = {0};

    header.counters.offset = KOBS_PAGE;
    header.in_flight.offset = tables;
    header.readers.offset = readers;
    header.lanes[0] = (kobs_lane_info){lanes, SLOTS};
    header.lanes[1] = (kobs_lane_info){lanes + (uint64_t)SLOTS * KOBS_SLOT_SIZE, 16};
    size_t size = lanes + (SLOTS + 16ull) * KOBS_SLOT_SIZE;
    uint8_t *memory = aligned_alloc(KOBS_PAGE, (size + KOBS_PAGE - 1) / KOBS_PAGE * KOBS_PAGE);
    if (memory == NULL) {
        perror("rivals");
        exit(1);
    }
    memset(memory, 0, size); /* no page is missing when it counts */
    kobs_ring_init(&ring, memory, &header, 0);
}

static int
by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

int
main(int count, char **arguments)
{
    int threads = count == 3 ? atoi(arguments[1]) : 0;
    double each[WAYS_COUNT][ROUNDS];

    events = count == 3 ? atoll(arguments[2]) : 0;
    if (threads < 1 || threads > MOST_THREADS || events < 1) {
        fprintf(stderr, "usage: rivals THREADS EVENTS (1 to %d threads)\n", MOST_THREADS);
        return 2;
    }
    set_up();
    for (int round = 0; round < ROUNDS; round++) {
        for (way = 0; way < WAYS_COUNT; way++) {
            pthread_t producers[MOST_THREADS];
            uint64_t took[MOST_THREADS], total = 0;

            pthread_barrier_init(&start, NULL, (unsigned)threads);
            for (int index = 0; index < threads; index++) {
                pthread_create(&producers[index], NULL, produce, &took[index]);
            }
            for (int index = 0; index < threads; index++) {
                pthread_join(producers[index], NULL);
                total += took[index];
            }
            pthread_barrier_destroy(&start);
            each[way][round] = (double)total / threads / (double)events;
        }
    }
    for (way = 0; way < WAYS_COUNT; way++) {
        qsort(each[way], ROUNDS, sizeof(double), by_value);
        printf("%s\t%.2f\n", WAYS[way].name, each[way][ROUNDS / 2]);
    }
    return 0;
}
