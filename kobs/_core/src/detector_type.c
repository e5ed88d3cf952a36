/* `Detector`: the metrics of a collector's durations, by payload type and name; `Analyser`: what an
 * emitter tells it. The Python twin is kobs/gate.py's `DurationWatch` over kobs/anomaly.py. */

#include "core.h"
#include "detector.h"

typedef struct entry {
    PyObject *type, *name;
    Py_hash_t hash;
    uint64_t generation;
    kobs_metric metric;
} entry;

/* Two generations make a forgetful table without bookkeeping on each use: what is used moves to
 * the young one; when that is full the old one goes. */
typedef struct {
    PyObject_HEAD
    kobs_detector detector;
    PyObject *tell; /* callable(type, name, value, expected, deviation, count, event) */
    entry **table;
    size_t mask, room; /* how many metrics a generation has at most */
    uint64_t generation, forgotten;
    size_t young, old;
} detector_object;

typedef struct {
    PyObject_HEAD
    detector_object *owner;
    PyObject *type; /* name of the payload type, exact */
    Py_hash_t salt;
    PyObject *empty;
} analyser_object;

/* -- the table ------------------------------------------------------------------------------- */

static bool
same_text(PyObject *one, PyObject *other)
{
    return one == other
           || (PyUnicode_GET_LENGTH(one) == PyUnicode_GET_LENGTH(other)
               && PyUnicode_Compare(one, other) == 0);
}

static void
insert(detector_object *self, entry *made)
{
    size_t at = (size_t)made->hash & self->mask;

    while (self->table[at] != NULL) {
        at = (at + 1) & self->mask;
    }
    self->table[at] = made;
}

static void
free_entry(entry *old)
{
    Py_DECREF(old->type);
    Py_DECREF(old->name);
    PyMem_Free(old);
}

/* Keep the entries of the generations from `oldest` on; the others are forgotten. False where
 * there is no memory to do it with. */
static bool
keep_from(detector_object *self, uint64_t oldest)
{
    size_t size = self->mask + 1;
    entry **before = self->table, **after = PyMem_Calloc(size, sizeof(entry *));

    if (after == NULL) {
        PyErr_NoMemory();
        return false;
    }
    self->table = after;
    for (size_t at = 0; at < size; at++) {
        if (before[at] != NULL && before[at]->generation < oldest) {
            free_entry(before[at]);
        }
        else if (before[at] != NULL) {
            insert(self, before[at]);
        }
    }
    PyMem_Free(before);
    return true;
}

