/* What the parts of the extension module share. */

#ifndef KOBS_CORE_H
#define KOBS_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "clock.h"
#include "ring.h"

#if defined(Py_GIL_DISABLED)
#define KOBS_FREE_THREADED 1
#else
#define KOBS_FREE_THREADED 0
#endif

/* Where threads are not kept apart by the interpreter: one at a time in what an object guards. */
#if KOBS_FREE_THREADED
#define KOBS_LOCK(object) Py_BEGIN_CRITICAL_SECTION(object);
#define KOBS_UNLOCK() Py_END_CRITICAL_SECTION();
#else
#define KOBS_LOCK(object) {
#define KOBS_UNLOCK() }
#endif

/* The value of a dict's key: 1 and a new reference, 0 for none, -1 with an exception set. */
static inline int
kobs_dict_item(PyObject *dict, PyObject *key, PyObject **found)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyDict_GetItemRef(dict, key, found);
#else
    *found = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    return *found != NULL ? 1 : PyErr_Occurred() ? -1 : 0;
#endif
}

/* An item of a list, a new reference; NULL with an exception set where it is not there (any more). */
static inline PyObject *
kobs_list_item(PyObject *list, Py_ssize_t index)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyList_GetItemRef(list, index);
#else
    return Py_NewRef(PyList_GET_ITEM(list, index));
#endif
}

/* What an object refers to and another thread may exchange, a new reference; or NULL. */
static inline void *
kobs_held(void *owner, void *at)
{
    PyObject *found;

    (void)owner;
    KOBS_LOCK((PyObject *)owner)
    found = Py_XNewRef(*(PyObject **)at);
    KOBS_UNLOCK()
    return found;
}

/* Count an event of a category that is left out on purpose. Two atomic additions would cost as much as
 * half of an event does: where the interpreter keeps threads apart, they are not needed. */
static inline void
kobs_leave_out(kobs_count *count, _Atomic uint64_t *by_category, unsigned category)
{
#if KOBS_FREE_THREADED
    kobs_add(count, 1);
    atomic_fetch_add_explicit(&by_category[category], 1, memory_order_relaxed);
#else
    kobs_add_alone(&count->value);
    kobs_add_alone(&by_category[category]);
#endif
}

/* Whether a list of one bool, which others may set meanwhile, says so: True until it says False. */
static inline bool
kobs_is_up(PyObject *list)
{
    return __atomic_load_n(((PyListObject *)list)->ob_item, __ATOMIC_RELAXED) != Py_False;
}

/* What observed callables need (observed.h). */
typedef struct {
    PyTypeObject *function, *running, *coroutine, *coroutine_wrapper, *generator,
        *awaitable_generator, *async_generator, *async_step;
    PyObject *class_name, *doc_name, *module_name, *wrapped_name; /* "__class__" and so on */
    PyObject *send_name, *throw_name, *close_name;
} observed_state;


extern struct PyModuleDef kobs_module;

/* -- Ring (ring_type.c) --------------------------------------------------------------------- */

typedef struct ring_object ring_object;

enum { KOBS_RECENT = 64 };

struct ring_object {
    PyObject_HEAD
    kobs_ring ring;
    Py_buffer memory, doorbell;
    PyObject *string_ids; /* str -> int, of the strings that are in the recording */
    PyObject *intern_new; /* callable(str) -> int: puts a new one there */
    PyObject *locate;     /* callable(lane, half) -> (half, memory, ...) | None; or NULL */
    PyObject *look_ahead; /* callable(): makes the segment that follows */
    struct ring_place *places;
#if !KOBS_FREE_THREADED
    struct { /* the strings that were interned last, by identity */
        PyObject *text;
        uint32_t id;
    } recent[KOBS_RECENT];
#endif
    PyObject *weakrefs;
};

int64_t kobs_intern_anew(ring_object *, PyObject *text);

/* As `kobs_publish` and `kobs_publish_begin`. A ring with further segments may be mapped and unmapped
 * by Python meanwhile, and forks in there give its emitters another one: it is held until the end,
 * and where the interpreter does not keep threads apart, its lock does. */
uint64_t kobs_ring_publish(ring_object *, unsigned lane, const kobs_body *, size_t size);
uint64_t kobs_ring_begin(ring_object *, unsigned lane, const kobs_body *, size_t size, uint32_t name,
                         int64_t *entry);

