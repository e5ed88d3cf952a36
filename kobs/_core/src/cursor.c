#define _GNU_SOURCE
#include "cursor.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

enum { ROOM_AT_FIRST = 64, ROOM_KEPT = 2048 };

static inline int64_t
larger(int64_t one, int64_t other)
{
    return one > other ? one : other;
}

static inline int64_t
smaller(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

/* The ticket of a stamp, finished or not; -1 for a slot that was never used. */
static inline int64_t
ticket_of(uint64_t stamp)
{
    return (int64_t)(stamp >> 1) - 1;
}

int64_t
kobs_cursor_head(kobs_cursor *cursor)
{
    if (cursor->head == NULL) {
        return cursor->settled_head;
    }
    uint64_t head = atomic_load_explicit(&cursor->head->value, memory_order_acquire);
    return head > (uint64_t)KOBS_MOST_TICKET ? KOBS_MOST_TICKET : (int64_t)head;
}

void
kobs_cursor_move(kobs_cursor *cursor, int64_t ticket)
{
    cursor->at = smaller(larger(ticket, cursor->first), KOBS_MOST_TICKET);
    cursor->begin = cursor->count = 0;
    cursor->stalled_at = -1;
    cursor->stale_before = 0;
}

/* Room for one more copy. */
static kobs_copied *
next_copy(kobs_cursor *cursor, size_t limit)
{
    if (cursor->begin + cursor->count == cursor->room) {
        size_t room = cursor->room ? 2 * cursor->room : ROOM_AT_FIRST;
        if (room > limit) {
            room = limit; /* there are fewer than that */
        }
        kobs_copied *copied = realloc(cursor->copied, room * sizeof(kobs_copied));
        if (copied == NULL) {
            return NULL;
        }
        cursor->copied = copied;
        cursor->room = room;
    }
    return &cursor->copied[cursor->begin + cursor->count];
}

/* Move what is left to the front; give back what a large read took. */
static void
tidy(kobs_cursor *cursor)
{
    if (cursor->begin > 0 && cursor->count > 0) {
        memmove(cursor->copied, cursor->copied + cursor->begin,
                cursor->count * sizeof(kobs_copied));
    }
    cursor->begin = 0;
    if (cursor->count == 0 && cursor->room > ROOM_KEPT) {
        free(cursor->copied);
        cursor->copied = NULL;
        cursor->room = 0;
    }
}

/* One past the newest ticket, from the counter and from the stamps that follow `at`. */
static int64_t
probe_head(kobs_cursor *cursor, int64_t at, const kobs_slot *slots)
{
    int64_t head = kobs_cursor_head(cursor);

    if (head > at) {
        return head;
    }
    int64_t first = at & (cursor->slots - 1), last = smaller(first + KOBS_PROBE, cursor->slots);
    for (int64_t index = first; index < last; index++) {
        kobs_slot *slot = (kobs_slot *)&slots[index]; /* C11 atomics do not load from const */
        uint64_t stamp = atomic_load_explicit(&slot->words[0], memory_order_relaxed);
        if (ticket_of(stamp) == at + (index - first)) {
            head = at + (index - first) + 1;
        }
    }
    return head;
}

/* Whether an unfinished slot has been waited for long enough. Tickets that were out when the wait
 * began are as old as the one that is waited for, so they are not waited for again. */
static bool
given_up(kobs_cursor *cursor, int64_t at, int64_t head)
{
    if (cursor->settled || at < cursor->stale_before || head - at > cursor->slots) {
        return true;
    }
    /* The one clock of all threads: this may be another thread than the one that began to wait. */
    uint64_t now = kobs_monotonic();
    if (cursor->stalled_at != at) {
        cursor->stalled_at = at;
        cursor->stalled_ns = now;
        cursor->stale_before = smaller(cursor->stale_before, at);
        cursor->stalled_head = head;
        return false;
    }
    if (now - cursor->stalled_ns < KOBS_STALL_NS) {
        return false;
    }
    cursor->stale_before = cursor->stalled_head;
    return true;
}

int
kobs_cursor_fill(kobs_cursor *cursor, size_t limit)
{
    const int64_t slots = cursor->slots, mask = slots - 1;
    int64_t at = cursor->at, head = -1, span_end = -1;
    kobs_located place = {0};
    int done = 0;

    tidy(cursor);
    while (cursor->count < limit && at < KOBS_MOST_TICKET) {
        if (at >= span_end) {
            int64_t following = at;
            /* The head first: a segment is there before its tickets are. */
            head = larger(head, kobs_cursor_head(cursor));
            place = cursor->locate == NULL ? cursor->place : cursor->locate(cursor, at);
            if (place.failed) {
                done = -1;
                break;
            }
            if (place.slots == NULL) {
                following = larger(at, smaller(place.following, head));
            }
            else if (place.ring) {
                following = larger(at, head - slots);
            }
            if (following > at) {
                cursor->lost += (uint64_t)(following - at);
                at = following;
                continue;
            }
            if (place.slots == NULL) {
                break;
            }
            span_end = at + slots - ((at - cursor->first) & mask);
            if (place.ring) {
                span_end = larger(span_end, head);
            }
        }
        kobs_copied *copy = next_copy(cursor, limit);
        if (copy == NULL) {
            done = -1;
            break;
        }
        uint64_t stamp;
        if (kobs_copy(&place.slots[at & mask], (uint64_t)at, copy->words, &stamp)) {
            copy->ticket = at;
            cursor->count++;
            at++;
            continue;
        }
        int64_t newest = ticket_of(stamp);
        if (newest >= head) {
            head = larger(head, kobs_cursor_head(cursor));
        }
        if (newest > at && (newest & mask) == (at & mask)
            && (uint64_t)newest < (uint64_t)head + (uint64_t)slots) {
            /* Overwritten. What is a full ring behind is gone as well. */
            head = larger(larger(head, newest + 1), kobs_cursor_head(cursor));
            int64_t following = larger(at + 1, head - slots);
            cursor->lost += (uint64_t)(following - at);
            at = following;
            span_end = -1;
            continue;
        }
        if (at >= head) {
            head = probe_head(cursor, at, place.slots);
            if (at >= head) {
                break;
            }
        }
        if (!given_up(cursor, at, head)) {
            break;
        }
        cursor->lost++;
        at++;
    }
    cursor->at = at;
    return done;
}
