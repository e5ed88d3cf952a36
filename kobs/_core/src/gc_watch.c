/* Tells what the garbage collector did, without being in `gc.callbacks`.
 *
 * The interpreter keeps its own reference to that list and calls what is in it. While someone
 * watches it has another list there, which no program sees, of one function; that one measures,
 * and calls what the program has in `gc.callbacks` as the interpreter would.
 */

#include "core.h"

#if !KOBS_FREE_THREADED

enum { SEARCHED_BYTES = 8192 }; /* of the interpreter's state, which is larger */

/* Where the interpreter keeps its list of callbacks; NULL where it is not to be found. */
static PyObject **
find_place(PyObject *callbacks)
{
    PyObject **words = (PyObject **)PyInterpreterState_Get();
    for (size_t index = 0; index < SEARCHED_BYTES / sizeof(PyObject *); index++) {
        if (words[index] == callbacks) {
            return &words[index];
        }
    }
    return NULL;
}

static void
call_all(PyObject *callbacks, PyObject *const *args)
{
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(callbacks); index++) {
        PyObject *callback = PyList_GET_ITEM(callbacks, index);
        Py_INCREF(callback);
        PyObject *result = PyObject_Vectorcall(callback, args, 2, NULL);
        if (result == NULL) {
            PyErr_WriteUnraisable(callback);
        }
        Py_XDECREF(result);
        Py_DECREF(callback);
    }
}

/* What allocates is done here: the collection that follows begins to count anew. */
static void
call_before(gc_watch *watch)
{
    PyObject *before = watch->before;
    if (before != NULL) {
        Py_INCREF(before);
        KOBS_UNSEEN
        Py_XDECREF(PyObject_CallNoArgs(before));
        KOBS_SEEN
        Py_DECREF(before);
        PyErr_Clear(); /* no error of ours is the program's */
    }
}

static void
tell(gc_watch *watch, PyObject *info, int64_t took_ns)
{
    PyObject *generation = PyDict_GetItemString(info, "generation");
    PyObject *collected = PyDict_GetItemString(info, "collected");
    PyObject *told = watch->told;
    PyObject *duration = PyFloat_FromDouble((double)took_ns / 1e3);
    if (told != NULL && generation != NULL && collected != NULL && duration != NULL) {
        PyObject *args[] = {generation, duration, collected};
        Py_INCREF(told);
        KOBS_UNSEEN
        Py_XDECREF(PyObject_Vectorcall(told, args, 3, NULL));
        KOBS_SEEN
        Py_DECREF(told);
    }
    Py_XDECREF(duration);
    PyErr_Clear();
}

static PyObject *
on_gc(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    gc_watch *watch = &((core_state *)PyModule_GetState(module))->gc;
    PyThreadState *thread = PyThreadState_Get();
    bool held;

    if (count != 2 || watch->theirs == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *theirs = watch->theirs;
    Py_INCREF(theirs);
    if (PyUnicode_CompareWithASCIIString(args[0], "start") == 0) {
        call_all(theirs, args);
        held = kobs_hold_signals(thread);
        call_before(watch);
        kobs_release_signals(thread, held);
        watch->began_ns = (int64_t)kobs_now();
    }
    else {
        int64_t took_ns = (int64_t)kobs_now() - watch->began_ns;
        call_all(theirs, args);
        held = kobs_hold_signals(thread);
        tell(watch, args[1], took_ns);
        kobs_release_signals(thread, held);
    }
    Py_DECREF(theirs);
    Py_RETURN_NONE;
}

static PyMethodDef on_gc_method = {"on_gc", (PyCFunction)(void (*)(void))on_gc, METH_FASTCALL, NULL};

/* A list of `on_gc` alone. The collector is not to find, nor the program to list, either. */
static PyObject *
make_list(PyObject *module)
{
    PyObject *list = PyList_New(1);
    PyObject *function = PyCFunction_NewEx(&on_gc_method, module, NULL);
    if (list == NULL || function == NULL) {
        Py_XDECREF(list);
        Py_XDECREF(function);
        return NULL;
    }
    PyObject_GC_UnTrack(function);
    PyObject_GC_UnTrack(list);
    PyList_SET_ITEM(list, 0, function);
    return list;
}

PyObject *
kobs_watch_gc(PyObject *module, PyObject *args)
{
    gc_watch *watch = &((core_state *)PyModule_GetState(module))->gc;
    PyObject *before, *told;
    if (!PyArg_ParseTuple(args, "OO:watch_gc", &before, &told)) {
        return NULL;
    }
    if (watch->theirs == NULL) {
        PyObject *gc = PyImport_ImportModule("gc");
        PyObject *theirs = gc == NULL ? NULL : PyObject_GetAttrString(gc, "callbacks");
        Py_XDECREF(gc);
        if (theirs == NULL) {
            return NULL;
        }
        PyObject **place = PyList_CheckExact(theirs) ? find_place(theirs) : NULL;
        Py_DECREF(theirs); /* the interpreter has a reference of its own: it is ours meanwhile */
        if (place == NULL) {
            Py_RETURN_FALSE;
        }
        PyObject *list = make_list(module);
        if (list == NULL) {
            return NULL;
        }
        watch->theirs = theirs;
        watch->place = place;
        *place = list;
    }
    Py_INCREF(told);
    Py_XSETREF(watch->told, told);
    Py_INCREF(before);
    Py_XSETREF(watch->before, before);
    Py_RETURN_TRUE;
}

PyObject *
kobs_unwatch_gc(PyObject *module, PyObject *Py_UNUSED(none))
{
    gc_watch *watch = &((core_state *)PyModule_GetState(module))->gc;
    if (watch->theirs != NULL) {
        PyObject *list = *watch->place;
        *watch->place = watch->theirs;
        watch->theirs = NULL;
        Py_DECREF(list);
    }
    Py_CLEAR(watch->told);
    Py_CLEAR(watch->before);
    Py_RETURN_NONE;
}

#else /* the list is another thread's to read at any time */

PyObject *
kobs_watch_gc(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    Py_RETURN_FALSE;
}

PyObject *
kobs_unwatch_gc(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    Py_RETURN_NONE;
}

#endif
