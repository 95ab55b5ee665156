// Comparing two texts by excerpts: both without the members that are the same bytes before and
// behind all that differs. What is left is a small document of each, with the same paths.
//
//     {"a": 1, "b": {"c": 2, "d": 3, "e": 4}, "f": 5}        {"b": {"d": 3}}
//     {"a": 1, "b": {"c": 2, "d": 6, "e": 4}, "f": 5}        {"b": {"d": 6}}
//
// The cuts are found in the outline of one text and are right for the other, as it is the same text
// up to the first and from the last. All but one thing: what differs could end the dict that is cut
// and begin another one. Then the excerpt has more than one member on the way there.
#include "core/profile_outline.h"

#include <string.h>

#include "util/alloc.h"
#include "util/buf.h"

// From the first of some members of a dict up to the next one, or to the end of the root.
typedef struct Cut {
        size_t way[PROFILE_MAX_DEPTH]; // the members that lead there, and the first
        size_t depth;                  // how many those are
        size_t from, to;               // offsets in the text
} Cut;

// memcmp of a block is many times as fast as a loop over its bytes.
#define BLOCK ((size_t)64)

static size_t common_start(ProfileText a, ProfileText b)
{
        size_t max = MIN(a.len, b.len), len = 0;

        while (max - len >= BLOCK && memcmp(a.text + len, b.text + len, BLOCK) == 0)
                len += BLOCK;
        while (len < max && a.text[len] == b.text[len])
                len++;
        return len;
}

static size_t common_end(ProfileText a, ProfileText b, size_t max)
{
        const char *a_end = a.text + a.len, *b_end = b.text + b.len;
        size_t len = 0;

        for (; max - len >= BLOCK && memcmp(a_end - BLOCK, b_end - BLOCK, BLOCK) == 0;
             len += BLOCK) {
                a_end -= BLOCK;
                b_end -= BLOCK;
        }
        for (; len < max && a_end[-1] == b_end[-1]; len++) {
                a_end--;
                b_end--;
        }
        return len;
}

// The last member that begins before `offset`, or n_members.
static size_t last_before(const ProfileOutline *outline, size_t offset)
{
        size_t low = 0, high = outline->n_members;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (outline->members[middle].at < offset)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low > 0 ? low - 1 : outline->n_members;
}

// The first member from `same_again` on in the dict of `first`, or in one that this is in;
// n_members: none. What is between them leaves no dict but those that *ret_depth tells of.
static size_t next_behind(const ProfileOutline *outline, size_t first, size_t same_again,
                          size_t *ret_depth)
{
        size_t depth = outline->members[first].depth, at = first + 1;

        for (; at < outline->n_members; at++) {
                const ProfileMember *member = &outline->members[at];
                bool behind = member->depth <= depth && member->at >= same_again;

                depth = MIN(depth, member->depth);
                if (behind)
                        break;
        }
        *ret_depth = at < outline->n_members ? depth : 1;
        return at;
}

// Finds the members of one dict that hold all between `differs` and `same_again`.
static bool find_cut(const ProfileOutline *outline, size_t differs, size_t same_again, Cut *ret)
{
        const ProfileMember *members = outline->members;
        size_t first = last_before(outline, differs), next, depth;

        if (first >= outline->n_members || outline->end < same_again)
                return false;
        next = next_behind(outline, first, same_again, &depth);
        *ret = (Cut){
                .depth = depth,
                .to = next < outline->n_members ? members[next].at : outline->end,
        };
        // Up the way: the last member of each depth.
        for (size_t at = first + 1; at-- > 0 && depth > 0;) {
                if (members[at].depth == depth)
                        ret->way[--depth] = at;
        }
        ret->from = members[ret->way[ret->depth - 1]].at;
        return true;
}

static size_t without_comma(const char *text, size_t from, size_t to)
{
        while (to > from && memchr(" \t\r\n", text[to - 1], 4))
                to--;
        return to > from && text[to - 1] == ',' ? to - 1 : to;
}

// The way to the cut, from the text of the outline, and what is between `from` and `to`.
static void make_excerpt(const ProfileOutline *outline, const Cut *cut, const char *way_text,
                         const char *text, size_t to, Buf *ret)
{
        int r = buf_append_str(ret, "{");

        for (size_t i = 0; i + 1 < cut->depth && r == 0; i++) {
                // Up to its first member, so with the brace.
                const ProfileMember *member = &outline->members[cut->way[i]];

                r = buf_append(ret, way_text + member->at, member[1].at - member->at);
        }
        if (r == 0)
                r = buf_append(ret, text + cut->from,
                               without_comma(text, cut->from, to) - cut->from);
        for (size_t i = 0; i < cut->depth && r == 0; i++)
                r = buf_append_str(ret, "}");
        (void)r; // not longer than the text, which is the limit
}

// Whether the excerpt is of the dict it was meant to be of.
static bool has_one_way(const Profile *excerpt, size_t depth)
{
        const ProfileNode *node = profile_root(excerpt);

        for (; depth > 1; depth--, node = node->child) {
                if (node->type != PROFILE_DICT || node->n_children != 1)
                        return false;
        }
        return node->type == PROFILE_DICT;
}

static bool diff_excerpts(ProfileText before, ProfileText after, const ProfileOutline *outline,
                          const ProfilePaths *ignore, size_t max_items, ProfileDiffs *ret)
{
        _cleanup_buf_ Buf old_text = BUF_INIT(before.len), new_text = BUF_INIT(after.len);
        _cleanup_profile_ Profile *old_tree = NULL, *new_tree = NULL;
        size_t start = common_start(before, after);
        size_t end = common_end(before, after, MIN(before.len, after.len) - start);
        Cut cut;

        if (!find_cut(outline, start, after.len - end, &cut))
                return false;
        make_excerpt(outline, &cut, after.text, before.text, before.len - (after.len - cut.to),
                     &old_text);
        make_excerpt(outline, &cut, after.text, after.text, cut.to, &new_text);
        if (profile_parse(buf_str(&old_text), old_text.len, &old_tree, NULL) < 0 ||
            profile_parse(buf_str(&new_text), new_text.len, &new_tree, NULL) < 0 ||
            !has_one_way(old_tree, cut.depth))
                return false;
        profile_diff(old_tree, new_tree, ignore, max_items, ret);
        return true;
}

int profile_diff_texts(ProfileText before, ProfileText after, const ProfileOutline *outline,
                       const ProfilePaths *ignore, size_t max_items, ProfileDiffs *ret, Error *err)
{
        _cleanup_profile_ Profile *old_tree = NULL, *new_tree = NULL;
        int r;

        if (diff_excerpts(before, after, outline, ignore, max_items, ret))
                return 0;
        r = profile_parse(before.text, before.len, &old_tree, err);
        if (r == 0)
                r = profile_parse(after.text, after.len, &new_tree, err);
        if (r == 0)
                profile_diff(old_tree, new_tree, ignore, max_items, ret);
        return r;
}
