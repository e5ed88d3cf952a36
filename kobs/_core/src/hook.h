/* Hooks of built-in functions: the function's C entry is replaced, the function itself is not.
 *
 * A function of a module is hooked in its object: it is called through its `vectorcall`, and has a
 * definition of its own whose flags keep the interpreter from calling the C function straight. Its
 * hash and what it equals come from the address of its C function, which stays (hook_function.c).
 *
 * A method of a C type makes a new bound function each time it is looked up, so that its definition
 * is where to hook it: CPython reads `ml_meth` on each call. A C function has no closure, so each
 * method gets an entry out of a pool (hook_method.c).
 *
 * Either keeps its slot, which is never given to another: a call that is under way when its hook
 * goes finds what it needs.
 */

#ifndef KOBS_HOOK_H
#define KOBS_HOOK_H

#include "core.h"

#include <stdatomic.h>

enum { HOOKS_A_FUNCTION = 8 };

typedef enum {
    CALL_NOARGS,
    CALL_O,
    CALL_VARARGS,
    CALL_VARARGS_KEYWORDS,
    CALL_FAST,
    CALL_FAST_KEYWORDS,
    CALL_METHOD,
    CALL_VECTOR, /* a function of a module, whatever it takes */
} call_convention;

/* A function that is or was hooked. What it is stays as it is from its first hook on. */
typedef struct hook_slot {
    PyMethodDef *definition;
    call_convention convention;
    /* a method */
    PyCFunction original, entry;
    /* a function of a module */
    PyMethodDef own;           /* its definition while it is hooked */
    _Atomic(PyCFunctionObject *) function; /* while it is hooked */
    vectorcallfunc vectorcall; /* the original; NULL where `twin` is to be called */
    _Atomic(PyObject *) twin;  /* while it is hooked: the same function, not hooked */
    _Atomic unsigned used; /* of `hooks`; those that went leave holes */
    struct {
        _Atomic(PyInterpreterState *) interpreter; /* whose hook it is; others' calls pass it by */
        _Atomic(struct hook_object *) hook;
    } hooks[HOOKS_A_FUNCTION]; /* the later the further out */
    /* Of these the one that is timed, where only hooks that ask `among` are there besides, one dict
     * between them: what most calls of a flood go through. The interpreter is NULL otherwise. */
    _Atomic(PyInterpreterState *) timed_in;
    _Atomic(struct hook_object *) timed;
    _Atomic(PyObject *) among;
} hook_slot;

/* One call, as the function got it. What `args` is depends on the convention: an array, a tuple,
 * the one argument. */
typedef struct {
    hook_slot *slot;
    PyObject *self; /* of a method; the function itself of one of a module */
    void *args;
    Py_ssize_t count;
    PyObject *keywords; /* names, or a dict; may be NULL */
    PyTypeObject *defining;
} hook_call;

/* A second, and how often something happened in it. */
typedef struct {
    _Atomic uint64_t since_ns, count;
} kobs_second;

/* Whether this is one of the first `most` in its second. */
static inline bool
kobs_first_of(kobs_second *second, uint64_t now, uint64_t most)
{
    if (now - atomic_load_explicit(&second->since_ns, memory_order_relaxed) >= 1000000000u) {
        atomic_store_explicit(&second->since_ns, now, memory_order_relaxed);
        atomic_store_explicit(&second->count, 1, memory_order_relaxed);
        return true;
    }
    return atomic_load_explicit(&second->count, memory_order_relaxed) < most
           && atomic_fetch_add_explicit(&second->count, 1, memory_order_relaxed) < most;
}
/* Where a timed hook records to. */
typedef struct {
    emitter_object *enter, *exit, *slow; /* NULL: nobody wants such events */
    uint64_t short_ns; /* of calls that took less and did not raise only a few are recorded */
    uint64_t slow_ns;
    PyObject *threshold_ms;
} hook_aim;

typedef struct hook_object {
    PyObject_HEAD
    bool timed, shield, counts_bytes;
    PyObject *where;                  /* for messages */
    PyObject *tell; /* callable(where, error); True: it is the program's, and goes on */
    hook_slot *slot;                  /* where it is; NULL: nowhere */
    PyObject *before, *after, *failed; /* as in `_patch.Hooks`; before may be None */
    PyObject *among; /* dict or NULL: a descriptor that is not in it is nothing to `before` */
    int traffic;                      /* which bytes the method of a socket moves: `kobs_traffic_way` */
    PyObject *changed;                /* `_patch.Call` */
    struct kobs_queue_site *site; /* what only a `QueueHook` has, see queue_hook.c */
    /* what only a timed one has, see hook_timed.c */
    PyObject *name, *succeeded, *erred;
    PyObject *expected;          /* error numbers that are no warning */
    hook_aim aim; /* exchanged at any time */
    _Atomic uint64_t calls, unrecorded, bytes;
    kobs_second warnings, shorts;
} hook_object;

