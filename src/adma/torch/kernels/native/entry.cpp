// The plain C interface: what instruction sets there are, how a call is cut into tiles, and the threads.
#include "call.hpp"

#include <cstdlib>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define ADMA_DECLARE(SET)                                                                             \
    namespace SET {                                                                                   \
    void worker(const adma::Call&, adma::Plan&);                                                      \
    void dense_worker(const adma::Dense&, adma::Plan&);                                               \
    bool values(const adma::Program&, const double* t, double* psi, double* slope, int64_t count);    \
    }
ADMA_DECLARE(adma_baseline)
#if defined(ADMA_X86)
ADMA_DECLARE(adma_avx2)
ADMA_DECLARE(adma_avx512)
#endif

using adma::Call;
using adma::Dense;
using adma::Plan;

namespace {

constexpr int64_t FEW_CLASSES = 48;         // up to here rows that lie side by side are turned, a lane a row
constexpr int64_t ROW_SCRATCH = 1 << 16;    // numbers of a tile: with its logits within a core's L2
constexpr int64_t LANE_SCRATCH = 1 << 13;   // within its L1
constexpr int64_t MOST_ROWS = 64, MOST_LANES = 256, LANES = 16;
constexpr int64_t WORTH_A_THREAD = 1 << 13; // logits
constexpr int64_t PAST_CACHE = 32 << 20;    // bytes of a gradient that no cache will hold until it is used
constexpr int64_t HUGE_PAGES = 8 << 20;     // bytes from which fresh memory is asked for in huge pages

typedef void (*Parallel)(void (*)(void*), void*, unsigned, unsigned);  // GOMP_parallel
Parallel parallel = nullptr;

enum Set : int64_t { BASELINE, AVX2, AVX512 };

bool supported(int64_t set) {
#if defined(ADMA_X86)
    if (set == AVX2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (set == AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
    return set == BASELINE;
}

adma::Worker worker_of(int64_t set) {
#if defined(ADMA_X86)
    if (set == AVX2) return adma_avx2::worker;
    if (set == AVX512) return adma_avx512::worker;
#endif
    return adma_baseline::worker;
}

adma::DenseWorker dense_worker_of(int64_t set) {
#if defined(ADMA_X86)
    if (set == AVX2) return adma_avx2::dense_worker;
    if (set == AVX512) return adma_avx512::dense_worker;
#endif
    return adma_baseline::dense_worker;
}

int64_t size_of(int64_t type) { return type == adma::FLOAT64 ? 8 : type == adma::FLOAT32 ? 4 : 2; }

int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

// copies: how many times a row lies in the scratch
Plan plan_of(const Call& call, int64_t copies) {
    Plan plan = {};
    const int64_t positions = call.n * call.m;
    const bool together = call.zc == 1 && (!call.out || call.oc == 1);
    const bool apart = call.m >= LANES && call.zm == 1 && (!call.out || call.om == 1);
    if (together && call.c > FEW_CLASSES) {
        plan.kind = Plan::ROWS;
        plan.positions = clamp(ROW_SCRATCH / call.c, 1, MOST_ROWS);
        plan.pitch = (call.c + LANES - 1) / LANES * LANES + LANES;  // a vector behind the last class
        plan.tiles = (positions + plan.positions - 1) / plan.positions;
    } else {
        plan.kind = apart && !(together && call.zc == 1) ? Plan::COLUMNS : Plan::TRANSPOSED;
        plan.positions = clamp(LANE_SCRATCH / (call.c * copies) / LANES * LANES, LANES, MOST_LANES);
        plan.pitch = plan.positions + LANES;  // not a power of two: neighbours in class would share a cache set
        plan.tiles_of_n = (call.m + plan.positions - 1) / plan.positions;
        plan.tiles = plan.kind == Plan::COLUMNS ? call.n * plan.tiles_of_n
                                                : (positions + plan.positions - 1) / plan.positions;
    }
    plan.stream = call.out && call.out != call.z && positions * call.c * size_of(call.type) >= PAST_CACHE;
    return plan;
}

template <class Called>
struct Task {
    void (*worker)(const Called&, Plan&);
    const Called* call;
    Plan* plan;
};

template <class Called>
void run(void* data) {
    Task<Called>* task = static_cast<Task<Called>*>(data);
    task->worker(*task->call, *task->plan);
}

// a gradient of many megabytes is memory fresh from the system: with huge pages it is had 3 times as fast
void advise(const Call& call) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const int64_t bytes = call.n * call.m * call.c * size_of(call.type);
    if (!call.out || call.out == call.z || bytes < HUGE_PAGES) return;
    const uintptr_t page = 2 << 20, start = ((uintptr_t)call.out + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)call.out + bytes) / page * page;
    if (end > start) madvise((void*)start, end - start, MADV_HUGEPAGE);
#endif
}

// a whole call, by as many threads as its work is worth: `each` is a logit's beside that of the cheapest kernel
template <class Called>
int64_t walk(const Called& called, const Call& call, void (*worker)(const Called&, Plan&), int64_t copies, int64_t each,
             int64_t threads, double* sum) {
    *sum = 0.0;
    if (call.n * call.m == 0) return 0;
    Plan plan = plan_of(call, copies);
    double few[64];
    plan.sums = plan.tiles <= 64 ? few : static_cast<double*>(malloc(plan.tiles * sizeof(double)));
    if (!plan.sums) return 1;
    advise(call);
    Task<Called> task = {worker, &called, &plan};
    const int64_t worth = call.n * call.m * call.c * each / WORTH_A_THREAD;
    const int64_t team = clamp(threads, 1, clamp(worth < plan.tiles ? worth : plan.tiles, 1, 1024));
    if (parallel && team > 1)
        parallel(run<Called>, &task, static_cast<unsigned>(team), 0);
    else
        run<Called>(&task);
    for (int64_t i = 0; i < plan.tiles; ++i) *sum += plan.sums[i];
    if (plan.sums != few) free(plan.sums);
    return plan.failed && plan.next < plan.tiles ? 1 : 0;
}

}  // namespace

