/* Tells when instances of one C type are made and go, whoever makes them.
 *
 * The type's own slots are replaced, and those of its subclasses that inherited the one for making:
 * Python compares them. What is never given back (a subclass in another hand) goes on to the
 * original.
 */

#include "core.h"

static PyTypeObject *watched; /* while someone watches */
static newfunc original_new;
static destructor original_dealloc;
static PyObject *on_made, *on_gone;

static PyObject *
make(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *self = original_new(type, args, keywords);
    if (self != NULL && on_made != NULL && watched != NULL && PyType_IsSubtype(type, watched)) {
        PyObject *made = on_made;
        Py_INCREF(made);
        PyThreadState *thread = PyThreadState_Get();
        bool held = kobs_hold_signals(thread);
        PyObject *result;
        KOBS_UNSEEN
        result = PyObject_CallOneArg(made, self);
        KOBS_SEEN
        kobs_release_signals(thread, held);
        Py_XDECREF(result);
        Py_DECREF(made);
        PyErr_Clear(); /* no error of ours is the program's */
    }
    return self;
}

static void
dealloc(PyObject *self)
{
    PyObject *gone = on_gone;
    if (gone != NULL && watched != NULL) {
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        Py_INCREF(gone);
        PyObject *address = PyLong_FromVoidPtr(self);
        PyThreadState *thread = PyThreadState_Get();
        bool held = kobs_hold_signals(thread);
        PyObject *result;
        KOBS_UNSEEN
        result = address == NULL ? NULL : PyObject_CallOneArg(gone, address);
        KOBS_SEEN
        kobs_release_signals(thread, held);
        Py_XDECREF(result);
        Py_XDECREF(address);
        Py_DECREF(gone);
        PyErr_Restore(type, value, trace);
    }
    original_dealloc(self);
}

/* Have a type and its subclasses make instances by `to` where they do by `from`. */
static int
change_new(PyTypeObject *type, newfunc from, newfunc to)
{
    if (type->tp_new != from) {
        return 0;
    }
    type->tp_new = to;
    PyObject *subclasses = PyObject_CallMethod((PyObject *)type, "__subclasses__", NULL);
    if (subclasses == NULL) {
        return -1;
    }
    int done = 0;
    for (Py_ssize_t index = 0; done == 0 && index < PyList_GET_SIZE(subclasses); index++) {
        PyObject *subclass = PyList_GET_ITEM(subclasses, index);
        done = PyType_Check(subclass) ? change_new((PyTypeObject *)subclass, from, to) : 0;
    }
    Py_DECREF(subclasses);
    return done;
}

PyObject *
kobs_watch_type(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyTypeObject *type;
    PyObject *made, *gone;

    if (!PyArg_ParseTuple(args, "O!OO:watch_type", &PyType_Type, &type, &made, &gone)) {
        return NULL;
    }
    if (KOBS_FREE_THREADED || watched != NULL || type->tp_new == NULL || type->tp_dealloc == NULL
        || (original_new != NULL && original_new != type->tp_new)) {
        Py_RETURN_FALSE;
    }
    original_new = type->tp_new;
    original_dealloc = type->tp_dealloc;
    if (change_new(type, original_new, make) < 0) {
        return NULL;
    }
    type->tp_dealloc = dealloc;
    Py_INCREF(type);
    watched = type;
    on_made = Py_NewRef(made);
    on_gone = Py_NewRef(gone);
    Py_RETURN_TRUE;
}

PyObject *
kobs_unwatch_type(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    PyTypeObject *type = watched;
    if (type == NULL) {
        Py_RETURN_NONE;
    }
    watched = NULL;
    Py_CLEAR(on_made);
    Py_CLEAR(on_gone);
    int done = change_new(type, make, original_new);
    type->tp_dealloc = original_dealloc;
    Py_DECREF(type);
    if (done < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
