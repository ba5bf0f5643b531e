/* Rows of up to XENT_NARROW classes, XENT_ROWS of them side by side: element r of every vector belongs to row r, and class
 * c takes the part of lane c, so that all is as row.h has it, bit for bit. Included once per dtype, in row.h. */

/* The sums of up to XENT_ROWS rows. 0 where one is far or not finite: nothing is done then. */
XENT_NOINLINE int NAME(narrow_sums)(NAME(sweeper) * w, int rows) {
    const int classes = (int)w->layout->classes;
    row_batch *b = &w->batch;
    REAL v[XENT_NARROW][XENT_ROWS], most[XENT_ROWS], least[XENT_ROWS];
    double hi[XENT_NARROW][XENT_ROWS];
    REAL lo[XENT_NARROW][XENT_ROWS];
    int near = 1;
    const REAL *x[XENT_ROWS]; /* of missing rows: the first again */
    for (int r = 0; r < XENT_ROWS; r++) x[r] = (const REAL *)w->x_rows[r < rows ? r : 0];
    for (int c = 0; c < classes; c++)
        for (int r = 0; r < XENT_ROWS; r++) v[c][r] = x[r][c];
    for (int r = 0; r < XENT_ROWS; r++) most[r] = -REAL_INF, least[r] = REAL_INF;
    for (int c = 0; c < classes; c++)
        for (int r = 0; r < XENT_ROWS; r++) {
            most[r] = v[c][r] > most[r] ? v[c][r] : most[r];
            least[r] = v[c][r] < least[r] ? v[c][r] : least[r];
        }
    for (int r = 0; r < XENT_ROWS; r++) near &= fabs((double)most[r]) <= FAR;
    if (!near) return 0;
    for (int r = 0; r < XENT_ROWS; r++) {
        const NAME(reduction) by = NAME(reduce_by)(most[r], least[r], w->room, &b->scale[r]);
        w->by_max[r] = most[r], w->by_rounder[r] = by.rounder, w->by_floor[r] = by.floor;
        b->max[r] = (double)most[r], b->min[r] = (double)least[r], b->kind[r] = ROW_FINITE, b->far[r] = 0;
    }
    const REAL sigma = NAME(sigma)(w->room.guard);
    for (int c = 0; c < classes; c++)
        for (int r = 0; r < XENT_ROWS; r++) {
            REAL h = sigma, l = 0, u = v[c][r] < w->by_floor[r] ? w->by_floor[r] : v[c][r];
            w->columns[c][r] = NAME(add_exp)(u, w->by_rounder[r], 1, &h, &l);
            hi[c][r] = (double)h - (double)sigma, lo[c][r] = l;
        }
    for (int half = XENT_NARROW / 2, n = classes; half; half /= 2) {
        for (int c = 0; c + half < n; c++)
            for (int r = 0; r < XENT_ROWS; r++) NAME(fold_one)(&hi[c][r], &lo[c][r], hi[c + half][r], lo[c + half][r]);
        n = n < half ? n : half;
    }
    double sum_hi[XENT_ROWS], sum_lo[XENT_ROWS];
    for (int r = 0; r < XENT_ROWS; r++) {
        const wide sum = NAME(folded)(hi[0][r], lo[0][r]);
        sum_hi[r] = sum.hi, sum_lo[r] = sum.lo;
    }
    NAME(close_rows)(w, rows, sum_hi, sum_lo);
    return 1;
}
