/* `Letters`: see letters.h. */

#include "letters.h"

#include <stdlib.h>

enum { FIRST_BUCKETS = 16 };

/* -- the table ------------------------------------------------------------------------------- */

static inline letter **
bucket_of(const letters_object *self, const void *item)
{
    uint64_t bits = (uint64_t)(uintptr_t)item * 0x9E3779B97F4A7C15u;

    return &self->buckets[(size_t)(bits >> 32) & self->mask];
}

/* Where the oldest of an item is held; what is there is NULL where there is none. */
static letter **
place_of(const letters_object *self, const void *item)
{
    letter **at = bucket_of(self, item);

    while (*at != NULL && (*at)->item != item) {
        at = &(*at)->next_item;
    }
    return at;
}

static bool
grow(letters_object *self)
{
    size_t size = self->buckets == NULL ? FIRST_BUCKETS : 2 * (self->mask + 1);
    letter **before = self->buckets, **made = calloc(size, sizeof(*made));
    size_t count = self->buckets == NULL ? 0 : self->mask + 1;

    if (made == NULL) {
        return false;
    }
    self->buckets = made;
    self->mask = size - 1;
    for (size_t index = 0; index < count; index++) {
        for (letter *each = before[index], *next; each != NULL; each = next) {
            letter **to = bucket_of(self, each->item);
            next = each->next_item;
            each->next_item = *to;
            *to = each;
        }
    }
    free(before);
    return true;
}

/* Take one out; `at` is where the oldest of its item is held. */
static letter *
take_out(letters_object *self, letter **at, letter *taken)
{
    letter *oldest = *at;

    if (taken != oldest) {
        taken->older->newer = taken->newer;
        if (taken->newer != NULL) {
            taken->newer->older = taken->older;
        }
        else {
            oldest->newest = taken->older;
        }
    }
    else if (taken->newer != NULL) {
        taken->newer->older = NULL;
        taken->newer->newest = taken->newest;
        taken->newer->next_item = taken->next_item;
        *at = taken->newer;
    }
    else {
        *at = taken->next_item;
    }
    *(taken->before != NULL ? &taken->before->after : &self->first) = taken->after;
    *(taken->after != NULL ? &taken->after->before : &self->last) = taken->before;
    self->count--;
    return taken;
}

static bool
add(letters_object *self, letter *new, letter **forgotten)
{
    *forgotten = NULL;
    if ((self->buckets == NULL || self->count > self->mask) && !grow(self)
        && self->buckets == NULL) {
        return false;
    }
    if (self->count >= (size_t)self->limit) {
        *forgotten = take_out(self, place_of(self, self->first->item), self->first);
    }
    letter **at = place_of(self, new->item);
    new->next_item = new->newer = new->older = new->after = NULL;
    if (*at == NULL) {
        new->newest = new;
        *at = new;
    }
    else {
        new->older = (*at)->newest;
        (*at)->newest->newer = new;
        (*at)->newest = new;
    }
    new->before = self->last;
    *(self->last != NULL ? &self->last->after : &self->first) = new;
    self->last = new;
    self->count++;
    return true;
}

bool
kobs_letters_add(letters_object *self, letter *new)
{
    letter *forgotten;
    bool done;

    KOBS_LOCK(self)
    done = add(self, new, &forgotten);
    KOBS_UNLOCK()
    kobs_letter_free(forgotten);
    return done;
}

/* `*known`: it is this one that was received. */
static letter *
take(letters_object *self, const void *item, bool *known)
{
    letter **at = self->buckets == NULL ? NULL : place_of(self, item);

    if (at == NULL || *at == NULL) {
        return NULL;
    }
    letter *oldest = *at, *newest = oldest->newest;
    *known = oldest == newest || self->order != ORDER_ANY;
    return take_out(self, at, self->order == ORDER_LAST ? newest : oldest);
}

