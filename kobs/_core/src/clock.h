/* Monotonic time in nanoseconds on the scale of `time.monotonic_ns()`, and ids of threads.
 *
 * Where the processor's time-stamp counter is invariant, time is read from it: half the price of
 * `clock_gettime`. Each thread anchors the counter to CLOCK_MONOTONIC anew every millisecond, so
 * what the kernel adjusts is followed. Where it is not, every reading is a `clock_gettime`. */

#ifndef KOBS_CLOCK_H
#define KOBS_CLOCK_H

#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#define KOBS_HAS_TSC 1
/* Not by <x86intrin.h>: its 48,000 lines are three quarters of what each file takes to compile. */
#define kobs_ticks() ((uint64_t)__builtin_ia32_rdtsc())
#else
#define KOBS_HAS_TSC 0
#endif

/* What a thread knows of the time and of itself. */
typedef struct {
    uint64_t ticks, ns; /* the anchor: the same moment on both clocks */
    uint64_t window;    /* ticks for which the anchor is good; 0: there is none */
    uint64_t rate;      /* nanoseconds a tick, times 2^32 */
    uint32_t id;        /* the kernel's; 0: not asked for yet */
} kobs_thread;

extern _Thread_local kobs_thread kobs_this_thread __attribute__((tls_model("initial-exec")));

uint64_t kobs_now_anew(kobs_thread *);
uint32_t kobs_thread_id_anew(kobs_thread *);

static inline uint64_t
kobs_now(void)
{
    kobs_thread *thread = &kobs_this_thread;
#if KOBS_HAS_TSC
    uint64_t since = kobs_ticks() - thread->ticks;

    if (__builtin_expect(since < thread->window, 1)) {
        return thread->ns + (since * thread->rate >> 32);
    }
#endif
    return kobs_now_anew(thread);
}

/* The kernel's id of this thread; asked for once a thread, and once more after a fork. */
static inline uint32_t
kobs_thread_id(void)
{
    kobs_thread *thread = &kobs_this_thread;

    return __builtin_expect(thread->id != 0, 1) ? thread->id : kobs_thread_id_anew(thread);
}

/* CLOCK_MONOTONIC itself. */
static inline uint64_t
kobs_monotonic(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Where `kobs_now` reads the time: "tsc" or "clock_gettime". */
const char *kobs_clock_name(void);

#endif
