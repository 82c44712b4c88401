/* attention_dkv_sm80.cu - flash attention backward on tensor cores, the gradients of keys and values: see
 * attention.cuh.
 *
 * A block owns 64 keys of a key-value head, a warp 16 of them. The tiles of queries that see them go by, one
 * query head of the group after the other, so the sum over the group has one order. Scores are computed
 * transposed: rows are keys, columns queries. */
#include "kernels/cuda/attention_sm80.cuh"

enum { KEYS = 64, QUERIES = 32, PART = 16 /* of the queries, at a time */ };

/* SPLITS: groups of four warps that share the keys. With 256 columns there are two, each for one half of the
 * columns of dk and dv, because one warp has no registers for all of them. STAGES and HELD: as in
 * attention_dq_sm80.cu, of the queries that stream by and of keys and values. What a stage's columns need to
 * know is twofold even where its tiles are not. */
template <int HD> struct shared_layout {
    enum {
        HELD = HD <= 128,
        SPLITS = HD > 128 ? 2 : 1,
        THREADS = 128 * SPLITS,
        STAGES = HD > 128 ? 1 : 2,
        ROW = 2 * HD,
        STAGE = 2 * QUERIES * ROW,
        K = STAGE,
        V = K + KEYS * ROW,
        ROWS = V + KEYS * ROW,
        BYTES = ROWS + 2 * (int)sizeof(qs_tile_queries<QUERIES>)
    };
    static_assert(STAGES * STAGE <= (HELD ? ROWS : STAGE),
                  "the stages are larger than what they may overwrite");
};

template <class T, int HD>
static __global__ void __launch_bounds__((shared_layout<HD>::THREADS)) backward_dkv(qs_attention_views<T> a)
{
#if QS_HAS_SM80
    typedef shared_layout<HD> layout;
    const int STAGES = layout::STAGES, THREADS = layout::THREADS, WIDTH = HD / layout::SPLITS;
    QS_DYNAMIC_SHARED(shared);
    const qs_shared base = qs_shared_of(shared);
    qs_tile_queries<QUERIES> *rows = (qs_tile_queries<QUERIES> *)(shared + layout::ROWS);
    qs_tile<T, HD> k = {base + layout::K}, v = {base + layout::V};
    int kv_head = blockIdx.y, group_heads = a.heads / a.kv_heads, key0 = blockIdx.x * KEYS;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warp_row = warp % 4 * 16, column = warp / 4 * WIDTH;
    int key = key0 + warp_row + lane / 4, last_key = min(key0 + KEYS, a.tokens) - 1;
    int first_query = key0 / QUERIES * QUERIES, last_query = a.last_query(last_key);
    float scale = a.scale * QS_LOG2E;

    float dk[WIDTH / 8][4] = {}, dv[WIDTH / 8][4] = {};
    qs_tile_load<KEYS, THREADS>(k, a.k.data + kv_head * HD, a.k.stride, key0, a.tokens);
    qs_tile_load<KEYS, THREADS>(v, a.v.data + kv_head * HD, a.v.stride, key0, a.tokens);
    auto stage_queries = [&](int i) { return qs_tile<T, HD>{base + i % STAGES * layout::STAGE}; };
    auto stage_gradients = [&](int i) {
        return qs_tile<T, HD>{base + i % STAGES * layout::STAGE + QUERIES * layout::ROW};
    };
    auto load = [&](int head, int query0, int stage) {
        if (head < (kv_head + 1) * group_heads) {
            qs_tile_load<QUERIES, THREADS>(stage_queries(stage), a.q.data + head * HD, a.q.stride, query0,
                                           a.tokens);
            qs_tile_load<QUERIES, THREADS>(stage_gradients(stage), a.d_o.data + head * HD, a.d_o.stride,
                                           query0, a.tokens);
            qs_tile_queries_load(&rows[stage], a, head, query0);
        }
        qs_copy_commit();
    };
    int head = kv_head * group_heads, query0 = first_query, stage = 0;
    load(head, query0, 0);
    qs_copy_wait<0>();
    __syncthreads();
    qs_rows16<T, HD, layout::HELD> keys(k, warp_row), values(v, warp_row);
    while (head < (kv_head + 1) * group_heads) {
        int next_head = head,
            next_query = query0 + QUERIES; /* the next tile, of the next head after a head's last */
        if (next_query > last_query) next_head++, next_query = first_query;
        qs_copy_wait<0>();
        __syncthreads(); /* this stage is here; nobody reads the other one or, the first time, the keys any
                            more */
        if (STAGES == 2) load(next_head, next_query, stage ^ 1);
        qs_tile<T, HD> q = stage_queries(stage), d_o = stage_gradients(stage);
        const qs_tile_queries<QUERIES> *r = &rows[stage];
        bool mask = qs_tile_queries_hide(r, a, query0, key0, KEYS);
#pragma unroll
        for (int part = 0; part < QUERIES; part += PART) {
            float p[PART / 8][4] = {}, ds[PART / 8][4] = {};
            qs_products<T, HD, PART>(p, keys, q, ds, values, d_o,
                                     part); /* transposed: rows are keys, columns queries */
            if (mask) qs_hide_transposed<PART / 8>(p, a, r->document + part, query0 + part, key);
            qs_exponentials_transposed<PART / 8>(p, r->lse + part, scale);
            qs_gradient_transposed<PART / 8>(p, ds, r->delta + part);
            qs_product_rows<T, HD, PART, WIDTH>(dv, p, d_o, part, column);
            qs_product_rows<T, HD, PART, WIDTH>(dk, ds, q, part, column);
        }
        if (STAGES == 1) {
            __syncthreads();
            load(next_head, next_query, stage ^ 1);
        }
        head = next_head, query0 = next_query, stage ^= 1;
    }
    qs_store_rows<T, WIDTH>(dk, a.dk, kv_head * HD + column, key, a.tokens, a.scale, a.scale);
    qs_store_rows<T, WIDTH>(dv, a.dv, kv_head * HD + column, key, a.tokens, 1.0f, 1.0f);
#endif
}

template <class T, int HD>
static void launch(qs_device *d, const qs_attention *a, const qs_mat *gradients, float *delta)
{
    dim3 grid(qs_cuda_blocks(a->q.rows, KEYS), (unsigned)a->kv_heads);
    QS_LAUNCH_LARGE(d, (backward_dkv<T, HD>), grid, (shared_layout<HD>::THREADS), (shared_layout<HD>::BYTES),
                    qs_attention_views_of<T>(a, gradients, delta));
}

void qs_attention_dkv_sm80(qs_device *d, const qs_attention *a, const qs_mat gradients[4], float *delta)
{
    QS_BY_HEAD(a->q.type, a->head_dim, launch, d, a, gradients, delta);
}
