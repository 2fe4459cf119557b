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
static constexpr int SHORT = 16;  // vectors of a short row
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

// the other of exp and expm1 of what instruction i takes; i itself if the program asks for one of them only
ADMA_INLINE int32_t partner_of(const Program& program, int32_t i) {
    const adma::Instruction& step = program.code[i];
    if (step.operation != adma::EXP && step.operation != adma::EXPM1) return i;
    int32_t found = -1;
    for (int32_t j = 0; j < program.code_length; ++j) {
        const adma::Instruction& that = program.code[j];
        if (that.a != step.a || (that.operation != adma::EXP && that.operation != adma::EXPM1)) continue;
        if (that.operation == step.operation) {
            if (j < i) return i;  // another of the same has the partner
        } else if (found < 0)
            found = j;
    }
    return found < 0 ? i : found;
}

// the values of a program over `count` numbers t, a multiple of WD
static void evaluate(const Program& program, double** value, int64_t count) {
    int64_t result = 1 + program.constant_count;
    for (int32_t i = 0; i < program.code_length; ++i, ++result) {
        const adma::Instruction& step = program.code[i];
        const double *a = value[step.a], *b = value[step.b], *c = value[step.c];
        double* r = value[result];
        const int32_t partner = partner_of(program, i);
        if (partner < i) continue;  // it computed this one too
        if (partner > i) {
            double* s = value[result + partner - i];
            const bool first = step.operation == adma::EXP;
            for (int64_t j = 0; j < count; j += WD) {
                VD x, y;
                exp_pair_of(load(a + j), x, y);
                store((first ? r : s) + j, x);
                store((first ? s : r) + j, y);
            }
            continue;
        }
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

ADMA_INLINE double added(VD x) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_pd((__m512d)x);
#endif
    alignas(64) double held[WD];
    store(held, x);
    for (int step = WD / 2; step; step /= 2)
        for (int i = 0; i < step; ++i) held[i] += held[i + step];
    return held[0];
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
        store(t + i, log1p_near(e, inverse) + (u > 0.0 ? u : VD{}));
        store(rows.weight + i, u > 0.0 ? inverse : e * inverse);
        store(rows.total + i, total);
    }
    evaluate(call.program, rows.value, whole);
    const double *psi = rows.value[call.program.psi], *slope = rows.value[call.program.slope];
    VD sum = VD{};
    for (int64_t i = 0; i < whole; i += WD) {
        VD scale = load(rows.scale + i), total = load(rows.total + i), loss = load(psi + i);
        VDI dead = scale == 0.0;
        VD weight = scale * load(slope + i) * load(rows.weight + i);
        weight = dead ? VD{} : weight;
        store(rows.weight + i, weight);
        store(rows.rate + i, total == 0.0 ? VD{} : weight / total);
        store(rows.loss + i, dead ? VD{} : loss);
        sum = sum + (dead ? VD{} : scale * loss);
    }
    return added(sum);
}

// the first `count` lanes of a vector, what is not there being -inf
template <class S, class V = typename Vector<typename Compute<S>::T>::V>
ADMA_INLINE V load_some(const S* p, int64_t count) {
    typedef typename Compute<S>::T T;
#if defined(__AVX512F__)
    if constexpr (sizeof(S) == 4)
        return (V)_mm512_mask_loadu_ps(_mm512_set1_ps(-__builtin_inff()), (__mmask16)((1u << count) - 1), p);
    if constexpr (sizeof(S) == 8)
        return (V)_mm512_mask_loadu_pd(_mm512_set1_pd(-__builtin_inf()), (__mmask8)((1u << count) - 1), p);
#endif
    alignas(64) T held[Vector<T>::width];
    for (int64_t i = 0; i < Vector<T>::width; ++i) held[i] = i < count ? (T)one(p[i]) : (T)-__builtin_inf();
    return load(held);
}

