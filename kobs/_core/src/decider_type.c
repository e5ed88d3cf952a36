/* `Decider`: whether an event is kept, where not everything is. The Python twin is kobs/gate.py's
 * `Gate.decide` with `Sampler.keeps` and `ChainThinner.decide`; adapting stays in Python. */

#include "core.h"
#include "chains.h"

enum { CATEGORIES = 17, NO_CATEGORY = 16, WARN = 3, INFO = 2 };

typedef struct {
    PyObject_HEAD
    ring_object *ring;
    PyObject *bound;   /* callable(category) -> 0 to 2**64: below it a chain is kept */
    PyObject *measure; /* callable(): to be called every `check_every` decisions, where it was not */
    uint64_t check_ns, checked_ns; /* for so long; and when it was */
    PyObject *refuse;  /* callable(): raises, once it is closed */
    bool adaptive, thins;
    atomic_bool closed;
    Py_ssize_t check_every, until_check;
    struct {
        bool known, all;
        uint64_t below;
    } bounds[CATEGORIES];
    kobs_decisions decisions;
    kobs_thinner thinner;
    uint64_t chance;
} decider_object;

static int
call(PyObject *function)
{
    PyObject *done;

    KOBS_UNSEEN
    done = PyObject_CallNoArgs(function);
    KOBS_SEEN
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
ask_for_bound(decider_object *self, long category)
{
    size_t at = category < 0 ? NO_CATEGORY : (size_t)category;
    PyObject *bound;

    KOBS_UNSEEN
    bound = PyObject_CallFunction(self->bound, "l", category);
    KOBS_SEEN

    if (bound == NULL) {
        return -1;
    }
    unsigned long long below = PyLong_AsUnsignedLongLong(bound);
    Py_DECREF(bound);
    bool all = below == (unsigned long long)-1 && PyErr_Occurred() != NULL;
    if (all && !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return -1;
    }
    PyErr_Clear(); /* 2**64: every chain */
    self->bounds[at].all = all;
    self->bounds[at].below = below;
    self->bounds[at].known = true;
    return 0;
}

/* `Sampler.keeps`: 1, 0, -1 with an exception set. */
static int
keeps(decider_object *self, uint64_t chain, long category)
{
    size_t at = category < 0 ? NO_CATEGORY : (size_t)category;

    if (self->adaptive && --self->until_check <= 0) {
        uint64_t now = kobs_now();
        self->until_check = self->check_every;
        if (now - self->checked_ns >= self->check_ns) {
            self->checked_ns = now;
            if (call(self->measure) < 0) {
                return -1;
            }
        }
    }
    if (!self->bounds[at].known && ask_for_bound(self, category) < 0) {
        return -1;
    }
    return self->bounds[at].all || kobs_spread(chain) < self->bounds[at].below;
}

/* A chain's decision, taken once; without a chain, an event's. */
static int
sampled(decider_object *self, uint64_t chain, long category)
{
    if (chain == 0) {
        self->chance += 0x9E3779B97F4A7C15ull;
        return keeps(self, kobs_spread(self->chance), category);
    }
    int known = kobs_decision(&self->decisions, chain);
    if (known < 0) {
        known = keeps(self, chain, category);
        if (known >= 0 && kobs_decision(&self->decisions, chain) < 0
            && !kobs_remember(&self->decisions, chain, known)) {
            PyErr_NoMemory();
            return -1;
        }
    }
    return known;
}

/* See `kobs_decide`. */
static int
decide(decider_object *self, unsigned severity, unsigned category, uint64_t chain,
       PyObject *given)
{
    if (atomic_load_explicit(&self->closed, memory_order_relaxed)) {
        return call(self->refuse) < 0 ? KOBS_UNDECIDED : KOBS_DROP;
    }
    int kept = given == NULL || given == Py_None || chain == 0
                   ? sampled(self, chain, (long)category)
                   : PyObject_IsTrue(given);
    if (kept < 0) {
        return KOBS_UNDECIDED;
    }
    if (!kept && severity >= WARN) {
        return KOBS_FLAG_PARTIAL;
    }
    if (kept) {
        uint64_t before;
        if (!self->thins || chain == 0) {
            return 0;
        }
        if (!kobs_count_event(&self->thinner, chain, &before)) {
            PyErr_NoMemory();
            return KOBS_UNDECIDED;
        }
        if (before < self->thinner.limit) {
            return 0;
        }
        if (severity >= INFO) {
            return KOBS_FLAG_PARTIAL;
        }
        self->thinner.dropped++;
    }
    if (!atomic_load_explicit(&self->ring->ring.closed, memory_order_relaxed)) {
        kobs_counters *counters = self->ring->ring.counters;
        kobs_leave_out(&counters->sampled_out, counters->sampled_out_by_category, category);
    }
    return kept ? KOBS_THINNED : KOBS_DROP;
}

int
kobs_decide(PyObject *self, unsigned severity, unsigned category, uint64_t chain, PyObject *given)
{
    int flags;

    KOBS_LOCK(self)
    flags = decide((decider_object *)self, severity, category, chain, given);
    KOBS_UNLOCK()
    return flags;
}

int
kobs_keeps(PyObject *self, uint64_t chain, unsigned category)
{
    int kept;

    KOBS_LOCK(self)
    kept = keeps((decider_object *)self, chain, (long)category);
    KOBS_UNLOCK()
    return kept;
}

bool
kobs_is_decider(PyTypeObject *of, PyObject *decide_)
{
    core_state *state = PyType_GetModuleState(of);

    return Py_IS_TYPE(decide_, state->decider_type);
}

/* -- from Python ----------------------------------------------------------------------------- */

static PyObject *
decider_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"ring", "bound", "measure", "refuse", "check_every", "check_ms",
                            "remembered", "limit", "generation", "chance", "adaptive", NULL};
    core_state *state = PyType_GetModuleState(type);
    PyObject *ring, *bound, *measure, *refuse;
    Py_ssize_t check_every, remembered, generation;
    unsigned long long limit, chance;
    double check_ms;
    int adaptive;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$O!OOOndnKnKp:Decider", names,
                                     state->ring_type, &ring, &bound, &measure, &refuse,
                                     &check_every, &check_ms, &remembered, &limit, &generation,
                                     &chance, &adaptive)) {
        return NULL;
    }
    if (remembered < 1 || generation < 1 || remembered > 1 << 24 || generation > 1 << 24) {
        PyErr_SetString(PyExc_ValueError, "remembered and generation: expected 1 to 2**24");
        return NULL;
    }
    decider_object *self = (decider_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->ring = (ring_object *)Py_NewRef(ring);
    self->bound = Py_NewRef(bound);
    self->measure = Py_NewRef(measure);
    self->refuse = Py_NewRef(refuse);
    self->check_every = self->until_check = check_every;
    self->check_ns = (uint64_t)(check_ms * 1e6);
    self->decisions.room = (size_t)remembered;
    self->thinner.limit = limit;
    self->thinner.room = (size_t)generation;
    self->chance = chance;
    self->adaptive = adaptive;
    return (PyObject *)self;
}

