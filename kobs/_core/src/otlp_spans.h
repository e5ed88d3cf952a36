/* Plain spans as OTLP, straight from their two slots. The Python twin is kobs/tracing/assembler.py with
 * kobs/export/otlp_encode.py, which say what a span is made of; what is not plain (an error, links,
 * overflow records, conventions beyond the commonest) is left to it. */

#ifndef KOBS_OTLP_SPANS_H
#define KOBS_OTLP_SPANS_H

#include "text.h"
#include "types.h"

typedef struct {
    PyObject_HEAD
    types_object *types;
    PyObject *open;     /* {id of the begin event: its RawSlot}: spans that Python does not know */
    PyObject *details;  /* {id of the begin event: the RawSlot of its details}, of some of them */
    PyObject *by_span;  /* {span id: id of the begin event}, of the same; NULL before it is asked for */
    PyObject *adopted;  /* {chain: (trace id, flags, exported, tracestate)}; Python's to fill */
    PyObject *received; /* {event: ...} of events that received something; Python's to fill */
    PyObject *remote;   /* {span id: ...} of other processes' spans; Python's to fill */
    uint64_t trace_high;
    uint32_t pid;       /* of the resource */
    uint16_t began_id, ended_id, detailed_id, first_id, last_id; /* payload types that spans are made of */
    PyObject *kinds, *statuses;
    unsigned syscall, network; /* categories with conventions of their own */
    Py_ssize_t most;
} encoder_object;

/* Where the fields lie in a slot. */
typedef struct {
    uint16_t name, kind, parent_span;
} begin_layout;

typedef struct {
    uint16_t name, status, attributes, attributes_size;
} end_layout;

typedef struct {
    uint16_t scope, provider, trace_flags, rest;
} detail_layout;

/* Spans of one instrumentation scope. */
typedef struct {
    uint32_t scope; /* the id of its string; 0: kobs's own */
    kobs_text out;
    Py_ssize_t count;
} scope_spans;

enum { KOBS_SCOPES = 8 };

typedef struct {
    uint64_t before[KOBS_LANES];
    int64_t monotonic[2], offset[2];
    int clocks;
    begin_layout began;
    end_layout ended;
    detail_layout detailed;
    bool known, details_known;
    scope_spans spans[KOBS_SCOPES];
    int scopes;
    Py_ssize_t unsampled;
    uint64_t last_ns;
} work;

enum { FAILED = -1, LEFT, DONE };

typedef struct {
    char id[16];
    uint32_t flags;
    bool exported;
    PyObject *state; /* UTF-8, held; NULL: none */
} trace;

/* Find where the fields lie; false where the recording declares another layout than this one
 * reads, or with an exception set. */
bool kobs_otlp_layout(encoder_object *, work *);

/* What is known of the trace of a chain: DONE, FAILED with an exception set. `state` is held. */
int kobs_otlp_trace(encoder_object *, uint64_t chain, trace *);

/* Write a span of the slots of its begin, its end and its details (NULL: none): DONE, LEFT to Python,
 * FAILED with an exception set. */
int kobs_otlp_span(encoder_object *, work *, kobs_text *, const uint64_t *began,
                   const uint64_t *ended, const uint64_t *detail, const trace *);

#endif