template <class S, class V>
ADMA_INLINE void store_some(S* p, V x, int64_t count) {
#if defined(__AVX512F__)
    if constexpr (sizeof(S) == 4) return _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)x);
    if constexpr (sizeof(S) == 8) return _mm512_mask_storeu_pd(p, (__mmask8)((1u << count) - 1), (__m512d)x);
#endif
    S held[Vector<typename Compute<S>::T>::width];
    store(held, x);
    memcpy((void*)p, held, (decltype(sizeof(0)))count * sizeof(S));
}

template <class T>
ADMA_INLINE T largest(typename Vector<T>::V x) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return (T)_mm512_reduce_max_ps((__m512)x);
    else
        return (T)_mm512_reduce_max_pd((__m512d)x);
#endif
    alignas(64) T held[Vector<T>::width];
    store(held, x);
    for (int step = Vector<T>::width / 2; step; step /= 2)
        for (int i = 0; i < step; ++i) held[i] = held[i] > held[i + step] ? held[i] : held[i + step];
    return held[0];
}

// the lanes of a vector as doubles, in one or two vectors, and how many these are
template <class T>
struct Wide {
    static constexpr int parts = sizeof(double) / sizeof(T);
    VD part[parts];
};
ADMA_INLINE Wide<double> wide(VD x) { return {{x}}; }
ADMA_INLINE Wide<float> wide(VF x) {
    typedef float Half __attribute__((vector_size(ADMA_BYTES / 2)));
    Half part[2];
    memcpy(part, &x, sizeof x);
    return {{__builtin_convertvector(part[0], VD), __builtin_convertvector(part[1], VD)}};
}

// the same, added two by two
ADMA_INLINE VD folded(VD x) { return x; }
ADMA_INLINE VD folded(VF x) {
    const Wide<float> w = wide(x);
    return w.part[0] + w.part[1];
}

template <class T, class V>
ADMA_INLINE void store_wide(double* p, V x) {
    const Wide<T> w = wide(x);
    for (int i = 0; i < Wide<T>::parts; ++i) store(p + i * WD, w.part[i]);
}

// One row of classes that lie side by side: level, total, and the exponentials in e, 0 at the true class. e holds the
// logits first, and -inf behind them up to a vector's end. What was stored is loaded again as the same vectors: any other
// load would wait for the stores.
template <class S>
static void walk_row(const S* z, int64_t c, int64_t y, typename Compute<S>::T* e, double& level_out, double& total_out) {
    typedef typename Compute<S>::T T;
    typedef typename Vector<T>::V V;
    typedef typename Vector<T>::I I;
    typedef typename Vector<T>::Int Int;
    constexpr int W = Vector<T>::width;
    const T lowest = (T)-__builtin_inf();

    // The true class is left out. In a short row each vector looks whether it has it: a loop that ends where the class is
    // would end where no processor foresees it. In a long one its vector goes by itself.
    V m0 = all(lowest), m1 = m0, m2 = m0, m3 = m0;
    const int64_t full = c / W, at = y / W, rest = c - full * W;
    const I there = all_int<T>((Int)(y - at * W));
    int64_t j = 0;
    if (full <= SHORT) {
        I distance = lanes<T>() - all_int<T>((Int)y);
        for (; j < full; ++j, distance += (Int)W) {
            const V x = distance == (Int)0 ? all(lowest) : load(z + j * W);
            store(e + j * W, x);
            m0 = larger(x, m0);
        }
    }
    for (int part = 0; full > SHORT && part < 2; ++part) {
        const int64_t end = part ? full : (at < full ? at : full);
        for (; j + 4 <= end; j += 4) {
            const V x0 = load(z + j * W), x1 = load(z + (j + 1) * W), x2 = load(z + (j + 2) * W),
                    x3 = load(z + (j + 3) * W);
            store(e + j * W, x0), store(e + (j + 1) * W, x1), store(e + (j + 2) * W, x2), store(e + (j + 3) * W, x3);
            m0 = larger(x0, m0), m1 = larger(x1, m1), m2 = larger(x2, m2), m3 = larger(x3, m3);
        }
        for (; j < end; ++j) {
            const V x = load(z + j * W);
            store(e + j * W, x);
            m0 = larger(x, m0);
        }
        if (!part && at < full) {
            const V x = lanes<T>() == there ? all(lowest) : load(z + at * W);
            store(e + at * W, x);
            m3 = larger(x, m3);
            j = at + 1;
        }
    }
    if (rest) {
        V x = load_some(z + full * W, rest);
        x = (lanes<T>() == there) & all_int<T>((Int) - (at == full)) ? all(lowest) : x;
        store(e + full * W, x);
        m1 = larger(x, m1);
    }
    T top = largest<T>(larger(larger(m0, m1), larger(m2, m3)));
    top = top == lowest ? (T)0 : top;
    const V level = all(top);

    VD total = VD{};
    const int64_t vectors = (c + W - 1) / W;
    for (j = 0; j < vectors;) {
        const int64_t stop = j + CHUNK < vectors ? j + CHUNK : vectors;
        V partial = V{};
        for (; j < stop; ++j) {
            const V x = lifted_exp(load(e + j * W), level);
            store(e + j * W, x);
            partial = partial + x;
        }
        total = total + folded(partial);
    }
    level_out = top;
    total_out = added(total);
}