static PyObject *
decider_call(decider_object *self, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    unsigned int severity, category;
    unsigned long long chain;
    PyObject *given;

    if (!PyArg_ParseTuple(args, "IIKO:Decider", &severity, &category, &chain, &given)) {
        return NULL;
    }
    if (category >= NO_CATEGORY) {
        PyErr_Format(PyExc_ValueError, "there is no category %u", category);
        return NULL;
    }
    int flags = kobs_decide((PyObject *)self, severity, category, chain, given);
    return flags == KOBS_UNDECIDED ? NULL : PyLong_FromLong(flags);
}

PyDoc_STRVAR(sampled_doc, "sampled(causality_id, category) -> bool\n\nA chain's decision, taken "
                          "once; without a chain, an event's.");

static PyObject *
decider_sampled(decider_object *self, PyObject *args)
{
    unsigned long long chain;
    int category, kept;

    if (!PyArg_ParseTuple(args, "Ki:sampled", &chain, &category)) {
        return NULL;
    }
    if (category >= NO_CATEGORY) {
        PyErr_Format(PyExc_ValueError, "there is no category %d", category);
        return NULL;
    }
    KOBS_LOCK(self)
    kept = sampled(self, chain, category);
    KOBS_UNLOCK()
    return kept < 0 ? NULL : PyBool_FromLong(kept);
}

