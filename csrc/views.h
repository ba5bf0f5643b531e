/* The arrays of one call as the kernels see them: a layout of batch and class axes that all of them share, and a view of
 * each. */
#ifndef XENT_VIEWS_H
#define XENT_VIEWS_H

#include "kernels/rows.h"

enum { MAX_ARRAYS = 5 };

typedef struct {
    xent_layout layout;
    xent_view views[MAX_ARRAYS];
    const xent_array *arrays[MAX_ARRAYS];
    int n;
} geometry;

static const xent_view *add_array(geometry *g, const xent_array *array) {
    if (!array || !array->data) return NULL;
    xent_view *view = &g->views[g->n];
    g->arrays[g->n++] = array;
    view->data = array->data, view->type = array->type, view->swapped = array->swapped;
    view->next = NULL, view->blocks = NULL, view->notes = NULL, view->left = NULL;
    view->columns = view->first = view->next_row = view->next_step = view->next_more = view->next_class =
        view->next_side = 0;
    return view;
}

/* Append axis i to one of the layout's two lists of axes, or merge it into the last one there. */
static void add_axis(geometry *g, ptrdiff_t size, int axis, int is_class) {
    xent_layout *l = &g->layout;
    int *n = is_class ? &l->n_class : &l->n_batch;
    ptrdiff_t *shape = is_class ? l->class_shape : l->batch_shape;
    int merge = *n > 0;
    for (int k = 0; k < g->n && merge; k++) {
        const ptrdiff_t *stride = is_class ? g->views[k].class_stride : g->views[k].batch_stride;
        merge = stride[*n - 1] == size * g->arrays[k]->strides[axis];
    }
    const int at = merge ? *n - 1 : (*n)++;
    shape[at] = merge ? shape[at] * size : size;
    for (int k = 0; k < g->n; k++)
        (is_class ? g->views[k].class_stride : g->views[k].batch_stride)[at] = g->arrays[k]->strides[axis];
}

/* After all add_array. */
static void lay_out(geometry *g, const xent_shape *shape) {
    xent_layout *l = &g->layout;
    l->n_batch = l->n_class = 0, l->rows = l->classes = 1;
    for (int axis = 0; axis < shape->ndim; axis++) {
        const int is_class = (int)(shape->class_axes >> axis & 1);
        const ptrdiff_t size = shape->shape[axis];
        *(is_class ? &l->classes : &l->rows) *= size;
        if (size != 1) add_axis(g, size, axis, is_class);
    }
    for (int k = 0; k < g->n; k++) {
        xent_view *v = &g->views[k];
        const ptrdiff_t size = SIZE_OF[v->type];
        int aligned = (uintptr_t)v->data % (size_t)size == 0;
        for (int d = 0; d < l->n_batch; d++) aligned = aligned && v->batch_stride[d] % size == 0;
        v->direct = aligned && !v->swapped && !is_half(v->type) &&
                    (l->n_class == 0 || (l->n_class == 1 && v->class_stride[0] == size));
    }
}

#endif
