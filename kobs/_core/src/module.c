/* The extension module `kobs._core._native`. `kobs/_core/native.py` is its face. */

#include "core.h"

static PyObject *
layout(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return kobs_layout_table();
}

static PyObject *
now(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return PyLong_FromUnsignedLongLong(kobs_now());
}

static PyObject *
clock_name(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return PyUnicode_FromString(kobs_clock_name());
}

static PyMethodDef functions[] = {
    {"layout", layout, METH_NOARGS,
     PyDoc_STR("The structures as they were compiled: {'Header.magic': (offset, size), ...}.")},
    {"now", now, METH_NOARGS, PyDoc_STR("Monotonic time in nanoseconds.")},
    {"clock", clock_name, METH_NOARGS,
     PyDoc_STR("Where the time is read: 'tsc' or 'clock_gettime'.")},
    {"span_type", kobs_span_type, METH_VARARGS,
     PyDoc_STR("span_type(base, cause, cause_type, slow_ms, modules) -> type\n\n"
               "The type of spans, derived from `base`.")},
    {"look_elsewhere", kobs_look_elsewhere, METH_VARARGS,
     PyDoc_STR("look_elsewhere(variable, nothing, upto)\n\n"
               "Where another tracer keeps its context, and what is there where it has none. Traces "
               "that begin here are exported whose causality id is at most `upto`.")},
    {"wire_spans", kobs_wire_spans, METH_VARARGS,
     PyDoc_STR("wire_spans(collector, began, ended, gate, trace_high)\n\n"
               "The collector whose spans are recorded without Python; None: no one's.")},
    {"open_span", kobs_find_open_span, METH_O,
     PyDoc_STR("open_span(span_id) -> span | None\n\nThe open span of that id, if it began here.")},
    {"open_spans", kobs_list_open_spans, METH_NOARGS,
     PyDoc_STR("open_spans() -> [span, ...]\n\nThe open ones that began here.")},
    {"close_span", kobs_close_open_span, METH_O,
     PyDoc_STR("close_span(span)\n\nIt is none of the open ones any more, if it was one.")},
    {"pick_slots", kobs_pick_slots, METH_VARARGS,
     PyDoc_STR("pick_slots(slots, severity, before, always) -> [RawSlot]\n\n"
               "Those of the types `always`, and those from a severity up whose ticket is not below "
               "that of their lane in `before`.")},
    {"scan", (PyCFunction)(void (*)(void))kobs_scan_merged, METH_FASTCALL,
     PyDoc_STR("scan([(Condition, portions), ...], keep, durations, by_pid, by_type) -> Found | None"
               "\n\nLook at the lists of `RawSlots` of several recordings, merged by time; keep "
               "the first `keep` that match. None where Python is to do it.")},
    {"audit", kobs_audit, METH_VARARGS,
     PyDoc_STR("audit(handle, wanted)\n\nAdd an audit hook, once and for ever. `handle(event, "
               "args)` is called for events that the dict `wanted` does not say False of, while "
               "`audit_listens(True)`; an exception that it returns is raised from the call.")},
    {"audit_listens", kobs_audit_listens, METH_O,
     PyDoc_STR("audit_listens(on)\n\nWhether the audit hook does anything.")},
    {"traffic", kobs_traffic, METH_O,
     PyDoc_STR("traffic(descriptor) -> (sent, received)\n\nBytes that hooked methods of sockets "
               "moved since this was asked last.")},
    {"traffic_counts", kobs_traffic_counts, METH_O,
     PyDoc_STR("traffic_counts(sock) -> bool\n\nWhether the descriptors of sockets are where they "
               "are looked for; `sock` is one that was made but not initialised.")},
    {"watch_gc", kobs_watch_gc, METH_VARARGS,
     PyDoc_STR("watch_gc(before, told) -> bool\n\nCall before() before each garbage collection and "
               "told(generation, duration_us, collected) after it, unseen in `gc.callbacks`. False "
               "where that cannot be done.")},
    {"unwatch_gc", kobs_unwatch_gc, METH_NOARGS,
     PyDoc_STR("unwatch_gc()\n\nTake `watch_gc` back. Twice is once.")},
    {"watch_type", kobs_watch_type, METH_VARARGS,
     PyDoc_STR("watch_type(type, made, gone) -> bool\n\nCall made(instance) after an instance of a "
               "C type or a subclass is made, and gone(id) before it goes. One type at a time. False "
               "where that cannot be done.")},
    {"unwatch_type", kobs_unwatch_type, METH_NOARGS,
     PyDoc_STR("unwatch_type()\n\nTake `watch_type` back. Twice is once.")},
    {"bench_observe", kobs_bench_observe, METH_O,
     PyDoc_STR("bench_observe(n) -> ns\n\nWhat it costs to check a duration for an anomaly.")},
    {"bench_filter", kobs_bench_filter, METH_O,
     PyDoc_STR("bench_filter(n) -> ns\n\nWhat it costs to look whether an event matches.")},
    {"bench_serialise", kobs_bench_serialise, METH_O,
     PyDoc_STR("bench_serialise(n) -> ns\n\nWhat it costs to write an event as JSON.")},
    {"bench_query", kobs_bench_query, METH_O,
     PyDoc_STR("bench_query(n) -> ns\n\nWhat a query over n events with percentiles costs.")},
    {NULL, NULL, 0, NULL},
};

