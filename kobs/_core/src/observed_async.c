/* Async generators of observed calls: their steps are awaitables of their own, each of which stands
 * for the original's. */

#include "observed.h"

typedef enum { STEP_NEXT, STEP_THROW, STEP_CLOSE } step_kind;

typedef struct {
    PyObject_HEAD
    PyObject *inner; /* the original's awaitable */
    stepped_object *generator;
    step_kind kind;
    bool valued; /* sends something that a generator not begun does not take */
} step_object;

/* -- the generator --------------------------------------------------------------------------- */

/* Whether the original has run to its end; true where that cannot be asked. */
static bool
has_ended(stepped_object *self)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    PyObject *frame = PyObject_GetAttrString(self->inner, "ag_frame");
    bool ended = frame == NULL || frame == Py_None;
    Py_XDECREF(frame);
    PyErr_Restore(type, error, traceback);
    return ended;
}

/* What `inner.name(*args)` gives. The first time the event loop is told of this generator, not of
 * the one inside: whoever is asked to close it closes this one. */
static PyObject *
first_step(stepped_object *self, PyObject *method, PyObject *const *args, Py_ssize_t count)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *get = state->observed.get_hooks, *set = state->observed.set_hooks, *done;
    PyObject *hooks = PyObject_CallNoArgs(get), *made = NULL;

    if (hooks == NULL) {
        return NULL;
    }
    self->hooked = true;
    PyObject *first = PyTuple_GET_ITEM(hooks, 0), *last = PyTuple_GET_ITEM(hooks, 1);
    if (last != Py_None) {
        self->finalizer = Py_NewRef(last);
    }
    done = first == Py_None ? Py_NewRef(Py_None) : PyObject_CallOneArg(first, (PyObject *)self);
    if (done != NULL) {
        Py_SETREF(done, PyObject_CallFunctionObjArgs(set, Py_None, Py_None, NULL));
    }
    if (done != NULL) {
        Py_DECREF(done);
        made = PyObject_Vectorcall(method, args, (size_t)count, NULL);
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        done = PyObject_CallFunctionObjArgs(set, first, last, NULL);
        if (done == NULL) {
            PyErr_WriteUnraisable(set);
        }
        PyErr_Restore(type, error, traceback);
    }
    Py_XDECREF(done);
    Py_DECREF(hooks);
    return made;
}

static PyObject *
make_step(stepped_object *self, step_kind kind, const char *name, PyObject *const *args,
          Py_ssize_t count)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *method = PyObject_GetAttrString(self->inner, name);

    if (method == NULL) {
        return NULL;
    }
    PyObject *inner = self->hooked ? PyObject_Vectorcall(method, args, (size_t)count, NULL)
                                   : first_step(self, method, args, count);
    Py_DECREF(method);
    if (inner == NULL) {
        return NULL;
    }
    step_object *step = PyObject_GC_New(step_object, state->observed.async_step);
    if (step == NULL) {
        Py_DECREF(inner);
        return NULL;
    }
    step->inner = inner;
    step->generator = (stepped_object *)Py_NewRef(self);
    step->kind = kind;
    step->valued = kind == STEP_NEXT && count > 0 && args[0] != Py_None;
    PyObject_GC_Track(step);
    return (PyObject *)step;
}

PyObject *
kobs_async_next(stepped_object *self)
{
    return make_step(self, STEP_NEXT, "__anext__", NULL, 0);
}

static PyObject *
async_send(stepped_object *self, PyObject *value)
{
    return make_step(self, STEP_NEXT, "asend", &value, 1);
}

static PyObject *
async_throw(stepped_object *self, PyObject *const *args, Py_ssize_t count)
{
    return make_step(self, STEP_THROW, "athrow", args, count);
}

static PyObject *
async_close(stepped_object *self, PyObject *Py_UNUSED(none))
{
    return make_step(self, STEP_CLOSE, "aclose", NULL, 0);
}

