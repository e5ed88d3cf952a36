/* What an event costs inside the core, and the floors under it: nanoseconds a turn of a loop, by
 * the clock around it. For benchmarks/. */

#include "core.h"

#include <stdlib.h>

enum { SCRATCH_SLOTS = 65536, SCRATCH_PAYLOAD = 24 };

/* A page of header and one of counters, the in-flight and reader tables, then two lanes. */
static uint8_t *
scratch_ring(kobs_ring *ring)
{
    const uint64_t tables = 2 * KOBS_PAGE, readers = tables + 1024 * sizeof(kobs_in_flight),
                   lanes = readers + KOBS_PAGE;
    const size_t size = lanes + 2ull * SCRATCH_SLOTS * KOBS_SLOT_SIZE;
    kobs_header header = {0};
    uint8_t *memory = aligned_alloc(KOBS_PAGE, (size + KOBS_PAGE - 1) / KOBS_PAGE * KOBS_PAGE);

    if (memory == NULL) {
        return NULL;
    }
    memset(memory, 0, size); /* so that no page is missing when it counts */
    header.counters.offset = KOBS_PAGE;
    header.in_flight.offset = tables;
    header.readers.offset = readers;
    header.lanes[0] = (kobs_lane_info){lanes, SCRATCH_SLOTS};
    header.lanes[1] = (kobs_lane_info){lanes + (uint64_t)SCRATCH_SLOTS * KOBS_SLOT_SIZE,
                                       SCRATCH_SLOTS};
    memset(ring, 0, sizeof(*ring));
    kobs_ring_init(ring, memory, &header, 0);
    return memory;
}

static long long
turns(PyObject *argument)
{
    long long count = PyLong_AsLongLong(argument);

    if (count <= 0 && !PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "expected a positive number of turns, got %lld", count);
    }
    return count;
}

static PyObject *
each(uint64_t began, long long count)
{
    return PyFloat_FromDouble((double)(kobs_now() - began) / (double)count);
}

static PyObject *
bench_publish(PyObject *Py_UNUSED(module), PyObject *argument)
{
    long long count = turns(argument);
    kobs_body body = {.causality_id = 1, .type_id = 1, .severity_category = 0x12};
    kobs_ring ring;

    if (PyErr_Occurred()) {
        return NULL;
    }
    uint8_t *memory = scratch_ring(&ring);
    if (memory == NULL) {
        return PyErr_NoMemory();
    }
    uint64_t began = kobs_now();
    for (long long turn = 0; turn < count; turn++) {
        body.timestamp_ns = kobs_now();
        body.tid = kobs_thread_id();
        body.words[KOBS_BODY_HEADER / 8] = (uint64_t)turn;
        kobs_publish(&ring, KOBS_MAIN_LANE, &body, KOBS_BODY_HEADER + SCRATCH_PAYLOAD);
    }
    PyObject *cost = each(began, count);
    free(memory);
    return cost;
}

static PyObject *
bench_clock(PyObject *Py_UNUSED(module), PyObject *argument)
{
    long long count = turns(argument);
    struct timespec now;

    if (PyErr_Occurred()) {
        return NULL;
    }
    uint64_t began = kobs_now();
    for (long long turn = 0; turn < count; turn++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    return each(began, count);
}

static PyObject *
bench_tsc(PyObject *Py_UNUSED(module), PyObject *argument)
{
    long long count = turns(argument);

    if (PyErr_Occurred()) {
        return NULL;
    }
#if KOBS_HAS_TSC
    volatile uint64_t sink;
    uint64_t began = kobs_now();
    for (long long turn = 0; turn < count; turn++) {
        sink = kobs_ticks();
    }
    (void)sink;
    return each(began, count);
#else
    PyErr_SetString(PyExc_NotImplementedError, "this processor has no time-stamp counter");
    return NULL;
#endif
}

static PyObject *
bench_fetch_add(PyObject *Py_UNUSED(module), PyObject *argument)
{
    long long count = turns(argument);
    kobs_count counter = {0};

    if (PyErr_Occurred()) {
        return NULL;
    }
    uint64_t began = kobs_now();
    for (long long turn = 0; turn < count; turn++) {
        kobs_add(&counter, 1);
    }
    return each(began, count);
}

static PyObject *
bench_cas(PyObject *Py_UNUSED(module), PyObject *argument)
{
    long long count = turns(argument);
    kobs_count counter = {0};

    if (PyErr_Occurred()) {
        return NULL;
    }
    uint64_t began = kobs_now();
    for (long long turn = 0; turn < count; turn++) {
        uint64_t seen = (uint64_t)turn;
        atomic_compare_exchange_strong_explicit(&counter.value, &seen, seen + 1,
                                                memory_order_acquire, memory_order_relaxed);
    }
    return each(began, count);
}

static PyMethodDef functions[] = {
    {"bench_publish", bench_publish, METH_O,
     PyDoc_STR("bench_publish(n) -> ns\n\nPublish n events, each with a clock read, into a ring of "
               "the default size.")},
    {"bench_clock", bench_clock, METH_O, PyDoc_STR("bench_clock(n) -> ns\n\nclock_gettime().")},
    {"bench_tsc", bench_tsc, METH_O, PyDoc_STR("bench_tsc(n) -> ns\n\nThe time-stamp counter.")},
    {"bench_fetch_add", bench_fetch_add, METH_O,
     PyDoc_STR("bench_fetch_add(n) -> ns\n\nAn atomic addition without contention.")},
    {"bench_cas", bench_cas, METH_O,
     PyDoc_STR("bench_cas(n) -> ns\n\nA compare-and-swap without contention.")},
    {NULL, NULL, 0, NULL},
};

int
kobs_add_bench_ring(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
