/* Spans: two events and the ambient cause between them. Their Python twin, which does all that is
 * not plain (another tracer's span around it, sampling, errors, attributes that do not fit), is
 * kobs/tracing/span.py; it works on the same attributes. */

#include "span.h"

/* -- what it records ------------------------------------------------------------------------- */

void
kobs_span_drop_few(span_object *self)
{
    while (self->few > 0) {
        self->few--;
        Py_CLEAR(self->keys[self->few]);
        Py_CLEAR(self->values[self->few]);
    }
}

/* Have the attributes in a dict. 0, or -1 with an exception set. */
static int
gather(span_object *self)
{
    if (self->attributes != NULL && self->attributes != Py_None) {
        return 0;
    }
    PyObject *made = PyDict_New();
    for (int index = 0; made != NULL && index < self->few; index++) {
        if (PyDict_SetItem(made, self->keys[index], self->values[index]) < 0) {
            Py_CLEAR(made);
        }
    }
    if (made == NULL) {
        return -1;
    }
    kobs_span_drop_few(self);
    Py_XSETREF(self->attributes, made);
    return 0;
}

PyObject *
kobs_span_attributes(span_object *self)
{
    PyObject *found = NULL;

    KOBS_LOCK((PyObject *)self)
    if (self->few == 0 || gather(self) == 0) {
        found = Py_NewRef(self->attributes == NULL ? Py_None : self->attributes);
    }
    KOBS_UNLOCK()
    return found;
}

/* Where a key is among the few; the place for a new one, `FEW` where there is none. */
static int
find_key(span_object *self, PyObject *key)
{
    int index = 0;

    while (index < self->few && self->keys[index] != key
           && PyUnicode_Compare(self->keys[index], key) != 0) {
        index++;
    }
    return index;
}

int
kobs_span_put(span_object *self, PyObject *key, PyObject *value)
{
    PyObject *before = NULL;
    int done = 0, at = FEW;

    KOBS_LOCK((PyObject *)self)
    if (self->attributes == NULL || self->attributes == Py_None) {
        at = find_key(self, key);
    }
    if (at < FEW) {
        if (at == self->few) {
            self->keys[self->few++] = Py_NewRef(key);
        }
        before = self->values[at];
        self->values[at] = Py_NewRef(value);
    }
    else if ((done = gather(self)) == 0) {
        done = PyObject_SetItem(self->attributes, key, value);
    }
    KOBS_UNLOCK()
    Py_XDECREF(before);
    return done;
}

bool
kobs_span_write_attributes(span_object *self, uint8_t *at)
{
    bool written;

    KOBS_LOCK((PyObject *)self)
    written = self->attributes != NULL && self->attributes != Py_None
        ? kobs_json_write(self->attributes, INLINE_ATTRIBUTES, at)
        : kobs_json_write_pairs(self->keys, self->values, self->few, INLINE_ATTRIBUTES, at);
    KOBS_UNLOCK()
    return written;
}

static PyObject *
span_record(span_object *self, PyObject *const *args, Py_ssize_t count)
{
    if (count == 2 && kobs_span_began(self) != 0 && PyUnicode_CheckExact(args[0])
        && PyUnicode_GET_LENGTH(args[0]) != 0
        && (PyUnicode_CheckExact(args[1]) || PyLong_CheckExact(args[1])
            || PyFloat_CheckExact(args[1]) || PyBool_Check(args[1]) || args[1] == Py_None)) {
        return kobs_span_put(self, args[0], args[1]) < 0 ? NULL : Py_NewRef(self);
    }
    if (count != 2) {
        PyErr_Format(PyExc_TypeError, "record() takes 2 arguments, got %zd", count);
        return NULL;
    }
    PyObject *with_self[] = {(PyObject *)self, args[0], args[1]};
    return PyObject_VectorcallMethod(self->state->record, with_self, 3, NULL);
}

static PyObject *
get_attributes(span_object *self, void *Py_UNUSED(closure))
{
    return kobs_span_attributes(self);
}

static int
set_attributes(span_object *self, PyObject *value, void *Py_UNUSED(closure))
{
    PyObject *before;

    KOBS_LOCK(self)
    kobs_span_drop_few(self);
    before = self->attributes;
    self->attributes = Py_XNewRef(value);
    KOBS_UNLOCK()
    Py_XDECREF(before);
    return 0;
}

