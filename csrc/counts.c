/* counts.c: counts of symbols in contexts, and their mixture with a network's probabilities. */

#include "elementary.h"

#if FR_BITS == 64 /* each kernel exists once */

enum { MOST_ORDERS = FR_COLUMNS - 1 };

/* A table whose nodes and slots may change. */
typedef struct {
    int32_t *nodes, *slots;
    int64_t *numbers;
    int64_t room, mask; /* of a slot's number */
} fr_table;

/* An order in which a symbol is looked up. */
typedef struct {
    int64_t of;                   /* the symbols of its context */
    double share, weight, before; /* count / total; λ; the probability from the network and the orders before */
    int64_t first, second;        /* the weights in the gate */
} fr_order;

/* The slots of an index of so many nodes, less one. */
static int64_t fr_mask(int64_t nodes)
{
    return (int64_t)(~(uint64_t)0 >> __builtin_clzll((uint64_t)(2 * nodes - 1)));
}

static fr_table fr_table_of(const int32_t *nodes, const int32_t *slots, const int64_t *numbers, int64_t room)
{
    return (fr_table){(int32_t *)nodes, (int32_t *)slots, (int64_t *)numbers, room, fr_mask(room)};
}

static int32_t *fr_node(const fr_table *t, int64_t node)
{
    return t->nodes + node * FR_NODE;
}

/* The slot of a child, or the empty one where it would be. No more than half of the slots are full. */
static int64_t fr_slot_of(const fr_table *t, int64_t parent, int64_t symbol)
{
    uint64_t x = ((uint64_t)parent << 32 | (uint64_t)symbol) ^ (uint64_t)t->numbers[FR_KEY];
    x = (x ^ x >> 32) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
    int64_t slot = (int64_t)((x ^ x >> 32) & (uint64_t)t->mask);
    for (;; slot = (slot + 1) & t->mask) {
        const int32_t node = t->slots[slot], *fields = fr_node(t, node);
        if (node == 0 || (fields[FR_PARENT] == parent && fields[FR_SYMBOL] == symbol))
            return slot;
    }
}

static int32_t fr_child(const fr_table *t, int64_t parent, int64_t symbol)
{
    return t->slots[fr_slot_of(t, parent, symbol)];
}

/* Writes the child for a symbol of each context, 0 for what does not exist. */
static void fr_look_up(int32_t *children, const fr_table *t, const int32_t *contexts, int32_t symbol, int64_t F)
{
    for (int64_t k = 0; k <= F; k++)
        children[k] = k == 0 || contexts[k] != 0 ? fr_child(t, contexts[k], symbol) : 0;
}

/* Appends a symbol to the contexts; `known` is the last symbol that was looked up, and has these children. */
static void fr_append(int32_t *contexts, const fr_table *t, int32_t *children, int32_t known, int32_t symbol, int64_t F)
{
    if (symbol != known)
        fr_look_up(children, t, contexts, symbol, F);
    memcpy(contexts + 1, children, (size_t)F * sizeof(int32_t));
}

static void fr_halve(fr_table *t, int32_t parent)
{
    int32_t *of_parent = fr_node(t, parent);
    of_parent[FR_TOTAL] = 0;
    for (int32_t child = of_parent[FR_CHILD]; child != 0; child = fr_node(t, child)[FR_SIBLING]) {
        int32_t *fields = fr_node(t, child);
        fields[FR_COUNT] = (fields[FR_COUNT] + 1) / 2;
        of_parent[FR_TOTAL] += fields[FR_COUNT];
    }
}

/* Makes a node the first child of its parent, and adds its count there. */
static void fr_adopt(const fr_table *t, int32_t node)
{
    int32_t *fields = fr_node(t, node), *parent = fr_node(t, fields[FR_PARENT]);
    fields[FR_SIBLING] = parent[FR_CHILD];
    parent[FR_CHILD] = node;
    parent[FR_TOTAL] += fields[FR_COUNT];
    parent[FR_DISTINCT]++;
}

