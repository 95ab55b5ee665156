// Comparing two texts by excerpts: both without the members that are the same bytes before and
// behind all that differs. What is left is a small document of each, with the same paths.
//
//     {"a": 1, "b": {"c": 2, "d": 3, "e": 4}, "f": 5}        {"b": {"d": 3}}
//     {"a": 1, "b": {"c": 2, "d": 6, "e": 4}, "f": 5}        {"b": {"d": 6}}
//
// The cuts are found in the first text, which is known to be a profile, and are carried over to the
// other: it is the same text up to the first and from the second. So it is a profile, too, if
//
// - what is between the cuts is whole members of that dict: then its excerpt is a document in which
//   each dict on the way there has one member only (to end a dict there means to begin another),
//   and the commas at the cuts are right;
// - no key of them comes twice in the dict, which is seen by the order of keys;
// - it is not too deep, which its excerpt is not, and has not too many values.
#include "core/profile_texts.h"

#include <string.h>

#include "core/profile_cut.h"
#include "core/profile_order.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/strutil.h"

#define SPACES " \t\r\n"
#define BRACES_MAX (2 * ((size_t)PROFILE_MAX_DEPTH + 1))

// ---- what differs --------------------------------------------------------------------------

// Where something was only put in, or only taken out, it can be said to have been a bit further to
// the front if the bytes before it are those at its end: best where a member begins, as its
// neighbour is then not touched. `text` is that which has it.
static size_t bytes_to_front(const char *text, size_t from, size_t to)
{
        for (size_t n = 0; from < to && n < from && n <= to - from; n++) {
                char before = text[from - n - 1];

                if ((before == ',' || before == '{') && text[from - n] != '}')
                        return n;
                if (before != text[to - n - 1])
                        break;
        }
        return 0;
}

// The part of `before` that is not in `after`.
static ProfileSpan what_differs(ProfileText before, ProfileText after)
{
        size_t max = MIN(before.len, after.len), n = 0;
        size_t start = mem_common_start(before.text, after.text, max);
        size_t end = mem_common_end(before.text + before.len, after.text + after.len, max - start);
        ProfileSpan span = {start, before.len - end};

        if (span.from == span.to)
                n = bytes_to_front(after.text, start, after.len - end);
        else if (start == after.len - end)
                n = bytes_to_front(before.text, span.from, span.to);
        return (ProfileSpan){span.from - n, span.to - n};
}

// ---- excerpts ------------------------------------------------------------------------------

typedef struct Excerpt {
        Buf text;
        Profile *profile;
        const ProfileNode *dict; // that the members are of
} Excerpt;

static void excerpt_done(Excerpt *excerpt)
{
        if (excerpt->profile)
                profile_free(excerpt->profile);
        buf_done(&excerpt->text);
}

// The members, less a comma behind them.
static ProfileSpan without_comma(const char *text, ProfileSpan members)
{
        size_t to = members.to;

        while (to > members.from && memchr(SPACES, text[to - 1], strlen(SPACES)))
                to--;
        if (to > members.from && text[to - 1] == ',')
                members.to = to - 1;
        return members;
}

// The dict that the members are of, if what the cut enters is just that.
static const ProfileNode *find_dict(const Profile *excerpt, size_t n_way)
{
        const ProfileNode *node = profile_root(excerpt);

        for (; n_way > 0; n_way--, node = node->child) {
                if (node->type != PROFILE_DICT || node->n_children != 1)
                        return NULL;
        }
        return node->type == PROFILE_DICT ? node : NULL;
}

// The way to the cut, from the text that it was found in, and the members in `text`.
static int write_excerpt(const ProfileCut *cut, const char *way_text, const char *text,
                         ProfileSpan members, Buf *ret)
{
        int r = buf_append_str(ret, "{");

        for (size_t i = 0; i < cut->n_way && r == 0; i++)
                r = buf_append(ret, way_text + cut->way[i].from, cut->way[i].to - cut->way[i].from);
        if (r == 0)
                r = buf_append(ret, text + members.from, members.to - members.from);
        for (size_t i = 0; i <= cut->n_way && r == 0; i++)
                r = buf_append_str(ret, "}");
        return r;
}

