/* `Method`: a method of the collector that makes an event, without Python where nothing about the
 * call is unusual. It stands for the Python function that it is made of, which does all the rest:
 * the first event of a type, arguments that do not fit, emitters that are not in C. */

#include "emitter.h"
#include "stand_in.h"

enum { MAX_PARAMETERS = 8, MAX_LEVELS = 4, EVENT_HEADER = HEADER_TIME + 1 };

typedef struct {
    PyObject *name;   /* interned */
    Py_ssize_t field; /* of the payload; -1: the pid */
    PyObject *if_false, *if_true; /* what a bool stands for; NULL: values are taken as they are */
} parameter;

typedef struct {
    kobs_stand_in head;
    PyObject *type; /* the payload's; of `emit`, that of events */
    PyTypeObject *emitter_type;
    PyObject *const *header_names;
    PyTypeObject *owner; /* the class whose method it is; NULL before `__set_name__` */
    Py_ssize_t emitters; /* where the owner's instances have theirs, by payload type */
    Py_ssize_t count, required; /* parameters; the required ones are not by keyword only */
    parameter parameters[MAX_PARAMETERS];
    Py_ssize_t levels; /* a severity goes by the first field: */
    struct {
        int64_t above;
        uint8_t severity;
    } level[MAX_LEVELS];
    Py_ssize_t payload, header[EVENT_HEADER]; /* where an event has what */
} method_object;

