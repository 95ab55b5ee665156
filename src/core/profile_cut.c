// Looks for braces, brackets and commas outside of strings, 64 bytes at a time: many times as fast
// as a parser, which the text has satisfied before.
#include "core/profile_cut.h"

#include <endian.h>
#include <stdint.h>
#include <string.h>

#include "util/macro.h"

#define BLOCK_BYTES ((size_t)64)
#define WORD_BYTES sizeof(uint64_t)

// ---- marks ---------------------------------------------------------------------------------

typedef uint8_t Bytes __attribute__((vector_size(16)));

typedef struct Marks {
        const char *text;
        size_t len;
        size_t next;        // offset of the block to look at next
        uint64_t found;     // in the block before it, and not given out yet: one bit a byte
        uint64_t in_string; // all bits: the block before ended within a string
        bool escaped;       // the block before ended with a backslash that escapes
} Marks;

// One bit for each byte of a comparison's result.
static uint64_t bits_of(const Bytes same[BLOCK_BYTES / sizeof(Bytes)])
{
        uint64_t words[BLOCK_BYTES / WORD_BYTES], bits = 0;

        memcpy(words, same, sizeof words);
        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                // Each byte keeps another bit, and the product's upper byte adds them up.
                uint64_t one_each = le64toh(words[i]) & UINT64_C(0x8040201008040201);

                bits |= (one_each * UINT64_C(0x0101010101010101)) >> 56 << (i * WORD_BYTES);
        }
        return bits;
}

// The bits of what follows a backslash that is not escaped itself.
static uint64_t escaped_by(Marks *marks, uint64_t backslashes)
{
        uint64_t escaped = marks->escaped;

        marks->escaped = false;
        for (; backslashes; backslashes &= backslashes - 1) {
                int at = __builtin_ctzll(backslashes);

                if (escaped >> at & 1)
                        continue;
                if (at == 63)
                        marks->escaped = true;
                else
                        escaped |= UINT64_C(2) << at;
        }
        return escaped;
}

// From each opening quote up to its closing one.
static uint64_t within_strings(Marks *marks, uint64_t quotes)
{
        uint64_t within = quotes;

        for (int step = 1; step < 64; step *= 2)
                within ^= within << step;
        within ^= marks->in_string;
        marks->in_string = -(within >> 63);
        return within;
}

static void look_at_block(Marks *marks, const char *block)
{
        enum { N = BLOCK_BYTES / sizeof(Bytes) };
        Bytes bytes[N], quotes[N], backslashes[N], marked[N];
        uint64_t quote_bits;

        memcpy(bytes, block, sizeof bytes);
        for (size_t i = 0; i < N; i++) {
                quotes[i] = (Bytes)(bytes[i] == '"');
                backslashes[i] = (Bytes)(bytes[i] == '\\');
                // "{", "}", "[" and "]" have these bits; of what else has, nothing stands outside
                // of strings in JSON.
                marked[i] = (Bytes)(bytes[i] == ',') | (Bytes)((bytes[i] | 0x26) == 0x7F);
        }
        quote_bits = bits_of(quotes) & ~escaped_by(marks, bits_of(backslashes));
        marks->found = bits_of(marked) & ~within_strings(marks, quote_bits);
}

// False at the end of the text.
static bool next_mark(Marks *marks, size_t *ret_at)
{
        for (; !marks->found; marks->next += BLOCK_BYTES) {
                char rest[BLOCK_BYTES];
                const char *block = marks->text + marks->next;

                if (marks->next >= marks->len)
                        return false;
                if (marks->len - marks->next < BLOCK_BYTES) {
                        memset(rest, ' ', sizeof rest);
                        memcpy(rest, block, marks->len - marks->next);
                        block = rest;
                }
                look_at_block(marks, block);
        }
        *ret_at = marks->next - BLOCK_BYTES + (size_t)__builtin_ctzll(marks->found);
        marks->found &= marks->found - 1;
        return true;
}

// ---- the cut -------------------------------------------------------------------------------

// A dict or list that is open.
typedef struct Level {
        bool list;
        size_t open;     // offset of its brace
        size_t member;   // where the member or element at hand begins: behind brace or comma
        size_t previous; // where the one before begins; 0: there is none
} Level;

typedef struct Walk {
        Marks marks;
        Level levels[PROFILE_MAX_DEPTH];
        size_t depth; // of levels that are open
        size_t at;    // of the mark at hand
} Walk;

// False where no profile has such a mark.
static bool pass_mark(Walk *walk)
{
        char mark = walk->marks.text[walk->at];

        if (mark == '{' || mark == '[') {
                if (walk->depth == PROFILE_MAX_DEPTH)
                        return false;
                walk->levels[walk->depth++] =
                        (Level){.list = mark == '[', .open = walk->at, .member = walk->at + 1};
                return true;
        }
        if (walk->depth == 0)
                return false;
        if (mark == ',') {
                Level *level = &walk->levels[walk->depth - 1];

                level->previous = level->member;
                level->member = walk->at + 1;
        } else {
                walk->depth--;
        }
        return true;
}

// Stops at the first mark from `offset` on, with the levels that are open there.
static bool walk_to(Walk *walk, size_t offset)
{
        while (next_mark(&walk->marks, &walk->at)) {
                if (walk->at >= offset)
                        return true;
                if (!pass_mark(walk))
                        return false;
        }
        return false;
}

static size_t dicts_outside_lists(const Walk *walk)
{
        size_t n = 0;

        while (n < walk->depth && !walk->levels[n].list)
                n++;
        return n;
}

// From the mark at hand to the end of the members. *n is the number of levels around them, less
// those that end on the way.
static bool find_end(Walk *walk, size_t same_again, size_t *n, ProfileCut *cut)
{
        size_t depth = walk->depth;

        do {
                char mark = walk->marks.text[walk->at];

                if (mark == '{' || mark == '[') {
                        depth++;
                        continue;
                }
                if (depth == *n && walk->at + (mark == ',') >= same_again) {
                        cut->to_the_end = mark != ',';
                        cut->members.to = walk->at + (mark == ',');
                        return true;
                }
                if (mark != ',')
                        depth--;
                *n = MIN(*n, depth);
        } while (*n > 0 && next_mark(&walk->marks, &walk->at));
        return false;
}

// Whether a member begins at `offset`, so that one can be put before it.
static bool begins_member(const char *text, size_t len, size_t offset)
{
        while (offset < len && memchr(" \t\r\n", text[offset], 4))
                offset++;
        return offset < len && text[offset] == '"';
}

bool profile_find_cut(const char *text, size_t len, size_t differs, size_t same_again,
                      ProfileCut *ret)
{
        Walk walk = {.marks = {.text = text, .len = len}};
        const Level *level;
        size_t n;

        if (!walk_to(&walk, differs))
                return false;
        n = dicts_outside_lists(&walk);
        if (n == 0)
                return false;
        level = &walk.levels[n - 1];
        ret->to_the_end = false;
        ret->members.to = differs;
        if (!(n == walk.depth && level->member == differs && same_again == differs &&
              begins_member(text, len, differs)) &&
            !find_end(&walk, same_again, &n, ret))
                return false;
        level = &walk.levels[n - 1];
        ret->members.from = level->member;
        ret->previous = level->previous;
        ret->n_way = n - 1;
        for (size_t i = 0; i < ret->n_way; i++)
                ret->way[i] = (ProfileSpan){walk.levels[i].member, walk.levels[i + 1].open + 1};
        return true;
}
