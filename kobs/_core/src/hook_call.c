/* A call of a hooked function. The Python twin is `make_call` in the watches' `_patch`. */

#include "hook.h"

_Thread_local bool kobs_busy = false;

#if KOBS_FREE_THREADED
#define HOLD(hook) ((void)(hook))
#define RELEASE(hook) ((void)(hook))
#else
#define HOLD(hook) Py_INCREF(hook)
#define RELEASE(hook) Py_DECREF(hook)
#endif

/* -- exceptions ------------------------------------------------------------------------------ */

PyObject *
kobs_hook_catch(void)
{
#if PY_VERSION_HEX >= 0x030C0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
        Py_DECREF(traceback);
    }
    Py_XDECREF(type);
    return error;
#endif
}

void
kobs_hook_raise(PyObject *error)
{
#if PY_VERSION_HEX >= 0x030C0000
    PyErr_SetRaisedException(error);
#else
    PyErr_Restore(Py_NewRef(Py_TYPE(error)), error, PyException_GetTraceback(error));
#endif
}

bool
kobs_hook_swallow(PyObject *tell, PyObject *where)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return false;
    }
    PyObject *error = kobs_hook_catch();
    PyObject *told = PyObject_CallFunctionObjArgs(tell, where, error, NULL);
    bool ours = told != Py_True;
    if (told == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(told);
    if (!ours) {
        kobs_hook_raise(error);
        return false;
    }
    Py_XDECREF(error);
    return true;
}

/* -- arguments, as a Python function would get them -------------------------------------------- */

/* Whether hooks see an object as the first argument. */
static Py_ssize_t
takes_self(const hook_call *call)
{
    return call->slot->convention != CALL_VECTOR;
}

PyObject *
kobs_hook_positional(const hook_call *call)
{
    call_convention convention = call->slot->convention;
    Py_ssize_t first = takes_self(call), count = PyVectorcall_NARGS((size_t)call->count);
    PyObject *const *args = call->args;

    if (convention == CALL_VARARGS || convention == CALL_VARARGS_KEYWORDS) {
        args = &PyTuple_GET_ITEM(call->args, 0);
        count = PyTuple_GET_SIZE(call->args);
    }
    else if (convention == CALL_O) {
        args = (PyObject *const *)&call->args;
    }
    PyObject *made = PyTuple_New(first + count);
    if (made == NULL) {
        return NULL;
    }
    if (first) {
        PyTuple_SET_ITEM(made, 0, Py_NewRef(call->self));
    }
    for (Py_ssize_t index = 0; index < count; index++) {
        PyTuple_SET_ITEM(made, first + index, Py_NewRef(args[index]));
    }
    return made;
}

static PyObject *
by_name(const hook_call *call)
{
    PyObject *keywords = call->keywords;
    PyObject *const *values = call->args;

    if (keywords != NULL && call->slot->convention == CALL_VARARGS_KEYWORDS) {
        return PyDict_Copy(keywords);
    }
    PyObject *made = PyDict_New();
    if (made == NULL || keywords == NULL) {
        return made;
    }
    values += PyVectorcall_NARGS((size_t)call->count);
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(keywords); index++) {
        if (PyDict_SetItem(made, PyTuple_GET_ITEM(keywords, index), values[index]) < 0) {
            Py_DECREF(made);
            return NULL;
        }
    }
    return made;
}

/* -- other arguments ---------------------------------------------------------------------------- */

/* A call of the same function with what a hook gave instead, and what holds that. */
typedef struct {
    hook_call call;
    PyObject *args, *keywords; /* a tuple and a dict */
    PyObject *names;           /* of the keywords */
    PyObject **values;         /* an array of both */
} changed_call;

static void
changed_clear(changed_call *changed)
{
    Py_CLEAR(changed->args);
    Py_CLEAR(changed->keywords);
    Py_CLEAR(changed->names);
    PyMem_Free(changed->values);
    changed->values = NULL;
}

static int
as_array(changed_call *changed, Py_ssize_t first, Py_ssize_t count)
{
    Py_ssize_t named = PyDict_GET_SIZE(changed->keywords), at = 0;
    PyObject *name, *value;

    changed->values = PyMem_Calloc((size_t)(count + named + 1), sizeof(PyObject *));
    changed->names = named ? PyTuple_New(named) : NULL;
    if (changed->values == NULL || (named && changed->names == NULL)) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t index = 0; index < count; index++) {
        changed->values[index] = PyTuple_GET_ITEM(changed->args, first + index);
    }
    for (Py_ssize_t index = 0; PyDict_Next(changed->keywords, &at, &name, &value); index++) {
        PyTuple_SET_ITEM(changed->names, index, Py_NewRef(name));
        changed->values[count + index] = value;
    }
    changed->call.args = changed->values;
    changed->call.count = count;
    changed->call.keywords = changed->names;
    return 0;
}

