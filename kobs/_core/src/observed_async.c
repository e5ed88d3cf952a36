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

/* What `inner.name(*args)` gives, the first time: the event loop is told of this generator, not of
 * the one inside. Whoever is asked to close it closes this one. */
static PyObject *
first_step(stepped_object *self, PyObject *method, PyObject *const *args, Py_ssize_t count)
{
    PyThreadState *thread = PyThreadState_Get();
    PyObject *first = thread->async_gen_firstiter, *last = thread->async_gen_finalizer;

    if (!atomic_exchange_explicit(&self->hooked, true, memory_order_relaxed)) {
        self->finalizer = Py_XNewRef(last);
        if (first != NULL) {
            Py_INCREF(first);
            PyObject *done = PyObject_CallOneArg(first, (PyObject *)self);
            Py_DECREF(first);
            if (done == NULL) {
                return NULL;
            }
            Py_DECREF(done);
        }
    }
    /* No other code runs while the hooks are away, that of finalizers neither: from 3.12 on there is
     * no collection in the midst of C code. */
#if PY_VERSION_HEX < 0x030C0000
    int collects = PyGC_Disable();
#endif
    first = thread->async_gen_firstiter;
    last = thread->async_gen_finalizer;
    thread->async_gen_firstiter = thread->async_gen_finalizer = NULL;
    PyObject *made = PyObject_Vectorcall(method, args, (size_t)count, NULL);
    thread->async_gen_firstiter = first;
    thread->async_gen_finalizer = last;
#if PY_VERSION_HEX < 0x030C0000
    if (collects) {
        PyGC_Enable();
    }
#endif
    kobs_set(&self->begun, made != NULL);
    return made;
}

static PyObject *
make_step(stepped_object *self, step_kind kind, const char *name, PyObject *const *args,
          Py_ssize_t count)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *method = kobs_attribute(self->inner, name);

    if (method == NULL) {
        return NULL;
    }
    PyObject *inner = kobs_is_set(&self->begun) ? PyObject_Vectorcall(method, args, (size_t)count, NULL)
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
    if (kobs_step_has_ended(self)) {
        if (kobs_is_set(&self->started) && !kobs_is_set(&self->silent)) {
            kobs_set(&self->silent, true);
            if (kobs_step_returned(self, Py_None) < 0) {
                PyErr_WriteUnraisable((PyObject *)self);
            }
        }
        return;
    }
    if (self->finalizer != NULL && !kobs_is_set(&self->closing)) {
        PyObject *done = PyObject_CallOneArg(self->finalizer, (PyObject *)self);
        if (done == NULL) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        Py_XDECREF(done);
        return;
    }
    if (kobs_is_set(&self->started) && !kobs_is_set(&self->silent) && kobs_step_enter(self) == 1) {
        /* There is no loop: the original is closed as it goes, here and now. */
        Py_SETREF(self->inner, Py_NewRef(Py_None));
        if (kobs_step_leave(self, true) == 0) {
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

    if (!kobs_is_set(&generator->started) && (self->kind != STEP_NEXT || self->valued)) {
        return 0;
    }
    return kobs_step_enter(generator);
}

/* A generator that was closed, or thrown into, before it began. */
static void
end_early(stepped_object *generator)
{
    if (!kobs_is_set(&generator->started) && kobs_step_has_ended(generator)) {
        kobs_step_never(generator);
    }
}

/* Closing begins with the first step, unless another one is under way: the event loop is not asked
 * to close it from then on. 0, or -1 with an exception set. */
static int
note_closing(step_object *self)
{
    stepped_object *generator = self->generator;

    if (self->kind == STEP_CLOSE && !kobs_is_set(&generator->closing)) {
        PyObject *running = kobs_attribute(generator->inner, "ag_running");
        kobs_set(&generator->closing, running == Py_False);
        Py_XDECREF(running);
        return running == NULL ? -1 : 0;
    }
    return 0;
}

/* After a step that was observed. `result` is what it gave; an exception may be set instead. */
static PySendResult
leave(step_object *self, PySendResult sent, PyObject **result)
{
    stepped_object *generator = self->generator;
    bool ended = sent != PYGEN_NEXT && kobs_step_has_ended(generator);

    if (kobs_step_leave(generator, ended) < 0) {
        Py_CLEAR(*result);
        return PYGEN_ERROR;
    }
    if (!ended) {
        return sent;
    }
    if (sent == PYGEN_RETURN) {
        if (kobs_step_returned(generator, Py_None) < 0) {
            Py_CLEAR(*result);
            return PYGEN_ERROR;
        }
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
    int ours = note_closing(self) < 0 ? -1 : enter(self);
    PySendResult sent = PYGEN_ERROR;

    *result = NULL;
    if (ours < 0) {
        return PYGEN_ERROR;
    }
    if (kobs_enter_stack() == 0) {
        sent = PyIter_Send(self->inner, value, result);
        kobs_leave_stack();
    }
    if (ours == 0) {
        end_early(self->generator);
        return sent;
    }
    return leave(self, sent, result);
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
    int ours = kobs_is_set(&self->generator->started) ? enter(self) : 0;
    PyObject *result = NULL;

    if (ours < 0) {
        return NULL;
    }
    PyObject *throw = PyObject_GetAttr(self->inner, state->observed.throw_name);
    if (throw != NULL && kobs_enter_stack() == 0) {
        result = PyObject_Vectorcall(throw, args, (size_t)count, NULL);
        kobs_leave_stack();
    }
    Py_XDECREF(throw);
    if (ours == 0) {
        end_early(self->generator);
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
    int ours = kobs_is_set(&self->generator->started) ? enter(self) : 0; /* from 3.13 on the original runs */

    if (ours < 0) {
        return NULL;
    }
    PyObject *closed = PyObject_CallMethodNoArgs(self->inner, state->observed.close_name);
    if (ours == 0) {
        end_early(self->generator);
    }
    else {
        leave(self, closed == NULL ? PYGEN_ERROR : PYGEN_RETURN, &closed);
    }
    return closed;
}

static PyObject *
step_getattro(PyObject *self, PyObject *name)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));

    return kobs_is_own(&state->observed, self, name)
        ? PyObject_GenericGetAttr(self, name)
        : PyObject_GetAttr(((step_object *)self)->inner, name);
}

static PyObject *
step_repr(PyObject *self)
{
    return PyObject_Repr(((step_object *)self)->inner);
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
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, step_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, step_send},
    {0, NULL},
};

int
kobs_add_async_types(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->observed.async_step = kobs_make_stepped_type(
        module, "kobs._core._native.async_generator_asend", sizeof(step_object), slots);
    return state->observed.async_step == NULL ? -1 : 0;
}
