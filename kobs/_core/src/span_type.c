/* Spans: two events and the ambient cause between them. Their Python twin, which does all that is
 * not plain (another tracer's span around it, sampling, errors, attributes that do not fit), is
 * kobs/tracing/span.py; it works on the same attributes. */

#include "core.h"
#include "ids.h"

typedef struct {
    PyObject_HEAD
    PyObject *name, *kind, *category, *pid, *slow_ms, *given; /* as they were asked for */
    PyObject *cause, *collector, *attributes, *previous, *status, *duration_us;
    unsigned long long began_ns, event;
    uint64_t causality_id, span_id; /* where it began in C */
    uint8_t category_number;        /* 255: not known here */
    long long entry; /* in the in-flight table; -1: none, -2: left out by sampling */
} span_object;

enum { LEFT_OUT = -2, INLINE_ATTRIBUTES = 104, NOT_KNOWN = 255 };

static span_state *
state_of(span_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    return &((core_state *)PyModule_GetState(PyType_GetModuleByDef(type, &kobs_module)))->span;
}

/* -- what both ends need --------------------------------------------------------------------- */

static int
take_pid(span_object *self, kobs_given *header)
{
    uint64_t number;

    header->category = self->category_number;
    if (self->pid != Py_None) {
        if (kobs_unsigned(self->pid, UINT32_MAX, &number) < 0) {
            return -1;
        }
        header->pid = (uint32_t)number;
        header->given |= GIVEN_PID;
    }
    return 0;
}