template <class S>
ADMA_INLINE bool aligned(const S* p) {
    return ((uintptr_t)p & (ADMA_BYTES - 1)) == 0;
}

// e rate into a row of the gradient of at least a vector
template <class S>
static void write_row(S* out, int64_t c, const typename Compute<S>::T* e, double rate, bool past) {
    typedef typename Compute<S>::T T;
    typedef typename Vector<T>::V V;
    constexpr int W = Vector<T>::width;
    const V r = all((T)rate), sink = all((T)SINK);
    int64_t j = 0;
    if (past && sizeof(S) == sizeof(T)) {
        store(out, load(e) * r * sink);
        j = (int64_t)(((ADMA_BYTES - ((uintptr_t)out & (ADMA_BYTES - 1))) & (ADMA_BYTES - 1)) / sizeof(S));
        for (; j + W <= c; j += W) stream(out + j, load(e + j) * r * sink);
    } else {
        for (; j + W <= c; j += W) store(out + j, load(e + j) * r * sink);
    }
    if (j < c) store(out + c - W, load(e + c - W) * r * sink);
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
    const int64_t n0 = first / call.m, m0 = first % call.m;
    int64_t n = n0, m = m0;
    for (int64_t i = 0; i < count; ++i, m = m + 1 == call.m ? 0 : m + 1, n += m == 0) {
        const int64_t p = first + i;
        rows.scale[i] = scale_at(call, p);
        if (rows.scale[i] == 0.0) {
            rows.level[i] = rows.true_z[i] = 0.0;
            rows.total[i] = LIFT;
            continue;
        }
        const S* row = z + n * call.zn + m * call.zm;
        const int64_t y = call.target[p];
        rows.true_z[i] = one(row[y]);
        walk_row(row, call.c, y, scratch + i * plan.pitch, rows.level[i], rows.total[i]);
    }
    const double sum = finish_rows(call, rows, count);
    n = n0, m = m0;
    if (out)
        for (int64_t i = 0; i < count; ++i, m = m + 1 == call.m ? 0 : m + 1, n += m == 0) {
            S* row = out + n * call.on + m * call.om;
            if (rows.scale[i] == 0.0) {
                memset((void*)row, 0, (decltype(sizeof(0)))call.c * sizeof(S));
                continue;
            }
            write_row(row, call.c, scratch + i * plan.pitch, rows.rate[i], plan.stream);
            put(row + call.target[first + i], (typename Compute<S>::T)(0.0 - rows.weight[i]));
        }
    return sum;
}

