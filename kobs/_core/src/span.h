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
