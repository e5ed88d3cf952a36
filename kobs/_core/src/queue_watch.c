/* `QueueWatch`: a put and a get, from before the call to after it. The Python twins are the hooks of
 * the watch `queue`, which go on wherever a call is unusual: where an observed call may say the same,
 * and where the ambient cause is found out only when it is asked for. */

#include "queue_hook.h"

#include "ids.h"

enum { SHALLOW = 8, CATEGORY_IPC = 4 };

/* What an object itself has under a name, a new reference; NULL where its class has a say in that: no
 * code of the program is run. */
static PyObject *
own_attribute(PyObject *object, PyObject *name)
{
    PyObject *found = kobs_class_attribute(Py_TYPE(object), name);

    if (found != NULL || Py_TYPE(object)->tp_getattro != PyObject_GenericGetAttr) {
        Py_XDECREF(found);
        return NULL;
    }
#if PY_VERSION_HEX >= 0x030D0000
    PyObject_GetOptionalAttr(object, name, &found);
#else
    _PyObject_LookupAttr(object, name, &found);
#endif
    return found;
}

/* -- whose queue ------------------------------------------------------------------------------- */

static bool
is_of(const letters_object *letters, PyObject *queue)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *found = NULL;
    bool same = PyWeakref_GetRef(letters->queue, &found) > 0 && found == queue;
    Py_XDECREF(found);
    return same;
#else
    return PyWeakref_GET_OBJECT(letters->queue) == queue;
#endif
}

/* The letters of a queue; a new reference, NULL with an exception set. */
static letters_object *
letters_of(queue_watch *self, PyObject *queue)
{
    size_t at = ((uintptr_t)queue >> 4) % KOBS_QUEUES_AT_HAND;
    letters_object *near = self->at_hand[at].letters;

    if (near != NULL && self->at_hand[at].queue == queue && is_of(near, queue)) {
        return (letters_object *)Py_NewRef(near);
    }
    PyObject *key = PyLong_FromVoidPtr(queue);
    PyObject *found = key == NULL ? NULL : PyDict_GetItemWithError(self->queues, key);
    Py_XDECREF(key);
    if (found != NULL && kobs_is_letters(found) && is_of((letters_object *)found, queue)) {
        Py_INCREF(found);
    }
    else if (PyErr_Occurred() || (found = PyObject_CallOneArg(self->make, queue)) == NULL) {
        return NULL;
    }
    else if (!kobs_is_letters(found)) {
        PyErr_Format(PyExc_TypeError, "expected Letters, got %R", found);
        Py_DECREF(found);
        return NULL;
    }
#if !KOBS_FREE_THREADED
    self->at_hand[at].queue = queue;
    Py_XSETREF(self->at_hand[at].letters, (letters_object *)Py_NewRef(found));
#endif
    return (letters_object *)found;
}

static int
is_pool(queue_watch *self, PyObject *name)
{
    int found = PyUnicode_CheckExact(name) ? PySet_Contains(self->pools, name) : 0;

    if (found == 0) {
        Py_XSETREF(self->elsewhere, Py_NewRef(name));
    }
    return found;
}

