/* `Condition`: which slots match. */

#include "scan.h"

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
        PyObject *slot = kobs_list_item(slots, index);
        unsigned lane;
        uint64_t ticket;
        if (slot == NULL) {
            return -1;
        }
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
condition_scan(condition_object *self, PyObject *const *args, Py_ssize_t count)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    uint64_t start[KOBS_LANES];
    int done;

    if (count != 6 || !PyTuple_Check(args[1]) || PyTuple_GET_SIZE(args[1]) != KOBS_LANES) {
        PyErr_SetString(PyExc_TypeError,
                        "scan(source, start, keep, durations, by_pid, by_type)");
        return NULL;
    }
    for (int lane = 0; lane < KOBS_LANES; lane++) {
        if (kobs_unsigned(PyTuple_GET_ITEM(args[1], lane), UINT64_MAX, &start[lane]) < 0) {
            return NULL;
        }
    }
    found_object *found = kobs_found_new(state, self->types, args + 2);
    if (found == NULL) {
        return NULL;
    }
    KOBS_LOCK(self->types)
    done = scan_into(self, found, args[0], start);
    KOBS_UNLOCK()
    return kobs_found_finish(state, found, done);
}

static PyMethodDef condition_methods[] = {
    {"matches", (PyCFunction)condition_matches, METH_O, matches_doc},
    {"scan", (PyCFunction)(void (*)(void))condition_scan, METH_FASTCALL, scan_doc},
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

    state->condition_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &condition_spec, NULL);
    if (state->condition_type == NULL || PyModule_AddType(module, state->condition_type) < 0) {
        return -1;
    }
    return kobs_add_found_type(module);
}
