/* The objects that are stepped through: how they are made, what can be asked of them, their types. */

#include "observed.h"

/* -- what can be asked of it ------------------------------------------------------------------ */

static PyObject *
stepped_getattro(PyObject *self, PyObject *name)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));

    return kobs_is_own(&state->observed, self, name)
        ? PyObject_GenericGetAttr(self, name)
        : PyObject_GetAttr(((stepped_object *)self)->inner, name);
}

static int
stepped_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    return PyObject_SetAttr(((stepped_object *)self)->inner, name, value);
}

static PyObject *
stepped_repr(PyObject *self)
{
    return PyObject_Repr(((stepped_object *)self)->inner);
}

/* -- the types ------------------------------------------------------------------------------- */

static bool
stands_for(const observed_state *state, kobs_style style, PyObject *inner)
{
    switch (style) {
    case STYLE_COROUTINE:
        return PyCoro_CheckExact(inner) || Py_TYPE(inner) == state->coroutine;
    case STYLE_GENERATOR:
        return PyGen_CheckExact(inner) || Py_TYPE(inner) == state->generator
               || Py_TYPE(inner) == state->awaitable_generator;
    case STYLE_ASYNC_GENERATOR:
        return PyAsyncGen_CheckExact(inner) || Py_TYPE(inner) == state->async_generator;
    case STYLE_PLAIN:
        return false;
    }
    Py_UNREACHABLE();
}

/* Whether a generator may be awaited: by `types.coroutine`, which may come later than the observing.
 */
static bool
is_awaitable(const observed_state *state, PyObject *generator)
{
    if (!PyGen_CheckExact(generator)) {
        return Py_TYPE(generator) == state->awaitable_generator;
    }
#if PY_VERSION_HEX >= 0x030C0000
    PyCodeObject *code = PyGen_GetCode((PyGenObject *)generator);
    int flags = code->co_flags;
    Py_DECREF(code);
#else
    int flags = ((PyGenObject *)generator)->gi_code->co_flags;
#endif
    return flags & CO_ITERABLE_COROUTINE;
}

static PyTypeObject *
type_for(const observed_state *state, kobs_style style, PyObject *inner)
{
    switch (style) {
    case STYLE_COROUTINE:
        return state->coroutine;
    case STYLE_ASYNC_GENERATOR:
        return state->async_generator;
    default:
        return is_awaitable(state, inner) ? state->awaitable_generator : state->generator;
    }
}

PyObject *
kobs_stepped(kobs_call *call, PyObject *inner)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(call->observed));
    Py_ssize_t keywords = call->keywords == NULL ? 0 : PyTuple_GET_SIZE(call->keywords);
    kobs_style style = call->observed->style;

    if (!stands_for(&state->observed, style, inner)) {
        return inner;
    }
    stepped_object *self = PyObject_GC_New(stepped_object,
                                           type_for(&state->observed, style, inner));
    if (self == NULL) {
        Py_DECREF(inner);
        return NULL;
    }
    self->inner = inner;
    self->call = *call;
    Py_INCREF(call->observed);
    Py_XINCREF(call->keywords);
    self->kept_count = call->count + keywords;
    atomic_bool *const flags[] = {&self->started, &self->stepping, &self->silent, &self->hooked,
                                  &self->begun, &self->closing};
    for (size_t index = 0; index < sizeof(flags) / sizeof(flags[0]); index++) {
        atomic_init(flags[index], false);
    }
    self->finalizer = self->weakrefs = NULL;
    self->kept = self->kept_count <= (Py_ssize_t)(sizeof(self->few) / sizeof(self->few[0]))
        ? self->few : PyMem_New(PyObject *, (size_t)self->kept_count);
    if (self->kept == NULL) { /* no memory: it runs, and nothing is told of it */
        self->kept_count = self->call.count = 0;
        kobs_set(&self->silent, true);
    }
    for (Py_ssize_t index = 0; index < self->kept_count; index++) {
        self->kept[index] = Py_NewRef(call->args[index]);
    }
    self->call.args = self->kept;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static int
stepped_traverse(stepped_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->inner);
    Py_VISIT(self->call.observed);
    Py_VISIT(self->call.route);
    Py_VISIT(self->call.running);
    for (Py_ssize_t index = 0; index < self->kept_count; index++) {
        Py_VISIT(self->kept[index]);
    }
    if (self->call.states != NULL) {
        for (Py_ssize_t index = 0; index < self->call.observed->emissions; index++) {
            Py_VISIT(self->call.states[index]);
        }
    }
    Py_VISIT(self->finalizer);
    return 0;
}

