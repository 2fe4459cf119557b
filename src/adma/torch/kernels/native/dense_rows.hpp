// Rows whose classes lie side by side, one after the other; a part of dense.hpp.
#pragma once

namespace ADMA_SET {

static constexpr int64_t STRIP = 128;  // classes of a row whose psi is computed at once: they stay in L1

// the weights of classes from `from` on of one row, and 0 up to `whole`
static void weights_of_row(const Dense& d, int64_t offset, int64_t y, int64_t from, int64_t count, int64_t whole,
                           double* w) {
    const Smoothing s(d);
    if (d.shares) {
        shares_of(d, offset + from * d.sc, d.sc, nullptr, count, w);
        if (d.smoothing != 0.0)
            for (int64_t i = 0; i < count; ++i) w[i] = w[i] * s.kept + s.even;
    } else {
        for (int64_t i = 0; i < count; ++i) w[i] = s.even;
        if (y >= from && y < from + count) w[y - from] += s.kept;
    }
    if (d.class_weight)
        for (int64_t i = 0; i < count; ++i) w[i] *= d.class_weight[from + i];
    for (int64_t i = count; i < whole; ++i) w[i] = 0.0;
}

// memory of a thread: for a row its logits, later g, and the exponentials, up to a vector behind the last class; for a
// strip of it weights and the values of the program
struct RowWork {
    double *held, *e, *w;
    double** value;
};

// logits of at least a vector into `held`, -inf behind them up to a vector's end; the largest
template <class S, class T>
static T copy_row(const S* z, int64_t c, T* held) {
    typedef typename Compute<S>::T Number;
    typedef typename Vector<Number>::V V;
    constexpr int W = Vector<Number>::width;
    V m0 = all((Number)-__builtin_inf()), m1 = m0, m2 = m0, m3 = m0;
    const V last = load(z + c - W);
    spread(m0, held + c);
    int64_t j = 0;
    for (; j + 4 * W <= c; j += 4 * W) {
        const V x0 = load(z + j), x1 = load(z + j + W), x2 = load(z + j + 2 * W), x3 = load(z + j + 3 * W);
        spread(x0, held + j), spread(x1, held + j + W), spread(x2, held + j + 2 * W), spread(x3, held + j + 3 * W);
        m0 = larger(x0, m0), m1 = larger(x1, m1), m2 = larger(x2, m2), m3 = larger(x3, m3);
    }
    for (; j + W <= c; j += W) {
        const V x = load(z + j);
        spread(x, held + j);
        m0 = larger(x, m0);
    }
    spread(last, held + c - W);
    m1 = larger(last, m1);
    return largest<Number>(larger(larger(m0, m1), larger(m2, m3)));
}

// where `top` is for the first time; 0 if nowhere (a row of NaN)
template <class T>
static int64_t place_of(const T* held, int64_t c, T top) {
    typedef typename Vector<T>::V V;
    constexpr int W = Vector<T>::width;
    for (int64_t j = 0; j < c; j += W)
        if (some(load(held + j) == all(top)))
            for (int64_t i = j; i < j + W; ++i)
                if (held[i] == top) return i;
    return 0;
}

// exp(z - top) 2^60 of a row into e, 0 at h, their sum; and, in GAPS, the sum of top - z. e may be held.
template <class T, bool GAPS>
static double exponentials(const T* held, T* e, int64_t c, int64_t h, T top, double& gaps_out) {
    typedef typename Vector<T>::V V;
    typedef typename Vector<T>::I I;
    constexpr int W = Vector<T>::width;
    const V level = all(top);
    const int64_t vectors = (c + W - 1) / W, full = c / W, at = h / W;  // by themselves: h's, and one that is a part
    VD total = VD{}, distance = VD{};
    for (int64_t j = 0; j < vectors;) {
        V partial = V{}, gaps = V{};
        if (j == at || j == full) {
            alignas(64) T x[W], apart[W];
            store(apart, level - load(held + j * W));
            store(x, lifted_exp(load(held + j * W), level));
            for (int64_t i = 0; i < W; ++i) {
                const int64_t k = j * W + i;
                if (k == h || k >= c) x[i] = apart[i] = 0;
            }
            partial = load(x), gaps = load(apart);
            store(e + j * W, partial);
            ++j;
        } else {
            int64_t stop = j + CHUNK < vectors ? j + CHUNK : vectors;
            if (j < at && at < stop) stop = at;
            if (j < full && full < stop) stop = full;
            for (; j < stop; ++j) {
                const V z = load(held + j * W), x = lifted_exp(z, level);
                store(e + j * W, x);
                partial = partial + x;
                if (GAPS) gaps = gaps + (level - z);
            }
        }
        total = total + folded(partial);
        if (GAPS) distance = distance + folded(gaps);
    }
    gaps_out = added(distance);
    return added(total);
}

// e rate - g into a row of the gradient of at least a vector: g one number, in the logits' type
template <class T>
struct Flat {
    const T* e;
    T rate, g;
    inline __attribute__((always_inline)) typename Vector<T>::V operator()(int64_t j) const {
        return load(e + j) * all(rate) * all((T)SINK) - all(g);
    }
};

// the same with g for each class, in double
template <class T>
struct Each {
    const double *e, *g;
    double rate;
    inline __attribute__((always_inline)) typename Vector<T>::V operator()(int64_t j) const {
        alignas(64) double x[Vector<T>::width];
        for (int i = 0; i < Vector<T>::width; i += WD)
            store(x + i, load(e + j + i) * all(rate) * all(SINK) - load(g + j + i));
        typename Vector<T>::V found;
        gathered(x, found);
        return found;
    }
};

template <class S, class Entry>
static void write_entries(S* out, int64_t c, const Entry& entry, bool past) {
    typedef typename Compute<S>::T T;
    constexpr int W = Vector<T>::width;
    int64_t j = 0;
    if (past && sizeof(S) == sizeof(T)) {
        store(out, entry(0));
        j = (int64_t)(((ADMA_BYTES - ((uintptr_t)out & (ADMA_BYTES - 1))) & (ADMA_BYTES - 1)) / sizeof(S));
        for (; j + W <= c; j += W) stream(out + j, entry(j));
    } else {
        for (; j + W <= c; j += W) store(out + j, entry(j));
    }
    if (j < c) store(out + c - W, entry(c - W));
}

// cross-entropy of a smoothed class index; e holds a row
template <class S>
static double simple_row(const Dense& d, typename Compute<S>::T* e, const S* z, S* out, int64_t y, double scale,
                         bool past) {
    typedef typename Compute<S>::T T;
    const int64_t c = d.call.c;
    const Smoothing s(d);
    const T top = copy_row(z, c, e);
    const int64_t h = place_of(e, c, top);
    const double true_gap = y == h ? 0.0 : (double)top - (double)e[y];
    double gaps;
    const double rest = exponentials<T, true>(e, e, c, h, top, gaps) * SINK;
    const double near = log1p_of(all(rest))[0], inverse = 1.0 / (1.0 + rest);
    const double loss = s.of_simple(gaps + c * near, true_gap + near);
    if (!out) return loss;
    const double even = scale * s.even, true_g = scale * (s.even + s.kept), others = even * (c - 1);
    const double rate = (others + true_g) * inverse, at_y = e[y];
    write_entries(out, c, Flat<T>{e, (T)rate, (T)even}, past);
    put(out + y, (T)(at_y * SINK * rate - true_g));
    const double own = y == h ? true_g : even, other = y == h ? others : even * (c - 2) + true_g;
    put(out + h, (T)(inverse * other - rest * inverse * own));
    return loss;
}

template <class S>
static double dense_row(const Dense& d, const RowWork& work, const S* z, S* out, int64_t offset, int64_t y,
                        double scale, bool past) {
    typedef typename Compute<S>::T T;
    const int64_t c = d.call.c;
    double* held = work.held;
    const double top = copy_row(z, c, held);
    const int64_t h = place_of(held, c, top);
    double gaps;
    const double rest = exponentials<double, false>(held, work.e, c, h, top, gaps) * SINK;
    const double near = log1p_of(all(rest))[0], inverse = 1.0 / (1.0 + rest);
    const adma::Program& program = d.call.program;
    double *t = work.value[0], *w = work.w, own = 0.0;
    const double* psi = d.identity ? t : work.value[program.psi];
    const double* slope = d.identity ? nullptr : work.value[program.slope];
    VD loss = VD{}, others = VD{};
    for (int64_t from = 0; from < c; from += STRIP) {
        const int64_t count = c - from < STRIP ? c - from : STRIP, whole = (count + WD - 1) / WD * WD;
        weights_of_row(d, offset, y, from, count, whole, w);
        for (int64_t i = 0; i < whole; i += WD) store(t + i, (top - load(held + from + i)) + near);
        const bool here = h >= from && h < from + count;
        if (here) t[h - from] = near;
        if (!d.identity) evaluate(program, work.value, whole);
        for (int64_t i = 0; i < whole; i += WD) {
            const VD share = load(w + i);
            const VDI none = share == 0.0;
            const VD g = none ? VD{} : scale * share * (slope ? load(slope + i) : all(1.0));
            loss = loss + (none ? VD{} : share * load(psi + i));
            store(held + from + i, g);
        }
        if (here) {
            own = held[h];
            held[h] = 0.0;
        }
        for (int64_t i = 0; i < whole; i += WD) others = others + load(held + from + i);
    }
    if (!out) return added(loss);
    const double other = added(others);
    write_entries(out, c, Each<T>{work.e, held, (other + own) * inverse}, past);
    put(out + h, (T)(inverse * other - rest * inverse * own));
    return added(loss);
}

template <class S>
static double dense_row_tile(const Dense& d, const Plan& plan, const RowWork& work, int64_t first, int64_t count) {
    const Call& call = d.call;
    const bool simple = d.simple();
    int64_t n = first / call.m, m = first % call.m;
    double sum = 0.0;
    for (int64_t i = 0; i < count; ++i, m = m + 1 == call.m ? 0 : m + 1, n += m == 0) {
        const int64_t p = first + i, y = d.shares ? -1 : call.target[p];
        const double scale = scale_at(call, p);
        const S* z = (const S*)call.z + n * call.zn + m * call.zm;
        S* out = call.out ? (S*)call.out + n * call.on + m * call.om : nullptr;
        double loss = 0.0;
        if (scale == 0.0) {
            if (out) memset((void*)out, 0, (decltype(sizeof(0)))call.c * sizeof(S));
        } else {
            loss = simple ? simple_row(d, (typename Compute<S>::T*)work.e, z, out, y, scale, plan.stream)
                          : dense_row(d, work, z, out, n * d.sn + m * d.sm, y, scale, plan.stream);
            sum += scale * loss;
        }
        if (call.rows) call.rows[p] = loss;
    }
    return sum;
}

}  // namespace ADMA_SET