/* The emitter of a payload type, a new reference; NULL where Python is to find it. */
static emitter_object *
find_emitter(method_object *self, PyObject *collector, PyObject *type)
{
    if (self->owner == NULL || !PyObject_TypeCheck(collector, self->owner)) {
        return NULL;
    }
    PyObject *emitters = kobs_slot_at(collector, self->emitters), *found = NULL;
    if (emitters != NULL && PyDict_CheckExact(emitters)
        && kobs_dict_item(emitters, type, &found) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(emitters);
    if (found != NULL && !Py_IS_TYPE(found, self->emitter_type)) {
        Py_CLEAR(found);
    }
    return (emitter_object *)found;
}

static PyObject *
emit(emitter_object *emitter, PyObject *const *fields, kobs_given *given)
{
    PyObject *number = NULL;
    uint64_t event;
    int64_t none;

    if (kobs_emit(emitter, fields, given, &event, &none) < 0) {
        kobs_explain(emitter, fields, Py_None, Py_None, Py_None);
    }
    else {
        number = kobs_event_number(emitter, event);
    }
    return number;
}

/* -- a payload's fields as arguments --------------------------------------------------------- */

static Py_ssize_t
parameter_index(method_object *self, PyObject *keyword)
{
    for (Py_ssize_t index = 0; index < self->count; index++) {
        if (self->parameters[index].name == keyword) {
            return index;
        }
    }
    return -1;
}

/* Put an argument where it belongs; false where that is not plain. */
static bool
take_argument(const parameter *to, PyObject *value, PyObject **fields, kobs_given *given)
{
    if (to->field < 0) {
        if (kobs_take_header(HEADER_PID, value, given) < 0) {
            PyErr_Clear();
            return false;
        }
        return true;
    }
    if (to->if_true != NULL) {
        if (!PyBool_Check(value)) {
            return false;
        }
        value = value == Py_True ? to->if_true : to->if_false;
    }
    fields[to->field] = value;
    return true;
}

static bool
take_arguments(method_object *self, emitter_object *emitter, PyObject *const *args,
               Py_ssize_t positional, PyObject *keywords, PyObject **fields, kobs_given *given)
{
    unsigned seen = 0;

    if (positional > self->required) {
        return false;
    }
    memset(fields, 0, (size_t)emitter->field_count * sizeof(*fields));
    for (Py_ssize_t index = 0; index < positional; index++) {
        if (!take_argument(&self->parameters[index], args[index], fields, given)) {
            return false;
        }
        seen |= 1u << index;
    }
    for (Py_ssize_t each = 0; keywords != NULL && each < PyTuple_GET_SIZE(keywords); each++) {
        Py_ssize_t index = parameter_index(self, PyTuple_GET_ITEM(keywords, each));
        if (index < positional /* given already, or unknown */
            || !take_argument(&self->parameters[index], args[positional + each], fields, given)) {
            return false;
        }
        seen |= 1u << index;
    }
    if (~seen & ((1u << self->required) - 1)) {
        return false;
    }
    for (Py_ssize_t index = 0; index < emitter->field_count; index++) {
        if (fields[index] == NULL && (fields[index] = emitter->fields[index].otherwise) == NULL) {
            return false;
        }
    }
    return true;
}

/* The severity that the first field's value makes; false where that is not plain. */
static bool
take_level(method_object *self, PyObject *value, kobs_given *given)
{
    int64_t number;

    if (!PyLong_CheckExact(value) || !kobs_small_int(value, &number)) {
        return false;
    }
    for (Py_ssize_t index = 0; index < self->levels; index++) {
        if (number > self->level[index].above) {
            given->severity = self->level[index].severity;
            given->given |= GIVEN_SEVERITY;
        }
    }
    return true;
}

static PyObject *
call_with_fields(method_object *self, PyObject *const *args, size_t flagged, PyObject *keywords)
{
    Py_ssize_t count = PyVectorcall_NARGS(flagged);
    PyObject *fields[MAX_FIELDS];
    kobs_given given = {0};

    if (count > 0) {
        emitter_object *emitter = find_emitter(self, args[0], self->type);
        if (emitter != NULL
            && take_arguments(self, emitter, args + 1, count - 1, keywords, fields, &given)
            && (self->levels == 0 || take_level(self, fields[0], &given))) {
            PyObject *number = emit(emitter, fields, &given);
            Py_DECREF(emitter);
            return number;
        }
        Py_XDECREF(emitter);
    }
    return PyObject_Vectorcall(self->head.function, args, flagged, keywords);
}

/* -- a payload, or an event, as the argument ------------------------------------------------- */

static bool
take_keywords(method_object *self, PyObject *const *values, PyObject *keywords, kobs_given *given)
{
    for (Py_ssize_t each = 0; keywords != NULL && each < PyTuple_GET_SIZE(keywords); each++) {
        int at = kobs_header_index(self->header_names, PyTuple_GET_ITEM(keywords, each));
        if (at < 0 || kobs_take_header(at, values[each], given) < 0) {
            PyErr_Clear();
            return false;
        }
    }
    return true;
}

/* A value of an event's header, where the call says nothing; false where that is not plain. */
static bool
take_value(int index, unsigned bit, PyObject *value, kobs_given *given)
{
    bool always = index == HEADER_SEVERITY || index == HEADER_CATEGORY;

    if (value == NULL || !PyLong_Check(value)) {
        return false;
    }
    if (index == HEADER_LINK ? given->link != 0 : (given->given & bit) != 0) {
        return true;
    }
    if ((always || PyObject_IsTrue(value)) && kobs_take_header(index, value, given) < 0) {
        PyErr_Clear();
        return false;
    }
    return true;
}

/* What an event's header says, where the call says nothing, 0 is as good as nothing there. Its
 * payload (a new reference), NULL where that is not plain. */
static PyObject *
take_event(method_object *self, PyObject *event, kobs_given *given)
{
    for (int index = 0; index < EVENT_HEADER; index++) {
        static const unsigned bits[EVENT_HEADER] = {
            [HEADER_PID] = GIVEN_PID, [HEADER_TID] = GIVEN_TID, [HEADER_SEVERITY] = GIVEN_SEVERITY,
            [HEADER_CATEGORY] = GIVEN_CATEGORY, [HEADER_CAUSALITY] = GIVEN_CAUSALITY,
            [HEADER_PARENT] = GIVEN_PARENT, [HEADER_SPAN] = GIVEN_SPAN, [HEADER_TIME] = GIVEN_TIME,
        };
        PyObject *value = kobs_slot_at(event, self->header[index]);
        bool taken = take_value(index, bits[index], value, given);
        Py_XDECREF(value);
        if (!taken) {
            return NULL;
        }
    }
    return kobs_slot_at(event, self->payload);
}

static PyObject *
emit_payload(method_object *self, PyObject *collector, PyObject *payload, kobs_given *given)
{
    PyObject *fields[MAX_FIELDS];
    PyObject *number = NULL;
    Py_ssize_t known = 0;
    emitter_object *emitter = find_emitter(self, collector, (PyObject *)Py_TYPE(payload));

    if (emitter == NULL || emitter->payload_type != (PyObject *)Py_TYPE(payload)) {
        Py_XDECREF(emitter);
        return NULL;
    }
    for (; known < emitter->field_count; known++) {
        const kobs_field *field = &emitter->fields[known];
        fields[known] = field->slot == 0 ? NULL : kobs_slot_at(payload, field->slot);
        if (fields[known] == NULL) {
            break;
        }
    }
    if (known == emitter->field_count) {
        number = emit(emitter, fields, given);
    }
    for (Py_ssize_t index = 0; index < known; index++) {
        Py_DECREF(fields[index]);
    }
    Py_DECREF(emitter);
    return number;
}

static PyObject *
call_with_payload(method_object *self, PyObject *const *args, size_t flagged, PyObject *keywords)
{
    kobs_given given = {0};

    if (PyVectorcall_NARGS(flagged) == 2 && take_keywords(self, args + 2, keywords, &given)) {
        bool whole = (PyObject *)Py_TYPE(args[1]) == self->type;
        if (whole && given.timestamp_ns == 0) {
            given.given &= ~(unsigned)GIVEN_TIME;
        }
        PyObject *payload = whole ? take_event(self, args[1], &given) : Py_NewRef(args[1]);
        PyObject *number = NULL;
        if (payload != NULL) {
            number = emit_payload(self, args[0], payload, &given);
            Py_DECREF(payload);
        }
        if (number != NULL || PyErr_Occurred()) {
            return number;
        }
    }
    return PyObject_Vectorcall(self->head.function, args, flagged, keywords);
}

/* -- what can be asked of it ----------------------------------------------------------------- */

/* The class whose method it is: its instances have their emitters in a slot. */
static PyObject *
method_set_name(method_object *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyType_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "__set_name__() takes a class and a name");
        return NULL;
    }
    PyObject *name = PyUnicode_FromString("emitters");
    if (name == NULL) {
        return NULL;
    }
    self->emitters = kobs_slot_offset(args[0], name);
    Py_XSETREF(self->owner, self->emitters != 0 ? (PyTypeObject *)Py_NewRef(args[0]) : NULL);
    Py_DECREF(name);
    Py_RETURN_NONE;
}

