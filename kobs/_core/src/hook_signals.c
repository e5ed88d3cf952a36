/* Signals that came before a hook. Their handlers are the program's, and run wherever Python code
 * does: inside the hook of a write that a signal cut short, say. What they raise there would take the
 * place of the write's result, where without kobs who called it would have counted what was written
 * before it looked for signals. So they are held back until the hook is done.
 *
 * A signal that comes while the hook runs is handled in it, as is one that C code of Python's asks
 * for by itself; what that raises goes on to the program.
 */

#if !defined(Py_BUILD_CORE)
#define Py_BUILD_CORE 1
#endif
#include <Python.h>

#if PY_VERSION_HEX < 0x030D0000
#include "internal/pycore_ceval.h"
#include "internal/pycore_interp.h"
#include "internal/pycore_runtime.h"
#endif

#include <stdatomic.h>
#include <stdbool.h>

bool kobs_hold_signals(PyThreadState *);
void kobs_release_signals(PyThreadState *, bool);

#if PY_VERSION_HEX >= 0x030D0000

#define SIGNALS_PENDING ((uintptr_t)1 << 1) /* `_PY_SIGNALS_PENDING_BIT` */

static _Atomic(uintptr_t) *
breaker(PyThreadState *thread)
{
    return (_Atomic(uintptr_t) *)&thread->eval_breaker;
}

bool
kobs_hold_signals(PyThreadState *thread)
{
    if (!(atomic_load_explicit(breaker(thread), memory_order_relaxed) & SIGNALS_PENDING)) {
        return false;
    }
    atomic_fetch_and(breaker(thread), ~SIGNALS_PENDING);
    return true;
}

void
kobs_release_signals(PyThreadState *thread, bool held)
{
    if (held) {
        atomic_fetch_or(breaker(thread), SIGNALS_PENDING);
    }
}

#else

bool
kobs_hold_signals(PyThreadState *Py_UNUSED(thread))
{
    _Py_atomic_int *pending = &_PyRuntime.ceval.signals_pending;

    if (!_Py_atomic_load_relaxed(pending)
        || PyThread_get_thread_ident() != _PyRuntime.main_thread) {
        return false;
    }
    _Py_atomic_store(pending, 0);
    return true;
}

void
kobs_release_signals(PyThreadState *thread, bool held)
{
    if (held) {
        _PyEval_SignalReceived(thread->interp);
    }
}

#endif
