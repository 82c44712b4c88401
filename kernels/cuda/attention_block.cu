/* attention_block.cu - a few queries over one block of keys and values, folded into a running softmax.
 *
 * One thread block per query and head: a warp takes one key at a time, then a thread some columns of the
 * values.
 */
#include "kernels/cuda/reduce.cuh"

enum { THREADS = 128, WARPS = THREADS / 32, KEYS = 64 };

struct block_args {
    int32_t group, dim, window;
    float scale, softcap;
    int64_t keys, query_at, key_at;
    float *state;
    bool first;
};

template <class T>
static __global__ void __launch_bounds__(THREADS)
    attention_block(qs_view<T> q, qs_view<T> k, qs_view<T> v, qs_view<T> o, block_args a)
{
    __shared__ float scores[KEYS], scratch[32];
    int64_t row = blockIdx.x, head = blockIdx.y, kv = head / a.group, at = a.query_at + row;
    const T *query = q.row(row) + head * a.dim;
    float *state = a.state + (row * gridDim.y + head) * (a.dim + 2);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float max = a.first ? -INFINITY : state[a.dim], sum = a.first ? 0.0f : state[a.dim + 1];
    __syncthreads(); /* everybody has read them */
    if (a.first)
        for (int c = threadIdx.x; c < a.dim; c += THREADS) state[c] = 0;
    for (int64_t start = 0; start < a.keys; start += KEYS) {
        int64_t key = a.key_at + start, n = a.keys - start < KEYS ? a.keys - start : (int64_t)KEYS;
        int64_t from = a.window && at - a.window + 1 > key ? at - a.window + 1 - key : 0,
                to = at - key + 1 < n ? at - key + 1 : n;
        if (from >= to) continue; /* the whole block */
        for (int64_t j = from + warp; j < to; j += WARPS) {
            const T *one = k.row(start + j) + kv * a.dim;
            float dot = 0;
            for (int c = lane; c < a.dim; c += 32) dot = fmaf(qs_get(query[c]), qs_get(one[c]), dot);
            dot = qs_warp_reduce<qs_sum>(dot) * a.scale;
            if (a.softcap > 0) dot = a.softcap * tanhf(dot / a.softcap);
            if (lane == 0) scores[j] = dot;
        }
        __syncthreads();
        float mine = -INFINITY;
        if ((int64_t)threadIdx.x >= from && (int64_t)threadIdx.x < to) mine = scores[threadIdx.x];
        float top = fmaxf(max, qs_block_reduce<qs_max>(mine, scratch));
        float p = mine == -INFINITY ? 0.0f : expf(mine - top);
        if (threadIdx.x < KEYS) scores[threadIdx.x] = p;
        float added = qs_block_reduce<qs_sum>(p, scratch), shrink = max == -INFINITY ? 0.0f : expf(max - top);
        sum = sum * shrink + added;
        max = top;
        for (int c = threadIdx.x; c < a.dim; c += THREADS) {
            float acc = state[c] * shrink;
            for (int64_t j = from; j < to; j++)
                acc = fmaf(scores[j], qs_get(v.row(start + j)[kv * a.dim + c]), acc);
            state[c] = acc;
        }
        __syncthreads();
    }
    if (o.data)
        for (int c = threadIdx.x; c < a.dim; c += THREADS)
            qs_put(o.row(row) + head * a.dim + c, state[c] / sum);
    if (threadIdx.x == 0) state[a.dim] = max, state[a.dim + 1] = sum;
}

template <class T> static void launch(qs_device *d, const qs_attention_block *a)
{
    block_args args = {a->heads / a->kv_heads,
                       a->head_dim,
                       a->window,
                       a->scale,
                       a->softcap,
                       a->k.rows,
                       a->query_at,
                       a->key_at,
                       a->state,
                       a->first};
    dim3 grid((unsigned)a->q.rows, (unsigned)a->heads);
    QS_LAUNCH(d, attention_block<T>, grid, THREADS, 0, qs_view_of<T>(a->q), qs_view_of<T>(a->k),
              qs_view_of<T>(a->v), qs_view_of<T>(a->o), args);
}

extern "C" void qs_cuda_attention_block(qs_device *d, const qs_attention_block *a)
{
    if (a->q.type == QS_F32)
        launch<float>(d, a);
    else if (a->q.type == QS_BF16)
        launch<__nv_bfloat16>(d, a);
    else
        launch<__half>(d, a);
}
