/* An observed callable: calls the original, and tells what happened. It stands for a function in all
 * that can be asked of one; what is not about calling or binding is the original's own.
 *
 * `wire` exchanges `route` and `lookup`: a call takes references of its own, under the object's lock
 * where there is no interpreter's, before it runs anything else. */

#include "observed.h"
#include "stand_in.h"

static PyObject *
through_super(observed_object *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    bool bound = self->instance != NULL;

    if (bound && count < 1) { /* a wrong call, which the original words as it does */
        return PyObject_Vectorcall(self->original, args, (size_t)count, keywords);
    }
    PyObject *next = PyObject_CallFunctionObjArgs((PyObject *)&PySuper_Type, self->through,
                                                  bound ? args[0] : self->through, NULL);
    PyObject *method = next == NULL ? NULL : PyObject_GetAttr(next, self->name);
    Py_XDECREF(next);
    if (method == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(method, args + bound, (size_t)(count - bound), keywords);
    Py_DECREF(method);
    return result;
}

static inline PyObject *
call_original(observed_object *self, PyObject *const *args, size_t count, PyObject *keywords)
{
    PyObject *result;

    if (kobs_enter_stack() < 0) {
        return NULL;
    }
    if (self->through != NULL) {
        result = through_super(self, args, PyVectorcall_NARGS(count), keywords);
    }
    else if (PyFunction_Check(self->original)) {
        vectorcallfunc call = ((PyFunctionObject *)self->original)->vectorcall;
        result = call(self->original, args, count, keywords);
    }
    else {
        result = PyObject_Vectorcall(self->original, args, count, keywords);
    }
    kobs_leave_stack();
    return result;
}

/* A call that ends when it returns. */
static PyObject *
call_observed(observed_object *self, PyObject *const *args, size_t count, PyObject *keywords)
{
    kobs_call call = {
        .observed = self, .args = args, .count = PyVectorcall_NARGS(count), .keywords = keywords,
    };
    PyObject *result = NULL;
    int routed = kobs_call_route(&call);

    if (routed <= 0) {
        return routed < 0 ? NULL : call_original(self, args, count, keywords);
    }
    Py_INCREF(self); /* the call may be what drops the last reference */
    if (kobs_call_begin(&call) == 0 && kobs_call_enter(&call) == 0) {
        result = call_original(self, args, count, keywords);
        if (kobs_call_leave(&call) < 0) {
            Py_CLEAR(result);
        }
        else if (result == NULL) {
            kobs_call_raised(&call);
        }
        else if (kobs_call_returned(&call, result) < 0) {
            Py_CLEAR(result);
        }
    }
    kobs_call_clear(&call);
    Py_DECREF(self);
    return result;
}

/* A call that gives what is to be stepped through. */
static PyObject *
call_stepped(observed_object *self, PyObject *const *args, size_t count, PyObject *keywords)
{
    kobs_call call = {
        .observed = self, .args = args, .count = PyVectorcall_NARGS(count), .keywords = keywords,
    };
    PyObject *inner = call_original(self, args, count, keywords);

    return inner == NULL || !kobs_parameters_fit(&call) ? inner : kobs_stepped(&call, inner);
}

static PyObject *
function_vectorcall(observed_object *self, PyObject *const *args, size_t count, PyObject *keywords)
{
    if (!kobs_is_routed(self)) {
        return call_original(self, args, count, keywords);
    }
    if (self->style == STYLE_PLAIN) {
        return call_observed(self, args, count, keywords);
    }
    return call_stepped(self, args, count, keywords);
}

/* -- what can be asked of it ----------------------------------------------------------------- */

PyObject *
kobs_stand_for(PyObject *self, PyObject *original, PyObject *name)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    observed_state *names = &state->observed;

    if (kobs_is_name(name, names->wrapped_name)) {
        return Py_NewRef(original);
    }
    if (kobs_is_own(names, self, name)) {
        return PyObject_GenericGetAttr(self, name);
    }
    return PyObject_GetAttr(original, name);
}

