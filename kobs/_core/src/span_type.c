/* Spans: two events and the ambient cause between them. Their Python twin, which does all that is
 * not plain (another tracer's span around it, sampling, errors, attributes that do not fit), is
 * kobs/tracing/span.py; it works on the same attributes. */

#include "span.h"

/* -- what it records ------------------------------------------------------------------------- */

static PyObject *
span_record(span_object *self, PyObject *const *args, Py_ssize_t count)
{
    if (count == 2 && self->began_ns != 0 && PyUnicode_CheckExact(args[0])
        && PyUnicode_GET_LENGTH(args[0]) != 0
        && (PyUnicode_CheckExact(args[1]) || PyLong_CheckExact(args[1])
            || PyFloat_CheckExact(args[1]) || PyBool_Check(args[1]) || args[1] == Py_None)) {
        if (self->attributes == NULL || self->attributes == Py_None) {
            Py_XSETREF(self->attributes, PyDict_New());
            if (self->attributes == NULL) {
                return NULL;
            }
        }
        return PyObject_SetItem(self->attributes, args[0], args[1]) < 0 ? NULL : Py_NewRef(self);
    }
    if (count != 2) {
        PyErr_Format(PyExc_TypeError, "record() takes 2 arguments, got %zd", count);
        return NULL;
    }
    PyObject *with_self[] = {(PyObject *)self, args[0], args[1]};
    return PyObject_VectorcallMethod(kobs_state_of_span(self)->record, with_self, 3, NULL);
}

/* -- the type -------------------------------------------------------------------------------- */

static PyObject *
span_make(PyTypeObject *type, PyObject *const *args, size_t flagged, PyObject *keywords)
{
    Py_ssize_t count = PyVectorcall_NARGS(flagged);

    if (count != 6 || (keywords != NULL && PyTuple_GET_SIZE(keywords) != 0)) {
        PyErr_SetString(PyExc_TypeError, "a span takes name, kind, category, pid, slow_ms and "
                                         "collector; make one with span_operation(...)");
        return NULL;
    }
    span_object *self = (span_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->name = Py_NewRef(args[0]);
    self->kind = Py_NewRef(args[1]);
    self->category = Py_NewRef(args[2]);
    self->pid = Py_NewRef(args[3]);
    self->slow_ms = Py_NewRef(args[4]);
    self->given = Py_NewRef(args[5]);
    self->status = Py_NewRef(kobs_state_of_span(self)->unset);
    self->entry = -1;
    uint64_t category;
    if (kobs_unsigned(self->category, 15, &category) < 0) {
        PyErr_Clear();
        category = NOT_KNOWN;
    }
    self->category_number = (uint8_t)category;
    return (PyObject *)self;
}

static PyObject *
span_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    if (keywords != NULL && PyDict_GET_SIZE(keywords) != 0) {
        PyErr_SetString(PyExc_TypeError, "a span takes no keywords");
        return NULL;
    }
    return span_make(type, &PyTuple_GET_ITEM(args, 0), (size_t)PyTuple_GET_SIZE(args), NULL);
}

#define FOR_EACH_OBJECT(self, what) \
    what(self->name); what(self->kind); what(self->category); what(self->pid); \
    what(self->slow_ms); what(self->given); what(self->cause); what(self->collector); \
    what(self->attributes); what(self->previous); what(self->status); what(self->duration_us)

static int
span_traverse(span_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    FOR_EACH_OBJECT(self, Py_VISIT);
    return 0;
}

static int
span_clear(span_object *self)
{
    Py_CLEAR(self->attributes);
    Py_CLEAR(self->previous);
    return 0;
}

