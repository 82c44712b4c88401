/* streams.cpp - lazy streams, events, launches, and the device's own calls.
 *
 * A stream is a queue of work, event records and event waits. drain() takes heads in a random order that
 * breaks neither the order within a stream nor an event: half the seeds pick evenly, the others favour one
 * stream for a while, which drives the streams far apart and finds races that even picking hides.
 */
#include <stdio.h>

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "tests/cudasim/internal.h"

struct event_state {
    uint64_t recorded, reached;
};
struct cudasim_event {
    std::shared_ptr<event_state> state;
};

struct item {
    enum { WORK, RECORD, WAIT } kind;
    std::function<void()> work;
    std::shared_ptr<event_state> event;
    uint64_t version;
};
struct cudasim_stream {
    std::deque<item> queue;
};

static std::vector<cudasim_stream *> streams;
static std::map<const void *, int> shared_limits; /* raised by cudaFuncSetAttribute */
static cudaError_t last_error;
static uint64_t random_state;
static unsigned favoured, favour_left;

uint32_t cudasim_random(void) /* splitmix64 */
{
    uint64_t z = random_state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (uint32_t)((z ^ z >> 31) >> 32);
}

cudaError_t cudasim_fail(cudaError_t error) { return last_error = error; }

int cudasim_code_arch(void) { return cudasim_options.code_arch; }

void cudasim_reset(const cudasim_config *config)
{
    cudasim_memory_reset();
    cudasim_streams_reset();
    cudasim_options = *config;
    if (!cudasim_options.capacity_bytes) cudasim_options.capacity_bytes = (size_t)1 << 30;
    if (!cudasim_options.arch) cudasim_options.arch = 80;
    if (!cudasim_options.code_arch) cudasim_options.code_arch = cudasim_options.arch;
    cudasim_counts = {};
    random_state = config->seed * 0x9E3779B97F4A7C15u;
}

void cudasim_streams_reset(void)
{
    if (!streams.empty()) cudasim_die("%zu streams were never destroyed", streams.size());
    shared_limits.clear();
    last_error = cudaSuccess;
    favour_left = 0;
}

/* ---- running ----------------------------------------------------------------------------------------- */

static bool ready(const cudasim_stream *s)
{
    return !s->queue.empty() && (s->queue.front().kind != item::WAIT ||
                                 s->queue.front().event->reached >= s->queue.front().version);
}

/* Runs one item of some stream; false when none can run. */
static bool run_one(void)
{
    std::vector<cudasim_stream *> candidates;
    for (cudasim_stream *s : streams)
        if (ready(s)) candidates.push_back(s);
    if (candidates.empty()) return false;
    cudasim_stream *s = candidates[cudasim_below((uint32_t)candidates.size())];
    if (cudasim_options.seed & 1) {
        if (!favour_left)
            favoured = cudasim_below((uint32_t)streams.size()), favour_left = 1 + cudasim_below(24);
        favour_left--;
        if (favoured < streams.size() && ready(streams[favoured])) s = streams[favoured];
    }
    item it = std::move(s->queue.front());
    s->queue.pop_front();
    if (it.kind == item::WORK) it.work();
    if (it.kind == item::RECORD && it.event->reached < it.version) it.event->reached = it.version;
    return true;
}

static void drain_until(const std::function<bool()> &finished)
{
    cudasim_open_memory();
    while (!finished())
        if (!run_one()) cudasim_die("the host waits for work that waits for an event nobody will record");
    cudasim_close_memory();
}

static void known(cudaStream_t stream)
{
    for (cudasim_stream *s : streams)
        if (s == stream) return;
    cudasim_die("work queued on a stream that does not exist");
}

void cudasim_enqueue(cudaStream_t stream, std::function<void()> work)
{
    known(stream);
    stream->queue.push_back({item::WORK, std::move(work), nullptr, 0});
}

/* ---- streams and events ------------------------------------------------------------------------------ */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    streams.push_back(*out = new cudasim_stream);
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    known(stream);
    drain_until([=] { return stream->queue.empty(); });
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaStreamSynchronize(stream);
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == stream) streams.erase(streams.begin() + (ptrdiff_t)i);
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void)
{
    drain_until([] {
        for (cudasim_stream *s : streams)
            if (!s->queue.empty()) return false;
        return true;
    });
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = new cudasim_event{std::make_shared<event_state>(event_state{0, 0})};
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    known(stream);
    stream->queue.push_back({item::RECORD, nullptr, event->state, ++event->state->recorded});
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    known(stream);
    if (++cudasim_counts.waits == (uint64_t)cudasim_options.drop_wait) return cudaSuccess;
    stream->queue.push_back({item::WAIT, nullptr, event->state, event->state->recorded});
    return cudaSuccess;
}
/* Leaves "not ready" behind for cudaGetLastError: the manual says otherwise, but not all runtimes follow it.
 */
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    uint64_t version = event->state->recorded;
    bool progress = true;
    cudasim_open_memory();
    for (uint32_t steps = 1 + cudasim_below(3); progress && steps && event->state->reached < version; steps--)
        progress = run_one();
    cudasim_close_memory();
    return event->state->reached < version ? cudasim_fail(cudaErrorNotReady) : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    uint64_t version = event->state->recorded;
    drain_until([=] { return event->state->reached >= version; });
    return cudaSuccess;
}

