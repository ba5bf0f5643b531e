/* The thread pool: many threads call at once, cold, while one changes the number of threads; then a child forked in the
 * middle of it all computes too. Results are those of one thread. `check_pool` is built with -fsanitize=thread by
 * tests/c/sanitizers.sh; `check_pool fork`, which that sanitizer does not follow, without. */
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exercise.h"

enum { CALLERS = 6, ROUNDS = 6 };

static uint64_t expected[2];
static atomic_int wrong, running;
static pthread_barrier_t start;

/* Enough logits for several threads; few enough that calls follow each other closely. */
static uint64_t some_calls(int f64) {
    uint64_t hash = 1;
    call_set s = {.how = &PLAIN,
                  .type = f64 ? XENT_FLOAT64 : XENT_FLOAT32,
                  .f64 = f64,
                  .rows = 650,
                  .classes = 130,
                  .seed = 11,
                  .hash = &hash};
    call_shape(s.rows, s.classes, 0, s.sizes);
    s.shape = (xent_shape){4, s.sizes, 0xa};
    exercise_reductions(&s);
    exercise_loss(&s, BY_ROWS);
    exercise_loss(&s, SMOOTHING | SUM);
    exercise_hessian(&s, VECTOR);
    exercise_sigmoid(&s, s.type, 0);
    return hash;
}

static void *caller(void *argument) {
    const int me = (int)(intptr_t)argument;
    pthread_barrier_wait(&start);
    for (int i = 0; i < ROUNDS; i++) {
        const int f64 = (me + i) % 2;
        const uint64_t hash = some_calls(f64);
        if (expected[f64] && hash != expected[f64]) wrong++;
    }
    running--;
    return NULL;
}

static void *meddler(void *unused) {
    (void)unused;
    pthread_barrier_wait(&start);
    for (int n = 1; running > 0; n = n % 5 + 1) {
        xent_set_num_threads(n);
        xent_between_products(n % 2);
        CHECK(xent_get_num_threads() >= 1 && xent_tier() && xent_tier_name(0));
        usleep(500);
    }
    return NULL;
}

static int tasks(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    if (!d) return -1;
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static int in_child(void) {
    alarm(120); /* a child that hangs is a child that failed */
    xent_set_num_threads(3);
    for (int f64 = 0; f64 < 2; f64++)
        if (some_calls(f64) != expected[f64]) return 1;
    return tasks() == 3 || tasks() == -1 ? 0 : 2; /* with workers of its own */
}

int main(int argc, char **argv) {
    const int forking = argc > 1 && strcmp(argv[1], "fork") == 0;
    pthread_t threads[CALLERS + 1];
    CHECK(pthread_barrier_init(&start, NULL, CALLERS + 1) == 0);
    if (forking) {
        xent_set_num_threads(1);
        for (int f64 = 0; f64 < 2; f64++) expected[f64] = some_calls(f64);
    } /* otherwise the first calls of this process are made by all threads at once */
    running = CALLERS;
    for (int i = 0; i < CALLERS; i++) CHECK(pthread_create(&threads[i], NULL, caller, (void *)(intptr_t)i) == 0);
    CHECK(pthread_create(&threads[CALLERS], NULL, meddler, NULL) == 0);
    int children = 0, failed = 0;
    for (; forking && running > 0 && children < 12; children++) {
        const pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) _exit(in_child());
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        if (status != 0) {
            failed++;
            fprintf(stderr, "FAILED: child %d, wait status 0x%x\n", children, (unsigned)status);
        }
    }
    for (int i = 0; i <= CALLERS; i++) pthread_join(threads[i], NULL);
    if (!forking) {
        xent_set_num_threads(1);
        for (int f64 = 0; f64 < 2; f64++) expected[f64] = some_calls(f64);
        running = CALLERS;
        for (int i = 0; i < CALLERS; i++) CHECK(pthread_create(&threads[i], NULL, caller, (void *)(intptr_t)i) == 0);
        CHECK(pthread_create(&threads[CALLERS], NULL, meddler, NULL) == 0);
        for (int i = 0; i <= CALLERS; i++) pthread_join(threads[i], NULL);
    } else
        CHECK(children > 0);
    failed += wrong;
    printf("pool: %d calling threads, %d children, %d failed\n", CALLERS, children, failed);
    return failed != 0;
}