/* The id of a string in the recording, 0 if there is no room for it; -1 with an exception set for
 * what is no string. */
static inline int64_t
kobs_intern(ring_object *ring, PyObject *text)
{
#if !KOBS_FREE_THREADED
    size_t at = ((uintptr_t)text >> 4) % KOBS_RECENT;
    if (ring->recent[at].text == text) {
        return ring->recent[at].id;
    }
#endif
    return kobs_intern_anew(ring, text);
}

/* Whether making a further segment raised while an event was published. */
static inline bool
kobs_raised(ring_object *ring)
{
    return ring->ring.locate != NULL && PyErr_Occurred() != NULL;
}

int kobs_add_ring_type(PyObject *module);

/* -- fields (fields.c) ---------------------------------------------------------------------- */

typedef enum {
    KIND_UNSIGNED,
    KIND_SIGNED,
    KIND_FLOAT,
    KIND_BOOL,
    KIND_NAME,
    KIND_IDENTIFIER,
    KIND_TEXT,
    KIND_JSON,
    KIND_ENUM,
} kobs_kind;

typedef struct {
    kobs_kind kind;
    bool keeps_tail;     /* text: what is cut is the head */
    uint16_t offset;     /* in the payload */
    uint16_t size;       /* bytes there; of text and JSON without the byte of the length */
    Py_ssize_t slot;     /* where it lies in an instance of the payload type; 0: nowhere */
    PyObject *name;      /* interned */
    PyObject *otherwise; /* the default, NULL if there is none */
    PyObject *extra;     /* enum: the class; JSON: callable(mapping, size) -> bytes | (bytes,) */
} kobs_field;

/* A field from (name, kind, offset, size, has_default, default, extra). */
int kobs_field_init(kobs_field *, PyObject *description);
void kobs_field_clear(kobs_field *);

/* The digits of an int, and how many they are; less than 0 for a negative one. */
#if PY_VERSION_HEX >= 0x030C0000
#define KOBS_DIGITS(number) (((PyLongObject *)(number))->long_value.ob_digit)
#define KOBS_DIGIT_COUNT(number)                                                                   \
    ((1 - (Py_ssize_t)(((PyLongObject *)(number))->long_value.lv_tag & 3))                         \
     * (Py_ssize_t)(((PyLongObject *)(number))->long_value.lv_tag >> 3))
#else
#define KOBS_DIGITS(number) (((PyLongObject *)(number))->ob_digit)
#define KOBS_DIGIT_COUNT(number) Py_SIZE(number)
#endif

/* The value of an int of one digit, without a call; false for other ones. */
static inline bool
kobs_small_int(PyObject *value, int64_t *to)
{
#if PY_VERSION_HEX >= 0x030C0000
    if (PyUnstable_Long_IsCompact((PyLongObject *)value)) {
        *to = PyUnstable_Long_CompactValue((PyLongObject *)value);
        return true;
    }
#else
    Py_ssize_t size = Py_SIZE(value);
    if (size >= -1 && size <= 1) {
        *to = size * (int64_t)((PyLongObject *)value)->ob_digit[0];
        return true;
    }
#endif
    return false;
}

/* A plain mapping as compact JSON of at most `size` bytes after a byte with its length; false where
 * Python is to do it. */
bool kobs_json_write(PyObject *mapping, size_t size, uint8_t *at);

/* The same of a mapping that is given by its keys and values. */
bool kobs_json_write_pairs(PyObject *const *keys, PyObject *const *values, int count, size_t size,
                           uint8_t *at);

/* An integer from 0 to `most`; -1 with an exception set for anything else. */
int kobs_unsigned_anew(PyObject *value, uint64_t most, uint64_t *to);

static inline int
kobs_unsigned(PyObject *value, uint64_t most, uint64_t *to)
{
    int64_t small;

    if (PyLong_Check(value) && kobs_small_int(value, &small) && small >= 0
        && (uint64_t)small <= most) {
        *to = (uint64_t)small;
        return 0;
    }
#if PyLong_SHIFT == 30
    if (PyLong_Check(value)) {
        /* Ids have three digits, too many for a quick call of Python's. */
        const digit *digits = KOBS_DIGITS(value);
        Py_ssize_t count = KOBS_DIGIT_COUNT(value);
        if (count == 2 || (count == 3 && digits[2] < 16)) {
            *to = digits[0] | (uint64_t)digits[1] << 30;
            *to |= count == 3 ? (uint64_t)digits[2] << 60 : 0;
            if (*to <= most) {
                return 0;
            }
        }
    }
#endif
    return kobs_unsigned_anew(value, most, to);
}