/* A mistake inside kobs: counted, logged once, never the program's. */
static void
tell_mistake(span_object *self, PyObject *collector)
{
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *done = PyObject_CallMethod((PyObject *)self, "_mistake", "OO", collector,
                                         error == NULL ? Py_None : error);
    if (done == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(done);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

static int
set_cause(span_state *state, PyObject *cause)
{
    PyObject *token = PyContextVar_Set(state->cause_var, cause);

    Py_XDECREF(token);
    return token == NULL ? -1 : 0;
}

/* -- the begin ------------------------------------------------------------------------------- */

/* The chain that a span begins in. Objects are new references. */
typedef struct {
    uint64_t causality_id, parent, parent_span;
    PyObject *causality, *parent_number, *span, *sampled, *high;
} place;

static void
leave_place(place *at)
{
    Py_XDECREF(at->causality);
    Py_XDECREF(at->parent_number);
    Py_XDECREF(at->span);
    Py_XDECREF(at->sampled);
    Py_XDECREF(at->high);
}

/* Where a span under `outer` begins: 1, or 0 where Python is to find out, or -1. */
static int
find_place(span_state *state, PyObject *outer, place *at)
{
    *at = (place){0};
    if (outer == Py_None) {
        PyObject *other = PyDict_GetItemWithError(state->modules, state->opentelemetry);
        if (other != NULL || PyErr_Occurred()) {
            return other != NULL ? 0 : -1;
        }
        at->causality_id = kobs_mint_id();
        at->causality = PyLong_FromUnsignedLongLong(at->causality_id);
        at->span = Py_NewRef(state->zero);
        at->sampled = Py_NewRef(Py_True);
        at->high = Py_NewRef(state->trace_high);
        return at->causality == NULL ? -1 : 1;
    }
    if ((PyObject *)Py_TYPE(outer) != state->cause_type || PyTuple_GET_SIZE(outer) != 6
        || PyTuple_GET_ITEM(outer, 5) != Py_True) {
        return 0;
    }
    at->causality = Py_NewRef(PyTuple_GET_ITEM(outer, 0));
    at->parent_number = Py_NewRef(PyTuple_GET_ITEM(outer, 1));
    at->span = Py_NewRef(PyTuple_GET_ITEM(outer, 2));
    at->sampled = Py_NewRef(PyTuple_GET_ITEM(outer, 3));
    at->high = Py_NewRef(PyTuple_GET_ITEM(outer, 4));
    uint64_t high;
    if (kobs_unsigned(at->causality, UINT64_MAX, &at->causality_id) < 0
        || kobs_unsigned(at->parent_number, UINT64_MAX, &at->parent) < 0
        || kobs_unsigned(at->span, UINT64_MAX, &at->parent_span) < 0
        || kobs_unsigned(at->high, UINT64_MAX, &high) < 0) {
        return -1;
    }
    if (high == 0) {
        Py_SETREF(at->high, Py_NewRef(state->trace_high));
    }
    return at->causality_id != 0;
}

/* Record the begin; what goes wrong is not the program's. */
static void
record_begin(span_object *self, span_state *state, const place *at, uint64_t span_id)
{
    PyObject *fields[] = {self->name, self->kind, at->span};
    kobs_given header = {
        .given = GIVEN_CAUSE | GIVEN_TIME | GIVEN_CATEGORY,
        .causality_id = at->causality_id,
        .parent = at->parent,
        .span_id = span_id,
        .timestamp_ns = self->began_ns,
        .flags = KOBS_FLAG_BEGIN,
    };
    uint64_t event = 0;
    int64_t entry = -1;
    /* Others may become those of the module meanwhile. The collector holds the emitter. */
    emitter_object *began = state->began;
    PyObject *collector = Py_NewRef(state->collector);

    if (take_pid(self, &header) < 0
        || kobs_emit(began, fields, &header, &event, &entry) < 0) {
        Py_CLEAR(self->collector);
        tell_mistake(self, collector);
        Py_DECREF(collector);
        return;
    }
    self->event = event;
    self->entry = entry;
    if ((event != 0 || entry >= 0) && kobs_intern(began->ring, self->name) == 0) {
        /* No room for strings: the name goes on as text. */
        PyObject *done = PyObject_CallMethod((PyObject *)self, "record", "sO", "kobs.span.name",
                                             self->name);
        if (done == NULL) {
            tell_mistake(self, collector);
        }
        Py_XDECREF(done);
    }
    Py_DECREF(collector);
}

/* 1 if the span has begun, 0 where Python is to begin it, -1 with an exception set. */
static int
begin(span_object *self)
{
    span_state *state = state_of(self);
    PyObject *outer = NULL, *own = NULL, *number = NULL;
    place at = {0};

    if (self->began_ns != 0 || self->cause != NULL || self->category_number == NOT_KNOWN
        || state->collector == NULL
        || (self->given != Py_None && self->given != state->collector)
        || PyList_GET_ITEM(state->gate, 0) != Py_False) {
        return 0;
    }
    if (PyContextVar_Get(state->cause_var, Py_None, &outer) < 0) {
        return -1;
    }
    int done = find_place(state, outer, &at);
    if (done != 1) {
        goto leave;
    }
    done = -1;
    uint64_t span_id = kobs_mint_id();
    number = PyLong_FromUnsignedLongLong(span_id);
    own = ((PyTypeObject *)state->cause_type)->tp_alloc((PyTypeObject *)state->cause_type, 6);
    if (number == NULL || own == NULL) {
        goto leave;
    }
    self->began_ns = kobs_now();
    self->collector = Py_NewRef(state->collector);
    record_begin(self, state, &at, span_id);
    if (self->event != 0 || at.parent_number == NULL) {
        Py_XSETREF(at.parent_number, self->event != 0 ? PyLong_FromUnsignedLongLong(self->event)
                                                      : Py_NewRef(state->zero));
        if (at.parent_number == NULL) {
            goto leave;
        }
    }
    PyTuple_SET_ITEM(own, 0, Py_NewRef(at.causality));
    PyTuple_SET_ITEM(own, 1, Py_NewRef(at.parent_number));
    PyTuple_SET_ITEM(own, 2, Py_NewRef(number));
    PyTuple_SET_ITEM(own, 3, Py_NewRef(at.sampled));
    PyTuple_SET_ITEM(own, 4, Py_NewRef(at.high));
    PyTuple_SET_ITEM(own, 5, Py_NewRef(Py_True));
    if (set_cause(state, own) < 0 || PyDict_SetItem(state->open_spans, number, (PyObject *)self) < 0) {
        goto leave;
    }
    self->causality_id = at.causality_id;
    self->span_id = span_id;
    self->cause = Py_NewRef(own);
    self->previous = Py_NewRef(outer);
    done = 1;
leave:
    leave_place(&at);
    Py_XDECREF(outer);
    Py_XDECREF(own);
    Py_XDECREF(number);
    return done;
}

static PyObject *
span_enter(span_object *self, PyObject *Py_UNUSED(none))
{
    int done = begin(self);

    if (done > 0) {
        return Py_NewRef(self);
    }
    return done < 0 ? NULL : PyObject_CallMethodNoArgs((PyObject *)self, state_of(self)->enter);
}

/* -- the end --------------------------------------------------------------------------------- */

/* Microseconds from which on a span is slow; negative with an exception set. */
static double
slow_us(span_object *self, span_state *state)
{
    PyObject *threshold = self->slow_ms;

    if (threshold == Py_None) {
        threshold = PyDict_GetItemWithError(state->slow_ms, self->category);
        if (threshold == NULL) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_KeyError, "a span of no known category");
            }
            return -1.0;
        }
    }
    double limit = PyFloat_AsDouble(threshold);
    return limit == -1.0 && PyErr_Occurred() ? -1.0 : limit * 1000.0;
}

