/* `QueueWatch`: what hooks of queues have in common, and where their events go. */

#include "queue_hook.h"

/* How many a deque holds, as its C type says; NULL with an exception set. */
static lenfunc
length_of_deques(void)
{
    PyObject *module = PyImport_ImportModule("_collections");
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "deque");
    lenfunc found = type == NULL ? NULL : ((PyTypeObject *)type)->tp_as_sequence->sq_length;

    Py_XDECREF(module);
    Py_XDECREF(type);
    return found;
}

static PyObject *
watch_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {
        "cause", "cause_type", "origin", "origin_used", "queues", "make", "said", "sends",
        "receives", "pools", "passed_over", "passed_file", "put", "put_done", "received",
        "tell_depth", "timed_out", "tell", NULL,
    };
    PyObject *given[18];

    if (!PyArg_ParseTupleAndKeywords(
            args, keywords, "$OOOO!O!OO!OOO!UUOOOOOO:QueueWatch", names, &given[0], &given[1],
            &given[2], &PyList_Type, &given[3], &PyDict_Type, &given[4], &given[5], &PySet_Type,
            &given[6], &given[7], &given[8], &PyFrozenSet_Type, &given[9], &given[10], &given[11],
            &given[12], &given[13], &given[14], &given[15], &given[16], &given[17])) {
        return NULL;
    }
    queue_watch *self = (queue_watch *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    PyObject **const to[] = {
        &self->context.cause_var, &self->context.cause_type, &self->context.origin_var,
        &self->context.origin_used, &self->queues, &self->make, &self->said, &self->sends,
        &self->receives, &self->pools, &self->passed_over, &self->passed_file, &self->put,
        &self->put_done, &self->received, &self->tell_depth, &self->timed_out, &self->tell,
    };
    for (size_t index = 0; index < sizeof(to) / sizeof(to[0]); index++) {
        *to[index] = Py_NewRef(given[index]);
    }
    self->zero = PyLong_FromLong(0);
    self->deque_name = PyUnicode_InternFromString("queue");
    self->queue_name = PyUnicode_InternFromString("_queue");
    self->size_name = PyUnicode_InternFromString("maxsize");
    self->asyncio_size_name = PyUnicode_InternFromString("_maxsize");
    self->module_name = PyUnicode_InternFromString("__name__");
    PyUnicode_InternInPlace(&self->passed_over);
    self->deque_length = length_of_deques();
    if (self->deque_length == NULL || self->zero == NULL || self->deque_name == NULL || self->queue_name == NULL
        || self->size_name == NULL || self->asyncio_size_name == NULL
        || self->module_name == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(aim_doc,
             "aim(sent, received, depth, decider, up, ask)\n\n"
             "Record by these emitters of `MessageSent`, `MessageReceived` and `QueueDepth`; None: not "
             "at all. "
             "`decider`, where `up[0]`\nsays so, decides of chains that begin. `ask()` is called "
             "before each put and get, and aims anew.");

static PyObject *
watch_aim(queue_watch *self, PyObject *args)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *given[6], *before[6];
    PyObject **const at[] = {
        (PyObject **)&self->sent_event, (PyObject **)&self->received_event,
        (PyObject **)&self->depth_event, &self->decider, &self->up, &self->ask,
    };

    if (!PyArg_ParseTuple(args, "OOOOOO:aim", &given[0], &given[1], &given[2], &given[3], &given[4],
                          &given[5])) {
        return NULL;
    }
    PyTypeObject *const types[] = {state->emitter_type, state->emitter_type, state->emitter_type,
                                   state->decider_type, &PyList_Type};
    for (int index = 0; index < 5; index++) {
        if (given[index] != Py_None && !Py_IS_TYPE(given[index], types[index])) {
            return PyErr_Format(PyExc_TypeError, "expected a %s or None, got %R",
                                types[index]->tp_name, given[index]);
        }
    }
    if ((given[3] == Py_None) != (given[4] == Py_None)) {
        PyErr_SetString(PyExc_TypeError, "a decider and its gate come together");
        return NULL;
    }
    KOBS_LOCK(self)
    for (int index = 0; index < 6; index++) {
        before[index] = *at[index];
        *at[index] = given[index] == Py_None ? NULL : Py_NewRef(given[index]);
    }
    KOBS_UNLOCK()
    for (int index = 0; index < 6; index++) {
        Py_XDECREF(before[index]);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(forget_doc, "forget(letters)\n\nThese are of a queue that is no more.");

static PyObject *
watch_forget(queue_watch *self, PyObject *letters)
{
    for (int index = 0; index < KOBS_QUEUES_AT_HAND; index++) {
        if ((PyObject *)self->at_hand[index].letters == letters) {
            self->at_hand[index].queue = NULL;
            Py_CLEAR(self->at_hand[index].letters);
        }
    }
    Py_RETURN_NONE;
}

#define EACH(what)                                                                                 \
    what(self->context.cause_var);                                                                 \
    what(self->context.cause_type);                                                                \
    what(self->context.origin_var);                                                                \
    what(self->context.origin_used);                                                               \
    what(self->queues);                                                                            \
    what(self->make);                                                                              \
    what(self->said);                                                                              \
    what(self->sends);                                                                             \
    what(self->receives);                                                                          \
    what(self->pools);                                                                             \
    what(self->put);                                                                               \
    what(self->put_done);                                                                          \
    what(self->received);                                                                          \
    what(self->tell_depth);                                                                        \
    what(self->timed_out);                                                                         \
    what(self->tell);                                                                              \
    what(self->ask);                                                                               \
    what(self->sent_event);                                                                        \
    what(self->received_event);                                                                    \
    what(self->depth_event);                                                                       \
    what(self->decider);                                                                           \
    what(self->up)

static int
watch_traverse(queue_watch *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    EACH(Py_VISIT);
    for (int index = 0; index < KOBS_QUEUES_AT_HAND; index++) {
        Py_VISIT(self->at_hand[index].letters);
    }
    return 0;
}

static int
watch_clear(queue_watch *self)
{
    EACH(Py_CLEAR);
    for (int index = 0; index < KOBS_QUEUES_AT_HAND; index++) {
        Py_CLEAR(self->at_hand[index].letters);
    }
    return 0;
}

static void
watch_dealloc(queue_watch *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    watch_clear(self);
    Py_CLEAR(self->elsewhere);
    Py_CLEAR(self->passed_over);
    Py_CLEAR(self->passed_file);
    Py_CLEAR(self->zero);
    Py_CLEAR(self->deque_name);
    Py_CLEAR(self->queue_name);
    Py_CLEAR(self->size_name);
    Py_CLEAR(self->asyncio_size_name);
    Py_CLEAR(self->module_name);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"aim", (PyCFunction)watch_aim, METH_VARARGS, aim_doc},
    {"forget", (PyCFunction)watch_forget, METH_O, forget_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "What hooks of queues have in common: who knows the queues, and where events go."},
    {Py_tp_new, watch_new},
    {Py_tp_dealloc, watch_dealloc},
    {Py_tp_traverse, watch_traverse},
    {Py_tp_clear, watch_clear},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.QueueWatch",
    .basicsize = sizeof(queue_watch),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
kobs_add_queue_watch_type(PyObject *module)
{
    return kobs_add_type(module, &spec);
}
