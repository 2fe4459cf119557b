// Rows side by side: a lane is a row; a part of dense.hpp.
#pragma once

namespace ADMA_SET {

// logits of `count` rows into (c, pitch), a lane a row, up to `whole` lanes
template <class S, class T>
static void load_lanes(const Call& call, const Plan& plan, const S* z, T* scratch, int64_t first, int64_t count,
                       int64_t whole) {
    constexpr int W = Vector<typename Compute<S>::T>::width;
    const int64_t n0 = first / call.m, m0 = first % call.m, pitch = plan.pitch, classes = call.c;
    if (plan.kind == Plan::COLUMNS) {
        const S* from = z + n0 * call.zn + m0 * call.zm;
        for (int64_t c = 0; c < classes; ++c) {
            T* to = scratch + c * pitch;
            const S* line = from + c * call.zc;
            int64_t i = 0;
            for (; i + W <= count; i += W) spread(load(line + i), to + i);
            if (i < count) spread(load_some(line + i, count - i), to + i);
        }
        return;
    }
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

// the reverse, for rows whose positions lie apart
template <class S, class T>
static void store_lanes(const Call& call, const Plan& plan, const T* scratch, S* out, int64_t first, int64_t count) {
    typedef typename Compute<S>::T Number;
    const int64_t pitch = plan.pitch, classes = call.c;
    int64_t n = first / call.m, m = first % call.m;
    for (int64_t i = 0; i < count; ++i) {
        S* row = out + n * call.on + m * call.om;
        if (call.oc == 1)
            for (int64_t c = 0; c < classes; ++c) put(row + c, (Number)scratch[c * pitch + i]);
        else
            for (int64_t c = 0; c < classes; ++c) put(row + c * call.oc, (Number)scratch[c * pitch + i]);
        if (++m == call.m) m = 0, ++n;
    }
}

// one number a row of a tile
struct Lanes {
    double *scale, *loss, *level, *rest, *near, *gaps, *others, *own, *best, *w;
    int64_t *y, *offset;  // the target, and where a row's shares are
    double** value;
    static constexpr int64_t FIELDS = 12;
};

// per row: the likeliest class, in `best`, its logit, and `rest`; exponentials into e, which may be z
template <class T, bool GAPS>
static void lane_terms(const T* z, T* e, int64_t classes, int64_t pitch, int64_t whole, typename Vector<T>::Int* best_of,
                       const Lanes& lanes) {
    typedef typename Vector<T>::V V;
    typedef typename Vector<T>::I I;
    typedef typename Vector<T>::Int Int;
    constexpr int W = Vector<T>::width;
    for (int64_t i = 0; i < whole; i += W) {
        const T* at = z + i;
        V top = load(at);
        I best = I{};
        for (int64_t c = 1; c < classes; ++c) {
            const V x = load(at + c * pitch);
            const I better = x > top;
            top = better ? x : top;
            best = better ? all_int<T>((Int)c) : best;
        }
        memcpy(best_of + i, &best, sizeof best);
        alignas(64) double sum[W] = {}, distance[W] = {}, part[W];
        for (int64_t c = 0; c < classes;) {
            const int64_t stop = c + CHUNK < classes ? c + CHUNK : classes;
            V partial = V{}, gaps = V{};
            for (; c < stop; ++c) {
                const V raw = load(at + c * pitch);
                const I here = best == all_int<T>((Int)c);
                V x = lifted_exp(raw, top);
                x = here ? V{} : x;
                store(e + i + c * pitch, x);
                partial = partial + x;
                if (GAPS) gaps = gaps + (here ? V{} : top - raw);
            }
            spread(partial, part);
            for (int j = 0; j < W; ++j) sum[j] += part[j];
            if (GAPS) {
                spread(gaps, part);
                for (int j = 0; j < W; ++j) distance[j] += part[j];
            }
        }
        spread(top, lanes.level + i);
        for (int j = 0; j < W; ++j) {
            lanes.rest[i + j] = sum[j] * SINK;
            lanes.gaps[i + j] = distance[j];
            lanes.best[i + j] = (double)best_of[i + j];
        }
    }
    for (int64_t i = 0; i < whole; i += WD) store(lanes.near + i, log1p_of(load(lanes.rest + i)));
}

// psi and g of every class, class after class: g into `g`, where the logits were
static void lane_shares(const Dense& d, const Plan& plan, const Lanes& lanes, double* g, int64_t first, int64_t count,
                        int64_t whole) {
    const Call& call = d.call;
    const adma::Program& program = call.program;
    const Smoothing s(d);
    const bool even_stride = plan.kind == Plan::COLUMNS || call.m == 1;
    const int64_t stride = call.m == 1 ? d.sn : d.sm, start = first / call.m * d.sn + first % call.m * d.sm;
    if (d.shares && !even_stride)
        for (int64_t i = 0; i < count; ++i)
            lanes.offset[i] = (first + i) / call.m * d.sn + (first + i) % call.m * d.sm;
    double *t = lanes.value[0], *w = lanes.w;
    const double* psi = d.identity ? t : lanes.value[program.psi];
    const double* slope = d.identity ? nullptr : lanes.value[program.slope];
    for (int64_t i = 0; i < whole; ++i) lanes.loss[i] = lanes.others[i] = lanes.own[i] = 0.0;
    for (int64_t c = 0; c < call.c; ++c) {
        double* line = g + c * plan.pitch;
        const double factor = d.class_weight ? d.class_weight[c] : 1.0;
        if (d.shares) {
            if (even_stride)
                shares_of(d, start + c * d.sc, stride, nullptr, count, w);
            else
                shares_of(d, c * d.sc, 0, lanes.offset, count, w);
            for (int64_t i = 0; i < count; ++i) w[i] = factor * (d.smoothing != 0.0 ? w[i] * s.kept + s.even : w[i]);
        } else {
            for (int64_t i = 0; i < count; ++i) w[i] = factor * (lanes.y[i] == c ? s.even + s.kept : s.even);
        }
        for (int64_t i = 0; i < whole; ++i) w[i] = lanes.scale[i] == 0.0 ? 0.0 : w[i];
        for (int64_t i = 0; i < whole; i += WD) {
            const VD near = load(lanes.near + i), apart = (load(lanes.level + i) - load(line + i)) + near;
            store(t + i, load(lanes.best + i) == (double)c ? near : apart);
        }
        if (!d.identity) evaluate(program, lanes.value, whole);
        for (int64_t i = 0; i < whole; i += WD) {
            const VD share = load(w + i);
            const VDI none = share == 0.0, mine = load(lanes.best + i) == (double)c;
            const VD steep = load(lanes.scale + i) * share * (slope ? load(slope + i) : all(1.0));
            const VD found = none ? VD{} : steep;
            store(lanes.loss + i, load(lanes.loss + i) + (none ? VD{} : share * load(psi + i)));
            store(lanes.own + i, mine ? found : load(lanes.own + i));
            store(lanes.others + i, load(lanes.others + i) + (mine ? VD{} : found));
            store(line + i, found);
        }
    }
}

// scales and targets of a tile's rows
static void begin_lanes(const Dense& d, const Lanes& lanes, int64_t first, int64_t count, int64_t whole) {
    for (int64_t i = 0; i < whole; ++i) {
        lanes.scale[i] = i < count ? scale_at(d.call, first + i) : 0.0;
        lanes.y[i] = d.shares || lanes.scale[i] == 0.0 ? 0 : d.call.target[first + i];
    }
}

// logits of a tile's rows; 0 in a row that does not count, whatever is there
template <class S, class T>
static void fill_lanes(const Dense& d, const Plan& plan, const Lanes& lanes, T* z, int64_t first, int64_t count,
                       int64_t whole) {
    load_lanes(d.call, plan, (const S*)d.call.z, z, first, count, whole);
    for (int64_t i = 0; i < whole; ++i)
        if (lanes.scale[i] == 0.0)
            for (int64_t c = 0; c < d.call.c; ++c) z[c * plan.pitch + i] = 0;
}

static double end_lanes(const Dense& d, const Lanes& lanes, int64_t first, int64_t count) {
    double sum = 0.0;
    for (int64_t i = 0; i < count; ++i) sum += lanes.scale[i] == 0.0 ? 0.0 : lanes.scale[i] * lanes.loss[i];
    if (d.call.rows) memcpy(d.call.rows + first, lanes.loss, (decltype(sizeof(0)))count * 8);
    return sum;
}

// a vector of a class's gradient to where it belongs
template <class S, class V>
ADMA_INLINE void write_line(S* line, V x, int64_t i, int64_t count, bool past) {
    typedef typename Compute<S>::T T;
    if (i + Vector<T>::width > count)
        for (int64_t j = 0; i + j < count; ++j) put(line + i + j, (T)x[j]);
    else if (past && aligned(line + i))
        stream(line + i, x);
    else
        store(line + i, x);
}

template <class S>
ADMA_INLINE S* line_at(const Call& call, int64_t first, int64_t c) {
    return (S*)call.out + first / call.m * call.on + first % call.m * call.om + c * call.oc;
}

// cross-entropy of smoothed class indices
template <class S>
static double simple_lanes(const Dense& d, const Plan& plan, const Lanes& lanes, typename Compute<S>::T* e,
                           int64_t first, int64_t count) {
    typedef typename Compute<S>::T T;
    typedef typename Vector<T>::V V;
    typedef typename Vector<T>::I I;
    typedef typename Vector<T>::Int Int;
    constexpr int W = Vector<T>::width;
    const Call& call = d.call;
    const int64_t pitch = plan.pitch, classes = call.c, whole = (count + W - 1) / W * W;
    const Smoothing s(d);
    T* line = e + classes * pitch;
    Int *y = (Int*)line, *best = (Int*)(line + pitch);
    T *rate = line + 2 * pitch, *at_best = rate + pitch, *at_y = at_best + pitch, *even = at_y + pitch;
    begin_lanes(d, lanes, first, count, whole);
    fill_lanes<S>(d, plan, lanes, e, first, count, whole);
    for (int64_t i = 0; i < whole; ++i) {
        y[i] = (Int)lanes.y[i];
        lanes.own[i] = e[y[i] * pitch + i];
    }
    lane_terms<T, true>(e, e, classes, pitch, whole, best, lanes);
    for (int64_t i = 0; i < whole; ++i) {
        const bool right = best[i] == y[i], dead = lanes.scale[i] == 0.0;
        const double near = lanes.near[i], rest = lanes.rest[i], inverse = 1.0 / (1.0 + rest);
        const double true_gap = right ? 0.0 : lanes.level[i] - lanes.own[i];
        lanes.loss[i] = dead ? 0.0 : s.of_simple(lanes.gaps[i] + classes * near, true_gap + near);
        const double flat = lanes.scale[i] * s.even, true_g = lanes.scale[i] * (s.even + s.kept);
        const double own = right ? true_g : flat, others = right ? flat * (classes - 1) : flat * (classes - 2) + true_g;
        const double share = (own + others) * inverse;
        even[i] = (T)flat;  // 0 where the scale is, as all of these
        rate[i] = (T)share;
        at_y[i] = (T)((double)e[y[i] * pitch + i] * SINK * share - true_g);
        at_best[i] = (T)(inverse * others - rest * inverse * own);
    }
    const double sum = end_lanes(d, lanes, first, count);
    if (!call.out) return sum;
    const bool columns = plan.kind == Plan::COLUMNS;
    const V sink = all((T)SINK);
    for (int64_t c = 0; c < classes; ++c) {
        const I number = all_int<T>((Int)c);
        T* from = e + c * pitch;
        S* to = line_at<S>(call, first, c);
        for (int64_t i = 0; i < whole; i += W) {
            V x = load(from + i) * load(rate + i) * sink - load(even + i);
            I index;
            memcpy(&index, y + i, sizeof index);
            x = index == number ? load(at_y + i) : x;
            memcpy(&index, best + i, sizeof index);
            x = index == number ? load(at_best + i) : x;
            if (columns)
                write_line(to, x, i, count, plan.stream);
            else
                store(from + i, x);
        }
    }
    if (!columns) store_lanes(call, plan, e, (S*)call.out, first, count);
    return sum;
}

template <class S>
static double dense_lanes(const Dense& d, const Plan& plan, const Lanes& lanes, double* scratch, int64_t first,
                          int64_t count) {
    typedef typename Compute<S>::T T;
    typedef typename Vector<T>::V V;
    constexpr int W = Vector<T>::width;
    const Call& call = d.call;
    const int64_t pitch = plan.pitch, classes = call.c, whole = (count + W - 1) / W * W;
    double *z = scratch, *e = scratch + classes * pitch;  // g takes the place of z
    int64_t* best = (int64_t*)(e + classes * pitch);
    begin_lanes(d, lanes, first, count, whole);
    fill_lanes<S>(d, plan, lanes, z, first, count, whole);
    lane_terms<double, false>(z, e, classes, pitch, whole, best, lanes);
    lane_shares(d, plan, lanes, z, first, count, whole);
    const double sum = end_lanes(d, lanes, first, count);
    if (!call.out) return sum;
    double *rate = lanes.near, *at_best = lanes.level;  // no more needed
    for (int64_t i = 0; i < whole; i += WD) {
        const VD rest = load(lanes.rest + i), inverse = 1.0 / (1.0 + rest);
        const VD own = load(lanes.own + i), others = load(lanes.others + i);
        store(rate + i, (own + others) * inverse);
        store(at_best + i, inverse * others - rest * inverse * own);
    }
    const bool columns = plan.kind == Plan::COLUMNS;
    for (int64_t c = 0; c < classes; ++c) {
        double *from = e + c * pitch, *g = z + c * pitch;
        for (int64_t i = 0; i < whole; i += WD) {
            const VD x = load(from + i) * load(rate + i) * SINK - load(g + i);
            store(from + i, load(lanes.best + i) == (double)c ? load(at_best + i) : x);
        }
        if (!columns) continue;
        S* to = line_at<S>(call, first, c);
        for (int64_t i = 0; i < whole; i += W) {
            V x;
            gathered(from + i, x);
            write_line(to, x, i, count, plan.stream);
        }
    }
    if (!columns) store_lanes(call, plan, e, (S*)call.out, first, count);
    return sum;
}

}  // namespace ADMA_SET
