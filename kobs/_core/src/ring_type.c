/* `Ring`: a ring in a buffer, for producers. */

#include "core.h"

enum { PLACES_KEPT = 8 };

/* A segment that producers write to, or may still be on their way to. */
typedef struct ring_place {
    struct ring_place *next;
    kobs_place place;
    Py_buffer memory;
} ring_place;

/* After a call in the midst of publishing. What it raised (a signal handler may) is left to be
 * raised by whoever publishes, unless that one has an exception in hand already. */
static void
leave(PyObject *called, PyObject *type, PyObject *error, PyObject *traceback)
{
    if (type != NULL) {
        if (PyErr_Occurred()) {
            PyErr_WriteUnraisable(called);
        }
        PyErr_Restore(type, error, traceback);
    }
}

static const kobs_place *
locate(kobs_ring *ring, unsigned lane, int64_t half)
{
    ring_object *self = ring->owner;
    const kobs_place *found = NULL;
    PyObject *error_type, *error, *traceback;

    PyErr_Fetch(&error_type, &error, &traceback);
    PyObject *mapped;
    KOBS_UNSEEN
    mapped = PyObject_CallFunction(self->locate, "IL", lane, (long long)half);
    KOBS_SEEN
    ring_place *made = NULL;
    if (mapped != NULL && mapped != Py_None && (made = PyMem_Calloc(1, sizeof(*made))) != NULL) {
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(mapped, 1), &made->memory, PyBUF_WRITABLE) < 0) {
            PyMem_Free(made);
        }
        else {
            size_t offset = (size_t)((uint8_t *)ring->first[lane].slots - ring->memory);
            made->place.half = half;
            made->place.slots = (kobs_slot *)((uint8_t *)made->memory.buf + offset);
            made->next = self->places;
            self->places = made;
            atomic_store_explicit(&ring->lanes[lane].place, &made->place, memory_order_release);
            found = &made->place;
        }
    }
    Py_XDECREF(mapped);
    leave(self->locate, error_type, error, traceback);
    return found;
}

static void
look_ahead(kobs_ring *ring)
{
    ring_object *self = ring->owner;
    PyObject *error_type, *error, *traceback;

    PyErr_Fetch(&error_type, &error, &traceback);
    KOBS_UNSEEN
    Py_XDECREF(PyObject_CallNoArgs(self->look_ahead));
    KOBS_SEEN
    leave(self->look_ahead, error_type, error, traceback);
}

/* Let go of the segments that no producer writes to, or can be on its way to any more: all but the
 * newest `keep` and those that a lane is at. */
static void
drop_places(ring_object *self, int keep)
{
    bool all = keep == 0;
    ring_place **link = &self->places;

    while (*link != NULL) {
        ring_place *place = *link;
        bool used = false;
        for (unsigned lane = 0; lane < KOBS_LANES && !all; lane++) {
            used |= atomic_load(&self->ring.lanes[lane].place) == &place->place;
        }
        if (keep > 0) {
            keep--;
            used = true;
        }
        if (used) {
            link = &place->next;
            continue;
        }
        *link = place->next;
        PyBuffer_Release(&place->memory);
        PyMem_Free(place);
    }
}

uint64_t
kobs_ring_publish(ring_object *self, unsigned lane, const kobs_body *body, size_t size)
{
    uint64_t event;

    Py_INCREF(self);
    KOBS_LOCK((PyObject *)self)
    event = kobs_publish(&self->ring, lane, body, size);
    KOBS_UNLOCK()
    Py_DECREF(self);
    return event;
}

uint64_t
kobs_ring_begin(ring_object *self, unsigned lane, const kobs_body *body, size_t size, uint32_t name,
                int64_t *entry)
{
    uint64_t event;

    Py_INCREF(self);
    KOBS_LOCK((PyObject *)self)
    event = kobs_publish_begin(&self->ring, lane, body, size, name, entry);
    KOBS_UNLOCK()
    Py_DECREF(self);
    return event;
}

