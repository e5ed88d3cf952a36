/* Monotonic time in nanoseconds, as `time.monotonic_ns()` gives it, and ids of threads. */

#ifndef KOBS_CLOCK_H
#define KOBS_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t
kobs_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The kernel's id of this thread; asked for once a thread (and once more after a fork). */
uint32_t kobs_thread_id(void);

#endif
