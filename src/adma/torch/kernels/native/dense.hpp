// The walk for targets that give every class a weight: sum_j w_j psi(t_j) and its gradient. A part of kernel.cpp, whose
// program, sums and memory it uses.
//
// With h the likeliest class: rest = sum of exp(z_j - z_h) over the others, t_h = log(1 + rest), t_j = t_h + (z_h - z_j),
// so that each t keeps its relative accuracy (terms.nll_all). With g_j = scale w_j slope(t_j) and G their sum,
//     dz_k = p_k G - g_k,    dz_h = p_h (G - g_h) - (1 - p_h) g_h,    1 - p_h = rest / (1 + rest),
// p_k <= 1/2 but for h. All of it is double, whatever the logits are: p_k G and g_k may be nearly the same (for MAE what
// smoothing adds to them is), and what cancels must not be a rounding of float.
// Cross-entropy of smoothed class indices is simple: psi is t, all weights but one are alike, and one sum more than for
// the class alone, of z_h - z_j, is all there is to it. There exp(z_j - z_h) and an entry's two terms are of the logits'
// own type (float for half types), each with its own relative accuracy.
#pragma once

namespace ADMA_SET {

using adma::Dense;

// -- vectors, and what memory holds -----------------------------------------------------------------------------------

// to and from double
ADMA_INLINE void spread(VD x, double* to) { store(to, x); }
ADMA_INLINE void spread(VF x, float* to) { store(to, x); }
ADMA_INLINE void spread(VF x, double* to) {
    typedef float Half __attribute__((vector_size(ADMA_BYTES / 2)));
    Half part[2];
    memcpy(part, &x, sizeof x);
    store(to, __builtin_convertvector(part[0], VD));
    store(to + WD, __builtin_convertvector(part[1], VD));
}
ADMA_INLINE void gathered(const double* from, VD& x) { x = load(from); }
ADMA_INLINE void gathered(const double* from, VF& x) {
    typedef float Half __attribute__((vector_size(ADMA_BYTES / 2)));
    const Half part[2] = {__builtin_convertvector(load(from), Half), __builtin_convertvector(load(from + WD), Half)};
    memcpy(&x, part, sizeof x);
}

// whether a comparison holds in some lane
ADMA_INLINE bool some(VFI x) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)x, (__m512i)x) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_epi8((__m256i)x) != 0;
#elif defined(__x86_64__)
    return _mm_movemask_epi8((__m128i)x) != 0;
#else
    int32_t found = 0;
    for (int i = 0; i < Vector<float>::width; ++i) found |= x[i];
    return found != 0;
#endif
}
ADMA_INLINE bool some(VDI x) { return some((VFI)x); }

ADMA_INLINE int64_t padded(int64_t count) { return (count + PADDED - 1) / PADDED * PADDED; }

ADMA_INLINE int64_t value_count(const Program& program) { return 1 + program.constant_count + program.code_length; }
ADMA_INLINE int64_t value_bytes(const Program& program, int64_t pitch) {
    return value_count(program) * (pitch + 1) * 8 + 64;
}

// the arrays of a program's values, `pitch` numbers each, with the constants filled in; value_bytes at p
static double** value_arrays(const Program& program, double* p, int64_t pitch) {
    const int64_t count = value_count(program);
    double** value = (double**)(p + count * pitch);
    for (int64_t i = 0; i < count; ++i, p += pitch) {
        value[i] = p;
        if (i >= 1 && i <= program.constant_count)
            for (int64_t j = 0; j < pitch; ++j) p[j] = program.constants[i - 1];
    }
    return value;
}

// the next tile that nobody has taken: its number, its first position, and how many
ADMA_INLINE int64_t take(const Call& call, Plan& plan, int64_t& first, int64_t& count) {
    const int64_t tile = __atomic_fetch_add(&plan.next, 1, __ATOMIC_RELAXED);
    if (plan.kind == Plan::COLUMNS) {
        const int64_t start = tile % plan.tiles_of_n * plan.positions;
        first = tile / plan.tiles_of_n * call.m + start;
        count = call.m - start < plan.positions ? call.m - start : plan.positions;
    } else {
        first = tile * plan.positions;
        count = call.n * call.m - first < plan.positions ? call.n * call.m - first : plan.positions;
    }
    return tile;
}

// -- weights, as double -----------------------------------------------------------------------------------------------

template <class Y>
static void read(const Y* from, int64_t stride, int64_t count, double* to) {
    int64_t i = 0;
    if (stride == 1)
        for (constexpr int W = Vector<typename Compute<Y>::T>::width; i + W <= count; i += W) spread(load(from + i), to + i);
    for (; i < count; ++i) to[i] = one(from[i * stride]);
}

