/* The audit hook: one for the whole process, since CPython has no way to remove one. While nobody
 * listens it is one load. The Python twin is in kobs_instrumentation/watch/_audit.py. */

#include "core.h"

#include <stdatomic.h>

static PyObject *handle, *wanted;
static PyInterpreterState *interpreter;
static atomic_bool listening, added;

/* What is not known yet is handed over as well: the handler says from then on. */
static int
is_wanted(PyObject *name)
{
    PyObject *known = PyDict_GetItemWithError(wanted, name);

    return known == NULL && PyErr_Occurred() ? -1 : known != Py_False;
}

/* An exception that the handler returned is raised from the audited call, as if it were its own:
 * the handler is in no traceback. One that it raised is an error of ours. */
static int
hand_over(PyObject *name, PyObject *args)
{
    PyThreadState *thread = PyThreadState_Get();
    PyObject *error;

    bool held = kobs_hold_signals(thread);
    KOBS_UNSEEN
    error = PyObject_CallFunctionObjArgs(handle, name, args, NULL);
    KOBS_SEEN
    kobs_release_signals(thread, held);
    if (error == NULL) {
        return PyErr_ExceptionMatches(PyExc_Exception) ? 0 : -1;
    }
    if (PyExceptionInstance_Check(error)) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    int refused = error != Py_None ? -1 : 0;
    Py_DECREF(error);
    return refused;
}

static int
hook(const char *event, PyObject *args, void *Py_UNUSED(data))
{
    if (!atomic_load_explicit(&listening, memory_order_acquire)) {
        return 0;
    }
#if PY_VERSION_HEX >= 0x030D0000
    PyThreadState *thread = PyThreadState_GetUnchecked();
#else
    PyThreadState *thread = _PyThreadState_UncheckedGet();
#endif
    if (thread == NULL || PyThreadState_GetInterpreter(thread) != interpreter || args == NULL) {
        return 0;
    }
    PyObject *name = PyUnicode_FromString(event);
    int result = name == NULL ? -1 : is_wanted(name);
    if (result > 0) {
        result = hand_over(name, args);
    }
    else if (result < 0) {
        result = 0;
    }
    if (result == 0) {
        PyErr_Clear();
    }
    Py_XDECREF(name);
    return result;
}

PyObject *
kobs_audit(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *function, *names;

    if (!PyArg_ParseTuple(args, "OO!:audit", &function, &PyDict_Type, &names)) {
        return NULL;
    }
    if (atomic_exchange(&added, true)) {
        PyErr_SetString(PyExc_RuntimeError, "there is an audit hook of kobs already");
        return NULL;
    }
    handle = Py_NewRef(function); /* for ever, as the hook */
    wanted = Py_NewRef(names);
    interpreter = PyInterpreterState_Get();
    if (PySys_AddAuditHook(hook, NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
kobs_audit_listens(PyObject *Py_UNUSED(module), PyObject *on)
{
    atomic_store_explicit(&listening, on == Py_True, memory_order_release);
    Py_RETURN_NONE;
}
