/* `Reader`: cursors over the lanes of a ring or of a recording's file. The Python twin is
 * `RingReader` in kobs/_core/reader.py. */

#include "core.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "reader.h"

typedef struct {
    PyObject_HEAD
    kobs_reader_lane lanes[KOBS_LANES];
    Py_ssize_t lane_count;
    Py_buffer noted; /* where a lossless reader's cursors are noted, for the producers */
    _Atomic uint64_t *note;
    PyObject *slot_type; /* RawSlot */
    PyObject *before_read, *on_close; /* callable(), or NULL */
    atomic_bool closed, busy;
    _Atomic uint32_t owner; /* the thread that is in here; 0: none is, or it has not said so yet */
    _Atomic unsigned forks;
} reader_object;

/* -- one thread at a time --------------------------------------------------------------------- */

static _Atomic unsigned forks_seen;

static void
count_fork(void)
{
    forks_seen++;
}

__attribute__((constructor)) static void
at_load(void)
{
    pthread_atfork(NULL, NULL, count_fork);
}

/* False where this very thread is in here already: a signal handler or a finalizer reads. */
static bool
enter(reader_object *self)
{
    const struct timespec a_moment = {.tv_nsec = 50000};

    while (atomic_exchange_explicit(&self->busy, true, memory_order_acquire)) {
        if (atomic_load_explicit(&self->owner, memory_order_relaxed) == kobs_thread_id()) {
            return false;
        }
        if (self->forks != forks_seen) {
            break; /* whoever was in here is not in this process */
        }
        Py_BEGIN_ALLOW_THREADS
        nanosleep(&a_moment, NULL);
        Py_END_ALLOW_THREADS
    }
    atomic_store_explicit(&self->forks, forks_seen, memory_order_relaxed);
    atomic_store_explicit(&self->owner, kobs_thread_id(), memory_order_relaxed);
    return true;
}

static void
leave(reader_object *self)
{
    /* Else this thread would take itself for the next one that comes in. */
    atomic_store_explicit(&self->owner, 0, memory_order_relaxed);
    atomic_store_explicit(&self->busy, false, memory_order_release);
}

/* The same for a look at the cursors, which nobody moves meanwhile but this very thread: where the
 * interpreter keeps threads apart, nobody does anyway. */
static inline bool
begin_look(reader_object *self)
{
    return KOBS_FREE_THREADED && enter(self);
}

static inline void
end_look(reader_object *self, bool entered)
{
    if (entered) {
        leave(self);
    }
}

static bool
enter_or_raise(reader_object *self)
{
    if (!enter(self)) {
        PyErr_SetString(PyExc_RuntimeError, "this thread is in the middle of a read");
        return false;
    }
    return true;
}

/* -- reading ---------------------------------------------------------------------------------- */

static void
note(reader_object *self)
{
    if (self->note == NULL || atomic_load(&self->closed)) {
        return;
    }
    for (Py_ssize_t index = 0; index < self->lane_count; index++) {
        /* After the copies: a producer that sees this may overwrite them. */
        atomic_store_explicit(&self->note[index], (uint64_t)self->lanes[index].cursor.at,
                              memory_order_release);
    }
}

/* The lane whose next event is the oldest; NULL where there is none. */
static kobs_cursor *
oldest_of(reader_object *self)
{
    kobs_cursor *found = NULL;

    for (Py_ssize_t index = 0; index < self->lane_count; index++) {
        kobs_cursor *cursor = &self->lanes[index].cursor;
        if (cursor->count > 0
            && (found == NULL || cursor->copied[cursor->begin].header.timestamp_ns
                                     < found->copied[found->begin].header.timestamp_ns)) {
            found = cursor;
        }
    }
    return found;
}

