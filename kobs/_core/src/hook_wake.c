/* `WakeHook`: stands in for the method of asyncio's loops that makes a step ready to run, and
 * remembers when: `StepHook` asks for it. The Python twin is in the watch `scheduler`. */

#include "hook.h"
#include "stand_in.h"

enum { WAKES_LOG2 = 12 };

/* Steps that have not begun, by handle. Neither is held: a handle that goes without having run may
 * leave its address to another, which has another callback. A step that another takes the place of
 * has no latency to tell. */
struct kobs_wakes {
    struct wake {
        const void *handle, *callback;
        uint64_t ready_ns;
    } at[1 << WAKES_LOG2];
};

/* Each interpreter has its own, which its lock guards, where it has one. */
#if KOBS_FREE_THREADED
#define HOLD() kobs_hook_lock()
#define RELEASE() kobs_hook_unlock()
#else
#define HOLD() ((void)0)
#define RELEASE() ((void)0)
#endif

kobs_wakes *
kobs_wakes_of(PyTypeObject *type)
{
    core_state *state = PyType_GetModuleState(type);

    kobs_hook_lock();
    if (state->wakes == NULL) { /* else, without memory, nothing is known of any */
        state->wakes = calloc(1, sizeof(kobs_wakes));
    }
    kobs_hook_unlock();
    return state->wakes;
}

static inline struct wake *
place_of(kobs_wakes *wakes, const PyObject *handle)
{
    return &wakes->at[((uintptr_t)handle >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> (64 - WAKES_LOG2)];
}

static void
put(kobs_wakes *wakes, const PyObject *handle, const PyObject *callback)
{
    struct wake *place = place_of(wakes, handle);

    HOLD();
    *place = (struct wake){handle, callback, kobs_now()};
    RELEASE();
}

uint64_t
kobs_wake_take(kobs_wakes *wakes, const PyObject *handle, const PyObject *callback)
{
    uint64_t ready = 0;

    if (wakes == NULL) {
        return 0;
    }
    struct wake *place = place_of(wakes, handle);
    HOLD();
    if (place->handle == handle) {
        ready = place->callback == callback ? place->ready_ns : 0;
        place->handle = NULL;
    }
    RELEASE();
    return ready;
}

/* -- the stand-in -------------------------------------------------------------------------------- */

typedef struct {
    kobs_stand_in head; /* for `_call_soon(loop, callback, args, context) -> handle` */
    PyObject *live;     /* list: empty once nobody watches */
    kobs_wakes *wakes;
} wake_object;

static PyObject *
wake_call(PyObject *called, PyObject *const *args, size_t count, PyObject *names)
{
    wake_object *self = (wake_object *)called;
    PyObject *callback = PyVectorcall_NARGS(count) > 1 ? args[1] : NULL;
    PyObject *handle = PyObject_Vectorcall(self->head.function, args, count, names);

    if (handle != NULL && callback != NULL && self->wakes != NULL && !kobs_busy
        && PyList_GET_SIZE(self->live) > 0) {
        put(self->wakes, handle, callback);
    }
    return handle;
}

static PyObject *
wake_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"original", "live", NULL};
    PyObject *original, *live;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OO!:WakeHook", names, &original,
                                     &PyList_Type, &live)) {
        return NULL;
    }
    if (!kobs_hook_prepare()) {
        return PyErr_NoMemory();
    }
    wake_object *self = (wake_object *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->head.function = Py_NewRef(original);
        self->head.vectorcall = wake_call;
        self->live = Py_NewRef(live);
        self->wakes = kobs_wakes_of(type);
    }
    return (PyObject *)self;
}

static int
wake_traverse(wake_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->head.function);
    Py_VISIT(self->live);
    return 0;
}

static int
wake_clear(wake_object *self)
{
    Py_CLEAR(self->head.function);
    Py_CLEAR(self->live);
    return 0;
}

static void
wake_dealloc(wake_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->head.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    wake_clear(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef wake_methods[] = {
    {"__reduce_ex__", kobs_stand_in_reduce, METH_O, PyDoc_STR("By name.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot wake_slots[] = {
    {Py_tp_new, wake_new},
    {Py_tp_dealloc, wake_dealloc},
    {Py_tp_traverse, wake_traverse},
    {Py_tp_clear, wake_clear},
    KOBS_STAND_IN_SLOTS,
    {Py_tp_getattro, kobs_stand_in_getattro_hidden},
    {Py_tp_methods, wake_methods},
    {0, NULL},
};

static PyType_Spec wake_spec = {
    .name = "kobs._core._native.WakeHook",
    .basicsize = sizeof(wake_object),
    .flags = KOBS_STAND_IN_FLAGS,
    .slots = wake_slots,
};

int
kobs_add_wake_type(PyObject *module)
{
    return kobs_add_type(module, &wake_spec);
}
