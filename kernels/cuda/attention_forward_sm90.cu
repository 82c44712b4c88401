/* attention_forward_sm90.cu - flash attention forward with warpgroup products (Dao et al. 2022, 2023; Shah et
 * al. 2024).
 *
 * A block owns 128 queries of a head, a warpgroup 64 of them. While the tensor cores multiply one tile's
 * exponentials by its values, and the next tile's keys by the queries, the warps take the softmax of that
 * next tile. Keys and values have two stages each. */
#include "kernels/cuda/attention_sm90.cuh"

enum { QUERIES = QS_SM90_ROWS, KEYS = 128, THREADS = QS_SM90_THREADS };

template <class T, int HD> struct shared_layout {
    enum {
        QUERY_BYTES = qs_panels<T, QUERIES, HD>::BYTES,
        TILE = qs_panels<T, KEYS, HD>::BYTES,
        Q = 0,
        K = QUERY_BYTES,
        V = K + 2 * TILE,
        BYTES = V + 2 * TILE
    };
};

template <class T, int HD>
static __global__ void __launch_bounds__(THREADS, 1) forward(qs_attention_views<T> a)
{
#if QS_HAS_SM90
    typedef shared_layout<T, HD> layout;
    QS_DYNAMIC_SHARED(shared);
    const qs_shared base = qs_shared_of(shared);
    auto tile = [&](int at, int stage) { return qs_panels<T, KEYS, HD>{base + at + stage * layout::TILE}; };
    qs_panels<T, QUERIES, HD> q = {base + layout::Q};
    int head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    int query0 = (int)(gridDim.x - 1 - blockIdx.x) * QUERIES; /* the longest rows start first */
    int group_row = threadIdx.x / 128 * 64, warp_row = threadIdx.x / 32 * 16, lane = threadIdx.x % 32,
        row = query0 + warp_row + lane / 4;
    int last = min(query0 + QUERIES, a.tokens) - 1, last_first = a.first_key(last);
    int first[2] = {a.first_key(min(row, last)), a.first_key(min(row + 8, last))};
    const T *keys = a.k.data + kv_head * HD, *values = a.v.data + kv_head * HD;
    float scale = a.scale * QS_LOG2E;
    auto load_keys = [&](int key, int stage) {
        if (key <= last) qs_panels_load<THREADS>(tile(layout::K, stage), keys, a.k.stride, key, a.tokens);
    };
    auto load_values = [&](int key, int stage) {
        if (key <= last) qs_panels_load<THREADS>(tile(layout::V, stage), values, a.v.stride, key, a.tokens);
    };

    float out[HD / 8][4] = {}, s[KEYS / 8][4], keep[2];
    uint32_t p[KEYS / 16][4];
    qs_softmax_rows state = {{-INFINITY, -INFINITY}, {0, 0}};
    auto softmax = [&](int key) { /* of scores that are there */
                                  if (key + KEYS - 1 > query0 || key < last_first)
                                      qs_mask_scores<KEYS / 8>(s, key, first, row);
                                  qs_online_softmax<KEYS / 8>(s, &state, keep, scale);
    };
    int key = a.first_key(query0) / KEYS * KEYS, stage = 0;
    qs_panels_load<THREADS>(q, a.q.data + head * HD, a.q.stride, query0, a.tokens);
    load_keys(key, 0);
    qs_copy_commit();
    load_values(key, 0);
    load_keys(key + KEYS, 1);
    qs_copy_commit();
    qs_sm90_arrive<1>();
    qs_wgmma_begin();
    qs_wgmma_product(s, q, group_row, tile(layout::K, 0));
    qs_wgmma_wait<0>(s);
    softmax(key);
    qs_operands_of<T, KEYS / 8>(p, s);
    for (; key + KEYS <= last; key += KEYS, stage ^= 1) {
        qs_sm90_arrive<0>(); /* these values and the next keys are here; nobody reads the last values and
                                these keys */
        load_values(key + KEYS, stage ^ 1);
        load_keys(key + 2 * KEYS, stage);
        qs_copy_commit();
        qs_wgmma_begin();
        qs_wgmma_product(s, q, group_row, tile(layout::K, stage ^ 1));
        qs_wgmma_product_held(out, p, tile(layout::V, stage));
        qs_wgmma_wait<1>(s);
        softmax(key + KEYS);
        qs_wgmma_before_wait(base, s);
        qs_wgmma_wait<0>(out);
        qs_rescale<HD>(out, keep);
        qs_operands_of<T, KEYS / 8>(p, s);
    }
    qs_sm90_arrive<0>();
    qs_wgmma_begin();
    qs_wgmma_product_held(out, p, tile(layout::V, stage));
    qs_wgmma_wait<0>(out);
    qs_softmax_store<T, HD>(out, &state, a, head, row, scale);
#endif
}

template <class T, int HD> static void launch(qs_device *d, const qs_attention *a)
{
    dim3 grid(qs_cuda_blocks(a->q.rows, QUERIES), (unsigned)a->heads);
    QS_LAUNCH_LARGE(d, (forward<T, HD>), grid, THREADS, (shared_layout<T, HD>::BYTES),
                    qs_attention_views_of<T>(a, NULL, NULL));
}

void qs_attention_forward_sm90(qs_device *d, const qs_attention *a)
{
    QS_SM90_BY_HEAD(a->q.type, a->head_dim, launch, d, a);
}
