/* What an observed call gives whose end comes later. It passes every step on to the coroutine or
 * generator that it stands for, and so knows how long that ran and how it ended; in all that can be
 * asked of it, it is that one. */

#include "observed.h"

/* -- steps ----------------------------------------------------------------------------------- */

int
kobs_step_enter(stepped_object *self)
{
    if (self->silent || self->stepping) {
        return 0;
    }
    if (!self->started) {
        self->started = true;
        int routed = kobs_call_route(&self->call);
        if (routed <= 0 || kobs_call_begin(&self->call) < 0) {
            self->silent = true;
            return routed == 0 ? 0 : -1;
        }
    }
    if (kobs_call_enter(&self->call) < 0) {
        return -1;
    }
    self->stepping = true;
    return 1;
}

int
kobs_step_leave(stepped_object *self)
{
    self->stepping = false;
    return kobs_call_leave(&self->call);
}

/* Let go of the arguments. */
static void
drop_arguments(stepped_object *self)
{
    PyObject **kept = self->kept;
    Py_ssize_t count = self->kept_count;

    self->kept = NULL;
    self->kept_count = 0;
    self->call.args = NULL;
    self->call.count = 0;
    Py_CLEAR(self->call.keywords);
    while (count > 0) {
        Py_DECREF(kept[--count]);
    }
    if (kept != self->few) {
        PyMem_Free(kept);
    }
}

/* With whatever exception is set. */
static void
close_call(stepped_object *self)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    kobs_call_clear(&self->call);
    drop_arguments(self);
    PyErr_Restore(type, error, traceback);
}

int
kobs_step_returned(stepped_object *self, PyObject *result)
{
    self->silent = true;
    int done = kobs_call_returned(&self->call, result);
    close_call(self);
    return done;
}

void
kobs_step_raised(stepped_object *self)
{
    PyObject *type, *error, *traceback;

    /* A generator that is closed early has ended in order. */
    if (self->call.observed->style != STYLE_COROUTINE
        && PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
        PyErr_Fetch(&type, &error, &traceback);
        if (kobs_step_returned(self, Py_None) == 0) {
            PyErr_Restore(type, error, traceback);
            return;
        }
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        return;
    }
    self->silent = true;
    kobs_call_raised(&self->call);
    close_call(self);
}

void
kobs_stop_with(PyObject *value)
{
    if (value == Py_None) {
        PyErr_SetNone(PyExc_StopIteration);
        return;
    }
    /* As an argument: an exception or a tuple would be taken apart by PyErr_SetObject. */
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    if (stop != NULL) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
}

/* The value of the StopIteration that is set, which is taken away. */
static PyObject *
take_stop(void)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *value = PyObject_GetAttrString(error, "value");
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return value;
}

/* -- sending --------------------------------------------------------------------------------- */

static PySendResult
stepped_send(stepped_object *self, PyObject *value, PyObject **result)
{
    /* What is not begun takes no value: that is no step, but an error of the caller. */
    int ours = self->started || value == Py_None ? kobs_step_enter(self) : 0;

    *result = NULL;
    if (ours < 0) {
        return PYGEN_ERROR;
    }
    PySendResult sent = PyIter_Send(self->inner, value, result);
    if (ours == 0) {
        return sent;
    }
    if (kobs_step_leave(self) < 0
        || (sent == PYGEN_RETURN && kobs_step_returned(self, *result) < 0)) {
        Py_CLEAR(*result);
        return PYGEN_ERROR;
    }
    if (sent == PYGEN_ERROR) {
        kobs_step_raised(self);
    }
    return sent;
}

