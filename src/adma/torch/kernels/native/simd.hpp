// Vectors of one instruction set, in the compiler's own vector extension (GCC, Clang), and what it has no operator for.
//
// This file and those that include it are compiled once for each instruction set, each time in a namespace of that name
// (ADMA_SET), so that the linker never puts one set's function in another's place. For the same reason nothing here
// calls a template or an inline function of the standard library.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define ADMA_BYTES 64
#elif defined(__AVX2__)
#define ADMA_BYTES 32
#else
#define ADMA_BYTES 16
#endif
#define ADMA_INLINE static inline __attribute__((always_inline))

namespace ADMA_SET {

// what a half type is in memory
struct Bfloat16 {
    uint16_t bits;
};
struct Float16 {
    uint16_t bits;
};

template <class T>
struct Vector;

template <>
struct Vector<float> {
    typedef float V __attribute__((vector_size(ADMA_BYTES)));
    typedef int32_t I __attribute__((vector_size(ADMA_BYTES)));
    typedef uint32_t U __attribute__((vector_size(ADMA_BYTES)));
    static constexpr int width = ADMA_BYTES / 4;
    typedef int32_t Int;
};

template <>
struct Vector<double> {
    typedef double V __attribute__((vector_size(ADMA_BYTES)));
    typedef int64_t I __attribute__((vector_size(ADMA_BYTES)));
    typedef uint64_t U __attribute__((vector_size(ADMA_BYTES)));
    static constexpr int width = ADMA_BYTES / 8;
    typedef int64_t Int;
};

typedef Vector<float>::V VF;
typedef Vector<float>::I VFI;
typedef Vector<float>::U VFU;
typedef Vector<double>::V VD;
typedef Vector<double>::I VDI;
typedef Vector<double>::U VDU;
typedef uint16_t VH __attribute__((vector_size(ADMA_BYTES / 2)));

// the type of the arithmetic on what memory holds
template <class S>
struct Compute {
    typedef float T;
};
template <>
struct Compute<double> {
    typedef double T;
};

template <class T>
ADMA_INLINE typename Vector<T>::V all(T x) {
    return x - typename Vector<T>::V{};
}
template <class T>
ADMA_INLINE typename Vector<T>::I all_int(typename Vector<T>::Int x) {
    return x - typename Vector<T>::I{};
}

// a b + c, fused where the set has it
#if defined(__AVX512F__)
ADMA_INLINE VF madd(VF a, VF b, VF c) { return (VF)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
ADMA_INLINE VD madd(VD a, VD b, VD c) { return (VD)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
ADMA_INLINE VF larger(VF a, VF b) { return (VF)_mm512_max_ps((__m512)a, (__m512)b); }
ADMA_INLINE VD larger(VD a, VD b) { return (VD)_mm512_max_pd((__m512d)a, (__m512d)b); }
#define ADMA_FUSED 1
#elif defined(__AVX2__)
ADMA_INLINE VF madd(VF a, VF b, VF c) { return (VF)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
ADMA_INLINE VD madd(VD a, VD b, VD c) { return (VD)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
ADMA_INLINE VF larger(VF a, VF b) { return (VF)_mm256_max_ps((__m256)a, (__m256)b); }
ADMA_INLINE VD larger(VD a, VD b) { return (VD)_mm256_max_pd((__m256d)a, (__m256d)b); }
#define ADMA_FUSED 1
#elif defined(__aarch64__)
ADMA_INLINE VF madd(VF a, VF b, VF c) { return (VF)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
ADMA_INLINE VD madd(VD a, VD b, VD c) { return (VD)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
ADMA_INLINE VF larger(VF a, VF b) { return a > b ? a : b; }
ADMA_INLINE VD larger(VD a, VD b) { return a > b ? a : b; }
#define ADMA_FUSED 1
#else
ADMA_INLINE VF madd(VF a, VF b, VF c) { return a * b + c; }
ADMA_INLINE VD madd(VD a, VD b, VD c) { return a * b + c; }
#if defined(__x86_64__)
ADMA_INLINE VF larger(VF a, VF b) { return (VF)_mm_max_ps((__m128)a, (__m128)b); }
ADMA_INLINE VD larger(VD a, VD b) { return (VD)_mm_max_pd((__m128d)a, (__m128d)b); }
#else
ADMA_INLINE VF larger(VF a, VF b) { return a > b ? a : b; }
ADMA_INLINE VD larger(VD a, VD b) { return a > b ? a : b; }
#endif
#define ADMA_FUSED 0
#endif

// the numbers 0, 1, ... as arguments of a template
template <int... I>
struct Numbers {};
template <int N, int... I>
struct Count : Count<N - 1, N - 1, I...> {};
template <int... I>
struct Count<0, I...> {
    typedef Numbers<I...> T;
};

template <class T, int... I>
ADMA_INLINE typename Vector<T>::I lanes_of(Numbers<I...>) {
    return typename Vector<T>::I{I...};
}
// 0, 1, ... up to a vector's width
template <class T>
ADMA_INLINE typename Vector<T>::I lanes() {
    return lanes_of<T>(typename Count<Vector<T>::width>::T{});
}

// of each two neighbouring blocks of STEP lanes: a's first and b's first, a's second and b's second
#if defined(__clang__)
#define ADMA_SHUFFLE(A, B, ...) __builtin_shufflevector(A, B, __VA_ARGS__)
#else
#define ADMA_SHUFFLE(A, B, ...) __builtin_shuffle(A, B, typename Vector<T>::I{__VA_ARGS__})
#endif
template <class T, int STEP, int... I>
ADMA_INLINE void exchange(typename Vector<T>::V& a, typename Vector<T>::V& b, Numbers<I...>) {
    constexpr int W = Vector<T>::width;
    const typename Vector<T>::V first = ADMA_SHUFFLE(a, b, (I & STEP ? W + I - STEP : I)...);
    b = ADMA_SHUFFLE(a, b, (I & STEP ? W + I : I + STEP)...);
    a = first;
}
#undef ADMA_SHUFFLE
// lane j of vector i <-> lane i of vector j, of as many vectors as a vector has lanes
template <class T, int STEP = 1>
ADMA_INLINE void transpose(typename Vector<T>::V* x) {
    constexpr int W = Vector<T>::width;
    if constexpr (STEP < W) {
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i)
            if (!(i & STEP)) exchange<T, STEP>(x[i], x[i + STEP], typename Count<W>::T{});
        transpose<T, 2 * STEP>(x);
    }
}

// float16 <-> float: by the processor where it can, else by its bits
ADMA_INLINE VF widen(VFU h, Float16) {
    VFU magnitude = (h & 0x7fff) << 13;
    VF scaled = (VF)magnitude * 0x1p112f;  // exact, subnormals too
    VFU special = (VFU)((h & 0x7c00) == 0x7c00);
    VFU bits = (special & (magnitude | 0x7f800000u)) | (~special & (VFU)scaled);
    return (VF)(bits | ((h & 0x8000) << 16));
}
ADMA_INLINE VFU narrow(VF x, Float16) {
    VFU bits = (VFU)x, sign = bits & 0x80000000u, size = bits ^ sign;
    VFU over = (VFU)(size >= 0x47800000u);                           // 65536 and above, infinity, NaN
    VFU special = 0x7c00u | ((VFU)(size > 0x7f800000u) & 0x0200u);
    VFU small = (VFU)(size < 0x38800000u);                           // subnormal in float16
    VFU shifted = (VFU)((VF)size + 0.5f) - 0x3f000000u;              // the addition rounds to its last place
    VFU normal = (size - 0x38000000u + 0x0fffu + ((size >> 13) & 1u)) >> 13;
    VFU found = (small & shifted) | (~small & normal);
    return ((over & special) | (~over & found)) | (sign >> 16);
}
ADMA_INLINE VF widen(VFU h, Bfloat16) { return (VF)(h << 16); }
ADMA_INLINE VFU narrow(VF x, Bfloat16) {
    VFU bits = (VFU)x, broken = (VFU)(x != x);
    VFU rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (broken & ((bits >> 16) | 0x40u)) | (~broken & rounded);
}

ADMA_INLINE VF load(const float* p) {
    VF x;
    memcpy(&x, p, sizeof x);
    return x;
}
ADMA_INLINE VD load(const double* p) {
    VD x;
    memcpy(&x, p, sizeof x);
    return x;
}
ADMA_INLINE VF load(const Bfloat16* p) {
    VH h;
    memcpy(&h, p, sizeof h);
    return widen(__builtin_convertvector(h, VFU), Bfloat16{});
}
ADMA_INLINE VF load(const Float16* p) {
#if defined(__AVX512F__)
    return (VF)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__F16C__)
    return (VF)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#else
    VH h;
    memcpy(&h, p, sizeof h);
    return widen(__builtin_convertvector(h, VFU), Float16{});
#endif
}
ADMA_INLINE void store(float* p, VF x) { memcpy(p, &x, sizeof x); }
ADMA_INLINE void store(double* p, VD x) { memcpy(p, &x, sizeof x); }
ADMA_INLINE void store(Bfloat16* p, VF x) {
    VH h = __builtin_convertvector(narrow(x, Bfloat16{}), VH);
    memcpy(p, &h, sizeof h);
}
ADMA_INLINE void store(Float16* p, VF x) {
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT));
#else
    VH h = __builtin_convertvector(narrow(x, Float16{}), VH);
    memcpy(p, &h, sizeof h);
#endif
}

// past the cache, where p is aligned to a vector
#if defined(__AVX512F__)
ADMA_INLINE void stream(float* p, VF x) { _mm512_stream_ps(p, (__m512)x); }
ADMA_INLINE void stream(double* p, VD x) { _mm512_stream_pd(p, (__m512d)x); }
#elif defined(__AVX2__)
ADMA_INLINE void stream(float* p, VF x) { _mm256_stream_ps(p, (__m256)x); }
ADMA_INLINE void stream(double* p, VD x) { _mm256_stream_pd(p, (__m256d)x); }
#elif defined(__x86_64__)
ADMA_INLINE void stream(float* p, VF x) { _mm_stream_ps(p, (__m128)x); }
ADMA_INLINE void stream(double* p, VD x) { _mm_stream_pd(p, (__m128d)x); }
#else
ADMA_INLINE void stream(float* p, VF x) { store(p, x); }
ADMA_INLINE void stream(double* p, VD x) { store(p, x); }
#endif
ADMA_INLINE void stream(Bfloat16* p, VF x) { store(p, x); }
ADMA_INLINE void stream(Float16* p, VF x) { store(p, x); }
ADMA_INLINE void stream_end() {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

// single values, by the same conversions
ADMA_INLINE float one(float x) { return x; }
ADMA_INLINE double one(double x) { return x; }
ADMA_INLINE float one(Bfloat16 x) {
    uint32_t bits = (uint32_t)x.bits << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}
ADMA_INLINE float one(Float16 x) {
#if defined(__F16C__)
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(x.bits)));
#else
    return widen(all_int<float>(0) + (VFU)all_int<float>(x.bits), Float16{})[0];
#endif
}
ADMA_INLINE void put(float* p, float x) { *p = x; }
ADMA_INLINE void put(double* p, double x) { *p = x; }
ADMA_INLINE void put(Bfloat16* p, float x) { p->bits = (uint16_t)narrow(all<float>(x), Bfloat16{})[0]; }
ADMA_INLINE void put(Float16* p, float x) {
#if defined(__F16C__)
    p->bits = (uint16_t)_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(x), _MM_FROUND_TO_NEAREST_INT));
#else
    p->bits = (uint16_t)narrow(all<float>(x), Float16{})[0];
#endif
}

}  // namespace ADMA_SET
