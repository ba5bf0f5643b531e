/* The sums of losses: what the rows of a group add up to, one behind the other, in two parts. */
#ifndef XENT_LOSS_SUMS_H
#define XENT_LOSS_SUMS_H

#include "elementary.h"
#include "squares_turned.h"

/* The losses of rows, added up group by group, rows in order. */
typedef struct {
    double *totals;             /* of group i in totals[2 i], what it lost in totals[2 i + 1] */
    ptrdiff_t group, rows, end; /* the group at hand, rows of each, the first row that is not in it */
    wide sum;
} loss_sums;

XENT_INLINE void close_group(loss_sums *s) {
    s->totals[2 * s->group] = s->sum.hi, s->totals[2 * s->group + 1] = s->sum.lo; /* a NaN if the sum is not finite */
    s->sum = (wide){0.0, 0.0}, s->group++, s->end += s->rows;
}

/* The loss of a row behind all those before; what the addition loses is kept apart. */
XENT_INLINE void count_loss(loss_sums *s, ptrdiff_t row, double loss) {
    while (row >= s->end) close_group(s);
    const wide sum = two_sum(s->sum.hi, loss);
    s->sum.hi = sum.hi, s->sum.lo += sum.lo;
}

/* The losses of two whole groups, side by side: additions of one wait for each other, those of two do not. None of the group at
 * hand was counted yet; the second one becomes it. */
XENT_INLINE void count_two_groups(loss_sums *s, const double *loss) {
    two_f64 hi = {0.0, 0.0}, lo = hi;
    for (ptrdiff_t r = 0; r < s->rows; r++) {
        const two_f64 next = {loss[r], loss[s->rows + r]}, sum = hi + next, part = sum - hi;
        lo += (hi - (sum - part)) + (next - part), hi = sum; /* two_sum */
    }
    s->sum = (wide){hi[0], lo[0]};
    close_group(s);
    s->sum = (wide){hi[1], lo[1]};
}

/* The losses of n rows that follow each other. */
XENT_INLINE void count_run(loss_sums *s, ptrdiff_t row, const double *loss, ptrdiff_t n) {
    for (ptrdiff_t some; n > 0; row += some, loss += some, n -= some) {
        while (row >= s->end) close_group(s);
        const ptrdiff_t left = s->end - row;
        some = left < n ? left : n;
        if (some == s->rows && n - some >= some) {
            count_two_groups(s, loss), some *= 2;
            continue;
        }
        wide total = s->sum;
        for (ptrdiff_t r = 0; r < some; r++) {
            const wide sum = two_sum(total.hi, loss[r]);
            total.hi = sum.hi, total.lo += sum.lo;
        }
        s->sum = total;
    }
}

/* The losses of rows row[0 .. n), in their order. */
XENT_NOINLINE void count_rows(loss_sums *s, const ptrdiff_t *row, const double *loss, int n) {
    if (n && row[n - 1] - row[0] == n - 1) {
        count_run(s, row[0], loss, n);
        return;
    }
    for (int r = 0; r < n; r++) count_loss(s, row[r], loss[r]);
}

#endif