static PyObject *
get_duration(span_object *self, void *Py_UNUSED(closure))
{
    PyObject *found;

    KOBS_LOCK(self)
    if (self->duration_us == NULL && self->ended) {
        self->duration_us = PyFloat_FromDouble(self->ended_after_us);
        found = Py_XNewRef(self->duration_us);
    }
    else {
        found = Py_NewRef(self->duration_us == NULL ? Py_None : self->duration_us);
    }
    KOBS_UNLOCK()
    return found;
}

static int
set_duration(span_object *self, PyObject *value, void *Py_UNUSED(closure))
{
    self->ended = false;
    kobs_span_set(self, &self->duration_us, Py_XNewRef(value));
    return 0;
}

/* The object at an offset; None where there is none. */
static PyObject *
get_object(span_object *self, void *offset)
{
    PyObject **at = (PyObject **)((char *)self + (uintptr_t)offset), *found;

    KOBS_LOCK(self)
    found = Py_NewRef(*at == NULL ? Py_None : *at);
    KOBS_UNLOCK()
    return found;
}

static int
set_object(span_object *self, PyObject *value, void *offset)
{
    kobs_span_set(self, (PyObject **)((char *)self + (uintptr_t)offset), Py_XNewRef(value));
    return 0;
}

static PyObject *
get_began(span_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(kobs_span_began(self));
}

static int
set_began(span_object *self, PyObject *value, void *Py_UNUSED(closure))
{
    uint64_t began;

    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "a span has a begin");
        return -1;
    }
    if (kobs_unsigned(value, UINT64_MAX, &began) < 0) {
        return -1;
    }
    kobs_span_set_began(self, began);
    return 0;
}

/* -- the type -------------------------------------------------------------------------------- */

/* A span without anything in it. */
static span_object *
make_empty(PyTypeObject *type)
{
    span_state *state = &((core_state *)PyType_GetModuleState(type))->span;
    span_object *self = NULL;

#if !KOBS_FREE_THREADED
    if (state->free_count > 0) {
        self = state->free[--state->free_count];
        PyObject_Init((PyObject *)self, type);
        PyObject_GC_Track(self);
    }
#endif
    if (self == NULL && (self = (span_object *)type->tp_alloc(type, 0)) == NULL) {
        return NULL;
    }
    self->state = state;
    self->entry = -1;
    return self;
}

static PyObject *
span_make(PyTypeObject *type, PyObject *const *args, size_t flagged, PyObject *keywords)
{
    Py_ssize_t count = PyVectorcall_NARGS(flagged);

    if (count != 6 || (keywords != NULL && PyTuple_GET_SIZE(keywords) != 0)) {
        PyErr_SetString(PyExc_TypeError, "a span takes name, kind, category, pid, slow_ms and "
                                         "collector; make one with span_operation(...)");
        return NULL;
    }
    span_object *self = make_empty(type);
    if (self == NULL) {
        return NULL;
    }
    self->name = Py_NewRef(args[0]);
    self->kind = Py_NewRef(args[1]);
    self->category = Py_NewRef(args[2]);
    self->pid = Py_NewRef(args[3]);
    self->slow_ms = Py_NewRef(args[4]);
    self->given = Py_NewRef(args[5]);
    self->status = Py_NewRef(self->state->unset);
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
    what(self->attributes); what(self->previous); what(self->status); what(self->duration_us); \
    what(self->token); what(self->view)

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
    Py_CLEAR(self->token);
    Py_CLEAR(self->view);
    return 0;
}

#if !KOBS_FREE_THREADED
/* Keep the memory of a span without anything in it, and with what may become a cause again. False
 * where enough is kept already. */
static bool
keep_memory(span_object *self, PyTypeObject *type)
{
    span_state *state = self->state;
    PyObject *cause = self->spare;

    if (type != state->span_type || state->free_count == KOBS_FREE_SPANS) {
        return false;
    }
    *self = (span_object){.ob_base = self->ob_base, .spare = cause};
    state->free[state->free_count++] = self;
    return true;
}
#endif

/* The cause of a span that began in C goes with it where nobody else has it. */
static void
take_spare(span_object *self)
{
#if !KOBS_FREE_THREADED
    PyObject *cause = self->cause;

    if (cause != NULL && self->spare == NULL && self->span_id != 0 && Py_REFCNT(cause) == 1
        && (PyObject *)Py_TYPE(cause) == self->state->cause_type && PyTuple_GET_SIZE(cause) == 6) {
        PyObject_GC_UnTrack(cause);
        self->spare = cause;
        self->cause = NULL;
    }
#else
    (void)self;
#endif
}