// False if `text` is something else between the cuts than members, or has no right comma there.
static bool make_excerpt(const ProfileCut *cut, ProfileText way_text, ProfileText text,
                         size_t members_to, Excerpt *ret)
{
        const ProfileSpan between = {cut->members.from, members_to};
        ProfileSpan members = between;
        bool comma = false;

        if (!cut->to_the_end) {
                members = without_comma(text.text, between);
                comma = members.to != between.to;
        }
        ret->text = BUF_INIT(way_text.len + text.len + BRACES_MAX);
        if (write_excerpt(cut, way_text.text, text.text, members, &ret->text) < 0 ||
            profile_parse(buf_str(&ret->text), ret->text.len, &ret->profile, NULL) < 0)
                return false;
        ret->dict = find_dict(ret->profile, cut->n_way);
        if (!ret->dict)
                return false;
        if (cut->to_the_end) // what is before ends with a comma, or with the opening brace
                return ret->dict->n_children > 0 || cut->previous == 0;
        return comma == (ret->dict->n_children > 0);
}

typedef struct Excerpts {
        ProfileCut cut;
        Excerpt before, after;
} Excerpts;

static void excerpts_done(Excerpts *excerpts)
{
        excerpt_done(&excerpts->before);
        excerpt_done(&excerpts->after);
}

// False where there are none.
static bool make_excerpts(ProfileText before, ProfileText after, Excerpts *ret)
{
        ProfileSpan differs = what_differs(before, after);
        ProfileCut *cut = &ret->cut;

        return profile_find_cut(before.text, before.len, differs.from, differs.to, cut) &&
               make_excerpt(cut, before, before, cut->members.to, &ret->before) &&
               make_excerpt(cut, before, after, cut->members.to + after.len - before.len,
                            &ret->after);
}

int profile_diff_texts(ProfileText before, ProfileText after, const ProfilePaths *ignore,
                       size_t max_items, ProfileDiffs *ret, Error *err)
{
        _cleanup_(excerpts_done) Excerpts excerpts = {.before.profile = NULL};
        _cleanup_profile_ Profile *old_tree = NULL, *new_tree = NULL;
        int r;

        if (make_excerpts(before, after, &excerpts)) {
                profile_diff(excerpts.before.profile, excerpts.after.profile, ignore, max_items,
                             ret);
                return 0;
        }
        r = profile_parse(before.text, before.len, &old_tree, err);
        if (r == 0)
                r = profile_parse(after.text, after.len, &new_tree, err);
        if (r == 0)
                profile_diff(old_tree, new_tree, ignore, max_items, ret);
        return r;
}

// ---- following a change --------------------------------------------------------------------

// The key that comes at `offset` of a profile with its keys in order, so one without escapes.
static ProfileText key_at(ProfileText text, size_t offset)
{
        const char *from = memchr(text.text + offset, '"', text.len - offset), *to;

        from++;
        to = memchr(from, '"', text.len - (size_t)(from - text.text));
        return (ProfileText){from, (size_t)(to - from)};
}

static bool is_before(ProfileText key, ProfileText other)
{
        return profile_compare_texts(key.text, key.len, other.text, other.len) < 0;
}

static ProfileText key_of(const ProfileNode *node)
{
        return (ProfileText){node->key, node->key_len};
}

// Whether the members of the new excerpt are in order among the others of their dict.
static bool fits_in_order(ProfileText before, const Excerpts *excerpts)
{
        const ProfileCut *cut = &excerpts->cut;
        const ProfileNode *first = excerpts->after.dict->child, *last = first;

        if (!profile_in_order(excerpts->after.profile))
                return false;
        if (!first)
                return true;
        while (last->next)
                last = last->next;
        return (cut->previous == 0 || is_before(key_at(before, cut->previous), key_of(first))) &&
               (cut->to_the_end || is_before(key_of(last), key_at(before, cut->members.to)));
}

bool profile_follow_texts(ProfileText before, ProfileText after, const ProfilePaths *ignore,
                          size_t max_items, ContentId *id, ProfileDiffs *ret)
{
        _cleanup_(excerpts_done) Excerpts excerpts = {.before.profile = NULL};
        ContentId gone, come;

        // Each value takes a byte at least.
        if (after.len > PROFILE_MAX_NODES || !make_excerpts(before, after, &excerpts) ||
            !fits_in_order(before, &excerpts))
                return false;
        profile_content_id(excerpts.before.profile, ignore, &gone);
        profile_content_id(excerpts.after.profile, ignore, &come);
        content_id_subtract(id, &gone);
        content_id_add(id, &come);
        profile_diff(excerpts.before.profile, excerpts.after.profile, ignore, max_items, ret);
        return true;
}
