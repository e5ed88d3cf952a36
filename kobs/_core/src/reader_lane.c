#include "reader.h"

int
kobs_to_ticket(PyObject *number, int64_t *to)
{
    int overflow;
    PyObject *index = PyNumber_Index(number);

    if (index == NULL) {
        return -1;
    }
    long long value = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (value == -1 && !overflow && PyErr_Occurred()) {
        return -1;
    }
    *to = overflow ? (overflow < 0 ? 0 : KOBS_MOST_TICKET) : value;
    return 0;
}

void *
kobs_bytes_at(PyObject *memory, Py_buffer *view, int flags, Py_ssize_t offset, Py_ssize_t size)
{
    if (PyObject_GetBuffer(memory, view, flags) < 0) {
        return NULL;
    }
    uint8_t *at = (uint8_t *)view->buf + offset;
    if (offset < 0 || size < 0 || size > view->len || offset > view->len - size
        || (uintptr_t)at % 8 != 0) {
        PyErr_Format(PyExc_ValueError, "%zd bytes at %zd are not within %zd bytes", size, offset,
                     view->len);
        PyBuffer_Release(view);
        return NULL;
    }
    return at;
}

static Py_ssize_t
lane_bytes(const kobs_cursor *cursor)
{
    return (Py_ssize_t)cursor->slots * KOBS_SLOT_SIZE;
}

static kobs_located
locate(kobs_cursor *cursor, int64_t ticket)
{
    kobs_reader_lane *lane = (kobs_reader_lane *)cursor;
    kobs_located located = {.failed = true};
    PyObject *found = PyObject_CallFunction(lane->locate, "L", (long long)ticket);

    if (lane->found.obj != NULL) {
        PyBuffer_Release(&lane->found);
    }
    if (found == NULL) {
        return located;
    }
    if (PyLong_Check(found)) {
        located.failed = kobs_to_ticket(found, &located.following) < 0;
    }
    else if (!PyTuple_Check(found) || PyTuple_GET_SIZE(found) != 4) {
        PyErr_Format(PyExc_TypeError, "expected a Place or an int, got %R", found);
    }
    else {
        Py_ssize_t base = PyNumber_AsSsize_t(PyTuple_GET_ITEM(found, 2), PyExc_OverflowError);
        if (base >= 0 && base < PY_SSIZE_T_MAX / 8) {
            located.slots = kobs_bytes_at(PyTuple_GET_ITEM(found, 0), &lane->found, PyBUF_SIMPLE,
                                     8 * base, lane_bytes(cursor));
        }
        else if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "no slot at word %zd", base);
        }
        located.ring = PyTuple_GET_ITEM(found, 3) == Py_True;
        located.failed = located.slots == NULL;
    }
    Py_DECREF(found);
    return located;
}

int
kobs_take_lane(kobs_reader_lane *lane, PyObject *description)
{
    PyObject *first, *head, *place, *oldest, *memory;
    Py_ssize_t slots, offset;
    kobs_cursor *cursor = &lane->cursor;

    if (!PyTuple_Check(description)) {
        PyErr_Format(PyExc_TypeError, "expected a lane, got %R", description);
        return -1;
    }
    if (!PyArg_ParseTuple(description, "InOOOO:lane", &cursor->lane, &slots, &first, &head, &place,
                          &oldest)) {
        return -1;
    }
    if (slots <= 0 || slots > 1 << 24 || (slots & (slots - 1)) != 0) {
        PyErr_Format(PyExc_ValueError, "a lane of %zd slots", slots);
        return -1;
    }
    cursor->slots = slots;
    if (kobs_to_ticket(first, &cursor->first) < 0) {
        return -1;
    }
    if (PyTuple_Check(head)) {
        if (!PyArg_ParseTuple(head, "On:head", &memory, &offset)) {
            return -1;
        }
        cursor->head = kobs_bytes_at(memory, &lane->head, PyBUF_SIMPLE, offset, 8);
        if (cursor->head == NULL) {
            return -1;
        }
    }
    else if (kobs_to_ticket(head, &cursor->settled_head) < 0) {
        return -1;
    }
    if (PyTuple_Check(place)) {
        if (!PyArg_ParseTuple(place, "On:place", &memory, &offset)) {
            return -1;
        }
        cursor->place.ring = true;
        cursor->place.slots = kobs_bytes_at(memory, &lane->fixed, PyBUF_SIMPLE, offset,
                                       lane_bytes(cursor));
        if (cursor->place.slots == NULL) {
            return -1;
        }
    }
    else {
        lane->locate = Py_NewRef(place);
        cursor->locate = locate;
    }
    lane->oldest = oldest == Py_None ? NULL : Py_NewRef(oldest);
    kobs_cursor_move(cursor, cursor->first);
    return 0;
}