letter *
kobs_letters_take(letters_object *self, const void *item)
{
    letter *taken;
    bool known = false;

    KOBS_LOCK(self)
    taken = take(self, item, &known);
    KOBS_UNLOCK()
    if (!known) {
        kobs_letter_free(taken);
    }
    return known ? taken : NULL;
}

/* By its link, or by the `Sent` where that is not NULL. */
static letter *
find(letters_object *self, const void *item, uint64_t link, PyObject *sent)
{
    letter **at = self->buckets == NULL ? NULL : place_of(self, item);

    if (at == NULL || *at == NULL) {
        return NULL;
    }
    for (letter *each = (*at)->newest; each != NULL; each = each->older) {
        if (sent != NULL ? each->sent == sent : each->sent == NULL && each->link == link) {
            return take_out(self, at, each);
        }
    }
    return NULL;
}

void
kobs_letters_remove(letters_object *self, const void *item, uint64_t link)
{
    letter *taken;

    KOBS_LOCK(self)
    taken = find(self, item, link, NULL);
    KOBS_UNLOCK()
    kobs_letter_free(taken);
}

void
kobs_letter_free(letter *freed)
{
    if (freed != NULL) {
        Py_XDECREF(freed->sent);
        Py_XDECREF(freed->cause);
        Py_XDECREF(freed->origin);
        Py_XDECREF(freed->sampled);
        PyObject_Free(freed);
    }
}

/* -- what Python makes of them --------------------------------------------------------------- */

PyObject *
kobs_new_cause(PyObject *type, uint64_t chain, uint64_t parent, PyObject *sampled, PyObject *high)
{
    PyObject *made = ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 6);

    if (made == NULL) {
        return NULL;
    }
    PyObject_GC_UnTrack(made); /* nothing in it can be part of a cycle */
    PyTuple_SET_ITEM(made, 0, PyLong_FromUnsignedLongLong(chain));
    PyTuple_SET_ITEM(made, 1, PyLong_FromUnsignedLongLong(parent));
    PyTuple_SET_ITEM(made, 2, PyLong_FromLong(0));
    PyTuple_SET_ITEM(made, 3, Py_NewRef(sampled));
    PyTuple_SET_ITEM(made, 4, high != NULL ? Py_NewRef(high) : PyLong_FromLong(0));
    PyTuple_SET_ITEM(made, 5, Py_NewRef(Py_False));
    if (PyTuple_GET_ITEM(made, 0) == NULL || PyTuple_GET_ITEM(made, 1) == NULL) {
        Py_CLEAR(made);
    }
    return made;
}

PyObject *
kobs_letter_sent(letters_object *self, const letter *from)
{
    if (from->sent != NULL) {
        return Py_NewRef(from->sent);
    }
    PyObject *cause = from->cause != NULL ? Py_NewRef(from->cause)
                                          : kobs_new_cause(self->cause_type, from->chain,
                                                           from->parent, from->sampled, NULL);
    PyObject *origin = from->origin != NULL ? Py_NewRef(from->origin) : PyUnicode_New(0, 0);
    PyObject *made = NULL;
    if (cause != NULL && origin != NULL) {
        made = PyObject_CallFunction(self->make_sent, "KOOK", (unsigned long long)from->link, cause,
                                     origin, (unsigned long long)from->timestamp_ns);
    }
    Py_XDECREF(cause);
    Py_XDECREF(origin);
    return made;
}

PyDoc_STRVAR(add_doc, "add(item, sent)\n\nRemember a send.");

static PyObject *
letters_add(letters_object *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "add() takes an item and its send");
        return NULL;
    }
    letter *new = PyObject_Calloc(1, sizeof(*new));
    if (new == NULL) {
        return PyErr_NoMemory();
    }
    new->item = args[0];
    new->sent = Py_NewRef(args[1]);
    if (!kobs_letters_add(self, new)) {
        kobs_letter_free(new);
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(remove_doc, "remove(item, sent)\n\nForget a send that did not happen.");

static PyObject *
letters_remove(letters_object *self, PyObject *const *args, Py_ssize_t count)
{
    letter *taken;

    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "remove() takes an item and its send");
        return NULL;
    }
    KOBS_LOCK(self)
    taken = find(self, args[0], 0, args[1]);
    KOBS_UNLOCK()
    kobs_letter_free(taken);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(take_doc, "take(item) -> Sent | None\n\nThe send of a received item; None if it is "
                       "not known, or not which one of several.");

