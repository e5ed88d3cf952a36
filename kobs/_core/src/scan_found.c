/* `Found`: what the slots that match a condition amount to. */

#include "scan.h"

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
    Py_XDECREF(self->sources);
    Py_XDECREF(self->undecoded);
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
        size_t source = (size_t)(tally->keys[each] >> 16);
        types_object *types = self->sources == NULL
                                  ? self->types
                                  : (types_object *)PyList_GET_ITEM(self->sources, source);
        const kobs_type *type;
        KOBS_LOCK(types)
        type = kobs_type_of(types, (uint16_t)tally->keys[each]);
        KOBS_UNLOCK()
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
        unsigned lane = at[0] >> 32 & 3;
        PyObject *data = PyBytes_FromStringAndSize(NULL, KOBS_SLOT_SIZE);
        PyObject *made = NULL;
        if (data != NULL) {
            memcpy(PyBytes_AS_STRING(data), at + 2, used);
            memset(PyBytes_AS_STRING(data) + used, 0, KOBS_SLOT_SIZE - used);
            made = PyObject_CallFunction(make, "IKN", lane,
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

PyDoc_STRVAR(sources_doc, "sources() -> list\n\nWhich source each of the slots that were kept is "
                          "of.");

static PyObject *
found_sources(found_object *self, PyObject *Py_UNUSED(none))
{
    const kobs_scan *scan = &self->scan;
    PyObject *found = PyList_New((Py_ssize_t)scan->kept_count);
    const uint64_t *at = scan->kept;

    for (size_t each = 0; found != NULL && each < scan->kept_count; each++) {
        PyObject *source = PyLong_FromUnsignedLongLong(at[0] >> 34);
        if (source == NULL) {
            Py_CLEAR(found);
            break;
        }
        PyList_SET_ITEM(found, (Py_ssize_t)each, source);
        at += 2 + (uint32_t)at[0];
    }
    return found;
}

static PyObject *
found_undecoded(found_object *self, void *Py_UNUSED(closure))
{
    if (self->undecoded != NULL) {
        return Py_NewRef(self->undecoded);
    }
    return Py_BuildValue("[K]", (unsigned long long)self->scan.undecoded);
}

static PyMethodDef found_methods[] = {
    {"sources", (PyCFunction)found_sources, METH_NOARGS, sources_doc},
    {"slots", (PyCFunction)found_slots, METH_O, slots_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef found_members[] = {
    {"seen", T_ULONGLONG, offsetof(found_object, scan.seen), READONLY,
     PyDoc_STR("How many events were looked at.")},
    {"last_ns", T_ULONGLONG, offsetof(found_object, scan.last_ns), READONLY,
     PyDoc_STR("Of given slots: the latest moment of an event.")},
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
    {"undecoded", (getter)found_undecoded, NULL,
     PyDoc_STR("How many slots made no sense, of each source."), NULL},
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

found_object *
kobs_found_new(core_state *state, types_object *types, PyObject *const *wanted)
{
    bool *flags[3];
    Py_ssize_t keep = PyLong_AsSsize_t(wanted[0]);

    if (keep == -1 && PyErr_Occurred()) {
        return NULL;
    }
    found_object *found = (found_object *)state->found_type->tp_alloc(state->found_type, 0);
    if (found == NULL) {
        return NULL;
    }
    found->types = (types_object *)Py_NewRef(types);
    found->scan.keep = keep > 0 ? (size_t)keep : 0;
    flags[0] = &found->scan.durations;
    flags[1] = &found->scan.by_pid;
    flags[2] = &found->scan.by_type;
    for (int each = 0; each < 3; each++) {
        int truth = PyObject_IsTrue(wanted[1 + each]);
        if (truth < 0) {
            Py_DECREF(found);
            return NULL;
        }
        *flags[each] = truth;
    }
    if (keep > 0) {
        KOBS_LOCK(types)
        found->scan.kept = types->spare;
        found->scan.kept_room = types->spare == NULL ? 0 : types->spare_size;
        types->spare = NULL;
        KOBS_UNLOCK()
    }
    return found;
}

PyObject *
kobs_found_finish(core_state *state, found_object *found, int done)
{
    if (done == 0 && !found->scan.given_up && found->scan.durations) {
        found->durations = kobs_make_sample(state->sample_type, &found->scan.sample);
        done = found->durations == NULL ? -1 : 0;
    }
    if (done < 0) {
        Py_DECREF(found);
        return NULL;
    }
    if (found->scan.given_up) {
        Py_DECREF(found);
        Py_RETURN_NONE;
    }
    return (PyObject *)found;
}

int
kobs_add_found_type(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->found_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &found_spec, NULL);
    return state->found_type == NULL ? -1 : 0;
}
