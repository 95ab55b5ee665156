// How two profiles differ, as far as the ignored paths let see. What compare() calls equal is just
// what has one content id: both walk the same visible part and compare type and text.
#include <string.h>

#include "core/profile_order.h"
#include "core/profile_paths.h"
#include "core/profile_visible.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/strutil.h"

#define ELEMENT_VISIBLE_MAX 256
// So many of a path's last elements can tell of a secret.
#define SECRET_ELEMENTS 3
// Of a beginning that two long texts share, so much is shown.
#define SHARED_VISIBLE_BYTES 16

// A node, and which patterns still fit on the way to it.
typedef struct Place {
        const ProfileNode *node;
        PathState state;
} Place;

// Goes through the children that are not ignored.
typedef struct Cursor {
        const Place *parent;
        const ProfileNode *next;
        size_t next_index;
        size_t index; // of the current child
        Place child;
} Cursor;

// The way from the root, for paths in messages.
typedef struct Step {
        const struct Step *up;
        const char *key; // NULL in a list
        size_t key_len;
        size_t index;
} Step;

typedef struct Walk {
        const ProfilePaths *ignore;
        size_t max_items;
        ProfileDiffs *diffs;
} Walk;

static Cursor cursor_at(const Place *parent)
{
        return (Cursor){.parent = parent, .next = parent->node->child};
}

static bool cursor_next(const ProfilePaths *ignore, Cursor *cursor)
{
        while (cursor->next) {
                bool ignored;

                cursor->child.node = cursor->next;
                cursor->index = cursor->next_index++;
                cursor->next = cursor->next->next;
                ignored = path_state_enter(ignore, &cursor->parent->state, cursor->parent->node,
                                           cursor->child.node, cursor->index, &cursor->child.state);
                if (!ignored)
                        return true;
        }
        return false;
}

static bool is_container(const ProfileNode *node)
{
        return node->type == PROFILE_DICT || node->type == PROFILE_LIST;
}

// A total order of visible parts; 0 exactly when they add the same to a content id.
static int compare(const ProfilePaths *ignore, const Place *a, const Place *b)
{
        Cursor in_a, in_b;

        if (a->node->type != b->node->type)
                return a->node->type < b->node->type ? -1 : 1;
        if (!is_container(a->node))
                return profile_compare_texts(a->node->text, a->node->text_len, b->node->text,
                                             b->node->text_len);
        in_a = cursor_at(a);
        in_b = cursor_at(b);
        for (;;) {
                bool more_a = cursor_next(ignore, &in_a), more_b = cursor_next(ignore, &in_b);
                int r = 0;

                if (!more_a || !more_b)
                        return more_a - more_b;
                if (a->node->type == PROFILE_DICT)
                        r = profile_compare_keys(in_a.child.node, in_b.child.node);
                if (r == 0)
                        r = compare(ignore, &in_a.child, &in_b.child);
                if (r != 0)
                        return r;
        }
}

static bool path_names_secret(const Step *step)
{
        for (size_t n = 0; step && n < SECRET_ELEMENTS; step = step->up, n++) {
                if (step->key &&
                    profile_key_names_secret(step->key, MIN(step->key_len, ELEMENT_VISIBLE_MAX)))
                        return true;
        }
        return false;
}

static bool is_hidden(const Step *step, const ProfileNode *node)
{
        return (node->type == PROFILE_STRING || node->type == PROFILE_NUMBER) &&
               (path_names_secret(step) || profile_value_holds_secret(node));
}

// How much of a long beginning that two texts share need not be shown.
static size_t shared_prefix(const ProfileNode *a, const ProfileNode *b)
{
        size_t len = MIN(a->text_len, b->text_len), at = 0;

        if (a->type != PROFILE_STRING || b->type != PROFILE_STRING)
                return 0;
        while (at < len && a->text[at] == b->text[at])
                at++;
        if (at + SHARED_VISIBLE_BYTES < PROFILE_VALUE_VISIBLE_MAX)
                return 0;
        at -= SHARED_VISIBLE_BYTES;
        // Not into a character.
        while (at > 0 && ((unsigned char)a->text[at] & 0xC0U) == 0x80U)
                at--;
        return at;
}

static char *path_text(const Step *step)
{
        const Step *steps[PROFILE_MAX_DEPTH + 1];
        size_t n = 0;
        // Room for the longest path: an element may be followed by "…".
        _cleanup_buf_ Buf path = BUF_INIT(ELEMENTSOF(steps) * (ELEMENT_VISIBLE_MAX + 8));
        int r = 0;

        for (; step->up; step = step->up)
                steps[n++] = step;
        while (n > 0 && r == 0) {
                _cleanup_free_ char *element = NULL;

                step = steps[--n];
                if (step->key)
                        element = str_visible(step->key, step->key_len, ELEMENT_VISIBLE_MAX);
                else
                        element = xasprintf("%zu", step->index);
                r = buf_printf(&path, "/%s", element);
        }
        return buf_take(&path, NULL);
}

