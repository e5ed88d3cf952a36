/* What an observed call gives whose end comes later. It passes every step on to the coroutine or
 * generator that it stands for, and so knows how long that ran and how it ended; in all that can be
 * asked of it, it is that one. */

#include "observed.h"

/* -- steps ----------------------------------------------------------------------------------- */

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

void
kobs_step_silence(stepped_object *self)
{
    PyObject *type, *error, *traceback;

    kobs_set(&self->silent, true);
    PyErr_Fetch(&type, &error, &traceback);
    kobs_call_clear(&self->call);
    drop_arguments(self);
    PyErr_Restore(type, error, traceback);
}

/* Have what is kept of the call for oneself, if nobody has it. */
static inline bool
claim(stepped_object *self)
{
    return !atomic_exchange_explicit(&self->stepping, true, memory_order_acquire);
}

static inline void
release(stepped_object *self)
{
    atomic_store_explicit(&self->stepping, false, memory_order_release);
}

void
kobs_step_never(stepped_object *self)
{
    if (!claim(self)) {
        return;
    }
    if (!kobs_is_set(&self->started)) {
        kobs_set(&self->started, true);
        kobs_step_silence(self);
    }
    release(self);
}

/* What is told of it may run any code, which may step it too, and so may other threads: such a step
 * is the original's alone. */
int
kobs_step_enter(stepped_object *self)
{
    if (kobs_is_set(&self->silent) || !claim(self)) {
        return 0;
    }
    if (kobs_is_set(&self->silent)) { /* since another thread's step */
        release(self);
        return 0;
    }
    if (!kobs_is_set(&self->started)) {
        kobs_set(&self->started, true);
        int routed = kobs_call_route(&self->call);
        if (routed <= 0 || kobs_call_begin(&self->call) < 0) {
            kobs_step_silence(self);
            release(self);
            return routed == 0 ? 0 : -1;
        }
        if (!self->call.observed->keeps_arguments) {
            drop_arguments(self);
        }
    }
    if (kobs_call_enter(&self->call) < 0) {
        release(self);
        return -1;
    }
    return 1;
}

int
kobs_step_leave(stepped_object *self, bool ended)
{
    if (ended) {
        kobs_set(&self->silent, true);
    }
    int done = kobs_call_leave(&self->call);
    if (done < 0 && ended) {
        kobs_step_silence(self);
    }
    release(self);
    return done;
}

bool
kobs_step_has_ended(stepped_object *self)
{
    static const char *const frames[] = {
        [STYLE_PLAIN] = "", [STYLE_COROUTINE] = "cr_frame", [STYLE_GENERATOR] = "gi_frame",
        [STYLE_ASYNC_GENERATOR] = "ag_frame",
    };
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    PyObject *frame = kobs_attribute(self->inner, frames[self->call.observed->style]);
    bool ended = frame == NULL || frame == Py_None;
    Py_XDECREF(frame);
    PyErr_Restore(type, error, traceback);
    return ended;
}

int
kobs_step_returned(stepped_object *self, PyObject *result)
{
    int done = kobs_call_returned(&self->call, result);
    kobs_step_silence(self);
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
    kobs_call_raised(&self->call);
    kobs_step_silence(self);
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
    PyObject *value = kobs_attribute(error, "value");
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return value;
}

/* -- sending --------------------------------------------------------------------------------- */

static PySendResult
send_into(stepped_object *self, PyObject *value, PyObject **result)
{
    if (kobs_enter_stack() < 0) {
        return PYGEN_ERROR;
    }
    PySendResult sent = PyIter_Send(self->inner, value, result);
    kobs_leave_stack();
    return sent;
}

PySendResult
kobs_stepped_send(stepped_object *self, PyObject *value, PyObject **result)
{
    /* What is not begun takes no value: that is no step, but an error of the caller. */
    int ours = kobs_is_set(&self->started) || value == Py_None ? kobs_step_enter(self) : 0;

    *result = NULL;
    if (ours < 0) {
        return PYGEN_ERROR;
    }
    PySendResult sent = send_into(self, value, result);
    if (ours == 0) {
        return sent;
    }
    bool ended = sent == PYGEN_RETURN || (sent == PYGEN_ERROR && kobs_step_has_ended(self));
    if (kobs_step_leave(self, ended) < 0
        || (sent == PYGEN_RETURN && kobs_step_returned(self, *result) < 0)) {
        Py_CLEAR(*result);
        return PYGEN_ERROR;
    }
    if (sent == PYGEN_ERROR && ended) {
        kobs_step_raised(self);
    }
    return sent;
}

