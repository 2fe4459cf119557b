// The walk over the logits: loss and gradient of a tile of rows while it is in the cache. Compiled once a set.
//
// A row's terms (adma/torch/kernels/terms.py has the mathematics): level = max of the other classes, total = sum of
// exp(z_j - level) over them, u = log(total) + level - z_y, t = log(1 + exp(u)), 1 - p = 1 / (1 + exp(-u));
// dz_j = scale slope(t) (1 - p) exp(z_j - level) / total, and minus the same without the quotient at the true class.
// Logits are in their own type (half types in float), what is one number a row is double.
#include "call.hpp"
#include "math.hpp"

extern "C" void* malloc(decltype(sizeof(0)));
extern "C" void free(void*);

namespace ADMA_SET {

using adma::Call;
using adma::Plan;
using adma::Program;

static constexpr int WD = Vector<double>::width;
static constexpr int CHUNK = 32;  // vectors that are added in the logits' type before the sum goes on in double

// memory of a thread for the time of a call
struct Scratch {
    char* memory;
    explicit Scratch(int64_t bytes) : memory((char*)malloc((decltype(sizeof(0)))(bytes + 64))) {}
    ~Scratch() { free(memory); }
    char* aligned() const { return (char*)(((uintptr_t)memory + 63) & ~(uintptr_t)63); }
};

// one number a row of a tile
struct Rows {
    double *level, *true_z, *total, *scale, *loss, *rate, *weight;
    double** value;  // the program's
};

ADMA_INLINE VD truth(VDI condition) { return (VD)(condition & (VDI)all(1.0)); }

// the values of a program over `count` numbers t, a multiple of WD
static void evaluate(const Program& program, double** value, int64_t count) {
    int64_t result = 1 + program.constant_count;
    for (int32_t i = 0; i < program.code_length; ++i, ++result) {
        const adma::Instruction& step = program.code[i];
        const double *a = value[step.a], *b = value[step.b], *c = value[step.c];
        double* r = value[result];
#define ADMA_CASE(NAME, EXPRESSION)                     \
    case adma::NAME:                                    \
        for (int64_t j = 0; j < count; j += WD) {       \
            VD x = load(a + j), y = load(b + j);        \
            (void)y;                                    \
            store(r + j, EXPRESSION);                   \
        }                                               \
        break;
        switch (step.operation) {
            ADMA_CASE(NEG, -x)
            ADMA_CASE(EXP, exp_of(x))
            ADMA_CASE(EXPM1, expm1_of(x))
            ADMA_CASE(LOG, log_of(x))
            ADMA_CASE(LOG1P, log1p_of(x))
            ADMA_CASE(ABS, (VD)((VDI)x & INT64_MAX))
            ADMA_CASE(ADD, x + y)
            ADMA_CASE(SUB, x - y)
            ADMA_CASE(MUL, x * y)
            ADMA_CASE(DIV, x / y)
            ADMA_CASE(POW, pow_of(x, y))
            ADMA_CASE(LESS, truth(x < y))
            ADMA_CASE(LESS_EQUAL, truth(x <= y))
            ADMA_CASE(WHERE, x != 0.0 ? y : load(c + j))
        }
#undef ADMA_CASE
    }
}

// from level, true_z and total to loss, rate and weight; what lies beyond `count` up to a vector's end is made harmless
static double finish_rows(const Call& call, const Rows& rows, int64_t count) {
    int64_t whole = (count + WD - 1) / WD * WD;
    for (int64_t i = count; i < whole; ++i) {
        rows.level[i] = rows.true_z[i] = rows.scale[i] = 0.0;
        rows.total[i] = LIFT;
    }
    double* t = rows.value[0];
    for (int64_t i = 0; i < whole; i += WD) {
        VD total = load(rows.total + i) * SINK;
        VD u = load(rows.level + i) - load(rows.true_z + i) + log_of(total);
        VD size = u > 0.0 ? u : -u;
        VD e = exp_of(-size), inverse = 1.0 / (1.0 + e);
        store(t + i, log1p_of(e) + (u > 0.0 ? u : VD{}));
        store(rows.weight + i, u > 0.0 ? inverse : e * inverse);
        store(rows.total + i, total);
    }
    evaluate(call.program, rows.value, whole);
    const double *psi = rows.value[call.program.psi], *slope = rows.value[call.program.slope];
    for (int64_t i = 0; i < whole; i += WD) {
        VD scale = load(rows.scale + i), total = load(rows.total + i);
        VDI dead = scale == 0.0;
        VD weight = scale * load(slope + i) * load(rows.weight + i);
        weight = dead ? VD{} : weight;
        store(rows.weight + i, weight);
        store(rows.rate + i, total == 0.0 ? VD{} : weight / total);
        store(rows.loss + i, dead ? VD{} : load(psi + i));
    }
    double sum = 0.0;
    for (int64_t i = 0; i < count; ++i) sum += rows.scale[i] == 0.0 ? 0.0 : rows.scale[i] * rows.loss[i];
    return sum;
}

// the last vector of a row, what is not there being -inf
template <class S, class V = typename Vector<typename Compute<S>::T>::V>
ADMA_INLINE V load_some(const S* p, int64_t count) {
    typedef typename Compute<S>::T T;
    alignas(64) T held[Vector<T>::width];
    for (int64_t i = 0; i < Vector<T>::width; ++i) held[i] = i < count ? (T)one(p[i]) : (T)-__builtin_inf();
    return load(held);
}

template <class T>
ADMA_INLINE T largest(typename Vector<T>::V x) {
    T found = x[0];
    for (int i = 1; i < Vector<T>::width; ++i) found = x[i] > found ? x[i] : found;
    return found;
}

// one row whose classes lie side by side: level, total, and the exponentials into e (if it is not null)
template <class S>
static void walk_row(const S* z, int64_t c, int64_t y, typename Compute<S>::T* e, double& level_out, double& total_out) {
    typedef typename Compute<S>::T T;
    typedef typename Vector<T>::V V;
    constexpr int W = Vector<T>::width;
    const T lowest = (T)-__builtin_inf();
    const int64_t full = c / W, at = y / W, rest = c % W;

    V special = at < full ? load(z + at * W) : load_some(z + full * W, rest);
    special[y % W] = lowest;
    V m0 = special, m1 = special, m2 = special, m3 = special;
    if (rest && at < full) m1 = larger(load_some(z + full * W, rest), m1);
    for (int part = 0; part < 2; ++part) {
        int64_t j = part ? at + 1 : 0, end = part ? full : (at < full ? at : full);
        for (; j + 4 <= end; j += 4) {
            m0 = larger(load(z + j * W), m0);
            m1 = larger(load(z + (j + 1) * W), m1);
            m2 = larger(load(z + (j + 2) * W), m2);
            m3 = larger(load(z + (j + 3) * W), m3);
        }
        for (; j < end; ++j) m0 = larger(load(z + j * W), m0);
    }
    T top = largest<T>(larger(larger(m0, m1), larger(m2, m3)));
    top = top == lowest ? (T)0 : top;
    const V level = all(top);

    double sum[W] = {};
    for (int part = 0; part < 2; ++part) {
        int64_t j = part ? at + 1 : 0, end = part ? full : (at < full ? at : full);
        while (j < end) {
            int64_t stop = j + CHUNK < end ? j + CHUNK : end;
            V partial = V{};
            if (e)
                for (; j < stop; ++j) {
                    V x = lifted_exp(load(z + j * W), level);
                    store(e + j * W, x);
                    partial = partial + x;
                }
            else
                for (; j < stop; ++j) partial = partial + lifted_exp(load(z + j * W), level);
            alignas(64) T held[W];
            store(held, partial);
            for (int i = 0; i < W; ++i) sum[i] += held[i];
        }
    }
    V last = lifted_exp(special, level);
    alignas(64) T held[W];
    store(held, last);
    for (int i = 0; i < W; ++i) sum[i] += held[i];
    if (e) store(e + at * W, last);
    if (rest && at < full) {
        last = lifted_exp(load_some(z + full * W, rest), level);
        store(held, last);
        for (int i = 0; i < W; ++i) sum[i] += held[i];
        if (e) store(e + full * W, last);
    }
    double total = 0.0;
    for (int i = 0; i < W; ++i) total += sum[i];
    level_out = top;
    total_out = total;
}

template <class S>
ADMA_INLINE bool aligned(const S* p) {
    return ((uintptr_t)p & (ADMA_BYTES - 1)) == 0;
}

// e rate into a row of the gradient
template <class S>
static void write_row(S* out, int64_t c, const typename Compute<S>::T* e, double rate, bool past) {
    typedef typename Compute<S>::T T;
    typedef typename Vector<T>::V V;
    constexpr int W = Vector<T>::width;
    const V r = all((T)rate), sink = all((T)SINK);
    int64_t j = 0;
    if (past && sizeof(S) == sizeof(T)) {
        for (; j < c && !aligned(out + j); ++j) put(out + j, e[j] * (T)rate * (T)SINK);
        for (; j + W <= c; j += W) stream(out + j, load(e + j) * r * sink);
    } else {
        for (; j + W <= c; j += W) store(out + j, load(e + j) * r * sink);
    }
    for (; j < c; ++j) put(out + j, e[j] * (T)rate * (T)SINK);
}

ADMA_INLINE double scale_at(const Call& call, int64_t position) {
    return call.scale ? call.scale[position] : call.every_scale;
}

// rows whose classes lie side by side, one after the other
template <class S>
static double row_tile(const Call& call, const Plan& plan, const Rows& rows, typename Compute<S>::T* scratch,
                       int64_t first, int64_t count) {
    const S* z = (const S*)call.z;
    S* out = (S*)call.out;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t p = first + i, n = p / call.m, m = p % call.m;
        rows.scale[i] = scale_at(call, p);
        if (rows.scale[i] == 0.0) {
            rows.level[i] = rows.true_z[i] = 0.0;
            rows.total[i] = LIFT;
            continue;
        }
        const S* row = z + n * call.zn + m * call.zm;
        const int64_t y = call.target[p];
        rows.true_z[i] = one(row[y]);
        walk_row(row, call.c, y, out ? scratch + i * plan.pitch : nullptr, rows.level[i], rows.total[i]);
    }
    const double sum = finish_rows(call, rows, count);
    if (out)
        for (int64_t i = 0; i < count; ++i) {
            const int64_t p = first + i, n = p / call.m, m = p % call.m;
            S* row = out + n * call.on + m * call.om;
            if (rows.scale[i] == 0.0) {
                memset((void*)row, 0, (decltype(sizeof(0)))call.c * sizeof(S));
                continue;
            }
            write_row(row, call.c, scratch + i * plan.pitch, rows.rate[i], plan.stream);
            put(row + call.target[p], -(typename Compute<S>::T)rows.weight[i]);
        }
    return sum;
}

