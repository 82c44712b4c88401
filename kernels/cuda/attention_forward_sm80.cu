/* attention_forward_sm80.cu - flash attention forward on tensor cores (Dao et al. 2022, 2023).
 *
 * A block owns 64 queries of a head, a warp 16 of them. It walks the tiles of keys that its queries see, first to last: scores in
 * registers, online softmax in base 2, output in registers. Keys and values have one buffer each: values of a tile arrive while its
 * scores are computed, the next keys while the values are used. */
#include "kernels/cuda/attention_sm80.cuh"

enum { QUERIES = 64, THREADS = 128 };

/* KEYS per tile: 256 columns leave registers for 32 only, and none for the queries. Queries held in registers leave their tile to the values. BLOCKS: of a
 * multiprocessor, which caps the registers. */
template <int HD> struct shared_layout {
    enum { HELD = HD <= 128, KEYS = HD > 128 ? 32 : 64, BLOCKS = HD > 128 ? 1 : HD == 96 ? 2 : 3, ROW = 2 * HD, Q = 0, V = HELD ? 0 : QUERIES * ROW, K = V + (HELD ? QUERIES : KEYS) * ROW,
           BYTES = K + KEYS * ROW };
};

/* What a lane keeps of its two rows, `group` and `group + 8` of the warp's sixteen. */
struct row_state {
    float max[2], sum[2]; /* of the scores before scaling, and of the exponentials, over this lane's columns only until the end */
};

/* Finds the new maxima, turns scores into 2^(scale * (score - maximum)) and rescales the output. */
template <int TILES, int WIDTH> static __device__ __forceinline__ void online_softmax(float (*s)[4], float (*out)[4], row_state *r, float scale)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = r->max[half];
#pragma unroll
        for (int n = 0; n < TILES; n++) top = fmaxf(top, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        float base = top == -INFINITY ? 0.0f : top * scale; /* a row may see nothing of its first tiles */
        float keep = qs_exp2(fmaf(r->max[half], scale, -base)), sum = 0;
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float *x = &s[n][2 * half + i];
                *x = qs_exp2(fmaf(*x, scale, -base));
                sum += *x;
            }
        r->max[half] = top;
        r->sum[half] = fmaf(r->sum[half], keep, sum);
#pragma unroll
        for (int n = 0; n < WIDTH / 8; n++) {
            out[n][2 * half] *= keep;
            out[n][2 * half + 1] *= keep;
        }
    }
}

template <class T, int HD> static __global__ void __launch_bounds__(THREADS, (shared_layout<HD>::BLOCKS)) forward(qs_attention_views<T> a)
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
    int first[2] = {a.first_key(min(row, last)), a.first_key(min(row + 8, last))}, last_first = a.first_key(last);
    float scale = a.scale * QS_LOG2E;

    float out[HD / 8][4] = {};
    row_state state = {{-INFINITY, -INFINITY}, {0, 0}};
    int key = a.first_key(query0) / KEYS * KEYS;
    qs_tile_load<QUERIES, THREADS>(q, a.q.data + head * HD, a.q.stride, query0, a.tokens);
    qs_tile_load<KEYS, THREADS>(k, keys, a.k.stride, key, a.tokens);
    qs_copy_commit();
    qs_copy_wait<0>();
    __syncthreads();
    qs_rows16<T, HD, layout::HELD> queries(q, warp_row);
    for (; key <= last; key += KEYS) {
        qs_copy_wait<0>();
        __syncthreads(); /* the keys are here, and nobody reads the last values or, the first time, the queries */
        qs_tile_load<KEYS, THREADS>(v, values, a.v.stride, key, a.tokens);
        qs_copy_commit();
        float s[KEYS / 8][4] = {};
        qs_product<T, HD, KEYS>(s, queries, k, 0);
        if (key + KEYS - 1 > query0 || key < last_first) qs_mask_scores<KEYS / 8>(s, key, first, row);
        online_softmax<KEYS / 8, HD>(s, out, &state, scale);
        qs_copy_wait<0>();
        __syncthreads(); /* the values are here, and nobody reads the keys */
        if (key + KEYS <= last) qs_tile_load<KEYS, THREADS>(k, keys, a.k.stride, key + KEYS, a.tokens);
        qs_copy_commit();
        qs_product_rows<T, HD, KEYS, HD>(out, s, v, 0, 0);
    }
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = state.sum[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        inverse[half] = 1.0f / sum;
        if (lane % 4 == 0 && row + 8 * half < a.tokens)
            a.lse[(int64_t)head * a.tokens + row + 8 * half] = fmaf(state.max[half], scale, log2f(sum)) * QS_LN2;
    }
    qs_store_rows<T, HD>(out, a.o, head * HD, row, a.tokens, inverse[0], inverse[1]);
#endif
}

template <class T, int HD> static void launch(qs_device *d, const qs_attention *a)
{
    dim3 grid(qs_cuda_blocks(a->q.rows, QUERIES), (unsigned)a->heads);
    QS_LAUNCH_LARGE(d, (forward<T, HD>), grid, THREADS, (shared_layout<HD>::BYTES), qs_attention_views_of<T>(a, NULL, NULL));
}

void qs_attention_forward_sm80(qs_device *d, const qs_attention *a) { QS_BY_HEAD(a->q.type, a->head_dim, launch, d, a); }
