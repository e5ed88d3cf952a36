/* Methods of C types: entries in place of their own, for each calling convention. */

#include "hook.h"

#include <fcntl.h>
#include <unistd.h>

/* -- passing a call on ----------------------------------------------------------------------- */

PyObject *
kobs_hook_pass(const hook_call *call)
{
    PyCFunction function = call->slot->original;
    PyObject *self = call->self, *keywords = call->keywords;
    PyObject *const *args = call->args;

    switch (call->slot->convention) {
    case CALL_FAST:
        return ((PyObject * (*)(PyObject *, PyObject *const *, Py_ssize_t))(void (*)(void))function)(
            self, args, call->count);
    case CALL_FAST_KEYWORDS:
        return ((PyObject * (*)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *))(
            void (*)(void))function)(self, args, call->count, keywords);
    case CALL_METHOD:
        return ((PyCMethod)(void (*)(void))function)(self, call->defining, args,
                                                     (size_t)call->count, keywords);
    case CALL_VARARGS_KEYWORDS:
        return ((PyCFunctionWithKeywords)(void (*)(void))function)(self, call->args, keywords);
    case CALL_VECTOR: return kobs_hook_pass_function(call);
    default:
        return function(self, call->args);
    }
}

/* -- the pool -------------------------------------------------------------------------------- */

