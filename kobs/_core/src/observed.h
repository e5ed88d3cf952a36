/* Observed callables: what their parts share. The Python twin is kobs/observe/generate.py, which
 * writes a function instead; kobs/observe/native.py describes to these parts what it would write. */

#ifndef KOBS_OBSERVED_H
#define KOBS_OBSERVED_H

#include "core.h"
#include "stack.h"

typedef struct observed_object observed_object;
typedef struct running_object running_object;

/* -- values (observed_values.c) ------------------------------------------------------------- */

typedef enum {
    NODE_CONSTANT,  /* object */
    NODE_PARAMETER, /* the argument of the parameter `index` */
    NODE_VARARGS,   /* what `*args` holds, from `index` on */
    NODE_VARKW,     /* what `**kwargs` holds */
    NODE_EXTRA,     /* `args[index]` of `*args`; where that has fewer, the child if there is one */
    NODE_KEYWORD,   /* `kwargs[object]` of `**kwargs`; where it is not there, the child if any */
    NODE_RESULT,    /* what the call returned, None where it has not */
    NODE_ERROR,     /* what it raised, None where it has not */
    NODE_ELAPSED,   /* nanoseconds it ran, divided by `index` (0: as they are) */
    NODE_ATTRIBUTE, /* attribute `object` of the child */
    NODE_ITEM,      /* item `object` of the child */
    NODE_CALL,      /* `object(children...)` */
    NODE_LENGTH,    /* of the child, 0 for what has none */
    NODE_REACH,     /* first child, along the path `object`; where it breaks off, the second */
    NODE_ERRNO,     /* of the child, which is an exception */
    NODE_DICT,      /* the children under the keys in the tuple `object` */
    NODE_SLOWER,    /* the call ran for at least the child's milliseconds */
    NODE_ALL,       /* every child is true */
} kobs_node_kind;

/* An expression as a tree: where a value of an event comes from. */
typedef struct kobs_node {
    kobs_node_kind kind;
    Py_ssize_t index, count;
    PyObject *object;
    struct kobs_node *children;
} kobs_node;

/* One emission at one moment of a call. */
typedef struct {
    Py_ssize_t emission;  /* which one of the call's */
    PyObject *function;   /* Python code that does it all; NULL: what follows the slot */
    bool takes_arguments; /* that code is given the call's */
    Py_ssize_t slot;      /* of `kobs_call.states`, for that code; -1 for none */
    kobs_node *condition; /* NULL: always */
    Py_ssize_t count, positional;
    bool in_order;        /* the values are the emitter's first fields, in their order */
    kobs_node *values;    /* the first `positional` by position, the others by the `keywords` */
    PyObject *keywords;   /* tuple of str, or NULL */
    int *targets;         /* where each goes in an `Emitter`: a field; below 0: -1 - header value */
} kobs_op;

typedef struct {
    Py_ssize_t count;
    kobs_op *ops;
} kobs_ops;

/* Parameters of what is observed. Defaults are the function's own, looked up when needed: so they
 * are the right ones when somebody changes them. */
typedef struct {
    PyObject *names; /* tuple of positional and keyword-only ones */
    Py_ssize_t positional, positional_only;
    Py_ssize_t exact; /* a call with as many, and no keywords, is right; -1: none is for that alone */
    PyObject *varargs, *varkw; /* names, or NULL */
    PyObject *function;        /* whose defaults they are, or NULL */
} kobs_parameters;

/* One call that is observed. */
typedef struct {
    observed_object *observed;
    PyObject *const *args;
    Py_ssize_t count;   /* of positional ones */
    PyObject *keywords; /* names of those that follow, or NULL */
    PyObject *route;    /* (collector, channel of the first emission, ...); owned */
    PyObject **states;  /* an emission: what its code keeps from before the call; or NULL. Owned */
    running_object *running;
    PyObject *result, *error; /* borrowed, at the end */
    uint64_t began_ns, ended_ns, elapsed_ns;
} kobs_call;