PyMethodDef kobs_async_methods[] = {
    {"asend", (PyCFunction)async_send, METH_O, NULL},
    {"athrow", (PyCFunction)(void (*)(void))async_throw, METH_FASTCALL, NULL},
    {"aclose", (PyCFunction)async_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

void
kobs_async_finalize(stepped_object *self)
{
    if (has_ended(self)) {
        if (self->started && !self->silent && kobs_step_returned(self, Py_None) < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        return;
    }
    if (self->finalizer != NULL) {
        PyObject *done = PyObject_CallOneArg(self->finalizer, (PyObject *)self);
        if (done == NULL) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        Py_XDECREF(done);
        return;
    }
    if (self->started && !self->silent && kobs_step_enter(self) == 1) {
        /* There is no loop: the original is closed as it goes, here and now. */
        Py_SETREF(self->inner, Py_NewRef(Py_None));
        if (kobs_step_leave(self) == 0) {
            kobs_step_returned(self, Py_None);
        }
    }
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
}

/* -- a step ---------------------------------------------------------------------------------- */

/* As `kobs_step_enter`. */
static int
enter(step_object *self)
{
    stepped_object *generator = self->generator;

    if (!generator->started && (self->kind != STEP_NEXT || self->valued)) {
        if (self->kind != STEP_NEXT) { /* it ends without having begun */
            generator->started = generator->silent = true;
        }
        return 0;
    }
    return kobs_step_enter(generator);
}

/* After a step that was observed. `result` is what it gave; an exception may be set instead. */
static PySendResult
leave(step_object *self, PySendResult sent, PyObject **result)
{
    stepped_object *generator = self->generator;

    if (kobs_step_leave(generator) < 0) {
        Py_CLEAR(*result);
        return PYGEN_ERROR;
    }
    if (sent == PYGEN_NEXT) {
        return sent;
    }
    if (sent == PYGEN_RETURN) {
        if (self->kind == STEP_CLOSE && has_ended(generator)
            && kobs_step_returned(generator, Py_None) < 0) {
            Py_CLEAR(*result);
            return PYGEN_ERROR;
        }
        return sent;
    }
    if (!has_ended(generator)) { /* a step at the wrong time */
        return sent;
    }
    if (PyErr_ExceptionMatches(PyExc_StopAsyncIteration)) {
        PyObject *type, *error, *traceback;
        PyErr_Fetch(&type, &error, &traceback);
        if (kobs_step_returned(generator, Py_None) == 0) {
            PyErr_Restore(type, error, traceback);
        }
        else {
            Py_XDECREF(type);
            Py_XDECREF(error);
            Py_XDECREF(traceback);
        }
        return sent;
    }
    kobs_step_raised(generator);
    return sent;
}

static PySendResult
step_send(step_object *self, PyObject *value, PyObject **result)
{
    int ours = enter(self);

    *result = NULL;
    if (ours < 0) {
        return PYGEN_ERROR;
    }
    PySendResult sent = PyIter_Send(self->inner, value, result);
    return ours == 0 ? sent : leave(self, sent, result);
}

static PyObject *
step_next(step_object *self)
{
    PyObject *result;

    if (step_send(self, Py_None, &result) == PYGEN_RETURN) {
        kobs_stop_with(result);
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *
step_send_method(step_object *self, PyObject *value)
{
    PyObject *result;

    if (step_send(self, value, &result) == PYGEN_RETURN) {
        kobs_stop_with(result);
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *
step_throw(step_object *self, PyObject *const *args, Py_ssize_t count)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    int ours = enter(self);
    PyObject *result = NULL;

    if (ours < 0) {
        return NULL;
    }
    PyObject *throw = PyObject_GetAttr(self->inner, state->observed.throw_name);
    if (throw != NULL) {
        result = PyObject_Vectorcall(throw, args, (size_t)count, NULL);
        Py_DECREF(throw);
    }
    if (ours == 0) {
        return result;
    }
    if (result == NULL && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        /* It gave a value: kept in the exception while this is told. */
        PyObject *type, *error, *traceback, *nothing = Py_NewRef(Py_None);
        PyErr_Fetch(&type, &error, &traceback);
        if (leave(self, PYGEN_RETURN, &nothing) == PYGEN_RETURN) {
            Py_DECREF(nothing);
            PyErr_Restore(type, error, traceback);
        }
        else {
            Py_XDECREF(type);
            Py_XDECREF(error);
            Py_XDECREF(traceback);
        }
        return NULL;
    }
    leave(self, result == NULL ? PYGEN_ERROR : PYGEN_NEXT, &result);
    return result;
}

static PyObject *
step_close(step_object *self, PyObject *Py_UNUSED(none))
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));

    return PyObject_CallMethodNoArgs(self->inner, state->observed.close_name);
}

static PyObject *
step_getattro(PyObject *self, PyObject *name)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    observed_state *names = &state->observed;

    if (name != names->class_name && name != names->doc_name && name != names->module_name
        && _PyType_Lookup(Py_TYPE(self), name) != NULL) {
        return PyObject_GenericGetAttr(self, name);
    }
    return PyObject_GetAttr(((step_object *)self)->inner, name);
}

static PyObject *
step_repr(PyObject *self)
{
    return PyObject_Repr(((step_object *)self)->inner);
}

static PyObject *
itself(PyObject *self)
{
    return Py_NewRef(self);
}

static int
step_traverse(step_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->inner);
    Py_VISIT(self->generator);
    return 0;
}

static void
step_dealloc(step_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->generator);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"send", (PyCFunction)step_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))step_throw, METH_FASTCALL, NULL},
    {"close", (PyCFunction)step_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, step_dealloc},
    {Py_tp_traverse, step_traverse},
    {Py_tp_getattro, step_getattro},
    {Py_tp_repr, step_repr},
    {Py_tp_methods, methods},
    {Py_tp_iter, itself},
    {Py_tp_iternext, step_next},
    {Py_am_await, itself},
    {Py_am_send, step_send},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.async_generator_asend",
    .basicsize = sizeof(step_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_async_types(PyObject *module)
{
    core_state *core = PyModule_GetState(module);
    observed_state *state = &core->observed;
    PyObject *get = PySys_GetObject("get_asyncgen_hooks"), *set = PySys_GetObject("set_asyncgen_hooks");

    if (get == NULL || set == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "sys has no hooks for async generators");
        return -1;
    }
    state->get_hooks = Py_NewRef(get);
    state->set_hooks = Py_NewRef(set);
    state->async_step = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->async_step == NULL ? -1 : 0;
}
