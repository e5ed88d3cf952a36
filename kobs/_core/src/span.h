/* What a span is, for the parts that begin, end and make one. */

#ifndef KOBS_SPAN_H
#define KOBS_SPAN_H

#include "core.h"

typedef struct {
    PyObject_HEAD
    PyObject *name, *kind, *category, *pid, *slow_ms, *given; /* as they were asked for */
    PyObject *cause, *collector, *attributes, *previous, *status, *duration_us;
    unsigned long long began_ns, event;
    uint64_t causality_id, span_id; /* where it began in C */
    uint8_t category_number;        /* 255: not known here */
    long long entry; /* in the in-flight table; -1: none, -2: left out by sampling */
} span_object;

enum { LEFT_OUT = -2, INLINE_ATTRIBUTES = 104, NOT_KNOWN = 255 };

static inline span_state *
kobs_state_of_span(span_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    return &((core_state *)PyModule_GetState(PyType_GetModuleByDef(type, &kobs_module)))->span;
}

/* The methods `__enter__` and `__exit__`. */
PyObject *kobs_span_enter(span_object *, PyObject *none);
PyObject *kobs_span_exit(span_object *, PyObject *const *args, Py_ssize_t count);

#endif