// `before` and `after` may be NULL, not both.
static void report(Walk *walk, const Step *step, ProfileChange change, const ProfileNode *before,
                   const ProfileNode *after)
{
        ProfileDiffs *diffs = walk->diffs;
        ProfileDiff *item;
        size_t skip = 0;
        bool hidden;

        if (diffs->n_total++ >= walk->max_items)
                return;
        diffs->items = xreallocarray(diffs->items, diffs->n_items + 1, sizeof *diffs->items);
        item = &diffs->items[diffs->n_items++];
        *item = (ProfileDiff){.change = change, .path = path_text(step)};
        hidden = (before && is_hidden(step, before)) || (after && is_hidden(step, after));
        if (before && after)
                skip = shared_prefix(before, after);
        if (before)
                item->before = hidden ? xstrdup("(hidden)") : profile_value_visible(before, skip);
        if (after)
                item->after = hidden ? xstrdup("(hidden)") : profile_value_visible(after, skip);
}

static void diff_values(Walk *walk, const Step *step, const Place *before, const Place *after);

static Step step_into_dict(const Step *up, const ProfileNode *child)
{
        return (Step){.up = up, .key = child->key, .key_len = child->key_len};
}

static void diff_dicts(Walk *walk, const Step *step, const Place *before, const Place *after)
{
        Cursor a = cursor_at(before), b = cursor_at(after);
        bool more_a = cursor_next(walk->ignore, &a), more_b = cursor_next(walk->ignore, &b);

        while (more_a || more_b) {
                int order = !more_a   ? 1
                            : !more_b ? -1
                                      : profile_compare_keys(a.child.node, b.child.node);
                Step inner = step_into_dict(step, order <= 0 ? a.child.node : b.child.node);

                if (order < 0)
                        report(walk, &inner, PROFILE_REMOVED, a.child.node, NULL);
                else if (order > 0)
                        report(walk, &inner, PROFILE_ADDED, NULL, b.child.node);
                else
                        diff_values(walk, &inner, &a.child, &b.child);
                if (order <= 0)
                        more_a = cursor_next(walk->ignore, &a);
                if (order >= 0)
                        more_b = cursor_next(walk->ignore, &b);
        }
}

// The visible elements of a list from the first difference on.
typedef struct Element {
        const ProfileNode *node;
        size_t index;
} Element;

typedef struct Elements {
        const ProfilePaths *ignore;
        const Place *list;
        Element *items;
        size_t n;
} Elements;

static void elements_done(Elements *elements)
{
        free(elements->items);
}

// The cursor stands on the first of them, if `more`.
static Elements collect(const ProfilePaths *ignore, Cursor *cursor, bool more)
{
        Elements elements = {.ignore = ignore, .list = cursor->parent};

        size_t room = cursor->parent->node->n_children - cursor->index;

        elements.items = xcalloc(room + 1, sizeof *elements.items); // calloc(0) may give NULL
        for (; more; more = cursor_next(ignore, cursor))
                elements.items[elements.n++] = (Element){cursor->child.node, cursor->index};
        return elements;
}

static Place place_of(const Elements *elements, const Element *element)
{
        Place place = {.node = element->node};

        (void)path_state_enter(elements->ignore, &elements->list->state, elements->list->node,
                               element->node, element->index, &place.state);
        return place;
}

static int compare_between(const Elements *a, size_t in_a, const Elements *b, size_t in_b)
{
        Place place_a = place_of(a, &a->items[in_a]), place_b = place_of(b, &b->items[in_b]);

        return compare(a->ignore, &place_a, &place_b);
}

static int compare_elements(const void *a, const void *b, void *context)
{
        const Elements *elements = context;
        const Element *first = a, *second = b;
        Place place_a = place_of(elements, first), place_b = place_of(elements, second);
        int r = compare(elements->ignore, &place_a, &place_b);

        return r != 0 ? r : (first->index > second->index) - (first->index < second->index);
}

static int compare_indexes(const void *a, const void *b)
{
        const Element *first = a, *second = b;

        return (first->index > second->index) - (first->index < second->index);
}

static void drop_common_end(Elements *a, Elements *b)
{
        while (a->n > 0 && b->n > 0 && compare_between(a, a->n - 1, b, b->n - 1) == 0) {
                a->n--;
                b->n--;
        }
}

