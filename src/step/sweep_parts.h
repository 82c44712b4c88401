/* sweep_parts.h - the state of a sweep and the helpers of its visits. Private to src/step. */
#ifndef QS_STEP_SWEEP_PARTS_H
#define QS_STEP_SWEEP_PARTS_H

#include "src/step/visit.h"

/* A micro-batch on the device, padded to rows. */
typedef struct qs_sweep_batch_arrays {
    int32_t rows;
    int32_t *target, *positions, *document_start;
    const float *cos[QS_ROTARIES_MAX],
        *sin[QS_ROTARIES_MAX];   /* tables of the rotary embeddings for its lengths */
    float *own[QS_ROTARIES_MAX]; /* NULL, or room for tables of its own: cos, then sin; dynamic scaling */
    float *own_host[QS_ROTARIES_MAX]; /* the same where the host writes them */
} qs_sweep_batch_arrays;

struct qs_sweep {
    qs_sweep_config c;
    qs_sweep_parts parts;
    qs_visit_rules rules;
    int32_t max_rows; /* rows of a padded micro-batch at most */
    int32_t group; /* micro-batches of a sweep at most; micro-batch mb has slot mb % group in the activation
                      store and in the head */
    qs_block *block;
    qs_head *head;
    qs_pager_spec checkpoints_spec, saved_spec;
    qs_pager *checkpoints, *saved_records; /* under the stores */
    qs_activation_store *activations;
    qs_activation_store *saved_store; /* [saved_in_ram] levels of intermediates in host memory; NULL: none */
    /* device */
    float *norm; /* constants, like the tables of the rotary embeddings */
    const float *cos[QS_ROTARIES_MAX], *sin[QS_ROTARIES_MAX];
    char *saved; /* [saved_layers - saved_in_ram][micro-batches at a time][saved_bytes] intermediates */
    size_t saved_bytes;
    void *saved_buffers;             /* the saved activation store's */
    qs_dense dense;                  /* dequantised weights of the visit; also a tile of the head */
    void *buffers;                   /* the activation store's */
    void *adapters;                  /* one pack in the compute type */
    float *adapters_f32, *gradients; /* discrete: one pack each */
    double *squares;                 /* [layers] of the gradients */
    qs_sweep_batch_arrays *batches;  /* [micro_batches] */
    float *loss;                     /* [micro_batches][max_rows] */
    int32_t *flags;                  /* [2][layers + 1][micro_batches] non-finite outputs, gradients */
    /* host */
    qs_micro_batch *host_batches;
    float *pack, *pack_gradients; /* of the visit's layer, held for it */
    double *host_squares;         /* these three are the device's own arrays where memory is shared */
    float *host_loss;
    int32_t *host_flags;
    size_t flag_count;
    /* this step */
    int64_t step;
    float scale;
    qs_schedule train_schedule, evaluate_schedule; /* of full steps */
    qs_page_list masters_train, masters_evaluate,
        gradients_train; /* uses of packs; a visit is a tick, and so is each layer of UPDATE */
    qs_page_list checkpoints_train, checkpoints_evaluate,
        saved_train; /* a tick is one micro-batch in one visit */
    int32_t visit;   /* in progress */
    const qs_schedule *current;
    qs_visit_time *times;
    int32_t logits_first, logits_rows;
    float *logits_out;
};

/* Weights of layer `index`, dequantised into the dense scratch unless they are there or need not be. */
qs_layer_weights qs_sweep_weights(qs_sweep *s, int32_t index, const void *blob);
qs_norm qs_sweep_final_norm(const qs_sweep *s);
/* Tile `index` of the head in the compute type. */
qs_mat qs_sweep_tile(qs_sweep *s, int32_t index, const void *blob);

static inline int32_t qs_sweep_slot(const qs_sweep *s, int32_t mb) { return mb % s->group; }

/* The adapters of a visit's layer onto the device; for a backward visit the gradients too (zero at the first
 * micro-batch of the step). Packs are held until adapters_out, which keeps the gradients; `last`: no other
 * visit of this step adds to them. */
void qs_sweep_adapters_in(qs_sweep *s, const qs_visit *v, bool backward);
void qs_sweep_adapters_out(qs_sweep *s, const qs_visit *v, bool backward, bool last);
/* Where the visit, forward or backward, has the intermediates of its layer and of a micro-batch, until
 * qs_sweep_saved_done; NULL: they are not saved. */
void *qs_sweep_saved(qs_sweep *s, const qs_visit *v, int32_t mb);
void qs_sweep_saved_done(qs_sweep *s, const qs_visit *v, int32_t mb);

qs_block_lora qs_sweep_lora(const qs_sweep *s, int32_t layer, int32_t mb, bool evaluate);

/* Pads the filled micro-batches and brings them to the device; clears the flags. */
void qs_sweep_upload(qs_sweep *s, int32_t micro_batches);

#endif