// rows side by side, a class after the other: a lane is a row
template <class S>
static double lane_tile(const Call& call, const Plan& plan, const Rows& rows, typename Compute<S>::T* scratch,
                        int64_t first, int64_t count) {
    typedef typename Compute<S>::T T;
    typedef typename Vector<T>::V V;
    typedef typename Vector<T>::I I;
    constexpr int W = Vector<T>::width;
    const S* z = (const S*)call.z;
    S* out = (S*)call.out;
    const int64_t pitch = plan.pitch, whole = (count + W - 1) / W * W, classes = call.c;
    const T lowest = (T)-__builtin_inf();
    // behind the classes: a row's number of the true class, its level, and later rate and weight
    typename Vector<T>::Int* y = (typename Vector<T>::Int*)(scratch + classes * pitch);
    T *level = scratch + (classes + 1) * pitch, *weight = level + pitch;
    for (int64_t i = 0; i < whole; ++i) {
        const double scale = i < count ? scale_at(call, first + i) : 0.0;
        rows.scale[i] = scale;
        y[i] = scale == 0.0 ? 0 : (typename Vector<T>::Int)call.target[first + i];
    }

    const bool columns = plan.kind == Plan::COLUMNS;
    const int64_t n0 = first / call.m, m0 = first % call.m;
    if (columns) {
        const S* from = z + n0 * call.zn + m0 * call.zm;
        for (int64_t c = 0; c < classes; ++c) {
            T* to = scratch + c * pitch;
            const S* line = from + c * call.zc;
            int64_t i = 0;
            for (; i + W <= count; i += W) store(to + i, load(line + i));
            if (i < count) store(to + i, load_some(line + i, count - i));
        }
    } else {
        int64_t n = n0, m = m0;
        for (int64_t i = 0; i < count; ++i) {
            const S* row = z + n * call.zn + m * call.zm;
            if (call.zc == 1)
                for (int64_t c = 0; c < classes; ++c) scratch[c * pitch + i] = one(row[c]);
            else
                for (int64_t c = 0; c < classes; ++c) scratch[c * pitch + i] = one(row[c * call.zc]);
            if (++m == call.m) m = 0, ++n;
        }
        for (int64_t i = count; i < whole; ++i)
            for (int64_t c = 0; c < classes; ++c) scratch[c * pitch + i] = 0;
    }
    for (int64_t i = 0; i < whole; ++i) {
        if (rows.scale[i] == 0.0)
            for (int64_t c = 0; c < classes; ++c) scratch[c * pitch + i] = 0;  // whatever was there
        T* held = scratch + y[i] * pitch + i;
        rows.true_z[i] = *held;
        *held = lowest;
    }
    for (int64_t i = 0; i < whole; i += W) {
        T* at = scratch + i;
        V top = load(at);
        for (int64_t c = 1; c < classes; ++c) top = larger(load(at + c * pitch), top);
        top = top == all(lowest) ? V{} : top;
        double sum[W] = {};
        for (int64_t c = 0; c < classes;) {
            const int64_t stop = c + CHUNK < classes ? c + CHUNK : classes;
            V partial = V{};
            for (; c < stop; ++c) {
                V x = lifted_exp(load(at + c * pitch), top);
                store(at + c * pitch, x);
                partial = partial + x;
            }
            alignas(64) T held[W];
            store(held, partial);
            for (int j = 0; j < W; ++j) sum[j] += held[j];
        }
        alignas(64) T held[W];
        store(held, top);
        for (int j = 0; j < W; ++j) {
            rows.level[i + j] = held[j];
            rows.total[i + j] = sum[j];
        }
    }
    const double sum = finish_rows(call, rows, count);
    if (!out) return sum;

    for (int64_t i = 0; i < whole; ++i) {
        level[i] = i < count ? (T)rows.rate[i] : (T)0;
        weight[i] = i < count ? (T)0 - (T)rows.weight[i] : (T)0;
    }
    const V sink = all((T)SINK);
    if (columns) {
        S* to = out + n0 * call.on + m0 * call.om;
        for (int64_t c = 0; c < classes; ++c) {
            const T* from = scratch + c * pitch;
            S* line = to + c * call.oc;
            const I here = all_int<T>((typename Vector<T>::Int)c);
            for (int64_t i = 0; i < count; i += W) {
                V x = load(from + i) * load(level + i) * sink;
                I index;
                memcpy(&index, y + i, sizeof index);
                x = index == here ? load(weight + i) : x;
                if (i + W <= count)
                    store(line + i, x);
                else
                    for (int64_t j = 0; i + j < count; ++j) put(line + i + j, (T)x[j]);
            }
        }
    } else {
        for (int64_t c = 0; c < classes; ++c)
            for (int64_t i = 0; i < whole; i += W) {
                T* at = scratch + c * pitch + i;
                store(at, load(at) * load(level + i) * sink);
            }
        for (int64_t i = 0; i < count; ++i) scratch[y[i] * pitch + i] = weight[i];
        int64_t n = n0, m = m0;
        for (int64_t i = 0; i < count; ++i) {
            S* row = out + n * call.on + m * call.om;
            if (call.oc == 1)
                for (int64_t c = 0; c < classes; ++c) put(row + c, scratch[c * pitch + i]);
            else
                for (int64_t c = 0; c < classes; ++c) put(row + c * call.oc, scratch[c * pitch + i]);
            if (++m == call.m) m = 0, ++n;
        }
    }
    return sum;
}