/* Counts a symbol in its contexts, and makes the first children that do not exist. */
static void fr_count(fr_table *t, int32_t *children, const int32_t *contexts, int32_t symbol, int64_t F)
{
    const int32_t clock = (int32_t)++t->numbers[FR_CLOCK];
    int64_t left = t->numbers[FR_MADE];
    for (int64_t k = 0; k <= F && (k == 0 || contexts[k] != 0) && left > 0; k++) {
        int32_t *parent = fr_node(t, contexts[k]);
        if (children[k] == 0) {
            left--;
            children[k] = (int32_t)t->numbers[FR_USED]++;
            t->slots[fr_slot_of(t, contexts[k], symbol)] = children[k];
            int32_t *made = fr_node(t, children[k]);
            memset(made, 0, FR_NODE * sizeof(int32_t));
            made[FR_PARENT] = contexts[k];
            made[FR_SYMBOL] = symbol;
            fr_adopt(t, children[k]);
        }
        int32_t *child = fr_node(t, children[k]);
        child[FR_COUNT]++;
        child[FR_SEEN] = clock;
        if (++parent[FR_TOTAL] >= t->numbers[FR_LIMIT])
            fr_halve(t, contexts[k]);
    }
}

/* Whether a symbol may need more nodes than there is room for. */
static int fr_is_full(const fr_table *t, int64_t F)
{
    return t->numbers[FR_USED] + F + 1 > t->room;
}

/* The level of a number: itself below 8, then four more in each octave. */
static int64_t fr_level(int64_t number)
{
    const int64_t halvings = number < 8 ? 0 : 61 - __builtin_clzll((unsigned long long)number);
    return 4 * halvings + (number >> halvings);
}

static int64_t fr_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Finds the weights of an order in the gate, which begin at `row`; `total` is that of the context which is shorter by
 * one. */
static void fr_bins(fr_order *order, int64_t row, const int32_t *context, int32_t total, int64_t longest)
{
    const int64_t level = fr_level(context[FR_TOTAL]), rarer = (fr_level(total) - level + 1) / 2;
    const int64_t of_total = fr_least(level, FR_LEVELS - 1);
    order->first = row + of_total * FR_COLUMNS + fr_least(fr_level(context[FR_DISTINCT]), FR_COLUMNS - 1);
    order->second = row + (FR_LEVELS + longest) * FR_COLUMNS + fr_least(rarer < 0 ? 0 : rarer, FR_COLUMNS - 1);
}

/* The longest context that a table knows. */
static int64_t fr_longest_known(const fr_table *t, const int32_t *contexts, int64_t F)
{
    int64_t longest = 0;
    for (int64_t k = 1; k <= F && contexts[k] != 0; k++)
        longest = fr_node(t, contexts[k])[FR_TOTAL] > 0 ? k : longest;
    return longest;
}

/* Writes the orders whose contexts have been counted, with their weights; returns how many they are. */
static int64_t fr_find_orders(fr_order *orders, const fr_table *t, const double *gate, const int32_t *contexts,
                              int64_t first_row, int64_t longest, int64_t F)
{
    fr_order *order = orders;
    for (int64_t k = 1; k <= F && contexts[k] != 0; k++) {
        const int32_t *context = fr_node(t, contexts[k]);
        if (context[FR_TOTAL] == 0)
            continue;
        const int64_t row = first_row + (k - 1) * FR_BINS * FR_COLUMNS;
        fr_bins(order, row, context, fr_node(t, contexts[k - 1])[FR_TOTAL], longest);
        order->weight = fr_sigmoid(gate[order->first] + gate[order->second]);
        order->of = k;
        order++;
    }
    return order - orders;
}

/* Returns the probability after it went through some orders of a table. */
static double fr_mix(double p, fr_order *orders, const fr_table *t, const int32_t *contexts, const int32_t *children,
                     int64_t count)
{
    for (fr_order *order = orders; order < orders + count; order++) {
        const int32_t child = children[order->of];
        const int32_t counted = child == 0 ? 0 : fr_node(t, child)[FR_COUNT];
        order->share = (double)counted / (double)fr_node(t, contexts[order->of])[FR_TOTAL];
        order->before = p;
        p = order->weight * order->share + (1 - order->weight) * p;
    }
    return p;
}

/* Mixes the shares of all symbols after a context with their probabilities. */
static void fr_add_shares(double *p, const fr_table *t, const int32_t *context, double weight, int64_t V)
{
    for (int64_t v = 0; v < V; v++)
        p[v] *= 1 - weight;
    for (int32_t child = context[FR_CHILD]; child != 0; child = fr_node(t, child)[FR_SIBLING]) {
        const int32_t *fields = fr_node(t, child);
        if (fields[FR_SYMBOL] < V)
            p[fields[FR_SYMBOL]] += weight * ((double)fields[FR_COUNT] / (double)context[FR_TOTAL]);
    }
}

