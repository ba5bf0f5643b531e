/* e^x, element by element, rounded as a stored term is: the exponential of every other kernel, to be tested alone. */
#ifndef REAL
#define KERNEL_FILE "exp.c"
#include "for_each_dtype.h"
#else

void KERNEL(exp)(const REAL *x, REAL *out, ptrdiff_t n) {
    /* 2^(MIN_EXPONENT) and the largest finite number in logarithms, with the result formed 2^-64 too small or large */
    for (ptrdiff_t i = 0; i < n; i++) {
        const double z = (double)x[i], bound = sizeof(REAL) == 4 ? 104.0 : 746.0;
        const double clamped = z < -bound ? -bound : z > bound ? bound : z;
        const double up = clamped > 0.0 ? -64.0 : 64.0;
        REAL hi = 0, lo = 0;
        double v = (double)NAME(add_exp)((REAL)clamped, NAME(rounder)(up), 1, &hi, &lo), least = REAL_MIN * 0x1p64;
        if (clamped > 0.0)
            v *= 0x1p64;
        else
            v = v < least ? 0.0 : v * 0x1p-64;
        out[i] = (REAL)v;
    }
}
#endif
