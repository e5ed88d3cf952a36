/* `Emitter`: a callable that makes one type of event. The Python twin is kobs/emitters.py. */

#include "core.h"

/* The keywords for header fields, in the order of `header_value`. */
static const char *const header_names[] = {
    "pid", "tid", "severity", "category", "causality_id", "parent", "span_id", "link",
    "timestamp_ns", "flags",
};

enum {
    HEADER_PID, HEADER_TID, HEADER_SEVERITY, HEADER_CATEGORY, HEADER_CAUSALITY, HEADER_PARENT,
    HEADER_SPAN, HEADER_LINK, HEADER_TIME, HEADER_FLAGS, HEADER_VALUES,
};

enum { WARN = 3, MAX_FIELDS = KOBS_PAYLOAD_SIZE };

/* -- the ambient cause ----------------------------------------------------------------------- */

static int
number_at(PyObject *cause, bool plain, Py_ssize_t index, uint64_t *to)
{
    if (plain) {
        return kobs_unsigned(PyTuple_GET_ITEM(cause, index), UINT64_MAX, to);
    }
    /* A cause that is found out when it is asked for. */
    PyObject *item = PySequence_GetItem(cause, index);
    if (item == NULL) {
        return -1;
    }
    int done = kobs_unsigned(item, UINT64_MAX, to);
    Py_DECREF(item);
    return done;
}

/* What is not given, from the ambient cause; `*sampled` is a new reference or NULL. */
static int
fill_from_cause(const kobs_context *context, kobs_given *header, PyObject **sampled)
{
    PyObject *cause;

    *sampled = NULL;
    if (PyContextVar_Get(context->cause_var, NULL, &cause) < 0) {
        return -1;
    }
    if (cause == NULL || cause == Py_None) {
        Py_XDECREF(cause);
        return 0;
    }
    if (!PyTuple_Check(cause) || PyTuple_GET_SIZE(cause) < 4) {
        PyErr_Format(PyExc_TypeError, "the ambient cause is %R", cause);
        Py_DECREF(cause);
        return -1;
    }
    bool plain = (PyObject *)Py_TYPE(cause) == context->cause_type;
    unsigned given = header->given;
    int done = 0;
    if (!(given & GIVEN_CAUSALITY)) {
        done |= number_at(cause, plain, 0, &header->causality_id);
    }
    if (!(given & GIVEN_PARENT) && done == 0) {
        done |= number_at(cause, plain, 1, &header->parent);
    }
    if (!(given & GIVEN_SPAN) && done == 0) {
        done |= number_at(cause, plain, 2, &header->span_id);
    }
    *sampled = Py_NewRef(PyTuple_GET_ITEM(cause, 3));
    Py_DECREF(cause);
    return done;
}

/* -- emitting -------------------------------------------------------------------------------- */

/* Flags to add, -1 to drop, -2 with an exception set. */
static int
decide(emitter_object *self, unsigned severity, unsigned category, uint64_t causality_id,
       PyObject *sampled)
{
    if (self->decides) {
        return kobs_decide(self->decide, severity, category, causality_id, sampled);
    }
    PyObject *answer = PyObject_CallFunction(self->decide, "IIKO", severity, category,
                                             (unsigned long long)causality_id,
                                             sampled == NULL ? Py_None : sampled);
    if (answer == NULL) {
        return -2;
    }
    long flags = PyLong_AsLong(answer);
    Py_DECREF(answer);
    return flags == -1 && PyErr_Occurred() ? -2 : (int)flags;
}

static int
origin_id(emitter_object *self, uint32_t *to)
{
    PyObject *origin;

    *to = 0;
    if (PyContextVar_Get(self->context.origin_var, NULL, &origin) < 0) {
        return -1;
    }
    if (origin == NULL) {
        return 0;
    }
    int64_t id = 0;
    if (!PyUnicode_Check(origin) || PyUnicode_GET_LENGTH(origin) != 0) {
        id = kobs_intern(self->ring, origin);
    }
    Py_DECREF(origin);
    *to = (uint32_t)id;
    return id < 0 ? -1 : 0;
}