static int64_t
intern_anew(ring_object *self, PyObject *text)
{
    if (!PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "expected a str, got %s", Py_TYPE(text)->tp_name);
        return -1;
    }
    PyObject *known;
    if (kobs_dict_item(self->string_ids, text, &known) < 0) {
        return -1;
    }
    if (known == NULL) {
        KOBS_UNSEEN
        known = PyObject_CallOneArg(self->intern_new, text);
        KOBS_SEEN
    }
    if (known == NULL) {
        return -1;
    }
    int64_t id = (int64_t)PyLong_AsUnsignedLong(known);
    Py_DECREF(known);
#if !KOBS_FREE_THREADED
    /* What is known stays known. A string that is short enough not to matter is kept alive. */
    if (id > 0 && PyUnicode_CheckExact(text) && PyUnicode_GET_LENGTH(text) < 1024) {
        size_t at = ((uintptr_t)text >> 4) % KOBS_RECENT;
        Py_XSETREF(self->recent[at].text, Py_NewRef(text));
        self->recent[at].id = (uint32_t)id;
    }
#endif
    return id;
}

int64_t
kobs_intern_anew(ring_object *self, PyObject *text)
{
    Py_INCREF(self); /* a fork in there gives whoever asks another ring */
    int64_t id = intern_anew(self, text);
    Py_DECREF(self);
    return id;
}

static PyObject *
ring_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *memory, *string_ids, *intern_new, *find, *look, *doorbell = Py_None;
    Py_buffer header;
    unsigned long long first_ticket;

    if (!PyArg_ParseTuple(args, "Oy*KO!OOO|O:Ring", &memory, &header, &first_ticket, &PyDict_Type,
                          &string_ids, &intern_new, &find, &look, &doorbell)) {
        return NULL;
    }
    ring_object *self = NULL;
    if (header.len != sizeof(kobs_header)) {
        PyErr_Format(PyExc_ValueError, "a header of %zd bytes; expected %zu", header.len,
                     sizeof(kobs_header));
    }
    else {
        self = (ring_object *)type->tp_alloc(type, 0);
    }
    if (self != NULL && PyObject_GetBuffer(memory, &self->memory, PyBUF_WRITABLE) < 0) {
        Py_CLEAR(self);
    }
    if (self != NULL && doorbell != Py_None) {
        if (PyObject_GetBuffer(doorbell, &self->doorbell, PyBUF_WRITABLE) < 0) {
            Py_CLEAR(self);
        }
        else if ((size_t)self->doorbell.len < sizeof(kobs_doorbell)) {
            PyErr_SetString(PyExc_ValueError, "a doorbell of too few bytes");
            Py_CLEAR(self);
        }
    }
    if (self != NULL) {
        const kobs_header *info = header.buf;
        if ((uint64_t)self->memory.len < info->total_size) {
            PyErr_Format(PyExc_ValueError, "%zd bytes of memory; the header says %llu",
                         self->memory.len, (unsigned long long)info->total_size);
            Py_CLEAR(self);
        }
        else {
            kobs_ring_init(&self->ring, self->memory.buf, info, first_ticket);
            self->ring.owner = self;
            if (self->doorbell.obj != NULL) {
                self->ring.doorbell = self->doorbell.buf;
            }
            self->ring.locate = find == Py_None ? NULL : locate;
            self->string_ids = Py_NewRef(string_ids);
            self->intern_new = Py_NewRef(intern_new);
            self->ring.look_ahead = look_ahead;
            self->locate = find == Py_None ? NULL : Py_NewRef(find);
            self->look_ahead = Py_NewRef(look);
        }
    }
    PyBuffer_Release(&header);
    return (PyObject *)self;
}

static int
ring_traverse(ring_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->string_ids);
    Py_VISIT(self->intern_new);
    Py_VISIT(self->locate);
    Py_VISIT(self->look_ahead);
    return 0;
}

