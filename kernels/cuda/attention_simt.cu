/* attention_simt.cu - attention in plain fp32 arithmetic: fp32 data, head sizes without tensor core kernels,
 * cards before sm_80.
 *
 * A warp owns one row (a query, or a key in the second backward kernel), eight warps share the tiles of 32
 * rows that go by in shared memory. For the scores a lane is one row of the tile; for the sums a lane is
 * every 32nd column of the head. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/reduce.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS, ROWS = 32, MOST_COLUMNS = 256, COLUMNS_PER_LANE = MOST_COLUMNS / 32 };

/* Shared memory: a tile of ROWS rows, one column of padding against bank conflicts, and for each warp two
 * rows and ROWS weights. */
struct layout {
    float *tile, *own, *weights;
    int pitch;
};
static inline __host__ __device__ int pitch_of(int head_dim) { return head_dim + 1; }
static size_t shared_bytes(int head_dim)
{
    return (size_t)(ROWS * pitch_of(head_dim) + WARPS * (2 * head_dim + ROWS)) * sizeof(float);
}

static __device__ layout layout_of(unsigned char *shared, int head_dim)
{
    float *tile = (float *)shared,
          *own = tile + ROWS * pitch_of(head_dim) + (int)(threadIdx.x / 32) * (2 * head_dim + ROWS);
    return {tile, own, own + 2 * head_dim, pitch_of(head_dim)};
}

/* Rows [first, first + ROWS) of a head into the tile, zeros from `limit` on; a barrier before and after. */
template <class T>
static __device__ void load_tile(layout l, qs_view<T> from, int column, int head_dim, int first, int limit)
{
    __syncthreads();
    for (int i = threadIdx.x; i < ROWS * head_dim; i += THREADS) {
        int row = i / head_dim, j = i % head_dim;
        l.tile[row * l.pitch + j] = first + row < limit ? qs_get(from.row(first + row)[column + j]) : 0.0f;
    }
    __syncthreads();
}

/* One row of a head into this warp's own memory; zeros where there is none. */
template <class T>
static __device__ void load_own(float *own, qs_view<T> from, int column, int head_dim, int row, int limit)
{
    for (int j = threadIdx.x % 32; j < head_dim; j += 32)
        own[j] = row < limit ? qs_get(from.row(row)[column + j]) : 0.0f;
    __syncwarp();
}

/* This lane's row of the tile times the warp's own row. */
static __device__ float dot(layout l, const float *own, int head_dim)
{
    const float *row = l.tile + (threadIdx.x % 32) * l.pitch;
    float sum = 0;
    for (int j = 0; j < head_dim; j++) sum = fmaf(row[j], own[j], sum);
    return sum;
}

/* sums += weight of each row times the row, this lane's columns. */
static __device__ void add_rows(float *sums, layout l, float weight, int head_dim)
{
    int lane = threadIdx.x % 32;
    l.weights[lane] = weight;
    __syncwarp();
    for (int row = 0; row < ROWS; row++) {
        float w = l.weights[row];
#pragma unroll
        for (int c = 0; c < COLUMNS_PER_LANE; c++)
            if (lane + 32 * c < head_dim) sums[c] = fmaf(w, l.tile[row * l.pitch + lane + 32 * c], sums[c]);
    }
    __syncwarp(); /* the weights may be replaced */
}

template <class T>
static __device__ void store_row(const float *sums, qs_view<T> to, int column, int head_dim, int row,
                                 int limit, float factor)
{
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int c = 0; c < COLUMNS_PER_LANE; c++)
        if (row < limit && lane + 32 * c < head_dim)
            qs_put(to.row(row) + column + lane + 32 * c, sums[c] * factor);
}

template <class T> static __global__ void __launch_bounds__(THREADS) forward(qs_attention_views<T> a)
{
    QS_DYNAMIC_SHARED(shared);
    layout l = layout_of(shared, a.head_dim);
    int lane = threadIdx.x % 32, query0 = blockIdx.x * WARPS, query = query0 + threadIdx.x / 32,
        head = blockIdx.y;
    int column = head * a.head_dim, kv_column = head / (a.heads / a.kv_heads) * a.head_dim;
    int last = min(query0 + WARPS, a.tokens) - 1, first = a.first_key(min(query, last));
    load_own(l.own, a.q, column, a.head_dim, query, a.tokens);
    float max = -INFINITY, sum = 0, out[COLUMNS_PER_LANE] = {0};
    for (int key = a.first_key(query0); key <= last; key += ROWS) {
        load_tile(l, a.k, kv_column, a.head_dim, key, a.tokens);
        int j = key + lane;
        float s = j < first || j > query ? -INFINITY : a.score(dot(l, l.own, a.head_dim));
        float top = fmaxf(max, qs_warp_reduce<qs_max>(s)), base = top == -INFINITY ? 0.0f : top;
        float keep = expf(max - base), p = expf(s - base);
        sum = sum * keep + qs_warp_reduce<qs_sum>(p);
        max = top;
        for (int c = 0; c < COLUMNS_PER_LANE; c++) out[c] *= keep;
        load_tile(l, a.v, kv_column, a.head_dim, key, a.tokens);
        add_rows(out, l, p, a.head_dim);
    }
    store_row(out, a.o, column, a.head_dim, query, a.tokens, 1.0f / sum);
    if (lane == 0 && query < a.tokens) a.lse[(int64_t)head * a.tokens + query] = max + logf(sum);
}