/* From (kind, index, object, children). */
int kobs_node_init(kobs_node *, PyObject *description);
void kobs_node_clear(kobs_node *);
int kobs_node_visit(kobs_node *, visitproc, void *);

/* The value; NULL with an exception set. */
PyObject *kobs_node_value(const kobs_node *, const kobs_call *);

int kobs_parameters_init(kobs_parameters *, PyObject *description);
void kobs_parameters_clear(kobs_parameters *);
int kobs_parameters_visit(kobs_parameters *, visitproc, void *);

/* Whether the arguments are such that the function will run. */
bool kobs_parameters_fit_anew(const kobs_call *);
static inline bool kobs_parameters_fit(const kobs_call *);

/* The arguments by parameter, as they would be the locals of a function. */
PyObject *kobs_arguments(const kobs_call *);

/* Whether the value is, or is made of, arguments of the call. */
bool kobs_node_takes_arguments(const kobs_node *);

/* -- emissions (observed_ops.c) ------------------------------------------------------------- */

int kobs_ops_init(kobs_ops *, PyObject *descriptions);
void kobs_ops_clear(kobs_ops *);
int kobs_ops_visit(kobs_ops *, visitproc, void *);

/* Whether what is to be done needs the arguments of the call. */
bool kobs_ops_take_arguments(const kobs_ops *);

/* Do what is to be done at one moment. What goes wrong is kobs's own: told to the site and no more.
 * -1 with an exception set only for what is no `Exception`, such as a KeyboardInterrupt. */
int kobs_ops_run(const kobs_ops *, kobs_call *);

/* The exception that is set is kobs's own: tell the site. 0; -1 where it is no `Exception`. */
int kobs_failed(const kobs_call *, Py_ssize_t emission);

/* -- a call (observed_call.c) ---------------------------------------------------------------- */

/* Where the events go: 1 somewhere, 0 nowhere, -1 with an exception set. */
static inline int kobs_call_route(kobs_call *);
int kobs_call_route_anew(kobs_call *);

/* Before the call. 0, or -1 with an exception set. */
static inline int kobs_call_begin(kobs_call *);
int kobs_call_begin_all(kobs_call *);

/* From here to `leave` the call runs: timed, in its scope, seen by watches. `leave` keeps the
 * exception that is set. 0, or -1 with an exception set, which goes to the caller. */
static inline int kobs_call_enter(kobs_call *);
static inline int kobs_call_leave(kobs_call *);
int kobs_call_enter_all(kobs_call *);
int kobs_call_leave_all(kobs_call *);

/* It returned `result`. 0, or -1 with an exception set, which goes to the caller. */
int kobs_call_returned(kobs_call *, PyObject *result);

/* It raised the exception that is set, and stays set. */
void kobs_call_raised(kobs_call *);

/* Let go of what the call holds. */
void kobs_call_clear(kobs_call *);

PyObject *kobs_running(PyObject *module, PyObject *none);
int kobs_add_running_type(PyObject *module);

/* -- the callable (observed_type.c) ----------------------------------------------------------- */

typedef enum {
    STYLE_PLAIN,
    STYLE_COROUTINE,
    STYLE_GENERATOR,
    STYLE_ASYNC_GENERATOR,
} kobs_style;

struct observed_object {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *route;    /* NULL: nobody takes the events */
    bool same_for_all;  /* it is the one of every instance */
    PyObject *original;
    PyObject *lookup;   /* callable(this) -> route | None; NULL: no instance has one of its own */
    PyObject *through;  /* the class that inherits it, and calls it through `super`; or NULL */
    PyObject *name;     /* there */
    PyObject *site;
    PyObject *end_noted, *leave_noted; /* kobs.inside: an end inside of which a watch told something */
    kobs_parameters parameters;
    kobs_node *instance; /* the instance or class; NULL where there is none */
    kobs_ops before, returned, raised;
    kobs_style style;
    Py_ssize_t emissions, scope; /* the emission that opens a scope, -1 for none */
    bool measured, shared, keeps_state;
    bool keeps_arguments; /* they are needed at the end, not only at the begin */
    PyObject *elapsed;          /* a float that is used again and again; or NULL */
    PyTypeObject *emitter_type; /* borrowed: the module's, as this one's type is */
    PyObject *weakrefs;
};

