/* Every public function, on every tier, over every layout of the arrays, type of label, thread count, and in place: the
 * same bits, no byte touched outside the results. Built with -fsanitize=address,undefined by tests/c/sanitizers.sh. */
#include "exercise_packs.h"

static int passed, failed;

static void expect(int right, const char *what, const char *detail) {
    if (right)
        passed++;
    else {
        failed++;
        fprintf(stderr, "FAILED on tier %s: %s, %s\n", xent_tier(), what, detail);
    }
}

/* Targets at fault: the fault is named and nothing is written. */
static void check_faults(xent_type type) {
    enum { ROWS = 70, CLASSES = 5 };
    const variant how = PLAIN;
    call_set s = {.how = &how, .type = type, .f64 = type == XENT_FLOAT64, .rows = ROWS, .classes = CLASSES, .seed = 3};
    call_shape(ROWS, CLASSES, 0, s.sizes);
    s.shape = (xent_shape){4, s.sizes, 0xa};
    static const struct {
        xent_type type;
        double label;
        int ignore;
    } BAD[] = {{XENT_INT8, -1, 0},  {XENT_INT8, -128, 1},   {XENT_UINT8, 255, 1}, {XENT_INT16, 32767, 0},
               {XENT_UINT32, 5, 1}, {XENT_INT64, -3e18, 0}, {XENT_INT64, 5, 1},   {XENT_UINT64, 9e18, 1}};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        box x = new_logits(&s, how.in), out = new_box(type, ROWS, CLASSES, how.out, 0, 0x5a);
        xent_cross_entropy_problem p = {.shape = s.shape, .logits = *view_of(&x)};
        xent_cross_entropy_result result = {.grad = *view_of(&out)};
        const uint64_t before = raw_hash(&out);
        p.labels = new_vector(BAD[i].type, ROWS);
        p.has_ignore = BAD[i].ignore, p.ignore = -2;
        for (int row = 0; row < ROWS; row++)
            put_number(&p.labels, row, row == 41 || row == 66 ? BAD[i].label : row % CLASSES);
        expect(CROSS_ENTROPY[s.f64](&p, &result) == XENT_BAD_LABEL && result.fault.row == 41 &&
                   result.fault.count == 2 && (double)result.fault.label == BAD[i].label && raw_hash(&out) == before,
               "label out of range", "fault");
        free_problem(&p), free(x.block), free(out.block);
    }
    const double bad[] = {-0x1p-60, NOT_A_NUMBER, INF, -INF};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        box x = new_logits(&s, how.in), q = new_numbers(&s, type, 0), out = new_box(type, ROWS, CLASSES, how.out, 0, 1);
        const uint64_t before = raw_hash(&out);
        put(&q, 13, CLASSES - 1, bad[i]);
        xent_cross_entropy_problem p = {.shape = s.shape, .logits = *view_of(&x), .probabilities = *view_of(&q)};
        xent_cross_entropy_result result = {.grad = *view_of(&out)};
        expect(CROSS_ENTROPY[s.f64](&p, &result) == XENT_BAD_PROBABILITY && result.fault.row == 13 &&
                   result.fault.count == 1 && (result.fault.value == bad[i] || bad[i] != bad[i]) &&
                   raw_hash(&out) == before,
               "bad probability", "fault");
        free(x.block), free(q.block), free(out.block);
    }
}

/* Columns and contiguous rows; 16 bits, in place, on several threads, and on one. The longest columns come twice, but the
 * packs with row 5, which has a NaN. */
static void check_packs(void) {
    static const ptrdiff_t ROWS[] = {33, 40, 97, 40, 40}, CLASSES[] = {2049, 4097, 8200, 32769, 65537};
    for (int i = 0; i < 5; i++) {
        const xent_type type = i % 2 ? XENT_FLOAT64 : XENT_FLOAT32;
        xent_set_num_threads(1);
        const uint64_t hash = packed_results(type, ROWS[i], CLASSES[i], 0, 0);
        for (int in_place = 0; in_place < 2; in_place++) {
            expect(packed_results(type, ROWS[i], CLASSES[i], 1, in_place) == hash, "columns by blocks", "");
            xent_set_num_threads(i < 3 ? 3 : 2); /* which leave 16 rows for each */
        }
    }
    static const ptrdiff_t MANY[] = {260, 150}; /* large packs: the first has rows 5 and 6, the others are plain */
    for (int i = 0; i < 2; i++) {
        const xent_type type = i % 2 ? XENT_FLOAT64 : XENT_FLOAT32;
        const uint64_t hash = packed_results_of(type, 700, MANY[i], 0, 0, 700);
        for (int threads = 1; threads < 4; threads += 2) {
            xent_set_num_threads(threads);
            for (int in_place = 0; in_place < 2; in_place++)
                expect(packed_results_of(type, 700, MANY[i], 1, in_place, 700) == hash, "columns, large packs", "");
        }
    }
    static const ptrdiff_t LONG[] = {4097, 12300};
    for (int i = 0; i < 2; i++) { /* terms beside the results, and in place */
        xent_set_num_threads(1);
        const uint64_t hash = packed_results(XENT_FLOAT32, 21, LONG[i], 0, 1);
        for (int threads = 1; threads < 4; threads += 2) {
            xent_set_num_threads(threads);
            expect(packed_results(XENT_FLOAT32, 21, LONG[i], 0, 0) == hash, "rows of several blocks", "");
        }
    }
    static const ptrdiff_t FEW[] = {1, 17, 129, 300, 1000, 5000};
    for (size_t i = 0; i < sizeof FEW / sizeof *FEW; i++) {
        const ptrdiff_t rows = 20000 / FEW[i] + 3;
        xent_set_num_threads(1);
        const uint64_t hash = packed_results(XENT_BFLOAT16, rows, FEW[i], 0, 1);
        for (int threads = 1; threads < 4; threads += 2) {
            xent_set_num_threads(threads);
            expect(packed_results(XENT_BFLOAT16, rows, FEW[i], 0, 0) == hash, "16 bits past the cache", "");
            expect(packed_results(XENT_BFLOAT16, rows, FEW[i], 1, 0) == hash, "16 bits, columns", "");
        }
    }
}

