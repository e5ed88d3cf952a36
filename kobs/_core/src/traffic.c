/* Bytes that went through sockets, by descriptor: counted by hooks of the methods that send and
 * receive, read by the network watch where the kernel does not count. */

#include "hook.h"

#define DESCRIPTORS 65536

static _Atomic uint64_t moved[DESCRIPTORS][2];

/* The descriptor is the first that a `_socket.socket` has, see `PySocketSockObject`. */
static int
descriptor_of(PyObject *sock)
{
    return *(const int *)((const char *)sock + sizeof(PyObject));
}

/* What is sent: a buffer. What is received: bytes. Else a number, or the first of a tuple. */
static Py_ssize_t
size_of(PyObject *result)
{
    if (PyTuple_Check(result) && PyTuple_GET_SIZE(result) > 0) {
        result = PyTuple_GET_ITEM(result, 0);
    }
    if (PyBytes_Check(result)) {
        return PyBytes_GET_SIZE(result);
    }
    Py_ssize_t size = PyLong_Check(result) ? PyLong_AsSsize_t(result) : 0;
    if (size == -1) {
        PyErr_Clear();
    }
    return size;
}

static Py_ssize_t
size_given(const hook_call *call)
{
    PyObject *args = kobs_hook_positional(call);
    Py_buffer buffer;
    Py_ssize_t size = 0;

    if (args != NULL && PyTuple_GET_SIZE(args) > 1
        && PyObject_GetBuffer(PyTuple_GET_ITEM(args, 1), &buffer, PyBUF_SIMPLE) == 0) {
        size = buffer.len;
        PyBuffer_Release(&buffer);
    }
    Py_XDECREF(args);
    PyErr_Clear();
    return size;
}

void
kobs_traffic_count(const hook_call *call, PyObject *result, kobs_traffic_way way)
{
    int descriptor = descriptor_of(call->self);

    if (descriptor < 0 || descriptor >= DESCRIPTORS) {
        return;
    }
    Py_ssize_t size = result == Py_None ? size_given(call) : size_of(result);
    if (size > 0) {
        atomic_fetch_add_explicit(&moved[descriptor][way], (uint64_t)size, memory_order_relaxed);
    }
}

PyObject *
kobs_traffic(PyObject *Py_UNUSED(module), PyObject *number)
{
    long descriptor = PyLong_AsLong(number);

    if (descriptor == -1 && PyErr_Occurred()) {
        return NULL;
    }
    uint64_t sent = 0, received = 0;
    if (descriptor >= 0 && descriptor < DESCRIPTORS) {
        sent = atomic_exchange(&moved[descriptor][TRAFFIC_SENT], 0);
        received = atomic_exchange(&moved[descriptor][TRAFFIC_RECEIVED], 0);
    }
    return Py_BuildValue("KK", (unsigned long long)sent, (unsigned long long)received);
}

PyObject *
kobs_traffic_counts(PyObject *Py_UNUSED(module), PyObject *sock)
{
    return PyBool_FromLong(Py_TYPE(sock)->tp_basicsize > (Py_ssize_t)sizeof(PyObject)
                           && descriptor_of(sock) == -1);
}