template <class Y>
static void read_at(const Y* from, const int64_t* offset, int64_t count, double* to) {
    for (int64_t i = 0; i < count; ++i) to[i] = one(from[offset[i]]);
}

// shares from an offset on with a stride, or each at an offset of its own
static void shares_of(const Dense& d, int64_t start, int64_t stride, const int64_t* offset, int64_t count, double* to) {
#define ADMA_CASE(NAME, Y)                                               \
    case adma::NAME: {                                                   \
        const Y* from = (const Y*)d.shares + start;                      \
        return offset ? read_at(from, offset, count, to) : read(from, stride, count, to); \
    }
    switch (d.share_type) {
        ADMA_CASE(FLOAT32, float)
        ADMA_CASE(FLOAT64, double)
        ADMA_CASE(BFLOAT16, Bfloat16)
        ADMA_CASE(FLOAT16, Float16)
    }
#undef ADMA_CASE
}

struct Smoothing {
    double even, kept;
    explicit Smoothing(const Dense& d) : even(d.smoothing / (double)d.call.c), kept(1.0 - d.smoothing) {}
    // cross-entropy, from the sum of every t and the true one; no share of an infinite t is 0
    double of_simple(double every, double true_t) const {
        return (even == 0.0 ? 0.0 : even * every) + (kept == 0.0 ? 0.0 : kept * true_t);
    }
};

}  // namespace ADMA_SET

#include "dense_lanes.hpp"
#include "dense_rows.hpp"

namespace ADMA_SET {

// -- a thread ---------------------------------------------------------------------------------------------------------

template <class S>
static void walk_rows(const Dense& d, Plan& plan) {
    const adma::Program& program = d.call.program;
    Scratch scratch((2 * plan.pitch + STRIP) * 8 + value_bytes(program, STRIP));
    if (!scratch.memory) {
        plan.failed = true;
        return;
    }
    RowWork work;
    work.held = (double*)scratch.aligned();
    work.e = work.held + plan.pitch;
    work.w = work.e + plan.pitch;
    work.value = value_arrays(program, work.w + STRIP, STRIP);
    int64_t first, count;
    for (int64_t tile; (tile = take(d.call, plan, first, count)) < plan.tiles;)
        plan.sums[tile] = dense_row_tile<S>(d, plan, work, first, count);
}

template <class S>
static void walk_lanes(const Dense& d, Plan& plan) {
    typedef typename Compute<S>::T T;
    const adma::Program& program = d.call.program;
    const int64_t pitch = padded(plan.positions), numbers = (2 * d.call.c + 6) * plan.pitch * 8;
    Scratch scratch(numbers + value_bytes(program, pitch) + Lanes::FIELDS * pitch * 8);
    if (!scratch.memory) {
        plan.failed = true;
        return;
    }
    double *logits = (double*)scratch.aligned(), *p = (double*)(scratch.aligned() + numbers);
    Lanes lanes;
    double** fields[] = {&lanes.scale, &lanes.loss,   &lanes.level, &lanes.rest, &lanes.near,
                         &lanes.gaps,  &lanes.others, &lanes.own,   &lanes.best, &lanes.w};
    for (double** field : fields) *field = p, p += pitch;
    lanes.y = (int64_t*)p;
    lanes.offset = lanes.y + pitch;
    lanes.value = value_arrays(program, p + 2 * pitch, pitch);
    const bool simple = d.simple();
    int64_t first, count;
    for (int64_t tile; (tile = take(d.call, plan, first, count)) < plan.tiles;)
        plan.sums[tile] = simple ? simple_lanes<S>(d, plan, lanes, (T*)logits, first, count)
                                 : dense_lanes<S>(d, plan, lanes, logits, first, count);
}

template <class S>
static void dense_work(const Dense& d, Plan& plan) {
    plan.kind == Plan::ROWS ? walk_rows<S>(d, plan) : walk_lanes<S>(d, plan);
    if (plan.stream) stream_end();
}

void dense_worker(const Dense& d, Plan& plan) {
    switch (d.call.type) {
        case adma::FLOAT32: return dense_work<float>(d, plan);
        case adma::FLOAT64: return dense_work<double>(d, plan);
        case adma::BFLOAT16: return dense_work<Bfloat16>(d, plan);
        case adma::FLOAT16: return dense_work<Float16>(d, plan);
    }
}

}  // namespace ADMA_SET
