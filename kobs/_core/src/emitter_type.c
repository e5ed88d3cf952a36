/* `Emitter`: a callable that makes one type of event. The Python twin is kobs/emitters.py. */

#include "fields.h"

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
    if (PyList_GET_ITEM(self->context.origin_used, 0) == Py_False) {
        return 0;
    }
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

/* The string that an entry in the in-flight table is known by. */
static int
scope_name(emitter_object *self, PyObject *const *fields, uint32_t *to)
{
    int64_t id = 0;

    if (self->scope_name >= 0) {
        PyObject *text = PyObject_Str(fields[self->scope_name]);
        id = text == NULL ? -1 : kobs_intern(self->ring, text);
        Py_XDECREF(text);
    }
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

/* Whether a field that was refused is told of after the others: Python packs all the numbers at the
 * end, when names have got their places already. */
static bool
put_off(const kobs_field *field, kobs_given *given)
{
    if (field->kind > KIND_FLOAT
        || !(PyErr_ExceptionMatches(PyExc_TypeError) || PyErr_ExceptionMatches(PyExc_ValueError)
             || PyErr_ExceptionMatches(PyExc_OverflowError))) {
        return false;
    }
    PyErr_Clear();
    given->given |= GIVEN_BAD;
    return true;
}

int
kobs_emit(emitter_object *self, PyObject *const *fields, kobs_given *given, uint64_t *event,
          int64_t *entry)
{
    PyObject *sampled;
    kobs_body body;

    *event = 0;
    *entry = -1;
    sampled = NULL;
    bool gated = PyList_GET_ITEM(self->gate, 0) != Py_False;
    if ((gated || (given->given & GIVEN_CAUSE) != GIVEN_CAUSE)
        && fill_from_cause(&self->context, given, &sampled) < 0) {
        Py_XDECREF(sampled);
        return -1;
    }
    unsigned level = self->level, lane = self->lane;
    if (given->given & (GIVEN_SEVERITY | GIVEN_CATEGORY)) {
        unsigned severity = given->given & GIVEN_SEVERITY ? given->severity : level & 15;
        unsigned category = given->given & GIVEN_CATEGORY ? given->category : level >> 4;
        lane = severity >= WARN ? KOBS_PRIORITY_LANE : self->keep;
        level = severity | category << 4;
    }
    uint8_t flags = given->flags;
    if (gated) {
        int more = decide(self, level & 15, level >> 4, given->causality_id, sampled);
        if (more < 0) {
            Py_XDECREF(sampled);
            return more == -1 ? 0 : -1;
        }
        flags |= (uint8_t)more;
    }
    Py_XDECREF(sampled);

    body.words[(self->body_size - 1) / 8] = 0; /* is published whole, and has more than fields */
    if (origin_id(self, &body.origin) < 0) {
        return -1;
    }
    for (Py_ssize_t index = 0; index < self->field_count; index++) {
        if (given->json != NULL && self->fields[index].kind == KIND_JSON) {
            memcpy(body.payload + self->fields[index].offset, given->json,
                   self->fields[index].size + 1u);
            continue;
        }
        if (kobs_field_write(&self->fields[index], fields[index], self->ring, body.payload, &flags)
                < 0
            && !put_off(&self->fields[index], given)) {
            return -1;
        }
    }
    if (given->given & GIVEN_BAD) {
        PyErr_SetString(PyExc_ValueError, "a value does not fit"); /* `explain` says which */
        return -1;
    }
    body.causality_id = given->causality_id;
    body.parent = given->parent;
    body.span_id = given->span_id;
    body.link = given->link;
    body.pid = given->given & GIVEN_PID ? given->pid : self->pid;
    body.tid = given->given & GIVEN_TID ? given->tid : kobs_thread_id();
    body.type_id = self->type_id;
    body.severity_category = (uint8_t)level;
    body.flags = flags;
    body.timestamp_ns = given->given & GIVEN_TIME ? given->timestamp_ns : kobs_now();
    if (self->begins) {
        uint32_t name;
        if (scope_name(self, fields, &name) < 0) {
            return -1;
        }
        *event = self->ring->locate == NULL
            ? kobs_publish_begin(&self->ring->ring, lane, &body, self->body_size, name, entry)
            : kobs_ring_begin(self->ring, lane, &body, self->body_size, name, entry);
    }
    else {
        *event = self->ring->locate == NULL
            ? kobs_publish(&self->ring->ring, lane, &body, self->body_size)
            : kobs_ring_publish(self->ring, lane, &body, self->body_size);
    }
    if (kobs_raised(self->ring)) {
        kobs_close_entry(&self->ring->ring, *entry);
        return -1;
    }
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

/* A header value that a caller gives; -1 with an exception set if it does not fit. None is as
 * good as nothing. */
static int
take_header(int index, PyObject *value, kobs_given *given)
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
    uint64_t number;

    if (value == Py_None) {
        return 0;
    }
    if (kobs_unsigned(value, rules[index].most, &number) < 0) {
        return -1;
    }
    given->given |= rules[index].bit;
    switch (index) {
    case HEADER_PID: given->pid = (uint32_t)number; break;
    case HEADER_TID: given->tid = (uint32_t)number; break;
    case HEADER_SEVERITY: given->severity = (uint8_t)number; break;
    case HEADER_CATEGORY: given->category = (uint8_t)number; break;
    case HEADER_CAUSALITY: given->causality_id = number; break;
    case HEADER_PARENT: given->parent = number; break;
    case HEADER_SPAN: given->span_id = number; break;
    case HEADER_LINK: given->link = number; break;
    case HEADER_TIME: given->timestamp_ns = number; break;
    case HEADER_FLAGS: given->flags = (uint8_t)number; break;
    }
    return 0;
}

/* Sort a call's arguments into fields (borrowed; defaults are filled in) and header values.
 * -1 with an exception set for a call that does not fit. */
static int
take_arguments(emitter_object *self, PyObject *const *args, Py_ssize_t positional,
               PyObject *keywords, PyObject **fields, kobs_given *given)
{
    Py_ssize_t index = 0;

    if (positional > self->field_count) {
        PyErr_Format(PyExc_TypeError, "emit_%U() takes %zd positional arguments but %zd were given",
                     self->title, self->field_count, positional);
        return -1;
    }
    for (; index < positional; index++) {
        fields[index] = args[index];
    }
    for (; index < self->field_count; index++) {
        fields[index] = NULL;
    }
    if (keywords != NULL) {
        for (Py_ssize_t each = 0; each < PyTuple_GET_SIZE(keywords); each++) {
            PyObject *keyword = PyTuple_GET_ITEM(keywords, each);
            int at = header_index(self->header_names, keyword);
            if (at >= 0) {
                if (take_header(at, args[positional + each], given) < 0) {
                    PyErr_Clear(); /* said when all the fields are known */
                    given->given |= GIVEN_BAD;
                }
                continue;
            }
            index = field_index(self, keyword);
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
    }
    for (index = positional; index < self->field_count; index++) {
        if (fields[index] == NULL && (fields[index] = self->fields[index].otherwise) == NULL) {
            PyErr_Format(PyExc_TypeError, "emit_%U() missing required argument: '%U'", self->title,
                         self->fields[index].name);
            return -1;
        }
    }
    return 0;
}

/* The value of a call's keyword, None if it has none. */
static PyObject *
keyword_value(const char *name, PyObject *const *args, Py_ssize_t positional, PyObject *keywords)
{
    for (Py_ssize_t each = 0; keywords != NULL && each < PyTuple_GET_SIZE(keywords); each++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, each), name) == 0) {
            return args[positional + each];
        }
    }
    return Py_None;
}

