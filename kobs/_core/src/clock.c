#define _GNU_SOURCE
#include "clock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>
#if KOBS_HAS_TSC
#include <cpuid.h>
#endif

enum {
    WINDOW_NS = 1000000,        /* an anchor's life */
    FIRST_RATE_NS = 10000000,   /* how long the counter is watched before it is believed */
    NEXT_RATE_NS = 1000000000,  /* and then how often its rate is measured anew */
};

_Thread_local kobs_thread kobs_this_thread __attribute__((tls_model("initial-exec")));

/* Since when the counter is watched, and the rate that was found; 0: none yet. One thread measures
 * at a time: the base is two values of the same moment. */
static _Atomic uint64_t base_ticks, base_ns, rate;
static atomic_bool measuring;
static bool invariant;

static void
begin_in_child(void)
{
    kobs_this_thread.id = 0; /* its only thread has another id now */
    atomic_store(&measuring, false); /* whoever measured is not there */
}

__attribute__((constructor)) static void
at_load(void)
{
    pthread_atfork(NULL, NULL, begin_in_child);
#if KOBS_HAS_TSC
    unsigned a, b, c, d;
    invariant = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & 1u << 8);
    base_ns = kobs_monotonic();
    base_ticks = kobs_ticks();
#endif
}

const char *
kobs_clock_name(void)
{
    return invariant ? "tsc" : "clock_gettime";
}

uint32_t
kobs_thread_id_anew(kobs_thread *thread)
{
    return thread->id = (uint32_t)syscall(SYS_gettid);
}

#if KOBS_HAS_TSC
/* The rate as of now; `known` is the last one, 0 where there is none. */
static uint64_t
measure(uint64_t known, uint64_t ticks, uint64_t ns)
{
    uint64_t since_ns = ns - atomic_load_explicit(&base_ns, memory_order_relaxed);
    uint64_t since_ticks = ticks - atomic_load_explicit(&base_ticks, memory_order_relaxed);

    if ((int64_t)since_ns < (known ? NEXT_RATE_NS : FIRST_RATE_NS)) { /* or measured since then */
        return known;
    }
    uint64_t found = since_ticks ? (uint64_t)(((__uint128_t)since_ns << 32) / since_ticks) : 0;
    bool differs = known && (found > known + known / 1000 || found < known - known / 1000);
    atomic_store_explicit(&base_ns, ns, memory_order_relaxed);
    atomic_store_explicit(&base_ticks, ticks, memory_order_relaxed);
    /* By more than 0.1 %: the machine slept meanwhile. */
    if (differs || found == 0) {
        found = known;
    }
    atomic_store_explicit(&rate, found, memory_order_relaxed);
    return found;
}

/* Nanoseconds a tick times 2^32 as of now; 0 where that is not known yet. */
static uint64_t
measured_rate(uint64_t ticks, uint64_t ns)
{
    uint64_t known = atomic_load_explicit(&rate, memory_order_relaxed);

    if (atomic_exchange_explicit(&measuring, true, memory_order_acquire)) {
        return known; /* another thread is about it */
    }
    known = measure(atomic_load_explicit(&rate, memory_order_relaxed), ticks, ns);
    atomic_store_explicit(&measuring, false, memory_order_release);
    return known;
}
#endif

uint64_t
kobs_now_anew(kobs_thread *thread)
{
    uint64_t ns = kobs_monotonic();
#if KOBS_HAS_TSC
    if (!invariant) {
        return ns;
    }
    uint64_t ticks = kobs_ticks();
    uint64_t now_rate = measured_rate(ticks, ns);
    if (now_rate == 0) {
        return ns;
    }
    uint64_t window = ((uint64_t)WINDOW_NS << 32) / now_rate;
    uint64_t since = ticks - thread->ticks, ahead = 0;
    /* Time never goes back within a thread: if the last anchor ran ahead of the clock, go on from
     * there, as much slower as brings both together by the end of this window. */
    if (thread->window != 0 && since < window * 1000) {
        uint64_t told = thread->ns + (uint64_t)((__uint128_t)since * thread->rate >> 32);
        if (told > ns && told - ns < WINDOW_NS / 2) {
            ahead = told - ns;
        }
    }
    thread->ticks = ticks;
    thread->ns = ns += ahead;
    thread->rate = now_rate - ahead * (now_rate / WINDOW_NS);
    thread->window = window;
#else
    (void)thread;
#endif
    return ns;
}
