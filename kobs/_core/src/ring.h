/* The ring protocol: tickets, claims, publishing, the in-flight table. Nothing of Python in here:
 * any number of threads may run it at once. Nothing waits, locks or allocates; the one system call
 * is that which wakes somebody who waits for events. */

#ifndef KOBS_RING_H
#define KOBS_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "layout.h"

/* A slot after its stamp, as a producer prepares it: header words 1 to 7, then the payload. */
typedef union {
    struct {
        uint64_t timestamp_ns, causality_id, parent, span_id, link;
        uint32_t pid, tid;
        uint16_t type_id;
        uint8_t severity_category, flags;
        uint32_t origin;
        /* With room behind it, so that an integer of any size can be written as a whole word. */
        uint8_t payload[KOBS_PAYLOAD_SIZE + 8];
    };
    uint64_t words[KOBS_SLOT_WORDS - 1];
} kobs_body;

enum {
    KOBS_BODY_HEADER = KOBS_SLOT_HEADER_SIZE - 8,
    KOBS_BODY_SIZE = KOBS_SLOT_SIZE - 8, /* the most that is published; a `kobs_body` is larger */
    /* So many slots ahead memory is fetched: a claim waits for its line, which is not in the cache
     * where the ring is larger. benchmarks/native/rivals.c has the ring without. */
    KOBS_FETCH_AHEAD = 8,
};

/* Where the slots of a lane lie that hold the tickets of one half of a segment (of all, in a ring
 * without further segments). Never changed once it is in use. */
typedef struct {
    int64_t half;
    kobs_slot *slots;
} kobs_place;

/* tests/native has producers stall where this is. */
#ifndef KOBS_MAY_STALL
#define KOBS_MAY_STALL() ((void)0)
#endif

typedef struct kobs_ring kobs_ring;

/* What `doorbell.Doorbell` maps: who waits for events sets `waiting`, who published one takes it
 * back and wakes them. */
typedef struct {
    _Atomic uint32_t waiting, rung;
} kobs_doorbell;

typedef struct {
    kobs_count *head;
    _Atomic(const kobs_place *) place;
    uint64_t mask, first_ticket, id_prefix;
    _Atomic uint64_t limit; /* discarding: tickets below it may be taken */
    unsigned to_half; /* from tickets to halves of segments */
    unsigned number;
} kobs_lane;

struct kobs_ring {
    kobs_lane lanes[KOBS_LANES];
    kobs_counters *counters;
    kobs_in_flight *in_flight;
    const kobs_reader_entry *readers;
    _Atomic uint64_t in_flight_used[KOBS_IN_FLIGHT_ENTRIES / 64];
    uint8_t *memory;
    /* Gives the place of another half of a segment, NULL where there is none; NULL in a ring that
     * has one segment only. */
    const kobs_place *(*locate)(kobs_ring *, unsigned lane, int64_t half);
    /* Called after the first event of a half, to make the segment that follows. */
    void (*look_ahead)(kobs_ring *);
    void *owner; /* for these two */
    int64_t first_entry;    /* what entry 0 of the in-flight table is called in this process */
    uint64_t no_lane_prefix; /* of the ids of begins whose event was lost */
    _Atomic uint64_t begun;
    kobs_place first[KOBS_LANES];
    kobs_doorbell *doorbell, no_doorbell;
    _Atomic bool closed;
    bool discards;
};

/* Set up a ring over memory that `layout.plan` planned and whose header is `header`. */
void kobs_ring_init(kobs_ring *, uint8_t *memory, const kobs_header *header, uint64_t first_ticket);

/* Add to a loss count. */
static inline void
kobs_add(kobs_count *count, uint64_t by)
{
    atomic_fetch_add_explicit(&count->value, by, memory_order_relaxed);
}

