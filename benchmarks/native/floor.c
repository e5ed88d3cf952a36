/* The floors that a recorder in C stands on: a call that does nothing, a clock, an atomic, and the
 * store of a slot. Each loop returns the seconds that it took; nothing can be left out of it. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__) || defined(__i386__)
#include <x86intrin.h>
#define HAS_TSC 1
#else
#define HAS_TSC 0
#endif

#define SLOT 192
#define SLOTS 65536

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static PyObject *
empty(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Py_RETURN_NONE;
}

/* A method descriptor that passes its call on to a function, and that is all. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *function;
} forward_object;

static PyObject *
forward_call(forward_object *self, PyObject *const *args, size_t count, PyObject *names)
{
    return PyObject_Vectorcall(self->function, args, count, names);
}

static PyObject *
forward_get(PyObject *self, PyObject *instance, PyObject *type)
{
    return instance == NULL ? Py_NewRef(self) : PyMethod_New(self, instance);
}

static PyObject *
forward_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    PyObject *function;
    if (!PyArg_ParseTuple(args, "O:Forward", &function))
        return NULL;
    forward_object *self = (forward_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->vectorcall = (vectorcallfunc)forward_call;
        self->function = Py_NewRef(function);
    }
    return (PyObject *)self;
}

static void
forward_dealloc(forward_object *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_DECREF(self->function);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMemberDef forward_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(forward_object, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot forward_slots[] = {
    {Py_tp_new, forward_new}, {Py_tp_dealloc, forward_dealloc}, {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, forward_get}, {Py_tp_members, forward_members}, {0, NULL},
};

static PyType_Spec forward_spec = {
    .name = "floor.Forward",
    .basicsize = sizeof(forward_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = forward_slots,
};

#define LOOP(name, before, body)                                                                  \
    static PyObject *name(PyObject *self, PyObject *argument)                                     \
    {                                                                                             \
        long long loops = PyLong_AsLongLong(argument);                                            \
        if (loops == -1 && PyErr_Occurred())                                                      \
            return NULL;                                                                          \
        before;                                                                                   \
        double began = now();                                                                     \
        for (long long i = 0; i < loops; i++) {                                                   \
            body;                                                                                 \
            __asm__ volatile("" ::: "memory");                                                    \
        }                                                                                         \
        return PyFloat_FromDouble(now() - began);                                                 \
    }

static atomic_uint_fast64_t cell;

LOOP(clock_gettime_, struct timespec t, clock_gettime(CLOCK_MONOTONIC, &t))
#if HAS_TSC
LOOP(rdtsc, volatile uint64_t sink, sink = __rdtsc())
#endif
LOOP(fetch_add, (void)0, atomic_fetch_add_explicit(&cell, 1, memory_order_relaxed))
LOOP(compare_exchange, uint_fast64_t seen = atomic_load(&cell),
     atomic_compare_exchange_strong_explicit(&cell, &seen, seen + 1, memory_order_acq_rel,
                                             memory_order_relaxed))

/* One cache line of header and what a small payload takes of the second, all around a ring of the
 * default size: it does not stay in the cache. */
static PyObject *
store_slot(PyObject *self, PyObject *argument)
{
    static char *ring;
    char event[80];
    long long loops = PyLong_AsLongLong(argument);
    if (loops == -1 && PyErr_Occurred())
        return NULL;
    if (ring == NULL) {
        if ((ring = malloc((size_t)SLOT * SLOTS)) == NULL)
            return PyErr_NoMemory();
        memset(ring, 1, (size_t)SLOT * SLOTS);
    }
    memset(event, 2, sizeof event);
    double began = now();
    for (long long i = 0; i < loops; i++) {
        memcpy(ring + (size_t)(i & (SLOTS - 1)) * SLOT, event, sizeof event);
        __asm__ volatile("" ::: "memory");
    }
    return PyFloat_FromDouble(now() - began);
}

/* The ambient context is changed and put back, as a span does. */
static PyObject *
change_context(PyObject *self, PyObject *argument)
{
    long long loops = PyLong_AsLongLong(argument);
    if (loops == -1 && PyErr_Occurred())
        return NULL;
    PyObject *variable = PyContextVar_New("floor", NULL);
    PyObject *token = NULL;
    double began = now();
    for (long long i = 0; variable != NULL && i < loops; i++) {
        token = PyContextVar_Set(variable, Py_None);
        if (token == NULL || PyContextVar_Reset(variable, token) < 0)
            break;
        Py_CLEAR(token);
    }
    double took = now() - began;
    Py_XDECREF(token);
    Py_XDECREF(variable);
    return PyErr_Occurred() ? NULL : PyFloat_FromDouble(took);
}