#define ADMA_EXPORT __attribute__((visibility("default")))

extern "C" {

ADMA_EXPORT int64_t adma_native_version() { return ADMA_VERSION; }

// bits: 1 << set
ADMA_EXPORT int64_t adma_native_sets() {
    int64_t found = 0;
    for (int64_t set = BASELINE; set <= AVX512; ++set) found |= supported(set) ? int64_t(1) << set : 0;
    return found;
}

// GOMP_parallel of the OpenMP that the process has loaded already; null: one thread
ADMA_EXPORT void adma_native_threads_by(void* function) { parallel = reinterpret_cast<Parallel>(function); }

// Loss rows, the gradient of their sum times scale, and the sum, which lands in *sum. 0 if all went well, 1 without
// memory. out must be dense where it lies, but for its strides.
ADMA_EXPORT int64_t adma_native_rows_and_gradient(const Call* call, int64_t set, int64_t threads, double* sum) {
    return walk<Call>(*call, *call, worker_of(set), 1, 1, threads, sum);
}

// The same for targets that give every class a weight.
ADMA_EXPORT int64_t adma_native_dense_rows_and_gradient(const Dense* dense, int64_t set, int64_t threads, double* sum) {
    const int64_t copies = dense->simple() ? 1 : 4;  // logits and exponentials, in double
    return walk<Dense>(*dense, dense->call, dense_worker_of(set), copies, copies, threads, sum);
}

// What an index target holds: the first position that is outside [0, classes) and is not ignore, or -1; and how many
// positions are ignore.
ADMA_EXPORT int64_t adma_native_survey(const int64_t* target, int64_t count, int64_t classes, int64_t ignore, int64_t* ignored) {
    int64_t skipped = 0, wrong = 0;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t y = target[i];
        skipped += y == ignore;
        wrong += (static_cast<uint64_t>(y) >= static_cast<uint64_t>(classes)) & (y != ignore);
    }
    *ignored = skipped;
    if (!wrong) return -1;
    for (int64_t i = 0; i < count; ++i)
        if (target[i] != ignore && static_cast<uint64_t>(target[i]) >= static_cast<uint64_t>(classes)) return i;
    return -1;
}

// The mean (over the targets that count) or the sum of the rows, in one call: the target is looked through, those that are
// `ignore` count nothing, and the rest is as above. call->scale and every_scale are not read. 2: a target is no class.
ADMA_EXPORT int64_t adma_native_reduced(const Call* call, int64_t set, int64_t threads, int64_t ignore, int64_t mean,
                                        double* result) {
    const int64_t count = call->n * call->m;
    int64_t ignored = 0;
    if (adma_native_survey(call->target, count, call->c, ignore, &ignored) >= 0) return 2;
    Call counted = *call;
    counted.scale = nullptr;
    counted.every_scale = mean ? 1.0 / static_cast<double>(clamp(count - ignored, 1, count)) : 1.0;
    if (!ignored) return adma_native_rows_and_gradient(&counted, set, threads, result);
    double* scale = static_cast<double*>(malloc(count * sizeof(double)));
    if (!scale) return 1;
    for (int64_t i = 0; i < count; ++i) scale[i] = call->target[i] == ignore ? 0.0 : counted.every_scale;
    counted.scale = scale;
    const int64_t failed = adma_native_rows_and_gradient(&counted, set, threads, result);
    free(scale);
    return failed;
}

// psi and slope of count numbers t
ADMA_EXPORT int64_t adma_native_values(const adma::Program* program, int64_t set, const double* t, double* psi, double* slope,
                           int64_t count) {
#if defined(ADMA_X86)
    if (set == AVX2) return adma_avx2::values(*program, t, psi, slope, count) ? 0 : 1;
    if (set == AVX512) return adma_avx512::values(*program, t, psi, slope, count) ? 0 : 1;
#endif
    return adma_baseline::values(*program, t, psi, slope, count) ? 0 : 1;
}
}
