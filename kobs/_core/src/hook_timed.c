/* A timed call of a system call's wrapper: `SyscallExit` and `SyscallSlow` without Python. The
 * Python twin is `Timed` in the watch `syscall`. */

#include "emitter.h"
#include "hook.h"

enum { WARNINGS_A_SECOND = 100 };

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

/* Errors that are as good as an answer, and those that would be told too often, are no warnings. */
static bool
warns(hook_object *hook, PyObject *number, uint64_t now)
{
    int expected = PySet_Contains(hook->expected, number);
    if (expected != 0) {
        return false;
    }
    if (now - atomic_load(&hook->window_ns) >= 1000000000u) {
        atomic_store(&hook->window_ns, now);
        atomic_store(&hook->warned, 0);
    }
    return atomic_fetch_add(&hook->warned, 1) < WARNINGS_A_SECOND;
}

/* An emitter that may be exchanged meanwhile; NULL: nobody wants the event. */
static int
emit(hook_object *hook, emitter_object **by, PyObject *const *fields, kobs_given *given)
{
    emitter_object *emitter;
    uint64_t event;
    int64_t entry;
    int done = 0;

    (void)hook;
    KOBS_LOCK(hook)
    emitter = (emitter_object *)Py_XNewRef(*by);
    KOBS_UNLOCK()
    if (emitter != NULL) {
        done = kobs_emit(emitter, fields, given, &event, &entry);
        Py_DECREF(emitter);
    }
    return done;
}

static int
tell_slow(hook_object *hook, uint64_t took, uint64_t ended)
{
    PyObject *fields[] = {hook->name, PyFloat_FromDouble((double)took / 1e6), hook->threshold_ms};
    kobs_given given = {.given = GIVEN_TIME, .timestamp_ns = ended};

    int done = fields[1] == NULL ? -1 : emit(hook, &hook->slow, fields, &given);
    Py_XDECREF(fields[1]);
    return done;
}

static int
tell(hook_object *hook, uint64_t took, uint64_t ended, int number)
{
    PyObject *fields[] = {
        hook->name, PyFloat_FromDouble((double)took / 1e3), hook->succeeded,
        PyLong_FromLong(number < 0 ? 0 : number),
    };
    kobs_given given = {.given = GIVEN_TIME, .timestamp_ns = ended};
    int done = -1;

    if (fields[1] != NULL && fields[3] != NULL) {
        if (number >= 0) {
            fields[2] = hook->erred;
            if (warns(hook, fields[3], ended)) {
                given.given |= GIVEN_SEVERITY;
                given.severity = KOBS_WARN;
            }
        }
        done = emit(hook, &hook->exit, fields, &given);
    }
    Py_XDECREF(fields[1]);
    Py_XDECREF(fields[3]);
    if (done == 0 && hook->slow != NULL && took >= hook->slow_ns) {
        done = tell_slow(hook, took, ended);
    }
    return done;
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
        atomic_fetch_add_explicit(&hook->bytes, (uint64_t)size, memory_order_relaxed);
    }
}

static inline void
count(_Atomic uint64_t *counter)
{
#if KOBS_FREE_THREADED
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
#else
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
#endif
}

__attribute__((noinline)) static PyObject *
told(hook_object *hook, PyObject *result, uint64_t took, uint64_t ended)
{
    PyObject *error = result == NULL ? kobs_hook_catch() : NULL;
    int number = error == NULL ? -1 : error_number(error);

    if (hook->exit != NULL && (error == NULL || number >= 0)) {
        kobs_busy = true;
        int done = tell(hook, took, ended, number);
        bool ours = done == 0 || kobs_hook_swallow(hook);
        kobs_busy = false;
        if (!ours) { /* an interrupt */
            Py_CLEAR(result);
            Py_XDECREF(error);
            return NULL;
        }
    }
    if (error != NULL) {
        kobs_hook_raise(error);
    }
    return result;
}

PyObject *
kobs_hook_timed(hook_object *hook, hook_object *const *inner, unsigned further,
                const hook_call *call)
{
    if (hook->exit == NULL) {
        return kobs_hook_inner(inner, further, call);
    }
    uint64_t began = kobs_now();
    PyObject *result = kobs_hook_inner(inner, further, call);
    uint64_t ended = kobs_now(), took = ended - began;
    count(&hook->calls);
    if (result != NULL) {
        if (hook->counts_bytes) {
            count_bytes(hook, result);
        }
        if (took < hook->shortest_ns) {
            count(&hook->unrecorded);
            return result;
        }
    }
    return told(hook, result, took, ended);
}
