/* A put and a get, from before the call to after it. The Python twins are the hooks of
 * the watch `queue`, which go on wherever a call is unusual: where an observed call may say the same,
 * and where the ambient cause is found out only when it is asked for. */

#include "queue_hook.h"

#include "ids.h"

enum { CATEGORY_IPC = 4 };

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

#if !KOBS_FREE_THREADED
static size_t
place_at_hand(const PyObject *queue)
{
    return ((uintptr_t)queue >> 4) % KOBS_QUEUES_AT_HAND;
}

/* Those of a queue that was used just now, by someone else than a pool: a new reference, or NULL. */
static letters_object *
letters_at_hand(const queue_watch *self, PyObject *queue)
{
    size_t at = place_at_hand(queue);
    letters_object *near = self->at_hand[at].letters;
    bool same = near != NULL && self->at_hand[at].queue == queue && is_of(near, queue);

    return same ? (letters_object *)Py_NewRef(near) : NULL;
}
#endif

/* The letters of a queue; a new reference, NULL with an exception set. */
static letters_object *
letters_of(queue_watch *self, PyObject *queue)
{
    PyObject *key = PyLong_FromVoidPtr(queue), *found = NULL;
    int known = key == NULL ? -1 : kobs_dict_item(self->queues, key, &found);
    Py_XDECREF(key);
    if (known < 0) {
        return NULL;
    }
    if (!known || !kobs_is_letters(found) || !is_of((letters_object *)found, queue)) {
        Py_XSETREF(found, PyObject_CallOneArg(self->make, queue));
        if (found == NULL) {
            return NULL;
        }
    }
    if (!kobs_is_letters(found)) {
        PyErr_Format(PyExc_TypeError, "expected Letters, got %R", found);
        Py_DECREF(found);
        return NULL;
    }
#if !KOBS_FREE_THREADED
    size_t at = place_at_hand(queue);
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
        PyObject *before;
        KOBS_LOCK(self)
        before = self->elsewhere;
        __atomic_store_n(&self->elsewhere, Py_NewRef(name), __ATOMIC_RELAXED);
        KOBS_UNLOCK()
        Py_XDECREF(before);
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
            (void)kobs_dict_item(globals, self->module_name, &name);
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
    PyObject *globals = PyEval_GetGlobals(), *name = NULL;
    int found = globals == NULL ? 0 : kobs_dict_item(globals, self->module_name, &name);

    if (found > 0 && name == self->passed_over) {
        Py_SETREF(name, caller_behind(self));
        found = name != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
    }
    if (found > 0) {
        bool elsewhere = name == __atomic_load_n(&self->elsewhere, __ATOMIC_RELAXED);
        found = elsewhere ? 0 : is_pool(self, name);
    }
    Py_XDECREF(name);
    return found;
}

/* -- the ambient cause ------------------------------------------------------------------------- */

bool
kobs_queue_plain_cause(queue_watch *self, PyObject **cause)
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

bool
kobs_queue_said(queue_watch *self, PyObject *type)
{
    return PySet_GET_SIZE(self->said) > 0 && PySet_Contains(self->said, type) != 0;
}

emitter_object *
kobs_queue_emitter(queue_watch *self, emitter_object **at)
{
    emitter_object *emitter = kobs_held(self, at);

    if (emitter != NULL
        && atomic_load_explicit(&emitter->ring->ring.closed, memory_order_relaxed)) {
        Py_CLEAR(emitter);
    }
    return emitter;
}

/* Whether a chain that begins here is kept; -1 with an exception set. */
static int
keeps(queue_watch *self, uint64_t chain)
{
    PyObject *decider, *up;
    int kept = 1;

    KOBS_LOCK(self) /* they come together */
    decider = Py_XNewRef(self->decider);
    up = Py_XNewRef(self->up);
    KOBS_UNLOCK()
    if (decider != NULL && kobs_is_up(up)) {
        kept = kobs_keeps(decider, chain, CATEGORY_IPC);
    }
    Py_XDECREF(decider);
    Py_XDECREF(up);
    return kept;
}

/* Whether an event of a chain is left out, since that is not kept; it is counted then. What else may be
 * said of it is found out as it is recorded. */
