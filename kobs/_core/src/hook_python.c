/* Stand-ins for Python functions that add no frame, and whose own work tracers do not see.
 * `FunctionHook` calls hooks; its Python twin is what `make_call` of `_patch` makes. `ImportHook` tells
 * which modules were imported. */

#include "hook.h"
#include "stand_in.h"

typedef struct {
    kobs_stand_in head;
    PyObject *what, *more; /* a hook, and a list: empty once nobody watches; or a dict and a callable */
} function_hook;

static PyObject *
function_new(PyTypeObject *type, vectorcallfunc called, PyObject *original, PyObject *what,
             PyObject *more)
{
    function_hook *self = (function_hook *)type->tp_alloc(type, 0);

    if (self != NULL) {
        self->head.function = Py_NewRef(original);
        self->head.vectorcall = called;
        self->what = Py_NewRef(what);
        self->more = Py_NewRef(more);
    }
    return (PyObject *)self;
}

/* -- FunctionHook -------------------------------------------------------------------------------- */

static PyObject *
hooked_call(PyObject *called, PyObject *const *args, size_t count, PyObject *names)
{
    function_hook *self = (function_hook *)called;

    if (kobs_busy || PyList_GET_SIZE(self->more) == 0 || kobs_finalizing()) {
        return PyObject_Vectorcall(self->head.function, args, count, names);
    }
    PyObject *hook = Py_NewRef(self->what), *function = Py_NewRef(self->head.function);
    PyObject *result = kobs_hook_around((hook_object *)hook, function, args, count, names);
    Py_DECREF(function);
    Py_DECREF(hook);
    return result;
}

static PyObject *
hooked_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"original", "hook", "live", NULL};
    PyObject *wanted = PyObject_GetAttrString(PyType_GetModule(type), "Hook");
    PyObject *original, *hook, *live, *made = NULL;

    if (wanted != NULL
        && PyArg_ParseTupleAndKeywords(args, keywords, "$OO!O!:FunctionHook", names, &original,
                                       wanted, &hook, &PyList_Type, &live)) {
        made = function_new(type, hooked_call, original, hook, live);
    }
    Py_XDECREF(wanted);
    return made;
}

/* -- ImportHook ---------------------------------------------------------------------------------- */

/* Of `_find_and_load(name, import_)`. A module that kobs itself imports is told too. */
static PyObject *
import_call(PyObject *called, PyObject *const *args, size_t count, PyObject *names)
{
    function_hook *self = (function_hook *)called;
    PyObject *module = PyObject_Vectorcall(self->head.function, args, count, names), *told;

    if (module == NULL || PyVectorcall_NARGS(count) == 0 || !PyUnicode_CheckExact(args[0])
        || PyDict_Contains(self->what, args[0]) <= 0) {
        return module;
    }
    KOBS_UNSEEN
    told = PyObject_CallFunctionObjArgs(self->more, args[0], module, NULL);
    KOBS_SEEN
    if (told == NULL) {
        Py_CLEAR(module); /* an interrupt: the callable lets nothing else through */
    }
    Py_XDECREF(told);
    return module;
}

static PyObject *
import_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"original", "triggers", "imported", NULL};
    PyObject *original, *triggers, *imported;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OO!O:ImportHook", names, &original,
                                     &PyDict_Type, &triggers, &imported)) {
        return NULL;
    }
    return function_new(type, import_call, original, triggers, imported);
}

/* -- the types ----------------------------------------------------------------------------------- */

static int
function_traverse(function_hook *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->head.function);
    Py_VISIT(self->what);
    Py_VISIT(self->more);
    return 0;
}

static int
function_clear(function_hook *self)
{
    Py_CLEAR(self->head.function);
    Py_CLEAR(self->what);
    Py_CLEAR(self->more);
    return 0;
}

static void
function_dealloc(function_hook *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->head.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    function_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef function_methods[] = {
    {"__reduce_ex__", kobs_stand_in_reduce, METH_O, PyDoc_STR("By name.")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef function_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(kobs_stand_in, vectorcall), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(kobs_stand_in, weakrefs), READONLY, NULL},
    {"original", T_OBJECT_EX, offsetof(kobs_stand_in, function), READONLY,
     PyDoc_STR("For those who ask past its `__getattribute__`.")},
    {NULL, 0, 0, 0, NULL},
};

#define SLOTS(make)                                                                                \
    {                                                                                              \
        {Py_tp_new, make}, {Py_tp_dealloc, function_dealloc}, {Py_tp_traverse, function_traverse}, \
            {Py_tp_clear, function_clear}, {Py_tp_call, PyVectorcall_Call},                        \
            {Py_tp_descr_get, kobs_stand_in_bind},                                                 \
            {Py_tp_getattro, kobs_stand_in_getattro},                                              \
            {Py_tp_setattro, kobs_stand_in_setattro}, {Py_tp_repr, kobs_stand_in_repr},            \
            {Py_tp_members, function_members}, {Py_tp_methods, function_methods}, {0, NULL},       \
    }

static PyType_Slot hooked_slots[] = SLOTS(hooked_new);
static PyType_Slot import_slots[] = SLOTS(import_new);

static PyType_Spec hooked_spec = {
    .name = "kobs._core._native.FunctionHook",
    .basicsize = sizeof(function_hook),
    .flags = KOBS_STAND_IN_FLAGS,
    .slots = hooked_slots,
};

static PyType_Spec import_spec = {
    .name = "kobs._core._native.ImportHook",
    .basicsize = sizeof(function_hook),
    .flags = KOBS_STAND_IN_FLAGS,
    .slots = import_slots,
};

static PyObject *
call_unseen(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    PyObject *result;

    if (count == 0) {
        PyErr_SetString(PyExc_TypeError, "call_unseen() needs something to call");
        return NULL;
    }
    KOBS_UNSEEN
    result = PyObject_Vectorcall(args[0], args + 1, (size_t)count - 1, NULL);
    KOBS_SEEN
    return result;
}

bool kobs_own_is_shown = false;

static PyObject *
show_own(PyObject *Py_UNUSED(module), PyObject *shown)
{
    int is = PyObject_IsTrue(shown);

    if (is < 0) {
        return NULL;
    }
    kobs_own_is_shown = is > 0;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"call_unseen", (PyCFunction)(void (*)(void))call_unseen, METH_FASTCALL,
     PyDoc_STR("call_unseen(function, *args)\n\nCall it; profilers and debuggers do not see what it "
               "runs.")},
    {"show_own", show_own, METH_O,
     PyDoc_STR("show_own(shown)\n\nWhether profilers and debuggers see what kobs itself runs in "
               "Python, for who looks for mistakes in kobs. At first they do not.")},
    {NULL, NULL, 0, NULL},
};

int
kobs_add_function_hooks(PyObject *module)
{
    return kobs_add_type(module, &hooked_spec) < 0 || kobs_add_type(module, &import_spec) < 0
                   || PyModule_AddFunctions(module, functions) < 0
               ? -1 : 0;
}
