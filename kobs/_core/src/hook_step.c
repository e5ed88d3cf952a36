/* `StepHook`: stands in for the method of asyncio's `Handle` that runs a step of the loop. It tells
 * how long a task waited to run and that it awaits again, and goes to Python only for a step that
 * took long or ended its task. It adds no frame. The Python twin is a stand-in of `_patch` with the
 * hooks of the watch `scheduler`. */

#include "emitter.h"
#include "hook.h"
#include "stand_in.h"

enum {
    STEPS_A_SECOND = 100, /* are told of those that began soon, where only some are to be */
    LATE_NS = 1000000,
};

typedef struct {
    kobs_stand_in head;   /* for a function of one argument, the handle */
    PyObject *after;      /* callable((handle, callback, began_ns), None) */
    PyObject *tasks;      /* dict: identities of the tasks that have not ended */
    PyObject *live;       /* list: empty once nobody watches */
    PyObject *where, *tell;
    PyTypeObject *handles;                     /* of the handles; where they keep things, or 0: */
    Py_ssize_t callback_offset, context_offset;
    kobs_wakes *wakes;
    PyTypeObject *c_tasks; /* asyncio's in C, or NULL: its method says whether one is done */
    PyMethodDef *c_done;
    PyObject *callback_name, *context_name, *self_name, *done_name, *step_name, *wakeup_name;
    PyObject *awaits, *zero; /* fields of a switch */
    uint64_t stall_ns;
    emitter_object *latency, *switched; /* NULL: nobody wants such events */
    bool some;                          /* of the steps are to be told, not all */
    kobs_second told;
} step_object;

/* One step. */
typedef struct {
    PyObject *handle, *callback;
    uint64_t ready, began; /* when; 0: not known */
    PyObject *task;        /* that it goes on with; NULL: with none */
    PyObject *number;      /* of its task, where the step is to be told; else NULL */
} step;

/* What a handle has under a name: where its type keeps it, or by asking. */
static PyObject *
of_handle(const step_object *self, PyObject *handle, Py_ssize_t offset, PyObject *name)
{
    if (offset == 0 || !PyObject_TypeCheck(handle, self->handles)) {
        return PyObject_GetAttr(handle, name);
    }
    PyObject *found = kobs_slot_at(handle, offset);
    return found != NULL ? found : Py_NewRef(Py_None);
}

/* What a callback is bound to, a new reference; NULL where it is to nothing, or of a kind that the
 * program made: no code of the program is run. */
static PyObject *
bound_to(const step_object *self, PyObject *callback)
{
    if (PyCFunction_CheckExact(callback)) {
        return Py_XNewRef(PyCFunction_GET_SELF(callback));
    }
    if (PyMethod_Check(callback)) {
        return Py_NewRef(PyMethod_GET_SELF(callback));
    }
    PyTypeObject *type = Py_TYPE(callback);
    PyObject *descriptor = kobs_class_attribute(type, self->self_name), *found = NULL;
    if (descriptor != NULL && (Py_IS_TYPE(descriptor, &PyGetSetDescr_Type)
                               || Py_IS_TYPE(descriptor, &PyMemberDescr_Type))) {
        found = Py_TYPE(descriptor)->tp_descr_get(descriptor, callback, (PyObject *)type);
        if (found == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
        }
    }
    Py_XDECREF(descriptor);
    return found;
}

/* The number of a task, a new reference; NULL where it is none that is known, perhaps with an
 * exception set. */
static PyObject *
number_of(const step_object *self, PyObject *task)
{
    PyObject *key = PyLong_FromVoidPtr(task), *number = NULL;

    if (key != NULL) {
        (void)kobs_dict_item(self->tasks, key, &number);
        Py_DECREF(key);
    }
    return number;
}

/* -1 with an exception set. */
static int
is_done(const step_object *self, PyObject *task)
{
    PyObject *done = Py_IS_TYPE(task, self->c_tasks)
                         ? self->c_done->ml_meth(task, NULL)
                         : PyObject_CallMethodNoArgs(task, self->done_name);
    int is = done == NULL ? -1 : PyObject_IsTrue(done);

    Py_XDECREF(done);
    return is;
}

/* Whether what a callback is bound to may be a task, by its type. */
static bool
may_be_task(const step_object *self, PyObject *callback)
{
    if (!PyMethod_Check(callback)) {
        return !PyFunction_Check(callback);
    }
    PyObject *found = kobs_class_attribute(Py_TYPE(PyMethod_GET_SELF(callback)), self->done_name);
    Py_XDECREF(found);
    return found != NULL;
}

