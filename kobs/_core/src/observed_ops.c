/* The emissions of an observed call: their values go straight into the emitter. What has no tree of
 * values (sends, receives, scopes) is Python code, called beside the original and never around it. */

#include "observed.h"

enum { MAX_VALUES = 48, EXTRAS = 6 };

/* Header values that an emission may fill, in the order of `targets` below zero. */
enum { HEADER_PID, HEADER_SEVERITY, HEADER_LINK, HEADER_CAUSALITY, HEADER_PARENT, HEADER_SPAN,
       HEADER_VALUES };

static const struct {
    const char *name;
    unsigned bit;
    uint64_t most;
} header_values[] = {
    [HEADER_PID] = {"pid", GIVEN_PID, UINT32_MAX},
    [HEADER_SEVERITY] = {"severity", GIVEN_SEVERITY, 15},
    [HEADER_LINK] = {"link", 0, UINT64_MAX},
    [HEADER_CAUSALITY] = {"causality_id", GIVEN_CAUSALITY, UINT64_MAX},
    [HEADER_PARENT] = {"parent", GIVEN_PARENT, UINT64_MAX},
    [HEADER_SPAN] = {"span_id", GIVEN_SPAN, UINT64_MAX},
};

/* -- running --------------------------------------------------------------------------------- */

int
kobs_failed(const kobs_call *call, Py_ssize_t emission)
{
    PyObject *type, *error, *traceback;

    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(error, traceback);
    }
    PyObject *collector = call->route != NULL && PyTuple_GET_SIZE(call->route) > 0
        ? PyTuple_GET_ITEM(call->route, 0) : Py_None;
    PyObject *site = call->observed->site == NULL ? Py_None : call->observed->site;
    PyObject *told = PyObject_CallMethod(site, "failed", "OnO", error, emission, collector);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    if (told == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        if (PyErr_ExceptionMatches(PyExc_RecursionError)) {
            PyErr_Clear(); /* where the program itself has come to the end of its stack */
        }
        else {
            PyErr_WriteUnraisable(site);
        }
    }
    Py_XDECREF(told);
    return 0;
}

static int
put_header(kobs_given *given, int index, PyObject *value)
{
    uint64_t number;

    if (value == Py_None) {
        return 0;
    }
    if (kobs_unsigned(value, header_values[index].most, &number) < 0) {
        return -1;
    }
    given->given |= header_values[index].bit;
    switch (index) {
    case HEADER_PID: given->pid = (uint32_t)number; break;
    case HEADER_SEVERITY: given->severity = (uint8_t)number; break;
    case HEADER_LINK: given->link = number; break;
    case HEADER_CAUSALITY: given->causality_id = number; break;
    case HEADER_PARENT: given->parent = number; break;
    case HEADER_SPAN: given->span_id = number; break;
    }
    return 0;
}

/* A value that needs no reference of its own while the call lasts; NULL for any other. */
static inline PyObject *
borrowed_value(const kobs_node *node, const kobs_call *call)
{
    switch (node->kind) {
    case NODE_CONSTANT:
        return node->object;
    case NODE_PARAMETER:
        return node->index < call->count && node->index < call->observed->parameters.positional
            ? call->args[node->index] : NULL;
    case NODE_RESULT:
        return call->result;
    default:
        return NULL;
    }
}

typedef enum { EMITTED, REFUSED, FAILED } outcome;

/* Put the values into the fields they are for. False where something does not fit. */
static bool
put_in_place(const kobs_op *op, PyObject *const *values, PyObject **fields, Py_ssize_t count,
             kobs_given *given)
{
    for (Py_ssize_t index = 0; index < op->count; index++) {
        int target = op->targets[index];
        if (target >= count || (target < 0 && put_header(given, -1 - target, values[index]) < 0)) {
            return false;
        }
        if (target >= 0) {
            fields[target] = values[index];
        }
    }
    return true;
}

