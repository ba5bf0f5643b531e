/* A small pool of threads of our own.
 *
 * Workers are made at first need and then wait, busily for a moment, then on a condition variable; the caller takes part in
 * its loop. One loop runs at a time: a second caller finds the pool busy and computes alone, so callers never wait for each
 * other and cannot deadlock. After fork only the forking thread exists in the child: the child starts with an empty pool and
 * fresh locks, and makes workers of its own.
 *
 * No OpenMP: two of its runtimes in a process clash, libgomp hangs after fork, and wheels would have to carry one.
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* sets of CPUs */
#endif
#include "parallel.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "xent.h"

#if defined(_WIN32)
#include <process.h>
#include <windows.h>
typedef SRWLOCK lock_t;
typedef CONDITION_VARIABLE signal_t;
#define LOCK_INIT      SRWLOCK_INIT
#define SIGNAL_INIT    CONDITION_VARIABLE_INIT
#define lock(l)        AcquireSRWLockExclusive(l)
#define try_lock(l)    TryAcquireSRWLockExclusive(l)
#define unlock(l)      ReleaseSRWLockExclusive(l)
#define wait_for(s, l) SleepConditionVariableSRW(s, l, INFINITE, 0)
#define wake_all(s)    WakeAllConditionVariable(s)
#define WORKER_RESULT  unsigned __stdcall
#else
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
typedef pthread_mutex_t lock_t;
typedef pthread_cond_t signal_t;
#define LOCK_INIT      PTHREAD_MUTEX_INITIALIZER
#define SIGNAL_INIT    PTHREAD_COND_INITIALIZER
#define lock(l)        pthread_mutex_lock(l)
#define try_lock(l)    (pthread_mutex_trylock(l) == 0)
#define unlock(l)      pthread_mutex_unlock(l)
#define wait_for(s, l) pthread_cond_wait(s, l)
#define wake_all(s)    pthread_cond_broadcast(s)
#define WORKER_RESULT  void *
#endif

/* A loop is cut into this many chunks per thread, always in the same way; who takes which is left to the moment, so a
 * thread that starts late or shares its core does less. No result depends on it: sums are kept per group of rows. */
enum { CHUNKS_PER_THREAD = 8 };

/* A thread that waits for another looks so many times before it sleeps, here some 10 to 20 us: to be woken takes as long, and a
 * loss is two loops, over its targets and over its rows. Two threads, loss and gradient, ns per logit with 0, 300, 1000, 4000
 * looks: 1000 x 1000 0.31, 0.29, 0.265, 0.275; 16384 x 10 1.65, 1.27, 1.23, 1.27; 65536 x 10 1.24, 1.22, 1.18, 1.18. */
enum { LOOKS = 1000 };
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#define pause_briefly() _mm_pause()
#elif defined(__aarch64__)
#define pause_briefly() __asm__ volatile("isb")
#else
#define pause_briefly() ((void)0)
#endif

enum { MAX_THREADS = 256, MAX_WORKERS = MAX_THREADS - 1 };

typedef struct {
    lock_t busy;  /* held by the caller whose loop is running */
    lock_t guard; /* of everything below; `ticket` and `left` are looked at without it, too */
    signal_t start, done;
    int workers;        /* threads made */
    atomic_uint ticket; /* number of the loop; a worker that sees a new one may take part in it */
    int threads;        /* that may take part, the caller included */
    int apart;          /* calls between whose loops other threads wait busily */
    int kept_from;      /* the CPU that workers are kept from, + 1; 0: none */
    int chunks, next;   /* of the loop: how many, the next to be taken */
    atomic_int left;    /* those not yet done */
    ptrdiff_t n;
    void (*body)(void *, ptrdiff_t, ptrdiff_t);
    void *context;
} pool_t;

#if defined(__linux__)
static pthread_t handles[MAX_WORKERS];
#endif
static pool_t pool = {.busy = LOCK_INIT, .guard = LOCK_INIT, .start = SIGNAL_INIT, .done = SIGNAL_INIT};
static int num_threads; /* 0: not yet asked for; guarded by pool.guard */

static ptrdiff_t chunk_start(int chunk) {
    const ptrdiff_t size = pool.n / pool.chunks, more = pool.n % pool.chunks;
    return size * chunk + (chunk < more ? chunk : more);
}

/* Take chunks of the loop until none is left. guard is held, except while a chunk is worked on. */
static void work(void) {
    while (pool.next < pool.chunks) {
        const int chunk = pool.next++;
        const ptrdiff_t first = chunk_start(chunk), last = chunk_start(chunk + 1);
        void (*body)(void *, ptrdiff_t, ptrdiff_t) = pool.body;
        void *context = pool.context;
        unlock(&pool.guard);
        body(context, first, last);
        lock(&pool.guard);
        if (--pool.left == 0) wake_all(&pool.done);
    }
}

static WORKER_RESULT worker(void *argument) {
    const int me = (int)(intptr_t)argument; /* from 1 */
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < LOOKS && pool.ticket == seen; i++) pause_briefly();
        lock(&pool.guard);
        while (pool.ticket == seen) wait_for(&pool.start, &pool.guard);
        seen = pool.ticket;
        if (me < pool.threads) work();
        unlock(&pool.guard);
    }
    return 0;
}

#if !defined(_WIN32)
static void child_after_fork(void) {
    pool = (pool_t){.busy = LOCK_INIT, .guard = LOCK_INIT, .start = SIGNAL_INIT, .done = SIGNAL_INIT};
}
static void before_fork(void) {
    lock(&pool.guard);
}
static void parent_after_fork(void) {
    unlock(&pool.guard);
}
__attribute__((constructor)) static void register_fork_handlers(void) {
    pthread_atfork(before_fork, parent_after_fork, child_after_fork);
}
#endif

