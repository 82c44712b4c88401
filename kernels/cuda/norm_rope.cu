/* norm_rope.cu - q and k normed and rotated in one kernel. One thread block per token and stretch that is
 * normed by itself: a head, or all of q, or all of k. Between the two passes the stretch stays in the caches;
 * sums are those of norm.cu. */
#include "kernels/cuda/rows.cuh"

enum { THREADS = 256 };

/* q, or k. */
struct side {
    const float *weight, *cos, *sin;
};

struct shape {
    side q, k;
    const int32_t *positions;
    int heads, kv_heads, head_dim, half;
    bool whole, round_last;
    float eps;
};

/* What this block works on. */
struct stretch {
    int64_t at; /* first column */
    side by;    /* cos, sin: the token's rows */
    norm_row norm;
    rotation turn;
};

static __device__ stretch stretch_of(const shape &s, float direction)
{
    int index = blockIdx.y;
    bool k = s.whole ? index : index >= s.heads;
    int heads = !s.whole ? 1 : k ? s.kv_heads : s.heads;
    stretch out;
    out.at = (int64_t)(s.whole ? index * s.heads : index) * s.head_dim;
    out.by = k ? s.k : s.q;
    out.norm.weight = out.by.weight;
    out.norm.weight_type = QS_F32;
    out.norm.cols = (int64_t)heads * s.head_dim;
    out.norm.eps = s.eps;
    out.norm.round_last = s.round_last;
    out.turn.heads = heads;
    out.turn.head_dim = s.head_dim;
    out.turn.half = s.half;
    out.turn.direction = direction;
    if (s.half) {
        int64_t row = (int64_t)s.positions[blockIdx.x] * s.half;
        out.by.cos += row;
        out.by.sin += row;
    }
    return out;
}

template <class T, int N>
static __global__ void __launch_bounds__(THREADS) norm_rope(qs_view<T> x, qs_view<T> y, shape s)
{
    __shared__ float scratch[32];
    stretch my = stretch_of(s, 1);
    T *out = y.row(blockIdx.x) + my.at;
    norm_row_forward<T, N>(my.norm, x.row(blockIdx.x) + my.at, out, scratch);
    __syncthreads();
    rotate_row<T, N>(my.turn, out, my.by.cos, my.by.sin);
}

template <class T, int N>
static __global__ void __launch_bounds__(THREADS) norm_rope_backward(qs_view<T> x, qs_view<T> g, shape s)
{
    __shared__ float scratch[32];
    stretch my = stretch_of(s, -1);
    T *dy = g.row(blockIdx.x) + my.at;
    rotate_row<T, N>(my.turn, dy, my.by.cos, my.by.sin);
    __syncthreads();
    norm_row_backward<T, N>(my.norm, x.row(blockIdx.x) + my.at, dy, (const T *)NULL, dy, scratch);
}

static shape shape_of(const qs_norm_rope *n)
{
    shape s;
    s.q.weight = n->q_weight;
    s.q.cos = n->q_cos;
    s.q.sin = n->q_sin;
    s.k.weight = n->k_weight;
    s.k.cos = n->k_cos;
    s.k.sin = n->k_sin;
    s.positions = n->positions;
    s.heads = n->heads;
    s.kv_heads = n->kv_heads;
    s.head_dim = n->head_dim;
    s.half = n->rotary_dim / 2;
    s.whole = n->whole;
    s.round_last = n->round_last;
    s.eps = n->eps;
    return s;
}

static bool table_packs(const float *t, int count) { return (uintptr_t)t % (count * sizeof(float)) == 0; }

/* Whether everything can be moved `count` elements at a time. */
static bool all_pack(const qs_norm_rope *n, const qs_mat *other, int count)
{
    return qs_cuda_packs(&n->x, count) && qs_cuda_packs(other, count) && n->head_dim % count == 0 &&
           n->rotary_dim / 2 % count == 0 && table_packs(n->q_cos, count) && table_packs(n->q_sin, count) &&
           table_packs(n->k_cos, count) && table_packs(n->k_sin, count);
}

static dim3 grid_of(const qs_norm_rope *n)
{
    return dim3((unsigned)n->x.rows, (unsigned)(n->whole ? 2 : n->heads + n->kv_heads));
}

/* Threads of a block: as many as the longer stretch has packs of `count`. */
static unsigned threads_of(const qs_norm_rope *n, int count)
{
    int most = n->heads > n->kv_heads ? n->heads : n->kv_heads;
    return qs_cuda_threads((int64_t)(n->whole ? most : 1) * n->head_dim / count, THREADS);
}

extern "C" void qs_cuda_norm_rope(qs_device *d, const qs_norm_rope *n)
{
    QS_BY_TYPE(n->x.type, {
        const int N = 16 / sizeof(T);
        if (all_pack(n, &n->y, N))
            QS_LAUNCH(d, (norm_rope<T, N>), grid_of(n), threads_of(n, N), 0, qs_view_of<T>(n->x),
                      qs_view_of<T>(n->y), shape_of(n));
        else
            QS_LAUNCH(d, (norm_rope<T, 1>), grid_of(n), threads_of(n, 1), 0, qs_view_of<T>(n->x),
                      qs_view_of<T>(n->y), shape_of(n));
    });
}

extern "C" void qs_cuda_norm_rope_backward(qs_device *d, const qs_norm_rope *n, qs_mat g)
{
    QS_BY_TYPE(n->x.type, {
        const int N = 16 / sizeof(T);
        if (all_pack(n, &g, N))
            QS_LAUNCH(d, (norm_rope_backward<T, N>), grid_of(n), threads_of(n, N), 0, qs_view_of<T>(n->x),
                      qs_view_of<T>(g), shape_of(n));
        else
            QS_LAUNCH(d, (norm_rope_backward<T, 1>), grid_of(n), threads_of(n, 1), 0, qs_view_of<T>(n->x),
                      qs_view_of<T>(g), shape_of(n));
    });
}
