/* `QueueHook` around a method of a C type, and `QueueMethod` in the place of a method in Python, which
 * adds no frame: both put into or get from a queue. */

#include "queue_hook.h"
#include "stand_in.h"

/* -- what both have ------------------------------------------------------------------------------ */

static int
site_init(kobs_queue_site *site, PyObject *watch, int puts, Py_ssize_t timeout_at, PyObject *measure,
          PyObject *where)
{
    site->watch = (queue_watch *)Py_NewRef(watch);
    site->puts = puts;
    site->timeout_at = timeout_at;
    site->measure = measure == Py_None ? NULL : Py_NewRef(measure);
    site->where = Py_NewRef(where);
    site->item_name = PyUnicode_InternFromString("item");
    site->timeout_name = PyUnicode_InternFromString("timeout");
    return site->item_name == NULL || site->timeout_name == NULL ? -1 : 0;
}

static void
site_clear(kobs_queue_site *site)
{
    Py_CLEAR(site->watch);
    Py_CLEAR(site->measure);
    Py_CLEAR(site->where);
    Py_CLEAR(site->item_name);
    Py_CLEAR(site->timeout_name);
}

static bool
is_watch(PyTypeObject *of, PyObject *given)
{
    PyObject *module = PyType_GetModule(of);
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "QueueWatch");
    bool is = type != NULL && Py_IS_TYPE(given, (PyTypeObject *)type);

    Py_XDECREF(type);
    if (!is && !PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "expected a QueueWatch, got %R", given);
    }
    return is;
}

/* -- a method of a C type ------------------------------------------------------------------------ */

static bool
is_array(const hook_call *call)
{
    call_convention convention = call->slot->convention;

    return convention == CALL_NOARGS || convention == CALL_FAST || convention == CALL_FAST_KEYWORDS
           || convention == CALL_METHOD;
}

PyObject *
kobs_hook_queue(hook_object *hook, hook_object *const *inner, unsigned count, const hook_call *call)
{
    const kobs_queue_site *site = hook->site;
    kobs_queue_call made;

    if (!is_array(call)) {
        return kobs_hook_inner(inner, count, call);
    }
    if (!kobs_queue_begin(site, &made, call->self, call->args,
                          PyVectorcall_NARGS((size_t)call->count), call->keywords)) {
        return NULL;
    }
    PyObject *result = kobs_hook_inner(inner, count, call);
    return kobs_queue_end(site, &made, call->self, result);
}

static PyObject *
hook_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"watch", "puts", "timeout_at", "measure", "where", NULL};
    PyObject *watch, *measure, *where;
    Py_ssize_t timeout_at;
    int puts;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OpnOU:QueueHook", names, &watch, &puts,
                                     &timeout_at, &measure, &where)
        || !is_watch(type, watch)) {
        return NULL;
    }
    kobs_queue_site *site = PyMem_Calloc(1, sizeof(*site));
    hook_object *self = site == NULL ? NULL : (hook_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        PyMem_Free(site);
        return site == NULL ? PyErr_NoMemory() : NULL;
    }
    self->site = site;
    if (site_init(site, watch, puts, timeout_at, measure, where) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
hook_traverse(hook_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->site->watch);
    Py_VISIT(self->site->measure);
    return 0;
}

static int
hook_clear(hook_object *self)
{
    site_clear(self->site);
    return 0;
}

static void
hook_dealloc(hook_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    site_clear(self->site);
    PyMem_Free(self->site);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyType_Slot hook_slots[] = {
    {Py_tp_doc, "Around a method of a C type that puts into or gets from a queue."},
    {Py_tp_new, hook_new},
    {Py_tp_dealloc, hook_dealloc},
    {Py_tp_traverse, hook_traverse},
    {Py_tp_clear, hook_clear},
    {Py_tp_methods, kobs_hook_methods},
    {0, NULL},
};

static PyType_Spec hook_spec = {
    .name = "kobs._core._native.QueueHook",
    .basicsize = sizeof(hook_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = hook_slots,
};

/* -- a method in Python -------------------------------------------------------------------------- */

typedef struct {
    kobs_stand_in head;
    kobs_queue_site site;
    PyObject *live; /* list: empty once nobody watches */
} method_object;

static PyObject *
method_call(PyObject *called, PyObject *const *args, size_t flagged, PyObject *names)
{
    method_object *self = (method_object *)called;
    Py_ssize_t count = PyVectorcall_NARGS(flagged);
    kobs_queue_call made;

    if (kobs_busy || count == 0 || PyList_GET_SIZE(self->live) == 0) {
        return PyObject_Vectorcall(self->head.function, args, flagged, names);
    }
    Py_INCREF(self);
    PyObject *result = NULL;
    if (kobs_queue_begin(&self->site, &made, args[0], args + 1, count - 1, names)) {
        result = PyObject_Vectorcall(self->head.function, args, flagged, names);
        result = kobs_queue_end(&self->site, &made, args[0], result);
    }
    Py_DECREF(self);
    return result;
}

static PyObject *
method_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"original", "watch", "puts", "timeout_at", "live", "where", NULL};
    PyObject *original, *watch, *live, *where;
    Py_ssize_t timeout_at;
    int puts;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OOpnO!U:QueueMethod", names, &original,
                                     &watch, &puts, &timeout_at, &PyList_Type, &live, &where)
        || !is_watch(type, watch)) {
        return NULL;
    }
    method_object *self = (method_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->head.vectorcall = method_call;
    self->head.function = Py_NewRef(original);
    self->live = Py_NewRef(live);
    if (site_init(&self->site, watch, puts, timeout_at, Py_None, where) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int
method_traverse(method_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->head.function);
    Py_VISIT(self->site.watch);
    Py_VISIT(self->live);
    return 0;
}

static void
method_dealloc(method_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->head.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    site_clear(&self->site);
    Py_CLEAR(self->head.function);
    Py_CLEAR(self->live);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef method_methods[] = {
    {"__reduce_ex__", kobs_stand_in_reduce, METH_O, PyDoc_STR("By name.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot method_slots[] = {
    {Py_tp_new, method_new},
    {Py_tp_dealloc, method_dealloc},
    {Py_tp_traverse, method_traverse},
    KOBS_STAND_IN_SLOTS,
    {Py_tp_getattro, kobs_stand_in_getattro},
    {Py_tp_methods, method_methods},
    {0, NULL},
};

static PyType_Spec method_spec = {
    .name = "kobs._core._native.QueueMethod",
    .basicsize = sizeof(method_object),
    .flags = KOBS_STAND_IN_FLAGS,
    .slots = method_slots,
};

int
kobs_add_queue_types(PyObject *module)
{
    bool added = kobs_add_letters_type(module) == 0 && kobs_add_queue_watch_type(module) == 0
                 && kobs_add_type(module, &hook_spec) == 0
                 && kobs_add_type(module, &method_spec) == 0;

    return added ? 0 : -1;
}