/* Whether anybody takes the events, at this moment. */
static inline bool
kobs_is_routed(observed_object *observed)
{
    return __atomic_load_n(&observed->route, __ATOMIC_RELAXED) != NULL;
}

static inline void
kobs_set_route(observed_object *observed, PyObject *route)
{
    __atomic_store_n(&observed->route, route, __ATOMIC_RELAXED);
}

static inline bool
kobs_parameters_fit(const kobs_call *call)
{
    return (call->keywords == NULL && call->count == call->observed->parameters.exact)
           || kobs_parameters_fit_anew(call);
}

static inline int
kobs_call_route(kobs_call *call)
{
#ifndef Py_GIL_DISABLED /* whose lock keeps the route from being exchanged */
    if (call->observed->same_for_all && kobs_parameters_fit(call)) {
        call->route = Py_NewRef(call->observed->route);
        return 1;
    }
#endif
    return kobs_call_route_anew(call);
}

static inline int
kobs_call_begin(kobs_call *call)
{
    return call->observed->keeps_state || call->observed->before.count > 0
        ? kobs_call_begin_all(call) : 0;
}

static inline int
kobs_call_enter(kobs_call *call)
{
    if (call->observed->shared || call->observed->scope >= 0) {
        return kobs_call_enter_all(call);
    }
    if (call->observed->measured) {
        call->began_ns = kobs_now();
    }
    return 0;
}

static inline int
kobs_call_leave(kobs_call *call)
{
    if (call->observed->measured) {
        call->ended_ns = kobs_now();
        call->elapsed_ns += call->ended_ns - call->began_ns;
    }
    if (call->observed->shared || call->observed->scope >= 0) {
        return kobs_call_leave_all(call);
    }
    return 0;
}

int kobs_add_function_type(PyObject *module);

/* Whether a name is the one that is known; names in source code are interned, others seldom. */
static inline bool
kobs_is_name(PyObject *name, PyObject *known)
{
    return name == known
           || (!PyUnicode_CHECK_INTERNED(name) && PyUnicode_Compare(name, known) == 0);
}

/* Whether what is asked of something that stands for another is its own to answer: what its type
 * has is (calling, binding, comparing, stepping), but what says what it is. */
static inline bool
kobs_is_own(const observed_state *names, PyObject *self, PyObject *name)
{
    return _PyType_Lookup(Py_TYPE(self), name) != NULL && !kobs_is_name(name, names->class_name)
           && !kobs_is_name(name, names->doc_name) && !kobs_is_name(name, names->module_name);
}

/* Call what runs Python code, where the C stack has room for it; a RecursionError where not.
 *
 * Python 3.12 allows for a few hundred such calls only, less than for calls of Python functions. So
 * what it will count is given back: the stack itself is what is looked at. */
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030D0000
#define KOBS_COUNTED(calls) (PyThreadState_Get()->c_recursion_remaining += 2 * (calls))
#else
#define KOBS_COUNTED(calls) ((void)0)
#endif

/* From here to `kobs_leave_stack`, which keeps the exception that is set. -1 with one set. */
static inline int
kobs_enter_stack(void)
{
    if (!kobs_stack_left()) {
        PyErr_SetString(PyExc_RecursionError, "maximum recursion depth exceeded: an observed call "
                                              "needs some of the C stack, which is used up");
        return -1;
    }
    KOBS_COUNTED(1);
    return 0;
}

static inline void
kobs_leave_stack(void)
{
    KOBS_COUNTED(-1);
}

/* Give a type the bare name of what it stands for, which the interpreter's messages have. */
void kobs_name_type(PyTypeObject *);

/* -- step by step (observed_steps.c, observed_stepped.c, observed_async.c) ---------------------- */

