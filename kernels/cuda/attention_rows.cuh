/* attention_rows.cuh - what a lane of the tensor core attention kernels does with its rows of scores,
 * whichever instructions made them: masks, softmax, gradient, stores. Of 16 rows a lane has `group` and
 * `group + 8`, where lane = 4 * group + member (mma.cuh). */
#ifndef QS_KERNELS_CUDA_ATTENTION_ROWS_CUH
#define QS_KERNELS_CUDA_ATTENTION_ROWS_CUH

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/mma.cuh"

#define QS_LOG2E 1.4426950408889634f
#define QS_LN2 0.6931471805599453f

/* Two neighbouring tiles of accumulators, rounded to T: the left operand for 16 values of k. */
template <class T> static __device__ __forceinline__ void qs_operand_of(uint32_t a[4], const float (*p)[4])
{
    a[0] = qs_pair(p[0][0], p[0][1], T()), a[1] = qs_pair(p[0][2], p[0][3], T());
    a[2] = qs_pair(p[1][0], p[1][1], T()), a[3] = qs_pair(p[1][2], p[1][3], T());
}

/* Scores of 16 queries with TILES * 8 keys from `key` on: hides what a query must not see. `first`, `query`:
 * of this lane's two rows, the first key and, of the upper one, the number. */
template <int TILES>
static __device__ __forceinline__ void qs_mask_scores(float (*s)[4], int key, const int first[2], int query)
{
    int member = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int j = key + 8 * n + 2 * member + e % 2, half = e / 2;
            bool hidden = (j < first[half]) | (j > query + 8 * half);
            s[n][e] = hidden ? -INFINITY : s[n][e];
        }
}

/* What a lane keeps of its two rows of an online softmax, `group` and `group + 8` of the warp's sixteen. */
struct qs_softmax_rows {
    float max[2], sum[2]; /* of the scores before scaling, and of the exponentials, over this lane's columns
                             only until the end */
};

/* Finds the new maxima and turns scores into 2^(scale * (score - maximum)). keep: what the output so far is
 * to be multiplied by. */
template <int TILES>
static __device__ __forceinline__ void qs_online_softmax(float (*s)[4], qs_softmax_rows *r, float keep[2],
                                                         float scale)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = r->max[half], sum = 0;
#pragma unroll
        for (int n = 0; n < TILES; n++) top = fmaxf(top, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
        float base = top == -INFINITY ? 0.0f : top * scale; /* a row may see nothing of its first tiles */
        keep[half] = qs_exp2(fmaf(r->max[half], scale, -base));
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float *x = &s[n][2 * half + i];
                *x = qs_exp2(fmaf(*x, scale, -base));
                sum += *x;
            }
        r->max[half] = top;
        r->sum[half] = fmaf(r->sum[half], keep[half], sum);
    }
}

template <int WIDTH> static __device__ __forceinline__ void qs_rescale(float (*out)[4], const float keep[2])
{
#pragma unroll
    for (int n = 0; n < WIDTH / 8; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) out[n][e] *= keep[e / 2];
}

/* Scores and dp become p * (dp - delta); lse in base 2. */
template <int TILES>
static __device__ __forceinline__ void
qs_score_gradient(float (*s)[4], const float (*dp)[4], const float lse[2], const float delta[2], float scale)
{
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            s[n][e] = qs_exp2(fmaf(s[n][e], scale, -lse[e / 2])) * (dp[n][e] - delta[e / 2]);
}

/* What a lane needs to know of its two queries, row and row + 8, or of `last` where they are beyond it; lse
 * in base 2. */
struct qs_lane_queries {
    int first[2];
    float lse[2], delta[2];
};
template <class T>
static __device__ __forceinline__ qs_lane_queries qs_lane_queries_of(const qs_attention_views<T> &a, int head,
                                                                     int row, int last)
{
    qs_lane_queries q;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int i = min(row + 8 * half, last);
        int64_t at = (int64_t)head * a.tokens + i;
        q.first[half] = a.first_key(i), q.lse[half] = a.lse[at] * QS_LOG2E, q.delta[half] = a.delta[at];
    }
    return q;
}

/* Where scores are transposed, columns are queries. Of a tile of them, in shared memory: zeros beyond the
 * end. */
template <int QUERIES> struct qs_tile_queries {
    float lse[QUERIES], delta[QUERIES];
    int32_t document[QUERIES];
};

