/* `StepHook`: stands in for the method of asyncio's `Handle` that runs a step of the loop, and goes
 * to Python only for a step that took long or ended its task. It adds no frame. The Python twin is
 * a stand-in of `_patch` with the hooks of the watch `scheduler`. */

#include "hook.h"
#include "stand_in.h"

typedef struct {
    kobs_stand_in head;   /* for a function of one argument, the handle */
    PyObject *after;      /* callable((handle, callback, began_ns), None) */
    PyObject *tasks;      /* dict: identities of the tasks that have not ended */
    PyObject *live;       /* list: empty once nobody watches */
    PyObject *where, *tell;
    PyObject *callback_name, *self_name, *done_name;
    uint64_t stall_ns;
} step_object;

/* What a callback is bound to, borrowed or in `held`; NULL where it is to nothing, or of a kind that
 * the program made: no code of the program is run. */
static PyObject *
bound_to(step_object *self, PyObject *callback, PyObject **held)
{
    *held = NULL;
    if (PyCFunction_CheckExact(callback)) {
        return PyCFunction_GET_SELF(callback);
    }
    if (PyMethod_Check(callback)) {
        return PyMethod_GET_SELF(callback);
    }
    PyTypeObject *type = Py_TYPE(callback);
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *found = _PyType_LookupRef(type, self->self_name);
#else
    PyObject *found = Py_XNewRef(_PyType_Lookup(type, self->self_name));
#endif
    if (found != NULL && (Py_IS_TYPE(found, &PyGetSetDescr_Type)
                          || Py_IS_TYPE(found, &PyMemberDescr_Type))) {
        *held = Py_TYPE(found)->tp_descr_get(found, callback, (PyObject *)type);
    }
    Py_XDECREF(found);
    return *held;
}

/* Whether the step was the last of a task that is known; -1 with an exception set. */
static int
ended_task(step_object *self, PyObject *callback)
{
    PyObject *held, *task = bound_to(self, callback, &held);

    if (task == NULL) {
        if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
        }
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *key = PyLong_FromVoidPtr(task);
    int ended = key == NULL ? -1 : PyDict_Contains(self->tasks, key);
    Py_XDECREF(key);
    if (ended > 0) {
        PyObject *done = PyObject_CallMethodNoArgs(task, self->done_name);
        ended = done == NULL ? -1 : PyObject_IsTrue(done);
        Py_XDECREF(done);
    }
    Py_XDECREF(held);
    return ended;
}

static int
look(step_object *self, PyObject *handle, PyObject *callback, uint64_t began)
{
    int tell = kobs_now() - began >= self->stall_ns ? 1 : ended_task(self, callback);

    if (tell <= 0) {
        return tell;
    }
    PyObject *state = Py_BuildValue("(OOK)", handle, callback, (unsigned long long)began);
    PyObject *done = state == NULL ? NULL : kobs_hook_run(self->after, state, Py_None);
    Py_XDECREF(state);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyObject *
step_call(PyObject *called, PyObject *const *args, size_t count, PyObject *names)
{
    step_object *self = (step_object *)called;
    PyObject *callback = NULL;

    if (!kobs_busy && PyList_GET_SIZE(self->live) > 0 && PyVectorcall_NARGS(count) > 0) {
        callback = PyObject_GetAttr(args[0], self->callback_name);
        if (callback == NULL && !kobs_hook_swallow(self->tell, self->where)) {
            return NULL;
        }
    }
    if (callback == NULL) {
        return PyObject_Vectorcall(self->head.function, args, count, names);
    }
    PyObject *handle = Py_NewRef(args[0]);
    uint64_t began = kobs_now();
    PyObject *result = PyObject_Vectorcall(self->head.function, args, count, names);
    if (result != NULL && !kobs_busy) {
        kobs_busy = true;
        if (look(self, handle, callback, began) < 0
            && !kobs_hook_swallow(self->tell, self->where)) {
            Py_CLEAR(result); /* an interrupt */
        }
        kobs_busy = false;
    }
    Py_DECREF(callback);
    Py_DECREF(handle);
    return result;
}

/* -- as the function that it stands in for ---------------------------------------------------- */

static PyObject *
step_getattr(step_object *self, PyObject *name)
{
    if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "__reduce_ex__") == 0) {
        return PyObject_GenericGetAttr((PyObject *)self, name);
    }
    return PyObject_GetAttr(self->head.function, name);
}

/* -- the type ------------------------------------------------------------------------------------ */

static PyObject *
step_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"original", "after", "tasks", "stall_ms", "live", "where", "tell",
                            NULL};
    PyObject *original, *after, *tasks, *live, *where, *tell;
    double stall_ms;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$O!OO!dO!UO:StepHook", names,
                                     &PyFunction_Type, &original, &after, &PyDict_Type, &tasks,
                                     &stall_ms, &PyList_Type, &live, &where, &tell)) {
        return NULL;
    }
    step_object *self = (step_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->head.function = Py_NewRef(original);
    self->after = Py_NewRef(after);
    self->tasks = Py_NewRef(tasks);
    self->live = Py_NewRef(live);
    self->where = Py_NewRef(where);
    self->tell = Py_NewRef(tell);
    self->stall_ns = (uint64_t)(stall_ms * 1e6);
    self->head.vectorcall = step_call;
    self->callback_name = PyUnicode_InternFromString("_callback");
    self->self_name = PyUnicode_InternFromString("__self__");
    self->done_name = PyUnicode_InternFromString("done");
    if (self->callback_name == NULL || self->self_name == NULL || self->done_name == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
step_traverse(step_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->head.function);
    Py_VISIT(self->after);
    Py_VISIT(self->tasks);
    Py_VISIT(self->live);
    Py_VISIT(self->tell);
    return 0;
}

static int
step_clear(step_object *self)
{
    Py_CLEAR(self->head.function);
    Py_CLEAR(self->after);
    Py_CLEAR(self->tasks);
    Py_CLEAR(self->live);
    Py_CLEAR(self->tell);
    return 0;
}

static void
step_dealloc(step_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->head.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    step_clear(self);
    Py_CLEAR(self->where);
    Py_CLEAR(self->callback_name);
    Py_CLEAR(self->self_name);
    Py_CLEAR(self->done_name);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef step_methods[] = {
    {"__reduce_ex__", kobs_stand_in_reduce, METH_O, PyDoc_STR("By name.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot step_slots[] = {
    {Py_tp_new, step_new},
    {Py_tp_dealloc, step_dealloc},
    {Py_tp_traverse, step_traverse},
    {Py_tp_clear, step_clear},
    KOBS_STAND_IN_SLOTS,
    {Py_tp_getattro, step_getattr},
    {Py_tp_methods, step_methods},
    {0, NULL},
};

static PyType_Spec step_spec = {
    .name = "kobs._core._native.StepHook",
    .basicsize = sizeof(step_object),
    .flags = KOBS_STAND_IN_FLAGS,
    .slots = step_slots,
};

int
kobs_add_step_type(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &step_spec, NULL);
    int done = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);

    Py_XDECREF(type);
    return done;
}
