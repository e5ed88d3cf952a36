/* What the core's parts cost, for `benchmarks/`: each runs an operation many times on data as
 * programs make it, and gives nanoseconds an operation. */

#include "core.h"
#include "detector.h"
#include "scan.h"
#include "serialise.h"

enum { EVENTS = 1024 };

/* Of a call that takes about 20 microseconds, and now and then more. */
static double
duration_of(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    double spread = (double)(*state >> 40) / (1 << 24);

    return (double)(int64_t)(1000.0 * (8.0 + 25.0 * spread / (1.05 - spread))) / 1000.0;
}

PyObject *
kobs_bench_observe(PyObject *Py_UNUSED(module), PyObject *rounds)
{
    Py_ssize_t count = PyLong_AsSsize_t(rounds);
    kobs_detector detector = {
        .threshold = 3.0, .threshold_squared = 9.0, .min_samples = 30, .reach = 3.0,
        .interval_ns = 1000000000,
    };
    kobs_metric metrics[4] = {0};
    double values[EVENTS];
    uint64_t state = 1, told = 0;
    kobs_anomaly found;

    if (count <= 0) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "expected 1 or more");
    }
    for (int each = 0; each < EVENTS; each++) {
        values[each] = duration_of(&state);
    }
    uint64_t began = kobs_now();
    for (Py_ssize_t each = 0; each < count; each++) {
        told += kobs_observe(&detector, &metrics[each & 3], values[each % EVENTS], NULL, &found);
    }
    uint64_t took = kobs_now() - began;
    /* What was learned is made part of the answer: nothing of it may be left out. */
    double learned = metrics[0].baseline.mean + metrics[1].baseline.mean + (double)told;
    return PyFloat_FromDouble((double)took / (double)count + (learned == -1.0));
}

/* -- a recording for the others -------------------------------------------------------------- */

static PyObject *
describe(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(type_id))
{
    return Py_BuildValue("s n ((s s i i O) (s s i i O) (s s i i O) (s s i i O)) n n d",
                         "SyscallExit", (Py_ssize_t)17, "name", "name", 0, 4, Py_None,
                         "duration_us", "f64", 4, 8, Py_None, "result", "unsigned", 12, 1, Py_None,
                         "errno", "unsigned", 13, 4, Py_None, (Py_ssize_t)0, (Py_ssize_t)1, 1.0);
}

static PyObject *
string_of(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(id))
{
    return PyUnicode_FromString("sched_yield");
}

static PyMethodDef describe_def = {"find", describe, METH_O, NULL};
static PyMethodDef string_def = {"string", string_of, METH_O, NULL};

static types_object *
make_types(core_state *state)
{
    static const char *const words[2][10] = {
        {"TRACE", "DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"},
        {"PROCESS", "MEMORY", "SYSCALL", "NETWORK", "IPC", "SCHEDULER", "SECURITY", "PERFORMANCE",
         "RESOURCE", "FILESYSTEM"},
    };
    PyObject *names[2] = {PyTuple_New(6), PyTuple_New(10)};
    PyObject *find = PyCFunction_New(&describe_def, NULL);
    PyObject *string = PyCFunction_New(&string_def, NULL), *made = NULL, *empty = PyTuple_New(0);
    PyObject *keywords = NULL;
    bool whole = names[0] && names[1] && find && string && empty;

    for (int list = 0; whole && list < 2; list++) {
        for (Py_ssize_t each = 0; whole && each < PyTuple_GET_SIZE(names[list]); each++) {
            PyObject *name = PyUnicode_FromString(words[list][each]);
            whole = name != NULL;
            PyTuple_SET_ITEM(names[list], each, name);
        }
    }
    if (whole) {
        keywords = Py_BuildValue("{s:i,s:O,s:O,s:O,s:O}", "recording", 1, "find", find, "string",
                                 string, "severities", names[0], "categories", names[1]);
    }
    if (keywords != NULL) {
        made = PyObject_Call((PyObject *)state->types_type, empty, keywords);
    }
    Py_XDECREF(names[0]);
    Py_XDECREF(names[1]);
    Py_XDECREF(find);
    Py_XDECREF(string);
    Py_XDECREF(empty);
    Py_XDECREF(keywords);
    return (types_object *)made;
}

