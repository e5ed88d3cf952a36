/* What objects have in common that stand for a Python function: they bind, print and pickle as it
 * does, and what is set on them is set on it. */

#ifndef KOBS_STAND_IN_H
#define KOBS_STAND_IN_H

#include "core.h"

/* They begin with this. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *weakrefs;
    PyObject *function;
} kobs_stand_in;

PyObject *kobs_stand_in_bind(PyObject *self, PyObject *instance, PyObject *cls);
/* What their own type has, `__wrapped__`, and the function's for everything else. */
PyObject *kobs_stand_in_getattro(PyObject *self, PyObject *name);
PyObject *kobs_stand_in_getattro_hidden(PyObject *self, PyObject *name); /* the function's only */
int kobs_stand_in_setattro(PyObject *self, PyObject *name, PyObject *value);
PyObject *kobs_stand_in_repr(PyObject *self);

/* `__reduce_ex__(protocol)`: by name, as functions are pickled and copied. */
PyObject *kobs_stand_in_reduce(PyObject *self, PyObject *protocol);

extern PyMemberDef kobs_stand_in_members[];

/* All slots but those for making, clearing and looking up attributes. */
#define KOBS_STAND_IN_SLOTS                                                                        \
    {Py_tp_call, PyVectorcall_Call}, {Py_tp_descr_get, kobs_stand_in_bind},                        \
        {Py_tp_setattro, kobs_stand_in_setattro}, {Py_tp_repr, kobs_stand_in_repr},                \
        {Py_tp_members, kobs_stand_in_members}

#define KOBS_STAND_IN_FLAGS                                                                        \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL                          \
     | Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_IMMUTABLETYPE)

#endif