static PyObject *
function_getattro(observed_object *self, PyObject *name)
{
    return kobs_stand_for((PyObject *)self, self->original, name);
}

static int
function_setattro(observed_object *self, PyObject *name, PyObject *value)
{
    return PyObject_SetAttr(self->original, name, value);
}

static PyObject *
function_repr(observed_object *self)
{
    return PyObject_Repr(self->original);
}

/* By name, as functions are pickled and copied. */
static PyObject *
function_reduce_ex(observed_object *self, PyObject *protocol)
{
    bool function = PyFunction_Check(self->original) || Py_TYPE(self->original) == Py_TYPE(self);

    if (!function && self->through == NULL) {
        return PyObject_CallMethod(self->original, "__reduce_ex__", "O", protocol);
    }
    return PyObject_GetAttrString(self->original, "__qualname__");
}

static PyObject *
function_reduce(observed_object *self, PyObject *Py_UNUSED(none))
{
    PyObject *protocol = PyLong_FromLong(0);
    PyObject *made = protocol == NULL ? NULL : function_reduce_ex(self, protocol);

    Py_XDECREF(protocol);
    return made;
}

/* -- for kobs/observe ------------------------------------------------------------------------ */

PyDoc_STRVAR(wire_doc, "wire(observed, route, lookup)\n\n"
             "Send the events of an observed callable along a route, (collector, channel of the\n"
             "first emission, ...), or along the one that `lookup(instance)` gives; None: nowhere.");

