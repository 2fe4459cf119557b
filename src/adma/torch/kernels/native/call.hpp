// What is computed, as the entry hands it to the instruction sets. Plain data: it means the same in all of them.
#pragma once
#include <cstdint>

namespace adma {

// one operation and the numbers of its operands: 0 is t, then the constants, then the instructions before
struct Instruction {
    int32_t operation, a, b, c;
};

// in the order of program.py's OPERATIONS
enum Operation : int32_t { NEG, EXP, EXPM1, LOG, LOG1P, ABS, ADD, SUB, MUL, DIV, POW, LESS, LESS_EQUAL, WHERE };

struct Program {
    const Instruction* code;
    const double* constants;
    int32_t code_length, constant_count, psi, slope;
};

enum Type : int64_t { FLOAT32, FLOAT64, BFLOAT16, FLOAT16 };

// logits and gradient (n, c, m) with strides in elements; target and scale (n, m), contiguous; rows too
struct Call {
    const void* z;
    void* out;              // null: no gradient; may be z with z's strides
    const int64_t* target;  // read only where the scale is not 0
    const double* scale;    // null: every_scale for all
    double* rows;           // null: not asked for
    int64_t n, c, m, zn, zc, zm, on, oc, om;
    int64_t type;
    double every_scale;
    Program program;
};

// targets that give every class of a row a weight w, for the loss sum_j w_j psi(t_j): from probabilities, or from class
// indices with label smoothing: w_j = class_weight_j ((1 - smoothing) y_j + smoothing / c)
struct Dense {
    Call call;           // its target is read if shares is null
    const void* shares;  // y: (n, c, m); null: 1 at the target
    const double* class_weight;  // (c), contiguous; null: 1
    int64_t share_type, sn, sc, sm;
    double smoothing;
    int64_t identity;    // psi is t itself and its slope 1: the program need not be asked
    bool simple() const { return identity && !shares && !class_weight; }  // one more sum a row is all
};

// how a call is cut into tiles, by its shape alone: a result does not depend on who computes which tile
struct Plan {
    enum Kind { ROWS, COLUMNS, TRANSPOSED } kind;
    int64_t positions;  // of a tile at most
    int64_t tiles, tiles_of_n;  // the latter for COLUMNS
    int64_t pitch;      // of the scratch, in elements
    bool stream;        // write past the cache
    double* sums;       // one a tile: of scale * row
    int64_t next;       // the first tile that nobody has taken
    bool failed;        // no memory for the scratch
};

// takes tiles until there are none left
typedef void (*Worker)(const Call&, Plan&);
typedef void (*DenseWorker)(const Dense&, Plan&);

}  // namespace adma
