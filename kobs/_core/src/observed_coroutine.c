/* What coroutines of observed calls are to `await`, to `yield from`, and to their `__await__`. */

#include "observed.h"

/* Whether the frame is at a `yield from`; -1 with an exception set. */
static int
delegates(PyFrameObject *frame, PyCodeObject *code)
{
    PyObject *numbers = NULL, *number, *bytes = NULL;
    PyObject *module = PyImport_ImportModule("opcode");
    int at = PyFrame_GetLasti(frame), answer = -1;

    if (module != NULL && (numbers = PyObject_GetAttrString(module, "opmap")) != NULL
        && (number = PyMapping_GetItemString(numbers, "GET_YIELD_FROM_ITER")) != NULL) {
        if ((bytes = PyCode_GetCode(code)) != NULL) {
            answer = at >= 0 && at < PyBytes_GET_SIZE(bytes)
                     && (uint8_t)PyBytes_AS_STRING(bytes)[at] == PyLong_AsLong(number);
        }
        Py_DECREF(number);
    }
    Py_XDECREF(bytes);
    Py_XDECREF(numbers);
    Py_XDECREF(module);
    return answer;
}

/* A coroutine is iterable by a `yield from` alone, and that in a coroutine or in what
 * `types.coroutine` made. */
PyObject *
kobs_coroutine_iter(PyObject *self)
{
    PyFrameObject *frame = PyEval_GetFrame();
    int at_yield_from = 0, takes = 0;

    if (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        takes = code->co_flags & (CO_COROUTINE | CO_ITERABLE_COROUTINE);
        at_yield_from = delegates(frame, code);
        Py_DECREF(code);
    }
    if (at_yield_from > 0 && takes) {
        return Py_NewRef(self);
    }
    if (at_yield_from >= 0) {
        PyErr_SetString(PyExc_TypeError,
                        at_yield_from ? "cannot 'yield from' a coroutine object in a "
                                        "non-coroutine generator"
                                      : "'coroutine' object is not iterable");
    }
    return NULL;
}

/* For `await`. */
PyObject *
kobs_coroutine_awaited(stepped_object *self)
{
    if (kobs_is_set(&self->started)) {
        PyObject *waits_for = kobs_attribute(self->inner, "cr_await");
        bool waits = waits_for != NULL && waits_for != Py_None;
        Py_XDECREF(waits_for);
        if (waits) {
            PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
        }
        if (waits || waits_for == NULL) {
            return NULL;
        }
    }
    return Py_NewRef(self);
}

/* -- what `coroutine.__await__()` gives ------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    stepped_object *coroutine;
} wrapper_object;

PyObject *
kobs_coroutine_await(PyObject *self, PyObject *Py_UNUSED(none))
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    wrapper_object *made = PyObject_GC_New(wrapper_object, state->observed.coroutine_wrapper);

    if (made != NULL) {
        made->coroutine = (stepped_object *)Py_NewRef(self);
        PyObject_GC_Track(made);
    }
    return (PyObject *)made;
}

static PyObject *
wrapper_next(wrapper_object *self)
{
    return kobs_stepped_next(self->coroutine);
}

static PyObject *
wrapper_send(wrapper_object *self, PyObject *value)
{
    return kobs_stepped_send_method(self->coroutine, value);
}

static PyObject *
wrapper_throw(wrapper_object *self, PyObject *const *args, Py_ssize_t count)
{
    return kobs_stepped_throw(self->coroutine, args, count);
}

static PyObject *
wrapper_close(wrapper_object *self, PyObject *none)
{
    return kobs_stepped_close(self->coroutine, none);
}

static int
wrapper_traverse(wrapper_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->coroutine);
    return 0;
}

static void
wrapper_dealloc(wrapper_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->coroutine);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef wrapper_methods[] = {
    {"send", (PyCFunction)wrapper_send, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))wrapper_throw, METH_FASTCALL, NULL},
    {"close", (PyCFunction)wrapper_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot wrapper_slots[] = {
    {Py_tp_dealloc, wrapper_dealloc},
    {Py_tp_traverse, wrapper_traverse},
    {Py_tp_methods, wrapper_methods},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, wrapper_next},
    {0, NULL},
};

int
kobs_add_coroutine_wrapper(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->observed.coroutine_wrapper = kobs_make_stepped_type(
        module, "kobs._core._native.coroutine_wrapper", sizeof(wrapper_object), wrapper_slots);
    return state->observed.coroutine_wrapper == NULL ? -1 : 0;
}