/* One more worker, waiting for the loop after `pool.ticket`. guard is held. */
static int make_worker(int number) {
#if defined(_WIN32)
    uintptr_t handle = _beginthreadex(NULL, 0, worker, (void *)(intptr_t)number, 0, NULL);
    if (handle) CloseHandle((HANDLE)handle);
    return handle != 0;
#else
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 1 << 20);
    const int made = pthread_create(&thread, &attributes, worker, (void *)(intptr_t)number) == 0;
    pthread_attr_destroy(&attributes);
#if defined(__linux__)
    if (made) handles[number - 1] = thread;
#endif
    return made;
#endif
}

/* Workers run on other CPUs than the caller, if `cpu` is one (+ 1). The kernel puts a thread that wakes on the CPU of
 * whoever woke it, unless it sees an idle one; and while the threads of a BLAS wait for their next product, which they do
 * busily for 20 ms and more, it sees none. They would yield, but nobody is sent to them: of two threads, a loss between
 * two products had one. guard is held. */
static void keep_workers_from(int cpu) {
#if defined(__linux__)
    static cpu_set_t free_to[MAX_WORKERS];
    for (int i = 0; i < pool.workers && cpu != pool.kept_from; i++) {
        if (!pool.kept_from && pthread_getaffinity_np(handles[i], sizeof *free_to, &free_to[i]) != 0)
            CPU_ZERO(&free_to[i]); /* which is refused below */
        cpu_set_t others = free_to[i];
        if (cpu) CPU_CLR(cpu - 1, &others);
        pthread_setaffinity_np(handles[i], sizeof others, CPU_COUNT(&others) ? &others : &free_to[i]);
    }
#endif
    pool.kept_from = cpu;
}

static int this_cpu(void) {
#if defined(__linux__)
    return sched_getcpu() + 1;
#else
    return 0;
#endif
}

void xent_between_products(int begin) {
    lock(&pool.guard);
    if (begin || pool.apart) pool.apart += begin ? 1 : -1; /* in a child forked in between it is 0 already */
    unlock(&pool.guard);
}

void xent_parallel_for(ptrdiff_t n, int threads, void (*body)(void *, ptrdiff_t, ptrdiff_t), void *context) {
    if (threads > n) threads = (int)n;
    if (threads <= 1 || !try_lock(&pool.busy)) {
        if (n > 0) body(context, 0, n);
        return;
    }
    lock(&pool.guard);
    if (pool.workers < threads - 1) keep_workers_from(0);
    while (pool.workers < threads - 1 && pool.workers < MAX_WORKERS && make_worker(pool.workers + 1)) pool.workers++;
    if (threads > pool.workers + 1) threads = pool.workers + 1;
    keep_workers_from(pool.apart ? this_cpu() : 0);
    pool.n = n, pool.body = body, pool.context = context, pool.threads = threads;
    pool.chunks = n < CHUNKS_PER_THREAD * threads ? (int)n : CHUNKS_PER_THREAD * threads;
    pool.left = pool.chunks;
    pool.next = 0;
    pool.ticket++;
    wake_all(&pool.start);
    work();
    unlock(&pool.guard);
    for (int i = 0; i < LOOKS && pool.left > 0; i++) pause_briefly();
    lock(&pool.guard);
    while (pool.left > 0) wait_for(&pool.done, &pool.guard);
    unlock(&pool.guard);
    unlock(&pool.busy);
}

/* A positive number in an environment variable, else 0. OMP_NUM_THREADS may list one number per nesting level. */
static int from_environment(const char *name) {
    const char *text = getenv(name);
    char *end;
    if (!text) return 0;
    const long n = strtol(text, &end, 10);
    return end != text && n > 0 ? (int)(n < MAX_THREADS ? n : MAX_THREADS) : 0;
}

static int cpus(void) {
#if defined(_WIN32)
    SYSTEM_INFO info;
    GetSystemInfo(&info);
    return (int)info.dwNumberOfProcessors;
#elif defined(__linux__)
    long n = 0;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    if (n < 1) n = sysconf(_SC_NPROCESSORS_ONLN);
    return (int)n;
#else
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
#endif
}

#if defined(__linux__)
#include <stdio.h>
/* The cgroup's CPU quota in whole CPUs, rounded up; 0 where there is none. */
static int quota(void) {
    long long limit = -1, period = -1;
    char text[32];
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (f) {
        if (fscanf(f, "%31s %lld", text, &period) == 2) limit = strtoll(text, NULL, 10); /* "max": 0 */
        fclose(f);
    } else {
        f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r");
        if (f) {
            if (fscanf(f, "%lld", &limit) != 1) limit = -1;
            fclose(f);
        }
        f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r");
        if (f) {
            if (fscanf(f, "%lld", &period) != 1) period = -1;
            fclose(f);
        }
    }
    return limit > 0 && period > 0 ? (int)((limit + period - 1) / period) : 0;
}
#else
static int quota(void) {
    return 0;
}
#endif

static int default_threads(void) {
    int n = from_environment("XENT_NUM_THREADS");
    if (!n) n = from_environment("OMP_NUM_THREADS");
    if (n) return n;
    n = cpus();
    const int q = quota();
    if (q && q < n) n = q;
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

int xent_get_num_threads(void) {
    lock(&pool.guard);
    if (!num_threads) num_threads = default_threads();
    const int n = num_threads;
    unlock(&pool.guard);
    return n;
}

void xent_set_num_threads(int n) {
    lock(&pool.guard);
    num_threads = n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
    unlock(&pool.guard);
}