/* Lay the arguments out as the function takes them; -1 with an exception set if they do not fit. */
static int
lay_out(changed_call *changed, const hook_call *from)
{
    call_convention convention = from->slot->convention;
    Py_ssize_t first = takes_self(from), count = PyTuple_GET_SIZE(changed->args) - first;
    bool named = PyDict_GET_SIZE(changed->keywords) != 0;
    bool few = convention == CALL_NOARGS || convention == CALL_O;
    bool nameless = few || convention == CALL_VARARGS || convention == CALL_FAST;

    changed->call = *from;
    if (count < 0 || (few && count != (convention == CALL_O)) || (nameless && named)) {
        PyErr_SetString(PyExc_TypeError, "other arguments than the function takes");
        return -1;
    }
    if (few) {
        changed->call.args = count ? PyTuple_GET_ITEM(changed->args, first) : NULL;
        return 0;
    }
    if (convention == CALL_VARARGS || convention == CALL_VARARGS_KEYWORDS) {
        Py_SETREF(changed->args, PyTuple_GetSlice(changed->args, first, first + count));
        changed->call.args = changed->args;
        changed->call.keywords = named ? changed->keywords : NULL;
        return changed->args == NULL ? -1 : 0;
    }
    return as_array(changed, first, count);
}

/* What `before` gave: another call's arguments and its state. */
static int
change(changed_call *changed, const hook_call *from, PyObject **state)
{
    PyObject *given = *state;

    changed_call made = {
        .args = PyObject_GetAttrString(given, "args"),
        .keywords = PyObject_GetAttrString(given, "kwargs"),
    };
    *state = PyObject_GetAttrString(given, "state");
    Py_DECREF(given);
    if (made.args == NULL || made.keywords == NULL || *state == NULL
        || !PyTuple_Check(made.args) || !PyDict_Check(made.keywords)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "a changed call needs a tuple and a dict");
        }
        changed_clear(&made);
        return -1;
    }
    if (lay_out(&made, from) < 0) {
        changed_clear(&made);
        return -1;
    }
    *changed = made;
    return 0;
}

/* -- one hook ------------------------------------------------------------------------------------ */