static constexpr int64_t PADDED = 16;  // lanes of the widest vector

// the arrays of a tile's rows, the program's values behind them with the constants filled in
static Rows lay_out(const Program& program, char* memory, int64_t positions) {
    const int64_t pitch = (positions + PADDED - 1) / PADDED * PADDED;
    const int64_t values = 1 + program.constant_count + program.code_length;
    double* p = (double*)memory;
    Rows rows;
    double** fields[] = {&rows.level, &rows.true_z, &rows.total, &rows.scale, &rows.loss, &rows.rate, &rows.weight};
    for (double** field : fields) *field = p, p += pitch;
    rows.value = (double**)(p + values * pitch);
    for (int64_t i = 0; i < values; ++i, p += pitch) {
        rows.value[i] = p;
        if (i >= 1 && i <= program.constant_count)
            for (int64_t j = 0; j < pitch; ++j) p[j] = program.constants[i - 1];
    }
    return rows;
}

static int64_t row_bytes(const Program& program, int64_t positions) {
    const int64_t pitch = (positions + PADDED - 1) / PADDED * PADDED;
    const int64_t values = 1 + program.constant_count + program.code_length;
    return (7 + values) * pitch * 8 + values * 8 + 64;
}

template <class S>
static void work(const Call& call, Plan& plan) {
    typedef typename Compute<S>::T T;
    const int64_t lines = plan.kind == Plan::ROWS ? plan.positions : call.c + 3;
    const int64_t numbers = (row_bytes(call.program, plan.positions) + 63) / 64 * 64;
    Scratch held(numbers + lines * plan.pitch * (int64_t)sizeof(T));
    if (!held.memory) {
        plan.failed = true;
        return;
    }
    const Rows rows = lay_out(call.program, held.aligned(), plan.positions);
    T* scratch = (T*)(held.aligned() + numbers);
    for (;;) {
        const int64_t tile = __atomic_fetch_add(&plan.next, 1, __ATOMIC_RELAXED);
        if (tile >= plan.tiles) break;
        int64_t first, count;
        if (plan.kind == Plan::COLUMNS) {
            const int64_t start = tile % plan.tiles_of_n * plan.positions;
            first = tile / plan.tiles_of_n * call.m + start;
            count = call.m - start < plan.positions ? call.m - start : plan.positions;
        } else {
            first = tile * plan.positions;
            count = call.n * call.m - first < plan.positions ? call.n * call.m - first : plan.positions;
        }
        plan.sums[tile] = plan.kind == Plan::ROWS ? row_tile<S>(call, plan, rows, scratch, first, count)
                                                  : lane_tile<S>(call, plan, rows, scratch, first, count);
        if (call.rows) memcpy(call.rows + first, rows.loss, (decltype(sizeof(0)))count * 8);
    }
    if (plan.stream) stream_end();
}

void worker(const Call& call, Plan& plan) {
    switch (call.type) {
        case adma::FLOAT32: return work<float>(call, plan);
        case adma::FLOAT64: return work<double>(call, plan);
        case adma::BFLOAT16: return work<Bfloat16>(call, plan);
        case adma::FLOAT16: return work<Float16>(call, plan);
    }
}

// psi and slope of t, for tests of the operations; false if there is no memory
bool values(const Program& program, const double* t, double* psi, double* slope, int64_t count) {
    constexpr int64_t step = 64;
    Scratch held(row_bytes(program, step));
    if (!held.memory) return false;
    const Rows rows = lay_out(program, held.aligned(), step);
    for (int64_t i = 0; i < count; i += step) {
        const int64_t size = count - i < step ? count - i : step;
        for (int64_t j = 0; j < step; ++j) rows.value[0][j] = j < size ? t[i + j] : 0.0;
        evaluate(program, rows.value, step);
        memcpy(psi + i, rows.value[program.psi], (decltype(sizeof(0)))size * 8);
        memcpy(slope + i, rows.value[program.slope], (decltype(sizeof(0)))size * 8);
    }
    return true;
}

}  // namespace ADMA_SET