/* REFUSED: something does not fit, and nothing was recorded. `values` has room for every field. */
static outcome
emit_natively(const kobs_op *op, const kobs_call *call, emitter_object *emitter, PyObject **values)
{
    PyObject *sorted[KOBS_PAYLOAD_SIZE], **fields = values;
    Py_ssize_t count = emitter->field_count, first = op->count;
    kobs_given given = {0};
    uint64_t event;
    int64_t entry;

    if (!op->in_order || first > count) {
        fields = sorted;
        first = 0;
    }
    for (Py_ssize_t index = first; index < count; index++) {
        fields[index] = emitter->fields[index].otherwise;
    }
    if (fields == sorted && !put_in_place(op, values, fields, count, &given)) {
        return REFUSED;
    }
    for (Py_ssize_t index = first; index < count; index++) {
        if (fields[index] == NULL) {
            return REFUSED;
        }
    }
    if (call->ended_ns != 0) {
        given.given |= GIVEN_TIME;
        given.timestamp_ns = call->ended_ns;
    }
    if (kobs_emit(emitter, fields, &given, &event, &entry) == 0) {
        return EMITTED;
    }
    return event != 0 ? FAILED : REFUSED;
}

/* 0, or -1 with an exception set. */
static int
emit(const kobs_op *op, const kobs_call *call, PyObject *channel)
{
    PyObject *values[MAX_VALUES + KOBS_PAYLOAD_SIZE], *owned[MAX_VALUES], *made;
    Py_ssize_t kept = 0;
    outcome done = FAILED;

    for (Py_ssize_t index = 0; index < op->count; index++) {
        values[index] = borrowed_value(&op->values[index], call);
        if (values[index] == NULL) {
            values[index] = owned[kept] = kobs_node_value(&op->values[index], call);
            if (values[index] == NULL) {
                goto end;
            }
            kept++;
        }
    }
    if (Py_TYPE(channel) == call->observed->emitter_type) {
        done = emit_natively(op, call, (emitter_object *)channel, values);
        if (done != REFUSED) {
            goto end;
        }
        PyErr_Clear(); /* a call from Python says which value it was, and why */
    }
    made = PyObject_Vectorcall(channel, values, (size_t)op->positional, op->keywords);
    done = made == NULL ? FAILED : EMITTED;
    Py_XDECREF(made);
end:
    while (kept > 0) {
        Py_DECREF(owned[--kept]);
    }
    return done == EMITTED ? 0 : -1;
}

static int
set_defaults(PyObject *to, PyObject *defaults, PyObject *by_keyword)
{
    if (defaults != PyFunction_GET_DEFAULTS(to)
        && PyFunction_SetDefaults(to, defaults == NULL ? Py_None : defaults) < 0) {
        return -1;
    }
    return by_keyword == PyFunction_GET_KW_DEFAULTS(to)
        ? 0 : PyFunction_SetKwDefaults(to, by_keyword == NULL ? Py_None : by_keyword);
}

/* The code of an emission, a new reference, with the defaults that the observed function has now. */
static PyObject *
code_of(const kobs_op *op, const kobs_call *call)
{
    PyObject *from = call->observed->parameters.function, *to = op->function;

    if (from == NULL || !op->takes_arguments || !PyFunction_Check(to)) {
        return Py_NewRef(to);
    }
    PyObject *defaults = PyFunction_GET_DEFAULTS(from);
    PyObject *by_keyword = PyFunction_GET_KW_DEFAULTS(from);
#if KOBS_FREE_THREADED /* another thread may be about to call it: a function of its own */
    if (defaults != PyFunction_GET_DEFAULTS(to) || by_keyword != PyFunction_GET_KW_DEFAULTS(to)) {
        PyObject *made = PyFunction_New(PyFunction_GET_CODE(to), PyFunction_GET_GLOBALS(to));
        PyObject *cells = PyFunction_GET_CLOSURE(to);
        if (made != NULL && ((cells != NULL && PyFunction_SetClosure(made, cells) < 0)
                             || set_defaults(made, defaults, by_keyword) < 0)) {
            Py_CLEAR(made);
        }
        return made;
    }
    return Py_NewRef(to);
#else
    return set_defaults(to, defaults, by_keyword) < 0 ? NULL : Py_NewRef(to);
#endif
}

