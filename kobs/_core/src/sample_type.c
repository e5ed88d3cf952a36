/* `Sample`: many numbers, as `Stats` of kobs/_analysis/stats.py keeps them with the C core. */

#include "scan.h"

PyObject *
kobs_make_sample(PyTypeObject *type, kobs_sample *taken)
{
    sample_object *self = (sample_object *)type->tp_alloc(type, 0);

    if (self != NULL) {
        self->sample = *taken;
        *taken = (kobs_sample){0};
        kobs_sample_finish(&self->sample);
    }
    return (PyObject *)self;
}

static PyObject *
sample_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    kobs_sample sample = {0};
    PyObject *values, *made = NULL;

    if (!PyArg_ParseTuple(args, "O!:Sample", &PyList_Type, &values)) {
        return NULL;
    }
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(values); index++) {
        PyObject *item = kobs_list_item(values, index);
        double value = item == NULL ? -1.0 : PyFloat_AsDouble(item);
        Py_XDECREF(item);
        if (value == -1.0 && PyErr_Occurred()) {
            goto end;
        }
        if (!kobs_values_reserve(&sample.values, 1)) {
            PyErr_NoMemory();
            goto end;
        }
        kobs_values_put(&sample.values, value);
    }
    made = kobs_make_sample(type, &sample);
end:
    kobs_sample_free(&sample);
    return made;
}

static void
sample_dealloc(sample_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    kobs_sample_free(&self->sample);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

PyDoc_STRVAR(percentile_doc, "percentile(q) -> float\n\nThe value below which `q` percent lie, `q` "
                             "from 0 to 100; nan where there is no value.");

static PyObject *
sample_percentile(sample_object *self, PyObject *given)
{
    double q = PyFloat_AsDouble(given), found;
    bool done;

    if (q == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (!(q >= 0.0 && q <= 100.0)) {
        PyErr_Format(PyExc_ValueError, "percentile(%R): expected 0 to 100", given);
        return NULL;
    }
    KOBS_LOCK(self)
    done = kobs_sample_percentile(&self->sample, q, &found);
    KOBS_UNLOCK()
    return done ? PyFloat_FromDouble(found) : PyErr_NoMemory();
}

PyDoc_STRVAR(values_doc, "values() -> list\n\nAll of them, in no order that means anything.");

static PyObject *
values(sample_object *self)
{
    PyObject *found = PyList_New((Py_ssize_t)self->sample.values.count);

    for (size_t index = 0; found != NULL && index < self->sample.values.count; index++) {
        PyObject *value = PyFloat_FromDouble(self->sample.values.at[index]);
        if (value == NULL) {
            Py_CLEAR(found);
            break;
        }
        PyList_SET_ITEM(found, (Py_ssize_t)index, value);
    }
    return found;
}

static PyObject *
sample_values(sample_object *self, PyObject *Py_UNUSED(none))
{
    PyObject *found;

    KOBS_LOCK(self)
    found = values(self);
    KOBS_UNLOCK()
    return found;
}

static PyMethodDef methods[] = {
    {"percentile", (PyCFunction)sample_percentile, METH_O, percentile_doc},
    {"values", (PyCFunction)sample_values, METH_NOARGS, values_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"count", T_PYSSIZET, offsetof(sample_object, sample.values.count), READONLY,
     PyDoc_STR("How many values.")},
    {"rejected", T_PYSSIZET, offsetof(sample_object, sample.rejected), READONLY,
     PyDoc_STR("Values left out for not being finite.")},
    {"total", T_DOUBLE, offsetof(sample_object, sample.total), READONLY, PyDoc_STR("Their sum.")},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Sample(values)\n\nMany numbers: their sum and percentiles."},
    {Py_tp_new, sample_new},
    {Py_tp_dealloc, sample_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.Sample",
    .basicsize = sizeof(sample_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_sample_type(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->sample_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->sample_type == NULL ? -1 : PyModule_AddType(module, state->sample_type);
}