#define SIXTEEN(make, row)                                                                         \
    make(row##0) make(row##1) make(row##2) make(row##3) make(row##4) make(row##5) make(row##6)     \
    make(row##7) make(row##8) make(row##9) make(row##a) make(row##b) make(row##c) make(row##d)     \
    make(row##e) make(row##f)

#define SOME(make)                                                                                 \
    SIXTEEN(make, 0) SIXTEEN(make, 1) SIXTEEN(make, 2) SIXTEEN(make, 3) SIXTEEN(make, 4)           \
    SIXTEEN(make, 5) SIXTEEN(make, 6) SIXTEEN(make, 7)

#define MANY(make)                                                                                 \
    SOME(make)                                                                                     \
    SIXTEEN(make, 8) SIXTEEN(make, 9) SIXTEEN(make, a) SIXTEEN(make, b) SIXTEEN(make, c)           \
    SIXTEEN(make, d) SIXTEEN(make, e) SIXTEEN(make, f)

static hook_slot noargs[128], one[128], varargs[128], varargs_keywords[128], fast[256],
    fast_keywords[256], method[128];

#define NOARGS(at)                                                                                 \
    static PyObject *noargs_##at(PyObject *self, PyObject *none)                                   \
    {                                                                                              \
        return kobs_hooked(&noargs[0x##at], self, none, 0, NULL, NULL);                            \
    }
#define ONE(at)                                                                                    \
    static PyObject *one_##at(PyObject *self, PyObject *value)                                     \
    {                                                                                              \
        return kobs_hooked(&one[0x##at], self, value, 1, NULL, NULL);                              \
    }
#define VARARGS(at)                                                                                \
    static PyObject *varargs_##at(PyObject *self, PyObject *args)                                  \
    {                                                                                              \
        return kobs_hooked(&varargs[0x##at], self, args, 0, NULL, NULL);                           \
    }
#define VARARGS_KEYWORDS(at)                                                                       \
    static PyObject *varargs_keywords_##at(PyObject *self, PyObject *args, PyObject *keywords)     \
    {                                                                                              \
        return kobs_hooked(&varargs_keywords[0x##at], self, args, 0, keywords, NULL);              \
    }
#define FAST(at)                                                                                   \
    static PyObject *fast_##at(PyObject *self, PyObject *const *args, Py_ssize_t count)            \
    {                                                                                              \
        return kobs_hooked(&fast[0x##at], self, (void *)args, count, NULL, NULL);                  \
    }
#define FAST_KEYWORDS(at)                                                                          \
    static PyObject *fast_keywords_##at(PyObject *self, PyObject *const *args, Py_ssize_t count,   \
                                        PyObject *keywords)                                        \
    {                                                                                              \
        return kobs_hooked(&fast_keywords[0x##at], self, (void *)args, count, keywords, NULL);     \
    }
#define METHOD(at)                                                                                 \
    static PyObject *method_##at(PyObject *self, PyTypeObject *defining, PyObject *const *args,    \
                                 size_t count, PyObject *keywords)                                 \
    {                                                                                              \
        return kobs_hooked(&method[0x##at], self, (void *)args, (Py_ssize_t)count, keywords,       \
                           defining);                                                              \
    }

SOME(NOARGS)
SOME(ONE)
SOME(VARARGS)
SOME(VARARGS_KEYWORDS)
MANY(FAST)
MANY(FAST_KEYWORDS)
SOME(METHOD)

#define NAMED(at, kind) (PyCFunction)(void (*)(void))kind##_##at,
#define NAME_NOARGS(at) NAMED(at, noargs)
#define NAME_ONE(at) NAMED(at, one)
#define NAME_VARARGS(at) NAMED(at, varargs)
#define NAME_VARARGS_KEYWORDS(at) NAMED(at, varargs_keywords)
#define NAME_FAST(at) NAMED(at, fast)
#define NAME_FAST_KEYWORDS(at) NAMED(at, fast_keywords)
#define NAME_METHOD(at) NAMED(at, method)

static const PyCFunction noargs_entries[] = {SOME(NAME_NOARGS)}, one_entries[] = {SOME(NAME_ONE)},
                         varargs_entries[] = {SOME(NAME_VARARGS)},
                         varargs_keywords_entries[] = {SOME(NAME_VARARGS_KEYWORDS)},
                         fast_entries[] = {MANY(NAME_FAST)},
                         fast_keywords_entries[] = {MANY(NAME_FAST_KEYWORDS)},
                         method_entries[] = {SOME(NAME_METHOD)};

#define POOL(kind) {kind, kind##_entries, sizeof(kind) / sizeof(kind[0]), 0}

static struct {
    hook_slot *slots;
    const PyCFunction *entries;
    size_t room, taken;
} pools[CALL_VECTOR] = {
    [CALL_NOARGS] = POOL(noargs),
    [CALL_O] = POOL(one),
    [CALL_VARARGS] = POOL(varargs),
    [CALL_VARARGS_KEYWORDS] = POOL(varargs_keywords),
    [CALL_FAST] = POOL(fast),
    [CALL_FAST_KEYWORDS] = POOL(fast_keywords),
    [CALL_METHOD] = POOL(method),
};

/* -- which methods ------------------------------------------------------------------------------- */

static int
convention_of(const PyMethodDef *definition)
{
    switch (definition->ml_flags & ~(METH_CLASS | METH_STATIC | METH_COEXIST)) {
    case METH_NOARGS: return CALL_NOARGS;
    case METH_O: return CALL_O;
    case METH_VARARGS: return CALL_VARARGS;
    case METH_VARARGS | METH_KEYWORDS: return CALL_VARARGS_KEYWORDS;
    case METH_FASTCALL: return CALL_FAST;
    case METH_FASTCALL | METH_KEYWORDS: return CALL_FAST_KEYWORDS;
    case METH_METHOD | METH_FASTCALL | METH_KEYWORDS: return CALL_METHOD;
    default: return -1;
    }
}

/* Whether memory may be written: the kernel is asked to put what is there, there. */
static bool
writable(PyMethodDef *definition)
{
    PyCFunction *at = &definition->ml_meth;
    int ends[2];

#ifdef HAVE_PIPE2
    if (pipe2(ends, O_CLOEXEC) < 0) {
#else
    if (pipe(ends) < 0) {
#endif
        return false;
    }
    bool may = write(ends[1], at, sizeof(*at)) == sizeof(*at)
               && read(ends[0], at, sizeof(*at)) == sizeof(*at);
    close(ends[0]);
    close(ends[1]);
    return may;
}

hook_slot *
kobs_hook_method(PyMethodDef *definition)
{
    int convention = convention_of(definition);
    hook_slot *slot = NULL;

    if (convention < 0) {
        return NULL;
    }
    kobs_hook_lock();
    size_t taken = pools[convention].taken;
    for (size_t index = 0; index < taken && slot == NULL; index++) {
        if (pools[convention].slots[index].definition == definition) {
            slot = &pools[convention].slots[index];
        }
    }
    if (slot == NULL && taken < pools[convention].room && writable(definition)) {
        slot = &pools[convention].slots[taken];
        slot->definition = definition;
        slot->original = definition->ml_meth;
        slot->entry = pools[convention].entries[taken];
        slot->convention = (call_convention)convention;
        pools[convention].taken++;
    }
    kobs_hook_unlock();
    return slot;
}

static void
exchange(hook_slot *slot, PyCFunction from, PyCFunction to)
{
    /* Where somebody else's entry lies over ours, it is theirs to be taken away. */
    __atomic_compare_exchange_n(&slot->definition->ml_meth, &from, to, false, __ATOMIC_SEQ_CST,
                                __ATOMIC_RELAXED);
}

void
kobs_hook_enter_method(hook_slot *slot)
{
    exchange(slot, slot->original, slot->entry);
}

void
kobs_hook_leave_method(hook_slot *slot)
{
    exchange(slot, slot->entry, slot->original);
}

void
kobs_hook_each_method(void (*visit)(hook_slot *, void *), void *arg)
{
    for (int convention = 0; convention < CALL_VECTOR; convention++) {
        for (size_t index = 0; index < pools[convention].taken; index++) {
            visit(&pools[convention].slots[index], arg);
        }
    }
}