static int
stepped_clear(stepped_object *self)
{
    kobs_step_silence(self);
    Py_CLEAR(self->finalizer);
    return 0;
}

static void
stepped_dealloc(stepped_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, stepped_dealloc)
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    if (!kobs_is_set(&self->silent) || kobs_is_set(&self->hooked)) { /* else its end is known */
        PyObject_GC_Track(self);
        if (PyObject_CallFinalizerFromDealloc((PyObject *)self) != 0) {
            goto kept;
        }
        PyObject_GC_UnTrack(self);
    }
    stepped_clear(self);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->call.observed);
    PyObject_GC_Del(self);
    Py_DECREF(type);
kept:
    Py_TRASHCAN_END
}

static PyMethodDef coroutine_methods[] = {
    {"send", (PyCFunction)kobs_stepped_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))kobs_stepped_throw, METH_FASTCALL, NULL},
    {"close", (PyCFunction)kobs_stepped_close, METH_NOARGS, NULL},
    {"__await__", kobs_coroutine_await, METH_NOARGS | METH_COEXIST, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef generator_methods[] = {
    {"send", (PyCFunction)kobs_stepped_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))kobs_stepped_throw, METH_FASTCALL, NULL},
    {"close", (PyCFunction)kobs_stepped_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(stepped_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define COMMON_SLOTS                                                                              \
    {Py_tp_dealloc, stepped_dealloc}, {Py_tp_traverse, stepped_traverse},                         \
        {Py_tp_clear, stepped_clear}, {Py_tp_finalize, kobs_stepped_finalize},                         \
        {Py_tp_getattro, stepped_getattro}, {Py_tp_setattro, stepped_setattro},                   \
        {Py_tp_repr, stepped_repr}, {Py_tp_members, members}

static PyType_Slot coroutine_slots[] = {
    COMMON_SLOTS,
    {Py_tp_methods, coroutine_methods},
    {Py_tp_iter, kobs_coroutine_iter},
    {Py_tp_iternext, kobs_stepped_next},
    {Py_am_await, kobs_coroutine_awaited},
    {Py_am_send, kobs_stepped_send},
    {0, NULL},
};

static PyType_Slot generator_slots[] = {
    COMMON_SLOTS,
    {Py_tp_methods, generator_methods},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, kobs_stepped_next},
    {Py_am_send, kobs_stepped_send},
    {0, NULL},
};

static PyType_Slot awaitable_generator_slots[] = {
    COMMON_SLOTS,
    {Py_tp_methods, generator_methods},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, kobs_stepped_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, kobs_stepped_send},
    {0, NULL},
};

static PyType_Slot async_generator_slots[] = {
    COMMON_SLOTS,
    {Py_tp_methods, kobs_async_methods},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, kobs_async_next},
    {0, NULL},
};

PyTypeObject *
kobs_make_stepped_type(PyObject *module, const char *name, size_t size, PyType_Slot *type_slots)
{
    PyType_Spec spec = {
        .name = name,
        .basicsize = (int)size,
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
                 | Py_TPFLAGS_IMMUTABLETYPE,
        .slots = type_slots,
    };
    PyTypeObject *made = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);

    if (made != NULL) {
        kobs_name_type(made);
    }
    return made;
}

/* Have a class not show what the interpreter alone uses. */
static int
hide(PyTypeObject *type, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (PyDict_DelItemString(type->tp_dict, *names) < 0) {
            return -1;
        }
    }
    PyType_Modified(type);
    return 0;
}

int
kobs_add_stepped_types(PyObject *module)
{
    static const char *const of_iterators[] = {"__iter__", "__next__", NULL};
    static const char *const of_awaitables[] = {"__await__", NULL};
    core_state *core = PyModule_GetState(module);
    observed_state *state = &core->observed;
    const struct {
        PyTypeObject **to;
        const char *name;
        PyType_Slot *slots;
    } types[] = {
        {&state->coroutine, "kobs._core._native.coroutine", coroutine_slots},
        {&state->generator, "kobs._core._native.generator", generator_slots},
        {&state->awaitable_generator, "kobs._core._native.generator", awaitable_generator_slots},
        {&state->async_generator, "kobs._core._native.async_generator", async_generator_slots},
    };

    for (size_t index = 0; index < sizeof(types) / sizeof(types[0]); index++) {
        *types[index].to = kobs_make_stepped_type(module, types[index].name,
                                                  sizeof(stepped_object), types[index].slots);
        if (*types[index].to == NULL) {
            return -1;
        }
    }
    if (hide(state->coroutine, of_iterators) < 0
        || hide(state->awaitable_generator, of_awaitables) < 0) {
        return -1;
    }
    return kobs_add_coroutine_wrapper(module);
}