static PyObject *
raw_slot(PyTypeObject *type, const kobs_cursor *cursor)
{
    const kobs_copied *copied = &cursor->copied[cursor->begin];
    PyObject *lane = PyLong_FromUnsignedLong(cursor->lane);
    PyObject *ticket = PyLong_FromLongLong(copied->ticket);
    PyObject *data = PyBytes_FromStringAndSize((const char *)copied->words, KOBS_SLOT_SIZE);
    PyObject *slot = NULL;

    if (lane != NULL && ticket != NULL && data != NULL) {
        slot = type->tp_alloc(type, 3);
    }
    if (slot == NULL) {
        Py_XDECREF(lane);
        Py_XDECREF(ticket);
        Py_XDECREF(data);
        return NULL;
    }
    PyTuple_SET_ITEM(slot, 0, lane);
    PyTuple_SET_ITEM(slot, 1, ticket);
    PyTuple_SET_ITEM(slot, 2, data);
    /* There are only numbers and bytes in it: the collector of garbage need not walk them all. */
    PyObject_GC_UnTrack(slot);
    return slot;
}

/* Hand out at most `limit` copies, all lanes merged by time. */
static PyObject *
merge(reader_object *self, size_t limit)
{
    size_t begins[KOBS_LANES], counts[KOBS_LANES];
    kobs_cursor *cursor;
    PyObject *out = PyList_New(0);

    for (Py_ssize_t index = 0; index < self->lane_count; index++) {
        begins[index] = self->lanes[index].cursor.begin;
        counts[index] = self->lanes[index].cursor.count;
    }
    for (size_t given = 0; out != NULL && given < limit && (cursor = oldest_of(self)) != NULL;
         given++) {
        PyObject *slot = raw_slot((PyTypeObject *)self->slot_type, cursor);
        if (slot == NULL || PyList_Append(out, slot) < 0) {
            Py_CLEAR(out);
        }
        Py_XDECREF(slot);
        cursor->begin++;
        cursor->count--;
    }
    for (Py_ssize_t index = 0; out == NULL && index < self->lane_count; index++) {
        self->lanes[index].cursor.begin = begins[index];
        self->lanes[index].cursor.count = counts[index];
    }
    return out;
}

PyDoc_STRVAR(read_doc, "read(limit=1024) -> [RawSlot]\n\n"
                       "Finished slots past the cursors, oldest first, at most `limit`.");

