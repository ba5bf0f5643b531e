/* Logits made from others before a loss sees them, and the gradient brought back through that:
 *   z_c = cap tanh((x_c + bias_c) / cap),    d loss / d x_c = (1 - tanh^2) d loss / d z_c.
 * Rows are made in a scratch of a few rows per thread, the loss's kernel works there in place, and no array of the
 * batch's size arises. Where a gradient is wanted, the slopes 1 - tanh^2 wait where it belongs: the logits may be there
 * too (in place), they are not needed again. Without a cap the gradient goes straight to where it belongs.
 */
#ifndef REAL
#define KERNEL_FILE "softcap.c"
#include "for_each_dtype.h"
#else
#include "row.h"
#include "tanh.h"

#ifndef XENT_SOFTCAP
#define XENT_SOFTCAP
/* One of the scratches; there are as many as threads. */
static int take_scratch(const xent_scratch *scratch) {
    for (int i = 0;; i = (i + 1) % scratch->n)
        if (!atomic_exchange(&scratch->taken[i], 1)) return i;
}

/* Rows as they are worked on: `n` of `size` elements; one, if they are joined, as they are in the scratch. */
typedef struct {
    ptrdiff_t n, size;
} row_runs;
static row_runs runs_of(const xent_layout *layout, const xent_view *view, ptrdiff_t rows) {
    return are_joined(layout, view, rows) ? (row_runs){1, rows * layout->classes} : (row_runs){rows, layout->classes};
}
#endif

/* cap tanh(v / cap), and its slope; for a small |v / cap| that is v to all its digits. */
XENT_INLINE REAL NAME(capped)(REAL v, double cap, REAL *slope) {
    const int exact = sizeof(REAL) == 8;
    const double x = (double)v, u = x / cap, lost = exact && fabs(u) < INFINITY ? fma(-u, cap, x) / cap : 0.0;
    const wide size = {fabs(u), u < 0.0 ? -lost : lost};
    const tanh_and_slope t = tanh_of(size, exact);
    const wide y = exact ? wide_mul(t.tanh, (wide){cap, 0.0}) : (wide){t.tanh.hi * cap, 0.0};
    *slope = (REAL)zero_if(t.slope < REAL_MIN, t.slope);
    const double z = size.hi < 0x1p-30 ? fabs(x) : y.hi;
    return fabs(x) < REAL_MIN ? (REAL)0 : (REAL)(x < 0.0 ? -z : z);
}

/* e slope, rounded once; below the smallest normal number 0, with no subnormal on the way. */
XENT_INLINE REAL NAME(sloped)(REAL e, REAL slope) {
    if (sizeof(REAL) == 4) {
        const double g = (double)e * (double)slope;
        return (REAL)zero_if(fabs(g) < REAL_MIN, g);
    }
    const int small = fabs((double)e) < 1.0;
    const double lifted = (double)e * (small ? 0x1p1000 : 1.0) * (double)slope;
    return fabs(lifted) < (small ? 0x1p-22 : REAL_MIN) ? (REAL)0 : (REAL)(lifted * (small ? 0x1p-1000 : 1.0));
}

/* Elements of a row in pieces: where they can be worked on, in place or in a buffer. */
XENT_INLINE REAL *NAME(piece)(const xent_layout *layout, const xent_view *view, char *row, ptrdiff_t start, ptrdiff_t n,
                              REAL *buffer, int read) {
    if (view->direct) return (REAL *)row + start;
    if (read) gather_block(layout, view, row, start, n, buffer, sizeof(REAL));
    return buffer;
}

XENT_NOINLINE void NAME(cap_with_slopes)(REAL *restrict z, ptrdiff_t n, double cap, REAL *restrict slopes) {
    for (ptrdiff_t i = 0; i < n; i++) z[i] = NAME(capped)(z[i], cap, &slopes[i]);
}
XENT_NOINLINE void NAME(cap_alone)(REAL *z, ptrdiff_t n, double cap) {
    REAL none;
    for (ptrdiff_t i = 0; i < n; i++) z[i] = NAME(capped)(z[i], cap, &none);
}