static inline bool
kobs_finalizing(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* This thread is inside kobs: what it does is not recorded. */
extern _Thread_local bool kobs_busy __attribute__((tls_model("initial-exec")));

/* -- hook_method.c: methods of types */

/* The slot; NULL where one cannot be had. */
hook_slot *kobs_hook_method(PyMethodDef *);
void kobs_hook_enter_method(hook_slot *);
void kobs_hook_leave_method(hook_slot *);
void kobs_hook_each_method(void (*visit)(hook_slot *, void *), void *arg);

/* Call the original, of a method or a function. */
PyObject *kobs_hook_pass(const hook_call *);

/* -- hook_function.c: functions of modules */

hook_slot *kobs_hook_function(PyCFunctionObject *);
bool kobs_hook_enter_function(hook_slot *, PyCFunctionObject *);
void kobs_hook_leave_function(hook_slot *);
void kobs_hook_each_function(void (*visit)(hook_slot *, void *), void *arg);
PyObject *kobs_hook_pass_function(const hook_call *);

/* -- hook_slot.c */

/* See to it that slots may be used: after a fork, and at exit. */
bool kobs_hook_prepare(void);

/* Have this interpreter's hooks forgotten when it ends; -1 with an exception set. */
int kobs_hook_end_with_interpreter(void);

/* Held while slots are taken and changed: for a few instructions, and across a fork. */
void kobs_hook_lock(void);
void kobs_hook_unlock(void);

/* Have the hook called around the function (NULL: of a method); false where there is no room. */
bool kobs_hook_put(hook_slot *, PyCFunctionObject *function, hook_object *);
void kobs_hook_take(hook_slot *, hook_object *);

/* -- hook_call.c */

PyObject *kobs_hooked(hook_slot *, PyObject *self, void *args, Py_ssize_t count, PyObject *keywords,
                      PyTypeObject *defining);

/* Go on with the `count` hooks that are further in, then the function. */
PyObject *kobs_hook_inner(hook_object *const *hooks, unsigned count, const hook_call *);

/* Take the exception that is set, as an object, and put it back. */
PyObject *kobs_hook_catch(void);
void kobs_hook_raise(PyObject *error); /* steals */

/* Tell of the exception that is set and clear it; false for one that is not kobs's to swallow. */
bool kobs_hook_swallow(PyObject *tell, PyObject *where);

/* Call a hook unseen by profilers and debuggers, as the frames of a C function would be. */
PyObject *kobs_hook_run(PyObject *hook, PyObject *one, PyObject *other);

/* Call a Python function with a hook that is in no slot around it. */
PyObject *kobs_hook_around(hook_object *, PyObject *function, PyObject *const *args, size_t count,
                           PyObject *names);

/* The arguments as a tuple, the object of a method first; NULL with an exception. */
PyObject *kobs_hook_positional(const hook_call *);

/* -- traffic.c: bytes through sockets, by descriptor */

typedef enum { NO_TRAFFIC = -1, TRAFFIC_SENT, TRAFFIC_RECEIVED } kobs_traffic_way;

void kobs_traffic_count(const hook_call *, PyObject *result, kobs_traffic_way);

/* -- hook_wake.c: when steps of event loops became ready to run */

/* Those of this interpreter, as long as the module; NULL where there is no memory. */
kobs_wakes *kobs_wakes_of(PyTypeObject *of_module);

/* When it was, 0 where that is not known; forgotten then. */
uint64_t kobs_wake_take(kobs_wakes *, const PyObject *handle, const PyObject *callback);

/* -- hook_type.c */

extern PyMethodDef kobs_hook_methods[]; /* `put` and `remove` */

/* -- queue_hook.c */

PyObject *kobs_hook_queue(hook_object *, hook_object *const *inner, unsigned count,
                          const hook_call *);

/* -- hook_timed.c */

/* Count an event that this emitter would have recorded, and was not asked to. */
void kobs_count_left_out(const emitter_object *);

PyObject *kobs_hook_timed(hook_object *, hook_object *const *inner, unsigned count,
                          const hook_call *);

#if !KOBS_FREE_THREADED
/* The hook of a slot, where it is the only one that has to do with a call now; borrowed, else NULL. */
static inline hook_object *
kobs_hook_timed_alone(hook_slot *slot)
{
    PyObject *among;

    if (kobs_busy || atomic_load_explicit(&slot->timed_in, memory_order_acquire)
                         != PyThreadState_Get()->interp) {
        return NULL;
    }
    among = atomic_load_explicit(&slot->among, memory_order_relaxed);
    return (among == NULL || PyDict_GET_SIZE(among) == 0) && !kobs_finalizing()
               ? atomic_load_explicit(&slot->timed, memory_order_relaxed) : NULL;
}

/* Call a function of a module with no other hook around it. */
PyObject *kobs_hook_timed_function(hook_object *, vectorcallfunc, PyObject *function,
                                   PyObject *const *args, size_t count, PyObject *names);
#endif

#endif