/* A metric that is not in the young generation moves there, or is made; NULL with an exception. */
static entry *
into_young(detector_object *self, entry *known, PyObject *type, PyObject *name, Py_hash_t hash)
{
    if (known != NULL) {
        self->old--;
        known->generation = self->generation; /* not to be forgotten with the old ones */
    }
    if (self->young >= self->room) {
        if (!keep_from(self, self->generation)) {
            return NULL;
        }
        self->forgotten += self->old;
        self->old = self->young;
        self->young = 0;
        self->generation++;
    }
    if (known == NULL) {
        known = PyMem_Calloc(1, sizeof(*known));
        if (known == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        known->type = Py_NewRef(type);
        known->name = Py_NewRef(name);
        known->hash = hash;
        insert(self, known);
    }
    known->generation = self->generation;
    self->young++;
    return known;
}

static inline entry *
lookup(detector_object *self, PyObject *type, PyObject *name, Py_hash_t hash)
{
    size_t at = (size_t)hash & self->mask;
    entry *each;

    while ((each = self->table[at]) != NULL) {
        if (each->name == name && each->type == type) {
            return each;
        }
        if (each->hash == hash && same_text(each->type, type) && same_text(each->name, name)) {
            return each;
        }
        at = (at + 1) & self->mask;
    }
    return NULL;
}

static inline Py_hash_t
hash_of(PyObject *text)
{
    Py_hash_t known = __atomic_load_n(&((PyASCIIObject *)text)->hash, __ATOMIC_RELAXED);

    return known != -1 ? known : PyObject_Hash(text);
}

/* -- analysing ------------------------------------------------------------------------------- */

static int
tell(detector_object *self, PyObject *type, PyObject *name, double value,
     const kobs_anomaly *found, uint64_t event)
{
    PyObject *done = PyObject_CallFunction(self->tell, "OOdddKK", type, name, value,
                                           found->expected, found->deviation,
                                           (unsigned long long)found->count,
                                           (unsigned long long)event);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* 1 where there is something to tell, -1 with an exception set. */
static inline int
look_at(analyser_object *self, PyObject *name, double value, const int64_t *now_ns,
        kobs_anomaly *found)
{
    detector_object *owner = self->owner;
    Py_hash_t hash = hash_of(name) ^ self->salt;
    entry *known = lookup(owner, self->type, name, hash);

    if (known == NULL || known->generation != owner->generation) {
        known = into_young(owner, known, self->type, name, hash);
        if (known == NULL) {
            return -1;
        }
    }
    return kobs_observe(&owner->detector, &known->metric, value, now_ns, found);
}

static int
analyse(analyser_object *self, PyObject *name, double value, uint64_t event, const int64_t *now_ns)
{
    PyObject *exact = NULL;
    kobs_anomaly found;
    int done;

    if (name == NULL) {
        name = self->empty;
    }
    else if (!PyUnicode_CheckExact(name)) {
        name = exact = PyUnicode_FromObject(name);
        if (exact == NULL) {
            return -1;
        }
    }
    KOBS_LOCK(self->owner)
    done = look_at(self, name, value, now_ns, &found);
    KOBS_UNLOCK()
    if (done > 0) {
        done = tell(self->owner, self->type, name, value, &found, event);
    }
    Py_XDECREF(exact);
    return done;
}

int
kobs_analyse(PyObject *self, PyObject *name, double value, uint64_t event)
{
    return analyse((analyser_object *)self, name, value, event, NULL);
}

bool
kobs_is_analyser(PyTypeObject *of, PyObject *analyse)
{
    core_state *state = PyType_GetModuleState(of);

    return Py_IS_TYPE(analyse, state->analyser_type);
}

/* -- Analyser -------------------------------------------------------------------------------- */

static PyObject *
analyser_call(analyser_object *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"name", "duration_us", "event", "now_ns", NULL};
    PyObject *name, *now = Py_None;
    unsigned long long event;
    int64_t now_ns = 0;
    double value;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "UdK|$O:Analyser", names, &name, &value,
                                     &event, &now)) {
        return NULL;
    }
    if (now != Py_None) {
        now_ns = PyLong_AsLongLong(now);
        if (now_ns == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    if (analyse(self, name, value, event, now != Py_None ? &now_ns : NULL) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
analyser_traverse(analyser_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->owner);
    return 0;
}

static void
analyser_dealloc(analyser_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_XDECREF(self->owner);
    Py_XDECREF(self->type);
    Py_XDECREF(self->empty);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyType_Slot analyser_slots[] = {
    {Py_tp_doc, "What an emitter of a payload type calls with (name, duration_us, event)."},
    {Py_tp_dealloc, analyser_dealloc},
    {Py_tp_traverse, analyser_traverse},
    {Py_tp_call, analyser_call},
    {0, NULL},
};

static PyType_Spec analyser_spec = {
    .name = "kobs._core._native.Analyser",
    .basicsize = sizeof(analyser_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = analyser_slots,
};

/* -- Detector -------------------------------------------------------------------------------- */

static PyObject *
detector_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"threshold", "threshold_squared", "min_samples", "reach",
                            "generation", "interval_ns", "tell", NULL};
    double threshold, threshold_squared, reach;
    Py_ssize_t min_samples, generation;
    long long interval_ns;
    PyObject *tell_;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$ddndnLO:Detector", names, &threshold,
                                     &threshold_squared, &min_samples, &reach, &generation,
                                     &interval_ns, &tell_)) {
        return NULL;
    }
    if (generation < 1 || generation > 1 << 24) {
        PyErr_Format(PyExc_ValueError, "generation=%zd: expected 1 to %d", generation, 1 << 24);
        return NULL;
    }
    detector_object *self = (detector_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    size_t size = 8;
    while (size < 4 * (size_t)generation) {
        size *= 2;
    }
    self->table = PyMem_Calloc(size, sizeof(entry *));
    if (self->table == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->detector = (kobs_detector){
        .threshold = threshold, .threshold_squared = threshold_squared,
        .min_samples = (double)min_samples, .reach = reach, .interval_ns = interval_ns,
    };
    self->mask = size - 1;
    self->room = (size_t)generation;
    self->generation = 1;
    self->tell = Py_NewRef(tell_);
    return (PyObject *)self;
}

static void
forget_all(detector_object *self)
{
    for (size_t at = 0; self->table != NULL && at <= self->mask; at++) {
        if (self->table[at] != NULL) {
            free_entry(self->table[at]);
            self->table[at] = NULL;
        }
    }
    self->young = self->old = 0;
    self->forgotten = self->detector.rejected = self->detector.suppressed = 0;
}

static int
detector_traverse(detector_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->tell);
    return 0;
}

static void
detector_dealloc(detector_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    forget_all(self);
    PyMem_Free(self->table);
    Py_XDECREF(self->tell);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

PyDoc_STRVAR(of_doc, "of(type) -> Analyser\n\nWhat the emitter of a payload type tells.");

static PyObject *
detector_of(detector_object *self, PyObject *type)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));

    if (!PyUnicode_Check(type)) {
        PyErr_Format(PyExc_TypeError, "expected a str, got %s", Py_TYPE(type)->tp_name);
        return NULL;
    }
    PyTypeObject *analyser_type = state->analyser_type;
    analyser_object *made = (analyser_object *)analyser_type->tp_alloc(analyser_type, 0);
    if (made == NULL) {
        return NULL;
    }
    made->owner = (detector_object *)Py_NewRef(self);
    made->type = PyUnicode_FromObject(type);
    made->empty = PyUnicode_New(0, 0);
    if (made->type == NULL || made->empty == NULL) {
        Py_DECREF(made);
        return NULL;
    }
    made->salt = (Py_hash_t)((size_t)hash_of(made->type) * 0x9E3779B97F4A7C15ull);
    return (PyObject *)made;
}

