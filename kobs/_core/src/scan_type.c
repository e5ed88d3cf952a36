/* `Condition`: which slots match; `Found`: what those that do amount to. */

#include "scan.h"

typedef struct {
    PyObject_HEAD
    types_object *types;
    kobs_scan scan;
    PyObject *durations; /* a Sample, or None */
    uint64_t produced, discarded, too_big, errors;
} found_object;

/* -- Found ----------------------------------------------------------------------------------- */

static void
found_dealloc(found_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    /* Memory that is mapped anew for each scan costs more than the scan. */
    if (self->scan.kept != NULL && self->scan.kept_room <= 1 << 17) {
        KOBS_LOCK(self->types)
        if (self->types->spare == NULL) {
            self->types->spare = self->scan.kept;
            self->types->spare_size = self->scan.kept_room;
            self->scan.kept = NULL;
        }
        KOBS_UNLOCK()
    }
    kobs_scan_free(&self->scan);
    Py_XDECREF(self->durations);
    Py_XDECREF(self->types);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* [(value, count), ...] of four bits of the level, in the order in which they came. */
static PyObject *
by_level(const kobs_scan *scan, unsigned shift)
{
    uint64_t counts[16] = {0};
    uint8_t order[16];
    unsigned count = 0;

    for (unsigned each = 0; each < scan->level_count; each++) {
        unsigned level = scan->level_order[each], value = level >> shift & 15;
        if (counts[value] == 0) {
            order[count++] = (uint8_t)value;
        }
        counts[value] += scan->levels[level];
    }
    PyObject *found = PyList_New(count);
    for (unsigned each = 0; found != NULL && each < count; each++) {
        PyObject *pair = Py_BuildValue("IK", (unsigned)order[each],
                                       (unsigned long long)counts[order[each]]);
        if (pair == NULL) {
            Py_CLEAR(found);
            break;
        }
        PyList_SET_ITEM(found, each, pair);
    }
    return found;
}

static PyObject *
found_by_severity(found_object *self, void *Py_UNUSED(closure))
{
    return by_level(&self->scan, 0);
}

static PyObject *
found_by_category(found_object *self, void *Py_UNUSED(closure))
{
    return by_level(&self->scan, 4);
}

static PyObject *
found_count(found_object *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(kobs_scan_matching(&self->scan));
}

static PyObject *
found_by_pid(found_object *self, void *Py_UNUSED(closure))
{
    const kobs_tally *tally = &self->scan.pids;
    PyObject *found = PyList_New((Py_ssize_t)tally->count);

    for (size_t each = 0; found != NULL && each < tally->count; each++) {
        PyObject *pair = Py_BuildValue("KK", (unsigned long long)tally->keys[each],
                                       (unsigned long long)tally->counts[each]);
        if (pair == NULL) {
            Py_CLEAR(found);
            break;
        }
        PyList_SET_ITEM(found, (Py_ssize_t)each, pair);
    }
    return found;
}

static PyObject *
found_by_type(found_object *self, void *Py_UNUSED(closure))
{
    const kobs_tally *tally = &self->scan.types;
    PyObject *found = PyList_New((Py_ssize_t)tally->count);

    for (size_t each = 0; found != NULL && each < tally->count; each++) {
        const kobs_type *type = kobs_type_of(self->types, (uint16_t)tally->keys[each]);
        PyObject *pair = type == NULL ? NULL
                                      : Py_BuildValue("OK", type->name,
                                                      (unsigned long long)tally->counts[each]);
        if (pair == NULL) {
            Py_CLEAR(found);
            break;
        }
        PyList_SET_ITEM(found, (Py_ssize_t)each, pair);
    }
    return found;
}

PyDoc_STRVAR(slots_doc, "slots(make) -> list\n\n`make(lane, ticket, data)` of each slot that was "
                        "kept. What its type does not use of the payload is zero.");

static PyObject *
found_slots(found_object *self, PyObject *make)
{
    const kobs_scan *scan = &self->scan;
    PyObject *found = PyList_New((Py_ssize_t)scan->kept_count);
    const uint64_t *at = scan->kept;

    for (size_t each = 0; found != NULL && each < scan->kept_count; each++) {
        size_t used = 8 * (size_t)(uint32_t)at[0];
        PyObject *data = PyBytes_FromStringAndSize(NULL, KOBS_SLOT_SIZE);
        PyObject *made = NULL;
        if (data != NULL) {
            memcpy(PyBytes_AS_STRING(data), at + 2, used);
            memset(PyBytes_AS_STRING(data) + used, 0, KOBS_SLOT_SIZE - used);
            made = PyObject_CallFunction(make, "IKN", (unsigned)(at[0] >> 32),
                                         (unsigned long long)at[1], data);
        }
        if (made == NULL) {
            Py_CLEAR(found);
            break;
        }
        PyList_SET_ITEM(found, (Py_ssize_t)each, made);
        at += 2 + used / 8;
    }
    return found;
}

static PyMethodDef found_methods[] = {
    {"slots", (PyCFunction)found_slots, METH_O, slots_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef found_members[] = {
    {"seen", T_ULONGLONG, offsetof(found_object, scan.seen), READONLY,
     PyDoc_STR("How many events were looked at.")},
    {"undecoded", T_ULONGLONG, offsetof(found_object, scan.undecoded), READONLY,
     PyDoc_STR("How many slots made no sense.")},
    {"durations", T_OBJECT, offsetof(found_object, durations), READONLY,
     PyDoc_STR("A `Sample` of the durations, in microseconds.")},
    {"produced", T_ULONGLONG, offsetof(found_object, produced), READONLY,
     PyDoc_STR("Of a ring: how many events had a ticket when the scan began.")},
    {"discarded", T_ULONGLONG, offsetof(found_object, discarded), READONLY, NULL},
    {"too_big", T_ULONGLONG, offsetof(found_object, too_big), READONLY, NULL},
    {"errors", T_ULONGLONG, offsetof(found_object, errors), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef found_getters[] = {
    {"count", (getter)found_count, NULL, PyDoc_STR("How many slots match."), NULL},
    {"by_severity", (getter)found_by_severity, NULL, PyDoc_STR("[(severity, count), ...]"), NULL},
    {"by_category", (getter)found_by_category, NULL, PyDoc_STR("[(category, count), ...]"), NULL},
    {"by_pid", (getter)found_by_pid, NULL, PyDoc_STR("[(pid, count), ...]"), NULL},
    {"by_type", (getter)found_by_type, NULL, PyDoc_STR("[(name of the type, count), ...]"), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot found_slot_table[] = {
    {Py_tp_doc, "What the slots that match a condition amount to; in the order in which they were "
                "looked at."},
    {Py_tp_dealloc, found_dealloc},
    {Py_tp_methods, found_methods},
    {Py_tp_members, found_members},
    {Py_tp_getset, found_getters},
    {0, NULL},
};

static PyType_Spec found_spec = {
    .name = "kobs._core._native.Found",
    .basicsize = sizeof(found_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = found_slot_table,
};

/* -- Condition ------------------------------------------------------------------------------- */

static int
take_numbers(PyObject *given, kobs_numbers *to)
{
    to->count = -1;
    if (given == Py_None) {
        return 0;
    }
    if (!PyTuple_Check(given)) {
        PyErr_Format(PyExc_TypeError, "expected a tuple of ints, got %R", given);
        return -1;
    }
    to->numbers = PyMem_Malloc(((size_t)PyTuple_GET_SIZE(given) + 1) * sizeof(uint64_t));
    if (to->numbers == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    to->count = PyTuple_GET_SIZE(given);
    for (Py_ssize_t each = 0; each < to->count; each++) {
        if (kobs_unsigned(PyTuple_GET_ITEM(given, each), UINT64_MAX, &to->numbers[each]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
take_set(PyObject *given, PyObject **to)
{
    if (given == Py_None) {
        return 0;
    }
    if (!PyFrozenSet_Check(given)) {
        PyErr_Format(PyExc_TypeError, "expected a frozenset, got %R", given);
        return -1;
    }
    *to = Py_NewRef(given);
    return 0;
}

static PyObject *
condition_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    core_state *state = PyType_GetModuleState(type);
    PyObject *types, *pids, *tids, *chains, *type_names, *names, *slower;
    unsigned int severity, categories;
    unsigned long long since, until;

    if (!PyArg_ParseTuple(args, "O!IIKKOOOOOO:Condition", state->types_type, &types, &severity,
                          &categories, &since, &until, &pids, &tids, &chains, &type_names, &names,
                          &slower)) {
        return NULL;
    }
    condition_object *self = (condition_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->types = (types_object *)Py_NewRef(types);
    for (unsigned level = 0; level < 256; level++) {
        unsigned own = level & 15, group = level >> 4;
        bool known = own < self->types->severities && group < self->types->categories;
        self->levels[level] = !known ? KOBS_SENSELESS
                              : own >= severity && categories >> group & 1 ? KOBS_WANTED
                                                                           : KOBS_OTHER;
    }
    self->since = since;
    self->until = until;
    self->timed = slower != Py_None;
    self->slower = self->timed ? PyFloat_AsDouble(slower) : 0.0;
    if ((self->slower == -1.0 && PyErr_Occurred()) || take_numbers(pids, &self->pids) < 0
        || take_numbers(tids, &self->tids) < 0 || take_numbers(chains, &self->chains) < 0
        || take_set(type_names, &self->type_names) < 0 || take_set(names, &self->names) < 0) {
        Py_CLEAR(self);
    }
    else {
        self->windowed = since != 0 || until != UINT64_MAX;
        self->numbered = self->pids.count >= 0 || self->tids.count >= 0 || self->chains.count >= 0;
        self->deeper = self->type_names != NULL || self->names != NULL || self->timed;
    }
    return (PyObject *)self;
}

static void
condition_dealloc(condition_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyMem_Free(self->pids.numbers);
    PyMem_Free(self->tids.numbers);
    PyMem_Free(self->chains.numbers);
    PyMem_Free(self->by_type);
    PyMem_Free(self->by_name);
    Py_XDECREF(self->type_names);
    Py_XDECREF(self->names);
    Py_XDECREF(self->types);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* 1 where a slot matches, 0 where not, -1 with an exception set; `*given_up` where Python is to
 * say. */
static int
matches(condition_object *self, PyObject *slot, bool *given_up)
{
    kobs_scan scan = {0};
    unsigned lane;
    uint64_t ticket;
    const uint64_t *words = kobs_raw_slot(slot, &lane, &ticket);

    if (words == NULL || kobs_scan_slot(self, &scan, words, lane, ticket) < 0) {
        return -1;
    }
    *given_up = scan.given_up;
    return scan.level_count > 0;
}

PyDoc_STRVAR(matches_doc, "matches(slot) -> bool | None\n\nWhether a `RawSlot` matches; None where "
                          "Python is to say.");

static PyObject *
condition_matches(condition_object *self, PyObject *slot)
{
    bool given_up = false;
    int found;

    KOBS_LOCK(self->types)
    found = matches(self, slot, &given_up);
    KOBS_UNLOCK()
    if (found < 0) {
        return NULL;
    }
    return Py_NewRef(given_up ? Py_None : found ? Py_True : Py_False);
}

static int
scan_list(condition_object *self, kobs_scan *scan, PyObject *slots)
{
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(slots); index++) {
        PyObject *slot = Py_NewRef(PyList_GET_ITEM(slots, index));
        unsigned lane;
        uint64_t ticket;
        const uint64_t *words = kobs_raw_slot(slot, &lane, &ticket);
        int done = words == NULL ? -1 : kobs_scan_slot(self, scan, words, lane, ticket);
        Py_DECREF(slot);
        if (done < 0) {
            return -1;
        }
    }
    return 0;
}

static uint64_t
load_count(const kobs_count *count)
{
    return atomic_load_explicit((_Atomic uint64_t *)&count->value, memory_order_relaxed);
}

static int
scan_into(condition_object *self, found_object *found, PyObject *source, const uint64_t *start)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    kobs_scan *scan = &found->scan;

    if (scan->keep > 0 && self->types->spare != NULL) {
        scan->kept = self->types->spare;
        scan->kept_room = self->types->spare_size;
        self->types->spare = NULL;
    }
    if (PyList_Check(source)) {
        return scan_list(self, scan, source);
    }
    if (!Py_IS_TYPE(source, state->ring_type)) {
        PyErr_Format(PyExc_TypeError, "expected a list of RawSlots or a Ring, got %R", source);
        return -1;
    }
    kobs_ring *ring = &((ring_object *)source)->ring;
    if (ring->locate != NULL) {
        scan->given_up = true; /* what is in further files is not here */
        return 0;
    }
    const kobs_counters *counters = ring->counters;
    for (unsigned lane = 0; lane < KOBS_LANES; lane++) {
        found->produced += kobs_head(ring, lane) - ring->lanes[lane].first_ticket;
    }
    int done = kobs_scan_ring(self, scan, ring, start);
    found->discarded = load_count(&counters->discarded);
    found->too_big = load_count(&counters->too_big);
    found->errors = load_count(&counters->errors);
    return done;
}

PyDoc_STRVAR(scan_doc,
             "scan(source, start, keep, durations, by_pid, by_type) -> Found | None\n\n"
             "Look at `RawSlot`s, or at all there is in a ring from the tickets `start` on; keep "
             "the first `keep` that match. None where Python is to do it.");

static PyObject *
condition_scan(condition_object *self, PyObject *args)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *source;
    unsigned long long first, second;
    Py_ssize_t keep;
    int durations, by_pid, by_type, done;
    uint64_t start[KOBS_LANES];

    if (!PyArg_ParseTuple(args, "O(KK)nppp:scan", &source, &first, &second, &keep, &durations,
                          &by_pid, &by_type)) {
        return NULL;
    }
    start[0] = first;
    start[1] = second;
    found_object *found = (found_object *)state->found_type->tp_alloc(state->found_type, 0);
    if (found == NULL) {
        return NULL;
    }
    found->types = (types_object *)Py_NewRef(self->types);
    found->scan.keep = keep > 0 ? (size_t)keep : 0;
    found->scan.durations = durations;
    found->scan.by_pid = by_pid;
    found->scan.by_type = by_type;
    KOBS_LOCK(self->types)
    done = scan_into(self, found, source, start);
    KOBS_UNLOCK()
    if (done == 0 && !found->scan.given_up && durations) {
        found->durations = kobs_make_sample(state->sample_type, &found->scan.sample);
        done = found->durations == NULL ? -1 : 0;
    }
    if (done < 0) {
        Py_CLEAR(found);
    }
    else if (found->scan.given_up) {
        Py_DECREF(found);
        Py_RETURN_NONE;
    }
    return (PyObject *)found;
}

static PyMethodDef condition_methods[] = {
    {"matches", (PyCFunction)condition_matches, METH_O, matches_doc},
    {"scan", (PyCFunction)condition_scan, METH_VARARGS, scan_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot condition_slots[] = {
    {Py_tp_doc,
     "Condition(types, severity, categories, since, until, pids, tids, chains, type_names, names, "
     "slower)\n\nWhich slots: of this severity or above, of a category whose bit is set, in this "
     "time, one of these numbers and names (None: any), with a duration of `slower` microseconds "
     "or more (None: any, or none)."},
    {Py_tp_new, condition_new},
    {Py_tp_dealloc, condition_dealloc},
    {Py_tp_methods, condition_methods},
    {0, NULL},
};

static PyType_Spec condition_spec = {
    .name = "kobs._core._native.Condition",
    .basicsize = sizeof(condition_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = condition_slots,
};

int
kobs_add_scan_types(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->found_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &found_spec, NULL);
    PyObject *type = PyType_FromModuleAndSpec(module, &condition_spec, NULL);
    int done = state->found_type == NULL || type == NULL
                   ? -1
                   : PyModule_AddType(module, (PyTypeObject *)type);
    Py_XDECREF(type);
    return done;
}
