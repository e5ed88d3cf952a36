/* `SpanMaker`: a function that makes spans, without Python where only their name is given. It stands
 * for the Python function, which does all the rest. */

#include "span.h"
#include "stand_in.h"

typedef struct {
    kobs_stand_in head;
    PyObject *type;           /* of spans */
    PyObject *kind, *category; /* of those of which nothing else is said */
} maker_object;

static PyObject *
maker_call(maker_object *self, PyObject *const *args, size_t flagged, PyObject *keywords)
{
    if (PyVectorcall_NARGS(flagged) != 1 || (keywords != NULL && PyTuple_GET_SIZE(keywords) != 0)) {
        return PyObject_Vectorcall(self->head.function, args, flagged, keywords);
    }
    PyObject *all[] = {args[0], self->kind, self->category, Py_None, Py_None, Py_None};
    return PyObject_Vectorcall(self->type, all, sizeof(all) / sizeof(all[0]), NULL);
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
        self->head.vectorcall = (vectorcallfunc)maker_call;
        self->head.function = Py_NewRef(function);
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
    Py_VISIT(self->head.function);
    Py_VISIT(self->type);
    return 0;
}

static void
maker_dealloc(maker_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->head.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    Py_CLEAR(self->head.function);
    Py_CLEAR(self->type);
    Py_CLEAR(self->kind);
    Py_CLEAR(self->category);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"__reduce_ex__", kobs_stand_in_reduce, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, maker_new},
    {Py_tp_dealloc, maker_dealloc},
    {Py_tp_traverse, maker_traverse},
    KOBS_STAND_IN_SLOTS,
    {Py_tp_getattro, kobs_stand_in_getattro},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.SpanMaker",
    .basicsize = sizeof(maker_object),
    .flags = KOBS_STAND_IN_FLAGS,
    .slots = slots,
};

int
kobs_add_span_maker(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->span_maker = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->span_maker == NULL ? -1 : PyModule_AddType(module, state->span_maker);
}