/* Whether the step was the last of a task that is known; -1 with an exception set. */
static int
ended_task(const step_object *self, const step *now)
{
    PyObject *task = Py_XNewRef(now->task);
    int ended = 0;

    if (task == NULL && may_be_task(self, now->callback)) {
        task = bound_to(self, now->callback);
    }
    if (task != NULL && (now->task == NULL || (ended = is_done(self, task)) > 0)) {
        PyObject *number = number_of(self, task);
        ended = number == NULL ? 0 : ended > 0 ? 1 : is_done(self, task);
        Py_XDECREF(number);
    }
    Py_XDECREF(task);
    return PyErr_Occurred() ? -1 : ended;
}

/* A callback that goes on with a task, as a task of either make schedules it; others may be bound to
 * one too. */
static bool
goes_on(const step_object *self, PyObject *callback)
{
    if (PyCFunction_CheckExact(callback)) {
        return strcmp(((PyCFunctionObject *)callback)->m_ml->ml_name, "task_wakeup") == 0;
    }
    if (PyMethod_Check(callback)) {
        PyObject *function = PyMethod_GET_FUNCTION(callback);
        PyObject *name = PyFunction_Check(function) ? ((PyFunctionObject *)function)->func_name
                                                    : NULL;
        return name == self->step_name || name == self->wakeup_name;
    }
    return !PyFunction_Check(callback)
           && (strcmp(Py_TYPE(callback)->tp_name, "TaskStepMethWrapper") == 0
               || strcmp(Py_TYPE(callback)->tp_name, "_asyncio.TaskStepMethWrapper") == 0);
}

/* -- telling ------------------------------------------------------------------------------------ */

static void
leave_out(step_object *self, emitter_object **at)
{
    emitter_object *emitter = kobs_held(self, at);

    kobs_count_left_out(emitter);
    Py_XDECREF(emitter);
}

/* Record an event in the context of the step. */
static int
emit_in(step_object *self, PyObject *handle, emitter_object **by, PyObject *const *fields)
{
    PyObject *context = of_handle(self, handle, self->context_offset, self->context_name);
    emitter_object *emitter = kobs_held(self, by);
    kobs_given given = {0};
    uint64_t event;
    int64_t entry;
    int done = 0;

    bool inside = context != NULL && PyContext_CheckExact(context) && PyContext_Enter(context) == 0;
    if (!inside) { /* it is in use, or none */
        PyErr_Clear();
    }
    if (emitter != NULL) {
        done = kobs_emit(emitter, fields, &given, &event, &entry);
    }
    if (inside) {
        PyObject *error = done < 0 ? kobs_hook_catch() : NULL;
        done = PyContext_Exit(context) < 0 ? -1 : done;
        if (error != NULL) {
            kobs_hook_raise(error);
        }
    }
    Py_XDECREF(emitter);
    Py_XDECREF(context);
    return done;
}

static int
tell_latency(step_object *self, const step *now)
{
    PyObject *microseconds = PyFloat_FromDouble((double)(now->began - now->ready) / 1e3);
    int done = -1;

    if (microseconds != NULL) {
        done = emit_in(self, now->handle, &self->latency, &microseconds);
    }
    Py_XDECREF(microseconds);
    return done;
}

static int
tell_switch(step_object *self, const step *now)
{
    PyObject *fields[] = {now->number, self->zero, self->awaits};

    return emit_in(self, now->handle, &self->switched, fields);
}