static int
analyse(emitter_object *self, PyObject *const *fields, const uint8_t *payload, uint64_t event)
{
    if (self->analyses) {
        double duration_us;
        memcpy(&duration_us, payload + self->fields[self->duration_field].offset, 8);
        return kobs_analyse(self->analyse,
                            self->name_field < 0 ? NULL : fields[self->name_field], duration_us,
                            event);
    }
    PyObject *id = PyLong_FromUnsignedLongLong(event);
    PyObject *name = self->name_field < 0 ? NULL : fields[self->name_field];
    PyObject *empty = name == NULL ? PyUnicode_New(0, 0) : NULL;
    PyObject *done = NULL;

    if (id != NULL && (name != NULL || empty != NULL)) {
        done = PyObject_CallFunctionObjArgs(self->analyse, name != NULL ? name : empty,
                                            fields[self->duration_field], id, NULL);
    }
    Py_XDECREF(id);
    Py_XDECREF(empty);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
kobs_emit(emitter_object *self, PyObject *const *fields, const kobs_given *given, uint64_t *event)
{
    kobs_given header = *given;
    PyObject *sampled;
    kobs_body body;

    *event = 0;
    if (fill_from_cause(&self->context, &header, &sampled) < 0) {
        Py_XDECREF(sampled);
        return -1;
    }
    unsigned level = self->level, lane = self->lane;
    if (header.given & (GIVEN_SEVERITY | GIVEN_CATEGORY)) {
        unsigned severity = header.given & GIVEN_SEVERITY ? header.severity : level & 15;
        unsigned category = header.given & GIVEN_CATEGORY ? header.category : level >> 4;
        lane = severity >= WARN ? KOBS_PRIORITY_LANE : self->keep;
        level = severity | category << 4;
    }
    uint8_t flags = header.flags;
    if (PyList_GET_ITEM(self->gate, 0) != Py_False) {
        int more = decide(self, level & 15, level >> 4, header.causality_id, sampled);
        if (more < 0) {
            Py_XDECREF(sampled);
            return more == -1 ? 0 : -1;
        }
        flags |= (uint8_t)more;
    }
    Py_XDECREF(sampled);

    if (origin_id(self, &body.origin) < 0) {
        return -1;
    }
    for (Py_ssize_t index = 0; index < self->field_count; index++) {
        if (kobs_field_write(&self->fields[index], fields[index], self->ring, body.payload, &flags)
            < 0) {
            return -1;
        }
    }
    body.causality_id = header.causality_id;
    body.parent = header.parent;
    body.span_id = header.span_id;
    body.link = header.link;
    body.pid = header.given & GIVEN_PID ? header.pid : self->pid;
    body.tid = header.given & GIVEN_TID ? header.tid : kobs_thread_id();
    body.type_id = self->type_id;
    body.severity_category = (uint8_t)level;
    body.flags = flags;
    body.timestamp_ns = header.given & GIVEN_TIME ? header.timestamp_ns : kobs_now();
    *event = kobs_publish(&self->ring->ring, lane, &body, self->body_size);
    if (self->analyse != NULL && *event != 0) {
        return analyse(self, fields, body.payload, *event);
    }
    return 0;
}

/* -- a call from Python ---------------------------------------------------------------------- */

/* Which header field a keyword names; -1 for none. Keywords in source code are interned, so that
 * looking for the very object finds them. */
static int
header_index(PyObject *const *names, PyObject *keyword)
{
    for (int index = 0; index < HEADER_VALUES; index++) {
        if (names[index] == keyword) {
            return index;
        }
    }
    for (int index = 0; index < HEADER_VALUES; index++) {
        if (PyUnicode_Compare(names[index], keyword) == 0) {
            return index;
        }
    }
    return -1;
}

static Py_ssize_t
field_index(emitter_object *self, PyObject *keyword)
{
    for (Py_ssize_t index = 0; index < self->field_count; index++) {
        if (self->fields[index].name == keyword) {
            return index;
        }
    }
    for (Py_ssize_t index = 0; index < self->field_count; index++) {
        if (PyUnicode_Compare(self->fields[index].name, keyword) == 0) {
            return index;
        }
    }
    return -1;
}

/* Sort a call's arguments into fields and header values (borrowed); defaults are filled in. */
static int
take_arguments(emitter_object *self, PyObject *const *args, Py_ssize_t positional,
               PyObject *keywords, PyObject **fields, PyObject **header)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));

    if (positional > self->field_count) {
        PyErr_Format(PyExc_TypeError, "emit_%U() takes %zd positional arguments but %zd were given",
                     self->title, self->field_count, positional);
        return -1;
    }
    for (Py_ssize_t index = 0; index < self->field_count; index++) {
        fields[index] = index < positional ? args[index] : NULL;
    }
    Py_ssize_t named = keywords == NULL ? 0 : PyTuple_GET_SIZE(keywords);
    for (Py_ssize_t each = 0; each < named; each++) {
        PyObject *keyword = PyTuple_GET_ITEM(keywords, each);
        int at = header_index(state->header_names, keyword);
        if (at >= 0) {
            header[at] = args[positional + each];
            continue;
        }
        Py_ssize_t index = field_index(self, keyword);
        if (index < 0) {
            PyErr_Format(PyExc_TypeError, "emit_%U() got an unexpected keyword argument '%U'",
                         self->title, keyword);
            return -1;
        }
        if (fields[index] != NULL) {
            PyErr_Format(PyExc_TypeError, "emit_%U() got multiple values for argument '%U'",
                         self->title, keyword);
            return -1;
        }
        fields[index] = args[positional + each];
    }
    for (Py_ssize_t index = positional; index < self->field_count; index++) {
        if (fields[index] == NULL && (fields[index] = self->fields[index].otherwise) == NULL) {
            PyErr_Format(PyExc_TypeError, "emit_%U() missing required argument: '%U'", self->title,
                         self->fields[index].name);
            return -1;
        }
    }
    return 0;
}

