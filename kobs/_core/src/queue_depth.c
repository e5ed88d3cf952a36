/* How much a queue holds, without any code of the program. The Python twin is `_tell_depth` of the watch
 * `queue`, which tells it where a call is unusual. */

#include "queue_hook.h"

enum { SHALLOW = 8, QUIET_MOST = 64 };

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

/* How many a queue takes; 0 where that is not limited, or not known. -1 with an exception set. */
static Py_ssize_t
capacity_of(queue_watch *self, PyObject *queue)
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
    return known && most > 0 ? (Py_ssize_t)most : 0;
}

static int
record(queue_watch *self, letters_object *letters, Py_ssize_t depth, Py_ssize_t capacity)
{
    emitter_object *emitter = kobs_queue_emitter(self, &self->depth_event);
    kobs_given given = {.given = 0};
    uint64_t event;
    int64_t entry;
    int done = -1;

    __atomic_store_n(&letters->level, depth, __ATOMIC_RELAXED);
    if (emitter == NULL) {
        return 0;
    }
    PyObject *fields[] = {letters->label, PyLong_FromSsize_t(depth), PyLong_FromSsize_t(capacity)};
    if (fields[1] != NULL && fields[2] != NULL) {
        done = kobs_emit(emitter, fields, &given, &event, &entry);
    }
    Py_XDECREF(fields[1]);
    Py_XDECREF(fields[2]);
    Py_DECREF(emitter);
    return done;
}

/* Python finds out which observed call may say it, and what a receive that is held has to do with it. */
static int
tell(queue_watch *self, letters_object *letters, Py_ssize_t depth, Py_ssize_t capacity)
{
    PyObject *cause = NULL;
    bool usual = !kobs_queue_said(self, self->sends) && !kobs_queue_said(self, self->receives)
                 && kobs_queue_plain_cause(self, &cause);

    Py_XDECREF(cause);
    if (usual) {
        return record(self, letters, depth, capacity);
    }
    PyObject *done = PyErr_Occurred()
                         ? NULL : PyObject_CallOneArg(self->tell_depth, (PyObject *)letters);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* How many puts and gets, each of which changes the depth by one, pass before there is something to
 * tell. A program may change it in other ways too, so they are not many. */
static Py_ssize_t
quiet_for(Py_ssize_t depth, Py_ssize_t told, Py_ssize_t capacity)
{
    Py_ssize_t rise = (2 * told > SHALLOW ? 2 * told : SHALLOW) - depth;
    Py_ssize_t calls = rise < QUIET_MOST ? rise : QUIET_MOST;

    if (told > 0 && depth - told / 4 < calls) {
        calls = depth - told / 4;
    }
    if (capacity > depth && capacity - depth < calls) {
        calls = capacity - depth;
    }
    return calls > 0 ? calls - 1 : 0;
}

int
kobs_queue_tell_depth(const kobs_queue_site *site, letters_object *letters, PyObject *queue)
{
    Py_ssize_t quiet = __atomic_load_n(&letters->quiet, __ATOMIC_RELAXED), capacity = 0;

    if (quiet > 0) {
        __atomic_store_n(&letters->quiet, quiet - 1, __ATOMIC_RELAXED);
        return 0;
    }
    Py_ssize_t told = __atomic_load_n(&letters->level, __ATOMIC_RELAXED);
    Py_ssize_t depth = depth_of(site, queue);
    if (depth < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    bool risen = depth >= SHALLOW && depth >= 2 * told, fallen = told && depth <= told / 4;
    /* One in C is never full. */
    if ((risen || fallen || site->measure == NULL)
        && (capacity = capacity_of(site->watch, queue)) < 0) {
        return -1;
    }
    bool full = depth != 0 && depth == capacity && depth != told;
    if (risen || fallen || full) {
        return tell(site->watch, letters, depth, capacity);
    }
    __atomic_store_n(&letters->quiet, quiet_for(depth, told, capacity), __ATOMIC_RELAXED);
    return 0;
}
