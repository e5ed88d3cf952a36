/* Text that grows, and numbers in it. */

#ifndef KOBS_SERIALISE_H
#define KOBS_SERIALISE_H

#include "types.h"

typedef struct {
    char *start, *at, *end;
} kobs_text;

/* Make room for `size` bytes more; false where there is none, with an exception set. */
bool kobs_text_grow(kobs_text *, size_t size);

static inline bool
kobs_text_room(kobs_text *text, size_t size)
{
    return (size_t)(text->end - text->at) >= size || kobs_text_grow(text, size);
}

/* Wall time as text, one second remembered. */
typedef struct {
    bool known;        /* there is an offset */
    int64_t offset_ns; /* wall time minus monotonic time */
    PyObject *clock;   /* callable(timestamp_ns) -> str, for what is no common year */
    int64_t second;
    char text[24];     /* `2026-11-23T15:44:20.` */
} kobs_wall;

/* One slot as a line of JSON, its end included. 1, 0 where it cannot be decoded or is left to
 * Python (`*left`), -1 with an exception set. */
int kobs_write_line(types_object *, kobs_text *, const uint64_t *words, unsigned lane,
                    uint64_t ticket, kobs_wall *, bool *left);

#endif
