/* The lanes of a `Reader`: where their slots and heads lie, as Python describes them. */

#ifndef KOBS_READER_H
#define KOBS_READER_H

#include "core.h"
#include "cursor.h"

typedef struct {
    kobs_cursor cursor; /* first: `locate` gets this and needs the rest */
    Py_buffer head, fixed, found;
    PyObject *locate; /* callable(ticket) -> Place | int, or NULL */
    PyObject *oldest; /* callable() -> ticket, or NULL */
} kobs_reader_lane;

/* A ticket from an int of any size. */
int kobs_to_ticket(PyObject *number, int64_t *to);

/* `size` bytes at an offset of a buffer, aligned; NULL with an exception set if they are not all
 * there. */
void *kobs_bytes_at(PyObject *memory, Py_buffer *view, int flags, Py_ssize_t offset,
                    Py_ssize_t size);

/* From (lane, slots, first ticket, head, place, oldest): see the stub. */
int kobs_take_lane(kobs_reader_lane *, PyObject *description);

#endif
