/* attention_forward_sm80.cu - flash attention forward on tensor cores (Dao et al. 2022, 2023).
 *
 * A block owns 64 queries of a head, a warp 16 of them. It walks the tiles of keys that its queries see,
 * first to last: scores in registers, online softmax in base 2, output in registers. Keys and values have one
 * buffer each: values of a tile arrive while its scores are computed, the next keys while the values are
 * used. */
#include "kernels/cuda/attention_sm80.cuh"

enum { QUERIES = 64, THREADS = 128 };

/* KEYS per tile: 256 columns leave registers for 32 only, and none for the queries. Queries held in registers
 * leave their tile to the values. BLOCKS: of a multiprocessor, which caps the registers. */
template <int HD> struct shared_layout {
    enum {
        HELD = HD <= 128,
        KEYS = HD > 128 ? 32 : 64,
        BLOCKS = HD > 128   ? 1
                 : HD == 96 ? 2
                            : 3,
        ROW = 2 * HD,
        Q = 0,
        V = HELD ? 0 : QUERIES * ROW,
        K = V + (HELD ? QUERIES : KEYS) * ROW,
        BYTES = K + KEYS * ROW
    };
};

template <class T, int HD>
static __global__ void __launch_bounds__(THREADS, (shared_layout<HD>::BLOCKS))
    forward(qs_attention_views<T> a)
{
#if QS_HAS_SM80
    typedef shared_layout<HD> layout;
    const int KEYS = layout::KEYS;
    QS_DYNAMIC_SHARED(shared);
    const qs_shared base = qs_shared_of(shared);
    qs_tile<T, HD> q = {base + layout::Q}, k = {base + layout::K}, v = {base + layout::V};
    int head = blockIdx.y, kv_head = head / (a.heads / a.kv_heads);
    int query0 = (int)(gridDim.x - 1 - blockIdx.x) * QUERIES; /* the longest rows start first */
    int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 * 16, row = query0 + warp_row + lane / 4;
    int last = min(query0 + QUERIES, a.tokens) - 1;
    const T *keys = a.k.data + kv_head * HD, *values = a.v.data + kv_head * HD;
    int first[2] = {a.first_key(min(row, last)), a.first_key(min(row + 8, last))},
        last_first = a.first_key(last);
    float scale = a.scale * QS_LOG2E;

    float out[HD / 8][4] = {};
    qs_softmax_rows state = {{-INFINITY, -INFINITY}, {0, 0}};
    int key = a.first_key(query0) / KEYS * KEYS;
    qs_tile_load<QUERIES, THREADS>(q, a.q.data + head * HD, a.q.stride, query0, a.tokens);
    qs_tile_load<KEYS, THREADS>(k, keys, a.k.stride, key, a.tokens);
    qs_copy_commit();
    qs_copy_wait<0>();
    __syncthreads();
    qs_rows16<T, HD, layout::HELD> queries(q, warp_row);
    for (; key <= last; key += KEYS) {
        qs_copy_wait<0>();
        __syncthreads(); /* the keys are here, and nobody reads the last values or, the first time, the
                            queries */
        qs_tile_load<KEYS, THREADS>(v, values, a.v.stride, key, a.tokens);
        qs_copy_commit();
        float s[KEYS / 8][4] = {};
        qs_product<T, HD, KEYS>(s, queries, k, 0);
        if (key + KEYS - 1 > query0 || key < last_first) qs_mask_scores<KEYS / 8>(s, key, first, row);
        float keep[2];
        qs_online_softmax<KEYS / 8>(s, &state, keep, scale);
        qs_rescale<HD>(out, keep);
        qs_copy_wait<0>();
        __syncthreads(); /* the values are here, and nobody reads the keys */
        if (key + KEYS <= last) qs_tile_load<KEYS, THREADS>(k, keys, a.k.stride, key + KEYS, a.tokens);
        qs_copy_commit();
        qs_product_rows<T, HD, KEYS, HD>(out, s, v, 0, 0);
    }
    qs_softmax_store<T, HD>(out, &state, a, head, row, scale);
#endif
}

template <class T, int HD> static void launch(qs_device *d, const qs_attention *a)
{
    dim3 grid(qs_cuda_blocks(a->q.rows, QUERIES), (unsigned)a->heads);
    QS_LAUNCH_LARGE(d, (forward<T, HD>), grid, THREADS, (shared_layout<HD>::BYTES),
                    qs_attention_views_of<T>(a, NULL, NULL));
}

void qs_attention_forward_sm80(qs_device *d, const qs_attention *a)
{
    QS_BY_HEAD(a->q.type, a->head_dim, launch, d, a);
}