/* A step of the gate's weights along the gradient of ln p. */
static void fr_learn(double *gate, double *squares, const fr_order *orders, double p, double rate, int64_t count)
{
    double rest = 1 / p;
    for (int64_t i = count - 1; i >= 0; i--) {
        const double weight = orders[i].weight;
        const double g = (orders[i].share - orders[i].before) * rest * weight * (1 - weight);
        squares[orders[i].first] += g * g;
        squares[orders[i].second] += g * g;
        gate[orders[i].first] += rate * g / fr_sqrt(squares[orders[i].first] + 0.01);
        gate[orders[i].second] += rate * g / fr_sqrt(squares[orders[i].second] + 0.01);
        rest *= 1 - weight;
    }
}

static double fr_floored(double p, int64_t V)
{
    const double least = 1 / (double)((int64_t)1 << FR_FLOOR);
    return least + (1 - (double)V * least) * p;
}

static int fr_bad_table(int64_t nodes, int64_t F)
{
    return nodes < 1 || nodes > INT32_MAX || F < 1 || F > MOST_ORDERS;
}

static int fr_bad_read(const int32_t *symbols, int64_t n, int64_t V)
{
    int others = 0;
    for (int64_t i = 0; i < n; i++)
        others |= (symbols[i] < -1) | (symbols[i] >= V);
    return others;
}

fr_status fr_index_nodes(int32_t *slots, const int32_t *nodes, const int64_t *table, int64_t C)
{
    if (fr_bad_table(C, 1))
        return FR_BAD_SIZE;
    const fr_table t = fr_table_of(nodes, slots, table, C);
    memset(slots, 0, (size_t)(t.mask + 1) * sizeof(int32_t));
    for (int64_t node = 1; node < table[FR_USED]; node++) {
        const int32_t *fields = fr_node(&t, node);
        slots[fr_slot_of(&t, fields[FR_PARENT], fields[FR_SYMBOL])] = (int32_t)node;
    }
    return FR_OK;
}

fr_status fr_count_symbols(int32_t *nodes, int32_t *slots, int64_t *table, int32_t *contexts, const int32_t *inputs,
                           const int32_t *targets, const uint8_t *starts, int64_t C, int64_t F, int64_t n)
{
    if (n < 0 || fr_bad_table(C, F))
        return FR_BAD_SIZE;
    if (fr_bad_read(inputs, n, INT32_MAX) || fr_bad_read(targets, n, INT32_MAX))
        return FR_BAD_SYMBOL;
    fr_table t = fr_table_of(nodes, slots, table, C);
    int32_t children[MOST_ORDERS + 1], known = -1;
    int64_t i = 0;
    for (; i < n && !fr_is_full(&t, F); i++) {
        if (starts[i]) {
            memset(contexts, 0, (size_t)(F + 1) * sizeof(int32_t));
            known = -1;
        }
        if (inputs[i] >= 0)
            fr_append(contexts, &t, children, known, inputs[i], F);
        known = targets[i];
        if (known < 0)
            continue;
        fr_look_up(children, &t, contexts, known, F);
        fr_count(&t, children, contexts, known, F);
    }
    table[FR_READ] = i;
    return FR_OK;
}

fr_status fr_rank_nodes(int64_t *keys, int32_t *nodes, int64_t *table, int64_t C)
{
    if (fr_bad_table(C, 1))
        return FR_BAD_SIZE;
    const fr_table t = fr_table_of(nodes, 0, table, C);
    for (int64_t node = 0; node < C; node++) {
        int32_t *fields = fr_node(&t, node);
        if (node < table[FR_USED] && fields[FR_SEEN] == 0)
            fields[FR_COUNT] = (fields[FR_COUNT] + 1) / 2;
        keys[node] = node < table[FR_USED] ? ((int64_t)fields[FR_COUNT] << 32) + fields[FR_SEEN] : -1;
    }
    for (int64_t node = table[FR_USED] - 1; node > 0; node--) { /* children come after their parents */
        int64_t *of_parent = keys + fr_node(&t, node)[FR_PARENT];
        *of_parent = keys[node] > *of_parent ? keys[node] : *of_parent;
    }
    return FR_OK;
}