enum { FEW = 1000, LINE = 330 };

static char *
some(size_t size)
{
    static char *memory[2];
    char **found = &memory[size == (size_t)LINE * FEW];

    if (*found == NULL && (*found = malloc(size)) != NULL) {
        memset(*found, 0, size);
    }
    return *found;
}

/* Of each of 1,000 slots the stamp, the type and a duration, and the sum of these: one after the
 * other, as Python adds. */
static PyObject *
add_slot(PyObject *self, PyObject *argument)
{
    long long loops = PyLong_AsLongLong(argument);
    const char *ring = some((size_t)SLOT * FEW);
    double sum = 0.0;
    if (loops == -1 && PyErr_Occurred())
        return NULL;
    if (ring == NULL)
        return PyErr_NoMemory();
    double began = now();
    for (long long i = 0, at = 0; i < loops; i++, at = at + 1 == FEW ? 0 : at + 1) {
        const volatile uint64_t *slot = (const volatile uint64_t *)(ring + (size_t)at * SLOT);
        if (slot[0] != 0 || slot[7] != 0)
            break;
        sum += *(const volatile double *)(slot + 9);
    }
    double took = now() - began;
    return PyFloat_FromDouble(sum == 0.0 ? took : 0.0);
}

/* What a small event takes of each of 1,000 slots, copied to where such copies follow one another. */
static PyObject *
copy_slot(PyObject *self, PyObject *argument)
{
    static char copies[96 * FEW];
    long long loops = PyLong_AsLongLong(argument);
    const char *ring = some((size_t)SLOT * FEW);
    if (loops == -1 && PyErr_Occurred())
        return NULL;
    if (ring == NULL)
        return PyErr_NoMemory();
    double began = now();
    for (long long i = 0, at = 0; i < loops; i++, at = at + 1 == FEW ? 0 : at + 1) {
        memcpy(copies + (size_t)at * 96, ring + (size_t)at * SLOT, 96);
        __asm__ volatile("" ::: "memory");
    }
    return PyFloat_FromDouble(now() - began);
}

/* As many bytes as a line of JSON has, around 1,000 such lines. */
static PyObject *
copy_line(PyObject *self, PyObject *argument)
{
    char line[LINE];
    long long loops = PyLong_AsLongLong(argument);
    char *lines = some((size_t)LINE * FEW);
    if (loops == -1 && PyErr_Occurred())
        return NULL;
    if (lines == NULL)
        return PyErr_NoMemory();
    memset(line, '0', sizeof line);
    double began = now();
    for (long long i = 0, at = 0; i < loops; i++, at = at + 1 == FEW ? 0 : at + 1) {
        memcpy(lines + (size_t)at * LINE, line, sizeof line);
        __asm__ volatile("" ::: "memory");
    }
    return PyFloat_FromDouble(now() - began);
}

static PyMethodDef methods[] = {
    {"empty", (PyCFunction)(void (*)(void))empty, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"clock_gettime", clock_gettime_, METH_O, NULL},
#if HAS_TSC
    {"rdtsc", rdtsc, METH_O, NULL},
#endif
    {"fetch_add", fetch_add, METH_O, NULL},
    {"compare_exchange", compare_exchange, METH_O, NULL},
    {"store_slot", store_slot, METH_O, NULL},
    {"change_context", change_context, METH_O, NULL},
    {"add_slot", add_slot, METH_O, NULL},
    {"copy_slot", copy_slot, METH_O, NULL},
    {"copy_line", copy_line, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, .m_name = "floor", .m_size = -1, .m_methods = methods,
};

PyMODINIT_FUNC
PyInit_floor(void)
{
    PyObject *made = PyModule_Create(&module);
    PyObject *forward = made == NULL ? NULL : PyType_FromSpec(&forward_spec);
    if (forward == NULL || PyModule_AddObjectRef(made, "Forward", forward) < 0) {
        Py_CLEAR(made);
    }
    Py_XDECREF(forward);
    return made;
}
