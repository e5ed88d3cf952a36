/* The life of a span: its begin, its end, and the ambient cause between them. */

#include "span.h"

#include "ids.h"

/* -- what both ends need --------------------------------------------------------------------- */

static int
take_pid(span_object *self, kobs_given *header)
{
    uint64_t number;

    header->category = self->category_number;
    if (self->pid != Py_None) {
        if (kobs_unsigned(self->pid, UINT32_MAX, &number) < 0) {
            return -1;
        }
        header->pid = (uint32_t)number;
        header->given |= GIVEN_PID;
    }
    return 0;
}

/* A mistake inside kobs: counted, logged once, never the program's. */
static void
tell_mistake(span_object *self, PyObject *collector)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *done = PyObject_CallMethod((PyObject *)self, "_mistake", "OO", collector,
                                         error == NULL ? Py_None : error);
    if (done == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(done);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

static int
set_cause(span_state *state, PyObject *cause)
{
    PyObject *token = PyContextVar_Set(state->cause_var, cause);

    Py_XDECREF(token);
    return token == NULL ? -1 : 0;
}

/* -- the begin ------------------------------------------------------------------------------- */

/* The chain that a span begins in. Objects are new references. */
typedef struct {
    uint64_t causality_id, parent, parent_span;
    PyObject *causality, *parent_number, *span, *sampled, *high;
} place;

static void
leave_place(place *at)
{
    Py_XDECREF(at->causality);
    Py_XDECREF(at->parent_number);
    Py_XDECREF(at->span);
    Py_XDECREF(at->sampled);
    Py_XDECREF(at->high);
}

/* Where a span under `outer` begins: 1, or 0 where Python is to find out, or -1. */
static int
find_place(span_state *state, PyObject *outer, place *at)
{
    *at = (place){0};
    if (outer == Py_None) {
        PyObject *other = PyDict_GetItemWithError(state->modules, state->opentelemetry);
        if (other != NULL || PyErr_Occurred()) {
            return other != NULL ? 0 : -1;
        }
        at->causality_id = kobs_mint_id();
        at->causality = PyLong_FromUnsignedLongLong(at->causality_id);
        at->span = Py_NewRef(state->zero);
        at->sampled = Py_NewRef(Py_True);
        at->high = Py_NewRef(state->trace_high);
        return at->causality == NULL ? -1 : 1;
    }
    if ((PyObject *)Py_TYPE(outer) != state->cause_type || PyTuple_GET_SIZE(outer) != 6
        || PyTuple_GET_ITEM(outer, 5) != Py_True) {
        return 0;
    }
    at->causality = Py_NewRef(PyTuple_GET_ITEM(outer, 0));
    at->parent_number = Py_NewRef(PyTuple_GET_ITEM(outer, 1));
    at->span = Py_NewRef(PyTuple_GET_ITEM(outer, 2));
    at->sampled = Py_NewRef(PyTuple_GET_ITEM(outer, 3));
    at->high = Py_NewRef(PyTuple_GET_ITEM(outer, 4));
    uint64_t high;
    if (kobs_unsigned(at->causality, UINT64_MAX, &at->causality_id) < 0
        || kobs_unsigned(at->parent_number, UINT64_MAX, &at->parent) < 0
        || kobs_unsigned(at->span, UINT64_MAX, &at->parent_span) < 0
        || kobs_unsigned(at->high, UINT64_MAX, &high) < 0) {
        return -1;
    }
    if (high == 0) {
        Py_SETREF(at->high, Py_NewRef(state->trace_high));
    }
    return at->causality_id != 0;
}

/* Record the begin; what goes wrong is not the program's. */
static void
record_begin(span_object *self, span_state *state, const place *at, uint64_t span_id)
{
    PyObject *fields[] = {self->name, self->kind, at->span};
    kobs_given header = {
        .given = GIVEN_CAUSE | GIVEN_TIME | GIVEN_CATEGORY,
        .causality_id = at->causality_id,
        .parent = at->parent,
        .span_id = span_id,
        .timestamp_ns = self->began_ns,
        .flags = KOBS_FLAG_BEGIN,
    };
    uint64_t event = 0;
    int64_t entry = -1;
    /* Others may become those of the module meanwhile. The collector holds the emitter. */
    emitter_object *began = state->began;
    PyObject *collector = Py_NewRef(state->collector);

    if (take_pid(self, &header) < 0
        || kobs_emit(began, fields, &header, &event, &entry) < 0) {
        Py_CLEAR(self->collector);
        tell_mistake(self, collector);
        Py_DECREF(collector);
        return;
    }
    self->event = event;
    self->entry = entry;
    if ((event != 0 || entry >= 0) && kobs_intern(began->ring, self->name) == 0) {
        /* No room for strings: the name goes on as text. */
        PyObject *done = PyObject_CallMethod((PyObject *)self, "record", "sO", "kobs.span.name",
                                             self->name);
        if (done == NULL) {
            tell_mistake(self, collector);
        }
        Py_XDECREF(done);
    }
    Py_DECREF(collector);
}

/* 1 if the span has begun, 0 where Python is to begin it, -1 with an exception set. */
static int
begin(span_object *self)
{
    span_state *state = kobs_state_of_span(self);
    PyObject *outer = NULL, *own = NULL, *number = NULL;
    place at = {0};

    if (self->began_ns != 0 || self->cause != NULL || self->category_number == NOT_KNOWN
        || state->collector == NULL
        || (self->given != Py_None && self->given != state->collector)
        || PyList_GET_ITEM(state->gate, 0) != Py_False) {
        return 0;
    }
    if (PyContextVar_Get(state->cause_var, Py_None, &outer) < 0) {
        return -1;
    }
    int done = find_place(state, outer, &at);
    if (done != 1) {
        goto leave;
    }
    done = -1;
    uint64_t span_id = kobs_mint_id();
    number = PyLong_FromUnsignedLongLong(span_id);
    own = ((PyTypeObject *)state->cause_type)->tp_alloc((PyTypeObject *)state->cause_type, 6);
    if (number == NULL || own == NULL) {
        goto leave;
    }
    self->began_ns = kobs_now();
    self->collector = Py_NewRef(state->collector);
    record_begin(self, state, &at, span_id);
    if (self->event != 0 || at.parent_number == NULL) {
        Py_XSETREF(at.parent_number, self->event != 0 ? PyLong_FromUnsignedLongLong(self->event)
                                                      : Py_NewRef(state->zero));
        if (at.parent_number == NULL) {
            goto leave;
        }
    }
    PyTuple_SET_ITEM(own, 0, Py_NewRef(at.causality));
    PyTuple_SET_ITEM(own, 1, Py_NewRef(at.parent_number));
    PyTuple_SET_ITEM(own, 2, Py_NewRef(number));
    PyTuple_SET_ITEM(own, 3, Py_NewRef(at.sampled));
    PyTuple_SET_ITEM(own, 4, Py_NewRef(at.high));
    PyTuple_SET_ITEM(own, 5, Py_NewRef(Py_True));
    if (set_cause(state, own) < 0 || PyDict_SetItem(state->open_spans, number, (PyObject *)self) < 0) {
        goto leave;
    }
    self->causality_id = at.causality_id;
    self->span_id = span_id;
    self->cause = Py_NewRef(own);
    self->previous = Py_NewRef(outer);
    done = 1;
leave:
    leave_place(&at);
    Py_XDECREF(outer);
    Py_XDECREF(own);
    Py_XDECREF(number);
    return done;
}

PyObject *
kobs_span_enter(span_object *self, PyObject *Py_UNUSED(none))
{
    int done = begin(self);

    if (done > 0) {
        return Py_NewRef(self);
    }
    if (done < 0) {
        return NULL;
    }
    return PyObject_CallMethodNoArgs((PyObject *)self, kobs_state_of_span(self)->enter);
}

/* -- the end --------------------------------------------------------------------------------- */

/* Microseconds from which on a span is slow; negative with an exception set. */
static double
slow_us(span_object *self, span_state *state)
{
    PyObject *threshold = self->slow_ms;

    if (threshold == Py_None) {
        threshold = PyDict_GetItemWithError(state->slow_ms, self->category);
        if (threshold == NULL) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_KeyError, "a span of no known category");
            }
            return -1.0;
        }
    }
    double limit = PyFloat_AsDouble(threshold);
    return limit == -1.0 && PyErr_Occurred() ? -1.0 : limit * 1000.0;
}

