/* `Hook` and `TimedHook`: what is called around a built-in function. */

#include "hook.h"

/* -- where a hook goes --------------------------------------------------------------------------- */

/* Calls of these are made by other ways than by the function, once they are specialised. */
static bool
shortcut(PyObject *function)
{
    static const char *const builtins[] = {"len", "isinstance"};

    if (Py_IS_TYPE(function, &PyMethodDescr_Type)) {
        return ((PyMethodDescrObject *)function)->d_common.d_type == &PyList_Type
               && strcmp(((PyMethodDescrObject *)function)->d_method->ml_name, "append") == 0;
    }
    for (size_t index = 0; index < sizeof(builtins) / sizeof(builtins[0]); index++) {
        PyObject *known = PyDict_GetItemString(PyEval_GetBuiltins(), builtins[index]);
        if (known == function) {
            return true;
        }
    }
    return false;
}

/* The slot of a function of a module or of a method of a type; NULL where it has none. */
static hook_slot *
slot_of(PyObject *function)
{
    if (shortcut(function) || !kobs_hook_prepare()) {
        return NULL;
    }
    if (PyCFunction_CheckExact(function)) {
        PyCFunctionObject *made = (PyCFunctionObject *)function;
        /* One that is bound to an object is made anew each time: its type's method is meant. */
        bool of_module = made->m_self == NULL || PyModule_Check(made->m_self);
        return of_module ? kobs_hook_function(made) : NULL;
    }
    if (Py_IS_TYPE(function, &PyMethodDescr_Type)
        || Py_IS_TYPE(function, &PyClassMethodDescr_Type)) {
        return kobs_hook_method(((PyMethodDescrObject *)function)->d_method);
    }
    return NULL;
}

PyDoc_STRVAR(put_doc, "put(function) -> bool\n\n"
                      "Have a function of a module or a method of a type call this hook; False "
                      "where that cannot be done. The later a hook is put, the further out it is.");

/* What guards the putting and taking away of hooks, one at a time. */
static inline PyObject *
guard_of(hook_object *self)
{
    return (PyObject *)((core_state *)PyType_GetModuleState(Py_TYPE(self)))->emitter_type;
}

/* 1 where it was put, 0 where that cannot be done, -1 with an exception set. */
static int
put(hook_object *self, PyObject *function)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    hook_slot *slot = self->slot != NULL ? NULL : slot_of(function);

    if (slot != NULL && !state->hooks_end) {
        if (kobs_hook_end_with_interpreter() < 0) {
            return -1;
        }
        state->hooks_end = true;
    }
    return slot != NULL && kobs_hook_put(slot, (PyCFunctionObject *)function, self);
}

static PyObject *
hook_put(hook_object *self, PyObject *function)
{
    int done;

    KOBS_LOCK(guard_of(self))
    done = put(self, function);
    KOBS_UNLOCK()
    return done < 0 ? NULL : PyBool_FromLong(done);
}

PyDoc_STRVAR(remove_doc, "remove()\n\nTake the hook away; calls that are under way end with it. "
                         "Twice is once.");

static PyObject *
hook_remove(hook_object *self, PyObject *Py_UNUSED(none))
{
    KOBS_LOCK(guard_of(self))
    if (self->slot != NULL) {
        kobs_hook_take(self->slot, self);
    }
    KOBS_UNLOCK()
    Py_RETURN_NONE;
}

/* -- Hook ---------------------------------------------------------------------------------------- */

static PyObject *
hook_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"before", "after", "failed", "where", "shield", "changed", "tell",
                            "traffic", "among", NULL};
    PyObject *before, *after, *failed, *where, *changed, *tell, *among;
    int shield, traffic;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OOOUpO!OiO:Hook", names, &before, &after,
                                     &failed, &where, &shield, &PyType_Type, &changed, &tell,
                                     &traffic, &among)) {
        return NULL;
    }
    if (among != Py_None && !PyDict_Check(among)) {
        return PyErr_Format(PyExc_TypeError, "among: expected a dict or None, got %R", among);
    }
    hook_object *self = (hook_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->before = Py_NewRef(before);
        self->after = Py_NewRef(after);
        self->failed = Py_NewRef(failed);
        self->where = Py_NewRef(where);
        self->shield = shield;
        self->traffic = traffic;
        self->among = among == Py_None ? NULL : Py_NewRef(among);
        self->changed = Py_NewRef(changed);
        self->tell = Py_NewRef(tell);
    }
    return (PyObject *)self;
}