static PyObject *
stepped_next(stepped_object *self)
{
    PyObject *result;

    if (stepped_send(self, Py_None, &result) == PYGEN_RETURN) {
        if (result != Py_None) { /* else no exception is needed to say so */
            kobs_stop_with(result);
        }
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *
stepped_send_method(stepped_object *self, PyObject *value)
{
    PyObject *result;

    if (stepped_send(self, value, &result) == PYGEN_RETURN) {
        kobs_stop_with(result);
        Py_CLEAR(result);
    }
    return result;
}

/* -- throwing and closing -------------------------------------------------------------------- */

static PyObject *
throw_into(stepped_object *self, PyObject *const *args, Py_ssize_t count)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *throw = PyObject_GetAttr(self->inner, state->observed.throw_name), *result = NULL;

    if (throw != NULL) {
        result = PyObject_Vectorcall(throw, args, (size_t)count, NULL);
        Py_DECREF(throw);
    }
    return result;
}

/* A step by an exception: gives what was yielded, or NULL with an exception set; then it has ended,
 * and a StopIteration has the value. */
static PyObject *
stepped_throw(stepped_object *self, PyObject *const *args, Py_ssize_t count)
{
    if (!self->started) { /* it ends without having begun */
        PyObject *result = throw_into(self, args, count);
        self->silent = self->started = true;
        close_call(self);
        return result;
    }
    int ours = kobs_step_enter(self);
    if (ours < 0) {
        return NULL;
    }
    PyObject *result = throw_into(self, args, count);
    if (ours == 0) {
        return result;
    }
    if (kobs_step_leave(self) < 0) {
        Py_CLEAR(result);
        return NULL;
    }
    if (result != NULL) {
        return result;
    }
    if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyObject *value = take_stop();
        if (value != NULL && kobs_step_returned(self, value) == 0) {
            kobs_stop_with(value);
        }
        Py_XDECREF(value);
        return NULL;
    }
    kobs_step_raised(self);
    return NULL;
}

static PyObject *
stepped_close(stepped_object *self, PyObject *Py_UNUSED(none))
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));

    if (!self->started || self->silent || self->stepping) {
        PyObject *closed = PyObject_CallMethodNoArgs(self->inner, state->observed.close_name);
        if (closed != NULL && !self->started) {
            self->silent = self->started = true;
            close_call(self);
        }
        return closed;
    }
    PyObject *exit = PyExc_GeneratorExit, *result = stepped_throw(self, &exit, 1);
    if (result != NULL) {
        bool coroutine = self->call.observed->style == STYLE_COROUTINE;
        Py_DECREF(result);
        PyErr_Format(PyExc_RuntimeError, "%s ignored GeneratorExit",
                     coroutine ? "coroutine" : "generator");
        return NULL;
    }
    if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
        result = take_stop();
#if PY_VERSION_HEX < 0x030D0000
        if (result != NULL) {
            Py_SETREF(result, Py_NewRef(Py_None)); /* `close` gives the value from 3.13 on */
        }
#endif
        return result;
    }
    if (PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    return NULL;
}

/* Whether what it stands for has run to its end without it: the garbage collector came there first. */
static bool
inner_has_ended(stepped_object *self)
{
    bool coroutine = self->call.observed->style == STYLE_COROUTINE;
    PyObject *frame = PyObject_GetAttrString(self->inner, coroutine ? "cr_frame" : "gi_frame");
    bool ended = frame == Py_None;

    PyErr_Clear();
    Py_XDECREF(frame);
    return ended;
}

static void
stepped_finalize(stepped_object *self)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    if (self->call.observed->style == STYLE_ASYNC_GENERATOR) {
        kobs_async_finalize(self);
    }
    else if (self->started && !self->silent && inner_has_ended(self)) {
        PyErr_SetNone(PyExc_GeneratorExit);
        kobs_step_raised(self);
        PyErr_Clear();
    }
    else if (self->started && !self->silent) {
        PyObject *closed = stepped_close(self, NULL);
        if (closed == NULL) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        Py_XDECREF(closed);
    }
    PyErr_Restore(type, error, traceback);
}

/* -- what can be asked of it ------------------------------------------------------------------ */