/* What a caller said of the header; -1 with an exception set for a value that does not fit. */
static int
take_header(PyObject *const *values, kobs_given *given)
{
    static const struct {
        unsigned bit;
        uint64_t most;
    } rules[] = {
        [HEADER_PID] = {GIVEN_PID, UINT32_MAX},
        [HEADER_TID] = {GIVEN_TID, UINT32_MAX},
        [HEADER_SEVERITY] = {GIVEN_SEVERITY, 15},
        [HEADER_CATEGORY] = {GIVEN_CATEGORY, 15},
        [HEADER_CAUSALITY] = {GIVEN_CAUSALITY, UINT64_MAX},
        [HEADER_PARENT] = {GIVEN_PARENT, UINT64_MAX},
        [HEADER_SPAN] = {GIVEN_SPAN, UINT64_MAX},
        [HEADER_LINK] = {0, UINT64_MAX},
        [HEADER_TIME] = {GIVEN_TIME, UINT64_MAX},
        [HEADER_FLAGS] = {0, UINT8_MAX},
    };

    for (int index = 0; index < HEADER_VALUES; index++) {
        uint64_t value;
        if (values[index] == NULL || values[index] == Py_None) {
            continue;
        }
        if (kobs_unsigned(values[index], rules[index].most, &value) < 0) {
            return -1;
        }
        given->given |= rules[index].bit;
        switch (index) {
        case HEADER_PID: given->pid = (uint32_t)value; break;
        case HEADER_TID: given->tid = (uint32_t)value; break;
        case HEADER_SEVERITY: given->severity = (uint8_t)value; break;
        case HEADER_CATEGORY: given->category = (uint8_t)value; break;
        case HEADER_CAUSALITY: given->causality_id = value; break;
        case HEADER_PARENT: given->parent = value; break;
        case HEADER_SPAN: given->span_id = value; break;
        case HEADER_LINK: given->link = value; break;
        case HEADER_TIME: given->timestamp_ns = value; break;
        case HEADER_FLAGS: given->flags = (uint8_t)value; break;
        }
    }
    return 0;
}

