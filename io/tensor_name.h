/* tensor_name.h - a tensor's name without what other programs put around it.
 *
 * torch.compile writes "_orig_mod." before a module, FSDP and activation checkpointing names of their own,
 * DistributedDataParallel "module."; models of text and pictures hold the language model under
 * "language_model." or "model.language_model."; a model saved without its head lacks "model.".
 */
#ifndef QS_IO_TENSOR_NAME_H
#define QS_IO_TENSOR_NAME_H

#include <stdbool.h>

enum { QS_TENSOR_NAME_BYTES = 512 };

/* Writes the plain name and returns true; false when `name` is plain already, or too long for any that would
 * be asked for. */
bool qs_tensor_plain_name(const char *name, char plain[QS_TENSOR_NAME_BYTES]);

#endif
