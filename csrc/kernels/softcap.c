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
#endif

/* cap tanh(v / cap), and its slope; for a small |v / cap| that is v to all its digits. */
XENT_INLINE REAL NAME(capped)(REAL v, double cap, REAL *slope) {
    const int exact = sizeof(REAL) == 8;
    const double x = (double)v, u = x / cap, lost = exact && fabs(u) < INFINITY ? fma(-u, cap, x) / cap : 0.0;
    const wide size = {fabs(u), u < 0.0 ? -lost : lost};
    const tanh_and_slope t = tanh_of(size, exact);
    const wide y = exact ? wide_mul(t.tanh, (wide){cap, 0.0}) : (wide){t.tanh.hi * cap, 0.0};
    *slope = (REAL)(t.slope < REAL_MIN ? 0.0 : t.slope);
    const double z = size.hi < 0x1p-30 ? fabs(x) : y.hi;
    return fabs(x) < REAL_MIN ? (REAL)0 : (REAL)(x < 0.0 ? -z : z);
}

/* e slope, rounded once; below the smallest normal number 0, with no subnormal on the way. */
XENT_INLINE REAL NAME(sloped)(REAL e, REAL slope) {
    if (sizeof(REAL) == 4) {
        const double g = (double)e * (double)slope;
        return fabs(g) < REAL_MIN ? (REAL)0 : (REAL)g;
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

static void NAME(make_row)(const xent_loss_args *a, ptrdiff_t row, REAL *z) {
    const xent_layout *layout = a->layout;
    const double cap = a->problem->softcap;
    const REAL *bias = a->problem->bias.data;
    const int slopes = a->grad && cap != 0.0;
    char *x_row = row_of(layout, a->logits, row), *grad_row = slopes ? row_of(layout, a->grad, row) : NULL;
    REAL logits[XENT_SMALL_BLOCK], few[XENT_SMALL_BLOCK], none;
    for (ptrdiff_t start = 0; start < layout->classes; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t n = layout->classes - start < XENT_SMALL_BLOCK ? layout->classes - start : XENT_SMALL_BLOCK;
        const REAL *x = NAME(piece)(layout, a->logits, x_row, start, n, logits, 1);
        REAL *to = z + start, *slope = slopes ? NAME(piece)(layout, a->grad, grad_row, start, n, few, 0) : &none;
        if (bias)
            for (ptrdiff_t i = 0; i < n; i++) to[i] = x[i] + bias[start + i];
        else
            for (ptrdiff_t i = 0; i < n; i++) to[i] = x[i];
        if (slopes)
            for (ptrdiff_t i = 0; i < n; i++) to[i] = NAME(capped)(to[i], cap, &slope[i]);
        else if (cap != 0.0)
            for (ptrdiff_t i = 0; i < n; i++) to[i] = NAME(capped)(to[i], cap, &none);
        if (slope == few) scatter_block(layout, a->grad, grad_row, start, n, few, sizeof(REAL));
    }
}

/* The gradient times the slopes; 0 stays 0, as in a row that does not count, whatever its logits; a product of two NaNs, which
 * has the sign of either, is one NaN. */
static void NAME(bring_back)(const xent_loss_args *a, ptrdiff_t row, const REAL *e) {
    char *grad_row = row_of(a->layout, a->grad, row);
    REAL few[XENT_SMALL_BLOCK];
    for (ptrdiff_t start = 0; start < a->layout->classes; start += XENT_SMALL_BLOCK) {
        const ptrdiff_t left = a->layout->classes - start, n = left < XENT_SMALL_BLOCK ? left : XENT_SMALL_BLOCK;
        REAL *to = NAME(piece)(a->layout, a->grad, grad_row, start, n, few, 1);
        for (ptrdiff_t i = 0; i < n; i++) {
            const REAL g = NAME(sloped)(e[start + i], to[i]);
            to[i] = e[start + i] == 0 ? 0 : g == g ? g : (REAL)NAN;
        }
        if (to == few) scatter_block(a->layout, a->grad, grad_row, start, n, few, sizeof(REAL));
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
    for (ptrdiff_t row = first; row < last; row++) NAME(make_row)(a, row, rows + (row - first) * classes);
    a->inner(&inner, first, last, group);
    if (a->grad && cap)
        for (ptrdiff_t row = first; row < last; row++) NAME(bring_back)(a, row, rows + (row - first) * classes);
    atomic_store(&a->scratch->taken[mine], 0);
}
#endif
