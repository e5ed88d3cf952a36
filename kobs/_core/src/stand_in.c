/* Objects that stand for a Python function: what they have in common. */

#include "stand_in.h"

static inline PyObject *
function_of(PyObject *self)
{
    return ((kobs_stand_in *)self)->function;
}

PyObject *
kobs_stand_in_bind(PyObject *self, PyObject *instance, PyObject *Py_UNUSED(cls))
{
    if (instance == NULL || instance == Py_None) {
        return Py_NewRef(self);
    }
    return PyMethod_New(self, instance);
}

PyObject *
kobs_stand_in_getattro(PyObject *self, PyObject *name)
{
    return kobs_stand_for(self, function_of(self), name);
}

/* For those that hide even `__wrapped__`. */
PyObject *
kobs_stand_in_getattro_hidden(PyObject *self, PyObject *name)
{
    if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "__reduce_ex__") == 0) {
        return PyObject_GenericGetAttr(self, name);
    }
    return PyObject_GetAttr(function_of(self), name);
}

int
kobs_stand_in_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    return PyObject_SetAttr(function_of(self), name, value);
}

PyObject *
kobs_stand_in_repr(PyObject *self)
{
    return PyObject_Repr(function_of(self));
}

PyObject *
kobs_stand_in_reduce(PyObject *self, PyObject *Py_UNUSED(protocol))
{
    return PyObject_GetAttrString(function_of(self), "__qualname__");
}

PyMemberDef kobs_stand_in_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(kobs_stand_in, vectorcall), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(kobs_stand_in, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};
