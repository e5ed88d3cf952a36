/* How a span ends: its event, and what is current from then on. */

#include "span.h"

/* Microseconds from which on a span is slow. 0, or -1 with an exception set. */
static int
slow_us(span_object *self, span_state *state, double *limit)
{
    PyObject *given = kobs_span_hold(self, &self->slow_ms);
    double milliseconds = given != Py_None && given != NULL ? PyFloat_AsDouble(given) : 0.0;
    bool asked = given != Py_None && given != NULL;

    kobs_span_let_go(given);
    if (asked) {
        if (milliseconds == -1.0 && PyErr_Occurred()) {
            return -1;
        }
    }
    else if (self->category_number < state->slow_ms.len / (Py_ssize_t)sizeof(double)) {
        milliseconds = ((const double *)state->slow_ms.buf)[self->category_number];
    }
    else {
        PyErr_SetString(PyExc_IndexError, "a span of no known category");
        return -1;
    }
    *limit = milliseconds * 1000.0;
    return 0;
}

/* A new reference to a float of this value. Most are dropped at once: then the same object is used
 * for the next one. */
static PyObject *
make_duration(span_state *state, double value)
{
#if !KOBS_FREE_THREADED
    PyObject *kept = state->duration;

    if (kept != NULL && Py_REFCNT(kept) == 1) {
        ((PyFloatObject *)kept)->ob_fval = value;
        return Py_NewRef(kept);
    }
    kept = PyFloat_FromDouble(value);
    Py_XSETREF(state->duration, Py_XNewRef(kept));
    return kept;
#else
    (void)state;
    return PyFloat_FromDouble(value);
#endif
}

static int
record_end(span_object *self, const span_wires *wires, PyObject *name, PyObject *status,
           const uint8_t *attributes, uint64_t ended_ns)
{
    span_state *state = self->state;
    PyObject *fields[] = {name, NULL, status, state->nothing};
    kobs_given header = {
        .given = GIVEN_CAUSE | GIVEN_TIME | GIVEN_CATEGORY,
        .causality_id = self->causality_id,
        .parent = self->event,
        .span_id = self->span_id,
        .timestamp_ns = ended_ns,
        .flags = KOBS_FLAG_END,
        .json = attributes,
    };
    double limit, duration_us = self->ended_after_us;
    uint64_t event;
    int64_t none;
    emitter_object *ended = wires->ended; /* the span's collector holds it */

    if (kobs_span_take_pid(self, &header) < 0) {
        return -1;
    }
    if (self->entry >= 0) {
        kobs_close_entry(&ended->ring->ring, self->entry);
    }
    if ((fields[1] = make_duration(state, duration_us)) == NULL) {
        return -1;
    }
    int done = kobs_emit(ended, fields, &header, &event, &none);
    Py_DECREF(fields[1]);
    if (done < 0 || slow_us(self, state, &limit) < 0) {
        return -1;
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

/* What the cause was outside: by the token, or by value where the context is another one by now. */
static int
put_back(span_object *self, span_state *state)
{
    PyObject *token;

    KOBS_LOCK(self)
    token = self->token;
    self->token = NULL;
    KOBS_UNLOCK()
    if (token != NULL) {
        int done = PyContextVar_Reset(state->cause_var, token);
        Py_DECREF(token);
        if (done == 0) {
            return 0;
        }
        PyErr_Clear();
    }
    return kobs_span_set_cause(state, self->previous == NULL ? Py_None : self->previous);
}

int
kobs_span_restore_cause(span_object *self, span_state *state)
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
        own = put_back(self, state);
    }
    return own < 0 ? -1 : 0;
}

int
kobs_span_end_wired(span_object *self, const span_wires *wires, PyObject *name, PyObject *status,
          bool anyway)
{
    uint8_t attributes[INLINE_ATTRIBUTES + 1];

    if (name == NULL || status == NULL) {
        return 0;
    }
    if (!kobs_span_write_attributes(self, attributes)) {
        if (!anyway) {
            return 0;
        }
        PyObject *keys[] = {self->state->incomplete}, *values[] = {Py_True};
        kobs_json_write_pairs(keys, values, 1, INLINE_ATTRIBUTES, attributes);
    }
    uint64_t ended_ns = kobs_now();
    self->ended_after_us = (double)(int64_t)(ended_ns - self->began_ns) / 1000.0;
    self->ended = true;
    kobs_span_set(self, &self->duration_us, NULL);
    if (record_end(self, wires, name, status, attributes, ended_ns) < 0
        && kobs_span_tell_mistake(self, wires->collector) < 0) {
        return -1;
    }
    kobs_span_set_began(self, 0);
    if (kobs_span_restore_cause(self, self->state) < 0) {
        return -1;
    }
    kobs_span_set(self, &self->token, NULL); /* where the cause is not ours to put back */
    kobs_span_set(self, &self->previous, NULL);
    if (kobs_span_viewed(self)) { /* the view has the span, not the other way round */
        kobs_span_set(self, &self->view, NULL);
    }
    return 1;
}

int
kobs_span_end(span_object *self, const span_wires *wires, PyObject *error)
{
    if (error != Py_None || !kobs_span_is_ours(self, wires) || kobs_is_up(wires->gate)
        || (kobs_span_viewed(self) && !self->plain)) {
        return 0;
    }
    PyObject *name = kobs_span_hold(self, &self->name);
    PyObject *status = kobs_span_hold(self, &self->status);
    int done = kobs_span_end_wired(self, wires, name, status, false);
    kobs_span_let_go(name);
    kobs_span_let_go(status);
    return done;
}