static PyObject *
reader_read(reader_object *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names), limit = 1024;

    if (count + named > 1
        || (named && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "limit") != 0)) {
        PyErr_SetString(PyExc_TypeError, "read(limit=1024): expected at most a limit");
        return NULL;
    }
    if (count + named == 1) {
        limit = PyNumber_AsSsize_t(args[0], NULL);
        if (limit == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    if (atomic_load(&self->closed)) {
        return PyList_New(0);
    }
    if (self->before_read != NULL) {
        PyObject *done = PyObject_CallNoArgs(self->before_read);
        if (done == NULL) {
            return NULL;
        }
        Py_DECREF(done);
    }
    if (!enter(self)) {
        return PyList_New(0);
    }
    int done = 0;
    for (Py_ssize_t index = 0; index < self->lane_count && done == 0 && limit > 0; index++) {
        kobs_reader_lane *lane = &self->lanes[index];
        if (lane->cursor.count < (size_t)limit) {
            done = kobs_cursor_fill(&lane->cursor, (size_t)limit);
            if (lane->found.obj != NULL) {
                PyBuffer_Release(&lane->found);
            }
        }
    }
    PyObject *out = done < 0 ? NULL : merge(self, limit < 0 ? 0 : (size_t)limit);
    if (out != NULL) {
        note(self);
    }
    else if (!PyErr_Occurred()) {
        PyErr_NoMemory();
    }
    leave(self);
    return out;
}

/* -- moving ----------------------------------------------------------------------------------- */

static int
move_to(reader_object *self, const int64_t *tickets)
{
    if (!enter_or_raise(self)) {
        return -1;
    }
    for (Py_ssize_t index = 0; index < self->lane_count; index++) {
        kobs_cursor_move(&self->lanes[index].cursor, tickets[index]);
        self->lanes[index].cursor.lost = 0;
    }
    note(self);
    leave(self);
    return 0;
}

PyDoc_STRVAR(seek_oldest_doc, "seek_oldest()\n\nMove to the oldest events that are still there.");

static PyObject *
reader_seek_oldest(reader_object *self, PyObject *Py_UNUSED(none))
{
    int64_t tickets[KOBS_LANES];

    for (Py_ssize_t index = 0; index < self->lane_count; index++) {
        kobs_reader_lane *lane = &self->lanes[index];
        if (lane->oldest == NULL) {
            tickets[index] = kobs_cursor_head(&lane->cursor) - lane->cursor.slots;
            continue;
        }
        PyObject *oldest = PyObject_CallNoArgs(lane->oldest);
        int done = oldest == NULL ? -1 : kobs_to_ticket(oldest, &tickets[index]);
        Py_XDECREF(oldest);
        if (done < 0) {
            return NULL;
        }
    }
    if (move_to(self, tickets) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(seek_end_doc, "seek_end()\n\nMove past the newest events.");

static PyObject *
reader_seek_end(reader_object *self, PyObject *Py_UNUSED(none))
{
    int64_t tickets[KOBS_LANES];

    for (Py_ssize_t index = 0; index < self->lane_count; index++) {
        tickets[index] = kobs_cursor_head(&self->lanes[index].cursor);
    }
    if (move_to(self, tickets) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(seek_doc, "seek(position)\n\nMove the cursors; `lost` starts again at 0.");

static PyObject *
reader_seek(reader_object *self, PyObject *position)
{
    int64_t tickets[KOBS_LANES];
    PyObject *given = PySequence_Tuple(position);

    if (given == NULL) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(given) != self->lane_count) {
        PyErr_Format(PyExc_ValueError, "seek(position): expected %zd tickets, got %zd",
                     self->lane_count, PyTuple_GET_SIZE(given));
        Py_DECREF(given);
        return NULL;
    }
    int done = 0;
    for (Py_ssize_t index = 0; index < self->lane_count && done == 0; index++) {
        done = kobs_to_ticket(PyTuple_GET_ITEM(given, index), &tickets[index]);
    }
    Py_DECREF(given);
    if (done < 0 || move_to(self, tickets) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(position_doc, "position() -> tickets\n\nThe cursors, one a lane.");

static PyObject *
reader_position(reader_object *self, PyObject *Py_UNUSED(none))
{
    PyObject *position = PyTuple_New(self->lane_count);

    int64_t tickets[KOBS_LANES];

    bool entered = begin_look(self);
    for (Py_ssize_t index = 0; index < self->lane_count; index++) {
        tickets[index] = kobs_cursor_position(&self->lanes[index].cursor);
    }
    end_look(self, entered);
    for (Py_ssize_t index = 0; position != NULL && index < self->lane_count; index++) {
        PyObject *ticket = PyLong_FromLongLong(tickets[index]);
        if (ticket == NULL) {
            Py_CLEAR(position);
            break;
        }
        PyTuple_SET_ITEM(position, index, ticket);
    }
    return position;
}

PyDoc_STRVAR(pending_doc, "pending() -> int\n\n"
                          "About how many events lie between the cursors and the heads.");

static PyObject *
reader_pending(reader_object *self, PyObject *Py_UNUSED(none))
{
    uint64_t pending = 0;

    bool entered = begin_look(self);
    for (Py_ssize_t index = 0; index < self->lane_count; index++) {
        kobs_cursor *cursor = &self->lanes[index].cursor;
        int64_t behind = kobs_cursor_head(cursor) - kobs_cursor_position(cursor);
        pending += behind > 0 ? (uint64_t)behind : 0;
    }
    end_look(self, entered);
    return PyLong_FromUnsignedLongLong(pending);
}

PyDoc_STRVAR(close_doc, "close()\n\nHold up nobody any more, read nothing any more.");

static PyObject *
reader_close(reader_object *self, PyObject *Py_UNUSED(none))
{
    if (!atomic_exchange(&self->closed, true)) {
        end_look(self, begin_look(self)); /* who reads may be about to note where it is */
        if (self->on_close != NULL) {
            return PyObject_CallNoArgs(self->on_close);
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
reader_lost(reader_object *self, void *Py_UNUSED(closure))
{
    uint64_t lost = 0;

    bool entered = begin_look(self);
    for (Py_ssize_t index = 0; index < self->lane_count; index++) {
        lost += self->lanes[index].cursor.lost;
    }
    end_look(self, entered);
    return PyLong_FromUnsignedLongLong(lost);
}

/* -- the type --------------------------------------------------------------------------------- */

static PyObject *
reader_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"", "", "settled", "note", "on_close", "before_read", NULL};
    PyObject *lanes, *slot_type, *memory, *where = Py_None, *on_close = Py_None,
                                          *before_read = Py_None;
    Py_ssize_t offset;
    int settled = 0;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!|$pOOO:Reader", names, &PyTuple_Type,
                                     &lanes, &PyType_Type, &slot_type, &settled, &where,
                                     &on_close, &before_read)) {
        return NULL;
    }
    if (!PyType_IsSubtype((PyTypeObject *)slot_type, &PyTuple_Type)
        || PyTuple_GET_SIZE(lanes) > KOBS_LANES) {
        PyErr_Format(PyExc_TypeError, "Reader(): at most %d lanes, and a tuple for slots",
                     KOBS_LANES);
        return NULL;
    }
    reader_object *self = (reader_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->slot_type = Py_NewRef(slot_type);
    self->on_close = on_close == Py_None ? NULL : Py_NewRef(on_close);
    self->before_read = before_read == Py_None ? NULL : Py_NewRef(before_read);
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(lanes); index++) {
        self->lane_count = index + 1;
        self->lanes[index].cursor.settled = settled;
        if (kobs_take_lane(&self->lanes[index], PyTuple_GET_ITEM(lanes, index)) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    }
    if (where != Py_None) {
        if (!PyArg_ParseTuple(where, "On:note", &memory, &offset)
            || (self->note = kobs_bytes_at(memory, &self->noted, PyBUF_WRITABLE, offset,
                                      8 * self->lane_count)) == NULL) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static int
reader_traverse(reader_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->slot_type);
    Py_VISIT(self->before_read);
    Py_VISIT(self->on_close);
    for (Py_ssize_t index = 0; index < self->lane_count; index++) {
        Py_VISIT(self->lanes[index].locate);
        Py_VISIT(self->lanes[index].oldest);
    }
    return 0;
}

/* What is cleared is what can be part of a cycle; what is needed to read stays until the end. */
static int
reader_clear(reader_object *self)
{
    Py_CLEAR(self->on_close);
    return 0;
}

static void
reader_dealloc(reader_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    for (Py_ssize_t index = 0; index < self->lane_count; index++) {
        kobs_reader_lane *lane = &self->lanes[index];
        Py_buffer *buffers[] = {&lane->head, &lane->fixed, &lane->found};
        for (size_t each = 0; each < sizeof(buffers) / sizeof(buffers[0]); each++) {
            if (buffers[each]->obj != NULL) {
                PyBuffer_Release(buffers[each]);
            }
        }
        Py_CLEAR(lane->locate);
        Py_CLEAR(lane->oldest);
        free(lane->cursor.copied);
    }
    if (self->noted.obj != NULL) {
        PyBuffer_Release(&self->noted);
    }
    Py_CLEAR(self->slot_type);
    Py_CLEAR(self->before_read);
    Py_CLEAR(self->on_close);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"read", (PyCFunction)(void (*)(void))reader_read, METH_FASTCALL | METH_KEYWORDS, read_doc},
    {"seek_oldest", (PyCFunction)reader_seek_oldest, METH_NOARGS, seek_oldest_doc},
    {"seek_end", (PyCFunction)reader_seek_end, METH_NOARGS, seek_end_doc},
    {"seek", (PyCFunction)reader_seek, METH_O, seek_doc},
    {"position", (PyCFunction)reader_position, METH_NOARGS, position_doc},
    {"pending", (PyCFunction)reader_pending, METH_NOARGS, pending_doc},
    {"close", (PyCFunction)reader_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"lost", (getter)reader_lost, NULL, "Events that this reader will never see, exact.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Reader(lanes, slot_type, *, settled, note, on_close, before_read)\n\n"
                "Cursors over lanes; see `contract.Reader`."},
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_dealloc},
    {Py_tp_traverse, reader_traverse},
    {Py_tp_clear, reader_clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, getters},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.Reader",
    .basicsize = sizeof(reader_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_reader_type(PyObject *module)
{
    return kobs_add_type(module, &spec);
}