static void
span_dealloc(span_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    take_spare(self);
    kobs_span_drop_few(self);
    FOR_EACH_OBJECT(self, Py_CLEAR);
#if !KOBS_FREE_THREADED
    if (keep_memory(self, type)) {
        Py_DECREF(type);
        return;
    }
#endif
    Py_CLEAR(self->spare);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static void
free_memory(span_state *state)
{
#if !KOBS_FREE_THREADED
    while (state->free_count > 0) {
        span_object *self = state->free[--state->free_count];
        Py_CLEAR(self->spare);
        PyObject_GC_Del(self);
    }
    Py_CLEAR(state->duration);
#else
    (void)state;
#endif
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
    {"_event", T_ULONGLONG, offsetof(span_object, event), 0, NULL},
    {"_entry", T_LONGLONG, offsetof(span_object, entry), 0, NULL},
    {"_plain", T_BOOL, offsetof(span_object, plain), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* Members of type T_OBJECT are read without a lock where there is no interpreter's, either. */
#define OBJECT(name, member, doc)                                                                  \
    {name, (getter)get_object, (setter)set_object, doc, (void *)offsetof(span_object, member)}

static PyGetSetDef getters[] = {
    OBJECT("name", name, NULL),
    OBJECT("kind", kind, PyDoc_STR("internal, server, client, producer or consumer.")),
    OBJECT("status", status, PyDoc_STR("unset, ok or error.")),
    OBJECT("_category", category, NULL),
    OBJECT("_pid", pid, NULL),
    OBJECT("_slow_ms", slow_ms, NULL),
    OBJECT("_given", given, NULL),
    OBJECT("_cause", cause, NULL),
    OBJECT("_collector", collector, NULL),
    OBJECT("_previous", previous, NULL),
    OBJECT("_token", token, NULL),
    OBJECT("_view", view, NULL),
    {"_began_ns", (getter)get_began, (setter)set_began, NULL, NULL},
    {"duration_us", (getter)get_duration, (setter)set_duration,
     PyDoc_STR("From begin to end in microseconds; None before the end."), NULL},
    {"_attributes", (getter)get_attributes, (setter)set_attributes, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, span_new},
    {Py_tp_dealloc, span_dealloc},
    {Py_tp_traverse, span_traverse},
    {Py_tp_clear, span_clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, getters},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs.tracing.span.NativeSpan",
    .basicsize = sizeof(span_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

/* Doubles to look at, that go on being another object's. 0, or -1 with an exception set. */
static int
take_doubles(Py_buffer *to, PyObject *from)
{
    PyBuffer_Release(to);
    if (PyObject_GetBuffer(from, to, PyBUF_CONTIG_RO | PyBUF_FORMAT) < 0) {
        return -1;
    }
    if (to->format == NULL || strcmp(to->format, "d") != 0) {
        PyBuffer_Release(to);
        PyErr_SetString(PyExc_TypeError, "expected an array of doubles");
        return -1;
    }
    return 0;
}

/* span_type(base, cause, cause_type, slow_ms, modules) -> type */
PyObject *
kobs_span_type(PyObject *module, PyObject *args)
{
    span_state *state = &((core_state *)PyModule_GetState(module))->span;
    PyObject *base, *cause, *cause_type, *slow_ms, *modules;

    if (!PyArg_ParseTuple(args, "O!OO!OO!:span_type", &PyType_Type, &base, &cause, &PyType_Type,
                          &cause_type, &slow_ms, &PyDict_Type, &modules)
        || take_doubles(&state->slow_ms, slow_ms) < 0) {
        return NULL;
    }
    state->exported_upto = UINT64_MAX;
    PyObject *bases = PyTuple_Pack(1, base);
    PyObject *type = bases == NULL ? NULL : PyType_FromModuleAndSpec(module, &spec, bases);
    Py_XDECREF(bases);
    if (type == NULL) {
        return NULL;
    }
    ((PyTypeObject *)type)->tp_vectorcall = (vectorcallfunc)(void (*)(void))span_make;
    free_memory(state);
    Py_XSETREF(state->span_type, (PyTypeObject *)Py_NewRef(type));
    Py_XSETREF(state->cause_var, Py_NewRef(cause));
    Py_XSETREF(state->cause_type, Py_NewRef(cause_type));
    Py_XSETREF(state->modules, Py_NewRef(modules));
    Py_XSETREF(state->zero, PyLong_FromLong(0));
    Py_XSETREF(state->nothing, PyDict_New());
    const struct {
        PyObject **at;
        const char *text;
    } texts[] = {
        {&state->unset, "unset"}, {&state->error, "error"},
        {&state->incomplete, "kobs.attributes.incomplete"}, /* kobs/tracing/records.py */
        {&state->opentelemetry, "opentelemetry.context"}, {&state->enter, "_enter"},
        {&state->exit, "_exit"}, {&state->record, "_record"},
    };
    bool made = state->zero != NULL && state->nothing != NULL;
    for (size_t index = 0; index < sizeof(texts) / sizeof(texts[0]); index++) {
        Py_XSETREF(*texts[index].at, PyUnicode_InternFromString(texts[index].text));
        made = made && *texts[index].at != NULL;
    }
    if (!made) {
        Py_CLEAR(type);
    }
    return type;
}

static void
drop_wires(span_wires *wires)
{
    Py_CLEAR(wires->began);
    Py_CLEAR(wires->ended);
    Py_CLEAR(wires->gate);
    Py_CLEAR(wires->trace_high);
    Py_CLEAR(wires->collector);
}

/* look_elsewhere(variable, nothing, upto): where another tracer keeps its context, besides the ambient
 * cause, and what is there where it has none (None: nowhere that is known); the traces that begin
 * here are exported whose causality id is at most `upto`. */
PyObject *
kobs_look_elsewhere(PyObject *module, PyObject *args)
{
    span_state *state = &((core_state *)PyModule_GetState(module))->span;
    PyObject *variable, *nothing, *number;
    uint64_t upto;

    if (!PyArg_ParseTuple(args, "OOO!:look_elsewhere", &variable, &nothing, &PyLong_Type, &number)
        || kobs_unsigned(number, UINT64_MAX, &upto) < 0) {
        return NULL;
    }
    if (variable != Py_None && !PyContextVar_CheckExact(variable)) {
        return PyErr_Format(PyExc_TypeError, "expected a context variable, got %R", variable);
    }
    __atomic_store_n(&state->exported_upto, upto, __ATOMIC_RELAXED);
    if (variable != Py_None && state->other_var == NULL) { /* it is the same one ever after */
        state->other_nothing = Py_NewRef(nothing);
        __atomic_store_n(&state->other_var, Py_NewRef(variable), __ATOMIC_RELEASE);
    }
    Py_RETURN_NONE;
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
    if (state->span_type == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "there is no type of spans yet");
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
    span_wires now = {NULL}, before;
    if (!none) {
        now = (span_wires){
            .collector = Py_NewRef(collector), .began = (emitter_object *)Py_NewRef(began),
            .ended = (emitter_object *)Py_NewRef(ended), .gate = Py_NewRef(gate),
            .trace_high = Py_NewRef(trace_high),
        };
    }
    /* What goes with the old ones may come back here. */
    KOBS_LOCK((PyObject *)state->span_type)
    before = state->wired;
    state->wired = now;
    KOBS_UNLOCK()
    drop_wires(&before);
    Py_RETURN_NONE;
}

int
kobs_visit_spans(span_state *state, visitproc visit, void *arg)
{
    Py_VISIT(state->span_type);
    Py_VISIT(state->cause_var);
    Py_VISIT(state->cause_type);
    Py_VISIT(state->wired.collector);
    Py_VISIT(state->wired.began);
    Py_VISIT(state->wired.ended);
    Py_VISIT(state->wired.gate);
    Py_VISIT(state->other_var);
    Py_VISIT(state->other_nothing);
    return 0;
}

void
kobs_clear_spans(span_state *state)
{
    kobs_span_close_all(state);
    free_memory(state); /* as long as there is the type */
    Py_CLEAR(state->span_type);
    drop_wires(&state->wired);
    Py_CLEAR(state->cause_var);
    Py_CLEAR(state->cause_type);
    PyBuffer_Release(&state->slow_ms);
    Py_CLEAR(state->modules);
    Py_CLEAR(state->zero);
    Py_CLEAR(state->nothing);
    Py_CLEAR(state->unset);
    Py_CLEAR(state->error);
    Py_CLEAR(state->incomplete);
    Py_CLEAR(state->opentelemetry);
    Py_CLEAR(state->enter);
    Py_CLEAR(state->exit);
    Py_CLEAR(state->record);
    Py_CLEAR(state->other_var);
    Py_CLEAR(state->other_nothing);
}