/* The Python code of an emission: function(collector, channel, state, result, error, elapsed_ns), and
 * the call's arguments where it takes them. What it gives is kept for later moments. */
static int
call_function(const kobs_op *op, kobs_call *call, PyObject *channel)
{
    PyObject *keywords = op->takes_arguments ? call->keywords : NULL;
    Py_ssize_t positional = op->takes_arguments ? call->count : 0;
    Py_ssize_t given = positional + (keywords == NULL ? 0 : PyTuple_GET_SIZE(keywords));
    PyObject **slot = call->states == NULL || op->slot < 0 ? NULL : &call->states[op->slot];
    PyObject *elapsed = PyLong_FromUnsignedLongLong(call->elapsed_ns);
    PyObject **values = PyMem_New(PyObject *, (size_t)(EXTRAS + given)), *made = NULL;
    PyObject *function = code_of(op, call);

    if (function == NULL) {
        Py_CLEAR(elapsed);
    }
    else if (values == NULL) {
        PyErr_NoMemory();
    }
    else if (elapsed != NULL) {
        values[0] = PyTuple_GET_ITEM(call->route, 0);
        values[1] = channel;
        values[2] = slot != NULL && *slot != NULL ? *slot : Py_None;
        values[3] = call->result == NULL ? Py_None : call->result;
        values[4] = call->error == NULL ? Py_None : call->error;
        values[5] = elapsed;
        for (Py_ssize_t index = 0; index < given; index++) {
            values[EXTRAS + index] = call->args[index];
        }
        PyObject *kept = Py_NewRef(values[2]);
        made = PyObject_Vectorcall(function, values, (size_t)(EXTRAS + positional), keywords);
        Py_DECREF(kept);
    }
    Py_XDECREF(function);
    Py_XDECREF(elapsed);
    PyMem_Free(values);
    if (made == NULL) {
        return -1;
    }
    if (made != Py_None && slot != NULL) {
        Py_XSETREF(*slot, made);
        return 0;
    }
    Py_DECREF(made);
    return 0;
}

int
kobs_ops_run(const kobs_ops *ops, kobs_call *call)
{
    for (Py_ssize_t index = 0; index < ops->count; index++) {
        const kobs_op *op = &ops->ops[index];
        PyObject *channel = PyTuple_GET_ITEM(call->route, op->emission + 1);
        int done = 0, wanted = 1;

        if (op->function != NULL) {
            done = call_function(op, call, channel);
            call->ended_ns = 0; /* what follows is later than the end of the call */
        }
        else {
            if (op->condition != NULL) {
                PyObject *answer = kobs_node_value(op->condition, call);
                wanted = answer == NULL ? -1 : PyObject_IsTrue(answer);
                Py_XDECREF(answer);
            }
            done = wanted <= 0 ? wanted : emit(op, call, channel);
        }
        if (done < 0 && kobs_failed(call, op->emission) < 0) {
            return -1;
        }
    }
    return 0;
}

bool
kobs_ops_take_arguments(const kobs_ops *ops)
{
    for (Py_ssize_t index = 0; index < ops->count; index++) {
        const kobs_op *op = &ops->ops[index];
        if (op->takes_arguments
            || (op->condition != NULL && kobs_node_takes_arguments(op->condition))) {
            return true;
        }
        for (Py_ssize_t each = 0; each < op->count; each++) {
            if (kobs_node_takes_arguments(&op->values[each])) {
                return true;
            }
        }
    }
    return false;
}

/* -- descriptions ---------------------------------------------------------------------------- */

static int
target_of(PyObject *name, int *target)
{
    if (PyLong_Check(name)) {
        *target = (int)PyLong_AsLong(name);
        return *target < 0 ? -1 : 0;
    }
    for (int index = 0; PyUnicode_Check(name) && index < HEADER_VALUES; index++) {
        if (PyUnicode_CompareWithASCIIString(name, header_values[index].name) == 0) {
            *target = -1 - index;
            return 0;
        }
    }
    return -1;
}