/* Count one more, where no other thread does so meanwhile; others may look. */
static inline void
kobs_add_alone(_Atomic uint64_t *value)
{
    atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* Wake all who wait for events, unless another thread does. Leaves `errno` as it is. */
void kobs_wake(kobs_doorbell *);

/* Take a ticket of a discarding lane; false where the event is to be discarded. */
bool kobs_take_or_discard(kobs_ring *, kobs_lane *, uint64_t *ticket);

/* Have the lines of a slot that most events fit in fetched, to be written. */
static inline void
kobs_fetch(const kobs_slot *slot)
{
    __builtin_prefetch(&slot->words[0], 1);
    __builtin_prefetch(&slot->words[8], 1);
}

/* The stamp that the slot of a ticket usually has: none in memory that is used for the first time,
 * as that of further segments always is, else that of the ticket one round before. */
static inline uint64_t
kobs_finished_before(const kobs_ring *ring, const kobs_lane *lane, uint64_t ticket)
{
    if (ring->locate != NULL || ticket - lane->first_ticket <= lane->mask) {
        return 0;
    }
    return kobs_finished(ticket - lane->mask - 1);
}

/* Claim a slot whose stamp is `*seen`; false where it is another one, which `*seen` is then. */
static inline bool
kobs_claim(kobs_slot *slot, uint64_t *seen, uint64_t finished)
{
    return atomic_compare_exchange_strong_explicit(&slot->words[0], seen, finished | 1,
                                                   memory_order_acquire, memory_order_relaxed);
}

/* Write `size` bytes of a body (header words and payload) as one event; its id, 0 if it was lost
 * (counted). */
static inline uint64_t
kobs_publish(kobs_ring *ring, unsigned lane_number, const kobs_body *body, size_t size)
{
    kobs_lane *lane = &ring->lanes[lane_number];
    uint64_t ticket;

    if (atomic_load_explicit(&ring->closed, memory_order_relaxed)) {
        return 0;
    }
    if (!ring->discards) {
        ticket = atomic_fetch_add_explicit(&lane->head->value, 1, memory_order_relaxed);
    }
    else if (!kobs_take_or_discard(ring, lane, &ticket)) {
        kobs_add(&ring->counters->discarded, 1);
        return 0;
    }
    const kobs_place *place = atomic_load_explicit(&lane->place, memory_order_acquire);
    bool crossed = false;
    if (ring->locate != NULL) {
        int64_t half = (int64_t)((ticket - lane->first_ticket) >> lane->to_half);
        crossed = half != place->half;
        if (crossed && (place = ring->locate(ring, lane_number, half)) == NULL) {
            kobs_add(&ring->counters->contended, 1);
            return 0;
        }
    }
    kobs_slot *slot = &place->slots[ticket & lane->mask];
    kobs_fetch(&place->slots[(ticket + KOBS_FETCH_AHEAD) & lane->mask]);
    KOBS_MAY_STALL();

    /* Claim it from whoever finished it last: who that was is guessed first. Memory that was not
     * touched before is written to at once that way: looking first is a page fault of its own. Who
     * finds another one writing, or that it was lapped by a newer one, gives up. */
    uint64_t finished = kobs_finished(ticket);
    uint64_t seen = kobs_finished_before(ring, lane, ticket);
    if (!kobs_claim(slot, &seen, finished)
        && ((seen & 1) || seen >= finished || !kobs_claim(slot, &seen, finished))) {
        kobs_add(&ring->counters->contended, 1);
        return 0;
    }
    KOBS_MAY_STALL();
    /* A reader that sees any of what follows sees the claim, too. */
    atomic_thread_fence(memory_order_release);
    size_t words = (size + 7) / 8;
    for (size_t word = 0; word < words; word++) {
        atomic_store_explicit(&slot->words[word + 1], body->words[word], memory_order_relaxed);
        KOBS_MAY_STALL();
    }
    atomic_store_explicit(&slot->words[0], finished, memory_order_release);
    if (__builtin_expect(
            atomic_load_explicit(&ring->doorbell->waiting, memory_order_relaxed) != 0, 0)) {
        kobs_wake(ring->doorbell);
    }
    if (crossed) {
        ring->look_ahead(ring);
    }
    return lane->id_prefix | (ticket & KOBS_TICKET_MASK);
}

/* Copy the slot of `ticket` if it is the finished one before and after the copy. Otherwise false,
 * and `*stamp` is what was there. */
static inline bool
kobs_copy(const kobs_slot *from, uint64_t ticket, uint64_t to[KOBS_SLOT_WORDS], uint64_t *stamp)
{
    kobs_slot *slot = (kobs_slot *)from; /* C11 atomics do not load from const */
    uint64_t wanted = kobs_finished(ticket);

    *stamp = atomic_load_explicit(&slot->words[0], memory_order_acquire);
    if (*stamp != wanted) {
        return false;
    }
    to[0] = wanted;
    for (size_t word = 1; word < KOBS_SLOT_WORDS; word++) {
        to[word] = atomic_load_explicit(&slot->words[word], memory_order_relaxed);
    }
    atomic_thread_fence(memory_order_acquire);
    *stamp = atomic_load_explicit(&slot->words[0], memory_order_relaxed);
    return *stamp == wanted;
}

/* Enter a begin in the in-flight table; the entry, -1 where the table is full (counted). It gets an
 * id of its own, in no lane, that `kobs_name_entry` replaces. */
int64_t kobs_open_entry(kobs_ring *, const kobs_in_flight *);

/* The begin event of an entry has been published. */
void kobs_name_entry(kobs_ring *, int64_t entry, uint64_t event);

/* Free an entry; what is none of this process's is ignored. */
void kobs_close_entry(kobs_ring *, int64_t entry);

/* Publish an event that opens a scope, after it is entered in the in-flight table: what becomes of
 * the event does not matter to the entry. With KOBS_NO_LANE it is entered only. */
static inline uint64_t
kobs_publish_begin(kobs_ring *ring, unsigned lane, const kobs_body *body, size_t size,
                   uint32_t name, int64_t *entry)
{
    kobs_in_flight begin = {
        .timestamp_ns = body->timestamp_ns,
        .causality_id = body->causality_id,
        .span_id = body->span_id,
        .parent = body->parent,
        .tid = body->tid,
        .name = name,
        .origin = body->origin,
        .type_id = body->type_id,
        .pid = body->pid,
    };

    *entry = kobs_open_entry(ring, &begin);
    uint64_t event = lane == KOBS_NO_LANE ? 0 : kobs_publish(ring, lane, body, size);
    if (event != 0 && *entry >= 0) {
        kobs_name_entry(ring, *entry, event);
    }
    return event;
}

/* One past the newest ticket of a lane. */
static inline uint64_t
kobs_head(kobs_ring *ring, unsigned lane)
{
    return atomic_load_explicit(&ring->lanes[lane].head->value, memory_order_acquire);
}

/* What is granted to a discarding lane is looked up anew: a lossless reader came or went. Whoever
 * did not see one that came goes by a head that is not newer than the one that it reads next. */
static inline void
kobs_forget_limit(kobs_ring *ring, unsigned lane)
{
    atomic_store_explicit(&ring->lanes[lane].limit, 0, memory_order_seq_cst);
}

#endif
