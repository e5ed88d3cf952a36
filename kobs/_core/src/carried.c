/* `Carried`: what a new thread runs in place of its function, in a context that was made for it.
 *
 * It adds no frame, and looks like the function where Python tells of an exception that ended the
 * thread.
 */

#include "hook.h"

typedef struct {
    PyObject_HEAD
    PyObject *function, *context;
} carried_object;

/* Tell of the exception that ended a thread as CPython does, which knows of `Carried` only. */
static void
tell(PyObject *function)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyErr_FormatUnraisable("Exception ignored in thread started by %R", function);
#else
    _PyErr_WriteUnraisableMsg("in thread started by", function);
#endif
}

static PyObject *
carried_call(PyObject *self, PyObject *args, PyObject *keywords)
{
    carried_object *carried = (carried_object *)self;
    PyObject *result;

    if (PyContext_Enter(carried->context) < 0) {
        return NULL;
    }
    result = PyObject_Call(carried->function, args, keywords);
    if (result == NULL && !PyErr_ExceptionMatches(PyExc_SystemExit)) {
        tell(carried->function);
        result = Py_NewRef(Py_None);
    }
    PyObject *error = result == NULL ? kobs_hook_catch() : NULL;
    if (PyContext_Exit(carried->context) < 0) {
        PyErr_Clear();
    }
    if (error != NULL) {
        kobs_hook_raise(error);
    }
    return result;
}

static PyObject *
carried_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *function, *context;

    if (keywords != NULL && PyDict_GET_SIZE(keywords) > 0) {
        PyErr_SetString(PyExc_TypeError, "Carried() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "OO!:Carried", &function, &PyContext_Type, &context)) {
        return NULL;
    }
    carried_object *self = (carried_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->function = Py_NewRef(function);
    self->context = Py_NewRef(context);
    return (PyObject *)self;
}

static PyObject *
carried_repr(PyObject *self)
{
    return PyObject_Repr(((carried_object *)self)->function);
}

static int
carried_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((carried_object *)self)->function);
    Py_VISIT(((carried_object *)self)->context);
    return 0;
}

static int
carried_clear(PyObject *self)
{
    Py_CLEAR(((carried_object *)self)->function);
    Py_CLEAR(((carried_object *)self)->context);
    return 0;
}

static void
carried_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    carried_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(carried_doc, "Carried(function, context, /)\n\n"
                          "Calls the function in the context, as the function of a new thread.");

static PyType_Slot carried_slots[] = {
    {Py_tp_doc, (void *)carried_doc},
    {Py_tp_new, carried_new},
    {Py_tp_call, carried_call},
    {Py_tp_repr, carried_repr},
    {Py_tp_traverse, carried_traverse},
    {Py_tp_clear, carried_clear},
    {Py_tp_dealloc, carried_dealloc},
    {0, NULL},
};

static PyType_Spec carried_spec = {
    .name = "kobs._core._native.Carried",
    .basicsize = sizeof(carried_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = carried_slots,
};

int
kobs_add_carried_type(PyObject *module)
{
    return kobs_add_type(module, &carried_spec);
}