/* The memory stays until the end: whoever is left of a cycle may still emit. */
static int
ring_clear(ring_object *Py_UNUSED(self))
{
    return 0;
}

static void
ring_dealloc(ring_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    drop_places(self, 0);
#if !KOBS_FREE_THREADED
    for (size_t at = 0; at < KOBS_RECENT; at++) {
        Py_CLEAR(self->recent[at].text);
    }
#endif
    Py_CLEAR(self->string_ids);
    Py_CLEAR(self->intern_new);
    Py_CLEAR(self->locate);
    Py_CLEAR(self->look_ahead);
    if (self->memory.obj != NULL) {
        PyBuffer_Release(&self->memory);
    }
    if (self->doorbell.obj != NULL) {
        PyBuffer_Release(&self->doorbell);
    }
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* A lane and a packed body as a caller gives them; 0, or -1 with an exception set. */
static int
take_body(PyObject *packed, kobs_body *body, size_t *size)
{
    if (!PyBytes_Check(packed) || PyBytes_GET_SIZE(packed) < KOBS_BODY_HEADER
        || PyBytes_GET_SIZE(packed) > KOBS_BODY_SIZE) {
        PyErr_SetString(PyExc_TypeError, "expected a slot's bytes after its stamp");
        return -1;
    }
    *size = (size_t)PyBytes_GET_SIZE(packed);
    memcpy(body, PyBytes_AS_STRING(packed), *size);
    return 0;
}

PyDoc_STRVAR(publish_doc, "publish(lane, body) -> event id\n\n"
                          "Write header words 1 to 7 and a payload, packed; 0 if it was lost.");

static PyObject *
ring_publish(ring_object *self, PyObject *const *args, Py_ssize_t count)
{
    kobs_body body = {0};
    uint64_t lane;
    size_t size;

    if (count != 2) {
        PyErr_Format(PyExc_TypeError, "publish() takes 2 arguments, got %zd", count);
        return NULL;
    }
    if (kobs_unsigned(args[0], KOBS_LANES - 1, &lane) < 0 || take_body(args[1], &body, &size) < 0) {
        return NULL;
    }
    uint64_t event = self->locate == NULL
        ? kobs_publish(&self->ring, (unsigned)lane, &body, size)
        : kobs_ring_publish(self, (unsigned)lane, &body, size);
    return kobs_raised(self) ? NULL : PyLong_FromUnsignedLongLong(event);
}

PyDoc_STRVAR(begin_doc, "begin(name, lane, body) -> (event id, entry)\n\n"
                        "As publish, after entering it in the in-flight table.");

static PyObject *
ring_begin(ring_object *self, PyObject *const *args, Py_ssize_t count)
{
    kobs_body body = {0};
    size_t size;
    uint64_t name, lane;
    int64_t entry;

    if (count != 3) {
        PyErr_Format(PyExc_TypeError, "begin() takes 3 arguments, got %zd", count);
        return NULL;
    }
    if (kobs_unsigned(args[0], UINT32_MAX, &name) < 0
        || kobs_unsigned(args[1], KOBS_NO_LANE, &lane) < 0 || take_body(args[2], &body, &size) < 0) {
        return NULL;
    }
    if (lane >= KOBS_LANES && lane != KOBS_NO_LANE) {
        PyErr_Format(PyExc_ValueError, "no lane %llu", (unsigned long long)lane);
        return NULL;
    }
    uint64_t event = self->locate == NULL
        ? kobs_publish_begin(&self->ring, (unsigned)lane, &body, size, (uint32_t)name, &entry)
        : kobs_ring_begin(self, (unsigned)lane, &body, size, (uint32_t)name, &entry);
    if (kobs_raised(self)) {
        kobs_close_entry(&self->ring, entry);
        return NULL;
    }
    return Py_BuildValue("KL", (unsigned long long)event, (long long)entry);
}

PyDoc_STRVAR(intern_doc, "intern(text) -> id\n\nThe id of a string; 0 if the region is full.");

static PyObject *
ring_intern(ring_object *self, PyObject *text)
{
    int64_t id = kobs_intern(self, text);

    return id < 0 ? NULL : PyLong_FromLongLong(id);
}

PyDoc_STRVAR(close_entry_doc, "close_entry(entry)\n\nFree an entry; what is none of this process's is "
                              "ignored.");

static PyObject *
ring_close_entry(ring_object *self, PyObject *entry)
{
    long long which = PyLong_AsLongLong(entry);

    if (which == -1 && PyErr_Occurred()) {
        return NULL;
    }
    kobs_close_entry(&self->ring, which);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(add_doc, "add(offset, by)\n\nAdd to the loss count at an offset of the memory.");

static PyObject *
ring_add(ring_object *self, PyObject *args)
{
    Py_ssize_t offset;
    unsigned long long by;

    if (!PyArg_ParseTuple(args, "nK:add", &offset, &by)) {
        return NULL;
    }
    if (offset < KOBS_PAGE || offset >= 2 * KOBS_PAGE || offset % 8) {
        PyErr_Format(PyExc_ValueError, "no count at offset %zd", offset);
        return NULL;
    }
    if (!atomic_load_explicit(&self->ring.closed, memory_order_relaxed)) {
        kobs_add((kobs_count *)(self->ring.memory + offset), by);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(head_doc, "head(lane) -> ticket\n\nOne past the newest ticket.");

static PyObject *
ring_head(ring_object *self, PyObject *lane)
{
    long number = PyLong_AsLong(lane);

    if (number < 0 || number >= KOBS_LANES) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_ValueError, "no lane %ld", number);
        }
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(kobs_head(&self->ring, (unsigned)number));
}

PyDoc_STRVAR(forget_doc, "forget()\n\nLook anew what producers may take, and which segments they "
                         "write to.");

static PyObject *
ring_forget(ring_object *self, PyObject *Py_UNUSED(none))
{
    for (unsigned lane = 0; lane < KOBS_LANES; lane++) {
        kobs_forget_limit(&self->ring, lane);
    }
    KOBS_LOCK((PyObject *)self)
    drop_places(self, PLACES_KEPT);
    KOBS_UNLOCK()
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stop_doc, "stop()\n\nPublish and count nothing any more.");

static PyObject *
ring_stop(ring_object *self, PyObject *Py_UNUSED(none))
{
    atomic_store_explicit(&self->ring.closed, true, memory_order_release);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"publish", (PyCFunction)(void (*)(void))ring_publish, METH_FASTCALL, publish_doc},
    {"intern", (PyCFunction)ring_intern, METH_O, intern_doc},
    {"begin", (PyCFunction)(void (*)(void))ring_begin, METH_FASTCALL, begin_doc},
    {"close_entry", (PyCFunction)ring_close_entry, METH_O, close_entry_doc},
    {"add", (PyCFunction)ring_add, METH_VARARGS, add_doc},
    {"head", (PyCFunction)ring_head, METH_O, head_doc},
    {"forget", (PyCFunction)ring_forget, METH_NOARGS, forget_doc},
    {"stop", (PyCFunction)ring_stop, METH_NOARGS, stop_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ring_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Ring(memory, header, first_ticket, string_ids, intern_new, locate, look_ahead, "
                "doorbell=None)\n\nA ring in a buffer, for producers."},
    {Py_tp_new, ring_new},
    {Py_tp_dealloc, ring_dealloc},
    {Py_tp_traverse, ring_traverse},
    {Py_tp_clear, ring_clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.Ring",
    .basicsize = sizeof(ring_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_ring_type(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->ring_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->ring_type == NULL ? -1 : PyModule_AddType(module, state->ring_type);
}