/* The step of a task begins: see whether it is to be told. */
static int
begin(step_object *self, step *now)
{
    bool late = now->ready != 0 && now->began - now->ready >= LATE_NS;

    if (__atomic_load_n(&self->some, __ATOMIC_RELAXED) && !late
        && !kobs_first_of(&self->told, now->began, STEPS_A_SECOND)) {
        if (now->ready != 0) {
            leave_out(self, &self->latency);
        }
        leave_out(self, &self->switched);
        return 0;
    }
    now->number = number_of(self, now->task);
    if (now->number == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    return now->ready == 0 ? 0 : tell_latency(self, now);
}

static int
end(step_object *self, const step *now)
{
    bool stalled = kobs_now() - now->began >= self->stall_ns;
    int ended = ended_task(self, now);

    if (ended < 0) {
        return -1;
    }
    if (stalled || ended) {
        PyObject *state = Py_BuildValue("(OOK)", now->handle, now->callback,
                                        (unsigned long long)now->began);
        PyObject *done = state == NULL ? NULL : kobs_hook_run(self->after, state, Py_None);
        Py_XDECREF(state);
        Py_XDECREF(done);
        if (done == NULL) {
            return -1;
        }
    }
    return now->number == NULL || ended ? 0 : tell_switch(self, now);
}

/* Do one of them; false for an interrupt. */
static bool
quietly(step_object *self, int done)
{
    return done >= 0 || kobs_hook_swallow(self->tell, self->where);
}

static PyObject *
step_call(PyObject *called, PyObject *const *args, size_t count, PyObject *names)
{
    step_object *self = (step_object *)called;
    step now = {0};

    if (!kobs_busy && PyList_GET_SIZE(self->live) > 0 && PyVectorcall_NARGS(count) > 0) {
        now.callback = of_handle(self, args[0], self->callback_offset, self->callback_name);
        if (now.callback == NULL && !kobs_hook_swallow(self->tell, self->where)) {
            return NULL;
        }
    }
    if (now.callback == NULL) {
        return PyObject_Vectorcall(self->head.function, args, count, names);
    }
    PyObject *result = NULL;
    bool fine = true;
    now.handle = Py_NewRef(args[0]);
    now.ready = kobs_wake_take(self->wakes, now.handle, now.callback);
    now.began = kobs_now();
    if (goes_on(self, now.callback)) {
        kobs_busy = true;
        now.task = bound_to(self, now.callback);
        bool tells = now.task != NULL && __atomic_load_n(&self->latency, __ATOMIC_RELAXED) != NULL;
        fine = quietly(self, PyErr_Occurred() ? -1 : tells ? begin(self, &now) : 0);
        kobs_busy = false;
    }
    if (fine) {
        result = PyObject_Vectorcall(self->head.function, args, count, names);
    }
    if (result != NULL && !kobs_busy) {
        kobs_busy = true;
        if (!quietly(self, end(self, &now))) {
            Py_CLEAR(result);
        }
        kobs_busy = false;
    }
    Py_XDECREF(now.number);
    Py_XDECREF(now.task);
    Py_DECREF(now.callback);
    Py_DECREF(now.handle);
    return result;
}

PyDoc_STRVAR(aim_doc,
             "aim(latency, switched, some)\n\n"
             "Record steps of tasks by these emitters of `SchedulerLatency` and `ContextSwitch`; "
             "None: not at all.\nWith `some`, of those that waited less than 1 ms a hundred a second "
             "are recorded, the others counted.");

static PyObject *
step_aim(step_object *self, PyObject *args)
{
    core_state *state = PyType_GetModuleState(Py_TYPE(self));
    PyObject *given[2];
    emitter_object **at[] = {&self->latency, &self->switched}, *before[2];
    int some;

    if (!PyArg_ParseTuple(args, "OOp:aim", &given[0], &given[1], &some)) {
        return NULL;
    }
    for (int index = 0; index < 2; index++) {
        if (given[index] != Py_None && !Py_IS_TYPE(given[index], state->emitter_type)) {
            return PyErr_Format(PyExc_TypeError, "expected an Emitter or None, got %R",
                                given[index]);
        }
    }
    KOBS_LOCK(self)
    for (int index = 0; index < 2; index++) {
        before[index] = *at[index];
        PyObject *now = given[index] == Py_None ? NULL : Py_NewRef(given[index]);
        __atomic_store_n(at[index], (emitter_object *)now, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&self->some, some, __ATOMIC_RELAXED);
    KOBS_UNLOCK()
    for (int index = 0; index < 2; index++) {
        Py_XDECREF(before[index]);
    }
    Py_RETURN_NONE;
}

/* -- the type ------------------------------------------------------------------------------------ */

/* See whether tasks of a type can be asked whether they are done without a look-up: nobody can make
 * its method another. */
static void
find_done(step_object *self, PyObject *tasks)
{
    if (!PyType_Check(tasks)
        || !PyType_HasFeature((PyTypeObject *)tasks, Py_TPFLAGS_IMMUTABLETYPE)) {
        return;
    }
    PyObject *found = kobs_class_attribute((PyTypeObject *)tasks, self->done_name);
    if (found != NULL && Py_IS_TYPE(found, &PyMethodDescr_Type)
        && ((PyMethodDescrObject *)found)->d_method->ml_flags == METH_NOARGS) {
        self->c_tasks = (PyTypeObject *)Py_NewRef(tasks);
        self->c_done = ((PyMethodDescrObject *)found)->d_method; /* as long as the type */
    }
    Py_XDECREF(found);
}

static PyObject *
step_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"original", "after", "tasks", "stall_ms", "live", "where", "tell",
                            "handles", "c_tasks", NULL};
    PyObject *original, *after, *tasks, *live, *where, *tell, *handles, *c_tasks;
    double stall_ms;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "$OOO!dO!UOO!O:StepHook", names, &original,
                                     &after, &PyDict_Type, &tasks, &stall_ms, &PyList_Type, &live,
                                     &where, &tell, &PyType_Type, &handles, &c_tasks)) {
        return NULL;
    }
    step_object *self = (step_object *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->head.function = Py_NewRef(original);
    self->after = Py_NewRef(after);
    self->tasks = Py_NewRef(tasks);
    self->live = Py_NewRef(live);
    self->where = Py_NewRef(where);
    self->tell = Py_NewRef(tell);
    self->stall_ns = (uint64_t)(stall_ms * 1e6);
    self->head.vectorcall = step_call;
    self->callback_name = PyUnicode_InternFromString("_callback");
    self->self_name = PyUnicode_InternFromString("__self__");
    self->done_name = PyUnicode_InternFromString("done");
    self->context_name = PyUnicode_InternFromString("_context");
    self->step_name = PyUnicode_InternFromString("__step");
    self->wakeup_name = PyUnicode_InternFromString("__wakeup");
    self->awaits = PyUnicode_InternFromString("task awaits");
    self->zero = PyLong_FromLong(0);
    if (self->callback_name == NULL || self->self_name == NULL || self->done_name == NULL
        || self->context_name == NULL || self->step_name == NULL || self->wakeup_name == NULL
        || self->awaits == NULL || self->zero == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->wakes = kobs_wakes_of(type);
    self->handles = (PyTypeObject *)Py_NewRef(handles);
    self->callback_offset = kobs_slot_offset(handles, self->callback_name);
    self->context_offset = kobs_slot_offset(handles, self->context_name);
    find_done(self, c_tasks);
    return (PyObject *)self;
}

static int
step_traverse(step_object *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->head.function);
    Py_VISIT(self->after);
    Py_VISIT(self->tasks);
    Py_VISIT(self->live);
    Py_VISIT(self->tell);
    Py_VISIT(self->handles);
    Py_VISIT(self->c_tasks);
    Py_VISIT(self->latency);
    Py_VISIT(self->switched);
    return 0;
}