// Takes every element away that the other list has too, as often as it has it. By sorting, so that
// long lists do not cost the square of their length.
static void drop_common(Elements *a, Elements *b)
{
        size_t in_a = 0, in_b = 0, left_a = 0, left_b = 0;

        qsort_r(a->items, a->n, sizeof *a->items, compare_elements, a);
        qsort_r(b->items, b->n, sizeof *b->items, compare_elements, b);
        while (in_a < a->n || in_b < b->n) {
                int order = in_a == a->n   ? 1
                            : in_b == b->n ? -1
                                           : compare_between(a, in_a, b, in_b);

                if (order < 0)
                        a->items[left_a++] = a->items[in_a];
                else if (order > 0)
                        b->items[left_b++] = b->items[in_b];
                in_a += order <= 0;
                in_b += order >= 0;
        }
        a->n = left_a;
        b->n = left_b;
        qsort(a->items, a->n, sizeof *a->items, compare_indexes);
        qsort(b->items, b->n, sizeof *b->items, compare_indexes);
}

// What is left on both sides at one index is taken for one element that changed.
static void report_elements(Walk *walk, const Step *step, const Elements *a, const Elements *b)
{
        size_t in_a = 0, in_b = 0;

        while (in_a < a->n || in_b < b->n) {
                const Element *gone = in_a < a->n ? &a->items[in_a] : NULL;
                const Element *come = in_b < b->n ? &b->items[in_b] : NULL;
                int order = !gone ? 1 : !come ? -1 : compare_indexes(gone, come);
                Step inner = {.up = step};

                // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): one of the two is there
                inner.index = order <= 0 ? gone->index : come->index;
                if (order < 0) {
                        report(walk, &inner, PROFILE_REMOVED, gone->node, NULL);
                } else if (order > 0) {
                        report(walk, &inner, PROFILE_ADDED, NULL, come->node);
                } else {
                        Place before = place_of(a, gone), after = place_of(b, come);

                        diff_values(walk, &inner, &before, &after);
                }
                in_a += order <= 0;
                in_b += order >= 0;
        }
}

static void diff_lists(Walk *walk, const Step *step, const Place *before, const Place *after)
{
        Cursor a = cursor_at(before), b = cursor_at(after);
        bool more_a, more_b;

        do {
                more_a = cursor_next(walk->ignore, &a);
                more_b = cursor_next(walk->ignore, &b);
                if (!more_a && !more_b)
                        return;
        } while (more_a && more_b && compare(walk->ignore, &a.child, &b.child) == 0);

        _cleanup_(elements_done) Elements rest_a = collect(walk->ignore, &a, more_a);
        _cleanup_(elements_done) Elements rest_b = collect(walk->ignore, &b, more_b);

        drop_common_end(&rest_a, &rest_b);
        drop_common(&rest_a, &rest_b);
        if (rest_a.n == 0 && rest_b.n == 0)
                report(walk, step, PROFILE_REORDERED, before->node, after->node);
        else
                report_elements(walk, step, &rest_a, &rest_b);
}

static void diff_values(Walk *walk, const Step *step, const Place *before, const Place *after)
{
        if (before->node->type != after->node->type)
                report(walk, step, PROFILE_CHANGED, before->node, after->node);
        else if (before->node->type == PROFILE_DICT)
                diff_dicts(walk, step, before, after);
        else if (before->node->type == PROFILE_LIST)
                diff_lists(walk, step, before, after);
        else if (compare(walk->ignore, before, after) != 0)
                report(walk, step, PROFILE_CHANGED, before->node, after->node);
}

void profile_diff(const Profile *before, const Profile *after, const ProfilePaths *ignore,
                  size_t max_items, ProfileDiffs *ret)
{
        ProfileDiffs diffs = {0};
        Walk walk = {.ignore = ignore, .max_items = max_items, .diffs = &diffs};
        Step root = {.up = NULL};
        Place a = {profile_root(before), path_state_start(ignore)};
        Place b = {profile_root(after), path_state_start(ignore)};

        diff_values(&walk, &root, &a, &b);
        *ret = diffs;
}

void profile_diffs_done(ProfileDiffs *diffs)
{
        for (size_t at = 0; at < diffs->n_items; at++) {
                free(diffs->items[at].path);
                free(diffs->items[at].before);
                free(diffs->items[at].after);
        }
        free(diffs->items);
        *diffs = (ProfileDiffs){0};
}

char *profile_diff_describe(const ProfileDiff *diff)
{
        switch (diff->change) {
        case PROFILE_ADDED:
                return xasprintf("added %s", diff->path);
        case PROFILE_REMOVED:
                return xasprintf("removed %s", diff->path);
        case PROFILE_REORDERED:
                return xasprintf("reordered %s", diff->path);
        case PROFILE_CHANGED:
                break;
        }
        return xasprintf("changed %s: %s -> %s", diff->path, diff->before, diff->after);
}
