/* attention_dkv_sm80.cu - flash attention backward on tensor cores, the gradients of keys and values: see attention.cuh.
 *
 * A block owns 64 keys of a key-value head, a warp 16 of them. The tiles of queries that see them go by, one query head of the group after
 * the other, so the sum over the group has one order. Scores are computed transposed: rows are keys, columns queries. */
#include "kernels/cuda/attention_sm80.cuh"

enum { KEYS = 64, QUERIES = 32 };

/* SPLITS: groups of four warps that share the keys. With 256 columns there are two, each for one half of the columns of dk and dv,
 * because one warp has no registers for all of them. STAGES: of the queries that stream by, as in attention_dq_sm80.cu. */
template <class T, int HD> struct shared_layout {
    enum { SPLITS = HD > 128 ? 2 : 1, THREADS = 128 * SPLITS, STAGES = HD > 128 ? 1 : 2, K = 0, V = K + KEYS * HD, Q = V + KEYS * HD, D_O = Q + STAGES * QUERIES * HD,
           ELEMENTS = D_O + STAGES * QUERIES * HD };
    static const size_t rows_at = ELEMENTS * sizeof(T), bytes = rows_at + 2 * 3 * QUERIES * sizeof(float);
};

/* Of the queries of a stage: what the scores' columns need. Twofold even where the tiles are not. */
struct query_rows {
    float lse[QUERIES], delta[QUERIES];
    int first[QUERIES]; /* the first key that is seen; INT32_MAX beyond the end */
};

template <class T, int HD> static __global__ void __launch_bounds__((shared_layout<T, HD>::THREADS)) backward_dkv(qs_attention_views<T> a)
{
#if QS_HAS_SM80
    typedef shared_layout<T, HD> layout;
    const int STAGES = layout::STAGES, THREADS = layout::THREADS, WIDTH = HD / layout::SPLITS;
    QS_DYNAMIC_SHARED(shared);
    T *base = (T *)shared;
    query_rows *rows = (query_rows *)(shared + layout::rows_at);
    qs_tile<T, HD> k = {base + layout::K}, v = {base + layout::V};
    int kv_head = blockIdx.y, group_heads = a.heads / a.kv_heads, key0 = blockIdx.x * KEYS;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_row = warp % 4 * 16, column = warp / 4 * WIDTH;
    int key = key0 + warp_row + lane / 4, last_key = min(key0 + KEYS, a.tokens) - 1;
    int tile0 = key0 / QUERIES, tiles = a.last_query(last_key) / QUERIES - tile0 + 1, steps = tiles * group_heads;

    float dk[WIDTH / 8][4] = {}, dv[WIDTH / 8][4] = {};
    qs_tile_load<KEYS, THREADS>(k, a.k.data + kv_head * HD, a.k.stride, key0, a.tokens);
    qs_tile_load<KEYS, THREADS>(v, a.v.data + kv_head * HD, a.v.stride, key0, a.tokens);
    auto load = [&](int step, int stage) {
        if (step < steps) {
            int head = kv_head * group_heads + step / tiles, query0 = (tile0 + step % tiles) * QUERIES;
            qs_tile<T, HD> q = {base + layout::Q + stage % STAGES * QUERIES * HD}, d_o = {base + layout::D_O + stage % STAGES * QUERIES * HD};
            qs_tile_load<QUERIES, THREADS>(q, a.q.data + head * HD, a.q.stride, query0, a.tokens);
            qs_tile_load<QUERIES, THREADS>(d_o, a.d_o.data + head * HD, a.d_o.stride, query0, a.tokens);
            if (threadIdx.x < QUERIES) {
                int i = query0 + threadIdx.x;
                bool valid = i < a.tokens;
                int64_t at = (int64_t)head * a.tokens + i;
                rows[stage].lse[threadIdx.x] = valid ? a.lse[at] * QS_LOG2E : 0.0f;
                rows[stage].delta[threadIdx.x] = valid ? a.delta[at] : 0.0f;
                rows[stage].first[threadIdx.x] = valid ? a.first_key(i) : INT32_MAX;
            }
        }
        qs_copy_commit();
    };
    load(0, 0);
    for (int step = 0; step < steps; step++) {
        int stage = step % 2, query0 = (tile0 + step % tiles) * QUERIES;
        qs_copy_wait<0>();
        __syncthreads();
        if (STAGES == 2) load(step + 1, stage ^ 1);
        qs_tile<T, HD> q = {base + layout::Q + stage % STAGES * QUERIES * HD}, d_o = {base + layout::D_O + stage % STAGES * QUERIES * HD};
        const query_rows *r = &rows[stage];
        float p[QUERIES / 8][4] = {}, ds[QUERIES / 8][4] = {};
        qs_product<T, HD, QUERIES>(p, k, warp_row, q); /* transposed: rows are keys, columns queries */
        qs_product<T, HD, QUERIES>(ds, v, warp_row, d_o);
#pragma unroll
        for (int n = 0; n < QUERIES / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int i = 8 * n + 2 * (lane % 4) + e % 2, j = key + e / 2 * 8;
                bool hidden = j < r->first[i] || j > query0 + i;
                p[n][e] = hidden ? 0.0f : exp2f(p[n][e] * (a.scale * QS_LOG2E) - r->lse[i]);
                ds[n][e] = p[n][e] * (ds[n][e] - r->delta[i]);
            }
        qs_product_rows<T, HD, QUERIES, WIDTH>(dv, p, d_o, column);
        qs_product_rows<T, HD, QUERIES, WIDTH>(dk, ds, q, column);
        if (STAGES == 1) {
            __syncthreads();
            load(step + 1, stage ^ 1);
        }
    }
    qs_store_rows<T, WIDTH>(dk, a.dk, kv_head * HD + column, key, a.tokens, a.scale, a.scale);
    qs_store_rows<T, WIDTH>(dv, a.dv, kv_head * HD + column, key, a.tokens, 1.0f, 1.0f);
#endif
}

template <class T, int HD> static void launch(qs_device *d, const qs_attention *a, const qs_mat *gradients, float *delta)
{
    dim3 grid(qs_cuda_blocks(a->q.rows, KEYS), (unsigned)a->kv_heads);
    QS_LAUNCH_LARGE(d, (backward_dkv<T, HD>), grid, (shared_layout<T, HD>::THREADS), (shared_layout<T, HD>::bytes), qs_attention_views_of<T>(a, gradients, delta));
}

void qs_attention_dkv_sm80(qs_device *d, const qs_attention *a, const qs_mat gradients[4], float *delta)
{
    QS_BY_HEAD(a->q.type, a->head_dim, launch, d, a, gradients, delta);
}