/* -- Emitter (emit.c, emitter_call.c, emitter_type.c) ---------------------------------------- */

typedef struct {
    PyObject *cause_var, *cause_type, *origin_var;
    PyObject *origin_used; /* [bool]: false while no origin was ever set */
} kobs_context;

/* Header values that a caller gives; what is not in `given` comes from the ambient cause and the
 * payload type. */
enum {
    GIVEN_PID = 1,
    GIVEN_TID = 2,
    GIVEN_SEVERITY = 4,
    GIVEN_CATEGORY = 8,
    GIVEN_CAUSALITY = 16,
    GIVEN_PARENT = 32,
    GIVEN_SPAN = 64,
    GIVEN_TIME = 128,
    GIVEN_BAD = 256, /* a value that does not fit: refused after the fields, as Python does */
    GIVEN_SAMPLED = 512,

    GIVEN_CAUSE = GIVEN_CAUSALITY | GIVEN_PARENT | GIVEN_SPAN,
};

typedef struct {
    unsigned given;
    uint8_t severity, category, flags;
    uint32_t pid, tid;
    uint64_t causality_id, parent, span_id, link, timestamp_ns;
    PyObject *sampled;   /* what was decided of the chain, see `kobs_decide`; borrowed */
    const uint8_t *json; /* what a JSON field holds, length first, written already; or NULL */
} kobs_given;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *dict, *weakrefs;
    ring_object *ring;
    uint32_t pid;
    uint16_t type_id;
    uint8_t level; /* severity | category << 4 */
    uint8_t lane;
    bool keep, begins;
    Py_ssize_t field_count, required;
    kobs_field *fields;
    size_t body_size;
    Py_ssize_t name_field, duration_field, scope_name; /* -1: none */
    kobs_context context;
    PyObject *gate;    /* [bool] */
    PyObject *decide;  /* callable(severity, category, causality_id, sampled) -> flags, or see KOBS_DROP */
    PyObject *analyse; /* callable(name, duration_us, event), or NULL */
    bool analyses; /* `analyse` is an `Analyser` */
    bool decides;  /* `decide` is a `Decider` */
    PyObject *hides;   /* callable(name) -> whether events of this name are hidden, or NULL */
    PyObject *hidden;  /* {name: bool}, the answers that it gave */
    Py_ssize_t hide_field; /* what the name is in; -1: there is none */
    PyObject *explain; /* callable(error, values, pid, link, parent): raises what is wrong */
    PyObject *title;   /* name of the payload type */
    PyObject *payload_type;
    PyObject *const *header_names;
    PyObject *answer;  /* the int that was returned last */
} emitter_object;

/* Emit: `fields` has one value a field; what is not given is filled in. 0, or -1 with an exception
 * set. `*entry` is the entry in the in-flight table of an event that opens a scope. */
int kobs_emit(emitter_object *, PyObject *const *fields, kobs_given *, uint64_t *event,
              int64_t *entry);

int kobs_add_emitter_type(PyObject *module);

/* -- the collector's methods (method_type.c) -------------------------------------------------- */

int kobs_add_method_type(PyObject *module);

/* -- Reader (reader_type.c), floors to measure against (bench_ring.c) ------------------------- */

int kobs_add_reader_type(PyObject *module);
int kobs_add_bench_ring(PyObject *module);

/* -- Detector (detector_type.c) --------------------------------------------------------------- */

/* Give a duration to the detector of an `Analyser`; `name` may be NULL. -1 with an exception set by
 * whoever was told of an anomaly. */
int kobs_analyse(PyObject *analyser, PyObject *name, double duration_us, uint64_t event);

/* Whether `analyse` is an `Analyser` of the module that `of` belongs to. */
bool kobs_is_analyser(PyTypeObject *of, PyObject *analyse);

int kobs_add_detector_types(PyObject *module);

