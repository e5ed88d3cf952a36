/* The format of a ring as C structures. The one definition is kobs/_core/layout.py: these are
 * compared with it field by field when the core is loaded (layout_table.c). */

#ifndef KOBS_LAYOUT_H
#define KOBS_LAYOUT_H

#include <stdint.h>

enum {
    KOBS_PAGE = 4096,
    KOBS_CACHE_LINE = 64,
    KOBS_SLOT_SIZE = 192,
    KOBS_SLOT_HEADER_SIZE = 64,
    KOBS_PAYLOAD_SIZE = KOBS_SLOT_SIZE - KOBS_SLOT_HEADER_SIZE,
    KOBS_SLOT_WORDS = KOBS_SLOT_SIZE / 8,

    KOBS_MAIN_LANE = 0,
    KOBS_PRIORITY_LANE = 1,
    KOBS_LANES = 2,
    KOBS_CATEGORIES = 16,

    KOBS_IN_FLIGHT_ENTRIES = 1024,
    KOBS_READER_ENTRIES = 32,

    KOBS_FLAG_TRUNCATED = 1,
    KOBS_FLAG_PARTIAL = 2,
    KOBS_FLAG_BEGIN = 4,
    KOBS_FLAG_END = 8,

    KOBS_OVERFLOW_OVERWRITE = 0,
    KOBS_OVERFLOW_DISCARD = 1,
};

#define KOBS_TICKET_MASK ((1ull << 42) - 1)
#define KOBS_NO_LANE 3ull

/* What all events of a lane have in common in their ids. */
#define KOBS_ID_PREFIX(recording, lane) ((uint64_t)(recording) << 44 | (uint64_t)(lane) << 42)

typedef struct {
    uint64_t offset, slots;
} kobs_lane_info;

typedef struct {
    uint64_t offset, size;
} kobs_region_info;

typedef struct {
    char magic[8];
    uint32_t version, byte_order, header_size, slot_size, slot_header_size, lane_count;
    uint64_t total_size;
    kobs_region_info counters, schema, strings, in_flight, readers;
    kobs_lane_info lanes[KOBS_LANES];
    uint32_t recording, segment, pid, ppid, state, overflow;
    uint64_t trace_high, parent_event;
    uint64_t started_monotonic_ns, started_wall_ns, refreshed_monotonic_ns, refreshed_wall_ns;
    double sampling_rate;
    char session[32], core[16], command[1024];
    uint64_t first_tickets[KOBS_LANES], keep_bytes;
} kobs_header;

/* A count on a cache line of its own. */
typedef struct {
    _Atomic uint64_t value;
    uint64_t padding[7];
} kobs_count;

typedef struct {
    kobs_count heads[KOBS_LANES];
    kobs_count contended, discarded, sampled_out, too_big, errors, in_flight_overflow,
        strings_overflow, segments_dropped, filtered;
    _Atomic uint64_t sampled_out_by_category[KOBS_CATEGORIES],
        filtered_by_category[KOBS_CATEGORIES];
} kobs_counters;

/* A slot's first cache line. As words, because a reader may copy it while it is written: every
 * access to a slot is an atomic one of 64 bits. */
typedef struct {
    uint64_t stamp, timestamp_ns, causality_id, parent, span_id, link;
    uint32_t pid, tid;
    uint16_t type_id;
    uint8_t severity_category, flags;
    uint32_t origin;
} kobs_slot_header;

typedef union {
    kobs_slot_header header; /* for offsets; accessed as words */
    _Atomic uint64_t words[KOBS_SLOT_WORDS];
} kobs_slot;

typedef struct {
    uint64_t event, timestamp_ns, causality_id, span_id, parent;
    uint32_t tid, name, origin;
    uint16_t type_id, reserved;
    uint32_t pid, reserved2;
} kobs_in_flight;

typedef struct {
    uint32_t pid, reserved;
    uint64_t cursors[KOBS_LANES], padding[5];
} kobs_reader_entry;

_Static_assert(sizeof(kobs_header) <= KOBS_PAGE, "the header fits its page");
_Static_assert(sizeof(kobs_counters) <= KOBS_PAGE, "the counters fit their page");
_Static_assert(sizeof(kobs_slot_header) == KOBS_SLOT_HEADER_SIZE, "a slot's header is 64 bytes");
_Static_assert(sizeof(kobs_slot) == KOBS_SLOT_SIZE, "a slot is 192 bytes");
_Static_assert(sizeof(kobs_in_flight) == KOBS_CACHE_LINE, "an entry is a cache line");
_Static_assert(sizeof(kobs_reader_entry) == KOBS_CACHE_LINE, "an entry is a cache line");

/* The stamp of a slot that `ticket` has finished writing; with the lowest bit set, of one that
 * it is writing. */
static inline uint64_t
kobs_finished(uint64_t ticket)
{
    return (ticket + 1) << 1;
}

#endif
