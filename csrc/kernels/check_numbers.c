/* Target probabilities and weights looked at before anything is written: whether they are in range, and what they sum to.
 * Number c of a row goes to lane c % XENT_CHECK_LANES, where sums are kept in two parts.
 */
#include "elementary.h"
#include "rows.h"

int XENT_PASTE(check_numbers, XENT_TIER)(const xent_layout *layout, const xent_view *numbers, ptrdiff_t row,
                                         const xent_vector *weights, double upper, xent_check_sums *sums) {
    enum { L = XENT_CHECK_LANES, BLOCK = 16 * L };
    char *numbers_row = row_of(layout, numbers, row);
    double q[BLOCK], weight[BLOCK];
    xent_check_sums s = *sums; /* local: compilers keep it in registers */
    int bad = 0;
    for (ptrdiff_t start = 0; start < layout->classes; start += BLOCK) {
        const ptrdiff_t n = layout->classes - start < BLOCK ? layout->classes - start : BLOCK,
                        end = (n + L - 1) / L * L;
        gather_numbers(layout, numbers, numbers_row, start, n, q);
        for (ptrdiff_t i = n; i < end; i++) q[i] = 0.0;
        for (ptrdiff_t i = 0; i < end; i++) bad |= !(q[i] >= 0.0 && q[i] <= upper);
        if (weights->data) {
            entries(weights, start, n, weight);
            for (ptrdiff_t i = 0; i < n; i++) q[i] *= weight[i];
        }
        for (ptrdiff_t i = 0; i < end; i += L)
            for (int l = 0; l < L; l++) add_kept(&s.hi[l], &s.lo[l], q[i + l]);
    }
    *sums = s;
    return bad;
}
