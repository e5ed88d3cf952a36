/* The sends into one in-process queue that were not received yet, by identity of the item. The
 * Python twin is `Pending` in the watch `queue`. */

#ifndef KOBS_LETTERS_H
#define KOBS_LETTERS_H

#include "core.h"

/* One send. */
typedef struct letter {
    const void *item;
    struct letter *next_item;      /* of the bucket; in the oldest of an item */
    struct letter *newest;         /* of the item; in the oldest of it */
    struct letter *newer, *older;  /* of the item */
    struct letter *after, *before; /* of the queue */
    PyObject *sent;   /* a `Sent` that Python made; NULL: what follows is the send */
    PyObject *cause;  /* the sender's; NULL: it began a chain */
    PyObject *origin; /* NULL: "" */
    PyObject *sampled; /* what was decided of the chain */
    uint64_t chain, parent, link, timestamp_ns;
} letter;

typedef enum { ORDER_FIRST, ORDER_LAST, ORDER_ANY } kobs_order;

typedef struct {
    PyObject_HEAD
    PyObject *queue; /* a weak reference */
    PyObject *label;
    PyObject *make_sent; /* callable(link, cause, origin, timestamp_ns) */
    PyObject *cause_type;
    Py_ssize_t level; /* the depth that was told last */
    Py_ssize_t quiet; /* so many puts and gets more cannot bring about one that is to be told */
    Py_ssize_t limit;
    kobs_order order;
    letter **buckets; /* a power of two; NULL before the first */
    size_t mask, count;
    letter *first, *last;
} letters_object;

/* Remember a send, which is the table's from then on; false where there is no memory. */
bool kobs_letters_add(letters_object *, letter *);

/* Take the send of a received item; NULL if it is not known, or not which one of several. */
letter *kobs_letters_take(letters_object *, const void *item);

/* Forget the send with that link, which did not happen. */
void kobs_letters_remove(letters_object *, const void *item, uint64_t link);

void kobs_letter_free(letter *);

/* As a `Sent`; a new reference, NULL with an exception set. */
PyObject *kobs_letter_sent(letters_object *, const letter *);

/* A new `Cause` of no scope and no span. `high` may be NULL. */
PyObject *kobs_new_cause(PyObject *type, uint64_t chain, uint64_t parent, PyObject *sampled,
                         PyObject *high);

bool kobs_is_letters(PyObject *);

int kobs_add_letters_type(PyObject *module);

#endif
