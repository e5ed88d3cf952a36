/* A span as a context manager: begun and ended here where nothing is unusual, else by Python. */

#include "span.h"

int
kobs_span_tell_mistake(span_object *self, PyObject *collector)
{
    PyObject *type, *error, *traceback;

    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    PyObject *done = PyObject_CallMethod((PyObject *)self, "_mistake", "OO", collector,
                                         error == NULL ? Py_None : error);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    if (done == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        PyErr_Clear();
    }
    Py_XDECREF(done);
    return 0;
}

PyObject *
kobs_span_enter(span_object *self, PyObject *Py_UNUSED(none))
{
    span_wires held;
    int done = kobs_span_begin(self, kobs_span_hold_wires(self->state, &held));

    kobs_span_let_go_of_wires(&held);
    if (done > 0) {
        return Py_NewRef(self);
    }
    if (done < 0) {
        return NULL;
    }
    if (self->began_ns == 0) {
        self->span_id = self->causality_id = 0; /* what Python begins is Python's to end */
    }
    return PyObject_CallMethodNoArgs((PyObject *)self, self->state->enter);
}

/* Python could not end it, for instance because the stack has no room for another frame: end it
 * with what is known. None; NULL where what went wrong is the program's, as a KeyboardInterrupt is. */
static PyObject *
end_anyway(span_object *self, const span_wires *wires, PyObject *error)
{
    PyObject *type, *mistake, *traceback;
    PyObject *collector = Py_NewRef(self->collector == NULL ? Py_None : self->collector);
    int done = 0;

    PyErr_Fetch(&type, &mistake, &traceback);
    if (kobs_span_is_ours(self, wires)) {
        PyObject *name = kobs_span_hold(self, &self->name);
        if (error != Py_None) {
            kobs_span_set(self, &self->status, Py_NewRef(self->state->error));
        }
        PyObject *status = kobs_span_hold(self, &self->status);
        done = kobs_span_end_wired(self, wires, name, status, true);
        kobs_span_let_go(status);
        kobs_span_let_go(name);
    }
    if (done == 0) {
        kobs_span_set_began(self, 0);
        done = self->token == NULL ? 0 : kobs_span_restore_cause(self, self->state);
    }
    if (done < 0) {
        PyErr_Clear();
    }
    PyErr_Restore(type, mistake, traceback);
    done = kobs_span_tell_mistake(self, collector);
    Py_DECREF(collector);
    return done < 0 ? NULL : Py_NewRef(Py_None);
}

/* __exit__(kind, error, traceback) */
PyObject *
kobs_span_exit(span_object *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *answer = NULL;

    if (count != 3) {
        PyErr_Format(PyExc_TypeError, "__exit__() takes 3 arguments, got %zd", count);
        return NULL;
    }
    span_wires held;
    const span_wires *wires = kobs_span_hold_wires(self->state, &held);
    int done = kobs_span_end(self, wires, args[1]);
    if (done > 0) {
        answer = Py_NewRef(Py_None);
    }
    else if (done == 0) {
        PyObject *with_self[] = {(PyObject *)self, args[0], args[1], args[2]};
        answer = PyObject_VectorcallMethod(self->state->exit, with_self, 4, NULL);
        if (answer == NULL
            && (self->began_ns != 0 || self->token != NULL
                || (args[1] != Py_None && PyErr_ExceptionMatches(PyExc_RecursionError)))) {
            answer = end_anyway(self, wires, args[1]);
        }
    }
    kobs_span_let_go_of_wires(&held);
    if (self->began_ns == 0) {
        kobs_span_close(self);
    }
    return answer;
}