/* Have Python say which value did not fit, and why. Keeps what is no matter of values. */
static void
explain(emitter_object *self, PyObject *const *fields, PyObject *const *header)
{
    PyObject *type, *error, *traceback;

    if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError)
        && !PyErr_ExceptionMatches(PyExc_AttributeError)
        && !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return;
    }
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *values = PyTuple_New(self->field_count);
    for (Py_ssize_t index = 0; values != NULL && index < self->field_count; index++) {
        PyTuple_SET_ITEM(values, index, Py_NewRef(fields[index]));
    }
    PyObject *said = values == NULL ? NULL : PyObject_CallFunctionObjArgs(
        self->explain, error, values, header[HEADER_PID] ? header[HEADER_PID] : Py_None,
        header[HEADER_LINK] ? header[HEADER_LINK] : Py_None,
        header[HEADER_PARENT] ? header[HEADER_PARENT] : Py_None, NULL);
    Py_XDECREF(values);
    if (said != NULL) {
        Py_DECREF(said);
        PyErr_Restore(type, error, traceback);
        return;
    }
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
}

static PyObject *
emitter_vectorcall(emitter_object *self, PyObject *const *args, size_t count, PyObject *keywords)
{
    PyObject *fields[MAX_FIELDS], *header[HEADER_VALUES] = {NULL};
    kobs_given given = {0};
    uint64_t event;

    if (take_arguments(self, args, PyVectorcall_NARGS(count), keywords, fields, header) < 0) {
        return NULL;
    }
    if ((keywords != NULL && take_header(header, &given) < 0)
        || kobs_emit(self, fields, &given, &event) < 0) {
        explain(self, fields, header);
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(event);
}

/* -- the type -------------------------------------------------------------------------------- */

static int
find_field(emitter_object *self, const char *name, Py_ssize_t *to)
{
    *to = -1;
    for (Py_ssize_t index = 0; name != NULL && index < self->field_count; index++) {
        if (PyUnicode_CompareWithASCIIString(self->fields[index].name, name) == 0) {
            *to = index;
        }
    }
    if (name != NULL && *to < 0) {
        PyErr_Format(PyExc_ValueError, "no field %s", name);
        return -1;
    }
    return 0;
}

static int
take_fields(emitter_object *self, PyObject *fields, Py_ssize_t size)
{
    self->field_count = PyTuple_GET_SIZE(fields);
    if (self->field_count > MAX_FIELDS || size < 0 || size > KOBS_PAYLOAD_SIZE) {
        PyErr_SetString(PyExc_ValueError, "more than a slot holds");
        self->field_count = 0;
        return -1;
    }
    self->fields = PyMem_Calloc((size_t)self->field_count + 1, sizeof(kobs_field));
    if (self->fields == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t index = 0; index < self->field_count; index++) {
        if (kobs_field_init(&self->fields[index], PyTuple_GET_ITEM(fields, index)) < 0) {
            return -1;
        }
    }
    self->body_size = KOBS_BODY_HEADER + (size_t)size;
    return 0;
}

static PyObject *
emitter_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"ring", "pid", "title", "type_id", "severity", "category", "keep",
                            "fields", "size", "name_field", "duration_field", "cause",
                            "cause_type", "origin", "gate", "decide", "analyse", "explain", NULL};
    core_state *state = PyType_GetModuleState(type);
    PyObject *ring, *title, *fields, *cause, *cause_type, *origin, *gate, *decide_, *analyse_,
        *explain_;
    unsigned int pid;
    unsigned short type_id;
    unsigned char severity, category;
    int keep;
    Py_ssize_t size;
    const char *name_field, *duration_field;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$O!IUHbbpO!nzzOOOO!OOO:Emitter", names,
                                     state->ring_type, &ring, &pid, &title, &type_id, &severity,
                                     &category, &keep, &PyTuple_Type, &fields, &size, &name_field,
                                     &duration_field, &cause, &cause_type, &origin, &PyList_Type,
                                     &gate, &decide_, &analyse_, &explain_)) {
        return NULL;
    }
    if (PyList_GET_SIZE(gate) != 1) {
        PyErr_SetString(PyExc_ValueError, "the gate is a list of one bool");
        return NULL;
    }
    emitter_object *self = (emitter_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = (vectorcallfunc)emitter_vectorcall;
    self->ring = (ring_object *)Py_NewRef(ring);
    self->pid = pid;
    self->type_id = type_id;
    self->level = (uint8_t)(severity | category << 4);
    self->keep = keep;
    self->lane = keep || severity >= WARN ? KOBS_PRIORITY_LANE : KOBS_MAIN_LANE;
    self->title = Py_NewRef(title);
    self->context.cause_var = Py_NewRef(cause);
    self->context.cause_type = Py_NewRef(cause_type);
    self->context.origin_var = Py_NewRef(origin);
    self->gate = Py_NewRef(gate);
    self->decide = Py_NewRef(decide_);
    self->decides = kobs_is_decider(type, decide_);
    self->analyse = analyse_ == Py_None ? NULL : Py_NewRef(analyse_);
    self->explain = Py_NewRef(explain_);
    if (take_fields(self, fields, size) < 0 || find_field(self, name_field, &self->name_field) < 0
        || find_field(self, duration_field, &self->duration_field) < 0) {
        Py_CLEAR(self);
    }
    else if (self->duration_field < 0) {
        Py_CLEAR(self->analyse);
    }
    else {
        self->analyses = self->analyse != NULL && kobs_is_analyser(type, self->analyse)
                         && self->fields[self->duration_field].kind == KIND_FLOAT;
    }
    return (PyObject *)self;
}

