/* A timed call of a system call's wrapper: `SyscallExit` and `SyscallSlow` without Python. The
 * Python twin is `Timed` in the watch `syscall`. */

#include "emitter.h"
#include "hook.h"

enum { WARNINGS_A_SECOND = 100, SHORTS_A_SECOND = 100 };

/* What a call that raised was: its error number, 0 where there is none; -1 for what never was a
 * system call, since its arguments did not fit. */
static int
error_number(PyObject *error)
{
    if (PyErr_GivenExceptionMatches(error, PyExc_OSError)) {
        PyObject *number = ((PyOSErrorObject *)error)->myerrno;
        int64_t small;
        bool known = number != NULL && PyLong_Check(number) && kobs_small_int(number, &small);
        return known && small > 0 && small <= INT32_MAX ? (int)small : 0;
    }
    bool refused = PyErr_GivenExceptionMatches(error, PyExc_TypeError)
                   || PyErr_GivenExceptionMatches(error, PyExc_ValueError)
                   || PyErr_GivenExceptionMatches(error, PyExc_OverflowError);
    return refused ? -1 : 0;
}

typedef enum { NO_CHAIN, KEPT, DROPPED } chain_state;

/* Of which chain the call is part, which is kept whole or dropped whole. */
static chain_state
chain_of(const hook_aim *aim)
{
    PyObject *cause = NULL;
    emitter_object *exit = aim->exit;

    if (exit == NULL || PyContextVar_Get(exit->context.cause_var, NULL, &cause) < 0) {
        PyErr_Clear();
        return NO_CHAIN;
    }
    chain_state state = NO_CHAIN;
    if (cause != NULL && cause != Py_None && PyTuple_Check(cause) && PyTuple_GET_SIZE(cause) > 3
        && PyObject_IsTrue(PyTuple_GET_ITEM(cause, 0)) == 1) {
        state = PyTuple_GET_ITEM(cause, 3) == Py_False ? DROPPED : KEPT;
    }
    Py_XDECREF(cause);
    return state;
}

/* Importing modules is the interpreter's own doing. */
static bool
by_interpreter(void)
{
    PyObject *running = kobs_running_code();
    bool frozen = false;

    if (running != NULL && PyCode_Check(running)) {
        PyObject *file = ((PyCodeObject *)running)->co_filename;
        frozen = PyUnicode_Check(file) && PyUnicode_IS_COMPACT_ASCII(file)
                 && strncmp(PyUnicode_DATA(file), "<frozen ", 8) == 0;
    }
    Py_XDECREF(running);
    return frozen;
}

/* Errors that are as good as an answer, and those that would be told too often, are no warnings. */
static bool
warns(hook_object *hook, PyObject *number, uint64_t now)
{
    return PySet_Contains(hook->expected, number) == 0
           && kobs_first_of(&hook->warnings, now, WARNINGS_A_SECOND);
}

/* By an emitter that may be exchanged meanwhile; NULL: nobody wants the event. */
static int
emit(emitter_object *by, PyObject *const *fields, kobs_given *given, uint64_t *event)
{
    emitter_object *emitter = (emitter_object *)Py_XNewRef(by);
    int64_t entry;
    int done = 0;

    *event = 0;
    if (emitter != NULL) {
        done = kobs_emit(emitter, fields, given, event, &entry);
        Py_DECREF(emitter);
    }
    return done;
}

static kobs_given
inside_of(uint64_t entered, uint64_t now)
{
    kobs_given given = {.given = GIVEN_TIME, .timestamp_ns = now, .parent = entered};

    given.given |= entered ? GIVEN_PARENT : 0;
    return given;
}

static int
tell_enter(hook_object *hook, const hook_aim *aim, uint64_t now, uint64_t *event)
{
    PyObject *fields[] = {hook->name, PyLong_FromLong(0)};
    kobs_given given = inside_of(0, now);

    int done = fields[1] == NULL ? -1 : emit(aim->enter, fields, &given, event);
    Py_XDECREF(fields[1]);
    return done;
}