/* (emission, function, whether it takes arguments, slot, condition, positional, keywords, targets,
 * values) */
static int
op_init(kobs_op *op, PyObject *description)
{
    PyObject *function, *condition, *keywords, *targets, *values;

    int takes_arguments;

    if (!PyArg_ParseTuple(description, "nOpnOnO!O!O!:emission", &op->emission, &function,
                          &takes_arguments, &op->slot, &condition, &op->positional, &PyTuple_Type,
                          &keywords, &PyTuple_Type, &targets, &PyTuple_Type, &values)) {
        return -1;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(values);
    if (count > MAX_VALUES || PyTuple_GET_SIZE(targets) != count || op->positional < 0
        || op->positional + PyTuple_GET_SIZE(keywords) != count) {
        PyErr_Format(PyExc_ValueError, "%R is no emission that this core knows", description);
        return -1;
    }
    op->function = function == Py_None ? NULL : Py_NewRef(function);
    op->takes_arguments = op->function != NULL && takes_arguments;
    op->keywords = PyTuple_GET_SIZE(keywords) == 0 ? NULL : Py_NewRef(keywords);
    op->values = PyMem_Calloc((size_t)count + 1, sizeof(kobs_node));
    op->targets = PyMem_Calloc((size_t)count + 1, sizeof(int));
    if (op->values == NULL || op->targets == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (condition != Py_None) {
        op->condition = PyMem_Calloc(1, sizeof(kobs_node));
        if (op->condition == NULL || kobs_node_init(op->condition, condition) < 0) {
            return -1;
        }
    }
    op->in_order = true;
    for (Py_ssize_t index = 0; index < count; index++) {
        PyObject *target = PyTuple_GET_ITEM(targets, index);
        if (target_of(target, &op->targets[index]) < 0) {
            PyErr_Format(PyExc_ValueError, "%R is neither a field nor a header value", target);
            return -1;
        }
        op->in_order &= op->targets[index] == index;
        op->count++;
        if (kobs_node_init(&op->values[index], PyTuple_GET_ITEM(values, index)) < 0) {
            return -1;
        }
    }
    return 0;
}

int
kobs_ops_init(kobs_ops *ops, PyObject *descriptions)
{
    Py_ssize_t count = PyTuple_GET_SIZE(descriptions);

    ops->ops = PyMem_Calloc((size_t)count + 1, sizeof(kobs_op));
    if (ops->ops == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    while (ops->count < count) {
        PyObject *description = PyTuple_GET_ITEM(descriptions, ops->count);
        if (op_init(&ops->ops[ops->count++], description) < 0) {
            return -1;
        }
    }
    return 0;
}

void
kobs_ops_clear(kobs_ops *ops)
{
    for (Py_ssize_t index = 0; index < ops->count; index++) {
        kobs_op *op = &ops->ops[index];
        for (Py_ssize_t each = 0; each < op->count; each++) {
            kobs_node_clear(&op->values[each]);
        }
        if (op->condition != NULL) {
            kobs_node_clear(op->condition);
        }
        PyMem_Free(op->condition);
        PyMem_Free(op->values);
        PyMem_Free(op->targets);
        Py_CLEAR(op->function);
        Py_CLEAR(op->keywords);
    }
    PyMem_Free(ops->ops);
    ops->ops = NULL;
    ops->count = 0;
}

int
kobs_ops_visit(kobs_ops *ops, visitproc visit, void *arg)
{
    for (Py_ssize_t index = 0; index < ops->count; index++) {
        kobs_op *op = &ops->ops[index];
        int stop = op->condition == NULL ? 0 : kobs_node_visit(op->condition, visit, arg);
        for (Py_ssize_t each = 0; stop == 0 && each < op->count; each++) {
            stop = kobs_node_visit(&op->values[each], visit, arg);
        }
        if (stop != 0) {
            return stop;
        }
        Py_VISIT(op->function);
    }
    return 0;
}