/* Of what a call asks for, number `refused` is not there. Linked with --wrap=malloc,--wrap=calloc. */
static atomic_int asked, refused = -1;
static int refuses(void) {
    return in_call && atomic_fetch_add(&asked, 1) == refused;
}
void *__real_malloc(size_t), *__real_calloc(size_t, size_t), *__wrap_malloc(size_t), *__wrap_calloc(size_t, size_t);
void *__wrap_malloc(size_t size) {
    return refuses() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t n, size_t size) {
    return refuses() ? NULL : __real_calloc(n, size);
}

/* No memory for one of the things that are asked for, each in its turn: XENT_NO_MEMORY, or the same bits without it. */
static void check_memory(void) {
    static const struct {
        xent_type type;
        ptrdiff_t rows, classes;
        int turned, in_place;
    } CASES[] = {{XENT_FLOAT32, 97, 8200, 1, 0},  {XENT_FLOAT32, 97, 8200, 1, 1},  {XENT_FLOAT64, 40, 4097, 1, 0},
                 {XENT_FLOAT32, 700, 260, 1, 0},  {XENT_FLOAT64, 700, 150, 1, 1},  {XENT_FLOAT32, 21, 12300, 0, 0},
                 {XENT_BFLOAT16, 70, 300, 0, 0},  {XENT_BFLOAT16, 1200, 17, 1, 0}, {XENT_FLOAT64, 2, 300000, 0, 0},
                 {XENT_FLOAT32, 2, 300000, 0, 1}, {XENT_FLOAT32, 70000, 2, 0, 1}};
    int without = 0, told = 0;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        for (int what = 0; what < PACKED_CALLS; what++) {
            uint64_t whole = 0;
            int more = 1;
            xent_set_num_threads(i % 3 ? 1 : 3);
            for (int number = -1; more; number++) {
                uint64_t hash = 0;
                atomic_store(&asked, 0), atomic_store(&refused, number);
                const xent_status status =
                    packed_call(what, CASES[i].type, CASES[i].rows, CASES[i].classes, CASES[i].turned,
                                CASES[i].in_place, 700, number < 0 ? &whole : &hash);
                more = number < asked;
                if (number < 0)
                    expect(status == XENT_OK, "memory", "there");
                else if (status == XENT_NO_MEMORY)
                    expect(more, "memory", "refused"), told++;
                else
                    expect(status == XENT_OK && hash == whole, "memory", "refused, not needed"), without += more;
            }
        }
    refused = -1;
    expect(without > 0 && told > 0, "memory", "either");
}

int main(void) {
    static const xent_type LABELS[N_LAYOUTS] = {XENT_INT64, XENT_INT32,  XENT_UINT8,  XENT_INT8, XENT_UINT64,
                                                XENT_INT16, XENT_UINT16, XENT_UINT32, XENT_INT64};
    uint64_t quick = 0, thorough = 0;
    for (int tier = 0; xent_tier_name(tier); tier++) {
        const char *name = xent_tier_name(tier);
        expect(xent_set_tier(name) == 0 && strcmp(xent_tier(), name) == 0, "set_tier", name);
        if (!tier) quick = exercise(&PLAIN);
        for (int i = 0; i < N_LAYOUTS; i++)
            for (int in_place = 0; in_place < 2; in_place++) {
                const layout_kind *out = &LAYOUTS[(i + 3) % N_LAYOUTS];
                if (in_place && LAYOUTS[i].swapped) continue;
                const variant how = {.in = &LAYOUTS[i],
                                     .out = out->swapped ? &LAYOUTS[0] : out,
                                     .labels = LABELS[i],
                                     .in_place = in_place,
                                     .split = LAYOUTS[i].split,
                                     .pattern = (unsigned char)(17 * i + 5)};
                expect(exercise(&how) == quick, in_place ? "in place" : "separate", LAYOUTS[i].name);
            }
        variant how = PLAIN;
        how.thorough = 1;
        for (int in_place = tier > 0; in_place < 2; in_place++) { /* on one thread once; on three */
            xent_set_num_threads(in_place ? 3 : 1);
            how.in_place = in_place;
            const uint64_t hash = exercise(&how);
            if (!thorough) thorough = hash;
            expect(hash == thorough, "long rows, large batches", in_place ? "three threads" : "one thread");
        }
        check_packs();
        check_memory();
        check_faults(XENT_FLOAT32);
        check_faults(XENT_FLOAT64);
        printf("%s: %d passed, %d failed\n", name, passed, failed);
        fflush(stdout);
    }
    expect(xent_set_tier("no such tier") == -1, "unknown tier", "refused");
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
