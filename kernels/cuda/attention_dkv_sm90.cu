/* attention_dkv_sm90.cu - flash attention backward with warpgroup products, the gradients of keys and values:
 * see attention.cuh.
 *
 * A block owns 128 keys of a key-value head, a warpgroup 64 of them. The tiles of queries that see them go by
 * in three stages, one query head of the group after the other, so the sum over the group has one order.
 * Scores are computed transposed: rows are keys, columns queries. */
#include "kernels/cuda/attention_sm90.cuh"

enum { KEYS = QS_SM90_ROWS, QUERIES = 64, THREADS = QS_SM90_THREADS, STAGES = 3 };

template <class T, int HD> struct shared_layout {
    enum {
        KEY_BYTES = qs_panels<T, KEYS, HD>::BYTES,
        TILE = qs_panels<T, QUERIES, HD>::BYTES,
        K = 0,
        V = KEY_BYTES,
        Q = 2 * KEY_BYTES,
        D_O = Q + STAGES * TILE,
        ROWS = D_O + STAGES * TILE,
        BYTES = ROWS + STAGES * (int)sizeof(qs_tile_queries<QUERIES>)
    };
};

/* A tile of queries of one head; those of the next head follow a head's last. */
struct position {
    int head, query;
};

template <class T, int HD>
static __global__ void __launch_bounds__(THREADS, 1) backward_dkv(qs_attention_views<T> a)
{
#if QS_HAS_SM90
    typedef shared_layout<T, HD> layout;
    QS_DYNAMIC_SHARED(shared);
    const qs_shared base = qs_shared_of(shared);
    qs_tile_queries<QUERIES> *rows = (qs_tile_queries<QUERIES> *)(shared + layout::ROWS);
    qs_panels<T, KEYS, HD> k = {base + layout::K}, v = {base + layout::V};
    auto tile = [&](int at, int stage) {
        return qs_panels<T, QUERIES, HD>{base + at + stage * layout::TILE};
    };
    int kv_head = blockIdx.y, group_heads = a.heads / a.kv_heads, end_head = (kv_head + 1) * group_heads,
        key0 = blockIdx.x * KEYS;
    int group_row = threadIdx.x / 128 * 64, lane = threadIdx.x % 32,
        key = key0 + threadIdx.x / 32 * 16 + lane / 4;
    int first_query = key0 / QUERIES * QUERIES, last_query = a.last_query(min(key0 + KEYS, a.tokens) - 1);
    float scale = a.scale * QS_LOG2E;
    auto after = [&](position p) {
        p.query += QUERIES;
        return p.query > last_query ? position{p.head + 1, first_query} : p;
    };
    auto load = [&](position p, int stage) {
        if (p.head < end_head) {
            qs_panels_load<THREADS>(tile(layout::Q, stage), a.q.data + p.head * HD, a.q.stride, p.query,
                                    a.tokens);
            qs_panels_load<THREADS>(tile(layout::D_O, stage), a.d_o.data + p.head * HD, a.d_o.stride, p.query,
                                    a.tokens);
            qs_tile_queries_load(&rows[stage], a, p.head, p.query);
        }
        qs_copy_commit();
    };

    float dk[HD / 8][4] = {}, dv[HD / 8][4] = {}, p[QUERIES / 8][4], dp[QUERIES / 8][4];
    uint32_t p_held[QUERIES / 16][4], ds_held[QUERIES / 16][4];
    auto gradient = [&](const qs_tile_queries<QUERIES> *r,
                        int query0) { /* of scores that are there */
                                      if (qs_tile_queries_hide(r, a, query0, key0, KEYS))
                                          qs_hide_transposed<QUERIES / 8>(p, a, r->document, query0, key);
                                      qs_exponentials_transposed<QUERIES / 8>(p, r->lse, scale);
                                      qs_gradient_transposed<QUERIES / 8>(p, dp, r->delta);
    };
    position at = {kv_head * group_heads, first_query}, next = after(at);
    int stage = 0;
    qs_panels_load<THREADS>(k, a.k.data + kv_head * HD, a.k.stride, key0, a.tokens);
    qs_panels_load<THREADS>(v, a.v.data + kv_head * HD, a.v.stride, key0, a.tokens);
    load(at, 0);
    load(next, 1);
    qs_sm90_arrive<1>();
    qs_wgmma_begin();
    qs_wgmma_product(p, k, group_row, tile(layout::Q, 0));
    qs_wgmma_product(dp, v, group_row, tile(layout::D_O, 0));
    qs_wgmma_wait<0>(p, dp);
    gradient(&rows[0], at.query);
    qs_operands_of<T, QUERIES / 8>(p_held, p);
    qs_operands_of<T, QUERIES / 8>(ds_held, dp);
    while (next.head < end_head) {
        int next_stage = stage == STAGES - 1 ? 0 : stage + 1;
        at = next, next = after(at);
        qs_sm90_arrive<0>(); /* the next stage is here; nobody reads the last one */
        load(next, next_stage == STAGES - 1 ? 0 : next_stage + 1);
        qs_wgmma_begin();
        qs_wgmma_product(p, k, group_row, tile(layout::Q, next_stage));
        qs_wgmma_product(dp, v, group_row, tile(layout::D_O, next_stage));
        qs_wgmma_product_held(dv, p_held, tile(layout::D_O, stage));
        qs_wgmma_product_held(dk, ds_held, tile(layout::Q, stage));
        qs_wgmma_wait<2>(p, dp);
        gradient(&rows[next_stage], at.query);
        qs_wgmma_before_wait(base, dp);
        qs_wgmma_wait<0>(dv, dk);
        qs_operands_of<T, QUERIES / 8>(p_held, p);
        qs_operands_of<T, QUERIES / 8>(ds_held, dp);
        stage = next_stage;
    }
    qs_wgmma_begin();
    qs_wgmma_product_held(dv, p_held, tile(layout::D_O, stage));
    qs_wgmma_product_held(dk, ds_held, tile(layout::Q, stage));
    qs_wgmma_wait<0>(dk, dv);
    qs_store_rows<T, HD>(dk, a.dk, kv_head * HD, key, a.tokens, a.scale, a.scale);
    qs_store_rows<T, HD>(dv, a.dv, kv_head * HD, key, a.tokens, 1.0f, 1.0f);
#endif
}

template <class T, int HD>
static void launch(qs_device *d, const qs_attention *a, const qs_mat *gradients, float *delta)
{
    dim3 grid(qs_cuda_blocks(a->q.rows, KEYS), (unsigned)a->kv_heads);
    QS_LAUNCH_LARGE(d, (backward_dkv<T, HD>), grid, THREADS, (shared_layout<T, HD>::BYTES),
                    qs_attention_views_of<T>(a, gradients, delta));
}

void qs_attention_dkv_sm90(qs_device *d, const qs_attention *a, const qs_mat gradients[4], float *delta)
{
    QS_SM90_BY_HEAD(a->q.type, a->head_dim, launch, d, a, gradients, delta);
}
