/* Slots as lines of JSON. The Python twin is kobs/export/jsonl.py, which says what is in them. */

#ifndef KOBS_SERIALISE_H
#define KOBS_SERIALISE_H

#include "text.h"
#include "types.h"

/* What is remembered from line to line. */
typedef struct {
    bool known;        /* there is an offset */
    int64_t offset_ns; /* wall time minus monotonic time */
    PyObject *clock;   /* callable(timestamp_ns) -> str, for what is no common year */
    uint64_t begin_ns, length_ns; /* monotonic: the second that is remembered; none yet: of 0 */
    char second[24];              /* `2026-11-23T15:44:20.` */
    uint64_t ids, chain;          /* of the last line */
    size_t who_length;            /* 0: not remembered */
    char who[80];                 /* `4711,"tid":4712,"causality_id":17,"parent":` */
} kobs_lines;

/* One slot as a line of JSON, its end included. 1, 0 where it cannot be decoded or is left to
 * Python (`*left`), -1 with an exception set. */
int kobs_write_line(types_object *, kobs_text *, const uint64_t *words, unsigned lane,
                    uint64_t ticket, kobs_lines *, bool *left);

#endif