static PyObject *
wire(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *object, *route, *lookup;

    if (!PyArg_ParseTuple(args, "O!OO:wire", state->observed.function, &object, &route, &lookup)) {
        return NULL;
    }
    observed_object *self = (observed_object *)object;
    PyObject *old_route, *old_lookup;
    KOBS_LOCK(object)
    old_route = self->route;
    old_lookup = self->lookup;
    self->lookup = lookup == Py_None ? NULL : Py_NewRef(lookup);
    kobs_set_route(self, route == Py_None ? NULL : Py_NewRef(route));
    self->same_for_all = (self->lookup == NULL || self->instance == NULL)
                         && PyTuple_CheckExact(route)
                         && PyTuple_GET_SIZE(route) == self->emissions + 1;
    KOBS_UNLOCK()
    Py_XDECREF(old_route);
    Py_XDECREF(old_lookup);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(site_of_doc, "site_of(object)\n\nThe site of an observed callable; None for any other "
             "object.");

static PyObject *
site_of(PyObject *module, PyObject *object)
{
    core_state *state = PyModule_GetState(module);

    if (Py_TYPE(object) != state->observed.function || ((observed_object *)object)->site == NULL) {
        Py_RETURN_NONE;
    }
    return Py_NewRef(((observed_object *)object)->site);
}

PyDoc_STRVAR(running_doc, "running()\n\nThe observed calls that run in this thread and whose events "
             "a watch may tell too, innermost first.");

PyMethodDef kobs_observed_functions[] = {
    {"wire", wire, METH_VARARGS, wire_doc},
    {"site_of", site_of, METH_O, site_of_doc},
    {"running", kobs_running, METH_NOARGS, running_doc},
    {NULL, NULL, 0, NULL},
};

/* -- the type -------------------------------------------------------------------------------- */

static int
take_style(observed_object *self, const char *style)
{
    static const char *const styles[] = {
        [STYLE_PLAIN] = "plain", [STYLE_COROUTINE] = "coroutine", [STYLE_GENERATOR] = "generator",
        [STYLE_ASYNC_GENERATOR] = "async generator",
    };

    for (int index = 0; index <= STYLE_ASYNC_GENERATOR; index++) {
        if (strcmp(style, styles[index]) == 0) {
            self->style = (kobs_style)index;
            return 0;
        }
    }
    PyErr_Format(PyExc_ValueError, "no style %s", style);
    return -1;
}

static int
take_instance(observed_object *self, PyObject *description)
{
    if (description == Py_None) {
        return 0;
    }
    self->instance = PyMem_Calloc(1, sizeof(kobs_node));
    if (self->instance == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return kobs_node_init(self->instance, description);
}

static int
check_slots(const observed_object *self, const kobs_ops *ops)
{
    for (Py_ssize_t index = 0; index < ops->count; index++) {
        const kobs_op *op = &ops->ops[index];
        if (op->emission < 0 || op->emission >= self->emissions || op->slot < -1
            || op->slot >= self->emissions) {
            PyErr_SetString(PyExc_ValueError, "no such emission");
            return -1;
        }
    }
    return 0;
}

static PyObject *
function_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"original", "site", "style", "parameters", "instance", "before",
                            "returned", "raised", "emissions", "scope", "measured", "shared",
                            "keeps_state", "through", "name", "end_noted", "leave_noted", NULL};
    PyObject *original, *site, *parameters, *instance, *before, *returned, *raised, *through, *name,
        *end_noted, *leave_noted;
    const char *style;
    Py_ssize_t emissions, scope;
    int measured, shared, keeps_state;

    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "$OOsOOO!O!O!nnpppOUOO:function", names, &original, &site, &style,
            &parameters, &instance, &PyTuple_Type, &before, &PyTuple_Type, &returned,
            &PyTuple_Type, &raised, &emissions, &scope, &measured, &shared, &keeps_state, &through,
            &name, &end_noted, &leave_noted)) {
        return NULL;
    }
    observed_object *self = (observed_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = (vectorcallfunc)function_vectorcall;
    self->original = Py_NewRef(original);
    self->site = Py_NewRef(site);
    self->through = through == Py_None ? NULL : Py_NewRef(through);
    self->name = Py_NewRef(name);
    PyUnicode_InternInPlace(&self->name);
    self->end_noted = Py_NewRef(end_noted);
    self->leave_noted = Py_NewRef(leave_noted);
    self->emissions = emissions;
    self->scope = scope;
    self->measured = measured;
    self->shared = shared;
    self->keeps_state = keeps_state;
    self->emitter_type = ((core_state *)PyType_GetModuleState(type))->emitter_type;
    if (take_style(self, style) < 0 || kobs_parameters_init(&self->parameters, parameters) < 0
        || take_instance(self, instance) < 0 || kobs_ops_init(&self->before, before) < 0
        || kobs_ops_init(&self->returned, returned) < 0 || kobs_ops_init(&self->raised, raised) < 0
        || check_slots(self, &self->before) < 0 || check_slots(self, &self->returned) < 0
        || check_slots(self, &self->raised) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->keeps_arguments = self->shared || kobs_ops_take_arguments(&self->returned)
                            || kobs_ops_take_arguments(&self->raised);
    return (PyObject *)self;
}

static int
function_traverse(observed_object *self, visitproc visit, void *arg)
{
    int stop;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->route);
    Py_VISIT(self->original);
    Py_VISIT(self->lookup);
    Py_VISIT(self->through);
    Py_VISIT(self->site);
    Py_VISIT(self->end_noted);
    Py_VISIT(self->leave_noted);
    if ((stop = kobs_parameters_visit(&self->parameters, visit, arg)) != 0
        || (self->instance != NULL && (stop = kobs_node_visit(self->instance, visit, arg)) != 0)
        || (stop = kobs_ops_visit(&self->before, visit, arg)) != 0
        || (stop = kobs_ops_visit(&self->returned, visit, arg)) != 0) {
        return stop;
    }
    return kobs_ops_visit(&self->raised, visit, arg);
}

/* What else it holds stays: something of the same cycle may still call it. Every cycle through that
 * goes through a dict, a function or a site as well, which lets go of it. */