static int
record_end(span_object *self, span_state *state, const uint8_t *attributes, uint64_t ended_ns,
           double duration_us)
{
    PyObject *fields[] = {self->name, self->duration_us, self->status, state->nothing};
    kobs_given header = {
        .given = GIVEN_CAUSE | GIVEN_TIME | GIVEN_CATEGORY,
        .causality_id = self->causality_id,
        .parent = self->event,
        .span_id = self->span_id,
        .timestamp_ns = ended_ns,
        .flags = KOBS_FLAG_END,
        .json = attributes,
    };
    uint64_t event;
    int64_t none;
    emitter_object *ended = state->ended; /* the span's collector holds it */

    if (take_pid(self, &header) < 0) {
        return -1;
    }
    if (self->entry >= 0) {
        kobs_close_entry(&ended->ring->ring, self->entry);
    }
    if (kobs_emit(ended, fields, &header, &event, &none) < 0) {
        return -1;
    }
    double limit = slow_us(self, state);
    if (limit < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (duration_us >= limit) {
        PyObject *told = PyObject_CallMethod((PyObject *)self, "_tell_slow", "OOKdd",
                                             self->collector, self->cause,
                                             (unsigned long long)ended_ns, duration_us / 1000.0,
                                             limit / 1000.0);
        Py_XDECREF(told);
        return told == NULL ? -1 : 0;
    }
    return 0;
}

/* The cause is what it was outside, unless something else has become the cause since. */
static int
restore_cause(span_object *self, span_state *state)
{
    PyObject *now;

    if (PyContextVar_Get(state->cause_var, Py_None, &now) < 0) {
        return -1;
    }
    int own = now == self->cause;
    if (!own && PyTuple_Check(now) && PyTuple_GET_SIZE(now) > 2) {
        own = PyObject_RichCompareBool(PyTuple_GET_ITEM(now, 2), PyTuple_GET_ITEM(self->cause, 2),
                                       Py_EQ);
    }
    Py_DECREF(now);
    if (own > 0) {
        own = set_cause(state, self->previous == NULL ? Py_None : self->previous);
    }
    return own < 0 ? -1 : 0;
}

/* 1 if the span has ended, 0 where Python is to end it, -1 with an exception set. */
static int
end(span_object *self, PyObject *error)
{
    span_state *state = kobs_state_of_span(self);
    uint8_t attributes[INLINE_ATTRIBUTES + 1];

    if (self->began_ns == 0 || self->cause == NULL || error != Py_None || self->collector == NULL
        || self->collector != state->collector || self->entry == LEFT_OUT || self->span_id == 0
        || !PyTuple_Check(self->cause) || PyTuple_GET_SIZE(self->cause) != 6
        || PyList_GET_ITEM(state->gate, 0) != Py_False) {
        return 0;
    }
    bool any = self->attributes != NULL && self->attributes != Py_None;
    if (!kobs_json_write(any ? self->attributes : state->nothing, INLINE_ATTRIBUTES, attributes)) {
        return 0;
    }
    uint64_t ended_ns = kobs_now();
    double duration_us = (double)(int64_t)(ended_ns - self->began_ns) / 1000.0;
    Py_XSETREF(self->duration_us, PyFloat_FromDouble(duration_us));
    if (self->duration_us == NULL) {
        return -1;
    }
    if (record_end(self, state, attributes, ended_ns, duration_us) < 0) {
        tell_mistake(self, state->collector);
    }
    self->began_ns = 0;
    if (PyDict_DelItem(state->open_spans, PyTuple_GET_ITEM(self->cause, 2)) < 0) {
        PyErr_Clear(); /* somebody else took it out */
    }
    if (restore_cause(self, state) < 0) {
        return -1;
    }
    Py_CLEAR(self->previous);
    return 1;
}

PyObject *
kobs_span_exit(span_object *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_Format(PyExc_TypeError, "__exit__() takes 3 arguments, got %zd", count);
        return NULL;
    }
    int done = end(self, args[1]);
    if (done > 0) {
        Py_RETURN_NONE;
    }
    if (done < 0) {
        return NULL;
    }
    PyObject *with_self[] = {(PyObject *)self, args[0], args[1], args[2]};
    return PyObject_VectorcallMethod(kobs_state_of_span(self)->exit, with_self, 4, NULL);
}