/* Rows of logits, with their bias. */
static void NAME(take_logits)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, REAL *z) {
    const xent_layout *layout = a->layout;
    const REAL *bias = a->problem->bias.data;
    const row_runs run = bias ? (row_runs){last - first, layout->classes} : runs_of(layout, a->logits, last - first);
    REAL few[XENT_SMALL_BLOCK];
    for (ptrdiff_t r = 0; r < run.n; r++, z += run.size) {
        char *row = row_of(layout, a->logits, first + r);
        for (ptrdiff_t start = 0; start < run.size; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t left = run.size - start, n = left < XENT_SMALL_BLOCK ? left : XENT_SMALL_BLOCK;
            const REAL *x = NAME(piece)(layout, a->logits, row, start, n, few, 1);
            if (bias)
                for (ptrdiff_t i = 0; i < n; i++) z[start + i] = x[i] + bias[start + i];
            else
                memcpy(z + start, x, (size_t)n * sizeof *z);
        }
    }
}

/* Those rows capped; their slopes go where the gradient belongs. */
static void NAME(cap_rows)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, REAL *z) {
    const double cap = a->problem->softcap;
    if (!a->grad) {
        NAME(cap_alone)(z, (last - first) * a->layout->classes, cap);
        return;
    }
    const row_runs run = runs_of(a->layout, a->grad, last - first);
    REAL few[XENT_SMALL_BLOCK];
    for (ptrdiff_t r = 0; r < run.n; r++, z += run.size) {
        char *row = row_of(a->layout, a->grad, first + r);
        for (ptrdiff_t start = 0; start < run.size; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t left = run.size - start, n = left < XENT_SMALL_BLOCK ? left : XENT_SMALL_BLOCK;
            REAL *slopes = NAME(piece)(a->layout, a->grad, row, start, n, few, 0);
            NAME(cap_with_slopes)(z + start, n, cap, slopes);
            if (slopes == few) scatter_block(a->layout, a->grad, row, start, n, few, sizeof(REAL));
        }
    }
}

/* The gradient times the slopes; 0 stays 0, as in a row that does not count, whatever its logits; a product of two NaNs, which
 * has the sign of either, is one NaN. */
XENT_NOINLINE void NAME(slope_line)(const REAL *restrict e, ptrdiff_t n, REAL *restrict slopes) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL g = NAME(sloped)(e[i], slopes[i]);
        slopes[i] = e[i] == 0 ? 0 : g == g ? g : (REAL)NAN;
    }
}
static void NAME(bring_back)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, const REAL *e) {
    const row_runs run = runs_of(a->layout, a->grad, last - first);
    REAL few[XENT_SMALL_BLOCK];
    for (ptrdiff_t r = 0; r < run.n; r++, e += run.size) {
        char *row = row_of(a->layout, a->grad, first + r);
        for (ptrdiff_t start = 0; start < run.size; start += XENT_SMALL_BLOCK) {
            const ptrdiff_t left = run.size - start, n = left < XENT_SMALL_BLOCK ? left : XENT_SMALL_BLOCK;
            REAL *to = NAME(piece)(a->layout, a->grad, row, start, n, few, 1);
            NAME(slope_line)(e + start, n, to);
            if (to == few) scatter_block(a->layout, a->grad, row, start, n, few, sizeof(REAL));
        }
    }
}

/* Runs a->inner on rows made so. */
void KERNEL(made_rows)(const xent_loss_args *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t group) {
    const int cap = a->problem->softcap != 0.0, mine = take_scratch(a->scratch);
    const ptrdiff_t classes = a->layout->classes;
    REAL *rows = (REAL *)(a->scratch->data + (size_t)mine * a->scratch->size);
    xent_loss_args inner = *a;
    const xent_view view =
        plain_rows(a->layout, rows, a->logits->type, (ptrdiff_t)sizeof(REAL), classes * (ptrdiff_t)sizeof(REAL), first);
    inner.logits = &view;
    if (a->grad && cap) inner.grad = &view;
    NAME(take_logits)(a, first, last, rows);
    if (cap) NAME(cap_rows)(a, first, last, rows);
    a->inner(&inner, first, last, group);
    if (a->grad && cap) NAME(bring_back)(a, first, last, rows);
    atomic_store(&a->scratch->taken[mine], 0);
}
#endif