static int
function_clear(observed_object *self)
{
    self->same_for_all = false;
    Py_CLEAR(self->route);
    Py_CLEAR(self->lookup);
    Py_CLEAR(self->site);
    return 0;
}

static void
function_dealloc(observed_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    function_clear(self);
    Py_CLEAR(self->original);
    Py_CLEAR(self->through);
    Py_CLEAR(self->name);
    Py_CLEAR(self->end_noted);
    Py_CLEAR(self->leave_noted);
    Py_CLEAR(self->elapsed);
    kobs_parameters_clear(&self->parameters);
    if (self->instance != NULL) {
        kobs_node_clear(self->instance);
        PyMem_Free(self->instance);
    }
    kobs_ops_clear(&self->before);
    kobs_ops_clear(&self->returned);
    kobs_ops_clear(&self->raised);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"__reduce_ex__", (PyCFunction)function_reduce_ex, METH_O, NULL},
    {"__reduce__", (PyCFunction)function_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(observed_object, vectorcall), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(observed_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, function_new},
    {Py_tp_dealloc, function_dealloc},
    {Py_tp_traverse, function_traverse},
    {Py_tp_clear, function_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, kobs_stand_in_bind},
    {Py_tp_getattro, function_getattro},
    {Py_tp_setattro, function_setattro},
    {Py_tp_repr, function_repr},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.function",
    .basicsize = sizeof(observed_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_function_type(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->observed.function = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    if (state->observed.function == NULL
        || PyModule_AddType(module, state->observed.function) < 0) {
        return -1;
    }
    kobs_name_type(state->observed.function);
    return 0;
}

void
kobs_name_type(PyTypeObject *type)
{
    type->tp_name = strrchr(type->tp_name, '.') + 1; /* the characters are the type's own */
}

static int
take_names(observed_state *state)
{
    const struct {
        PyObject **to;
        const char *name;
    } names[] = {
        {&state->class_name, "__class__"}, {&state->doc_name, "__doc__"},
        {&state->module_name, "__module__"}, {&state->wrapped_name, "__wrapped__"},
        {&state->send_name, "send"}, {&state->throw_name, "throw"}, {&state->close_name, "close"},
    };

    for (size_t index = 0; index < sizeof(names) / sizeof(names[0]); index++) {
        *names[index].to = PyUnicode_InternFromString(names[index].name);
        if (*names[index].to == NULL) {
            return -1;
        }
    }
    return 0;
}

int
kobs_add_observed(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    if (take_names(&state->observed) < 0 || PyModule_AddFunctions(module, kobs_observed_functions) < 0
        || kobs_add_running_type(module) < 0 || kobs_add_function_type(module) < 0
        || kobs_add_stepped_types(module) < 0 || kobs_add_async_types(module) < 0) {
        return -1;
    }
    return 0;
}

int
kobs_visit_observed(observed_state *state, visitproc visit, void *arg)
{
    Py_VISIT(state->function);
    Py_VISIT(state->running);
    Py_VISIT(state->coroutine);
    Py_VISIT(state->generator);
    Py_VISIT(state->awaitable_generator);
    Py_VISIT(state->coroutine_wrapper);
    Py_VISIT(state->async_generator);
    Py_VISIT(state->async_step);
    return 0;
}

void
kobs_clear_observed(observed_state *state)
{
    Py_CLEAR(state->function);
    Py_CLEAR(state->running);
    Py_CLEAR(state->coroutine);
    Py_CLEAR(state->generator);
    Py_CLEAR(state->awaitable_generator);
    Py_CLEAR(state->coroutine_wrapper);
    Py_CLEAR(state->async_generator);
    Py_CLEAR(state->async_step);
    Py_CLEAR(state->class_name);
    Py_CLEAR(state->doc_name);
    Py_CLEAR(state->module_name);
    Py_CLEAR(state->wrapped_name);
    Py_CLEAR(state->send_name);
    Py_CLEAR(state->throw_name);
    Py_CLEAR(state->close_name);
}
