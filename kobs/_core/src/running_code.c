/* Which code calls a C function, without the frame object that `PyEval_GetFrame` makes: that costs
 * as much as an event. */

#if !defined(Py_BUILD_CORE)
#define Py_BUILD_CORE 1
#endif
#include <Python.h>

#if PY_VERSION_HEX < 0x030C0000
#include "internal/pycore_frame.h"
#endif

PyObject *kobs_running_code(void);

PyObject *
kobs_running_code(void)
{
    PyThreadState *thread = PyThreadState_Get();
#if PY_VERSION_HEX >= 0x030D0000
    struct _PyInterpreterFrame *frame = thread->current_frame;
#else
    struct _PyInterpreterFrame *frame = thread->cframe->current_frame;
#endif

    if (frame == NULL) {
        return NULL;
    }
#if PY_VERSION_HEX >= 0x030C0000
    return PyUnstable_InterpreterFrame_GetCode(frame);
#else
    return Py_NewRef(frame->f_code);
#endif
}
