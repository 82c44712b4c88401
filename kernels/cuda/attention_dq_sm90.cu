/* attention_dq_sm90.cu - flash attention backward with warpgroup products, the gradient of the queries: see
 * attention.cuh.
 *
 * A block owns 128 queries of a head, a warpgroup 64 of them; tiles of keys and values go by in three stages.
 * While the tensor cores multiply one tile's score gradient by its keys, and then form the next tile's
 * scores, the warps take the gradient of those scores. */
#include "kernels/cuda/attention_sm90.cuh"

enum { QUERIES = QS_SM90_ROWS, KEYS = 64, THREADS = QS_SM90_THREADS, STAGES = 3 };

template <class T, int HD> struct shared_layout {
    enum {
        QUERY_BYTES = qs_panels<T, QUERIES, HD>::BYTES,
        TILE = qs_panels<T, KEYS, HD>::BYTES,
        Q = 0,
        D_O = QUERY_BYTES,
        K = 2 * QUERY_BYTES,
        V = K + STAGES * TILE,
        BYTES = V + STAGES * TILE
    };
};

template <class T, int HD>
static __global__ void __launch_bounds__(THREADS, 1) backward_dq(qs_attention_views<T> a)
{
#if QS_HAS_SM90
    typedef shared_layout<T, HD> layout;
    QS_DYNAMIC_SHARED(shared);
    const qs_shared base = qs_shared_of(shared);
    qs_panels<T, QUERIES, HD> q = {base + layout::Q}, d_o = {base + layout::D_O};
    auto tile = [&](int at, int stage) { return qs_panels<T, KEYS, HD>{base + at + stage * layout::TILE}; };
    int head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    int query0 = (int)(gridDim.x - 1 - blockIdx.x) * QUERIES;
    int group_row = threadIdx.x / 128 * 64, warp_row = threadIdx.x / 32 * 16, lane = threadIdx.x % 32,
        row = query0 + warp_row + lane / 4;
    int last = min(query0 + QUERIES, a.tokens) - 1, last_first = a.first_key(last);
    const T *keys = a.k.data + kv_head * HD, *values = a.v.data + kv_head * HD;
    qs_lane_queries rows = qs_lane_queries_of(a, head, row, last);
    float scale = a.scale * QS_LOG2E;
    auto load = [&](int key, int stage) {
        if (key <= last) {
            qs_panels_load<THREADS>(tile(layout::K, stage), keys, a.k.stride, key, a.tokens);
            qs_panels_load<THREADS>(tile(layout::V, stage), values, a.v.stride, key, a.tokens);
        }
        qs_copy_commit();
    };

    float dq[HD / 8][4] = {}, s[KEYS / 8][4], dp[KEYS / 8][4];
    uint32_t ds[KEYS / 16][4];
    auto gradient = [&](int key) { /* of scores that are there */
                                   if (key + KEYS - 1 > query0 || key < last_first)
                                       qs_mask_scores<KEYS / 8>(s, key, rows.first, row);
                                   qs_score_gradient<KEYS / 8>(s, dp, rows.lse, rows.delta, scale);
    };
    int key = a.first_key(query0) / KEYS * KEYS, stage = 0;
    qs_panels_load<THREADS>(q, a.q.data + head * HD, a.q.stride, query0, a.tokens);
    qs_panels_load<THREADS>(d_o, a.d_o.data + head * HD, a.d_o.stride, query0, a.tokens);
    load(key, 0);
    load(key + KEYS, 1);
    qs_sm90_arrive<1>();
    qs_wgmma_begin();
    qs_wgmma_product(s, q, group_row, tile(layout::K, 0));
    qs_wgmma_product(dp, d_o, group_row, tile(layout::V, 0));
    qs_wgmma_wait<0>(s, dp);
    gradient(key);
    qs_operands_of<T, KEYS / 8>(ds, s);
    for (; key + KEYS <= last; key += KEYS) {
        int next = stage == STAGES - 1 ? 0 : stage + 1;
        qs_sm90_arrive<0>(); /* the next stage is here; nobody reads the last one */
        load(key + 2 * KEYS, next == STAGES - 1 ? 0 : next + 1);
        qs_wgmma_begin();
        qs_wgmma_product(s, q, group_row, tile(layout::K, next));
        qs_wgmma_product(dp, d_o, group_row, tile(layout::V, next));
        qs_wgmma_product_held(dq, ds, tile(layout::K, stage));
        qs_wgmma_wait<1>(s, dp);
        gradient(key + KEYS);
        qs_wgmma_before_wait(base, s);
        qs_wgmma_wait<0>(dq);
        qs_operands_of<T, KEYS / 8>(ds, s);
        stage = next;
    }
    qs_wgmma_begin();
    qs_wgmma_product_held(dq, ds, tile(layout::K, stage));
    qs_wgmma_wait<0>(dq);
    qs_store_rows<T, HD>(dq, a.dq, head * HD, row, a.tokens, a.scale, a.scale);
#endif
}

template <class T, int HD>
static void launch(qs_device *d, const qs_attention *a, const qs_mat *gradients, float *delta)
{
    dim3 grid(qs_cuda_blocks(a->q.rows, QUERIES), (unsigned)a->heads);
    QS_LAUNCH_LARGE(d, (backward_dq<T, HD>), grid, THREADS, (shared_layout<T, HD>::BYTES),
                    qs_attention_views_of<T>(a, gradients, delta));
}

void qs_attention_dq_sm90(qs_device *d, const qs_attention *a, const qs_mat gradients[4], float *delta)
{
    QS_SM90_BY_HEAD(a->q.type, a->head_dim, launch, d, a, gradients, delta);
}