// rows whose classes lie side by side -> a class after the other, a row a lane
template <class S>
static void turn_in(const Call& call, typename Compute<S>::T* scratch, int64_t pitch, int64_t first, int64_t count) {
    typedef typename Compute<S>::T T;
    typedef typename Vector<T>::V V;
    constexpr int W = Vector<T>::width;
    const int64_t classes = call.c, filled = (classes + W - 1) / W * W, last = first + count - 1;
    const S* z = (const S*)call.z;
    const S* end = z + last / call.m * call.zn + last % call.m * call.zm + classes;
    int64_t n = first / call.m, m = first % call.m;
    for (int64_t i = 0; i < count; i += W) {
        const S* row[W];
        for (int j = 0; j < W; ++j) {
            row[j] = z + n * call.zn + m * call.zm;
            if (i + j < count - 1 && ++m == call.m) m = 0, ++n;  // the last row stands for those that are not there
        }
        for (int64_t c = 0; c < classes; c += W) {
            V x[W];
            for (int j = 0; j < W; ++j)  // what lies behind a row is read with it where it is ours, and never used
                x[j] = row[j] + filled <= end ? load(row[j] + c) : load_some(row[j] + c, classes - c < W ? classes - c : W);
            transpose<T>(x);
            for (int j = 0; j < W && c + j < classes; ++j) store(scratch + (c + j) * pitch + i, x[j]);
        }
    }
}

// and back into the gradient; what a vector writes behind its row is written again by the next row
template <class S>
static void turn_out(const Call& call, const typename Compute<S>::T* scratch, int64_t pitch, int64_t first,
                     int64_t count) {
    typedef typename Compute<S>::T T;
    typedef typename Vector<T>::V V;
    constexpr int W = Vector<T>::width;
    const int64_t classes = call.c, filled = (classes + W - 1) / W * W, last = first + count - 1;
    S* out = (S*)call.out;
    const bool dense = (call.m == 1 || call.om == classes) && (call.n == 1 || call.on == call.m * classes);
    const S* end = dense ? out + last / call.m * call.on + last % call.m * call.om + classes : out;
    int64_t n = first / call.m, m = first % call.m;
    for (int64_t i = 0; i < count; i += W) {
        S* row[W];
        const int size = count - i < W ? (int)(count - i) : W;
        for (int j = 0; j < size; ++j) {
            row[j] = out + n * call.on + m * call.om;
            if (++m == call.m) m = 0, ++n;
        }
        for (int64_t c = filled - W; c >= 0; c -= W) {
            V x[W];
            for (int j = 0; j < W; ++j) x[j] = c + j < classes ? load(scratch + (c + j) * pitch + i) : V{};
            transpose<T>(x);
            for (int j = 0; j < size; ++j)
                if (row[j] + filled <= end || c + W <= classes)
                    store(row[j] + c, x[j]);
                else
                    store_some(row[j] + c, x[j], classes - c);
        }
    }
}