fr_status fr_keep_nodes(int32_t *numbers, int32_t *nodes, int64_t *table, const int64_t *keys, int64_t least,
                        int64_t first, int64_t C)
{
    if (fr_bad_table(C, 1) || first < 0)
        return FR_BAD_SIZE;
    const fr_table t = fr_table_of(nodes, 0, table, C);
    int32_t used = 1;
    memset(numbers, 0, (size_t)C * sizeof(int32_t));
    for (int64_t node = 0; node < table[FR_USED]; node++) {
        const int32_t *old = fr_node(&t, node);
        const int32_t parent = old[FR_PARENT], symbol = old[FR_SYMBOL], count = old[FR_COUNT];
        first -= node > 0 && keys[node] == least;
        if (node > 0 && (keys[node] < least || (keys[node] == least && first < 0)))
            continue;
        const int32_t number = node == 0 ? 0 : used++;
        int32_t *fields = fr_node(&t, number);
        numbers[node] = number;
        memset(fields, 0, FR_NODE * sizeof(int32_t));
        fields[FR_PARENT] = numbers[parent];
        fields[FR_SYMBOL] = symbol;
        fields[FR_COUNT] = count;
        if (number > 0)
            fr_adopt(&t, number);
    }
    table[FR_USED] = used;
    table[FR_CLOCK] = 0;
    return FR_OK;
}

fr_status fr_mix_losses(double *losses, double *gate, double *squares, int32_t *learning_nodes, int32_t *learning_slots,
                        int64_t *learning_table, int32_t *contexts, const int32_t *nodes, const int32_t *slots,
                        const int64_t *table, const int32_t *inputs, const int32_t *targets, const uint8_t *starts,
                        double rate, int64_t learns, int64_t V, int64_t Y, int64_t C, int64_t F, int64_t n)
{
    if (n < 0 || V < 1 || fr_bad_table(C, F) || fr_bad_table(Y, F))
        return FR_BAD_SIZE;
    if (fr_bad_read(inputs, n, V) || fr_bad_read(targets, n, V))
        return FR_BAD_SYMBOL;
    const fr_table fixed = fr_table_of(nodes, slots, table, C);
    fr_table other = fr_table_of(learning_nodes, learning_slots, learning_table, Y);
    fr_order orders[2 * MOST_ORDERS];
    int32_t of_fixed[MOST_ORDERS + 1], of_other[MOST_ORDERS + 1], known = -1;
    int32_t *others = contexts + F + 1;
    int64_t i = 0;
    for (; i < n && !(learns && fr_is_full(&other, F)); i++) {
        if (starts[i]) {
            memset(contexts, 0, (size_t)(2 * (F + 1)) * sizeof(int32_t));
            known = -1;
        }
        if (inputs[i] >= 0) {
            fr_append(contexts, &fixed, of_fixed, known, inputs[i], F);
            if (learns)
                fr_append(others, &other, of_other, known, inputs[i], F);
        }
        known = targets[i];
        if (known < 0)
            continue;
        const int64_t longest = fr_longest_known(&fixed, contexts, F);
        double p = fr_exp(-losses[i]);
        fr_look_up(of_fixed, &fixed, contexts, known, F);
        const int64_t first = fr_find_orders(orders, &fixed, gate, contexts, 0, longest, F);
        p = fr_mix(p, orders, &fixed, contexts, of_fixed, first);
        int64_t count = 0;
        if (learns) {
            fr_look_up(of_other, &other, others, known, F);
            count = fr_find_orders(orders + first, &other, gate, others, F * FR_BINS * FR_COLUMNS, longest, F);
            p = fr_mix(p, orders + first, &other, others, of_other, count);
        }
        losses[i] = -fr_log(fr_floored(p, V));
        if (rate != 0 && p > 0)
            fr_learn(gate, squares, orders, p, rate, first + count);
        if (learns)
            fr_count(&other, of_other, others, known, F);
    }
    learning_table[FR_READ] = i;
    return FR_OK;
}

fr_status fr_mix_probabilities(double *probabilities, const double *gate, const int32_t *learning_nodes,
                               const int32_t *contexts, const int32_t *nodes, int64_t learns, int64_t V, int64_t Y,
                               int64_t C, int64_t F)
{
    if (V < 1 || fr_bad_table(C, F) || fr_bad_table(Y, F))
        return FR_BAD_SIZE;
    const fr_table tables[2] = {fr_table_of(nodes, 0, 0, C), fr_table_of(learning_nodes, 0, 0, Y)};
    const int64_t longest = fr_longest_known(tables, contexts, F);
    fr_order orders[MOST_ORDERS];
    for (int64_t j = 0; j < (learns ? 2 : 1); j++) {
        const fr_table *t = tables + j;
        const int32_t *known = contexts + j * (F + 1);
        const int64_t count = fr_find_orders(orders, t, gate, known, j * F * FR_BINS * FR_COLUMNS, longest, F);
        for (int64_t i = 0; i < count; i++)
            fr_add_shares(probabilities, t, fr_node(t, known[orders[i].of]), orders[i].weight, V);
    }
    for (int64_t v = 0; v < V; v++)
        probabilities[v] = fr_floored(probabilities[v], V);
    return FR_OK;
}

#endif