static int
tell_slow(hook_object *hook, const hook_aim *aim, uint64_t entered, uint64_t took, uint64_t ended)
{
    PyObject *fields[] = {hook->name, PyFloat_FromDouble((double)took / 1e6),
                          Py_NewRef(aim->threshold_ms)};
    kobs_given given = inside_of(entered, ended);
    uint64_t event;

    int done = fields[1] == NULL ? -1 : emit(aim->slow, fields, &given, &event);
    Py_XDECREF(fields[1]);
    Py_DECREF(fields[2]);
    return done;
}

/* `number`: of the error, -1 where there was none. */
static int
tell_exit(hook_object *hook, const hook_aim *aim, uint64_t entered, uint64_t took, uint64_t ended,
          int number)
{
    PyObject *fields[] = {
        hook->name, PyFloat_FromDouble((double)took / 1e3),
        number < 0 ? hook->succeeded : hook->erred, PyLong_FromLong(number < 0 ? 0 : number),
    };
    kobs_given given = inside_of(entered, ended);
    uint64_t event;
    int done = -1;

    if (fields[1] != NULL && fields[3] != NULL) {
        if (number >= 0 && warns(hook, fields[3], ended)) {
            given.given |= GIVEN_SEVERITY;
            given.severity = KOBS_WARN;
        }
        done = emit(aim->exit, fields, &given, &event);
    }
    Py_XDECREF(fields[1]);
    Py_XDECREF(fields[3]);
    return done;
}

/* Who else counts waits for us, but where threads are not kept apart. */
static inline void
count(_Atomic uint64_t *counter, uint64_t more)
{
#if KOBS_FREE_THREADED
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
#else
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more,
                          memory_order_relaxed);
#endif
}

/* Bytes that a call has moved: the number or the length of what it returned. */
static void
count_bytes(hook_object *hook, PyObject *result)
{
    int64_t size = 0;

    if (PyBytes_CheckExact(result)) {
        size = PyBytes_GET_SIZE(result);
    }
    else if (PyLong_CheckExact(result)) {
        (void)kobs_small_int(result, &size);
    }
    if (size > 0) {
        count(&hook->bytes, (uint64_t)size);
    }
}

void
kobs_count_left_out(const emitter_object *emitter)
{
    if (emitter != NULL
        && !atomic_load_explicit(&emitter->ring->ring.closed, memory_order_relaxed)) {
        kobs_counters *counters = emitter->ring->ring.counters;
        kobs_leave_out(&counters->sampled_out, counters->sampled_out_by_category,
                       emitter->level >> 4);
    }
}

/* Of a call that is not recorded. */
static void
count_unrecorded(hook_object *hook, const hook_aim *aim)
{
    count(&hook->unrecorded, 1);
    kobs_count_left_out(aim->exit);
}

/* The event; 0 where it was not recorded. -1 with an exception that is the program's. */
__attribute__((noinline)) static int
told_enter(hook_object *hook, const hook_aim *aim, uint64_t now, uint64_t *event)
{
    *event = 0;
    if (aim->short_ns != 0 && !kobs_first_of(&hook->shorts, now, SHORTS_A_SECOND)
        && chain_of(aim) == NO_CHAIN) {
        return 0;
    }
    PyThreadState *thread = PyThreadState_Get();
    bool held = kobs_hold_signals(thread);
    kobs_busy = true;
    int done = tell_enter(hook, aim, now, event);
    kobs_release_signals(thread, held);
    bool ours = done == 0 || kobs_hook_swallow(hook->tell, hook->where);
    kobs_busy = false;
    return ours ? 0 : -1;
}