/* -- Decider (decider_type.c) ------------------------------------------------------------------ */

/* As in `kobs.gate`; `KOBS_UNDECIDED` with an exception set. */
enum { KOBS_DROP = -1, KOBS_THINNED = -2, KOBS_UNDECIDED = -3 };

/* Flags to add to an event's, or one of these (what is dropped is counted). `sampled` may be NULL. */
int kobs_decide(PyObject *decider, unsigned severity, unsigned category, uint64_t causality_id,
                PyObject *sampled);

/* What the decision of a chain that begins is by its id: 1, 0, -1 with an exception set. It is not
 * remembered: whoever asks carries it. */
int kobs_keeps(PyObject *decider, uint64_t causality_id, unsigned category);

/* Whether `decide` is a `Decider` of the module that `of` belongs to. */
bool kobs_is_decider(PyTypeObject *of, PyObject *decide);

int kobs_add_decider_type(PyObject *module);

/* Make a type and have it be the module's; -1 with an exception set. */
int kobs_add_type(PyObject *module, PyType_Spec *);

/* What a class has under a name, a new reference; NULL where there is nothing. */
static inline PyObject *
kobs_class_attribute(PyTypeObject *type, PyObject *name)
{
#if PY_VERSION_HEX >= 0x030D0000
    return _PyType_LookupRef(type, name);
#else
    return Py_XNewRef(_PyType_Lookup(type, name));
#endif
}

/* -- Hooks of built-in functions (hook*.c) ------------------------------------------------------ */

extern bool kobs_own_is_shown; /* hook_python.c */

/* From here to there kobs runs Python code of its own, unseen by profilers and debuggers. */
#define KOBS_UNSEEN                                                                                \
    {                                                                                              \
        PyThreadState *unseen_by = kobs_own_is_shown ? NULL : PyThreadState_Get();                 \
        if (unseen_by != NULL) {                                                                   \
            PyThreadState_EnterTracing(unseen_by);                                                 \
        }
#define KOBS_SEEN                                                                                  \
        if (unseen_by != NULL) {                                                                   \
            PyThreadState_LeaveTracing(unseen_by);                                                 \
        }                                                                                          \
    }

int kobs_add_hook_types(PyObject *module);
int kobs_add_step_type(PyObject *module);  /* hook_step.c */
int kobs_add_function_hooks(PyObject *module); /* hook_python.c */
int kobs_add_wake_type(PyObject *module);  /* hook_wake.c */
int kobs_add_queue_types(PyObject *module); /* letters.c, queue_*.c */

/* -- What a new thread runs (carried.c) ------------------------------------------------------- */

int kobs_add_carried_type(PyObject *module);

/* -- Types (types.c) ------------------------------------------------------------------------- */

int kobs_add_types_type(PyObject *module);
int kobs_add_span_encoder(PyObject *module); /* otlp_encoder.c */
PyObject *kobs_pick_slots(PyObject *module, PyObject *args); /* otlp_pick.c */

/* -- Sample (sample_type.c), Condition and Found (scan_type.c, scan_found.c, scan_merge.c) ----- */

