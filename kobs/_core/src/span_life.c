/* The life of a span: its begin, its end, and the ambient cause between them. */

#include "span.h"

#include "ids.h"

/* -- what both ends need --------------------------------------------------------------------- */

static int
take_pid(span_object *self, kobs_given *header)
{
    PyObject *pid = kobs_span_hold(self, &self->pid);
    uint64_t number;
    int done = 0;

    header->category = self->category_number;
    if (pid != Py_None && pid != NULL) {
        done = kobs_unsigned(pid, UINT32_MAX, &number);
        if (done == 0) {
            header->pid = (uint32_t)number;
            header->given |= GIVEN_PID;
        }
    }
    kobs_span_let_go(pid);
    return done;
}

/* A mistake inside kobs: counted, logged once, never the program's. 0; -1 where the exception that is
 * set is no `Exception`, such as a KeyboardInterrupt: it stays set. */
static int
tell_mistake(span_object *self, PyObject *collector)
{
    PyObject *type, *error, *traceback;

    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *done = PyObject_CallMethod((PyObject *)self, "_mistake", "OO", collector,
                                         error == NULL ? Py_None : error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    if (done == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        PyErr_Clear();
    }
    Py_XDECREF(done);
    return 0;
}

static int
set_cause(span_state *state, PyObject *cause)
{
    PyObject *token = PyContextVar_Set(state->cause_var, cause);

    Py_XDECREF(token);
    return token == NULL ? -1 : 0;
}

/* -- the begin ------------------------------------------------------------------------------- */

/* The chain that a span begins in. The objects are borrowed: of the cause outside, or the module's. */
typedef struct {
    uint64_t causality_id, parent, parent_span;
    PyObject *causality, *parent_number, *span, *sampled, *high; /* no `causality`: a new chain */
} place;

/* Whether another tracer may have a span that is current, where there is no cause: then Python is to
 * look. -1 with an exception set. */
static int
look_elsewhere(span_state *state)
{
    PyObject *variable = __atomic_load_n(&state->other_var, __ATOMIC_ACQUIRE), *value;

    if (variable == NULL) {
        PyObject *other = PyDict_GetItemWithError(state->modules, state->opentelemetry);
        return other != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
    }
    if (PyContextVar_Get(variable, NULL, &value) < 0) {
        return -1;
    }
    int nothing = value == NULL || value == state->other_nothing;
    Py_XDECREF(value);
    return !nothing;
}

/* Something was imported since it was looked last. */
static inline bool
are_modules_new(const span_state *state)
{
    return PyDict_GET_SIZE(state->modules)
        != __atomic_load_n(&state->modules_seen, __ATOMIC_RELAXED);
}

/* Whether OpenTelemetry was imported and does not know of kobs's spans yet. */
static __attribute__((noinline)) bool
is_new_to_it(span_state *state)
{
    __atomic_store_n(&state->modules_seen, PyDict_GET_SIZE(state->modules), __ATOMIC_RELAXED);
    if (__atomic_load_n(&state->other_var, __ATOMIC_RELAXED) != NULL) {
        return false;
    }
    if (PyDict_GetItemWithError(state->modules, state->opentelemetry) != NULL) {
        return true;
    }
    PyErr_Clear();
    return false;
}

/* Where a span under `outer` begins: 1, or 0 where Python is to find out, or -1. */
static int
find_place(span_state *state, const span_wires *wires, PyObject *outer, place *at)
{
    uint64_t high;

    *at = (place){.parent_number = state->zero, .span = state->zero, .sampled = Py_True,
                  .high = wires->trace_high};
    if (outer == Py_None) {
        int other = look_elsewhere(state);
        if (other != 0) {
            return other > 0 ? 0 : -1;
        }
        at->causality_id = kobs_mint_id();
        return 1;
    }
    if ((PyObject *)Py_TYPE(outer) != state->cause_type || PyTuple_GET_SIZE(outer) != 6
        || PyTuple_GET_ITEM(outer, 5) != Py_True
        || (are_modules_new(state) && is_new_to_it(state))) {
        return 0;
    }
    at->causality = PyTuple_GET_ITEM(outer, 0);
    at->parent_number = PyTuple_GET_ITEM(outer, 1);
    at->span = PyTuple_GET_ITEM(outer, 2);
    at->sampled = PyTuple_GET_ITEM(outer, 3);
    if (kobs_unsigned(at->causality, UINT64_MAX, &at->causality_id) < 0
        || kobs_unsigned(at->parent_number, UINT64_MAX, &at->parent) < 0
        || kobs_unsigned(at->span, UINT64_MAX, &at->parent_span) < 0
        || kobs_unsigned(PyTuple_GET_ITEM(outer, 4), UINT64_MAX, &high) < 0) {
        return -1;
    }
    if (high != 0) {
        at->high = PyTuple_GET_ITEM(outer, 4);
    }
    return at->causality_id != 0;
}

/* Have it recorded that the sampler leaves out the trace that begins here. -1 with an exception set
 * only for what is no `Exception`. */
static int
tell_unexported(span_object *self, const place *at)
{
    PyObject *collector = Py_NewRef(self->collector);
    PyObject *done = PyObject_CallMethod((PyObject *)self, "_unexported", "K",
                                         (unsigned long long)at->causality_id);
    int told = done == NULL ? tell_mistake(self, collector) : 0;

    Py_XDECREF(done);
    Py_DECREF(collector);
    return told;
}

/* Record the begin; what goes wrong is not the program's. -1 with an exception set only for what is
 * no `Exception`. */
static int
record_begin(span_object *self, const span_wires *wires, PyObject *name, const place *at)
{
    PyObject *kind = kobs_span_hold(self, &self->kind);
    PyObject *fields[] = {name, kind == NULL ? Py_None : kind, at->span};
    kobs_given header = {
        .given = GIVEN_CAUSE | GIVEN_TIME | GIVEN_CATEGORY,
        .causality_id = at->causality_id,
        .parent = at->parent,
        .span_id = self->span_id,
        .timestamp_ns = self->began_ns,
        .flags = KOBS_FLAG_BEGIN,
    };
    uint64_t event = 0;
    int64_t entry = -1;
    int told = 0;
    /* Others may become those of the module meanwhile. The collector holds the emitter. */
    emitter_object *began = wires->began;
    PyObject *collector = Py_NewRef(wires->collector);

    int done = take_pid(self, &header);
    if (done == 0) {
        done = kobs_emit(began, fields, &header, &event, &entry);
    }
    kobs_span_let_go(kind);
    if (done < 0) {
        kobs_span_set(self, &self->collector, NULL);
        told = tell_mistake(self, collector);
        Py_DECREF(collector);
        return told;
    }
    self->event = event;
    self->entry = entry;
    if ((event != 0 || entry >= 0) && kobs_intern(began->ring, name) == 0) {
        /* No room for strings: the name goes on as text. */
        PyObject *noted = PyObject_CallMethod((PyObject *)self, "record", "sO", "kobs.span.name",
                                              name);
        told = noted == NULL ? tell_mistake(self, collector) : 0;
        Py_XDECREF(noted);
    }
    Py_DECREF(collector);
    return told;
}

/* An int of this value: `kept` (stolen) itself where it is as long and nobody else has it. */
static PyObject *
make_number(PyObject *kept, uint64_t value)
{
#if !KOBS_FREE_THREADED && PyLong_SHIFT == 30
    int digits = value >> 60 != 0 ? 3 : 2;

    if (kept != NULL && value >> 30 != 0 && Py_REFCNT(kept) == 1 && PyLong_CheckExact(kept)
        && KOBS_DIGIT_COUNT(kept) == digits) {
        KOBS_DIGITS(kept)[0] = (digit)(value & PyLong_MASK);
        KOBS_DIGITS(kept)[1] = (digit)(value >> 30 & PyLong_MASK);
        if (digits == 3) {
            KOBS_DIGITS(kept)[2] = (digit)(value >> 60);
        }
        return kept;
    }
#endif
    Py_XDECREF(kept);
    return PyLong_FromUnsignedLongLong(value);
}

static void
put_item(PyObject *cause, Py_ssize_t index, PyObject *item)
{
    PyObject *before = PyTuple_GET_ITEM(cause, index);

    PyTuple_SET_ITEM(cause, index, item);
    Py_XDECREF(before);
}

/* As `put_item`, of a number; -1 with an exception set. */
static int
put_number(PyObject *cause, Py_ssize_t index, uint64_t value)
{
    PyObject *before = PyTuple_GET_ITEM(cause, index);

    PyTuple_SET_ITEM(cause, index, NULL);
    PyObject *made = make_number(before, value);
    PyTuple_SET_ITEM(cause, index, made);
    return made == NULL ? -1 : 0;
}

/* The cause inside of this span, all but its parent; NULL with an exception set. It is out of sight
 * of the collector of garbage: there are only numbers in it. */
static PyObject *
make_cause(span_object *self, span_state *state, const place *at)
{
    PyTypeObject *type = (PyTypeObject *)state->cause_type;
    PyObject *made = self->spare;

    self->spare = NULL;
    if (made == NULL) {
        if ((made = type->tp_alloc(type, 6)) == NULL) {
            return NULL;
        }
        PyObject_GC_UnTrack(made);
    }
    if (at->causality != NULL) {
        put_item(made, 0, Py_NewRef(at->causality));
    }
    if ((at->causality == NULL && put_number(made, 0, at->causality_id) < 0)
        || put_number(made, 2, self->span_id) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    put_item(made, 3, Py_NewRef(at->sampled));
    put_item(made, 4, Py_NewRef(at->high));
    put_item(made, 5, Py_NewRef(Py_True));
    return made;
}

/* It could not begin: as if nobody had asked. Keeps the exception that is set. */
static void
undo_begin(span_object *self, const span_wires *wires)
{
    if (self->entry >= 0 && self->collector == wires->collector) {
        kobs_close_entry(&wires->began->ring->ring, self->entry);
    }
    kobs_span_set_began(self, 0);
    self->event = self->span_id = 0;
    self->entry = -1;
    kobs_span_set(self, &self->collector, NULL);
}

/* As `begin`, of a span of this name, by the collector that is wired. */
static int
begin_wired(span_object *self, span_state *state, const span_wires *wires, PyObject *name)
{
    PyObject *outer = NULL, *own = NULL;
    place at;

    if (PyContextVar_Get(state->cause_var, Py_None, &outer) < 0) {
        return -1;
    }
    int done = find_place(state, wires, outer, &at);
    if (done != 1) {
        Py_DECREF(outer);
        return done;
    }
    self->span_id = kobs_mint_id();
    kobs_span_set_began(self, kobs_now());
    kobs_span_set(self, &self->collector, Py_NewRef(wires->collector));
    if ((at.parent_span == 0
         && at.causality_id > __atomic_load_n(&state->exported_upto, __ATOMIC_RELAXED)
         && tell_unexported(self, &at) < 0)
        || (own = make_cause(self, state, &at)) == NULL
        || record_begin(self, wires, name, &at) < 0) {
        goto failed;
    }
    if (self->event == 0) {
        put_item(own, 1, Py_NewRef(at.parent_number));
    }
    else if (put_number(own, 1, self->event) < 0) {
        goto failed;
    }
    if (kobs_span_open(self) < 0) {
        goto failed;
    }
    PyObject *token = PyContextVar_Set(state->cause_var, own);
    kobs_span_set(self, &self->token, token);
    if (token == NULL) {
        kobs_span_close(self);
        goto failed;
    }
    self->causality_id = at.causality_id;
    kobs_span_set(self, &self->cause, own);
    kobs_span_set(self, &self->previous, outer);
    return 1;
failed:
    undo_begin(self, wires);
    Py_XDECREF(own);
    Py_DECREF(outer);
    return -1;
}

/* 1 if the span has begun, 0 where Python is to begin it, -1 with an exception set. */
static int
begin(span_object *self, const span_wires *wires)
{
    if (self->began_ns != 0 || self->cause != NULL || self->category_number == NOT_KNOWN
        || wires->collector == NULL || self->name == NULL || self->kind == NULL
        || (self->given != Py_None && self->given != wires->collector)
        || kobs_is_up(wires->gate)) {
        return 0;
    }
    PyObject *name = kobs_span_hold(self, &self->name);
    int done = name == NULL ? 0 : begin_wired(self, self->state, wires, name);
    kobs_span_let_go(name);
    return done;
}

/* What is wired, until it is let go of: as it is now where others may exchange it meanwhile. */
static inline const span_wires *
hold_wires(span_state *state, span_wires *held)
{
#if KOBS_FREE_THREADED
    KOBS_LOCK((PyObject *)state->span_type)
    *held = state->wired;
    Py_XINCREF(held->collector);
    Py_XINCREF(held->began);
    Py_XINCREF(held->ended);
    Py_XINCREF(held->gate);
    Py_XINCREF(held->trace_high);
    KOBS_UNLOCK()
    return held;
#else
    (void)held;
    return &state->wired;
#endif
}

/* Keeps the exception that is set. */
static inline void
let_go_of_wires(span_wires *held)
{
#if KOBS_FREE_THREADED
    PyObject *error = PyErr_GetRaisedException();
    Py_XDECREF(held->began);
    Py_XDECREF(held->ended);
    Py_XDECREF(held->gate);
    Py_XDECREF(held->trace_high);
    Py_XDECREF(held->collector);
    PyErr_SetRaisedException(error);
#else
    (void)held;
#endif
}

PyObject *
kobs_span_enter(span_object *self, PyObject *Py_UNUSED(none))
{
    span_wires held;
    int done = begin(self, hold_wires(self->state, &held));

    let_go_of_wires(&held);
    if (done > 0) {
        return Py_NewRef(self);
    }
    if (done < 0) {
        return NULL;
    }
    if (self->began_ns == 0) {
        self->span_id = self->causality_id = 0; /* what Python begins is Python's to end */
    }
    return PyObject_CallMethodNoArgs((PyObject *)self, self->state->enter);
}

/* -- the end --------------------------------------------------------------------------------- */

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

    if (take_pid(self, &header) < 0) {
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
    return set_cause(state, self->previous == NULL ? Py_None : self->previous);
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
        own = put_back(self, state);
    }
    return own < 0 ? -1 : 0;
}

/* As `end`, of a span of this name and status; `anyway`: with what fits of its attributes. */
static int
end_wired(span_object *self, const span_wires *wires, PyObject *name, PyObject *status,
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
        && tell_mistake(self, wires->collector) < 0) {
        return -1;
    }
    kobs_span_set_began(self, 0);
    if (restore_cause(self, self->state) < 0) {
        return -1;
    }
    kobs_span_set(self, &self->token, NULL); /* where the cause is not ours to put back */
    kobs_span_set(self, &self->previous, NULL);
    if (kobs_span_viewed(self)) { /* the view has the span, not the other way round */
        kobs_span_set(self, &self->view, NULL);
    }
    return 1;
}

