/* A reader's place in one lane: copies finished slots, waits for none, counts what it will never
 * see. Nothing of Python in here. The Python twin is `LaneCursor` in kobs/_core/reader.py. */

#ifndef KOBS_CURSOR_H
#define KOBS_CURSOR_H

#include "ring.h"

enum {
    KOBS_STALL_NS = 10000000, /* how long an unfinished slot stops its lane */
    KOBS_PROBE = 64,          /* how far past the head counter to look: heads may lag behind */
};

/* Heads that claim more are damaged: 2^63 tickets is what a stamp has room for. */
#define KOBS_MOST_TICKET ((int64_t)(INT64_MAX - (1ll << 32)))

typedef struct {
    int64_t ticket;
    union {
        uint64_t words[KOBS_SLOT_WORDS];
        kobs_slot_header header;
    };
} kobs_copied;

/* Where the slots of a lane lie at some ticket. */
typedef struct {
    const kobs_slot *slots; /* NULL: that part of the recording is gone */
    int64_t following;      /* where it is gone: the next ticket that is not */
    bool ring;              /* newer tickets overwrite this memory; else they go to other memory */
    bool failed;
} kobs_located;

typedef struct kobs_cursor kobs_cursor;

struct kobs_cursor {
    unsigned lane;
    bool settled;       /* nobody writes any more: wait for nothing */
    int64_t slots;      /* a power of two */
    int64_t first;      /* the lane's first ticket */
    kobs_count *head;   /* one past the newest ticket; may lag. NULL: it is `settled_head` */
    int64_t settled_head;
    kobs_located place; /* of every ticket, where there is no `locate` */
    kobs_located (*locate)(kobs_cursor *, int64_t ticket);

    int64_t at;         /* the next ticket to copy */
    uint64_t lost;
    kobs_copied *copied; /* not yet handed out: `count` of them from `begin` */
    size_t begin, count, room;

    int64_t stalled_at, stalled_head, stale_before;
    uint64_t stalled_ns;
};

/* One past the newest ticket. */
int64_t kobs_cursor_head(kobs_cursor *);

/* Copy finished slots until `limit` are there or there is nothing more. -1 where `locate` failed or
 * there is no memory; what was copied stays. */
int kobs_cursor_fill(kobs_cursor *, size_t limit);

/* Go on at `ticket`. */
void kobs_cursor_move(kobs_cursor *, int64_t ticket);

/* The ticket that will be handed out next, if it is there. */
static inline int64_t
kobs_cursor_position(const kobs_cursor *cursor)
{
    return cursor->count > 0 ? cursor->copied[cursor->begin].ticket : cursor->at;
}

#endif