static PyObject *
letters_take(letters_object *self, PyObject *item)
{
    letter *taken = kobs_letters_take(self, item);

    if (taken == NULL) {
        Py_RETURN_NONE;
    }
    PyObject *sent = kobs_letter_sent(self, taken);
    kobs_letter_free(taken);
    return sent;
}

/* -- the type -------------------------------------------------------------------------------- */

static PyObject *
letters_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"queue", "label", "order", "limit", "make_sent", "cause_type", NULL};
    static const char *const orders[] = {"first", "last", "any"};
    PyObject *queue, *label, *make_sent, *cause_type;
    const char *order;
    Py_ssize_t limit;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OOsnOO!:Letters", names, &queue, &label,
                                     &order, &limit, &make_sent, &PyType_Type, &cause_type)) {
        return NULL;
    }
    int which = 0;
    while (which < 3 && strcmp(order, orders[which]) != 0) {
        which++;
    }
    if (which == 3 || limit < 1) {
        PyErr_SetString(PyExc_ValueError, "no such order, or a limit below 1");
        return NULL;
    }
    letters_object *self = (letters_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->queue = Py_NewRef(queue);
        self->label = Py_NewRef(label);
        self->make_sent = Py_NewRef(make_sent);
        self->cause_type = Py_NewRef(cause_type);
        self->order = (kobs_order)which;
        self->limit = limit;
    }
    return (PyObject *)self;
}

static int
letters_traverse(letters_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->queue);
    Py_VISIT(self->make_sent);
    Py_VISIT(self->cause_type);
    for (letter *each = self->first; each != NULL; each = each->after) {
        Py_VISIT(each->sent);
        Py_VISIT(each->cause);
    }
    return 0;
}

static int
letters_clear(letters_object *self)
{
    letter *each = self->first;

    self->first = self->last = NULL;
    self->count = 0;
    free(self->buckets);
    self->buckets = NULL;
    self->mask = 0;
    while (each != NULL) {
        letter *after = each->after;
        kobs_letter_free(each);
        each = after;
    }
    Py_CLEAR(self->queue);
    Py_CLEAR(self->make_sent);
    Py_CLEAR(self->cause_type);
    return 0;
}

static void
letters_dealloc(letters_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    letters_clear(self);
    Py_CLEAR(self->label);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"add", (PyCFunction)(void (*)(void))letters_add, METH_FASTCALL, add_doc},
    {"remove", (PyCFunction)(void (*)(void))letters_remove, METH_FASTCALL, remove_doc},
    {"take", (PyCFunction)letters_take, METH_O, take_doc},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
    {"queue", T_OBJECT_EX, offsetof(letters_object, queue), READONLY,
     PyDoc_STR("A weak reference to the queue.")},
    {"label", T_OBJECT_EX, offsetof(letters_object, label), READONLY,
     PyDoc_STR("What the queue is called.")},
    {"level", T_PYSSIZET, offsetof(letters_object, level), 0,
     PyDoc_STR("The depth that was told last.")},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The sends into one queue that were not received yet, by identity of the item."},
    {Py_tp_new, letters_new},
    {Py_tp_dealloc, letters_dealloc},
    {Py_tp_traverse, letters_traverse},
    {Py_tp_clear, letters_clear},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "kobs._core._native.Letters",
    .basicsize = sizeof(letters_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

bool
kobs_is_letters(PyObject *object)
{
    return Py_TYPE(object)->tp_dealloc == (destructor)letters_dealloc;
}

int
kobs_add_letters_type(PyObject *module)
{
    return kobs_add_type(module, &spec);
}