PyDoc_STRVAR(update_doc, "update(adaptive)\n\nThe rates are others; chains are thinned from here "
                         "on.");

static PyObject *
decider_update(decider_object *self, PyObject *adaptive)
{
    int truth = PyObject_IsTrue(adaptive);

    if (truth < 0) {
        return NULL;
    }
    KOBS_LOCK(self)
    memset(self->bounds, 0, sizeof(self->bounds));
    self->adaptive = truth;
    self->thins = true;
    KOBS_UNLOCK()
    Py_RETURN_NONE;
}

PyDoc_STRVAR(forget_doc, "forget()\n\nDrop the decisions that were taken.");

static PyObject *
decider_forget(decider_object *self, PyObject *Py_UNUSED(none))
{
    KOBS_LOCK(self)
    kobs_forget_decisions(&self->decisions);
    KOBS_UNLOCK()
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_doc, "close()\n\nLet nothing through any more.");

static PyObject *
decider_close(decider_object *self, PyObject *Py_UNUSED(none))
{
    atomic_store(&self->closed, true);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(rewire_doc, "rewire(ring, chance)\n\nCount in another ring, in another process.");

static PyObject *
decider_rewire(decider_object *self, PyObject *args)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *ring;
    unsigned long long chance;

    if (!PyArg_ParseTuple(args, "O!K:rewire", state->ring_type, &ring, &chance)) {
        return NULL;
    }
    ring_object *old;
    KOBS_LOCK(self)
    old = self->ring;
    self->ring = (ring_object *)Py_NewRef(ring);
    self->chance = chance;
    KOBS_UNLOCK()
    Py_DECREF(old);
    Py_RETURN_NONE;
}

static int
decider_traverse(decider_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->ring);
    Py_VISIT(self->bound);
    Py_VISIT(self->measure);
    Py_VISIT(self->refuse);
    return 0;
}

static void
decider_dealloc(decider_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    kobs_forget_decisions(&self->decisions);
    free(self->thinner.chains);
    Py_XDECREF(self->ring);
    Py_XDECREF(self->bound);
    Py_XDECREF(self->measure);
    Py_XDECREF(self->refuse);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"sampled", (PyCFunction)decider_sampled, METH_VARARGS, sampled_doc},
    {"update", (PyCFunction)decider_update, METH_O, update_doc},
    {"forget", (PyCFunction)decider_forget, METH_NOARGS, forget_doc},
    {"close", (PyCFunction)decider_close, METH_NOARGS, close_doc},
    {"rewire", (PyCFunction)decider_rewire, METH_VARARGS, rewire_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"dropped", T_ULONGLONG, offsetof(decider_object, thinner.dropped), READONLY,
     PyDoc_STR("Events of long chains that were dropped so far.")},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Whether an event is kept: called with (severity, category, causality_id, sampled) "
                "it gives flags to add, or -1 to drop it, -2 "
                "where a scope that begins is to be in flight all the same."},
    {Py_tp_new, decider_new},
    {Py_tp_dealloc, decider_dealloc},
    {Py_tp_traverse, decider_traverse},
    {Py_tp_call, decider_call},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.Decider",
    .basicsize = sizeof(decider_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_decider_type(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    state->decider_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, NULL);
    return state->decider_type == NULL ? -1 : PyModule_AddType(module, state->decider_type);
}