/* Starts their copy; called by at least 3 * QUERIES threads. */
template <class T, int QUERIES>
static __device__ __forceinline__ void
qs_tile_queries_load(qs_tile_queries<QUERIES> *to, const qs_attention_views<T> &a, int head, int query)
{
    if (threadIdx.x >= 3 * QUERIES) return;
    int i = query + (int)threadIdx.x % QUERIES, array = (int)threadIdx.x / QUERIES;
    int64_t at = (int64_t)head * a.tokens + i;
    const void *from = array == 0   ? (const void *)(a.lse + at)
                       : array == 1 ? (const void *)(a.delta + at)
                                    : (const void *)(a.document + i);
    qs_copy_async_4(qs_shared_of(to) + 4 * threadIdx.x, from, i < a.tokens);
}

/* Whether one of `keys` keys from `key` on is hidden from one of the tile's queries, which begin at `query`.
 */
template <class T, int QUERIES>
static __device__ __forceinline__ bool qs_tile_queries_hide(const qs_tile_queries<QUERIES> *q,
                                                            const qs_attention_views<T> &a, int query,
                                                            int key, int keys)
{
    int last = query + QUERIES - 1;
    return key + keys - 1 > query || last >= a.tokens || a.first_key(last, q->document[QUERIES - 1]) > key;
}

/* Transposed scores of this lane's keys `key` and `key + 8` with TILES * 8 queries from `query` on, whose
 * documents begin at `document`: hides those that must not see them. */
template <int TILES, class T>
static __device__ __forceinline__ void qs_hide_transposed(float (*p)[4], const qs_attention_views<T> &a,
                                                          const int32_t *document, int query, int key)
{
    int member = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int at = 8 * n + 2 * member + e % 2, i = query + at, j = key + e / 2 * 8;
            bool hidden = (j < a.first_key(i, document[at])) | (j > i) | (i >= a.tokens);
            p[n][e] = hidden ? -INFINITY : p[n][e];
        }
}

/* Transposed scores, TILES * 8 queries with these lse, become 2^(scale * score - lse). */
template <int TILES>
static __device__ __forceinline__ void qs_exponentials_transposed(float (*p)[4], const float *lse,
                                                                  float scale)
{
    int member = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            p[n][e] = qs_exp2(fmaf(p[n][e], scale, -(lse[8 * n + 2 * member + e % 2] * QS_LOG2E)));
}

/* dp becomes p * (dp - delta), likewise. */
template <int TILES>
static __device__ __forceinline__ void qs_gradient_transposed(const float (*p)[4], float (*dp)[4],
                                                              const float *delta)
{
    int member = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) dp[n][e] = p[n][e] * (dp[n][e] - delta[8 * n + 2 * member + e % 2]);
}

/* Writes 16 rows of accumulators, times a factor per row half, as T: rows row, row + 8 of this lane, where
 * below `limit`. */
template <class T, int WIDTH>
static __device__ __forceinline__ void qs_store_rows(const float (*c)[4], qs_view<T> to, int column, int row,
                                                     int limit, float first, float second)
{
    int member = threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float factor = half ? second : first;
        if (row + 8 * half >= limit) continue;
        T *out = to.row(row + 8 * half) + column + 2 * member;
#pragma unroll
        for (int n = 0; n < WIDTH / 8; n++) {
            uint32_t pair = qs_pair(c[n][2 * half] * factor, c[n][2 * half + 1] * factor, T());
            *(uint32_t *)(out + 8 * n) = pair;
        }
    }
}

/* The end of an online softmax: the output, and the rows' log-sum-exp. */
template <class T, int HD>
static __device__ __forceinline__ void qs_softmax_store(const float (*out)[4], const qs_softmax_rows *r,
                                                        const qs_attention_views<T> &a, int head, int row,
                                                        float scale)
{
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = r->sum[half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        inverse[half] = 1.0f / sum;
        if (threadIdx.x % 4 == 0 && row + 8 * half < a.tokens)
            a.lse[(int64_t)head * a.tokens + row + 8 * half] = fmaf(r->max[half], scale, log2f(sum)) * QS_LN2;
    }
    qs_store_rows<T, HD>(out, a.o, head * HD, row, a.tokens, inverse[0], inverse[1]);
}

#endif