// rows side by side, a class after the other: a lane is a row
template <class S>
static double lane_tile(const Call& call, const Plan& plan, const Rows& rows, typename Compute<S>::T* scratch,
                        int64_t first, int64_t count) {
    typedef typename Compute<S>::T T;
    typedef typename Vector<T>::V V;
    typedef typename Vector<T>::I I;
    typedef typename Vector<T>::Int Int;
    constexpr int W = Vector<T>::width;
    const S* z = (const S*)call.z;
    S* out = (S*)call.out;
    const int64_t pitch = plan.pitch, whole = (count + W - 1) / W * W, classes = call.c;
    const T lowest = (T)-__builtin_inf();
    // behind the classes: a row's number of the true class, its rate and its weight
    Int* y = (Int*)(scratch + classes * pitch);
    T *rate = scratch + (classes + 1) * pitch, *weight = rate + pitch;
    bool dead = count < whole;
    for (int64_t i = 0; i < count; ++i) {
        const double scale = scale_at(call, first + i);
        rows.scale[i] = scale;
        dead |= scale == 0.0;
        y[i] = scale == 0.0 ? 0 : (Int)call.target[first + i];
    }
    for (int64_t i = count; i < whole; ++i) rows.scale[i] = 0.0, y[i] = 0;

    const bool columns = plan.kind == Plan::COLUMNS, turned = call.zc == 1 && (!out || call.oc == 1);
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
    } else if (turned) {
        turn_in<S>(call, scratch, pitch, first, count);
    } else {
        int64_t n = n0, m = m0;
        for (int64_t i = 0; i < count; ++i) {
            const S* row = z + n * call.zn + m * call.zm;
            for (int64_t c = 0; c < classes; ++c) scratch[c * pitch + i] = one(row[c * call.zc]);
            if (++m == call.m) m = 0, ++n;
        }
    }
    for (int64_t i = 0; dead && i < whole; ++i)
        if (rows.scale[i] == 0.0)
            for (int64_t c = 0; c < classes; ++c) scratch[c * pitch + i] = 0;  // whatever was there

    for (int64_t i = 0; i < whole; i += W) {
        T* at = scratch + i;
        I here;
        memcpy(&here, y + i, sizeof here);
        V top = all(lowest), truth = V{};
        for (int64_t c = 0; c < classes; ++c) {
            const I other = here != all_int<T>((Int)c);
            const V x = load(at + c * pitch);
            truth = other ? truth : x;
            top = larger(other ? x : all(lowest), top);
        }
        top = top == all(lowest) ? V{} : top;
        Wide<T> sum = {};
        for (int64_t c = 0; c < classes;) {
            const int64_t stop = c + CHUNK < classes ? c + CHUNK : classes;
            V partial = V{};
            for (; c < stop; ++c) {
                V x = lifted_exp(load(at + c * pitch), top);
                x = here != all_int<T>((Int)c) ? x : V{};
                store(at + c * pitch, x);
                partial = partial + x;
            }
            const Wide<T> more = wide(partial);
            for (int j = 0; j < Wide<T>::parts; ++j) sum.part[j] = sum.part[j] + more.part[j];
        }
        for (int j = 0; j < Wide<T>::parts; ++j) store(rows.total + i + j * WD, sum.part[j]);
        store_wide<T>(rows.level + i, top);
        store_wide<T>(rows.true_z + i, truth);
    }
    const double sum = finish_rows(call, rows, whole);
    if (!out) return sum;

    for (int64_t i = 0; i < whole; ++i) {
        rate[i] = (T)rows.rate[i];
        weight[i] = (T)0 - (T)rows.weight[i];
    }
    const V sink = all((T)SINK);
    S* to = out + n0 * call.on + m0 * call.om;
    for (int64_t c = 0; c < classes; ++c) {
        T* from = scratch + c * pitch;
        S* line = to + c * call.oc;
        const I here = all_int<T>((Int)c);
        for (int64_t i = 0; i < whole; i += W) {
            V x = load(from + i) * load(rate + i) * sink;
            I index;
            memcpy(&index, y + i, sizeof index);
            x = index == here ? load(weight + i) : x;
            if (!columns)
                store(from + i, x);
            else if (i + W > count)
                store_some(line + i, x, count - i);
            else if (plan.stream && aligned(line + i))
                stream(line + i, x);
            else
                store(line + i, x);
        }
    }
    if (columns) return sum;
    if (turned) {
        turn_out<S>(call, scratch, pitch, first, count);
        return sum;
    }
    int64_t n = n0, m = m0;
    for (int64_t i = 0; i < count; ++i) {
        S* row = out + n * call.on + m * call.om;
        for (int64_t c = 0; c < classes; ++c) put(row + c * call.oc, scratch[c * pitch + i]);
        if (++m == call.m) m = 0, ++n;
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

#include "dense.hpp"
