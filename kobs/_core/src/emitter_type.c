/* `Emitter`: a callable that makes one type of event. The Python twin is kobs/emitters.py. */

#include "emitter.h"

static const char *const header_names[] = {
    "pid", "tid", "severity", "category", "causality_id", "parent", "span_id", "link",
    "timestamp_ns", "flags",
};

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

Py_ssize_t
kobs_slot_offset(PyObject *type, PyObject *name)
{
    PyObject *found = PyObject_GetAttr(type, name);
    Py_ssize_t offset = 0;

    if (found == NULL) {
        PyErr_Clear();
        return 0;
    }
    if (Py_IS_TYPE(found, &PyMemberDescr_Type)) {
        const PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
        offset = member->type == T_OBJECT_EX ? member->offset : 0;
    }
    Py_DECREF(found);
    return offset;
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
        self->fields[index].slot = kobs_slot_offset(self->payload_type, self->fields[index].name);
    }
    self->body_size = KOBS_BODY_HEADER + (size_t)size;
    return 0;
}

static PyObject *
emitter_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"ring", "pid", "title", "payload", "type_id", "severity", "category",
                            "keep", "fields", "size", "begins", "scope_name", "name_field",
                            "duration_field", "cause", "cause_type", "origin", "origin_used",
                            "gate", "decide", "analyse", "explain", "hides", "hidden",
                            "hide_field", NULL};
    core_state *state = PyType_GetModuleState(type);
    PyObject *ring, *title, *payload, *fields, *cause, *cause_type, *origin, *origin_used, *gate,
        *decide_, *analyse_, *explain_, *hides, *hidden;
    unsigned int pid;
    unsigned short type_id;
    unsigned char severity, category;
    int keep, begins;
    Py_ssize_t size;
    const char *name_field, *duration_field, *name_of_scope, *hide_field;

    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "$O!IUO!HbbpO!npzzzOOOO!O!OOOOO!z:Emitter", names, state->ring_type, &ring,
            &pid, &title, &PyType_Type, &payload, &type_id, &severity, &category, &keep,
            &PyTuple_Type, &fields, &size, &begins, &name_of_scope, &name_field, &duration_field,
            &cause, &cause_type, &origin, &PyList_Type, &origin_used, &PyList_Type, &gate, &decide_,
            &analyse_, &explain_, &hides, &PyDict_Type, &hidden, &hide_field)) {
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
    self->vectorcall = (vectorcallfunc)kobs_call_emitter;
    self->ring = (ring_object *)Py_NewRef(ring);
    self->pid = pid;
    self->type_id = type_id;
    self->level = (uint8_t)(severity | category << 4);
    self->keep = keep;
    self->begins = begins;
    self->lane = keep || severity >= KOBS_WARN ? KOBS_PRIORITY_LANE : KOBS_MAIN_LANE;
    self->title = Py_NewRef(title);
    self->payload_type = Py_NewRef(payload);
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
    self->hides = hides == Py_None ? NULL : Py_NewRef(hides);
    self->hidden = Py_NewRef(hidden);
    if (take_fields(self, fields, size) < 0 || find_field(self, name_field, &self->name_field) < 0
        || find_field(self, duration_field, &self->duration_field) < 0
        || find_field(self, name_of_scope, &self->scope_name) < 0
        || find_field(self, hide_field, &self->hide_field) < 0) {
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
    Py_VISIT(self->payload_type);
    Py_VISIT(self->ring);
    Py_VISIT(self->gate);
    Py_VISIT(self->decide);
    Py_VISIT(self->analyse);
    Py_VISIT(self->explain);
    Py_VISIT(self->hides);
    Py_VISIT(self->hidden);
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
    Py_CLEAR(self->payload_type);
    Py_CLEAR(self->context.cause_var);
    Py_CLEAR(self->context.cause_type);
    Py_CLEAR(self->context.origin_var);
    Py_CLEAR(self->context.origin_used);
    Py_CLEAR(self->gate);
    Py_CLEAR(self->decide);
    Py_CLEAR(self->analyse);
    Py_CLEAR(self->explain);
    Py_CLEAR(self->hides);
    Py_CLEAR(self->hidden);
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