static int
hook_traverse(hook_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->before);
    Py_VISIT(self->after);
    Py_VISIT(self->failed);
    Py_VISIT(self->among);
    Py_VISIT(self->changed);
    Py_VISIT(self->tell);
    Py_VISIT(self->expected);
    Py_VISIT(self->succeeded);
    Py_VISIT(self->erred);
    Py_VISIT(self->aim.enter);
    Py_VISIT(self->aim.exit);
    Py_VISIT(self->aim.slow);
    return 0;
}

static int
hook_clear(hook_object *self)
{
    Py_CLEAR(self->before);
    Py_CLEAR(self->after);
    Py_CLEAR(self->failed);
    Py_CLEAR(self->among);
    Py_CLEAR(self->changed);
    Py_CLEAR(self->tell);
    Py_CLEAR(self->expected);
    Py_CLEAR(self->succeeded);
    Py_CLEAR(self->erred);
    Py_CLEAR(self->aim.enter);
    Py_CLEAR(self->aim.exit);
    Py_CLEAR(self->aim.slow);
    return 0;
}

static void
hook_dealloc(hook_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    hook_clear(self);
    Py_CLEAR(self->where);
    Py_CLEAR(self->name);
    Py_CLEAR(self->aim.threshold_ms);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

PyMethodDef kobs_hook_methods[] = {
    {"put", (PyCFunction)hook_put, METH_O, put_doc},
    {"remove", (PyCFunction)hook_remove, METH_NOARGS, remove_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot hook_slots[] = {
    {Py_tp_new, hook_new},
    {Py_tp_dealloc, hook_dealloc},
    {Py_tp_traverse, hook_traverse},
    {Py_tp_clear, hook_clear},
    {Py_tp_methods, kobs_hook_methods},
    {0, NULL},
};

static PyType_Spec hook_spec = {
    .name = "kobs._core._native.Hook",
    .basicsize = sizeof(hook_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = hook_slots,
};

/* -- TimedHook ------------------------------------------------------------------------------------ */

static PyObject *
timed_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"name", "where", "succeeded", "erred", "expected", "counts_bytes",
                            "tell", NULL};
    PyObject *name, *where, *succeeded, *erred, *expected, *tell;
    int counts_bytes;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$UUOOO!pO:TimedHook", names, &name, &where,
                                     &succeeded, &erred, &PyFrozenSet_Type, &expected,
                                     &counts_bytes, &tell)) {
        return NULL;
    }
    hook_object *self = (hook_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->timed = true;
        self->name = Py_NewRef(name);
        self->where = Py_NewRef(where);
        self->succeeded = Py_NewRef(succeeded);
        self->erred = Py_NewRef(erred);
        self->expected = Py_NewRef(expected);
        self->counts_bytes = counts_bytes;
        self->tell = Py_NewRef(tell);
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(aim_doc,
             "aim(enter, exit, slow, short_us, threshold_ms)\n\n"
             "Record calls by these emitters of `SyscallEnter`, `SyscallExit` and `SyscallSlow`; "
             "None: not at all.\nOf calls that took less than `short_us` and did not raise a hundred "
             "a second are recorded, and those\nthat are part of a chain; the others are counted, "
             "`unrecorded`.");

static PyObject *
timed_aim(hook_object *self, PyObject *args)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *given[3];
    emitter_object **at[] = {&self->aim.enter, &self->aim.exit, &self->aim.slow}, *before[3];
    double short_us, threshold_ms;

    if (!PyArg_ParseTuple(args, "OOOdd:aim", &given[0], &given[1], &given[2], &short_us,
                          &threshold_ms)) {
        return NULL;
    }
    for (int index = 0; index < 3; index++) {
        if (given[index] != Py_None && !Py_IS_TYPE(given[index], state->emitter_type)) {
            return PyErr_Format(PyExc_TypeError, "expected an Emitter or None, got %R",
                                given[index]);
        }
    }
    PyObject *threshold = PyFloat_FromDouble(threshold_ms);
    if (threshold == NULL) {
        return NULL;
    }
    KOBS_LOCK(self)
    for (int index = 0; index < 3; index++) {
        before[index] = *at[index];
        *at[index] = given[index] == Py_None ? NULL : (emitter_object *)Py_NewRef(given[index]);
    }
    self->aim.short_ns = (uint64_t)(short_us * 1e3);
    self->aim.slow_ns = (uint64_t)(threshold_ms * 1e6);
    Py_XSETREF(self->aim.threshold_ms, threshold);
    KOBS_UNLOCK()
    for (int index = 0; index < 3; index++) {
        Py_XDECREF(before[index]);
    }
    Py_RETURN_NONE;
}

static PyObject *
timed_counter(hook_object *self, void *offset)
{
    _Atomic uint64_t *counter = (_Atomic uint64_t *)((char *)self + (uintptr_t)offset);

    return PyLong_FromUnsignedLongLong(atomic_load_explicit(counter, memory_order_relaxed));
}

static PyMethodDef timed_methods[] = {
    {"put", (PyCFunction)hook_put, METH_O, put_doc},
    {"remove", (PyCFunction)hook_remove, METH_NOARGS, remove_doc},
    {"aim", (PyCFunction)timed_aim, METH_VARARGS, aim_doc},
    {NULL, NULL, 0, NULL},
};

#define COUNTER(name, doc)                                                                         \
    {#name, (getter)timed_counter, NULL, PyDoc_STR(doc), (void *)offsetof(hook_object, name)}

static PyGetSetDef timed_getters[] = {
    COUNTER(calls, "Calls while somebody watched."),
    COUNTER(unrecorded, "Of these, those that were short and not recorded."),
    COUNTER(bytes, "What calls have returned: the sum of the numbers and of the lengths of bytes."),
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot timed_slots[] = {
    {Py_tp_new, timed_new},
    {Py_tp_dealloc, hook_dealloc},
    {Py_tp_traverse, hook_traverse},
    {Py_tp_clear, hook_clear},
    {Py_tp_methods, timed_methods},
    {Py_tp_getset, timed_getters},
    {0, NULL},
};

static PyType_Spec timed_spec = {
    .name = "kobs._core._native.TimedHook",
    .basicsize = sizeof(hook_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = timed_slots,
};

/* -- busy ----------------------------------------------------------------------------------------- */

static PyObject *
busy_inside(PyObject *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyBool_FromLong(kobs_busy);
}

static int
busy_set_inside(PyObject *Py_UNUSED(self), PyObject *value, void *Py_UNUSED(closure))
{
    int inside = value == NULL ? 0 : PyObject_IsTrue(value);

    if (inside < 0) {
        return -1;
    }
    kobs_busy = inside;
    return 0;
}

static PyGetSetDef busy_getters[] = {
    {"inside", busy_inside, busy_set_inside,
     PyDoc_STR("This thread is inside kobs: what it does is not recorded."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot busy_slots[] = {
    {Py_tp_getset, busy_getters},
    {0, NULL},
};

static PyType_Spec busy_spec = {
    .name = "kobs._core._native.Busy",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = busy_slots,
};

int
kobs_add_hook_types(PyObject *module)
{
    bool added = kobs_add_type(module, &hook_spec) == 0 && kobs_add_type(module, &timed_spec) == 0
                 && kobs_add_type(module, &busy_spec) == 0;

    return added ? 0 : -1;
}
