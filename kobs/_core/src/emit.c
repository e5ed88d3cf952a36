/* Emitting one event: what is not given is found out, the fields are written, the slot is
 * published. The Python twin is the function that kobs/emitters.py writes. */

#include "emitter.h"
#include "fields.h"

/* -- the ambient cause ----------------------------------------------------------------------- */

static int
number_at(PyObject *cause, bool plain, Py_ssize_t index, uint64_t *to)
{
    if (plain) {
        return kobs_unsigned(PyTuple_GET_ITEM(cause, index), UINT64_MAX, to);
    }
    /* A cause that is found out when it is asked for. */
    PyObject *item = PySequence_GetItem(cause, index);
    if (item == NULL) {
        return -1;
    }
    int done = kobs_unsigned(item, UINT64_MAX, to);
    Py_DECREF(item);
    return done;
}

/* What is not given, from the ambient cause; `*sampled`, what was decided of its chain, is a new
 * reference, or NULL where the event belongs to another chain. */
static int
fill_from_cause(const kobs_context *context, kobs_given *header, PyObject **sampled)
{
    PyObject *cause;

    *sampled = NULL;
    if (PyContextVar_Get(context->cause_var, NULL, &cause) < 0) {
        return -1;
    }
    if (cause == NULL || cause == Py_None) {
        Py_XDECREF(cause);
        return 0;
    }
    if (!PyTuple_Check(cause) || PyTuple_GET_SIZE(cause) < 4) {
        PyErr_Format(PyExc_TypeError, "the ambient cause is %R", cause);
        Py_DECREF(cause);
        return -1;
    }
    bool plain = (PyObject *)Py_TYPE(cause) == context->cause_type;
    unsigned given = header->given;
    int done = 0;
    if (!(given & GIVEN_CAUSALITY)) {
        done |= number_at(cause, plain, 0, &header->causality_id);
    }
    if (!(given & GIVEN_PARENT) && done == 0) {
        done |= number_at(cause, plain, 1, &header->parent);
    }
    if (!(given & GIVEN_SPAN) && done == 0) {
        done |= number_at(cause, plain, 2, &header->span_id);
    }
    uint64_t ambient = header->causality_id;
    if ((given & GIVEN_CAUSALITY) && done == 0) {
        done |= number_at(cause, plain, 0, &ambient);
    }
    if (ambient == header->causality_id) {
        *sampled = Py_NewRef(PyTuple_GET_ITEM(cause, 3));
    }
    Py_DECREF(cause);
    return done;
}

/* -- emitting -------------------------------------------------------------------------------- */

/* See `kobs_decide`. */
static int
decide(emitter_object *self, unsigned severity, unsigned category, uint64_t causality_id,
       PyObject *sampled)
{
    if (self->decides) {
        return kobs_decide(self->decide, severity, category, causality_id, sampled);
    }
    PyObject *answer = PyObject_CallFunction(self->decide, "IIKO", severity, category,
                                             (unsigned long long)causality_id,
                                             sampled == NULL ? Py_None : sampled);
    if (answer == NULL) {
        return KOBS_UNDECIDED;
    }
    long flags = PyLong_AsLong(answer);
    Py_DECREF(answer);
    return flags == -1 && PyErr_Occurred() ? KOBS_UNDECIDED : (int)flags;
}

static int
origin_id(emitter_object *self, uint32_t *to)
{
    PyObject *origin;

    *to = 0;
    if (!kobs_is_up(self->context.origin_used)) {
        return 0;
    }
    if (PyContextVar_Get(self->context.origin_var, NULL, &origin) < 0) {
        return -1;
    }
    if (origin == NULL) {
        return 0;
    }
    int64_t id = 0;
    if (!PyUnicode_Check(origin) || PyUnicode_GET_LENGTH(origin) != 0) {
        id = kobs_intern(self->ring, origin);
    }
    Py_DECREF(origin);
    *to = (uint32_t)id;
    return id < 0 ? -1 : 0;
}

/* The string that an entry in the in-flight table is known by. */
static int
scope_name(emitter_object *self, PyObject *const *fields, uint32_t *to)
{
    int64_t id = 0;

    if (self->scope_name >= 0 && PyUnicode_CheckExact(fields[self->scope_name])) {
        id = kobs_intern(self->ring, fields[self->scope_name]);
    }
    else if (self->scope_name >= 0) {
        PyObject *text = PyObject_Str(fields[self->scope_name]);
        id = text == NULL ? -1 : kobs_intern(self->ring, text);
        Py_XDECREF(text);
    }
    *to = (uint32_t)id;
    return id < 0 ? -1 : 0;
}

static int
analyse(emitter_object *self, PyObject *const *fields, const uint8_t *payload, uint64_t event)
{
    if (self->analyses) {
        double duration_us;
        memcpy(&duration_us, payload + self->fields[self->duration_field].offset, 8);
        return kobs_analyse(self->analyse,
                            self->name_field < 0 ? NULL : fields[self->name_field], duration_us,
                            event);
    }
    PyObject *id = PyLong_FromUnsignedLongLong(event);
    PyObject *name = self->name_field < 0 ? NULL : fields[self->name_field];
    PyObject *empty = name == NULL ? PyUnicode_New(0, 0) : NULL;
    PyObject *done = NULL;

    if (id != NULL && (name != NULL || empty != NULL)) {
        done = PyObject_CallFunctionObjArgs(self->analyse, name != NULL ? name : empty,
                                            fields[self->duration_field], id, NULL);
    }
    Py_XDECREF(id);
    Py_XDECREF(empty);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Whether a field that was refused is told of after the others: Python packs all the numbers at the
 * end, when names have got their places already. */
static bool
put_off(const kobs_field *field, kobs_given *given)
{
    if (field->kind > KIND_FLOAT
        || !(PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError)
             || PyErr_ExceptionMatches(PyExc_OverflowError))) {
        return false;
    }
    PyErr_Clear();
    given->given |= GIVEN_BAD;
    return true;
}