static PyObject *
stepped_getattro(PyObject *self, PyObject *name)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    observed_state *names = &state->observed;
    PyObject *found;

    Py_INCREF(name);
    if (PyUnicode_CheckExact(name) && !PyUnicode_CHECK_INTERNED(name)) {
        PyUnicode_InternInPlace(&name);
    }
    if (name != names->class_name && name != names->doc_name && name != names->module_name
        && _PyType_Lookup(Py_TYPE(self), name) != NULL) {
        found = PyObject_GenericGetAttr(self, name);
    }
    else {
        found = PyObject_GetAttr(((stepped_object *)self)->inner, name);
    }
    Py_DECREF(name);
    return found;
}

static int
stepped_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    return PyObject_SetAttr(((stepped_object *)self)->inner, name, value);
}

static PyObject *
stepped_repr(PyObject *self)
{
    return PyObject_Repr(((stepped_object *)self)->inner);
}

static PyObject *
itself(PyObject *self)
{
    return Py_NewRef(self);
}

/* Coroutines are iterable only in what `types.coroutine` made: there `yield from` takes them. */
static PyObject *
coroutine_iter(PyObject *self)
{
    PyFrameObject *frame = PyEval_GetFrame();

    if (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        bool takes = code->co_flags & (CO_COROUTINE | CO_ITERABLE_COROUTINE);
        Py_DECREF(code);
        if (takes) {
            return Py_NewRef(self);
        }
    }
    PyErr_SetString(PyExc_TypeError, "'coroutine' object is not iterable");
    return NULL;
}

/* -- the types ------------------------------------------------------------------------------- */

static bool
stands_for(const observed_state *state, kobs_style style, PyObject *inner)
{
    switch (style) {
    case STYLE_COROUTINE:
        return PyCoro_CheckExact(inner) || Py_TYPE(inner) == state->coroutine;
    case STYLE_GENERATOR:
        return PyGen_CheckExact(inner) || Py_TYPE(inner) == state->generator;
    case STYLE_AWAITABLE_GENERATOR:
        return PyGen_CheckExact(inner) || Py_TYPE(inner) == state->awaitable_generator;
    case STYLE_ASYNC_GENERATOR:
        return PyAsyncGen_CheckExact(inner) || Py_TYPE(inner) == state->async_generator;
    case STYLE_PLAIN:
        return false;
    }
    Py_UNREACHABLE();
}

PyObject *
kobs_stepped(kobs_call *call, PyObject *inner)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(call->observed));
    Py_ssize_t keywords = call->keywords == NULL ? 0 : PyTuple_GET_SIZE(call->keywords);
    kobs_style style = call->observed->style;
    PyTypeObject *const types[] = {
        [STYLE_COROUTINE] = state->observed.coroutine,
        [STYLE_GENERATOR] = state->observed.generator,
        [STYLE_AWAITABLE_GENERATOR] = state->observed.awaitable_generator,
        [STYLE_ASYNC_GENERATOR] = state->observed.async_generator,
    };

    if (!stands_for(&state->observed, style, inner)) {
        return inner;
    }
    stepped_object *self = PyObject_GC_New(stepped_object, types[style]);
    if (self == NULL) {
        Py_DECREF(inner);
        return NULL;
    }
    self->inner = inner;
    self->call = *call;
    Py_INCREF(call->observed);
    Py_XINCREF(call->keywords);
    self->kept_count = call->count + keywords;
    self->started = self->stepping = self->silent = self->hooked = false;
    self->finalizer = self->weakrefs = NULL;
    self->kept = self->kept_count <= (Py_ssize_t)(sizeof(self->few) / sizeof(self->few[0]))
        ? self->few : PyMem_New(PyObject *, (size_t)self->kept_count);
    if (self->kept == NULL) { /* no memory: it runs, and nothing is told of it */
        self->kept_count = self->call.count = 0;
        self->silent = true;
    }
    for (Py_ssize_t index = 0; index < self->kept_count; index++) {
        self->kept[index] = Py_NewRef(call->args[index]);
    }
    self->call.args = self->kept;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static int