/* It began in C, and has not ended. */
static inline bool
is_ours(const span_object *self, const span_wires *wires)
{
    return self->began_ns != 0 && self->cause != NULL && self->collector != NULL
        && self->collector == wires->collector && self->entry != LEFT_OUT && self->span_id != 0
        && PyTuple_Check(self->cause) && PyTuple_GET_SIZE(self->cause) == 6;
}

/* 1 if the span has ended, 0 where Python is to end it, -1 with an exception set. */
static int
end(span_object *self, const span_wires *wires, PyObject *error)
{
    if (error != Py_None || !is_ours(self, wires) || kobs_is_up(wires->gate)
        || (kobs_span_viewed(self) && !self->plain)) {
        return 0;
    }
    PyObject *name = kobs_span_hold(self, &self->name);
    PyObject *status = kobs_span_hold(self, &self->status);
    int done = end_wired(self, wires, name, status, false);
    kobs_span_let_go(name);
    kobs_span_let_go(status);
    return done;
}

/* Python could not end it, for instance because the stack has no room for another frame: end it with
 * what is known. None; NULL where what went wrong is the program's, as a KeyboardInterrupt is. */
static PyObject *
end_anyway(span_object *self, const span_wires *wires, PyObject *error)
{
    PyObject *type, *mistake, *traceback;
    PyObject *collector = Py_NewRef(self->collector == NULL ? Py_None : self->collector);
    int done = 0;

    PyErr_Fetch(&type, &mistake, &traceback);
    if (is_ours(self, wires)) {
        PyObject *name = kobs_span_hold(self, &self->name);
        if (error != Py_None) {
            kobs_span_set(self, &self->status, Py_NewRef(self->state->error));
        }
        done = end_wired(self, wires, name, error != Py_None ? self->state->error : self->status,
                         true);
        kobs_span_let_go(name);
    }
    if (done == 0) {
        kobs_span_set_began(self, 0);
        done = self->token == NULL ? 0 : restore_cause(self, self->state);
    }
    if (done < 0) {
        PyErr_Clear();
    }
    PyErr_Restore(type, mistake, traceback);
    done = tell_mistake(self, collector);
    Py_DECREF(collector);
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

/* __exit__(kind, error, traceback) */
PyObject *
kobs_span_exit(span_object *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *answer = NULL;

    if (count != 3) {
        PyErr_Format(PyExc_TypeError, "__exit__() takes 3 arguments, got %zd", count);
        return NULL;
    }
    span_wires held;
    const span_wires *wires = hold_wires(self->state, &held);
    int done = end(self, wires, args[1]);
    if (done > 0) {
        answer = Py_NewRef(Py_None);
    }
    else if (done == 0) {
        PyObject *with_self[] = {(PyObject *)self, args[0], args[1], args[2]};
        answer = PyObject_VectorcallMethod(self->state->exit, with_self, 4, NULL);
        if (answer == NULL
            && (self->began_ns != 0 || self->token != NULL
                || (args[1] != Py_None && PyErr_ExceptionMatches(PyExc_RecursionError)))) {
            answer = end_anyway(self, wires, args[1]);
        }
    }
    let_go_of_wires(&held);
    if (self->began_ns == 0) {
        kobs_span_close(self);
    }
    return answer;
}
