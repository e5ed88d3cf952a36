/* Functions of modules: hooked in the function's object. */

#include "hook.h"

enum { CONVENTION_FLAGS = METH_VARARGS | METH_KEYWORDS | METH_NOARGS | METH_O | METH_FASTCALL };

static hook_slot slots[512];
static _Atomic size_t taken;

static hook_slot *
slot_behind(PyMethodDef *own)
{
    uintptr_t at = (uintptr_t)own;

    if (at < (uintptr_t)slots || at >= (uintptr_t)(slots + sizeof(slots) / sizeof(slots[0]))) {
        return NULL;
    }
    return (hook_slot *)(at - offsetof(hook_slot, own));
}

static vectorcallfunc
vectorcall_of(PyCFunctionObject *function)
{
    return __atomic_load_n(&function->vectorcall, __ATOMIC_ACQUIRE);
}

/* The two ways to a function are not exchanged at once. Ours is the first to be there and the last to
 * go: a definition whose flags say nothing is never there without it. */
static void
exchange_vectorcall(PyCFunctionObject *function, vectorcallfunc to)
{
    __atomic_store_n(&function->vectorcall, to, __ATOMIC_RELEASE);
}

static void
exchange_definition(PyCFunctionObject *function, PyMethodDef *to)
{
    __atomic_store_n(&function->m_ml, to, __ATOMIC_RELEASE);
}

/* The slot of a function that is called between the two exchanges; NULL where it is not hooked. */
static hook_slot *
slot_between(PyObject *function)
{
    size_t count = atomic_load_explicit(&taken, memory_order_acquire);

    for (size_t index = 0; index < count; index++) {
        if ((PyObject *)atomic_load_explicit(&slots[index].function, memory_order_acquire)
            == function) {
            return &slots[index];
        }
    }
    return NULL;
}

static PyObject *
function_vectorcall(PyObject *function, PyObject *const *args, size_t count, PyObject *names)
{
    PyMethodDef *own = __atomic_load_n(&((PyCFunctionObject *)function)->m_ml, __ATOMIC_ACQUIRE);
    hook_slot *slot = slot_behind(own);

    if (slot == NULL) {
        slot = slot_between(function);
    }
    if (slot == NULL) { /* the hook went between the interpreter's look at it and this */
        return PyObject_Vectorcall(function, args, count, names);
    }
#if !KOBS_FREE_THREADED
    hook_object *timed = slot->vectorcall == NULL ? NULL : kobs_hook_timed_alone(slot);
    if (timed != NULL) {
        return kobs_hook_timed_function(timed, slot->vectorcall, function, args, count, names);
    }
#endif
    return kobs_hooked(slot, function, (void *)args, (Py_ssize_t)count, names, NULL);
}

PyObject *
kobs_hook_pass_function(const hook_call *call)
{
    const hook_slot *slot = call->slot;

    if (slot->vectorcall != NULL) {
        return slot->vectorcall(call->self, call->args, (size_t)call->count, call->keywords);
    }
    PyObject *twin = atomic_load_explicit(&slot->twin, memory_order_acquire);
    if (twin == NULL) { /* the hook went: so did what would come back here */
        return PyObject_Vectorcall(call->self, call->args, (size_t)call->count, call->keywords);
    }
    Py_INCREF(twin);
    PyObject *result = PyObject_Vectorcall(twin, call->args, (size_t)call->count, call->keywords);
    Py_DECREF(twin);
    return result;
}

hook_slot *
kobs_hook_function(PyCFunctionObject *function)
{
    PyMethodDef *definition = function->m_ml;
    hook_slot *slot = slot_behind(definition);

    if (slot != NULL) {
        return slot;
    }
    if (definition->ml_flags & ~(CONVENTION_FLAGS | METH_COEXIST)
        || !(definition->ml_flags & CONVENTION_FLAGS)) {
        return NULL;
    }
    kobs_hook_lock();
    for (size_t index = 0; index < taken && slot == NULL; index++) {
        if (slots[index].definition == definition && slots[index].function == NULL) {
            slot = &slots[index];
        }
    }
    if (slot == NULL && taken < sizeof(slots) / sizeof(slots[0])) {
        slot = &slots[taken++];
        slot->convention = CALL_VECTOR;
        slot->definition = definition;
        slot->own = *definition;
        /* No way of calling that the interpreter knows a short cut for. */
        slot->own.ml_flags &= ~CONVENTION_FLAGS;
    }
    if (slot != NULL) {
        slot->vectorcall = function->vectorcall;
    }
    kobs_hook_unlock();
    return slot;
}

bool
kobs_hook_enter_function(hook_slot *slot, PyCFunctionObject *function)
{
    if (slot->function == function) {
        return true;
    }
    if (slot->function != NULL) {
        return false;
    }
    if (slot->vectorcall == NULL) {
        PyObject *twin = PyCFunction_NewEx(slot->definition, function->m_self, function->m_module);
        if (twin == NULL) {
            PyErr_Clear();
            return false;
        }
        slot->twin = twin;
    }
    slot->function = (PyCFunctionObject *)Py_NewRef(function);
    exchange_vectorcall(function, function_vectorcall);
    exchange_definition(function, &slot->own);
    return true;
}

void
kobs_hook_leave_function(hook_slot *slot)
{
    PyCFunctionObject *function = slot->function;
    PyObject *twin = slot->twin;

    if (function == NULL || vectorcall_of(function) != function_vectorcall) {
        return; /* somebody else's lies over ours, and is theirs to be taken away */
    }
    exchange_definition(function, slot->definition);
    exchange_vectorcall(function, slot->vectorcall);
    slot->function = NULL;
    slot->twin = NULL;
    Py_DECREF(function);
#if KOBS_FREE_THREADED
    (void)twin; /* somebody may be about to call it: it stays */
#else
    Py_XDECREF(twin);
#endif
}

void
kobs_hook_each_function(void (*visit)(hook_slot *, void *), void *arg)
{
    for (size_t index = 0; index < taken; index++) {
        visit(&slots[index], arg);
    }
}