stepped_traverse(stepped_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->inner);
    Py_VISIT(self->call.observed);
    Py_VISIT(self->call.route);
    for (Py_ssize_t index = 0; index < self->kept_count; index++) {
        Py_VISIT(self->kept[index]);
    }
    if (self->call.states != NULL) {
        for (Py_ssize_t index = 0; index < self->call.observed->emissions; index++) {
            Py_VISIT(self->call.states[index]);
        }
    }
    Py_VISIT(self->finalizer);
    return 0;
}

static int
stepped_clear(stepped_object *self)
{
    self->silent = true;
    kobs_call_clear(&self->call);
    drop_arguments(self);
    Py_CLEAR(self->finalizer);
    return 0;
}

static void
stepped_dealloc(stepped_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    if (!self->silent || self->hooked) { /* else its end is known */
        PyObject_GC_Track(self);
        if (PyObject_CallFinalizerFromDealloc((PyObject *)self) != 0) {
            return;
        }
        PyObject_GC_UnTrack(self);
    }
    stepped_clear(self);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->call.observed);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"send", (PyCFunction)stepped_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))stepped_throw, METH_FASTCALL, NULL},
    {"close", (PyCFunction)stepped_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(stepped_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define COMMON_SLOTS                                                                              \
    {Py_tp_dealloc, stepped_dealloc}, {Py_tp_traverse, stepped_traverse},                         \
        {Py_tp_clear, stepped_clear}, {Py_tp_finalize, stepped_finalize},                         \
        {Py_tp_getattro, stepped_getattro}, {Py_tp_setattro, stepped_setattro},                   \
        {Py_tp_repr, stepped_repr}, {Py_tp_members, members}

static PyType_Slot coroutine_slots[] = {
    COMMON_SLOTS,
    {Py_tp_methods, methods},
    {Py_tp_iter, coroutine_iter},
    {Py_tp_iternext, stepped_next},
    {Py_am_await, itself},
    {Py_am_send, stepped_send},
    {0, NULL},
};

static PyType_Slot generator_slots[] = {
    COMMON_SLOTS,
    {Py_tp_methods, methods},
    {Py_tp_iter, itself},
    {Py_tp_iternext, stepped_next},
    {Py_am_send, stepped_send},
    {0, NULL},
};

static PyType_Slot awaitable_generator_slots[] = {
    COMMON_SLOTS,
    {Py_tp_methods, methods},
    {Py_tp_iter, itself},
    {Py_tp_iternext, stepped_next},
    {Py_am_await, itself},
    {Py_am_send, stepped_send},
    {0, NULL},
};

static PyType_Slot async_generator_slots[] = {
    COMMON_SLOTS,
    {Py_tp_methods, kobs_async_methods},
    {Py_am_aiter, itself},
    {Py_am_anext, kobs_async_next},
    {0, NULL},
};

static PyTypeObject *
make_type(PyObject *module, const char *name, PyType_Slot *slots)
{
    PyType_Spec spec = {
        .name = name,
        .basicsize = sizeof(stepped_object),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
                 | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = slots,
    };

    return (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
}

int
kobs_add_stepped_types(PyObject *module)
{
    core_state *core = PyModule_GetState(module);
    observed_state *state = &core->observed;

    state->coroutine = make_type(module, "kobs._core._native.coroutine", coroutine_slots);
    state->generator = make_type(module, "kobs._core._native.generator", generator_slots);
    state->awaitable_generator
        = make_type(module, "kobs._core._native.generator", awaitable_generator_slots);
    state->async_generator
        = make_type(module, "kobs._core._native.async_generator", async_generator_slots);
    if (state->coroutine == NULL || state->generator == NULL || state->awaitable_generator == NULL
        || state->async_generator == NULL) {
        return -1;
    }
    /* A coroutine's class shows neither: the interpreter alone uses them. */
    PyObject *shown = state->coroutine->tp_dict;
    if (PyDict_DelItemString(shown, "__iter__") < 0 || PyDict_DelItemString(shown, "__next__") < 0) {
        return -1;
    }
    PyType_Modified(state->coroutine);
    return 0;
}
