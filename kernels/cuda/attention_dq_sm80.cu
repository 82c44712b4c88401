/* attention_dq_sm80.cu - flash attention backward on tensor cores, the gradient of the queries: see
 * attention.cuh.
 *
 * A block owns 64 queries of a head, a warp 16 of them; the tiles of keys and values that they see go by. */
#include "kernels/cuda/attention_sm80.cuh"

enum { QUERIES = 64, KEYS = 32, THREADS = 128 };

/* Keys and values stream by in two stages, one arriving while the other is used; in one where shared memory
 * ends. Queries and gradients that are HELD in registers leave their tiles to the second stage. */
template <int HD> struct shared_layout {
    enum {
        HELD = HD <= 128,
        STAGES = HD > 128 ? 1 : 2,
        ROW = 2 * HD,
        STAGE = 2 * KEYS * ROW,
        Q = STAGE,
        D_O = Q + QUERIES * ROW,
        BYTES = D_O + QUERIES * ROW
    };
    static_assert(STAGES * STAGE <= (HELD ? BYTES : STAGE),
                  "the stages are larger than what they may overwrite");
};

template <class T, int HD>
static __global__ void __launch_bounds__(THREADS) backward_dq(qs_attention_views<T> a)
{
#if QS_HAS_SM80
    typedef shared_layout<HD> layout;
    const int STAGES = layout::STAGES;
    QS_DYNAMIC_SHARED(shared);
    const qs_shared base = qs_shared_of(shared);
    qs_tile<T, HD> q = {base + layout::Q}, d_o = {base + layout::D_O};
    int head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    int query0 = (int)(gridDim.x - 1 - blockIdx.x) * QUERIES;
    int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16, row = query0 + warp_row + lane / 4;
    int last = min(query0 + QUERIES, a.tokens) - 1, last_first = a.first_key(last);
    const T *keys = a.k.data + kv_head * HD, *values = a.v.data + kv_head * HD;
    qs_lane_queries rows = qs_lane_queries_of(a, head, row, last);
    float scale = a.scale * QS_LOG2E;

    float dq[HD / 8][4] = {};
    int key = a.first_key(query0) / KEYS * KEYS, stage = 0;
    qs_tile_load<QUERIES, THREADS>(q, a.q.data + head * HD, a.q.stride, query0, a.tokens);
    qs_tile_load<QUERIES, THREADS>(d_o, a.d_o.data + head * HD, a.d_o.stride, query0, a.tokens);
    auto stage_keys = [&](int i) { return qs_tile<T, HD>{base + i * layout::STAGE}; };
    auto stage_values = [&](int i) { return qs_tile<T, HD>{base + i * layout::STAGE + KEYS * layout::ROW}; };
    auto load = [&](int from, int to_stage) {
        if (from <= last) {
            qs_tile_load<KEYS, THREADS>(stage_keys(to_stage), keys, a.k.stride, from, a.tokens);
            qs_tile_load<KEYS, THREADS>(stage_values(to_stage), values, a.v.stride, from, a.tokens);
        }
        qs_copy_commit();
    };
    load(key, 0);
    qs_copy_wait<0>();
    __syncthreads();
    qs_rows16<T, HD, layout::HELD> queries(q, warp_row), gradients(d_o, warp_row);
    for (; key <= last; key += KEYS, stage = (stage + 1) % STAGES) {
        qs_copy_wait<0>();
        __syncthreads(); /* this stage is here; nobody reads the other one or, the first time, the queries any
                            more */
        if (STAGES == 2) load(key + KEYS, stage ^ 1);
        qs_tile<T, HD> k = stage_keys(stage);
        float s[KEYS / 8][4] = {}, dp[KEYS / 8][4] = {};
        qs_products<T, HD, KEYS>(s, queries, k, dp, gradients, stage_values(stage), 0);
        if (key + KEYS - 1 > query0 || key < last_first) qs_mask_scores<KEYS / 8>(s, key, rows.first, row);
        qs_score_gradient<KEYS / 8>(s, dp, rows.lse, rows.delta, scale);
        qs_product_rows<T, HD, KEYS, HD>(dq, s, k, 0, 0);
        if (STAGES == 1) {
            __syncthreads();
            load(key + KEYS, 0);
        }
    }
    qs_store_rows<T, HD>(dq, a.dq, head * HD, row, a.tokens, a.scale, a.scale);
#endif
}

template <class T, int HD>
static void launch(qs_device *d, const qs_attention *a, const qs_mat *gradients, float *delta)
{
    dim3 grid(qs_cuda_blocks(a->q.rows, QUERIES), (unsigned)a->heads);
    QS_LAUNCH_LARGE(d, (backward_dq<T, HD>), grid, THREADS, (shared_layout<HD>::BYTES),
                    qs_attention_views_of<T>(a, gradients, delta));
}

void qs_attention_dq_sm80(qs_device *d, const qs_attention *a, const qs_mat gradients[4], float *delta)
{
    QS_BY_HEAD(a->q.type, a->head_dim, launch, d, a, gradients, delta);
}