__attribute__((noinline)) static PyObject *
told_exit(hook_object *hook, const hook_aim *aim, PyObject *result, uint64_t entered, uint64_t took,
          uint64_t ended)
{
    PyObject *error = result == NULL ? kobs_hook_catch() : NULL;
    int number = error == NULL ? -1 : error_number(error);
    bool ours = true;

    if ((error == NULL || number >= 0) && !by_interpreter()) {
        PyThreadState *thread = PyThreadState_Get();
        bool held = kobs_hold_signals(thread);
        kobs_busy = true;
        int done = tell_exit(hook, aim, entered, took, ended, number);
        if (done == 0 && aim->slow != NULL && took >= aim->slow_ns) {
            done = tell_slow(hook, aim, entered, took, ended);
        }
        kobs_release_signals(thread, held);
        ours = done == 0 || kobs_hook_swallow(hook->tell, hook->where);
        kobs_busy = false;
    }
    if (!ours) { /* an interrupt */
        Py_CLEAR(result);
        Py_XDECREF(error);
        return NULL;
    }
    if (error != NULL) {
        kobs_hook_raise(error);
    }
    return result;
}

/* After the call: of a flood only the test for an error is left, and whether it took long. */
static inline PyObject *
end(hook_object *hook, const hook_aim *aim, PyObject *result, uint64_t entered, uint64_t began)
{
    uint64_t ended = kobs_now(), took = ended - began;

    count(&hook->calls, 1);
    if (result != NULL) {
        if (hook->counts_bytes) {
            count_bytes(hook, result);
        }
        if (took < aim->short_ns && entered == 0
            && !kobs_first_of(&hook->shorts, ended, SHORTS_A_SECOND) && chain_of(aim) != KEPT) {
            count_unrecorded(hook, aim);
            return result;
        }
    }
    return told_exit(hook, aim, result, entered, took, ended);
}

static inline PyObject *
call(hook_object *hook, const hook_aim *aim, hook_object *const *inner, unsigned further,
     const hook_call *call)
{
    if (aim->exit == NULL) {
        return kobs_hook_inner(inner, further, call);
    }
    uint64_t began = kobs_now(), entered = 0;
    if (aim->enter != NULL && told_enter(hook, aim, began, &entered) < 0) {
        return NULL;
    }
    return end(hook, aim, kobs_hook_inner(inner, further, call), entered, began);
}

#if KOBS_FREE_THREADED
/* A call keeps to where the hook records to when it begins. */
static void
hold_aim(hook_object *hook, hook_aim *to)
{
    KOBS_LOCK(hook)
    *to = hook->aim;
    Py_XINCREF(to->enter);
    Py_XINCREF(to->exit);
    Py_XINCREF(to->slow);
    Py_XINCREF(to->threshold_ms);
    KOBS_UNLOCK()
}

PyObject *
kobs_hook_timed(hook_object *hook, hook_object *const *inner, unsigned further,
                const hook_call *called)
{
    hook_aim aim;

    hold_aim(hook, &aim);
    PyObject *result = call(hook, &aim, inner, further, called);
    PyObject *error = result == NULL ? kobs_hook_catch() : NULL;
    Py_XDECREF(aim.enter);
    Py_XDECREF(aim.exit);
    Py_XDECREF(aim.slow);
    Py_XDECREF(aim.threshold_ms);
    if (error != NULL) {
        kobs_hook_raise(error);
    }
    return result;
}
#else
PyObject *
kobs_hook_timed(hook_object *hook, hook_object *const *inner, unsigned further,
                const hook_call *called)
{
    return call(hook, &hook->aim, inner, further, called);
}

PyObject *
kobs_hook_timed_function(hook_object *hook, vectorcallfunc original, PyObject *function,
                         PyObject *const *args, size_t count, PyObject *names)
{
    const hook_aim *aim = &hook->aim;
    uint64_t began, entered = 0;
    PyObject *result = NULL;

    if (aim->exit == NULL) {
        return original(function, args, count, names);
    }
    Py_INCREF(hook);
    began = kobs_now();
    if (aim->enter == NULL || told_enter(hook, aim, began, &entered) == 0) {
        result = end(hook, aim, original(function, args, count, names), entered, began);
    }
    Py_DECREF(hook);
    return result;
}
#endif