static bool
leaves_out(const emitter_object *emitter, PyObject *sampled)
{
    if (sampled != Py_False || !emitter->decides || emitter->hides != NULL
        || (emitter->level & 15) >= KOBS_WARN || !kobs_is_up(emitter->gate)) {
        return false;
    }
    kobs_count_left_out(emitter);
    return true;
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
    int kept = keeps(self, call->chain);
    call->sampled = kept < 0 ? NULL : PyBool_FromLong(kept);
    return kept < 0 ? -1 : 0;
}

static int
origin_of(queue_watch *self, PyObject **origin)
{
    *origin = NULL;
    if (!kobs_is_up(self->context.origin_used)) {
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
    if (kobs_queue_said(self, self->sends) || !kobs_queue_plain_cause(self, &call->cause)) {
        return PyErr_Occurred() ? -1 : put_unusually(self, call, queue);
    }
    letter *new = PyObject_Malloc(sizeof(*new));
    if (new == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *new = (letter){.item = call->item};
    if (find_chain(self, call) < 0 || origin_of(self, &new->origin) < 0) {
        kobs_letter_free(new);
        return -1;
    }
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
    emitter_object *emitter = kobs_queue_emitter(self, &self->sent_event);
    PyObject *fields[] = {call->letters->label, self->zero};
    kobs_given given = {
        .given = GIVEN_CAUSE | GIVEN_TIME | GIVEN_SAMPLED, .causality_id = call->chain,
        .parent = call->parent, .link = call->link, .timestamp_ns = call->timestamp_ns,
        .sampled = call->sampled,
    };
    uint64_t event;
    int64_t entry;
    int done = 0;

    if (emitter == NULL || leaves_out(emitter, call->sampled)) {
        Py_XDECREF(emitter);
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
    emitter_object *emitter = kobs_queue_emitter(self, &self->received_event);
    double waited_us = 0.0;
    int64_t entry;

    *event = 0;
    if (emitter == NULL
        || (given->given & GIVEN_SAMPLED && leaves_out(emitter, given->sampled))) {
        Py_XDECREF(emitter);
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

/* Whether a cause is one that its receiver has too, where the receive is no event: of no span. */
static bool
is_received(PyObject *cause)
{
    int64_t span_id;

    return PyTuple_GET_ITEM(cause, 5) == Py_False && PyLong_Check(PyTuple_GET_ITEM(cause, 2))
           && kobs_small_int(PyTuple_GET_ITEM(cause, 2), &span_id) && span_id == 0;
}

/* Continue the sender's chain. */
static int
adopt(queue_watch *self, const letter *taken, uint64_t event, PyObject *ambient)
{
    uint64_t parent = taken->parent;
    PyObject *high = NULL;

    if (event == 0 && taken->cause != NULL && is_received(taken->cause)) {
        PyObject *same = taken->cause == ambient
                             ? NULL : PyContextVar_Set(self->context.cause_var, taken->cause);
        Py_XDECREF(same);
        return same == NULL && taken->cause != ambient ? -1 : 0;
    }
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
        int adopted = adopt(self, taken, event, ambient);
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

    if ((taken != NULL && taken->sent != NULL) || kobs_queue_said(self, self->receives)
        || !kobs_queue_plain_cause(self, &ambient)) {
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

    PyObject *ask = kobs_held(self, &self->ask);
    if (ask != NULL) {
        PyObject *asked = PyObject_CallNoArgs(ask);
        Py_DECREF(ask);
        if (asked == NULL) {
            return -1;
        }
        Py_DECREF(asked);
    }
#if !KOBS_FREE_THREADED
    call->letters = letters_at_hand(self, queue);
#endif
    if (call->letters == NULL) {
        int pool = of_pool(self);
        if (pool != 0) {
            return pool < 0 ? -1 : 0;
        }
        if ((call->letters = letters_of(self, queue)) == NULL) {
            return -1;
        }
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
    bool ours;
    kobs_busy = true;
    KOBS_UNSEEN
    ours = begin(site, call, queue) == 0;
    KOBS_SEEN
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
    return done < 0 ? -1 : kobs_queue_tell_depth(site, call->letters, queue);
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
    int done;
    kobs_busy = true;
    KOBS_UNSEEN
    done = error == NULL ? succeeded(site, call, queue, result) : failed(site, call, error);
    KOBS_SEEN
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
