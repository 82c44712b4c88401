/* shapes.h - well-known models by name: their config.json, and the tensors a checkpoint of them has.
 *
 * With synthetic weights (io/synthetic.h) a shape stands for the model wherever values do not matter: speed,
 * memory, and whether a run fits.
 */
#ifndef QS_MODEL_SHAPES_H
#define QS_MODEL_SHAPES_H

#include "io/synthetic.h"
#include "src/model/architecture.h"

/* A well-known model of a family; families/NAME.c has its keys. */
typedef struct qs_shape {
    const struct qs_family *family;
    const struct qs_family_shape *is;
} qs_shape;

/* QS_EUSAGE for a name that is not known (lists those that are). */
int qs_shape_find(const char *name, qs_shape *out, qs_err *e);

/* Names by index; NULL past the last one. */
const char *qs_shape_name(int index);

/* The text of config.json. layers: 0 for the model's own number. Freed with qs_free. */
char *qs_shape_config(const qs_shape *s, int32_t layers);

/* Every tensor that an architecture's checkpoint holds, the head only when it is not the embedding. *out is
 * freed with qs_free; returns the count. */
int qs_shape_tensors(const qs_architecture *a, qs_synthetic_entry **out);

/* A shape as a model without files: its architecture, and a source of made-up weights. layers: 0 for the
 * model's own number. Close the source with qs_source_close. Errors of qs_shape_find. */
int qs_shape_open(const char *name, int32_t layers, qs_architecture *a, qs_source **source, qs_err *e);

#endif