template <class T> static __global__ void __launch_bounds__(THREADS) backward_dq(qs_attention_views<T> a)
{
    QS_DYNAMIC_SHARED(shared);
    layout l = layout_of(shared, a.head_dim);
    int lane = threadIdx.x % 32, query0 = blockIdx.x * WARPS, query = query0 + threadIdx.x / 32,
        head = blockIdx.y;
    int column = head * a.head_dim, kv_column = head / (a.heads / a.kv_heads) * a.head_dim;
    int last = min(query0 + WARPS, a.tokens) - 1, first = a.first_key(min(query, last));
    int64_t at = (int64_t)head * a.tokens + min(query, last);
    float lse = a.lse[at], delta = a.delta[at], dq[COLUMNS_PER_LANE] = {0}, *own_d_o = l.own + a.head_dim;
    load_own(l.own, a.q, column, a.head_dim, query, a.tokens);
    load_own(own_d_o, a.d_o, column, a.head_dim, query, a.tokens);
    for (int key = a.first_key(query0); key <= last; key += ROWS) {
        load_tile(l, a.v, kv_column, a.head_dim, key, a.tokens);
        float dp = dot(l, own_d_o, a.head_dim);
        load_tile(l, a.k, kv_column, a.head_dim, key, a.tokens);
        int j = key + lane;
        float s = a.score(dot(l, l.own, a.head_dim)), p = j < first || j > query ? 0.0f : expf(s - lse);
        add_rows(dq, l, p * (dp - delta) * a.score_slope(s), a.head_dim);
    }
    store_row(dq, a.dq, column, a.head_dim, query, a.tokens, a.scale);
}

template <class T> static __global__ void __launch_bounds__(THREADS) backward_dkv(qs_attention_views<T> a)
{
    QS_DYNAMIC_SHARED(shared);
    layout l = layout_of(shared, a.head_dim);
    int lane = threadIdx.x % 32, key0 = blockIdx.x * WARPS, key = key0 + threadIdx.x / 32,
        kv_head = blockIdx.y, group_heads = a.heads / a.kv_heads;
    int kv_column = kv_head * a.head_dim, last_query = a.last_query(min(key0 + WARPS, a.tokens) - 1);
    float dk[COLUMNS_PER_LANE] = {0}, dv[COLUMNS_PER_LANE] = {0}, *own_v = l.own + a.head_dim;
    load_own(l.own, a.k, kv_column, a.head_dim, key, a.tokens);
    load_own(own_v, a.v, kv_column, a.head_dim, key, a.tokens);
    for (int head = kv_head * group_heads; head < (kv_head + 1) * group_heads; head++) {
        int column = head * a.head_dim;
        for (int query = key0; query <= last_query; query += ROWS) {
            int i = query + lane;
            int64_t at = (int64_t)head * a.tokens + i;
            bool seen = i < a.tokens && key <= i && key >= a.first_key(i);
            load_tile(l, a.q, column, a.head_dim, query, a.tokens);
            float s = a.score(dot(l, l.own, a.head_dim)), p = seen ? expf(s - a.lse[at]) : 0.0f;
            load_tile(l, a.d_o, column, a.head_dim, query, a.tokens);
            float ds = seen ? p * (dot(l, own_v, a.head_dim) - a.delta[at]) * a.score_slope(s) : 0.0f;
            add_rows(dv, l, p, a.head_dim);
            load_tile(l, a.q, column, a.head_dim, query, a.tokens);
            add_rows(dk, l, ds, a.head_dim);
        }
    }
    store_row(dk, a.dk, kv_column, a.head_dim, key, a.tokens, a.scale);
    store_row(dv, a.dv, kv_column, a.head_dim, key, a.tokens, 1.0f);
}

void qs_attention_forward_simt(qs_device *d, const qs_attention *a)
{
    dim3 grid(qs_cuda_blocks(a->q.rows, WARPS), (unsigned)a->heads);
    QS_BY_TYPE(a->q.type, QS_LAUNCH_LARGE(d, forward<T>, grid, THREADS, shared_bytes(a->head_dim),
                                          qs_attention_views_of<T>(a, NULL, NULL)));
}

void qs_attention_backward_simt(qs_device *d, const qs_attention *a, const qs_mat gradients[4], float *delta)
{
    dim3 by_query(qs_cuda_blocks(a->q.rows, WARPS), (unsigned)a->heads),
        by_key(qs_cuda_blocks(a->q.rows, WARPS), (unsigned)a->kv_heads);
    QS_BY_TYPE(a->q.type, {
        qs_attention_views<T> views = qs_attention_views_of<T>(a, gradients, delta);
        QS_LAUNCH_LARGE(d, backward_dq<T>, by_query, THREADS, shared_bytes(a->head_dim), views);
        QS_LAUNCH_LARGE(d, backward_dkv<T>, by_key, THREADS, shared_bytes(a->head_dim), views);
    });
}
