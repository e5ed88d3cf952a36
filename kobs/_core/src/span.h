/* What a span is, for the parts that begin, end and make one. */

#ifndef KOBS_SPAN_H
#define KOBS_SPAN_H

#include "core.h"

enum { LEFT_OUT = -2, INLINE_ATTRIBUTES = 104, NOT_KNOWN = 255, FEW = 4 };

struct span_object {
    PyObject_HEAD
    PyObject *name, *kind, *category, *pid, *slow_ms, *given; /* as they were asked for */
    PyObject *cause, *collector, *attributes, *previous, *status, *duration_us;
    PyObject *token; /* of the change of the ambient cause, where it began in C */
    PyObject *view;  /* what OpenTelemetry sees of it; NULL as long as nobody looked */
    PyObject *spare; /* what was a cause and may become the next one; nobody else has it */
    PyObject *keys[FEW], *values[FEW]; /* attributes, as long as they are few: then there is no dict */
    int few;
    bool plain;             /* its view has nothing to say when it ends */
    bool ended;             /* `ended_after_us` counts as long as there is no `duration_us` */
    uint8_t category_number; /* 255: not known here */
    double ended_after_us;
    unsigned long long began_ns, event;
    uint64_t causality_id, span_id; /* where it began in C */
    long long entry; /* in the in-flight table; -1: none, -2: left out by sampling */
    span_state *state;
    span_object *next_open; /* in its bucket of the open ones */
};

/* Set an object of a span (stolen; may be NULL) that others may look at meanwhile. */
static inline void
kobs_span_set(span_object *self, PyObject **at, PyObject *to)
{
    PyObject *before;

    (void)self;
    KOBS_LOCK(self)
    before = *at;
    __atomic_store_n(at, to, __ATOMIC_RELAXED);
    KOBS_UNLOCK()
    Py_XDECREF(before);
}

/* What is there, as long as `kobs_span_let_go` is not called; NULL where nothing is. */
static inline PyObject *
kobs_span_hold(span_object *self, PyObject *const *at)
{
    PyObject *found;

    (void)self;
    KOBS_LOCK(self)
    found = KOBS_FREE_THREADED ? Py_XNewRef(*at) : *at;
    KOBS_UNLOCK()
    return found;
}

static inline void
kobs_span_let_go(PyObject *held)
{
    if (KOBS_FREE_THREADED) {
        Py_XDECREF(held);
    }
}

/* OpenTelemetry looks at it, or did. */
static inline bool
kobs_span_viewed(span_object *self)
{
    PyObject *view = __atomic_load_n(&self->view, __ATOMIC_RELAXED);

    return view != NULL && view != Py_None;
}

/* When it began; 0 before and after: others may look whether it is open. */
static inline uint64_t
kobs_span_began(const span_object *self)
{
    return __atomic_load_n(&self->began_ns, __ATOMIC_RELAXED);
}

static inline void
kobs_span_set_began(span_object *self, uint64_t to)
{
    __atomic_store_n(&self->began_ns, to, __ATOMIC_RELAXED);
}

/* The methods `__enter__` and `__exit__`. */
PyObject *kobs_span_enter(span_object *, PyObject *none);
PyObject *kobs_span_exit(span_object *, PyObject *const *args, Py_ssize_t count);

/* The subject of a span, and its category. 0, or -1 with an exception set. */
static inline int
kobs_span_take_pid(span_object *self, kobs_given *header)
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

static inline int
kobs_span_set_cause(span_state *state, PyObject *cause)
{
    PyObject *token = PyContextVar_Set(state->cause_var, cause);

    Py_XDECREF(token);
    return token == NULL ? -1 : 0;
}

/* What is wired, until it is let go of: as it is now where others may exchange it meanwhile. */
static inline const span_wires *
kobs_span_hold_wires(span_state *state, span_wires *held)
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
kobs_span_let_go_of_wires(span_wires *held)
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

/* It began in C, and has not ended. */
static inline bool
kobs_span_is_ours(const span_object *self, const span_wires *wires)
{
    return self->began_ns != 0 && self->cause != NULL && self->collector != NULL
        && self->collector == wires->collector && self->entry != LEFT_OUT && self->span_id != 0
        && PyTuple_Check(self->cause) && PyTuple_GET_SIZE(self->cause) == 6;
}

/* 1 if the span has begun, 0 where Python is to begin it, -1 with an exception set. */
int kobs_span_begin(span_object *, const span_wires *);

/* 1 if the span has ended, 0 where Python is to end it, -1 with an exception set. */
int kobs_span_end(span_object *, const span_wires *, PyObject *error);

/* As `kobs_span_end`, of a span of this name and status; `anyway`: with what fits of its
 * attributes. */
int kobs_span_end_wired(span_object *, const span_wires *, PyObject *name, PyObject *status,
                        bool anyway);

/* The cause is what it was outside, unless something else has become the cause since. 0, or -1 with
 * an exception set. */
int kobs_span_restore_cause(span_object *, span_state *);

/* A mistake inside kobs: counted, logged once, never the program's. 0; -1 where the exception that
 * is set is no `Exception`, such as a KeyboardInterrupt: it stays set. */
int kobs_span_tell_mistake(span_object *, PyObject *collector);

/* An attribute is set. 0, or -1 with an exception set. */
int kobs_span_put(span_object *, PyObject *key, PyObject *value);

/* All attributes as a dict, or what Python put in its place (a new reference); None for none. NULL
 * with an exception set. */
PyObject *kobs_span_attributes(span_object *);

/* Drop the attributes that are no dict yet. */
void kobs_span_drop_few(span_object *);

/* The attributes as JSON of at most `INLINE_ATTRIBUTES` bytes after a byte with its length; false
 * where Python is to do it. */
bool kobs_span_write_attributes(span_object *, uint8_t *at);

/* -- those that are open (span_open.c) ------------------------------------------------------- */

/* Enter a span that has its id among the open ones. 0, or -1 with an exception set. */
int kobs_span_open(span_object *);

/* Take it out; nothing where it is not in there. */
void kobs_span_close(span_object *);

/* Let go of all of them. */
void kobs_span_close_all(span_state *);

#endif
