// Elementary functions over vectors: double to about one unit in the last place with the right limits, and the one
// exponential of the logits in their own type.
#pragma once
#include "simd.hpp"

extern "C" double pow(double, double);

namespace ADMA_SET {

static constexpr double LN2_HIGH = 6.93147180369123816490e-01;  // 33 bits: times a whole number below 2^20 is exact
static constexpr double LN2_LOW = 1.90821492927058770002e-10;
static constexpr double ROUND = 0x1.8p52;  // x + ROUND holds x to the nearest whole number in its last bits

// 2^n of whole numbers within the exponents of normal numbers
ADMA_INLINE VD power_of_two(VD n) { return (VD)(((VDI)(n + ROUND) << 52) + (int64_t(1023) << 52)); }

// expm1 of |r| <= 0.35: Taylor, to 4e-18
ADMA_INLINE VD expm1_near(VD r) {
    VD q = all(1.0 / 6227020800);
    q = madd(q, r, all(1.0 / 479001600));
    q = madd(q, r, all(1.0 / 39916800));
    q = madd(q, r, all(1.0 / 3628800));
    q = madd(q, r, all(1.0 / 362880));
    q = madd(q, r, all(1.0 / 40320));
    q = madd(q, r, all(1.0 / 5040));
    q = madd(q, r, all(1.0 / 720));
    q = madd(q, r, all(1.0 / 120));
    q = madd(q, r, all(1.0 / 24));
    q = madd(q, r, all(1.0 / 6));
    q = madd(q, r, all(0.5));
    return madd(q * r, r, r);
}

// exp(x + rest), rest below the last place of x
ADMA_INLINE VD exp_of(VD x, VD rest) {
    x = x < -760.0 ? all(-760.0) : x;  // so that NaN stays
    x = x > 720.0 ? all(720.0) : x;
    VD n = madd(x, all(1.44269504088896340736), all(ROUND)) - ROUND;
    VD r = madd(n, all(-LN2_HIGH), x);
    r = r + madd(n, all(-LN2_LOW), rest);
    VD half = (n * 0.5 + ROUND) - ROUND;
    return (1.0 + expm1_near(r)) * power_of_two(half) * power_of_two(n - half);
}

ADMA_INLINE VD exp_of(VD x) { return exp_of(x, VD{}); }

ADMA_INLINE VD expm1_of(VD x) {
    VD low = x < -60.0 ? all(-60.0) : x;
    low = low > 60.0 ? all(60.0) : low;
    VD n = madd(low, all(1.44269504088896340736), all(ROUND)) - ROUND;
    VD r = madd(n, all(-LN2_HIGH), low);
    r = madd(n, all(-LN2_LOW), r);
    VD two = power_of_two(n);
    VD found = madd(expm1_near(r), two, two - 1.0);
    found = n == 0.0 ? expm1_near(r) : found;
    found = x == 0.0 ? x : found;  // keeps the sign of 0
    return x > 60.0 ? exp_of(x) : found;
}

// exp and expm1 of the same x, of which members ask for both: most of the work is the same
ADMA_INLINE void exp_pair_of(VD x, VD& exp_out, VD& expm1_out) {
    VD bounded = x < -760.0 ? all(-760.0) : x;  // so that NaN stays
    bounded = bounded > 720.0 ? all(720.0) : bounded;
    VD n = madd(bounded, all(1.44269504088896340736), all(ROUND)) - ROUND;
    VD r = madd(n, all(-LN2_HIGH), bounded);
    r = madd(n, all(-LN2_LOW), r);
    VD q = expm1_near(r), half = (n * 0.5 + ROUND) - ROUND;
    exp_out = (1.0 + q) * power_of_two(half) * power_of_two(n - half);
    VD near = n < -100.0 ? all(-100.0) : n;
    near = near > 100.0 ? all(100.0) : near;
    VD two = power_of_two(near);
    VD found = madd(q, two, two - 1.0);
    found = n == 0.0 ? q : found;
    found = x == 0.0 ? x : found;  // keeps the sign of 0
    expm1_out = x > 60.0 ? exp_out : found;
}

// x = 2^k m of a positive normal or subnormal number, m within a factor of sqrt(2) of 1
ADMA_INLINE void split(VD x, VD& k, VD& m) {
    VDI tiny = x < 0x1p-1022;
    x = tiny ? x * 0x1p54 : x;
    VDU bits = (VDU)x;
    VDU up = (bits - 0x3fe6a09e667f3bcdULL + (1024ULL << 52)) >> 52;
    m = (VD)(bits - ((up - 1024ULL) << 52));
    k = (VD)(up + 0x4338000000000000ULL) - ROUND - 1024.0;
    k = tiny ? k - 54.0 : k;
}

// (log(1 + f) - 2 s) / s for s = f / (2 + f), in z = s^2; coefficients of FreeBSD's e_log.c, to 2^-58
ADMA_INLINE VD log_series(VD z) {
    VD q = all(1.479819860511658591e-01);
    q = madd(q, z, all(1.531383769920937332e-01));
    q = madd(q, z, all(1.818357216161805012e-01));
    q = madd(q, z, all(2.222219843214978396e-01));
    q = madd(q, z, all(2.857142874366239149e-01));
    q = madd(q, z, all(3.999999999940941908e-01));
    q = madd(q, z, all(6.666666666666735130e-01));
    return q * z;
}

// log(x (1 + excess)), the excess below the last place of 1
ADMA_INLINE VD log_of(VD x, VD excess) {
    VD k, m;
    split(x, k, m);
    VD f = m - 1.0, s = f / (2.0 + f), half = 0.5 * f * f;
    VD tail = madd(k, all(LN2_LOW), excess);
    VD found = madd(k, all(LN2_HIGH), f - (half - madd(s, half + log_series(s * s), tail)));
    found = x == __builtin_inf() ? x : found;
    found = x == 0.0 ? all(-__builtin_inf()) : found;
    return x < 0.0 || x != x ? all(__builtin_nan("")) : found;
}

ADMA_INLINE VD log_of(VD x) {
    return log_of(x, VD{});
}

ADMA_INLINE VD log1p_of(VD x) {
    VD u = 1.0 + x;
    VD rest = x < 1.0 ? x - (u - 1.0) : 1.0 - (u - x);
    VD found = log_of(u, rest / u);
    found = u == 0.0 ? all(-__builtin_inf()) : found;  // whose rest / u is none
    found = x == 0.0 ? x : found;
    return x == __builtin_inf() ? x : found;
}

// log1p of x in [0, 1], whose 1 / (1 + x) is known; NaN stays
ADMA_INLINE VD log1p_near(VD x, VD inverse) {
    VD u = 1.0 + x;
    VDI high = u > 1.41421356237309504880;  // u = 2 m or m, m within a factor of sqrt(2) of 1
    VD f = (high ? 0.5 * u : u) - 1.0, s = f / (2.0 + f), half = 0.5 * f * f;
    VD tail = (x - (u - 1.0)) * inverse + (high ? all(LN2_LOW) : VD{});
    return (high ? all(LN2_HIGH) : VD{}) + (f - (half - madd(s, half + log_series(s * s), tail)));
}

// a b = high + low, exactly
ADMA_INLINE void product(VD a, VD b, VD& high, VD& low) {
    high = a * b;
#if ADMA_FUSED
    low = madd(a, b, -high);
#else
    VD c = 134217729.0 * a, d = 134217729.0 * b;
    VD ah = c - (c - a), al = a - ah, bh = d - (d - b), bl = b - bh;
    low = ((ah * bh - high) + ah * bl + al * bh) + al * bl;
#endif
}

// a + b = high + low, exactly
ADMA_INLINE void sum(VD a, VD b, VD& high, VD& low) {
    high = a + b;
    VD back = high - a;
    low = (a - (high - back)) + (b - back);
}

// x^y by exp(y log x), the logarithm to about 2^-59; what is not a positive finite number goes to the C library
ADMA_INLINE VD pow_of(VD x, VD y) {
    VDI plain = (x > 0.0) & (x < __builtin_inf()) & (y > -1e15) & (y < 1e15);
    VD k, m;
    split(plain ? x : all(1.0), k, m);
    VD f = m - 1.0, d, dl, ph, pl, high, low;
    sum(all(1.0), m, d, dl);
    VD s = f / d;
    product(s, d, ph, pl);
    VD sl = (((f - ph) - pl) - s * dl) / d;
    sum(k * LN2_HIGH, 2.0 * s, high, low);
    low = low + madd(k, all(LN2_LOW), madd(s, log_series(s * s), 2.0 * sl));
    VD log_high = high + low;
    VD log_low = low - (log_high - high);
    VD safe = plain ? y : all(1.0);
    product(safe, log_high, ph, pl);
    pl = madd(safe, log_low, pl);
    pl = ((ph < -800.0) | (ph > 800.0)) ? VD{} : pl;
    VD found = exp_of(ph, pl);
    for (int i = 0; i < Vector<double>::width; ++i)
        if (!plain[i]) found[i] = pow(x[i], y[i]);
    return found;
}

// exp(z - level) 2^60, for z <= level: with the factor no normal number of the type is lost below the smallest, and the
// product with a row's rate keeps its place. What rounding takes from the gap in float32 is put back (Knuth's two-sum):
// exp of the gap alone would lose 5e-6 at a gap of 80. In float64 2^-53 of the gap is below what is promised.
static constexpr double LIFT = 0x1p60, SINK = 0x1p-60;

ADMA_INLINE VF lifted_exp(VF z, VF level) {
    VF gap = z - level;
    VF back = gap - z;
    VF error = (z - (gap - back)) - (level + back);
    VF t = madd(gap, all(1.44269504f), all(0x1.8p23f));
    VF n = t - 0x1.8p23f;
    VF r = madd(n, all(-0.693359375f), gap) + madd(n, all(2.12194440e-4f), error);
    VF q = all(1.9875691500e-4f);
    q = madd(q, r, all(1.3981999507e-3f));
    q = madd(q, r, all(8.3334519073e-3f));
    q = madd(q, r, all(4.1665795894e-2f));
    q = madd(q, r, all(1.6666665459e-1f));
    q = madd(q, r, all(5.0000001201e-1f));
    q = madd(q * r, r, r) + 1.0f;
    VF found = q * (VF)(((VFI)t << 23) + ((127 + 60) << 23));
    return gap < -128.0f ? VF{} : found;
}

ADMA_INLINE VD lifted_exp(VD z, VD level) {
    VD gap = z - level;
    VD n = madd(gap, all(1.44269504088896340736), all(ROUND)) - ROUND;
    VD r = madd(n, all(-LN2_HIGH), gap);
    r = madd(n, all(-LN2_LOW), r);
    VD found = (1.0 + expm1_near(r)) * power_of_two(n + 60.0);
    return gap < -748.0 ? VD{} : found;
}

}  // namespace ADMA_SET
