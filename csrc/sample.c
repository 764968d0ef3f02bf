/* sample.c: draws symbols one after the other, for rows side by side. */

#include "elementary.h"
#include "layers.h"

/* The marks of symbols: one that may not be drawn, one that may, and one that would repeat an n-gram. */
enum { FORBIDDEN = 0, ALLOWED = 1, REPEATS = 2 };

/* How symbols are drawn, as in the contract. */
typedef struct {
    double temperature, top_p, min_p, penalty;
    int64_t top_k, window, ngram;
} fr_filters;

typedef struct {
    const int32_t *transitions, *distances;
    int64_t states;
} fr_automaton;

static int64_t first_of_largest(const real *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

static int all_are_finite(const real *x, int64_t n)
{
    int others = 0;
    for (int64_t i = 0; i < n; i++)
        others |= x[i] - x[i] != 0;
    return !others;
}

/* Penalizes the symbols among the last `window` of the `done` symbols before `end`. */
static void penalize(real *logits, int32_t *order, const int32_t *end, fr_filters f, int64_t done, int64_t V, int64_t B)
{
    const real penalty = (real)f.penalty;
    memset(order, 0, (size_t)V * sizeof(int32_t));
    for (int64_t i = 1; i <= fr_min(f.window, done); i++)
        order[end[-i * B]] = 1;
    for (int64_t v = 0; v < V; v++)
        if (order[v])
            logits[v] = logits[v] > 0 ? logits[v] / penalty : logits[v] * penalty;
}

/* Marks the symbols after which `left` more ones suffice for the automaton to accept; returns how many they are. */
static int64_t mark_allowed(int32_t *marks, fr_automaton a, int32_t place, int64_t left, int64_t V)
{
    const int32_t *next = a.transitions + (a.states > 0 ? place * V : 0);
    int64_t count = 0;
    for (int64_t v = 0; v < V; v++) {
        marks[v] = a.states == 0 || (next[v] >= 0 && a.distances[next[v]] <= left) ? ALLOWED : FORBIDDEN;
        count += marks[v];
    }
    return count;
}

/* Marks the allowed symbols that would repeat an n-gram of the `done` symbols before `end`; returns how many they
 * are. */
static int64_t mark_repeats(int32_t *marks, const int32_t *end, int64_t ngram, int64_t done, int64_t B)
{
    int64_t count = 0;
    for (int64_t i = 1; i <= done - ngram + 1; i++) {
        int64_t k = 1;
        while (k < ngram && end[-(i + k) * B] == end[-k * B])
            k++;
        int32_t *mark = marks + end[-i * B];
        if (k == ngram && *mark == ALLOWED) {
            *mark = REPEATS;
            count++;
        }
    }
    return count;
}

/* Whether i comes before j: the larger e first, of equal ones the lower number. It has no branches. */
static int comes_before(int32_t i, int32_t j, const real *e)
{
    return (e[i] > e[j]) | ((e[i] == e[j]) & (i < j));
}

/* Moves an element of a heap of n down to its place. */
static void sift_down(int32_t *heap, int64_t i, const real *e, int64_t n)
{
    for (int64_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        const int64_t other = fr_min(child + 1, n - 1);
        child = comes_before(heap[other], heap[child], e) ? other : child;
        if (!comes_before(heap[child], heap[i], e))
            return;
        const int32_t moved = heap[i];
        heap[i] = heap[child];
        heap[child] = moved;
        i = child;
    }
}

/* Keeps the largest of e, until there are `most` or their sum is at least `enough`; sets the others to zero, and those
 * that are at most `least`. */
static void keep_largest(real *e, int32_t *heap, int64_t most, double enough, double least, int64_t V)
{
    int64_t n = 0;
    for (int64_t v = 0; v < V; v++) {
        const int stays = (double)e[v] > least;
        heap[n] = (int32_t)v; /* n ≤ v */
        n += stays;
        e[v] = stays ? e[v] : 0;
    }
    for (int64_t i = n / 2 - 1; i >= 0; i--)
        sift_down(heap, i, e, n);
    double sum = 0;
    for (; n > 0 && most > 0 && sum < enough; most--) {
        sum += (double)e[heap[0]];
        heap[0] = heap[--n];
        sift_down(heap, 0, e, n);
    }
    for (int64_t i = 0; i < n; i++)
        e[heap[i]] = 0;
}

static double total_of(const real *e, int64_t V)
{
    double total = 0;
    for (int64_t v = 0; v < V; v++)
        total += (double)e[v];
    return total;
}

/* Draws one symbol of those with the mark `drawn`, or of all if that is FORBIDDEN. Overwrites logits and marks. */
static int32_t draw(real *logits, int32_t *marks, int32_t drawn, double uniform, fr_filters f, int64_t V)
{
    if (drawn != FORBIDDEN)
        for (int64_t v = 0; v < V; v++)
            logits[v] = marks[v] == drawn ? logits[v] : (real)-INFINITY;
    const int64_t best = first_of_largest(logits, V);
    if (f.temperature == 0)
        return (int32_t)best;
    const real largest_logit = logits[best], divisor = (real)f.temperature;
    for (int64_t v = 0; v < V; v++)
        logits[v] = fr_exp_of_negative(fr_flush(logits[v] - largest_logit, FR_TINY) / divisor);
    if (drawn != FORBIDDEN)
        for (int64_t v = 0; v < V; v++)
            logits[v] = marks[v] == drawn ? logits[v] : 0;
    if (f.top_k < V)
        keep_largest(logits, marks, f.top_k, (double)INFINITY, 0, V);
    if (f.top_p < 1) { /* all that are at most `least` have half of the sum that is dropped, at most */
        const double total = total_of(logits, V), least = (1 - f.top_p) * total / (2 * (double)V);
        keep_largest(logits, marks, V, f.top_p * total, least, V);
    }
    if (f.min_p > 0)
        for (int64_t v = 0; v < V; v++)
            logits[v] = logits[v] < (real)f.min_p ? 0 : logits[v];
    const double wanted = uniform * total_of(logits, V);
    double below = 0;
    for (int64_t v = 0; v < V; v++) {
        below += (double)logits[v];
        if (below > wanted)
            return (int32_t)v;
    }
    return (int32_t)best; /* `wanted` was rounded up to the total */
}

/* The next symbol of a row, which has `done` symbols before `end`, and whose automaton is at `place`. */
static int32_t next_symbol(real *logits, int32_t *order, const int32_t *end, double uniform, fr_filters f,
                           fr_automaton a, int32_t place, int64_t left, int64_t done, int64_t V, int64_t B)
{
    int32_t drawn = FORBIDDEN;
    if (f.window > 0)
        penalize(logits, order, end, f, done, V, B);
    if (!all_are_finite(logits, V))
        return -FR_OVERFLOW;
    if (a.states > 0 || f.ngram > 0) {
        const int64_t allowed = mark_allowed(order, a, place, left, V);
        if (allowed == 0)
            return -FR_COMPLETE;
        drawn = f.ngram > 0 && mark_repeats(order, end, f.ngram, done, B) == allowed ? REPEATS : ALLOWED;
    }
    return draw(logits, order, drawn, uniform, f, V);
}

static int has_ended(int32_t symbol, int64_t stop_symbol)
{
    return symbol == stop_symbol || symbol < 0;
}

fr_status FR(sample)(int32_t *symbols, int32_t *inputs, int32_t *places, real *state, real *scratch, real *logits,
                     int32_t *order, int32_t *barrier, const real *prepared, const real *params,
                     const double *uniforms, const uint8_t *starts, const int32_t *transitions,
                     const int32_t *distances, const int64_t *plan, double temperature, int64_t top_k, double top_p,
                     double min_p, double penalty, int64_t window, int64_t ngram, int64_t stop_symbol, int64_t room,
                     int64_t part, int64_t parts, int64_t D, int64_t Q, int64_t n, int64_t B)
{
    const int64_t V = plan[FR_VOCABULARY];
    const fr_worker worker = {barrier, part, parts};
    const fr_filters f = {temperature, top_p, min_p, penalty, top_k, window, ngram};
    const fr_automaton a = {transitions, distances, Q};
    if (n < 0 || B < 1 || D < 0 || Q < 0 || fr_bad_worker(worker))
        return FR_BAD_SIZE;
    if (fr_bad_symbols(inputs, 0, B, V) || fr_bad_symbols(symbols, 0, D * B, V) ||
        (Q > 0 && fr_bad_symbols(places, 0, B, Q)) || fr_bad_symbols(transitions, -1, Q * V, Q))
        return FR_BAD_SYMBOL;
    const int64_t first = fr_part_start(B, part, parts), last = fr_part_start(B, part + 1, parts);
    int64_t running = B;
    for (int64_t i = 0; i < n; i++) {
        int32_t *drawn = symbols + (D + i) * B;
        if (running > 0) { /* all workers check the same arrays, so all of them wait or none does */
            FR_RETURN_IF_BAD(FR(network_step)(logits, state, scratch, barrier, prepared, params, inputs, starts, plan,
                                              part, parts, B));
            FR_RETURN_IF_BAD(fr_barrier_wait(worker));
        }
        for (int64_t b = first; b < last; b++) {
            const int32_t before = i > 0 ? drawn[b - B] : 0;
            if (i > 0 && has_ended(before, stop_symbol)) {
                drawn[b] = before;
                continue;
            }
            const int32_t symbol = next_symbol(logits + b * V, order + b * V, drawn + b, uniforms[i * B + b], f, a,
                                               places[b], room - i - 1, D + i, V, B);
            drawn[b] = symbol;
            if (has_ended(symbol, stop_symbol))
                continue;
            inputs[b] = symbol;
            if (Q > 0)
                places[b] = transitions[places[b] * V + symbol];
        }
        if (running > 0) {
            FR_RETURN_IF_BAD(fr_barrier_wait(worker));
            running = 0;
            for (int64_t b = 0; b < B; b++)
                running += !has_ended(drawn[b], stop_symbol);
        }
    }
    return FR_OK;
}