int kobs_add_sample_type(PyObject *module);
int kobs_add_scan_types(PyObject *module);
PyObject *kobs_scan_merged(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* -- what it costs (bench.c): nanoseconds an operation, of as many -------------------------------- */

PyObject *kobs_bench_observe(PyObject *module, PyObject *rounds);
PyObject *kobs_bench_filter(PyObject *module, PyObject *rounds);
PyObject *kobs_bench_serialise(PyObject *module, PyObject *rounds);
PyObject *kobs_bench_query(PyObject *module, PyObject *events); /* of one query over them */

/* -- the audit hook (audit.c) ------------------------------------------------------------------ */

PyObject *kobs_audit(PyObject *module, PyObject *args);
PyObject *kobs_audit_listens(PyObject *module, PyObject *on);

/* -- bytes through sockets (traffic.c) ---------------------------------------------------------- */

PyObject *kobs_traffic(PyObject *module, PyObject *descriptor);
PyObject *kobs_traffic_counts(PyObject *module, PyObject *sock);

/* -- spans (span_type.c, span_life.c, span_open.c, span_maker.c) ----------------------------- */

typedef struct span_object span_object;

/* Whose spans need no Python, and what is recorded of them. */
typedef struct {
    PyObject *collector; /* NULL: none's do, nor do the others count */
    emitter_object *began, *ended;
    PyObject *gate, *trace_high;
} span_wires;

enum { KOBS_FREE_SPANS = 16 };
typedef struct {
    PyObject *cause_var, *cause_type, *modules;
    Py_buffer slow_ms; /* doubles, by category */
    PyObject *zero, *nothing, *unset, *error, *incomplete, *opentelemetry, *enter, *exit, *record;
    PyTypeObject *span_type;
    span_object **open; /* buckets of those that began in C and have not ended, by span id */
    size_t open_buckets, open_count;
#if !KOBS_FREE_THREADED
    span_object *free[KOBS_FREE_SPANS]; /* their memory is used again; without references of their own */
    int free_count;
    PyObject *duration; /* a float that is used again and again; or NULL */
#endif
    span_wires wired; /* exchanged at any time */
    PyObject *other_var;     /* another tracer's context variable, or NULL; set once */
    PyObject *other_nothing; /* what is in it where there is no context */
    Py_ssize_t modules_seen; /* how many were imported when OpenTelemetry was not among them */
    uint64_t exported_upto;  /* traces that begin here with a higher id are not exported */
} span_state;

PyObject *kobs_span_type(PyObject *module, PyObject *args);
PyObject *kobs_wire_spans(PyObject *module, PyObject *args);
PyObject *kobs_look_elsewhere(PyObject *module, PyObject *args);
PyObject *kobs_find_open_span(PyObject *module, PyObject *span_id);
PyObject *kobs_list_open_spans(PyObject *module, PyObject *none);
PyObject *kobs_close_open_span(PyObject *module, PyObject *span);
int kobs_add_span_maker(PyObject *module);
int kobs_visit_spans(span_state *, visitproc visit, void *arg);
void kobs_clear_spans(span_state *);

/* -- the garbage collector (gc_watch.c) ------------------------------------------------------ */

typedef struct {
    PyObject *theirs; /* the program's `gc.callbacks`; NULL while nobody watches */
    PyObject **place; /* where the interpreter keeps it */
    PyObject *before; /* callable(): a collection is to begin */
    PyObject *told;   /* callable(generation, duration_us, collected) */
    int64_t began_ns;
} gc_watch;

PyObject *kobs_watch_gc(PyObject *module, PyObject *args);
PyObject *kobs_unwatch_gc(PyObject *module, PyObject *none);

/* -- instances of a C type (type_watch.c) ---------------------------------------------------- */

PyObject *kobs_watch_type(PyObject *module, PyObject *args);
PyObject *kobs_unwatch_type(PyObject *module, PyObject *none);

/* When steps of event loops became ready to run (hook_wake.c). */
typedef struct kobs_wakes kobs_wakes;

/* -- the module's state --------------------------------------------------------------------- */

typedef struct {
    PyTypeObject *ring_type, *emitter_type, *analyser_type, *types_type, *sample_type,
        *found_type, *condition_type, *decider_type, *method_type, *span_maker;
    PyObject *header_names[10];
    bool hooks_end; /* with the interpreter: that is seen to */
    span_state span;
    observed_state observed;
    gc_watch gc;
    kobs_wakes *wakes; /* or NULL */
} core_state;

/* -- observed callables (observed*.c) --------------------------------------------------------- */

extern PyMethodDef kobs_observed_functions[];
int kobs_add_observed(PyObject *module);
int kobs_visit_observed(observed_state *, visitproc, void *);
void kobs_clear_observed(observed_state *);

/* An attribute of an object that stands for a function: what its own type has, the function's own
 * for everything else. */
PyObject *kobs_stand_for(PyObject *self, PyObject *function, PyObject *name);

/* -- the layout, for the check at import (layout_table.c) ------------------------------------ */

PyObject *kobs_layout_table(void);

/* The code of the innermost Python frame, a new reference; NULL for none (running_code.c). */
PyObject *kobs_running_code(void);

/* Have the handlers of signals that came wait while kobs runs Python code; false: there are none to
 * be released (hook_signals.c). */
bool kobs_hold_signals(PyThreadState *);
void kobs_release_signals(PyThreadState *, bool held);

#endif
