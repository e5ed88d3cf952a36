/* How much of a thread's C stack is left.
 *
 * A Python function that calls another needs no C stack, however deep (from 3.11 on); with an observed
 * callable between the two it does. So recursion that is as deep as the interpreter allows, or in a
 * thread with a small stack, could overrun it: it ends with a RecursionError before that. */

#ifndef KOBS_STACK_H
#define KOBS_STACK_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uintptr_t base;  /* the lowest address */
    uintptr_t floor; /* the lowest from which a call may begin */
    uintptr_t room;  /* bytes above the floor; 0: not known yet */
} kobs_stack;

extern _Thread_local kobs_stack kobs_this_stack __attribute__((tls_model("initial-exec")));

bool kobs_stack_left_anew(uintptr_t here);

/* Whether there is room for another call. */
static inline bool
kobs_stack_left(void)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    return __builtin_expect(here - kobs_this_stack.floor < kobs_this_stack.room, 1)
           || kobs_stack_left_anew(here);
}

#endif
