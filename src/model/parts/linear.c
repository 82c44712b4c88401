/* linear.c - a group's product with its adapters, as every part uses it. */
#include "src/model/lora_linear.h"
#include "src/model/parts/part.h"

/* Columns of LoRA's inner activations in this layer. */
static int64_t inner_columns(const qs_part_call *c, int group)
{
    return c->l->lora ? c->l->lora->group_rows[group] : 0;
}

static qs_lora_call lora_call(const qs_part_call *c, int group, qs_mat in, void *h)
{
    return (qs_lora_call){.device = c->device,
                          .type = c->sizes->type,
                          .l = c->l,
                          .group = group,
                          .x = in,
                          .first_row = c->first,
                          .h = qs_part_mat(c, h, in.rows, inner_columns(c, group)),
                          .dropped = c->dropped};
}

void qs_part_linear(const qs_part_call *c, int group, qs_mat in, void *h, qs_mat out)
{
    qs_lora_call lora = lora_call(c, group, in, h);
    qs_op_gemm(c->device, &(qs_gemm){.a = in,
                                     .b = qs_weights_group(c->device, c->w, group),
                                     .c = out,
                                     .transpose_b = true,
                                     .alpha = 1,
                                     .bias = qs_weights_bias(c->w, group),
                                     .bias_type = QS_F32});
    qs_lora_forward(&lora, out);
}

void qs_part_linear_inner(const qs_part_call *c, int group, qs_mat in, void *h)
{
    qs_lora_call lora = lora_call(c, group, in, h);
    qs_lora_inner(&lora);
}

void qs_part_linear_backward(const qs_part_call *c, int group, qs_mat in, void *h, qs_mat d_out, qs_mat d_in)
{
    qs_lora_call lora = lora_call(c, group, in, h);
    if (d_in.data)
        qs_op_gemm(
            c->device,
            &(qs_gemm){.a = d_out, .b = qs_weights_group(c->device, c->w, group), .c = d_in, .alpha = 1});
    qs_lora_backward(&lora, d_out, qs_part_mat(c, c->dh, in.rows, inner_columns(c, group)), d_in);
}