PyObject *
kobs_hook_run(PyObject *hook, PyObject *one, PyObject *other)
{
    PyThreadState *thread = PyThreadState_Get();
    PyObject *args[] = {NULL, one, other}, *answer;

    bool held = kobs_hold_signals(thread);
    KOBS_UNSEEN
    answer = PyObject_Vectorcall(hook, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    KOBS_SEEN
    kobs_release_signals(thread, held);
    return answer;
}

/* Call `before`; its state, or NULL: with an exception set where it is not to be swallowed. */
static PyObject *
begin(hook_object *hook, const hook_call **call, changed_call *changed)
{
    PyObject *args = kobs_hook_positional(*call), *keywords = by_name(*call), *state = NULL;

    kobs_busy = true;
    if (args != NULL && keywords != NULL) {
        state = kobs_hook_run(hook->before, args, keywords);
    }
    Py_XDECREF(args);
    Py_XDECREF(keywords);
    if (state != NULL && (PyObject *)Py_TYPE(state) == hook->changed) {
        if (change(changed, *call, &state) == 0) {
            *call = &changed->call;
        }
    }
    if (PyErr_Occurred()) {
        Py_CLEAR(state);
        (void)kobs_hook_swallow(hook->tell, hook->where);
    }
    kobs_busy = hook->shield;
    if (state == Py_None) {
        Py_CLEAR(state);
    }
    return state;
}

/* Call `after` or `failed` for what came of the call; what comes of it now. */
static PyObject *
end(hook_object *hook, PyObject *state, PyObject *result)
{
    PyObject *error = NULL;

    if (kobs_busy) {
        return result;
    }
    if (result == NULL) {
        error = kobs_hook_catch();
    }
    kobs_busy = true;
    PyObject *done = result != NULL ? kobs_hook_run(hook->after, state, result)
                                    : kobs_hook_run(hook->failed, state, error);
    if (done == NULL && !kobs_hook_swallow(hook->tell, hook->where)) {
        PyObject *ours = kobs_hook_catch();
        Py_CLEAR(result);
        if (error != NULL) {
            PyException_SetContext(ours, error);
        }
        error = ours;
    }
    Py_XDECREF(done);
    kobs_busy = false;
    if (error != NULL) {
        kobs_hook_raise(error);
    }
    return result;
}

/* A hook without `before` sees exceptions only, and what was given. */
static PyObject *
fail(hook_object *hook, const hook_call *call)
{
    PyObject *error = kobs_hook_catch();
    PyObject *args = kobs_hook_positional(call), *keywords = by_name(call);
    PyObject *state = args != NULL && keywords != NULL ? PyTuple_Pack(2, args, keywords) : NULL;

    Py_XDECREF(args);
    Py_XDECREF(keywords);
    if (state == NULL) {
        PyErr_Clear();
        kobs_hook_raise(error);
        return NULL;
    }
    kobs_hook_raise(error);
    PyObject *result = end(hook, state, NULL);
    Py_DECREF(state);
    return result;
}

/* -- all of them --------------------------------------------------------------------------------- */

/* Whether `before` has nothing to say to a call, by the descriptor that a function is given first. Of
 * a method it is not known; where there are none in question it does not matter. */
static bool
passes_by(const hook_object *hook, const hook_call *call)
{
    if (hook->among == NULL) {
        return false;
    }
    if (PyDict_GET_SIZE(hook->among) == 0) {
        return true;
    }
    if (call->slot->convention != CALL_VECTOR || PyVectorcall_NARGS((size_t)call->count) == 0) {
        return false;
    }
    PyObject *descriptor = ((PyObject *const *)call->args)[0];
    return PyLong_CheckExact(descriptor) && PyDict_Contains(hook->among, descriptor) == 0;
}

static PyObject *through(hook_object *const *hooks, unsigned count, const hook_call *call);

/* With a hook in Python: the outermost of these. */
__attribute__((noinline)) static PyObject *
around(hook_object *const *hooks, unsigned count, const hook_call *call)
{
    changed_call changed = {.args = NULL};
    hook_object *hook = hooks[count - 1];
    PyObject *state = begin(hook, &call, &changed);
    PyObject *result = state == NULL && PyErr_Occurred() ? NULL : through(hooks, count - 1, call);

    changed_clear(&changed);
    if (result == NULL || hook->shield) {
        kobs_busy = false;
    }
    if (state != NULL) {
        result = end(hook, state, result);
        Py_DECREF(state);
    }
    return result;
}

static PyObject *
through(hook_object *const *hooks, unsigned count, const hook_call *call)
{
    while (count > 0 && passes_by(hooks[count - 1], call)) {
        count--;
    }
    if (count == 0) {
        return kobs_hook_pass(call);
    }
    hook_object *hook = hooks[count - 1];
    if (kobs_busy) {
        return through(hooks, count - 1, call);
    }
    if (hook->timed) {
        return kobs_hook_timed(hook, hooks, count - 1, call);
    }
    if (hook->site != NULL) {
        return kobs_hook_queue(hook, hooks, count - 1, call);
    }
    if (hook->before != Py_None) {
        return around(hooks, count, call);
    }
    PyObject *result = through(hooks, count - 1, call);
    if (result != NULL && hook->traffic != NO_TRAFFIC) {
        kobs_traffic_count(call, result, hook->traffic);
    }
    return result == NULL && !kobs_busy ? fail(hook, call) : result;
}

PyObject *
kobs_hook_around(hook_object *hook, PyObject *function, PyObject *const *args, size_t count,
                 PyObject *names)
{
    static hook_slot none = {.convention = CALL_VECTOR};
    const hook_call made = {&none, function, (void *)args, (Py_ssize_t)count, names, NULL};
    const hook_call *call = &made;
    changed_call changed = {.args = NULL};
    PyObject *result = NULL;

    if (hook->before == Py_None) {
        result = PyObject_Vectorcall(function, args, count, names);
        return result == NULL && !kobs_busy ? fail(hook, call) : result;
    }
    PyObject *state = begin(hook, &call, &changed);
    if (state != NULL || !PyErr_Occurred()) {
        result = PyObject_Vectorcall(function, call->args, (size_t)call->count, call->keywords);
    }
    changed_clear(&changed);
    if (result == NULL) {
        kobs_busy = false;
    }
    if (state != NULL) {
        result = end(hook, state, result);
        Py_DECREF(state);
    }
    return result;
}

PyObject *
kobs_hook_inner(hook_object *const *hooks, unsigned count, const hook_call *call)
{
    return count == 0 ? kobs_hook_pass(call) : through(hooks, count, call);
}

PyObject *
kobs_hooked(hook_slot *slot, PyObject *self, void *args, Py_ssize_t count, PyObject *keywords,
            PyTypeObject *defining)
{
    const hook_call call = {slot, self, args, count, keywords, defining};
    PyInterpreterState *ours = PyThreadState_Get()->interp;
    unsigned used = atomic_load_explicit(&slot->used, memory_order_acquire), found = 0;
    hook_object *hooks[HOOKS_A_FUNCTION];

    if (kobs_busy) {
        return kobs_hook_pass(&call);
    }
#if !KOBS_FREE_THREADED
    hook_object *timed = kobs_hook_timed_alone(slot);
    if (timed != NULL) {
        Py_INCREF(timed);
        PyObject *result = kobs_hook_timed(timed, NULL, 0, &call);
        Py_DECREF(timed);
        return result;
    }
#endif
    for (unsigned index = 0; index < used; index++) {
        if (atomic_load_explicit(&slot->hooks[index].interpreter, memory_order_acquire) == ours) {
            hooks[found++] = atomic_load_explicit(&slot->hooks[index].hook, memory_order_acquire);
        }
    }
    if (found == 0 || kobs_finalizing()) {
        return kobs_hook_pass(&call);
    }
    for (unsigned index = 0; index < found; index++) {
        HOLD(hooks[index]);
    }
    PyObject *result = through(hooks, found, &call);
    for (unsigned index = 0; index < found; index++) {
        RELEASE(hooks[index]);
    }
    return result;
}