/* What a call gives whose end comes later: stands for a coroutine, generator or async generator. */
typedef struct {
    PyObject_HEAD
    PyObject *inner;
    kobs_call call;
    PyObject **kept; /* the arguments; owned. `few` where they fit in there */
    Py_ssize_t kept_count;
    PyObject *few[4];
    /* Who sets `stepping` has all that is above to itself, and sets `started` and `silent`; others
     * may look at any of these meanwhile. */
    atomic_bool started, stepping;
    atomic_bool silent;         /* nothing is to be told of it, or no more */
    atomic_bool hooked;         /* async generators: the event loop knows of it */
    atomic_bool begun, closing; /* async generators: a step of the original was made; one that
                                 * closes it */
    PyObject *finalizer; /* async generators: the event loop's */
    PyObject *weakrefs;
} stepped_object;

/* Stand for `inner` (stolen), what the call gave. Copies what it needs of the call. */
PyObject *kobs_stepped(kobs_call *, PyObject *inner);

/* Before a step: 1 where it is to be observed, 0 where not, -1 with an exception set. */
int kobs_step_enter(stepped_object *);

/* After a step that was observed; `ended`: there will be none that is. Keeps the exception that is
 * set. 0, or -1 with an exception set, which goes to the caller. */
int kobs_step_leave(stepped_object *, bool ended);

/* Tell its end, after `kobs_step_leave`: by a return of `result`, or by the exception that is set
 * and stays set. */
int kobs_step_returned(stepped_object *, PyObject *result);
void kobs_step_raised(stepped_object *);

/* Nothing is to be told of it: let go of what was kept for that. Keeps the exception that is set. */
void kobs_step_silence(stepped_object *);

/* It has ended, or was closed, without having begun: the same, unless a step begins it after all. */
void kobs_step_never(stepped_object *);

/* Flags of it. */
static inline bool
kobs_is_set(const atomic_bool *flag)
{
    return atomic_load_explicit(flag, memory_order_relaxed);
}

static inline void
kobs_set(atomic_bool *flag, bool to)
{
    atomic_store_explicit(flag, to, memory_order_relaxed);
}

/* Whether what it stands for has run to its end. Keeps the exception that is set. */
bool kobs_step_has_ended(stepped_object *);

/* What an iterator does, and `send`, `throw` and `close`. */
PySendResult kobs_stepped_send(stepped_object *, PyObject *value, PyObject **result);
PyObject *kobs_stepped_next(stepped_object *);
PyObject *kobs_stepped_send_method(stepped_object *, PyObject *value);
PyObject *kobs_stepped_throw(stepped_object *, PyObject *const *args, Py_ssize_t count);
PyObject *kobs_stepped_close(stepped_object *, PyObject *none);
void kobs_stepped_finalize(stepped_object *);

/* A coroutine's `yield from`, `await` and `__await__()` (observed_coroutine.c). */
PyObject *kobs_coroutine_iter(PyObject *);
PyObject *kobs_coroutine_awaited(stepped_object *);
PyObject *kobs_coroutine_await(PyObject *, PyObject *none);
int kobs_add_coroutine_wrapper(PyObject *module);

/* Set a StopIteration with a value. */
void kobs_stop_with(PyObject *value);

/* The finalizer of an async generator that is left open. */
void kobs_async_finalize(stepped_object *);

/* A type of what is stepped through; NULL with an exception set. */
PyTypeObject *kobs_make_stepped_type(PyObject *module, const char *name, size_t size, PyType_Slot *);

extern PyMethodDef kobs_async_methods[];
PyObject *kobs_async_next(stepped_object *);

int kobs_add_stepped_types(PyObject *module);
int kobs_add_async_types(PyObject *module);

/* An attribute. Types remember their attributes by the identity of the name: one that is made for the
 * occasion is not found there, and stays. */
static inline PyObject *
kobs_attribute(PyObject *object, const char *name)
{
    PyObject *interned = PyUnicode_InternFromString(name);
    PyObject *found = interned == NULL ? NULL : PyObject_GetAttr(object, interned);

    Py_XDECREF(interned);
    return found;
}

#endif