/* ---- queued work ------------------------------------------------------------------------------------- */

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    bool in = kind == cudaMemcpyHostToDevice;
    cudasim_check_device(in ? dst : src, bytes, "cudaMemcpyAsync");
    cudasim_check_host(in ? src : dst, bytes, "cudaMemcpyAsync");
    cudasim_enqueue(stream, [=] {
        cudasim_check_device(in ? dst : src, bytes, "cudaMemcpyAsync");
        memcpy(dst, src, bytes);
        (in ? cudasim_counts.copies_in : cudasim_counts.copies_out)++;
        (in ? cudasim_counts.copied_in_bytes : cudasim_counts.copied_out_bytes) += bytes;
    });
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream)
{
    cudasim_check_device(p, bytes, "cudaMemsetAsync");
    cudasim_enqueue(stream, [=] { memset(p, byte, bytes); });
    return cudaSuccess;
}

static int shared_opt_in(void)
{
    int arch = cudasim_options.arch;
    return (arch == 75 ? 64 : arch == 80 || arch == 87 ? 163 : arch == 90 || arch == 100 ? 227 : 99) << 10;
}

cudaError_t cudasim_set_shared_limit(const void *kernel, int bytes)
{
    if (bytes > shared_opt_in()) return cudasim_fail(cudaErrorInvalidValue);
    shared_limits[kernel] = bytes;
    return cudaSuccess;
}

void cudasim_launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                    cudaStream_t stream, size_t argument_bytes, std::function<void()> body)
{
    if (cudasim_options.no_kernel_image) {
        cudasim_fail(cudaErrorNoKernelImageForDevice);
        return;
    }
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    int limit = shared_limits.count(kernel) ? shared_limits[kernel] : 48 << 10;
    if (!threads || threads > 1024 || block.z > 64 || !grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu ||
        grid.y > 65535 || grid.z > 65535 || shared_bytes > (size_t)(limit > 48 << 10 ? limit : 48 << 10) ||
        argument_bytes > 4096) {
        cudasim_fail(cudaErrorInvalidValue);
        return;
    }
    cudasim_enqueue(
        stream, [=, body = std::move(body)] { cudasim_run_kernel(name, grid, block, shared_bytes, body); });
}

/* ---- the device -------------------------------------------------------------------------------------- */

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}
const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorNoKernelImageForDevice:
        return "no kernel image is available for execution on the device";
    case cudaErrorHostMemoryAlreadyRegistered:
        return "part or all of the requested memory range is already mapped";
    default:
        return "simulated error";
    }
}
cudaError_t cudaGetDeviceCount(int *count)
{
    *count = cudasim_options.no_device ? 0 : 1;
    return cudasim_options.no_device ? cudasim_fail(cudaErrorNoDevice) : cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    if (device || cudasim_options.no_device) return cudasim_fail(cudaErrorInvalidDevice);
    cudasim_make_context();
    return cudaSuccess;
}
cudaError_t cudaInitDevice(int device, unsigned, unsigned flags)
{
    return flags == cudaInitDeviceFlagsAreValid ? cudaSetDevice(device) : cudasim_fail(cudaErrorInvalidValue);
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int)
{
    switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
        *value = 4;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = cudasim_options.arch / 10;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = cudasim_options.arch % 10;
        break;
    case cudaDevAttrConcurrentManagedAccess:
        *value = !cudasim_options.no_managed;
        break;
    }
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int)
{
    *properties = {};
    snprintf(properties->name, sizeof properties->name, "simulated sm_%d", cudasim_options.arch);
    properties->totalGlobalMem = cudasim_options.capacity_bytes;
    properties->major = cudasim_options.arch / 10;
    properties->minor = cudasim_options.arch % 10;
    properties->multiProcessorCount = 4;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *id, int bytes, int)
{
    snprintf(id, (size_t)bytes, "0000:01:00.0");
    return cudaSuccess;
}