PyObject *
kobs_stepped_next(stepped_object *self)
{
    PyObject *result;

    if (kobs_stepped_send(self, Py_None, &result) == PYGEN_RETURN) {
        if (result != Py_None) { /* else no exception is needed to say so */
            kobs_stop_with(result);
        }
        Py_CLEAR(result);
    }
    return result;
}

PyObject *
kobs_stepped_send_method(stepped_object *self, PyObject *value)
{
    PyObject *result;

    if (kobs_stepped_send(self, value, &result) == PYGEN_RETURN) {
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

    if (throw != NULL && kobs_enter_stack() == 0) {
        result = PyObject_Vectorcall(throw, args, (size_t)count, NULL);
        kobs_leave_stack();
    }
    Py_XDECREF(throw);
    return result;
}

/* A step by an exception: gives what was yielded, or NULL with an exception set; then it has ended,
 * and a StopIteration has the value. */
PyObject *
kobs_stepped_throw(stepped_object *self, PyObject *const *args, Py_ssize_t count)
{
    int ours = kobs_is_set(&self->started) ? kobs_step_enter(self) : 0;
    if (ours < 0) {
        return NULL;
    }
    PyObject *result = throw_into(self, args, count);
    bool ended = result == NULL && kobs_step_has_ended(self);
    if (ours == 0) {
        if (ended && !kobs_is_set(&self->started)) { /* it ends without having begun */
            kobs_step_never(self);
        }
        return result;
    }
    if (kobs_step_leave(self, ended) < 0) {
        Py_CLEAR(result);
        return NULL;
    }
    if (!ended) { /* by what is no exception nothing is thrown */
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

#if PY_VERSION_HEX >= 0x030D0000
static PyObject *
close_generator(stepped_object *self)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *closed = NULL;

    if (kobs_step_enter(self) < 0) {
        return NULL;
    }
    if (kobs_enter_stack() == 0) {
        closed = PyObject_CallMethodNoArgs(self->inner, state->observed.close_name);
        kobs_leave_stack();
    }
    bool ended = kobs_step_has_ended(self);
    if (kobs_step_leave(self, ended) < 0) {
        Py_CLEAR(closed);
    }
    else if (ended && closed == NULL) {
        kobs_step_raised(self);
    }
    else if (ended && kobs_step_returned(self, closed) < 0) {
        Py_CLEAR(closed);
    }
    return closed;
}
#endif

PyObject *
kobs_stepped_close(stepped_object *self, PyObject *Py_UNUSED(none))
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));

    if (!kobs_is_set(&self->started) || kobs_is_set(&self->silent)
        || kobs_is_set(&self->stepping)) {
        PyObject *closed = PyObject_CallMethodNoArgs(self->inner, state->observed.close_name);
        if (closed != NULL && !kobs_is_set(&self->started)) {
            kobs_step_never(self);
        }
        return closed;
    }
    bool coroutine = self->call.observed->style == STYLE_COROUTINE;
#if PY_VERSION_HEX >= 0x030D0000
    if (!coroutine) { /* it gives what a generator returned, and runs nothing where nothing is to run */
        return close_generator(self);
    }
#endif
    PyObject *exit = PyExc_GeneratorExit, *result = kobs_stepped_throw(self, &exit, 1);
    if (result != NULL) {
        Py_DECREF(result);
        PyErr_Format(PyExc_RuntimeError, "%s ignored GeneratorExit",
                     coroutine ? "coroutine" : "generator");
        return NULL;
    }
    if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
        result = take_stop();
#if PY_VERSION_HEX < 0x030D0000
        if (result != NULL) {
            Py_SETREF(result, Py_NewRef(Py_None));
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

void
kobs_stepped_finalize(stepped_object *self)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    if (self->call.observed->style == STYLE_ASYNC_GENERATOR) {
        kobs_async_finalize(self);
    }
    else if (kobs_is_set(&self->started) && !kobs_is_set(&self->silent)
             && kobs_step_has_ended(self)) {
        /* The garbage collector came to the original first. */
        kobs_set(&self->silent, true);
        PyErr_SetNone(PyExc_GeneratorExit);
        kobs_step_raised(self);
        PyErr_Clear();
    }
    else if (kobs_is_set(&self->started) && !kobs_is_set(&self->silent)) {
        PyObject *closed = kobs_stepped_close(self, NULL);
        if (closed == NULL) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        Py_XDECREF(closed);
    }
    PyErr_Restore(type, error, traceback);
}