static int
record_end(span_object *self, span_state *state, const uint8_t *attributes, uint64_t ended_ns,
           double duration_us)
{
    PyObject *fields[] = {self->name, self->duration_us, self->status, state->nothing};
    kobs_given header = {
        .given = GIVEN_CAUSE | GIVEN_TIME | GIVEN_CATEGORY,
        .causality_id = self->causality_id,
        .parent = self->event,
        .span_id = self->span_id,
        .timestamp_ns = ended_ns,
        .flags = KOBS_FLAG_END,
        .json = attributes,
    };
    uint64_t event;
    int64_t none;
    emitter_object *ended = state->ended; /* the span's collector holds it */

    if (take_pid(self, &header) < 0) {
        return -1;
    }
    if (self->entry >= 0) {
        kobs_close_entry(&ended->ring->ring, self->entry);
    }
    if (kobs_emit(ended, fields, &header, &event, &none) < 0) {
        return -1;
    }
    double limit = slow_us(self, state);
    if (limit < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (duration_us >= limit) {
        PyObject *told = PyObject_CallMethod((PyObject *)self, "_tell_slow", "OOKdd",
                                             self->collector, self->cause,
                                             (unsigned long long)ended_ns, duration_us / 1000.0,
                                             limit / 1000.0);
        Py_XDECREF(told);
        return told == NULL ? -1 : 0;
    }
    return 0;
}

/* The cause is what it was outside, unless something else has become the cause since. */
static int
restore_cause(span_object *self, span_state *state)
{
    PyObject *now;

    if (PyContextVar_Get(state->cause_var, Py_None, &now) < 0) {
        return -1;
    }
    int own = now == self->cause;
    if (!own && PyTuple_Check(now) && PyTuple_GET_SIZE(now) > 2) {
        own = PyObject_RichCompareBool(PyTuple_GET_ITEM(now, 2), PyTuple_GET_ITEM(self->cause, 2),
                                       Py_EQ);
    }
    Py_DECREF(now);
    if (own > 0) {
        own = set_cause(state, self->previous == NULL ? Py_None : self->previous);
    }
    return own < 0 ? -1 : 0;
}

/* 1 if the span has ended, 0 where Python is to end it, -1 with an exception set. */
static int
end(span_object *self, PyObject *error)
{
    span_state *state = state_of(self);
    uint8_t attributes[INLINE_ATTRIBUTES + 1];

    if (self->began_ns == 0 || self->cause == NULL || error != Py_None || self->collector == NULL
        || self->collector != state->collector || self->entry == LEFT_OUT || self->span_id == 0
        || !PyTuple_Check(self->cause) || PyTuple_GET_SIZE(self->cause) != 6
        || PyList_GET_ITEM(state->gate, 0) != Py_False) {
        return 0;
    }
    bool any = self->attributes != NULL && self->attributes != Py_None;
    if (!kobs_json_write(any ? self->attributes : state->nothing, INLINE_ATTRIBUTES, attributes)) {
        return 0;
    }
    uint64_t ended_ns = kobs_now();
    double duration_us = (double)(int64_t)(ended_ns - self->began_ns) / 1000.0;
    Py_XSETREF(self->duration_us, PyFloat_FromDouble(duration_us));
    if (self->duration_us == NULL) {
        return -1;
    }
    if (record_end(self, state, attributes, ended_ns, duration_us) < 0) {
        tell_mistake(self, state->collector);
    }
    self->began_ns = 0;
    if (PyDict_DelItem(state->open_spans, PyTuple_GET_ITEM(self->cause, 2)) < 0) {
        PyErr_Clear(); /* somebody else took it out */
    }
    if (restore_cause(self, state) < 0) {
        return -1;
    }
    Py_CLEAR(self->previous);
    return 1;
}

static PyObject *
span_exit(span_object *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_Format(PyExc_TypeError, "__exit__() takes 3 arguments, got %zd", count);
        return NULL;
    }
    int done = end(self, args[1]);
    if (done > 0) {
        Py_RETURN_NONE;
    }
    if (done < 0) {
        return NULL;
    }
    PyObject *with_self[] = {(PyObject *)self, args[0], args[1], args[2]};
    return PyObject_VectorcallMethod(state_of(self)->exit, with_self, 4, NULL);
}

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
    return PyObject_VectorcallMethod(state_of(self)->record, with_self, 3, NULL);
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
    self->status = Py_NewRef(state_of(self)->unset);
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
    {"__enter__", (PyCFunction)span_enter, METH_NOARGS, PyDoc_STR("Begin the span.")},
    {"__exit__", (PyCFunction)(void (*)(void))span_exit, METH_FASTCALL,
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
