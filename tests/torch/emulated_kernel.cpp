// Runs a library of the CPU kernel that was compiled for another processor, under an emulator: calls come on standard
// input, one after another, and what each leaves behind goes to standard output. Made by test_native_aarch64.py.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "call.hpp"

namespace {

template <class T>
std::vector<T> take(int64_t count) {
    std::vector<T> found(count + 1);  // never empty: its address is asked for
    if (count && fread(found.data(), sizeof(T), count, stdin) != static_cast<size_t>(count)) exit(3);
    return found;
}

struct Head {
    int64_t type, n, c, m, zn, zc, zm, elements, size;  // elements of storage, bytes of each
    int64_t scaled, code, constants, psi, slope;
    int64_t dense, soft, weighted, identity;  // shares have z's type and strides
    double every_scale, smoothing;
};

}  // namespace

int main(int, char** arguments) {
    void* library = dlopen(arguments[1], RTLD_NOW);
    if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
    typedef int64_t (*Plain)(const adma::Call*, int64_t, int64_t, double*);
    typedef int64_t (*Soft)(const adma::Dense*, int64_t, int64_t, double*);
    Plain plain = reinterpret_cast<Plain>(dlsym(library, "adma_native_rows_and_gradient"));
    Soft dense = reinterpret_cast<Soft>(dlsym(library, "adma_native_dense_rows_and_gradient"));
    if (!plain || !dense) return 2;
    Head h;
    while (fread(&h, sizeof h, 1, stdin) == 1) {
        std::vector<adma::Instruction> code = take<adma::Instruction>(h.code);
        std::vector<double> constants = take<double>(h.constants);
        std::vector<char> z = take<char>(h.elements * h.size);
        std::vector<int64_t> target = take<int64_t>(h.soft ? 0 : h.n * h.m);
        std::vector<double> scale = take<double>(h.scaled ? h.n * h.m : 0);
        std::vector<char> shares = take<char>(h.soft ? h.elements * h.size : 0);
        std::vector<double> weight = take<double>(h.weighted ? h.c : 0);
        std::vector<double> rows(h.n * h.m + 1);
        std::vector<char> out(h.elements * h.size + 1);
        adma::Program program = {code.data(), constants.data(), static_cast<int32_t>(h.code),
                                 static_cast<int32_t>(h.constants), static_cast<int32_t>(h.psi),
                                 static_cast<int32_t>(h.slope)};
        adma::Call call = {z.data(), out.data(), target.data(), h.scaled ? scale.data() : nullptr, rows.data(), h.n,
                           h.c, h.m, h.zn, h.zc, h.zm, h.zn, h.zc, h.zm, h.type, h.every_scale, program};
        double sum = 0.0;
        int64_t failed;
        if (h.dense) {
            adma::Dense whole = {call, h.soft ? shares.data() : nullptr, h.weighted ? weight.data() : nullptr, h.type,
                                 h.zn, h.zc, h.zm, h.smoothing, h.identity};
            failed = dense(&whole, 0, 1, &sum);
        } else {
            failed = plain(&call, 0, 1, &sum);
        }
        if (failed) return 4;
        fwrite(&sum, sizeof sum, 1, stdout);
        fwrite(rows.data(), sizeof(double), h.n * h.m, stdout);
        fwrite(out.data(), h.size, h.elements, stdout);
    }
    return 0;
}