static int
step_clear(step_object *self)
{
    Py_CLEAR(self->head.function);
    Py_CLEAR(self->after);
    Py_CLEAR(self->tasks);
    Py_CLEAR(self->live);
    Py_CLEAR(self->tell);
    Py_CLEAR(self->handles);
    Py_CLEAR(self->c_tasks);
    Py_CLEAR(self->latency);
    Py_CLEAR(self->switched);
    return 0;
}

static void
step_dealloc(step_object *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (self->head.weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    step_clear(self);
    Py_CLEAR(self->where);
    Py_CLEAR(self->callback_name);
    Py_CLEAR(self->self_name);
    Py_CLEAR(self->done_name);
    Py_CLEAR(self->context_name);
    Py_CLEAR(self->step_name);
    Py_CLEAR(self->wakeup_name);
    Py_CLEAR(self->awaits);
    Py_CLEAR(self->zero);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMethodDef step_methods[] = {
    {"aim", (PyCFunction)step_aim, METH_VARARGS, aim_doc},
    {"__reduce_ex__", kobs_stand_in_reduce, METH_O, PyDoc_STR("By name.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot step_slots[] = {
    {Py_tp_new, step_new},
    {Py_tp_dealloc, step_dealloc},
    {Py_tp_traverse, step_traverse},
    {Py_tp_clear, step_clear},
    KOBS_STAND_IN_SLOTS,
    {Py_tp_getattro, kobs_stand_in_getattro_hidden},
    {Py_tp_methods, step_methods},
    {0, NULL},
};

static PyType_Spec step_spec = {
    .name = "kobs._core._native.StepHook",
    .basicsize = sizeof(step_object),
    .flags = KOBS_STAND_IN_FLAGS,
    .slots = step_slots,
};

int
kobs_add_step_type(PyObject *module)
{
    return kobs_add_type(module, &step_spec);
}