/* -- the type -------------------------------------------------------------------------------- */

static int
take_parameters(method_object *self, PyObject *parameters)
{
    if (PyTuple_GET_SIZE(parameters) > MAX_PARAMETERS) {
        PyErr_SetString(PyExc_ValueError, "more parameters than there is room for");
        return -1;
    }
    for (; self->count < PyTuple_GET_SIZE(parameters); self->count++) {
        parameter *to = &self->parameters[self->count];
        PyObject *name, *if_false = NULL, *if_true = NULL;
        Py_ssize_t field;

        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(parameters, self->count), "Un|OO:parameter", &name,
                              &field, &if_false, &if_true)) {
            return -1;
        }
        if (field < -1 || field >= MAX_FIELDS || (if_true == NULL) != (if_false == NULL)) {
            PyErr_SetString(PyExc_ValueError, "no such parameter");
            return -1;
        }
        to->name = Py_NewRef(name);
        PyUnicode_InternInPlace(&to->name);
        to->field = field;
        to->if_false = Py_XNewRef(if_false);
        to->if_true = Py_XNewRef(if_true);
    }
    self->required = ((PyCodeObject *)PyFunction_GET_CODE(self->head.function))->co_argcount - 1;
    if (self->required < 0 || self->required > self->count) {
        PyErr_SetString(PyExc_ValueError, "a parameter is not described");
        return -1;
    }
    return 0;
}

