#define _GNU_SOURCE
#include "stack.h"

#include <pthread.h>

enum { MOST_KEPT_FREE = 1 << 20, PART_KEPT_FREE = 4 };

_Thread_local kobs_stack kobs_this_stack;

static bool
measure(uintptr_t *base, uintptr_t *size)
{
#if defined(__linux__)
    pthread_attr_t attributes;
    void *lowest;
    size_t bytes;

    if (pthread_getattr_np(pthread_self(), &attributes) != 0) {
        return false;
    }
    bool known = pthread_attr_getstack(&attributes, &lowest, &bytes) == 0;
    pthread_attr_destroy(&attributes);
    *base = (uintptr_t)lowest;
    *size = bytes;
    return known;
#elif defined(__APPLE__)
    *size = pthread_get_stacksize_np(pthread_self());
    *base = (uintptr_t)pthread_get_stackaddr_np(pthread_self()) - *size;
    return true;
#else
    return false;
#endif
}

/* A stack of its own (a coroutine library's) is not known: whoever made it has to know its size. */
bool
kobs_stack_left_anew(uintptr_t here)
{
    kobs_stack *stack = &kobs_this_stack;
    uintptr_t base, size;

    if (stack->room == 0 || here - stack->base < stack->floor - stack->base) {
        if (!measure(&base, &size)) {
            *stack = (kobs_stack){.room = UINTPTR_MAX};
            return true;
        }
        uintptr_t free = size / PART_KEPT_FREE;
        free = free < MOST_KEPT_FREE ? free : MOST_KEPT_FREE;
        *stack = (kobs_stack){.base = base, .floor = base + free, .room = size - free};
    }
    return here - stack->base >= stack->floor - stack->base;
}
