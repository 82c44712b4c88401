/* gated.cu - SiLU and both GELUs: gated linear units (Shazeer 2020), act(gate) * up, and the plain
 * activation; forward and backward. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256 };

struct act_value {
    float value, slope;
};

static __device__ __forceinline__ float logistic(float x) { return 1.0f / (1.0f + expf(-x)); }

/* Value and derivative; formulas as in kernels/cpu/gated.c. */
template <qs_activation A> static __device__ __forceinline__ act_value activate(float x)
{
    if (A == QS_ACT_SILU) {
        float s = logistic(x);
        return {x * s, s * (1.0f + x * (1.0f - s))};
    }
    if (A == QS_ACT_GELU_TANH) {
        const float k = 0.7978845608028654f; /* sqrt(2 / pi) */
        float s = logistic(2.0f * k * (x + 0.044715f * x * x * x));
        float slope = 2.0f * k * (1.0f + 3.0f * 0.044715f * x * x);
        return {x * s, s + x * s * (1.0f - s) * slope};
    }
    float cdf = 0.5f * erfcf(-0.7071067811865476f * x), phi = 0.3989422804014327f * expf(-0.5f * x * x);
    return {x * cdf, cdf + x * phi};
}

template <class T, int N, qs_activation A>
static __global__ void __launch_bounds__(THREADS)
    gated(qs_view<T> gate_up, qs_view<T> y, int64_t cols, unsigned row_blocks)
{
    int64_t row = blockIdx.x / row_blocks,
            j = ((int64_t)(blockIdx.x % row_blocks) * blockDim.x + threadIdx.x) * N;
    if (j >= cols) return;
    const T *gate = gate_up.row(row) + j;
    qs_pack<T, N> g = *(const qs_pack<T, N> *)gate, u = *(const qs_pack<T, N> *)(gate + cols);
    for (int i = 0; i < N; i++) qs_put(&g.v[i], activate<A>(qs_get(g.v[i])).value * qs_get(u.v[i]));
    *(qs_pack<T, N> *)(y.row(row) + j) = g;
}

template <class T, int N, qs_activation A>
static __global__ void __launch_bounds__(THREADS)
    gated_backward(qs_view<T> gate_up, qs_view<T> dy, qs_view<T> d_gate_up, int64_t cols, unsigned row_blocks)
{
    int64_t row = blockIdx.x / row_blocks,
            j = ((int64_t)(blockIdx.x % row_blocks) * blockDim.x + threadIdx.x) * N;
    if (j >= cols) return;
    const T *gate = gate_up.row(row) + j;
    T *out = d_gate_up.row(row) + j;
    qs_pack<T, N> g = *(const qs_pack<T, N> *)gate, u = *(const qs_pack<T, N> *)(gate + cols),
                  v = *(const qs_pack<T, N> *)(dy.row(row) + j);
    for (int i = 0; i < N; i++) {
        float up = qs_get(u.v[i]), gradient = qs_get(v.v[i]);
        act_value a = activate<A>(qs_get(g.v[i]));
        qs_put(&g.v[i], gradient * up * a.slope);
        qs_put(&u.v[i], gradient * a.value);
    }
    *(qs_pack<T, N> *)out = g;
    *(qs_pack<T, N> *)(out + cols) = u;
}

template <class T, int N, qs_activation A>
static void start(qs_device *d, qs_mat gate_up, qs_mat y, const qs_mat *d_gate_up)
{
    unsigned threads = qs_cuda_threads(y.cols / N, THREADS), row_blocks = qs_cuda_blocks(y.cols / N, threads),
             grid = (unsigned)y.rows * row_blocks;
    if (d_gate_up)
        QS_LAUNCH(d, (gated_backward<T, N, A>), grid, threads, 0, qs_view_of<T>(gate_up), qs_view_of<T>(y),
                  qs_view_of<T>(*d_gate_up), y.cols, row_blocks);
    else
        QS_LAUNCH(d, (gated<T, N, A>), grid, threads, 0, qs_view_of<T>(gate_up), qs_view_of<T>(y), y.cols,
                  row_blocks);
}

