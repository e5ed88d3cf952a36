/* How a span begins: where it belongs, its event, and that it is current from then on. */

#include "span.h"

#include "ids.h"

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
    int told = done == NULL ? kobs_span_tell_mistake(self, collector) : 0;

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

    int done = kobs_span_take_pid(self, &header);
    if (done == 0) {
        done = kobs_emit(began, fields, &header, &event, &entry);
    }
    kobs_span_let_go(kind);
    if (done < 0) {
        kobs_span_set(self, &self->collector, NULL);
        told = kobs_span_tell_mistake(self, collector);
        Py_DECREF(collector);
        return told;
    }
    self->event = event;
    self->entry = entry;
    if ((event != 0 || entry >= 0) && kobs_intern(began->ring, name) == 0) {
        /* No room for strings: the name goes on as text. */
        PyObject *noted = PyObject_CallMethod((PyObject *)self, "record", "sO", "kobs.span.name",
                                              name);
        told = noted == NULL ? kobs_span_tell_mistake(self, collector) : 0;
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

/* As `kobs_span_begin`, of a span of this name, by the collector that is wired. */
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

int
kobs_span_begin(span_object *self, const span_wires *wires)
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