/* The module of who called, behind stand-ins of other watches; a new reference, or NULL. */
static PyObject *
caller_behind(queue_watch *self)
{
    PyFrameObject *frame = (PyFrameObject *)Py_XNewRef((PyObject *)PyEval_GetFrame());
    PyObject *name = NULL;

    while (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        bool passed = PyUnicode_Compare(code->co_filename, self->passed_file) == 0;
        Py_DECREF(code);
        if (!passed) {
            PyObject *globals = PyFrame_GetGlobals(frame);
            name = Py_XNewRef(PyDict_GetItemWithError(globals, self->module_name));
            Py_DECREF(globals);
            Py_DECREF(frame);
            break;
        }
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    return name;
}

/* A pool calls, for a queue of its own: 1, 0, -1 with an exception set. */
static int
of_pool(queue_watch *self)
{
    PyObject *globals = PyEval_GetGlobals();
    PyObject *name = globals == NULL ? NULL : PyDict_GetItemWithError(globals, self->module_name);

    if (name == NULL || name == self->elsewhere) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (name != self->passed_over) {
        return is_pool(self, name);
    }
    name = caller_behind(self);
    int found = name == NULL ? (PyErr_Occurred() ? -1 : 0) : is_pool(self, name);
    Py_XDECREF(name);
    return found;
}

/* -- the ambient cause ------------------------------------------------------------------------- */

/* A new reference, NULL where there is none; false where Python is to look, or with an exception. */
static bool
plain_cause(queue_watch *self, PyObject **cause)
{
    if (PyContextVar_Get(self->context.cause_var, NULL, cause) < 0) {
        *cause = NULL;
        return false;
    }
    if (*cause == Py_None) {
        Py_CLEAR(*cause);
    }
    if (*cause != NULL
        && ((PyObject *)Py_TYPE(*cause) != self->context.cause_type
            || PyTuple_GET_SIZE(*cause) != 6)) {
        Py_CLEAR(*cause);
        return false;
    }
    return true;
}

static int
number_of(PyObject *cause, Py_ssize_t index, uint64_t *to)
{
    return kobs_unsigned(PyTuple_GET_ITEM(cause, index), UINT64_MAX, to);
}

static bool
said(queue_watch *self, PyObject *type)
{
    return PySet_GET_SIZE(self->said) > 0 && PySet_Contains(self->said, type) != 0;
}

static emitter_object *
open_emitter(emitter_object *emitter)
{
    if (emitter == NULL
        || atomic_load_explicit(&emitter->ring->ring.closed, memory_order_relaxed)) {
        return NULL;
    }
    return (emitter_object *)Py_NewRef(emitter);
}

/* -- depth ------------------------------------------------------------------------------------- */

/* The method of a C queue's own type that says how many it holds, borrowed: each import of the module
 * makes a type, and a subclass may have made something else of it. */
static PyObject *
measure_of(const kobs_queue_site *site, PyObject *queue)
{
    PyObject *mro = Py_TYPE(queue)->tp_mro;

    if (PyObject_TypeCheck(queue, PyDescr_TYPE(site->measure))) {
        return site->measure;
    }
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(mro); index++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(mro, index);
        PyObject *found = PyDict_GetItem(base->tp_dict, PyDescr_NAME(site->measure));
        if (found != NULL && Py_IS_TYPE(found, &PyMethodDescr_Type)) {
            return found;
        }
    }
    PyErr_SetString(PyExc_TypeError, "the queue is not of a C type that says how many it holds");
    return NULL;
}

/* How many a list or deque holds; less than 0 for other containers, and for those that the program
 * has count in a way of its own. */
static Py_ssize_t
count_of(queue_watch *self, PyObject *items)
{
    PySequenceMethods *methods = Py_TYPE(items)->tp_as_sequence;
    lenfunc length = methods == NULL ? NULL : methods->sq_length;

    if (length == NULL
        || (length != PyList_Type.tp_as_sequence->sq_length && length != self->deque_length)) {
        return -1;
    }
    return length(items);
}

/* Less than 0 where it is not known, or with an exception set. */
static Py_ssize_t
depth_of(const kobs_queue_site *site, PyObject *queue)
{
    queue_watch *self = site->watch;
    PyObject *items;
    Py_ssize_t depth;

    if (site->measure != NULL) {
        PyObject *measure = measure_of(site, queue);
        items = measure == NULL ? NULL : PyObject_CallOneArg(measure, queue);
        depth = items == NULL ? -1 : PyLong_AsSsize_t(items);
    }
    else {
        items = own_attribute(queue, self->deque_name);
        if (items == NULL && !PyErr_Occurred()) {
            items = own_attribute(queue, self->queue_name);
        }
        depth = items == NULL ? -1 : count_of(self, items);
    }
    Py_XDECREF(items);
    return depth;
}