static int
emitter_traverse(emitter_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->dict);
    Py_VISIT(self->ring);
    Py_VISIT(self->gate);
    Py_VISIT(self->decide);
    Py_VISIT(self->analyse);
    Py_VISIT(self->explain);
    for (Py_ssize_t index = 0; index < self->field_count; index++) {
        Py_VISIT(self->fields[index].otherwise);
        Py_VISIT(self->fields[index].extra);
    }
    return 0;
}

/* Only what can be part of a cycle and is not needed for a call: something else of the cycle may
 * still emit while the collector takes it apart. */
static int
emitter_clear(emitter_object *self)
{
    Py_CLEAR(self->dict);
    return 0;
}

static void
emitter_dealloc(emitter_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    Py_CLEAR(self->dict);
    Py_CLEAR(self->ring);
    Py_CLEAR(self->title);
    Py_CLEAR(self->context.cause_var);
    Py_CLEAR(self->context.cause_type);
    Py_CLEAR(self->context.origin_var);
    Py_CLEAR(self->gate);
    Py_CLEAR(self->decide);
    Py_CLEAR(self->analyse);
    Py_CLEAR(self->explain);
    for (Py_ssize_t index = 0; self->fields != NULL && index < self->field_count; index++) {
        kobs_field_clear(&self->fields[index]);
    }
    PyMem_Free(self->fields);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

PyDoc_STRVAR(rewire_doc, "rewire(ring, pid)\n\nEmit into another ring, as another process.");

static PyObject *
emitter_rewire(emitter_object *self, PyObject *args)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *ring;
    unsigned int pid;

    if (!PyArg_ParseTuple(args, "O!I:rewire", state->ring_type, &ring, &pid)) {
        return NULL;
    }
    ring_object *old = self->ring;
    self->ring = (ring_object *)Py_NewRef(ring);
    self->pid = pid;
    Py_DECREF(old);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"rewire", (PyCFunction)emitter_rewire, METH_VARARGS, rewire_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(emitter_object, vectorcall), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(emitter_object, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(emitter_object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef getters[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, emitter_new},
    {Py_tp_dealloc, emitter_dealloc},
    {Py_tp_traverse, emitter_traverse},
    {Py_tp_clear, emitter_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, getters},
    {Py_tp_getattro, PyObject_GenericGetAttr},
    {Py_tp_setattro, PyObject_GenericSetAttr},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.Emitter",
    .basicsize = sizeof(emitter_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_emitter_type(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    for (int index = 0; index < HEADER_VALUES; index++) {
        state->header_names[index] = PyUnicode_InternFromString(header_names[index]);
        if (state->header_names[index] == NULL) {
            return -1;
        }
    }
    state->emitter_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->emitter_type == NULL ? -1 : PyModule_AddType(module, state->emitter_type);
}
