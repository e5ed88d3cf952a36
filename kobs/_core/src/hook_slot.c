/* Slots: which hooks there are around a function. */

#include "hook.h"

#include <pthread.h>

static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

void
kobs_hook_lock(void)
{
    pthread_mutex_lock(&changing);
}

void
kobs_hook_unlock(void)
{
    pthread_mutex_unlock(&changing);
}

static bool undone_at_exit;

/* Nothing of Python's is there any more. */
static void
forget_slot(hook_slot *slot, void *Py_UNUSED(none))
{
    atomic_store(&slot->used, 0);
    atomic_store(&slot->timed_in, NULL);
    if (slot->convention == CALL_VECTOR) {
        slot->function = NULL;
        slot->twin = NULL;
    }
    else {
        kobs_hook_leave_method(slot);
    }
}

static void
forget_at_exit(void)
{
    undone_at_exit = false;
    kobs_hook_each_function(forget_slot, NULL);
    kobs_hook_each_method(forget_slot, NULL);
}

bool
kobs_hook_prepare(void)
{
    static bool free_after_fork = false;

    kobs_hook_lock();
    free_after_fork = free_after_fork
                      || pthread_atfork(kobs_hook_lock, kobs_hook_unlock, kobs_hook_unlock) == 0;
    undone_at_exit = undone_at_exit || Py_AtExit(forget_at_exit) == 0;
    kobs_hook_unlock();
    return free_after_fork && undone_at_exit;
}

/* Whoever runs in our interpreter waits for us, and whoever runs in another looks only at whose the
 * hooks are: they may move. */
static void
close_holes(hook_slot *slot, PyInterpreterState *ours)
{
#if !KOBS_FREE_THREADED
    unsigned used = atomic_load(&slot->used), to = 0;

    for (unsigned index = 0; index < used; index++) {
        PyInterpreterState *whose = atomic_load(&slot->hooks[index].interpreter);
        if (whose != NULL && whose != ours) {
            return;
        }
    }
    for (unsigned index = 0; index < used; index++) {
        if (atomic_load(&slot->hooks[index].interpreter) != NULL) {
            atomic_store(&slot->hooks[to].hook, atomic_load(&slot->hooks[index].hook));
            atomic_store(&slot->hooks[to].interpreter, ours);
            to++;
        }
    }
    for (unsigned index = to; index < used; index++) {
        atomic_store(&slot->hooks[index].interpreter, NULL);
    }
    atomic_store(&slot->used, to);
#else
    (void)slot, (void)ours;
#endif
}

/* Find the one that is timed, if it is alone but for those that ask `among`. */
static void
find_timed(hook_slot *slot)
{
    unsigned used = atomic_load(&slot->used);
    PyInterpreterState *in = NULL;
    hook_object *timed = NULL;
    PyObject *among = NULL;
    bool alone = true;

    for (unsigned index = 0; index < used; index++) {
        PyInterpreterState *whose = atomic_load(&slot->hooks[index].interpreter);
        hook_object *hook = atomic_load(&slot->hooks[index].hook);
        if (whose == NULL) {
            continue;
        }
        alone &= in == NULL || in == whose;
        in = whose;
        if (hook->timed) {
            alone &= timed == NULL;
            timed = hook;
        }
        else {
            alone &= hook->among != NULL && (among == NULL || among == hook->among);
            among = hook->among;
        }
    }
    atomic_store(&slot->timed_in, NULL);
    atomic_store(&slot->timed, timed);
    atomic_store(&slot->among, among);
    atomic_store(&slot->timed_in, alone && timed != NULL ? in : NULL);
}

bool
kobs_hook_put(hook_slot *slot, PyCFunctionObject *function, hook_object *hook)
{
    PyInterpreterState *ours = PyThreadState_Get()->interp;

    kobs_hook_lock();
    if (atomic_load(&slot->used) == HOOKS_A_FUNCTION) {
        close_holes(slot, ours);
    }
    unsigned index = atomic_load(&slot->used);
    bool fits = index < HOOKS_A_FUNCTION;
    if (fits) {
        hook->slot = slot;
        atomic_store(&slot->hooks[index].hook, (hook_object *)Py_NewRef(hook));
        atomic_store(&slot->hooks[index].interpreter, ours);
        atomic_store(&slot->used, index + 1);
        find_timed(slot);
        if (slot->convention != CALL_VECTOR) {
            kobs_hook_enter_method(slot);
        }
    }
    kobs_hook_unlock();
    if (fits && slot->convention == CALL_VECTOR && !kobs_hook_enter_function(slot, function)) {
        kobs_hook_take(slot, hook);
        return false;
    }
    return fits;
}

void
kobs_hook_take(hook_slot *slot, hook_object *hook)
{
    bool found = false;

    kobs_hook_lock();
    unsigned used = atomic_load(&slot->used);
    for (unsigned index = 0; index < used; index++) {
        if (atomic_load(&slot->hooks[index].hook) == hook
            && atomic_load(&slot->hooks[index].interpreter) != NULL) {
            atomic_store(&slot->hooks[index].interpreter, NULL);
            hook->slot = NULL;
            found = true;
        }
    }
    while (used > 0 && atomic_load(&slot->hooks[used - 1].interpreter) == NULL) {
        used--;
    }
    atomic_store(&slot->used, used);
    find_timed(slot);
    if (used == 0 && slot->convention != CALL_VECTOR) {
        kobs_hook_leave_method(slot);
    }
    kobs_hook_unlock();
    if (used == 0 && slot->convention == CALL_VECTOR) {
        kobs_hook_leave_function(slot);
    }
    if (found && !KOBS_FREE_THREADED) { /* else somebody may be about to call it: it stays */
        Py_DECREF(hook);
    }
}

static void
forget_ours(hook_slot *slot, void *ours)
{
    for (unsigned index = 0; index < HOOKS_A_FUNCTION; index++) {
        if (atomic_load(&slot->hooks[index].interpreter) == ours) {
            kobs_hook_take(slot, atomic_load(&slot->hooks[index].hook));
        }
    }
}

static PyObject *
forget_interpreter(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    PyInterpreterState *ours = PyThreadState_Get()->interp;

    kobs_hook_each_function(forget_ours, ours);
    kobs_hook_each_method(forget_ours, ours);
    Py_RETURN_NONE;
}

/* What hooks refer to would outlive the interpreter's own end. */
int
kobs_hook_end_with_interpreter(void)
{
    static PyMethodDef definition = {"forget_interpreter", forget_interpreter, METH_NOARGS, NULL};

    PyObject *atexit = PyImport_ImportModule("atexit");
    PyObject *function = PyCFunction_New(&definition, NULL);
    PyObject *done = atexit == NULL || function == NULL
                         ? NULL : PyObject_CallMethod(atexit, "register", "O", function);
    Py_XDECREF(atexit);
    Py_XDECREF(function);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}