/* A ring of `count` events (rounded up to a power of two of slots); its memory, or NULL. */
static uint8_t *
make_ring(kobs_ring *ring, size_t count)
{
    size_t slots = 16;
    while (slots < count) {
        slots *= 2;
    }
    kobs_header header = {0};
    header.counters.offset = KOBS_PAGE;
    header.in_flight.offset = header.readers.offset = 2 * KOBS_PAGE; /* nobody uses them */
    header.recording = 1;
    for (int lane = 0; lane < KOBS_LANES; lane++) {
        header.lanes[lane].slots = lane == KOBS_MAIN_LANE ? slots : 16;
        header.lanes[lane].offset
            = 3 * KOBS_PAGE + (lane == KOBS_MAIN_LANE ? 16u * KOBS_SLOT_SIZE : 0);
    }
    uint8_t *memory = PyMem_Calloc(1, 4 * KOBS_PAGE + slots * KOBS_SLOT_SIZE);
    if (memory == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    kobs_ring_init(ring, memory, &header, 0);
    uint64_t state = 1;
    for (size_t each = 0; each < count; each++) {
        kobs_body body = {
            .timestamp_ns = 1732518536123456ull + 1009 * each, .causality_id = 0x1234567890abcdef,
            .parent = 17592186044416ull + each, .span_id = state, .pid = 4711, .tid = 4712,
            .type_id = 11, .severity_category = (uint8_t)(each % 3 | 2 << 4),
        };
        uint32_t name = 1 + each % 7;
        double duration = duration_of(&state);
        memcpy(body.payload, &name, sizeof(name));
        memcpy(body.payload + 4, &duration, sizeof(duration));
        kobs_publish(ring, KOBS_MAIN_LANE, &body, KOBS_BODY_SIZE);
    }
    return memory;
}

static condition_object *
make_condition(core_state *state, types_object *types, unsigned severity)
{
    PyObject *found = PyObject_GetAttrString(PyType_GetModule(state->types_type), "Condition");
    PyObject *made = found == NULL ? NULL
                                   : PyObject_CallFunction(
                                       found, "OIIKKOOOOOO", types, severity, 0xFFFFu, 0ull,
                                       (unsigned long long)UINT64_MAX, Py_None, Py_None, Py_None,
                                       Py_None, Py_None, Py_None);
    Py_XDECREF(found);
    return (condition_object *)made;
}

typedef double measure(types_object *, condition_object *, kobs_ring *, size_t rounds);

static PyObject *
on_a_recording(PyObject *module, PyObject *rounds, size_t events, unsigned severity,
               measure *measured)
{
    core_state *state = PyModule_GetState(module);
    Py_ssize_t count = PyLong_AsSsize_t(rounds);
    kobs_ring ring = {0};
    double took = -1.0;

    if (count <= 0) {
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "expected 1 or more");
    }
    uint8_t *memory = make_ring(&ring, events > 0 ? events : (size_t)count);
    types_object *types = memory == NULL ? NULL : make_types(state);
    condition_object *condition = types == NULL ? NULL : make_condition(state, types, severity);
    if (condition != NULL) {
        took = measured(types, condition, &ring, (size_t)count);
    }
    Py_XDECREF(condition);
    Py_XDECREF(types);
    PyMem_Free(memory);
    return PyErr_Occurred() ? NULL : PyFloat_FromDouble(took);
}

static double
filter(types_object *Py_UNUSED(types), condition_object *condition, kobs_ring *ring, size_t rounds)
{
    kobs_scan scan = {0};
    const uint64_t start[KOBS_LANES] = {0};
    size_t done = 0;

    uint64_t began = kobs_now();
    while (done < rounds && kobs_scan_ring(condition, &scan, ring, start) == 0) {
        done += EVENTS;
    }
    uint64_t took = kobs_now() - began;
    if (scan.seen != done || scan.level_count != 1) {
        PyErr_SetString(PyExc_AssertionError, "not every event was looked at");
    }
    kobs_scan_free(&scan);
    return (double)took / (double)done;
}

static double
serialise(types_object *types, condition_object *Py_UNUSED(condition), kobs_ring *ring,
          size_t rounds)
{
    kobs_text out = {0};
    kobs_lines lines = {.known = true, .offset_ns = 1732518536000000000};
    const uint64_t *slots = (const uint64_t *)ring->first[KOBS_MAIN_LANE].slots;
    size_t written = 0;
    uint64_t began = 0;
    bool left;

    /* The first time around is not timed: it is when the kernel gives the text its memory. */
    for (size_t each = 0; each < EVENTS + rounds; each++) {
        size_t index = each % EVENTS;
        if (index == 0) {
            out.at = out.start;
            began = each == EVENTS ? kobs_now() : began;
        }
        if (kobs_write_line(types, &out, slots + index * KOBS_SLOT_WORDS, 0, index, &lines, &left)
            != 1) {
            break;
        }
        written++;
    }
    uint64_t took = kobs_now() - began;
    if (written != EVENTS + rounds && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_AssertionError, "not every event was written");
    }
    PyMem_Free(out.start);
    return (double)took / (double)rounds;
}

/* Count, mean and three percentiles of the events that are INFO: all of them. */
static double
query(types_object *Py_UNUSED(types), condition_object *condition, kobs_ring *ring, size_t events)
{
    const uint64_t start[KOBS_LANES] = {0};
    double sum = 0.0;
    enum { ROUNDS = 32 }; /* much shorter than what a scheduler gives at once */

    uint64_t began = kobs_now();
    for (int round = 0; round < ROUNDS; round++) {
        kobs_scan scan = {.durations = true};
        double p50, p95, p99;
        if (kobs_scan_ring(condition, &scan, ring, start) < 0) {
            return -1.0;
        }
        kobs_sample_finish(&scan.sample);
        if (!kobs_sample_percentile(&scan.sample, 50, &p50)
            || !kobs_sample_percentile(&scan.sample, 95, &p95)
            || !kobs_sample_percentile(&scan.sample, 99, &p99) || kobs_scan_matching(&scan) != events) {
            PyErr_SetString(PyExc_AssertionError, "not every event was looked at");
        }
        sum += p50 + p95 + p99 + scan.sample.total;
        kobs_scan_free(&scan);
    }
    uint64_t took = kobs_now() - began;
    return (double)took / ROUNDS + (sum == -1.0);
}

PyObject *
kobs_bench_filter(PyObject *module, PyObject *rounds)
{
    return on_a_recording(module, rounds, EVENTS, 2, filter);
}

PyObject *
kobs_bench_serialise(PyObject *module, PyObject *rounds)
{
    return on_a_recording(module, rounds, EVENTS, 0, serialise);
}

PyObject *
kobs_bench_query(PyObject *module, PyObject *events)
{
    return on_a_recording(module, events, 0, 0, query);
}