int
kobs_add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int done = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);

    Py_XDECREF(type);
    return done;
}

static int
execute(PyObject *module)
{
    if (kobs_add_ring_type(module) < 0 || kobs_add_emitter_type(module) < 0
        || kobs_add_detector_types(module) < 0 || kobs_add_types_type(module) < 0
        || kobs_add_reader_type(module) < 0 || kobs_add_bench_ring(module) < 0
        || kobs_add_sample_type(module) < 0 || kobs_add_scan_types(module) < 0
        || kobs_add_decider_type(module) < 0 || kobs_add_hook_types(module) < 0
        || kobs_add_step_type(module) < 0 || kobs_add_wake_type(module) < 0
        || kobs_add_queue_types(module) < 0 || kobs_add_function_hooks(module) < 0
        || kobs_add_carried_type(module) < 0
        || kobs_add_observed(module) < 0
        || kobs_add_method_type(module) < 0 || kobs_add_span_maker(module) < 0
        || kobs_add_span_encoder(module) < 0) {
        return -1;
    }
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    core_state *state = PyModule_GetState(module);

    Py_VISIT(state->ring_type);
    Py_VISIT(state->emitter_type);
    Py_VISIT(state->analyser_type);
    Py_VISIT(state->types_type);
    Py_VISIT(state->decider_type);
    Py_VISIT(state->method_type);
    Py_VISIT(state->span_maker);
    Py_VISIT(state->gc.before);
    Py_VISIT(state->gc.told);
    Py_VISIT(state->sample_type);
    Py_VISIT(state->found_type);
    Py_VISIT(state->condition_type);
    int stop = kobs_visit_spans(&state->span, visit, arg);
    return stop ? stop : kobs_visit_observed(&state->observed, visit, arg);
}

static int
clear(PyObject *module)
{
    core_state *state = PyModule_GetState(module);

    Py_CLEAR(state->ring_type);
    Py_CLEAR(state->emitter_type);
    Py_CLEAR(state->analyser_type);
    Py_CLEAR(state->types_type);
    Py_CLEAR(state->decider_type);
    Py_CLEAR(state->method_type);
    Py_CLEAR(state->span_maker);
    Py_CLEAR(state->gc.before);
    Py_CLEAR(state->gc.told);
    Py_CLEAR(state->sample_type);
    Py_CLEAR(state->found_type);
    Py_CLEAR(state->condition_type);
    kobs_clear_spans(&state->span);
    for (size_t index = 0; index < sizeof(state->header_names) / sizeof(PyObject *); index++) {
        Py_CLEAR(state->header_names[index]);
    }
    kobs_clear_observed(&state->observed);
    return 0;
}

static void
free_module(void *module)
{
    core_state *state = PyModule_GetState(module);

    clear(module);
    free(state->wakes);
}

struct PyModuleDef kobs_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "kobs._core._native",
    .m_doc = PyDoc_STR("The C core."),
    .m_size = sizeof(core_state),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
    .m_free = free_module,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&kobs_module);
}
