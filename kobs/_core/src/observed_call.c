/* One observed call: where its events go, what is done before and after it, and the calls that run
 * in a thread, for watches that see something inside of one (kobs/inside.py). */

#include "observed.h"

/* A running call whose events a watch may tell too. In a list per thread, the innermost first; a
 * coroutine or generator is in it while it runs a step. On the heap, since a greenlet's part of the
 * C stack may be elsewhere when another one looks. */
struct running_object {
    PyObject_HEAD
    running_object *inner, *outer; /* borrowed: they take themselves out */
    kobs_call call;
    PyObject **kept;
    Py_ssize_t kept_count;
    PyObject *note;
    bool linked;
};

/* A thread runs one interpreter at a time, and only it looks at its own list; which may hold calls of
 * several. */
static _Thread_local running_object *innermost;

static void
link_running(running_object *self)
{
    self->outer = innermost;
    self->inner = NULL;
    if (innermost != NULL) {
        innermost->inner = self;
    }
    innermost = self;
    self->linked = true;
}

static void
unlink_running(running_object *self)
{
    if (!self->linked) {
        return;
    }
    if (self->outer != NULL) {
        self->outer->inner = self->inner;
    }
    if (self->inner != NULL) {
        self->inner->outer = self->outer;
    }
    else {
        innermost = self->outer;
    }
    self->inner = self->outer = NULL;
    self->linked = false;
}

static running_object *
make_running(const kobs_call *call)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(call->observed));
    Py_ssize_t keywords = call->keywords == NULL ? 0 : PyTuple_GET_SIZE(call->keywords);
    Py_ssize_t count = call->count + keywords;
    PyObject **kept = PyMem_New(PyObject *, (size_t)count + 1);
    running_object *self
        = kept == NULL ? NULL : PyObject_GC_New(running_object, state->observed.running);

    if (self == NULL) {
        PyMem_Free(kept);
        return (running_object *)PyErr_NoMemory();
    }
    for (Py_ssize_t index = 0; index < count; index++) {
        kept[index] = Py_NewRef(call->args[index]);
    }
    self->inner = self->outer = NULL;
    self->linked = false;
    self->note = NULL;
    self->kept = kept;
    self->kept_count = count;
    self->call = (kobs_call){
        .observed = (observed_object *)Py_NewRef(call->observed), .args = kept,
        .count = call->count, .keywords = Py_XNewRef(call->keywords),
        .route = Py_NewRef(call->route),
    };
    PyObject_GC_Track(self);
    return self;
}

/* The call has ended: whoever still has this sees nothing of it any more. */
static int
empty_running(running_object *self)
{
    PyObject **kept = self->kept;
    Py_ssize_t count = self->kept_count;

    unlink_running(self);
    self->kept = NULL;
    self->kept_count = self->call.count = 0;
    self->call.args = NULL;
    Py_CLEAR(self->call.observed); /* without it nothing is looked at */
    Py_CLEAR(self->call.keywords);
    Py_CLEAR(self->call.route);
    Py_CLEAR(self->note);
    while (count > 0) {
        Py_DECREF(kept[--count]);
    }
    PyMem_Free(kept);
    return 0;
}

static int
running_traverse(running_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->call.observed);
    Py_VISIT(self->call.route);
    Py_VISIT(self->note);
    for (Py_ssize_t index = 0; index < self->kept_count; index++) {
        Py_VISIT(self->kept[index]);
    }
    return 0;
}