static void
span_dealloc(span_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    FOR_EACH_OBJECT(self, Py_CLEAR);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"__enter__", (PyCFunction)kobs_span_enter, METH_NOARGS, PyDoc_STR("Begin the span.")},
    {"__exit__", (PyCFunction)(void (*)(void))kobs_span_exit, METH_FASTCALL,
     PyDoc_STR("End the span.")},
    {"record", (PyCFunction)(void (*)(void))span_record, METH_FASTCALL,
     PyDoc_STR("Set an attribute; strings, numbers, booleans, bytes and lists keep their types.")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"name", T_OBJECT, offsetof(span_object, name), 0, NULL},
    {"kind", T_OBJECT, offsetof(span_object, kind), 0,
     PyDoc_STR("internal, server, client, producer or consumer.")},
    {"status", T_OBJECT, offsetof(span_object, status), 0, PyDoc_STR("unset, ok or error.")},
    {"duration_us", T_OBJECT, offsetof(span_object, duration_us), 0,
     PyDoc_STR("From begin to end in microseconds; None before the end.")},
    {"_category", T_OBJECT, offsetof(span_object, category), 0, NULL},
    {"_pid", T_OBJECT, offsetof(span_object, pid), 0, NULL},
    {"_slow_ms", T_OBJECT, offsetof(span_object, slow_ms), 0, NULL},
    {"_given", T_OBJECT, offsetof(span_object, given), 0, NULL},
    {"_cause", T_OBJECT, offsetof(span_object, cause), 0, NULL},
    {"_collector", T_OBJECT, offsetof(span_object, collector), 0, NULL},
    {"_attributes", T_OBJECT, offsetof(span_object, attributes), 0, NULL},
    {"_previous", T_OBJECT, offsetof(span_object, previous), 0, NULL},
    {"_began_ns", T_ULONGLONG, offsetof(span_object, began_ns), 0, NULL},
    {"_event", T_ULONGLONG, offsetof(span_object, event), 0, NULL},
    {"_entry", T_LONGLONG, offsetof(span_object, entry), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, span_new},
    {Py_tp_dealloc, span_dealloc},
    {Py_tp_traverse, span_traverse},
    {Py_tp_clear, span_clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs.tracing.span.NativeSpan",
    .basicsize = sizeof(span_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

/* span_type(base, cause, cause_type, open_spans, slow_ms, modules) -> type */
PyObject *
kobs_span_type(PyObject *module, PyObject *args)
{
    span_state *state = &((core_state *)PyModule_GetState(module))->span;
    PyObject *base, *cause, *cause_type, *open_spans, *slow_ms, *modules;

    if (!PyArg_ParseTuple(args, "O!OO!O!O!O!:span_type", &PyType_Type, &base, &cause, &PyType_Type,
                          &cause_type, &PyDict_Type, &open_spans, &PyDict_Type, &slow_ms,
                          &PyDict_Type, &modules)) {
        return NULL;
    }
    PyObject *bases = PyTuple_Pack(1, base);
    PyObject *type = bases == NULL ? NULL : PyType_FromModuleAndSpec(module, &spec, bases);
    Py_XDECREF(bases);
    if (type == NULL) {
        return NULL;
    }
    ((PyTypeObject *)type)->tp_vectorcall = (vectorcallfunc)(void (*)(void))span_make;
    Py_XSETREF(state->cause_var, Py_NewRef(cause));
    Py_XSETREF(state->cause_type, Py_NewRef(cause_type));
    Py_XSETREF(state->open_spans, Py_NewRef(open_spans));
    Py_XSETREF(state->slow_ms, Py_NewRef(slow_ms));
    Py_XSETREF(state->modules, Py_NewRef(modules));
    Py_XSETREF(state->zero, PyLong_FromLong(0));
    Py_XSETREF(state->nothing, PyDict_New());
    Py_XSETREF(state->unset, PyUnicode_InternFromString("unset"));
    Py_XSETREF(state->opentelemetry, PyUnicode_InternFromString("opentelemetry.trace"));
    Py_XSETREF(state->enter, PyUnicode_InternFromString("_enter"));
    Py_XSETREF(state->exit, PyUnicode_InternFromString("_exit"));
    Py_XSETREF(state->record, PyUnicode_InternFromString("_record"));
    if (!state->nothing || !state->unset || !state->opentelemetry || !state->enter || !state->exit
        || !state->record) {
        Py_CLEAR(type);
    }
    return type;
}

/* wire_spans(collector, began, ended, gate, trace_high): spans of that collector need no Python.
 * wire_spans(None): none do. */
PyObject *
kobs_wire_spans(PyObject *module, PyObject *args)
{
    core_state *core = PyModule_GetState(module);
    span_state *state = &core->span;
    PyObject *collector, *began = NULL, *ended = NULL, *gate = NULL, *trace_high = NULL;

    if (!PyArg_ParseTuple(args, "O|O!O!O!O:wire_spans", &collector, core->emitter_type, &began,
                          core->emitter_type, &ended, &PyList_Type, &gate, &trace_high)) {
        return NULL;
    }
    bool none = collector == Py_None || trace_high == NULL;
    if (!none) {
        kobs_field *last = &((emitter_object *)ended)->fields[3];
        if (((emitter_object *)began)->field_count != 3
            || ((emitter_object *)ended)->field_count != 4 || last->kind != KIND_JSON
            || last->size != INLINE_ATTRIBUTES) {
            PyErr_SetString(PyExc_ValueError, "not the types of a span's begin and end");
            return NULL;
        }
    }
    PyObject *old = state->collector; /* let go of last: what goes with it may come back here */
    Py_XINCREF(old);
    Py_XSETREF(state->began, none ? NULL : (emitter_object *)Py_NewRef(began));
    Py_XSETREF(state->ended, none ? NULL : (emitter_object *)Py_NewRef(ended));
    Py_XSETREF(state->gate, none ? NULL : Py_NewRef(gate));
    Py_XSETREF(state->trace_high, none ? NULL : Py_NewRef(trace_high));
    Py_XSETREF(state->collector, none ? NULL : Py_NewRef(collector));
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

int
kobs_visit_spans(span_state *state, visitproc visit, void *arg)
{
    Py_VISIT(state->cause_var);
    Py_VISIT(state->cause_type);
    Py_VISIT(state->open_spans);
    Py_VISIT(state->slow_ms);
    Py_VISIT(state->collector);
    Py_VISIT(state->began);
    Py_VISIT(state->ended);
    Py_VISIT(state->gate);
    return 0;
}

void
kobs_clear_spans(span_state *state)
{
    Py_CLEAR(state->collector);
    Py_CLEAR(state->began);
    Py_CLEAR(state->ended);
    Py_CLEAR(state->gate);
    Py_CLEAR(state->trace_high);
    Py_CLEAR(state->cause_var);
    Py_CLEAR(state->cause_type);
    Py_CLEAR(state->open_spans);
    Py_CLEAR(state->slow_ms);
    Py_CLEAR(state->modules);
    Py_CLEAR(state->zero);
    Py_CLEAR(state->nothing);
    Py_CLEAR(state->unset);
    Py_CLEAR(state->opentelemetry);
    Py_CLEAR(state->enter);
    Py_CLEAR(state->exit);
    Py_CLEAR(state->record);
}