/* Have Python say which value did not fit, and why. What is no matter of values stays. */
static void
explain(emitter_object *self, PyObject *const *fields, PyObject *const *args, Py_ssize_t positional,
        PyObject *keywords)
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
        self->explain, error, values, keyword_value("pid", args, positional, keywords),
        keyword_value("link", args, positional, keywords),
        keyword_value("parent", args, positional, keywords), NULL);
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

/* The id as an int. Most callers drop it at once: then the same object is used for the next one,
 * as `enumerate` does with its tuples, which saves an allocation. */
static PyObject *
event_number(emitter_object *self, uint64_t event)
{
#if !KOBS_FREE_THREADED && PyLong_SHIFT == 30
    PyObject *answer = self->answer;

    if (answer != NULL && Py_REFCNT(answer) == 1 && event >> 60 == 0 && event >> 30 != 0
        && KOBS_DIGIT_COUNT(answer) == 2) {
        KOBS_DIGITS(answer)[0] = (digit)(event & PyLong_MASK);
        KOBS_DIGITS(answer)[1] = (digit)(event >> 30);
        return Py_NewRef(answer);
    }
    answer = PyLong_FromUnsignedLongLong(event);
    Py_XSETREF(self->answer, Py_XNewRef(answer));
    return answer;
#else
    return PyLong_FromUnsignedLongLong(event);
#endif
}