static void
running_dealloc(running_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    empty_running(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyObject *
running_arguments(running_object *self, PyObject *Py_UNUSED(none))
{
    return self->call.observed == NULL ? PyDict_New() : kobs_arguments(&self->call);
}

static PyObject *
running_site(running_object *self, void *Py_UNUSED(closure))
{
    bool known = self->call.observed != NULL && self->call.observed->site != NULL;

    return Py_NewRef(known ? self->call.observed->site : Py_None);
}

static PyObject *
running_collector(running_object *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->call.route != NULL ? PyTuple_GET_ITEM(self->call.route, 0) : Py_None);
}

static PyMethodDef running_methods[] = {
    {"arguments", (PyCFunction)running_arguments, METH_NOARGS,
     PyDoc_STR("The arguments by parameter; `*args` is a tuple, `**kwargs` a dict.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef running_getters[] = {
    {"site", (getter)running_site, NULL, NULL, NULL},
    {"collector", (getter)running_collector, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef running_members[] = {
    {"note", T_OBJECT, offsetof(running_object, note), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot running_slots[] = {
    {Py_tp_dealloc, running_dealloc},
    {Py_tp_traverse, running_traverse},
    {Py_tp_clear, empty_running},
    {Py_tp_methods, running_methods},
    {Py_tp_getset, running_getters},
    {Py_tp_members, running_members},
    {0, NULL},
};

static PyType_Spec running_spec = {
    .name = "kobs._core._native.Running",
    .basicsize = sizeof(running_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = running_slots,
};

int
kobs_add_running_type(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->observed.running
        = (PyTypeObject *)PyType_FromModuleAndSpec(module, &running_spec, NULL);
    return state->observed.running == NULL ? -1
                                           : PyModule_AddType(module, state->observed.running);
}

/* Inside a call of another interpreter's that runs in this thread: that one is not ours to touch. */
PyObject *
kobs_running(PyObject *module, PyObject *Py_UNUSED(none))
{
    const PyTypeObject *ours = ((core_state *)PyModule_GetState(module))->observed.running;
    PyObject *found = PyList_New(0);

    for (running_object *each = innermost; found != NULL && each != NULL; each = each->outer) {
        if (Py_TYPE(each) == ours && PyList_Append(found, (PyObject *)each) < 0) {
            Py_CLEAR(found);
        }
    }
    return found;
}

/* -- a call ---------------------------------------------------------------------------------- */

int
kobs_call_route_anew(kobs_call *call)
{
    observed_object *observed = call->observed;

    PyObject *lookup = NULL;

    if (!kobs_is_routed(observed) || !kobs_parameters_fit(call)) {
        return 0;
    }
    KOBS_LOCK((PyObject *)observed)
    if (observed->instance == NULL || observed->lookup == NULL) {
        call->route = Py_XNewRef(observed->route);
    }
    else {
        lookup = Py_NewRef(observed->lookup);
    }
    KOBS_UNLOCK()
    if (lookup != NULL) {
        PyObject *instance = kobs_node_value(observed->instance, call);
        call->route = instance == NULL ? NULL : PyObject_CallOneArg(lookup, instance);
        Py_XDECREF(instance);
        Py_DECREF(lookup);
        if (call->route == NULL) {
            return kobs_failed(call, 0);
        }
    }
    if (call->route == NULL || !PyTuple_CheckExact(call->route)
        || PyTuple_GET_SIZE(call->route) != observed->emissions + 1) {
        Py_CLEAR(call->route);
        return 0;
    }
    return 1;
}

int
kobs_call_begin_all(kobs_call *call)
{
    if (call->observed->keeps_state) {
        call->states = PyMem_Calloc((size_t)call->observed->emissions, sizeof(PyObject *));
        if (call->states == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return kobs_ops_run(&call->observed->before, call);
}

/* Have the scope be entered or left. */
static int
in_scope(kobs_call *call, const char *what)
{
    Py_ssize_t scope = call->observed->scope;
    PyObject *opened = scope < 0 || call->states == NULL ? NULL : call->states[scope];

    if (opened == NULL) {
        return 0;
    }
    PyObject *done = PyObject_CallMethod(opened, what, NULL);
    Py_XDECREF(done);
    return done == NULL ? kobs_failed(call, scope) : 0;
}

int
kobs_call_enter_all(kobs_call *call)
{
    observed_object *observed = call->observed;

    if (observed->shared) {
        if (call->running == NULL && (call->running = make_running(call)) == NULL) {
            return -1;
        }
        link_running(call->running);
    }
    if (observed->scope >= 0 && in_scope(call, "enter") < 0) {
        return -1;
    }
    if (observed->measured) {
        call->began_ns = kobs_now();
    }
    return 0;
}

int
kobs_call_leave_all(kobs_call *call)
{
    observed_object *observed = call->observed;
    PyObject *type, *error, *traceback;

    if (call->running != NULL) {
        unlink_running(call->running);
    }
    if (observed->scope < 0) {
        return 0;
    }
    PyErr_Fetch(&type, &error, &traceback);
    if (in_scope(call, "leave") < 0) {
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        return -1;
    }
    PyErr_Restore(type, error, traceback);
    return 0;
}

static bool
is_noted(const kobs_call *call)
{
    return call->running != NULL && call->running->note != NULL && call->running->note != Py_None;
}

/* The end of a call inside of which a watch told something: its channels know of it. */
static int
end_noted(const kobs_ops *ops, kobs_call *call)
{
    observed_object *observed = call->observed;
    PyObject *note = call->running->note, *site = observed->site, *told;

    call->running->note = NULL;
    call->ended_ns = 0;
    PyObject *route = PyObject_CallFunctionObjArgs(observed->end_noted, note,
                                                   site == NULL ? Py_None : site, call->route, NULL);
    if (route == NULL || !PyTuple_CheckExact(route)
        || PyTuple_GET_SIZE(route) != observed->emissions + 1) {
        Py_XDECREF(route);
        Py_DECREF(note);
        return route == NULL ? kobs_failed(call, 0) : 0;
    }
    Py_SETREF(call->route, route);
    int done = kobs_ops_run(ops, call);
    if (done == 0) {
        told = PyObject_CallFunctionObjArgs(observed->leave_noted, note,
                                            site == NULL ? Py_None : site, call->route, NULL);
        done = told == NULL ? kobs_failed(call, 0) : 0;
        Py_XDECREF(told);
    }
    Py_DECREF(note);
    return done;
}

static int
end(const kobs_ops *ops, kobs_call *call)
{
    return is_noted(call) ? end_noted(ops, call) : kobs_ops_run(ops, call);
}

int
kobs_call_returned(kobs_call *call, PyObject *result)
{
    call->result = result;
    int done = end(&call->observed->returned, call);
    call->result = NULL;
    return done;
}

void
kobs_call_raised(kobs_call *call)
{
    PyObject *type, *error, *traceback;

    if (call->observed->raised.count == 0 && !is_noted(call)) {
        return;
    }
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
    }
    call->error = error;
    int done = end(&call->observed->raised, call);
    call->error = NULL;
    if (done == 0) {
        PyErr_Restore(type, error, traceback);
        return;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

void
kobs_call_clear(kobs_call *call)
{
    PyObject *type = NULL, *error = NULL, *traceback = NULL;

    if (call->states == NULL && call->running == NULL) {
        Py_CLEAR(call->route);
        return;
    }
    PyErr_Fetch(&type, &error, &traceback);
    Py_CLEAR(call->route);
    if (call->states != NULL) {
        for (Py_ssize_t index = 0; index < call->observed->emissions; index++) {
            Py_XDECREF(call->states[index]);
        }
        PyMem_Free(call->states);
        call->states = NULL;
    }
    if (call->running != NULL) {
        empty_running(call->running);
        Py_CLEAR(call->running);
    }
    PyErr_Restore(type, error, traceback);
}