PyDoc_STRVAR(reset_doc, "reset()\n\nForget all that was learned.");

static PyObject *
detector_reset(detector_object *self, PyObject *Py_UNUSED(none))
{
    KOBS_LOCK(self)
    forget_all(self);
    KOBS_UNLOCK()
    Py_RETURN_NONE;
}

PyDoc_STRVAR(baselines_doc, "baselines() -> {(type, name): (count, mean, squares)}\n\n"
                            "What was learned of each metric that is known.");

static PyObject *
baselines(detector_object *self)
{
    PyObject *found = PyDict_New();

    for (size_t at = 0; found != NULL && at <= self->mask; at++) {
        const entry *each = self->table[at];
        if (each == NULL) {
            continue;
        }
        const kobs_baseline *learned = &each->metric.baseline;
        PyObject *key = PyTuple_Pack(2, each->type, each->name);
        PyObject *value = Py_BuildValue("Ldd", (long long)learned->count, learned->mean,
                                        learned->squares);
        if (key == NULL || value == NULL || PyDict_SetItem(found, key, value) < 0) {
            Py_CLEAR(found);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return found;
}

static PyObject *
detector_baselines(detector_object *self, PyObject *Py_UNUSED(none))
{
    PyObject *found;

    KOBS_LOCK(self)
    found = baselines(self);
    KOBS_UNLOCK()
    return found;
}

static PyMethodDef methods[] = {
    {"of", (PyCFunction)detector_of, METH_O, of_doc},
    {"reset", (PyCFunction)detector_reset, METH_NOARGS, reset_doc},
    {"baselines", (PyCFunction)detector_baselines, METH_NOARGS, baselines_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"forgotten", T_ULONGLONG, offsetof(detector_object, forgotten), READONLY,
     PyDoc_STR("Metrics that had to make room for others.")},
    {"rejected", T_ULONGLONG, offsetof(detector_object, detector.rejected), READONLY,
     PyDoc_STR("Values that were nan or infinite.")},
    {"suppressed", T_ULONGLONG, offsetof(detector_object, detector.suppressed), READONLY,
     PyDoc_STR("Anomalies kept back so far, over all metrics.")},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot detector_slots[] = {
    {Py_tp_doc, "A z-score detector for durations; calls `tell` with what is out of the ordinary."},
    {Py_tp_new, detector_new},
    {Py_tp_dealloc, detector_dealloc},
    {Py_tp_traverse, detector_traverse},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec detector_spec = {
    .name = "kobs._core._native.Detector",
    .basicsize = sizeof(detector_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = detector_slots,
};

int
kobs_add_detector_types(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->analyser_type
        = (PyTypeObject *)PyType_FromModuleAndSpec(module, &analyser_spec, NULL);
    if (state->analyser_type == NULL) {
        return -1;
    }
    return kobs_add_type(module, &detector_spec);
}