/* Whether the event has a name that is hidden, and is counted as such: 1, 0, -1 with an exception.
 * A closed ring hides nothing: it refuses. */
static int
is_hidden(emitter_object *self, PyObject *const *fields, unsigned category)
{
    PyObject *name = self->hide_field < 0 ? Py_None : fields[self->hide_field];
    kobs_ring *ring = &self->ring->ring;

    if (atomic_load_explicit(&ring->closed, memory_order_relaxed)) {
        return 0;
    }
    PyObject *answer = NULL;
    if (PyUnicode_CheckExact(name) && kobs_dict_item(self->hidden, name, &answer) < 0) {
        return -1;
    }
    if (answer == NULL) {
        KOBS_UNSEEN
        answer = PyObject_CallOneArg(self->hides, name);
        KOBS_SEEN
    }
    int hidden = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (hidden > 0) {
        kobs_leave_out(&ring->counters->filtered, ring->counters->filtered_by_category, category);
    }
    return hidden;
}

int
kobs_emit(emitter_object *self, PyObject *const *fields, kobs_given *given, uint64_t *event,
          int64_t *entry)
{
    PyObject *sampled;
    kobs_body body;

    *event = 0;
    *entry = -1;
    sampled = NULL;
    if (self->hides != NULL) {
        unsigned category = given->given & GIVEN_CATEGORY ? given->category : self->level >> 4u;
        int hidden = is_hidden(self, fields, category & (KOBS_CATEGORIES - 1));
        if (hidden != 0) {
            return hidden < 0 ? -1 : 0;
        }
    }
    bool gated = kobs_is_up(self->gate);
    if (given->given & GIVEN_SAMPLED) { /* and the cause: they come together */
        sampled = Py_NewRef(given->sampled);
    }
    else if ((gated || (given->given & GIVEN_CAUSE) != GIVEN_CAUSE)
        && fill_from_cause(&self->context, given, &sampled) < 0) {
        Py_XDECREF(sampled);
        return -1;
    }
    unsigned level = self->level, lane = self->lane;
    if (given->given & (GIVEN_SEVERITY | GIVEN_CATEGORY)) {
        unsigned severity = given->given & GIVEN_SEVERITY ? given->severity : level & 15;
        unsigned category = given->given & GIVEN_CATEGORY ? given->category : level >> 4;
        lane = severity >= KOBS_WARN ? KOBS_PRIORITY_LANE : self->keep;
        level = severity | category << 4;
    }
    uint8_t flags = given->flags;
    if (gated) {
        int more = decide(self, level & 15, level >> 4, given->causality_id, sampled);
        if (more == KOBS_THINNED && self->begins) {
            lane = KOBS_NO_LANE;
        }
        else if (more < 0) {
            Py_XDECREF(sampled);
            return more == KOBS_UNDECIDED ? -1 : 0;
        }
        else {
            flags |= (uint8_t)more;
        }
    }
    Py_XDECREF(sampled);

    body.words[(self->body_size - 1) / 8] = 0; /* is published whole, and has more than fields */
    if (origin_id(self, &body.origin) < 0) {
        return -1;
    }
    for (Py_ssize_t index = 0; index < self->field_count; index++) {
        if (given->json != NULL && self->fields[index].kind == KIND_JSON) {
            memcpy(body.payload + self->fields[index].offset, given->json,
                   self->fields[index].size + 1u);
            continue;
        }
        if (kobs_field_write(&self->fields[index], fields[index], self->ring, body.payload, &flags)
                < 0
            && !put_off(&self->fields[index], given)) {
            return -1;
        }
    }
    if (given->given & GIVEN_BAD) {
        PyErr_SetString(PyExc_ValueError, "a value does not fit"); /* `explain` says which */
        return -1;
    }
    body.causality_id = given->causality_id;
    body.parent = given->parent;
    body.span_id = given->span_id;
    body.link = given->link;
    body.pid = given->given & GIVEN_PID ? given->pid : self->pid;
    body.tid = given->given & GIVEN_TID ? given->tid : kobs_thread_id();
    body.type_id = self->type_id;
    body.severity_category = (uint8_t)level;
    body.flags = flags;
    body.timestamp_ns = given->given & GIVEN_TIME ? given->timestamp_ns : kobs_now();
    if (self->begins) {
        uint32_t name;
        if (scope_name(self, fields, &name) < 0) {
            return -1;
        }
        *event = self->ring->locate == NULL
            ? kobs_publish_begin(&self->ring->ring, lane, &body, self->body_size, name, entry)
            : kobs_ring_begin(self->ring, lane, &body, self->body_size, name, entry);
    }
    else {
        *event = self->ring->locate == NULL
            ? kobs_publish(&self->ring->ring, lane, &body, self->body_size)
            : kobs_ring_publish(self->ring, lane, &body, self->body_size);
    }
    if (kobs_raised(self->ring)) {
        kobs_close_entry(&self->ring->ring, *entry);
        return -1;
    }
    if (self->analyse != NULL && *event != 0) {
        return analyse(self, fields, body.payload, *event);
    }
    return 0;
}
