#define _DEFAULT_SOURCE /* syscall */
#include "ring.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned
log2_of(uint64_t power)
{
    return (unsigned)__builtin_ctzll(power);
}

void
kobs_ring_init(kobs_ring *ring, uint8_t *memory, const kobs_header *header, uint64_t first_ticket)
{
    ring->memory = memory;
    ring->counters = (kobs_counters *)(memory + header->counters.offset);
    ring->in_flight = (kobs_in_flight *)(memory + header->in_flight.offset);
    ring->readers = (const kobs_reader_entry *)(memory + header->readers.offset);
    ring->first_entry = (int64_t)header->pid * KOBS_IN_FLIGHT_ENTRIES;
    ring->no_lane_prefix = KOBS_ID_PREFIX(header->recording, KOBS_NO_LANE);
    atomic_init(&ring->begun, 0);
    atomic_init(&ring->no_doorbell.waiting, 0);
    ring->doorbell = &ring->no_doorbell;
    ring->discards = header->overflow == KOBS_OVERFLOW_DISCARD;
    for (unsigned number = 0; number < KOBS_LANES; number++) {
        kobs_lane *lane = &ring->lanes[number];
        uint64_t slots = header->lanes[number].slots;

        ring->first[number] = (kobs_place){
            .half = 0,
            .slots = (kobs_slot *)(memory + header->lanes[number].offset),
        };
        lane->head = &ring->counters->heads[number];
        lane->mask = slots - 1;
        lane->to_half = log2_of(slots) - 1;
        lane->number = number;
        lane->first_ticket = first_ticket;
        lane->id_prefix = KOBS_ID_PREFIX(header->recording, number);
        atomic_init(&lane->place, &ring->first[number]);
        atomic_init(&lane->limit, 0);
        atomic_store_explicit(&lane->head->value, first_ticket, memory_order_relaxed);
    }
}

void
kobs_wake(kobs_doorbell *doorbell)
{
    if (atomic_exchange_explicit(&doorbell->waiting, 0, memory_order_acq_rel) != 0) {
        int before = errno;
        atomic_fetch_add_explicit(&doorbell->rung, 1, memory_order_release);
        syscall(SYS_futex, &doorbell->rung, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
        errno = before;
    }
}

/* Tickets below this may be taken: the slowest lossless reader has read the slot before. */
static uint64_t
limit_of(kobs_ring *ring, kobs_lane *lane, uint64_t head)
{
    uint64_t slowest = head;

    for (unsigned index = 0; index < KOBS_READER_ENTRIES; index++) {
        const kobs_reader_entry *reader = &ring->readers[index];
        uint64_t cursor = __atomic_load_n(&reader->cursors[lane->number], __ATOMIC_ACQUIRE);

        if (__atomic_load_n(&reader->pid, __ATOMIC_ACQUIRE) != 0 && cursor < slowest) {
            slowest = cursor;
        }
    }
    return slowest + lane->mask + 1;
}

bool
kobs_take_or_discard(kobs_ring *ring, kobs_lane *lane, uint64_t *ticket)
{
    uint64_t head = atomic_load_explicit(&lane->head->value, memory_order_acquire);

    /* Each failed exchange is another producer's success; after as many as this the event is
     * dropped rather than waited for. */
    for (int tries = 0; tries < 64; tries++) {
        if (head >= atomic_load_explicit(&lane->limit, memory_order_acquire)) {
            uint64_t limit = limit_of(ring, lane, head);
            if (head >= limit) {
                return false;
            }
            atomic_store_explicit(&lane->limit, limit, memory_order_release);
        }
        if (atomic_compare_exchange_strong_explicit(&lane->head->value, &head, head + 1,
                                                    memory_order_relaxed, memory_order_relaxed)) {
            *ticket = head;
            return true;
        }
    }
    return false;
}

int64_t
kobs_open_entry(kobs_ring *ring, const kobs_in_flight *begin)
{
    if (atomic_load_explicit(&ring->closed, memory_order_relaxed)) {
        return -1;
    }
    for (int group = 0; group < KOBS_IN_FLIGHT_ENTRIES / 64; group++) {
        _Atomic uint64_t *used = &ring->in_flight_used[group];
        uint64_t seen = atomic_load_explicit(used, memory_order_relaxed);

        while (seen != UINT64_MAX) {
            int bit = __builtin_ctzll(~seen);
            if (!atomic_compare_exchange_weak_explicit(used, &seen, seen | 1ull << bit,
                                                       memory_order_acquire,
                                                       memory_order_relaxed)) {
                continue; /* others took entries of this group meanwhile */
            }
            int64_t index = group * 64 + bit;
            /* A reader that sees any of what follows sees that the entry was free, too. */
            atomic_thread_fence(memory_order_release);
            const uint64_t *from = (const uint64_t *)begin;
            uint64_t *to = (uint64_t *)&ring->in_flight[index];
            uint64_t number = 1 + atomic_fetch_add_explicit(&ring->begun, 1, memory_order_relaxed);
            for (size_t word = 1; word < sizeof(*begin) / 8; word++) {
                __atomic_store_n(&to[word], from[word], __ATOMIC_RELAXED);
            }
            __atomic_store_n(&to[0], ring->no_lane_prefix | (number & KOBS_TICKET_MASK),
                             __ATOMIC_RELEASE);
            return ring->first_entry + index;
        }
    }
    kobs_add(&ring->counters->in_flight_overflow, 1);
    return -1;
}

void
kobs_name_entry(kobs_ring *ring, int64_t entry, uint64_t event)
{
    __atomic_store_n(&ring->in_flight[entry - ring->first_entry].event, event, __ATOMIC_RELEASE);
}

void
kobs_close_entry(kobs_ring *ring, int64_t entry)
{
    int64_t index = entry - ring->first_entry;

    if (index < 0 || index >= KOBS_IN_FLIGHT_ENTRIES
        || atomic_load_explicit(&ring->closed, memory_order_relaxed)) {
        return;
    }
    __atomic_store_n(&ring->in_flight[index].event, 0, __ATOMIC_RELEASE);
    atomic_fetch_and_explicit(&ring->in_flight_used[index / 64], ~(1ull << (index % 64)),
                              memory_order_release);
}
