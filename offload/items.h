/* items.h - what the memory of a plan is for. Each part of the program asks for its own items; here is what
 * there is.
 *
 * One line per item: its name in the enum, and what people read in `plan`, in refusals and in reports.
 */
#ifndef QS_OFFLOAD_ITEMS_H
#define QS_OFFLOAD_ITEMS_H

#define QS_ITEM_LIST(X)                          \
    /* the streamer's */                         \
    X(RING, "streaming ring")                    \
    X(DEVICE_SLOTS, "device slots")              \
    X(RESIDENT, "resident weights")              \
    X(RESIDENT_RAM, "resident weights (RAM)")    \
    X(QUANTISE_ON_LOAD, "quantise on load")      \
    /* the sweep's */                            \
    X(TABLES, "norm and rotary tables")          \
    X(DENSE, "dequantised weights")              \
    X(ACTIVATIONS, "activations")                \
    X(SAVED, "saved activations")                \
    X(SAVED_BUFFERS, "saved activations in use") \
    X(SAVED_RAM, "saved activations (RAM)")      \
    X(ADAPTERS, "adapters in use")               \
    X(BATCHES, "token batches")                  \
    X(BATCHES_HOST, "token batches (host)")      \
    X(RESULTS, "losses and flags")               \
    X(CHECKPOINT_BUFFERS, "checkpoint buffers")  \
    X(CHECKPOINTS, "activation checkpoints")     \
    X(EMBEDDING_READS, "embedding reads")        \
    X(EMBEDDING_TABLE, "embedding table")        \
    /* the optimizer's */                        \
    X(MASTERS, "adapter masters")                \
    X(GRADIENTS, "adapter gradients")            \
    X(STATES, "optimizer states")                \
    X(OPTIMIZER_SCRATCH, "optimizer scratch")

typedef enum qs_item {
#define QS_ITEM_ENUM(name, text) QS_ITEM_##name,
    QS_ITEM_LIST(QS_ITEM_ENUM)
#undef QS_ITEM_ENUM
        QS_ITEMS
} qs_item;

/* "streaming ring", ... */
const char *qs_item_name(qs_item i);

#endif