/* Whether the queue is bounded by just so many; -1 with an exception set. */
static int
is_full(queue_watch *self, PyObject *queue, Py_ssize_t depth)
{
    PyObject *size = own_attribute(queue, self->size_name);
    int64_t most = 0;

    if (size == NULL && !PyErr_Occurred()) {
        size = own_attribute(queue, self->asyncio_size_name);
    }
    if (size == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    bool known = PyLong_CheckExact(size) && kobs_small_int(size, &most);
    Py_DECREF(size);
    return known && most == depth;
}

/* Have Python tell the depth where there may be something to tell. */
static int
tell_depth(const kobs_queue_site *site, letters_object *letters, PyObject *queue)
{
    Py_ssize_t told = letters->level, depth = depth_of(site, queue);

    if (depth < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    bool risen = depth >= SHALLOW && depth >= 2 * told, fallen = told && depth <= told / 4;
    if (!risen && !fallen) {
        int full = depth == 0 || depth == told || site->measure != NULL
                       ? 0 : is_full(site->watch, queue, depth);
        if (full <= 0) {
            return full;
        }
    }
    PyObject *done = PyObject_CallOneArg(site->watch->tell_depth, (PyObject *)letters);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* -- put --------------------------------------------------------------------------------------- */

/* Who sends, in which chain: the ambient one, else one that begins here. */
static int
find_chain(queue_watch *self, kobs_queue_call *call)
{
    if (call->cause != NULL) {
        if (number_of(call->cause, 0, &call->chain) < 0) {
            return -1;
        }
        if (call->chain != 0) {
            call->sampled = Py_NewRef(PyTuple_GET_ITEM(call->cause, 3));
            return 0;
        }
        int done = number_of(call->cause, 1, &call->parent);
        Py_CLEAR(call->cause);
        if (done < 0) {
            return -1;
        }
    }
    call->chain = kobs_mint_id();
    int kept = 1;
    if (self->decider != NULL && PyList_GET_ITEM(self->up, 0) != Py_False) {
        PyObject *decider = Py_NewRef(self->decider);
        kept = kobs_keeps(decider, call->chain, CATEGORY_IPC);
        Py_DECREF(decider);
    }
    call->sampled = kept < 0 ? NULL : PyBool_FromLong(kept);
    return kept < 0 ? -1 : 0;
}

static int
origin_of(queue_watch *self, PyObject **origin)
{
    *origin = NULL;
    if (PyList_GET_ITEM(self->context.origin_used, 0) == Py_False) {
        return 0;
    }
    return PyContextVar_Get(self->context.origin_var, NULL, origin);
}

static int
put_unusually(queue_watch *self, kobs_queue_call *call, PyObject *queue)
{
    PyObject *timeout = call->timeout == NULL ? Py_None : call->timeout;

    call->state = PyObject_CallFunctionObjArgs(self->put, queue, call->item, timeout, NULL);
    return call->state == NULL ? -1 : 0;
}

static int
begin_put(queue_watch *self, kobs_queue_call *call, PyObject *queue)
{
    if (said(self, self->sends) || !plain_cause(self, &call->cause)) {
        return PyErr_Occurred() ? -1 : put_unusually(self, call, queue);
    }
    letter *new = PyObject_Calloc(1, sizeof(*new));
    if (new == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (find_chain(self, call) < 0 || origin_of(self, &new->origin) < 0) {
        kobs_letter_free(new);
        return -1;
    }
    new->item = call->item;
    new->cause = Py_XNewRef(call->cause);
    new->sampled = Py_NewRef(call->sampled);
    new->chain = call->chain;
    new->parent = call->parent;
    new->link = call->link = kobs_mint_id();
    new->timestamp_ns = call->timestamp_ns = kobs_now();
    if (!kobs_letters_add(call->letters, new)) {
        kobs_letter_free(new);
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int
tell_sent(queue_watch *self, kobs_queue_call *call)
{
    emitter_object *emitter = open_emitter(self->sent_event);
    PyObject *fields[] = {call->letters->label, self->zero};
    kobs_given given = {
        .given = GIVEN_CAUSE | GIVEN_TIME | GIVEN_SAMPLED, .causality_id = call->chain,
        .parent = call->parent, .link = call->link, .timestamp_ns = call->timestamp_ns,
        .sampled = call->sampled,
    };
    uint64_t event;
    int64_t entry;
    int done = 0;

    if (emitter == NULL) {
        return 0;
    }
    if (call->cause != NULL) {
        done = number_of(call->cause, 1, &given.parent) | number_of(call->cause, 2, &given.span_id);
    }
    if (done == 0) {
        done = kobs_emit(emitter, fields, &given, &event, &entry);
    }
    Py_DECREF(emitter);
    return done;
}

/* -- get --------------------------------------------------------------------------------------- */

static int
receive_unusually(queue_watch *self, letters_object *letters, const letter *taken)
{
    PyObject *sent = taken == NULL ? Py_NewRef(Py_None) : kobs_letter_sent(letters, taken);
    PyObject *done = sent == NULL ? NULL
                                  : PyObject_CallFunctionObjArgs(self->received, letters->label,
                                                                 self->zero, sent, NULL);
    Py_XDECREF(sent);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
emit_received(queue_watch *self, letters_object *letters, const letter *taken, kobs_given *given,
              uint64_t *event)
{
    emitter_object *emitter = open_emitter(self->received_event);
    double waited_us = 0.0;
    int64_t entry;

    *event = 0;
    if (emitter == NULL) {
        return 0;
    }
    if (taken != NULL) {
        uint64_t now = kobs_now();
        waited_us = now > taken->timestamp_ns ? (double)(now - taken->timestamp_ns) / 1e3 : 0.0;
    }
    PyObject *fields[] = {letters->label, self->zero, PyFloat_FromDouble(waited_us)};
    int done = fields[2] == NULL ? -1 : kobs_emit(emitter, fields, given, event, &entry);
    Py_XDECREF(fields[2]);
    Py_DECREF(emitter);
    return done;
}

/* Continue the sender's chain. */
static int
adopt(queue_watch *self, const letter *taken, uint64_t event)
{
    uint64_t parent = taken->parent;
    PyObject *high = NULL;

    if (taken->cause != NULL) {
        high = PyTuple_GET_ITEM(taken->cause, 4);
        if (event == 0 && number_of(taken->cause, 1, &parent) < 0) {
            return -1;
        }
    }
    PyObject *cause = kobs_new_cause(self->context.cause_type, taken->chain,
                                     event != 0 ? event : parent, taken->sampled, high);
    PyObject *token = cause == NULL ? NULL : PyContextVar_Set(self->context.cause_var, cause);
    Py_XDECREF(cause);
    Py_XDECREF(token);
    return token == NULL ? -1 : 0;
}

/* Record it, and continue the sender's chain: not inside a scope, which keeps its own. */
static int
receive_usually(queue_watch *self, letters_object *letters, const letter *taken, PyObject *ambient)
{
    bool in_scope = ambient != NULL && PyTuple_GET_ITEM(ambient, 5) != Py_False;
    kobs_given given = {.given = 0};
    uint64_t event;

    if (taken != NULL) {
        given.link = taken->link;
        if (!in_scope) {
            given.given = GIVEN_CAUSE | GIVEN_SAMPLED;
            given.causality_id = taken->chain;
            given.sampled = taken->sampled;
        }
    }
    int done = emit_received(self, letters, taken, &given, &event);
    if (taken != NULL && !in_scope) {
        PyObject *error = done < 0 ? kobs_hook_catch() : NULL;
        int adopted = adopt(self, taken, event);
        if (error != NULL) {
            kobs_hook_raise(error);
        }
        done |= adopted;
    }
    return done;
}

static int
receive(queue_watch *self, letters_object *letters, PyObject *item)
{
    letter *taken = kobs_letters_take(letters, item);
    PyObject *ambient = NULL;
    int done;

    if ((taken != NULL && taken->sent != NULL) || said(self, self->receives)
        || !plain_cause(self, &ambient)) {
        done = PyErr_Occurred() ? -1 : receive_unusually(self, letters, taken);
    }
    else {
        done = receive_usually(self, letters, taken, ambient);
    }
    Py_XDECREF(ambient);
    kobs_letter_free(taken);
    return done;
}

/* -- a call -------------------------------------------------------------------------------------- */

static PyObject *
argument(PyObject *const *args, Py_ssize_t count, PyObject *keywords, Py_ssize_t at, PyObject *name)
{
    if (at < 0) {
        return NULL;
    }
    if (at < count) {
        return args[at];
    }
    for (Py_ssize_t each = 0; keywords != NULL && each < PyTuple_GET_SIZE(keywords); each++) {
        PyObject *keyword = PyTuple_GET_ITEM(keywords, each);
        if (keyword == name || PyUnicode_Compare(keyword, name) == 0) {
            return args[count + each];
        }
    }
    return NULL;
}

static int
begin(const kobs_queue_site *site, kobs_queue_call *call, PyObject *queue)
{
    queue_watch *self = site->watch;

    if (self->ask != NULL) {
        PyObject *asked = PyObject_CallNoArgs(self->ask);
        if (asked == NULL) {
            return -1;
        }
        Py_DECREF(asked);
    }
    int pool = of_pool(self);
    if (pool != 0) {
        return pool < 0 ? -1 : 0;
    }
    if ((call->letters = letters_of(self, queue)) == NULL) {
        return -1;
    }
    return site->puts ? begin_put(self, call, queue) : 0;
}

static void
clear_call(kobs_queue_call *call)
{
    Py_CLEAR(call->letters);
    Py_CLEAR(call->state);
    Py_CLEAR(call->cause);
    Py_CLEAR(call->sampled);
}

bool
kobs_queue_begin(const kobs_queue_site *site, kobs_queue_call *call, PyObject *queue,
                 PyObject *const *args, Py_ssize_t count, PyObject *keywords)
{
    *call = (kobs_queue_call){.letters = NULL};
    call->item = site->puts ? argument(args, count, keywords, 0, site->item_name) : NULL;
    call->timeout = argument(args, count, keywords, site->timeout_at, site->timeout_name);
    if ((site->puts && call->item == NULL) /* it will fail */
        || site->watch->context.cause_var == NULL) { /* the interpreter is at its end */
        return true;
    }
    kobs_busy = true;
    bool ours = begin(site, call, queue) == 0;
    if (!ours) {
        clear_call(call);
        ours = kobs_hook_swallow(site->watch->tell, site->where);
    }
    kobs_busy = false;
    return ours;
}

static int
succeeded(const kobs_queue_site *site, kobs_queue_call *call, PyObject *queue, PyObject *result)
{
    queue_watch *self = site->watch;
    int done;

    if (call->state != NULL) {
        PyObject *told = PyObject_CallFunctionObjArgs(self->put_done, call->state, Py_None, NULL);
        Py_XDECREF(told);
        return told == NULL ? -1 : 0;
    }
    done = site->puts ? tell_sent(self, call) : receive(self, call->letters, result);
    return done < 0 ? -1 : tell_depth(site, call->letters, queue);
}

static int
failed(const kobs_queue_site *site, kobs_queue_call *call, PyObject *error)
{
    queue_watch *self = site->watch;
    PyObject *done;

    if (call->state != NULL) {
        done = PyObject_CallMethod((PyObject *)call->letters, "remove", "OO", call->item,
                                   PyTuple_GET_ITEM(call->state, 2));
        Py_XDECREF(done);
        if (done == NULL) {
            return -1;
        }
    }
    else if (site->puts) {
        kobs_letters_remove(call->letters, call->item, call->link);
    }
    if (call->timeout == NULL || call->timeout == Py_None) {
        return 0;
    }
    done = PyObject_CallFunction(self->timed_out, "OOOs", call->letters->label, call->timeout,
                                 error, site->puts ? "Full" : "Empty");
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

PyObject *
kobs_queue_end(const kobs_queue_site *site, kobs_queue_call *call, PyObject *queue,
               PyObject *result)
{
    if (call->letters == NULL || kobs_busy) {
        clear_call(call);
        return result;
    }
    PyObject *error = result == NULL ? kobs_hook_catch() : NULL;
    kobs_busy = true;
    int done = error == NULL ? succeeded(site, call, queue, result) : failed(site, call, error);
    clear_call(call);
    if (done < 0 && !kobs_hook_swallow(site->watch->tell, site->where)) {
        PyObject *ours = kobs_hook_catch(); /* an interrupt */
        Py_CLEAR(result);
        if (error != NULL) {
            PyException_SetContext(ours, error);
        }
        error = ours;
    }
    kobs_busy = false;
    if (error != NULL) {
        kobs_hook_raise(error);
    }
    return result;
}

/* -- the type ------------------------------------------------------------------------------------ */

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
             "aim(sent, received, decider, up, ask)\n\n"
             "Record by these emitters of `MessageSent` and `MessageReceived`; None: not at all. "
             "`decider`, where `up[0]`\nsays so, decides of chains that begin. `ask()` is called "
             "before each put and get, and aims anew.");

static PyObject *
watch_aim(queue_watch *self, PyObject *args)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *given[5], *before[5];
    PyObject **const at[] = {(PyObject **)&self->sent_event, (PyObject **)&self->received_event,
                             &self->decider, &self->up, &self->ask};

    if (!PyArg_ParseTuple(args, "OOOOO:aim", &given[0], &given[1], &given[2], &given[3],
                          &given[4])) {
        return NULL;
    }
    PyTypeObject *const types[] = {state->emitter_type, state->emitter_type, state->decider_type,
                                   &PyList_Type};
    for (int index = 0; index < 4; index++) {
        if (given[index] != Py_None && !Py_IS_TYPE(given[index], types[index])) {
            return PyErr_Format(PyExc_TypeError, "expected a %s or None, got %R",
                                types[index]->tp_name, given[index]);
        }
    }
    if ((given[2] == Py_None) != (given[3] == Py_None)) {
        PyErr_SetString(PyExc_TypeError, "a decider and its gate come together");
        return NULL;
    }
    KOBS_LOCK(self)
    for (int index = 0; index < 5; index++) {
        before[index] = *at[index];
        *at[index] = given[index] == Py_None ? NULL : Py_NewRef(given[index]);
    }
    KOBS_UNLOCK()
    for (int index = 0; index < 5; index++) {
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
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int done = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);

    Py_XDECREF(type);
    return done;
}
