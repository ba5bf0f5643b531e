/* Includes KERNEL_FILE once per dtype, with REAL, DTYPE and the dtype's constants defined. */
#include "elementary.h"

#include "real_f32.h"
#include KERNEL_FILE
#include "undef_real.h"

#include "real_f64.h"
#include KERNEL_FILE
#include "undef_real.h"