static int
take_levels(method_object *self, PyObject *levels)
{
    if (PyTuple_GET_SIZE(levels) > MAX_LEVELS) {
        PyErr_SetString(PyExc_ValueError, "more levels than there is room for");
        return -1;
    }
    for (; self->levels < PyTuple_GET_SIZE(levels); self->levels++) {
        long long above;
        unsigned char severity;

        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(levels, self->levels), "Lb:level", &above,
                              &severity)) {
            return -1;
        }
        self->level[self->levels].above = above;
        self->level[self->levels].severity = severity;
    }
    return 0;
}

/* Where an event has its payload and its header; -1 with an exception set for what is no event. */
static int
find_header(method_object *self)
{
    PyObject *payload = PyUnicode_FromString("_payload");

    if (payload == NULL) {
        return -1;
    }
    self->payload = kobs_slot_offset(self->type, payload);
    Py_DECREF(payload);
    bool all = self->payload != 0;
    for (int index = 0; index < EVENT_HEADER; index++) {
        self->header[index] = kobs_slot_offset(self->type, self->header_names[index]);
        all &= self->header[index] != 0;
    }
    if (!all) {
        PyErr_SetString(PyExc_TypeError, "expected a type of events");
    }
    return all ? 0 : -1;
}

static PyObject *
method_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"function", "type", "parameters", "levels", NULL};
    core_state *state = PyType_GetModuleState(type);
    PyObject *function, *made_of, *parameters = NULL, *levels = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!|O!O!:Method", names, &PyFunction_Type,
                                     &function, &PyType_Type, &made_of, &PyTuple_Type, &parameters,
                                     &PyTuple_Type, &levels)) {
        return NULL;
    }
    method_object *self = (method_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->head.vectorcall = (vectorcallfunc)(parameters != NULL ? call_with_fields : call_with_payload);
    self->head.function = Py_NewRef(function);
    self->type = Py_NewRef(made_of);
    self->emitter_type = state->emitter_type;
    self->header_names = state->header_names;
    if ((parameters == NULL ? find_header(self) : take_parameters(self, parameters)) < 0
        || (levels != NULL && take_levels(self, levels) < 0)) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
method_traverse(method_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->head.function);
    Py_VISIT(self->type);
    Py_VISIT(self->owner);
    for (Py_ssize_t index = 0; index < self->count; index++) {
        Py_VISIT(self->parameters[index].if_false);
        Py_VISIT(self->parameters[index].if_true);
    }
    return 0;
}

static void
method_dealloc(method_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->head.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    Py_CLEAR(self->head.function);
    Py_CLEAR(self->type);
    Py_CLEAR(self->owner);
    for (Py_ssize_t index = 0; index < MAX_PARAMETERS; index++) {
        Py_CLEAR(self->parameters[index].name);
        Py_CLEAR(self->parameters[index].if_false);
        Py_CLEAR(self->parameters[index].if_true);
    }
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"__set_name__", (PyCFunction)(void (*)(void))method_set_name, METH_FASTCALL, NULL},
    {"__reduce_ex__", (PyCFunction)kobs_stand_in_reduce, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, method_new},
    {Py_tp_dealloc, method_dealloc},
    {Py_tp_traverse, method_traverse},
    KOBS_STAND_IN_SLOTS,
    {Py_tp_getattro, kobs_stand_in_getattro},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.Method",
    .basicsize = sizeof(method_object),
    .flags = KOBS_STAND_IN_FLAGS,
    .slots = slots,
};

int
kobs_add_method_type(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->method_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->method_type == NULL ? -1 : PyModule_AddType(module, state->method_type);
}
