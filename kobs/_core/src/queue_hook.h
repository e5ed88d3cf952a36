/* Hooks of the methods that put into and get from in-process queues: what the watch `queue` does,
 * without Python where nothing about the call is unusual. */

#ifndef KOBS_QUEUE_HOOK_H
#define KOBS_QUEUE_HOOK_H

#include "emitter.h"
#include "hook.h"
#include "letters.h"

enum { KOBS_QUEUES_AT_HAND = 8 };

/* What the hooks have in common. */
typedef struct {
    PyObject_HEAD
    kobs_context context;
    PyObject *queues;  /* {identity: Letters} */
    PyObject *make;    /* callable(queue): its letters, there from then on */
    PyObject *said;    /* set of the payload types that observed calls say */
    PyObject *sends, *receives; /* payload types */
    PyObject *pools;   /* names of modules whose calls are not told */
    PyObject *elsewhere; /* one that is none of these, seen last; or NULL */
    PyObject *passed_over, *passed_file; /* module and file name of stand-ins in Python */
    /* what Python does where a call is unusual */
    PyObject *put;       /* callable(queue, item, timeout) -> state */
    PyObject *put_done;  /* callable(state, None) */
    PyObject *received;  /* callable(label, size, sent | None) */
    PyObject *tell_depth; /* callable(letters) */
    PyObject *timed_out; /* callable(label, timeout, error, name) */
    PyObject *tell;      /* callable(where, error) */
    PyObject *zero;
    lenfunc deque_length;
    PyObject *queue_name, *deque_name, *size_name, *asyncio_size_name, *module_name;
    /* where events go */
    PyObject *ask; /* callable(): aims anew if need be, before each call; or NULL */
    emitter_object *sent_event, *received_event, *depth_event; /* NULL: nobody wants such events */
    PyObject *decider, *up; /* of chains that begin; NULL: all are kept */
    struct {
        PyObject *queue;
        letters_object *letters;
    } at_hand[KOBS_QUEUES_AT_HAND]; /* the queue borrowed */
} queue_watch;

/* What is hooked. */
typedef struct kobs_queue_site {
    queue_watch *watch;
    bool puts;
    Py_ssize_t timeout_at; /* among the arguments; -1: it never waits */
    PyObject *item_name, *timeout_name;
    PyObject *measure; /* callable(queue) -> depth; NULL: the queue's own container is asked */
    PyObject *where;
} kobs_queue_site;

/* One call. */
typedef struct {
    letters_object *letters; /* NULL: nothing is to be told of it */
    PyObject *item, *timeout; /* borrowed */
    PyObject *state; /* Python's, of a put that it told; or NULL */
    PyObject *cause, *sampled; /* of the send */
    uint64_t chain, parent, link, timestamp_ns;
} kobs_queue_call;

/* -- queue_call.c */

/* Before and after the call of the original. An error of ours is swallowed; false, and NULL, for what
 * is the program's. */
bool kobs_queue_begin(const kobs_queue_site *, kobs_queue_call *, PyObject *queue,
                      PyObject *const *args, Py_ssize_t count, PyObject *keywords);
PyObject *kobs_queue_end(const kobs_queue_site *, kobs_queue_call *, PyObject *queue,
                         PyObject *result);

/* Whether an observed call may say such an event too: Python is to look. */
bool kobs_queue_said(queue_watch *, PyObject *type);

/* The ambient cause, a new reference, NULL where there is none; false where Python is to look, or with
 * an exception. */
bool kobs_queue_plain_cause(queue_watch *, PyObject **cause);

/* One that `aim` may exchange, a new reference; NULL where nobody wants its events. */
emitter_object *kobs_queue_emitter(queue_watch *, emitter_object **at);

/* -- queue_depth.c */

/* Tell the depth where there is something to tell; -1 with an exception set. */
int kobs_queue_tell_depth(const kobs_queue_site *, letters_object *, PyObject *queue);

/* -- queue_watch.c */

int kobs_add_queue_watch_type(PyObject *module);

#endif
