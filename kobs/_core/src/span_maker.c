/* `SpanMaker`: a function that makes spans, without Python where only their name is given. It stands
 * for the Python function, which does all the rest. */

#include "span.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *weakrefs;
    PyObject *function;
    PyObject *type;           /* of spans */
    PyObject *kind, *category; /* of those of which nothing else is said */
} maker_object;

static PyObject *
maker_call(maker_object *self, PyObject *const *args, size_t flagged, PyObject *keywords)
{
    if (PyVectorcall_NARGS(flagged) != 1 || (keywords != NULL && PyTuple_GET_SIZE(keywords) != 0)) {
        return PyObject_Vectorcall(self->function, args, flagged, keywords);
    }
    PyObject *all[] = {args[0], self->kind, self->category, Py_None, Py_None, Py_None};
    return PyObject_Vectorcall(self->type, all, sizeof(all) / sizeof(all[0]), NULL);
}

static PyObject *
maker_descr_get(PyObject *self, PyObject *instance, PyObject *Py_UNUSED(cls))
{
    if (instance == NULL || instance == Py_None) {
        return Py_NewRef(self);
    }
    return PyMethod_New(self, instance);
}

static PyObject *
maker_getattro(maker_object *self, PyObject *name)
{
    return kobs_stand_for((PyObject *)self, self->function, name);
}

static int
maker_setattro(maker_object *self, PyObject *name, PyObject *value)
{
    return PyObject_SetAttr(self->function, name, value);
}

static PyObject *
maker_repr(maker_object *self)
{
    return PyObject_Repr(self->function);
}

/* By name, as functions are pickled and copied. */
static PyObject *
maker_reduce_ex(maker_object *self, PyObject *Py_UNUSED(protocol))
{
    return PyObject_GetAttrString(self->function, "__qualname__");
}

static PyObject *
maker_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"function", "type", "kind", "category", NULL};
    PyObject *function, *made, *kind, *category;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!UO!:SpanMaker", names, &PyFunction_Type,
                                     &function, &PyType_Type, &made, &kind, &PyLong_Type,
                                     &category)) {
        return NULL;
    }
    maker_object *self = (maker_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->vectorcall = (vectorcallfunc)maker_call;
        self->function = Py_NewRef(function);
        self->type = Py_NewRef(made);
        self->kind = Py_NewRef(kind);
        self->category = Py_NewRef(category);
    }
    return (PyObject *)self;
}

static int
maker_traverse(maker_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->function);
    Py_VISIT(self->type);
    return 0;
}

static void
maker_dealloc(maker_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    Py_CLEAR(self->function);
    Py_CLEAR(self->type);
    Py_CLEAR(self->kind);
    Py_CLEAR(self->category);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"__reduce_ex__", (PyCFunction)maker_reduce_ex, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(maker_object, vectorcall), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(maker_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, maker_new},
    {Py_tp_dealloc, maker_dealloc},
    {Py_tp_traverse, maker_traverse},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, maker_descr_get},
    {Py_tp_getattro, maker_getattro},
    {Py_tp_setattro, maker_setattro},
    {Py_tp_repr, maker_repr},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.SpanMaker",
    .basicsize = sizeof(maker_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_span_maker(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->span_maker = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->span_maker == NULL ? -1 : PyModule_AddType(module, state->span_maker);
}
