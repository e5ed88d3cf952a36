/* What emitters share with the collector's methods. */

#ifndef KOBS_EMITTER_H
#define KOBS_EMITTER_H

#include "core.h"

/* The keywords for header fields, in the order of `core_state.header_names`. */
enum {
    HEADER_PID, HEADER_TID, HEADER_SEVERITY, HEADER_CATEGORY, HEADER_CAUSALITY, HEADER_PARENT,
    HEADER_SPAN, HEADER_LINK, HEADER_TIME, HEADER_FLAGS, HEADER_VALUES,
};

enum { KOBS_WARN = 3, MAX_FIELDS = KOBS_PAYLOAD_SIZE };

/* Which header field a keyword names; -1 for none. */
int kobs_header_index(PyObject *const *names, PyObject *keyword);

/* A header value that a caller gives; -1 with an exception set if it does not fit. None is as
 * good as nothing. */
int kobs_take_header(int index, PyObject *value, kobs_given *);

/* Have Python say which value did not fit, and why. What is no matter of values stays. */
void kobs_explain(emitter_object *, PyObject *const *fields, PyObject *pid, PyObject *link,
                  PyObject *parent);

/* The id of an event as an int. */
PyObject *kobs_event_number(emitter_object *, uint64_t event);

PyObject *kobs_call_emitter(emitter_object *, PyObject *const *args, size_t count,
                            PyObject *keywords);

/* Where an attribute that a type has by `__slots__` lies in its instances; 0 where there is no
 * such attribute. */
Py_ssize_t kobs_slot_offset(PyObject *type, PyObject *name);

/* What is there in an instance: a new reference, NULL where nothing is. */
static inline PyObject *
kobs_slot_at(PyObject *instance, Py_ssize_t offset)
{
    PyObject *found;

    KOBS_LOCK(instance) /* as it is when it is set */
    found = Py_XNewRef(*(PyObject **)((char *)instance + offset));
    KOBS_UNLOCK()
    return found;
}

#endif
