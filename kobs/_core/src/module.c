/* The extension module `kobs._core._native`. `kobs/_core/native.py` is its face. */

#include "core.h"

static PyObject *
layout(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return kobs_layout_table();
}

static PyObject *
now(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return PyLong_FromUnsignedLongLong(kobs_now());
}

static PyMethodDef functions[] = {
    {"layout", layout, METH_NOARGS,
     PyDoc_STR("The structures as they were compiled: {'Header.magic': (offset, size), ...}.")},
    {"now", now, METH_NOARGS, PyDoc_STR("Monotonic time in nanoseconds.")},
    {NULL, NULL, 0, NULL},
};

static int
execute(PyObject *module)
{
    if (kobs_add_ring_type(module) < 0 || kobs_add_emitter_type(module) < 0
        || kobs_add_observed(module) < 0) {
        return -1;
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    core_state *state = PyModule_GetState(module);

    Py_VISIT(state->ring_type);
    Py_VISIT(state->emitter_type);
    return kobs_visit_observed(&state->observed, visit, arg);
}

static int
clear(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    Py_CLEAR(state->ring_type);
    Py_CLEAR(state->emitter_type);
    kobs_clear_observed(&state->observed);
    return 0;
}

struct PyModuleDef kobs_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "kobs._core._native",
    .m_doc = PyDoc_STR("The C core."),
    .m_size = sizeof(core_state),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&kobs_module);
}