static PyObject *
emitter_vectorcall(emitter_object *self, PyObject *const *args, size_t count, PyObject *keywords)
{
    Py_ssize_t positional = PyVectorcall_NARGS(count);
    PyObject *fields[MAX_FIELDS];
    kobs_given given = {0};
    uint64_t event;
    int64_t entry;

    if (take_arguments(self, args, positional, keywords, fields, &given) < 0) {
        return NULL;
    }
    if (kobs_emit(self, fields, &given, &event, &entry) < 0) {
        explain(self, fields, args, positional, keywords);
        return NULL;
    }
    if (self->begins) {
        return Py_BuildValue("KL", (unsigned long long)event, (long long)entry);
    }
    return event_number(self, event);
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
                            "fields", "size", "begins", "scope_name", "name_field", "duration_field",
                            "cause", "cause_type", "origin", "origin_used", "gate", "decide", "analyse",
                            "explain", NULL};
    core_state *state = PyType_GetModuleState(type);
    PyObject *ring, *title, *fields, *cause, *cause_type, *origin, *origin_used, *gate, *decide_, *analyse_,
        *explain_;
    unsigned int pid;
    unsigned short type_id;
    unsigned char severity, category;
    int keep, begins;
    Py_ssize_t size;
    const char *name_field, *duration_field, *name_of_scope;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$O!IUHbbpO!npzzzOOOO!O!OOO:Emitter", names,
                                     state->ring_type, &ring, &pid, &title, &type_id, &severity,
                                     &category, &keep, &PyTuple_Type, &fields, &size, &begins,
                                     &name_of_scope, &name_field,
                                     &duration_field, &cause, &cause_type, &origin, &PyList_Type,
                                     &origin_used, &PyList_Type,
                                     &gate, &decide_, &analyse_, &explain_)) {
        return NULL;
    }
    if (PyList_GET_SIZE(gate) != 1 || PyList_GET_SIZE(origin_used) != 1) {
        PyErr_SetString(PyExc_ValueError, "gate and origin_used are lists of one bool");
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
    self->begins = begins;
    self->lane = keep || severity >= WARN ? KOBS_PRIORITY_LANE : KOBS_MAIN_LANE;
    self->title = Py_NewRef(title);
    self->header_names = state->header_names;
    self->context.cause_var = Py_NewRef(cause);
    self->context.cause_type = Py_NewRef(cause_type);
    self->context.origin_var = Py_NewRef(origin);
    self->context.origin_used = Py_NewRef(origin_used);
    self->gate = Py_NewRef(gate);
    self->decide = Py_NewRef(decide_);
    self->decides = kobs_is_decider(type, decide_);
    self->analyse = analyse_ == Py_None ? NULL : Py_NewRef(analyse_);
    self->explain = Py_NewRef(explain_);
    if (take_fields(self, fields, size) < 0 || find_field(self, name_field, &self->name_field) < 0
        || find_field(self, duration_field, &self->duration_field) < 0
        || find_field(self, name_of_scope, &self->scope_name) < 0) {
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
    Py_CLEAR(self->answer);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->ring);
    Py_CLEAR(self->title);
    Py_CLEAR(self->context.cause_var);
    Py_CLEAR(self->context.cause_type);
    Py_CLEAR(self->context.origin_var);
    Py_CLEAR(self->context.origin_used);
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