template <class T, int N>
static void start_act(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat y, const qs_mat *d_gate_up)
{
    if (act == QS_ACT_SILU)
        start<T, N, QS_ACT_SILU>(d, gate_up, y, d_gate_up);
    else if (act == QS_ACT_GELU_TANH)
        start<T, N, QS_ACT_GELU_TANH>(d, gate_up, y, d_gate_up);
    else
        start<T, N, QS_ACT_GELU_ERF>(d, gate_up, y, d_gate_up);
}

/* y is the output of the forward and the incoming gradient of the backward pass, which has d_gate_up. */
static void start_type(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat y, const qs_mat *d_gate_up)
{
    QS_BY_TYPE(y.type, {
        const int N = 16 / sizeof(T);
        if (qs_cuda_packs(&gate_up, N) && qs_cuda_packs(&y, N) && (!d_gate_up || qs_cuda_packs(d_gate_up, N)))
            start_act<T, N>(d, act, gate_up, y, d_gate_up);
        else
            start_act<T, 1>(d, act, gate_up, y, d_gate_up);
    });
}

extern "C" void qs_cuda_gated(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat y)
{
    start_type(d, act, gate_up, y, NULL);
}

extern "C" void qs_cuda_gated_backward(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat dy,
                                       qs_mat d_gate_up)
{
    start_type(d, act, gate_up, dy, &d_gate_up);
}

/* y = act(x), or where there is a gradient dy, y = dy * act'(x). */
template <class T, int N, qs_activation A>
static __global__ void __launch_bounds__(THREADS)
    plain(qs_view<T> x, qs_view<T> dy, qs_view<T> y, int64_t cols, unsigned row_blocks)
{
    int64_t row = blockIdx.x / row_blocks,
            j = ((int64_t)(blockIdx.x % row_blocks) * blockDim.x + threadIdx.x) * N;
    if (j >= cols) return;
    qs_pack<T, N> v = *(const qs_pack<T, N> *)(x.row(row) + j), g = {};
    if (dy.data) g = *(const qs_pack<T, N> *)(dy.row(row) + j);
    for (int i = 0; i < N; i++) {
        act_value a = activate<A>(qs_get(v.v[i]));
        qs_put(&v.v[i], dy.data ? qs_get(g.v[i]) * a.slope : a.value);
    }
    *(qs_pack<T, N> *)(y.row(row) + j) = v;
}

template <class T, int N>
static void start_plain(qs_device *d, qs_activation act, qs_mat x, qs_mat dy, qs_mat y)
{
    unsigned threads = qs_cuda_threads(x.cols / N, THREADS), row_blocks = qs_cuda_blocks(x.cols / N, threads),
             grid = (unsigned)x.rows * row_blocks;
    qs_view<T> in = qs_view_of<T>(x), gradient = qs_view_of<T>(dy), out = qs_view_of<T>(y);
    if (act == QS_ACT_SILU)
        QS_LAUNCH(d, (plain<T, N, QS_ACT_SILU>), grid, threads, 0, in, gradient, out, x.cols, row_blocks);
    else if (act == QS_ACT_GELU_TANH)
        QS_LAUNCH(d, (plain<T, N, QS_ACT_GELU_TANH>), grid, threads, 0, in, gradient, out, x.cols,
                  row_blocks);
    else
        QS_LAUNCH(d, (plain<T, N, QS_ACT_GELU_ERF>), grid, threads, 0, in, gradient, out, x.cols, row_blocks);
}

static void start_plain_type(qs_device *d, qs_activation act, qs_mat x, qs_mat dy, qs_mat y)
{
    QS_BY_TYPE(x.type, {
        const int N = 16 / sizeof(T);
        if (qs_cuda_packs(&x, N) && qs_cuda_packs(&y, N) && (!dy.data || qs_cuda_packs(&dy, N)))
            start_plain<T, N>(d, act, x, dy, y);
        else
            start_plain<T, 1>(d, act, x, dy, y);
    });
}

extern "C" void qs_cuda_activation(qs_device *d, qs_activation act, qs_mat x, qs_mat y)
{
    qs_mat none = {};
    start_plain_type(d, act, x, none, y);
}

extern "C" void qs_cuda_activation_backward(qs_device *d, qs_activation act, qs_mat x, qs_mat dy, qs_mat dx)
{
    start_plain_type(d, act, x, dy, dx);
}
