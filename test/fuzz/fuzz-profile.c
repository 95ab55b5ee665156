// Two profiles, the second behind a NUL byte; without one the document is compared with itself.
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "core/identity.h"
#include "core/profile.h"
#include "core/profile_texts.h"
#include "util/buf.h"
#include "util/strutil.h"

// Six bytes for a byte at most, and the names' quotes.
#define WRITTEN_MAX(size) (8 * (size) + 64)

static void must(int ok)
{
        if (!ok)
                abort();
}

static Profile *parse(const char *text, size_t len)
{
        Profile *profile = NULL;
        Error err = ERROR_NONE;
        int r = profile_parse(text, len, &profile, &err);

        must(r == 0 || (r == -EBADMSG && err.code == EBADMSG && !profile &&
                        (len == 0 || str_starts_with(err.text, "line "))));
        return profile;
}

static void write_string(Buf *out, const char *text, size_t len)
{
        json_auto_t *string = json_stringn(text, len);
        char *quoted = json_dumps(string, JSON_ENCODE_ANY);

        must(quoted && buf_append_str(out, quoted) == 0);
        free(quoted);
}

static void write_node(Buf *out, const ProfileNode *node)
{
        bool dict = node->type == PROFILE_DICT;

        if (node->type == PROFILE_STRING) {
                write_string(out, node->text, node->text_len);
                return;
        }
        if (!dict && node->type != PROFILE_LIST) {
                must(buf_append(out, node->text, node->text_len) == 0);
                return;
        }
        must(buf_append_str(out, dict ? "{" : "[") == 0);
        for (const ProfileNode *child = node->child; child; child = child->next) {
                if (dict) {
                        write_string(out, child->key, child->key_len);
                        must(buf_append_str(out, ":") == 0);
                }
                write_node(out, child);
                if (child->next)
                        must(buf_append_str(out, ",") == 0);
        }
        must(buf_append_str(out, dict ? "}" : "]") == 0);
}

// What the tree says, written and read again, says the same.
static void check_rewritten(const Profile *profile, size_t size)
{
        _cleanup_buf_ Buf text = BUF_INIT(WRITTEN_MAX(size));
        _cleanup_profile_ Profile *again = NULL;
        ContentId one, two;

        write_node(&text, profile_root(profile));
        again = parse(buf_str(&text), text.len);
        must(again != NULL);
        profile_content_id(profile, NULL, &one);
        profile_content_id(again, NULL, &two);
        must(content_id_equal(&one, &two));
}

static void check_identity(const Profile *profile)
{
        _cleanup_(identity_done) Identity identity = {0};
        _cleanup_strv_ char **keys = NULL;
        _cleanup_free_ char *name = NULL, *file = NULL;
        Error err = ERROR_NONE;
        int r = identity_from_profile(profile, &identity, &err);

        must(r == 0 || (r == -EBADMSG && err.text[0] && !identity.personality));
        if (r < 0)
                return;
        must(!str_has_control(identity.personality, strlen(identity.personality)));
        keys = identity_os_keys(&identity);
        r = identity_image_name(&identity, "${personality}-${os}", keys[0] ? keys[0] : "x", &name,
                                &err);
        must(r == 0 || (r == -EBADMSG && err.text[0]));
        if (r < 0)
                return;
        file = identity_file_name(name);
        must(*file && !strpbrk(file, "./") && strlen(file) == strlen(name));
}

static void check_pair(const Profile *a, const Profile *b, const ProfilePaths *ignore)
{
        ProfileDiffs diffs;
        ContentId one, two;

        profile_content_id(a, ignore, &one);
        profile_content_id(b, ignore, &two);
        profile_diff(a, b, ignore, 5, &diffs);
        must((diffs.n_total == 0) == content_id_equal(&one, &two));
        must(diffs.n_items == (diffs.n_total < 5 ? diffs.n_total : 5));
        for (size_t at = 0; at < diffs.n_items; at++) {
                char *line = profile_diff_describe(&diffs.items[at]);

                must(!str_has_control(line, strlen(line)) && str_is_utf8(line, strlen(line)));
                free(line);
        }
        profile_diffs_done(&diffs);
}

// In one pass over the text: the same content id, or the same words for what is wrong with it.
static void check_content_of_text(const char *text, size_t len, const ProfilePaths *ignore)
{
        _cleanup_profile_ Profile *profile = NULL;
        Error by_tree_err = ERROR_NONE, err = ERROR_NONE;
        int by_tree = profile_parse(text, len, &profile, &by_tree_err);
        ContentId want, got;
        bool in_order;
        int r = profile_content_of_text((ProfileText){text, len}, ignore, &got, &in_order, &err);

        must(r == by_tree);
        if (r < 0) {
                must(strcmp(err.text, by_tree_err.text) == 0);
                return;
        }
        profile_content_id(profile, ignore, &want);
        must(content_id_equal(&want, &got));
        must(in_order == profile_in_order(profile));
}

static void check_same_diffs(const ProfileDiffs *one, const ProfileDiffs *two)
{
        must(one->n_items == two->n_items && one->n_total == two->n_total);
        for (size_t at = 0; at < one->n_items; at++) {
                char *a = profile_diff_describe(&one->items[at]);
                char *b = profile_diff_describe(&two->items[at]);

                must(strcmp(a, b) == 0);
                free(a);
                free(b);
        }
}

// By excerpts: what is found by the whole documents.
static void check_diff_texts(const ProfileText *before, const ProfileText *after,
                             const ProfilePaths *ignore)
{
        _cleanup_profile_ Profile *a = parse(before->text, before->len);
        _cleanup_profile_ Profile *b = parse(after->text, after->len);
        ProfileDiffs want, got;

        must(profile_diff_texts(*before, *after, ignore, 5, &got, NULL) == 0);
        profile_diff(a, b, ignore, 5, &want);
        check_same_diffs(&want, &got);
        profile_diffs_done(&want);
        profile_diffs_done(&got);
}

// The same for what need not be a profile, and its content id from that of the earlier one.
static void check_follow(const ProfileText *before, const ProfileText *after,
                         const ProfilePaths *ignore)
{
        _cleanup_profile_ Profile *a = parse(before->text, before->len), *b = NULL;
        ProfileDiffs want, got;
        ContentId id, want_id;

        if (!profile_in_order(a))
                return;
        profile_content_id(a, ignore, &id);
        if (!profile_follow_texts(*before, *after, ignore, 5, &id, &got))
                return;
        b = parse(after->text, after->len);
        must(b && profile_in_order(b));
        profile_content_id(b, ignore, &want_id);
        must(content_id_equal(&id, &want_id));
        profile_diff(a, b, ignore, 5, &want);
        check_same_diffs(&want, &got);
        profile_diffs_done(&want);
        profile_diffs_done(&got);
}

// The document with its bytes from `at` on replaced, as far as both are documents.
static void check_edited(const char *text, size_t len, const ProfilePaths *ignore)
{
        static const char *const edits[] = {"", ",", "}", "\"q\":{},", "}, \"r\": {", "1", "]"};
        _cleanup_buf_ Buf edited = BUF_INIT(len + 64);

        for (size_t i = 0; i < 8 * ELEMENTSOF(edits) && len > 0; i++) {
                size_t at = i * 7919 % len, gone = MIN(i / ELEMENTSOF(edits), len - at);
                _cleanup_profile_ Profile *profile = NULL;
                ProfileText before = {text, len}, after;

                buf_clear(&edited);
                must(buf_append(&edited, text, at) == 0 &&
                     buf_append_str(&edited, edits[i % ELEMENTSOF(edits)]) == 0 &&
                     buf_append(&edited, text + at + gone, len - at - gone) == 0);
                after = (ProfileText){buf_str(&edited), edited.len};
                check_follow(&before, &after, ignore);
                profile = parse(buf_str(&edited), edited.len);
                if (!profile)
                        continue;
                check_follow(&after, &before, ignore);
                check_diff_texts(&before, &after, ignore);
                check_diff_texts(&after, &before, ignore);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static char a_ip[] = "/a/ip", any[] = "/*/*/ip",
                    first[] = "/l/0", *const list[] = {a_ip, any, first, NULL};
        const char *text = (const char *)data;
        const char *nul = size ? memchr(text, '\0', size) : NULL;
        size_t a_len = nul ? (size_t)(nul - text) : size;
        _cleanup_profile_ Profile *a = parse(text, a_len), *b = NULL;
        _cleanup_profile_paths_ ProfilePaths *ignore = NULL;
        ProfileText b_text;

        must(profile_paths_new(list, &ignore, NULL) == 0);
        check_content_of_text(text, a_len, NULL);
        check_content_of_text(text, a_len, ignore);
        if (!a)
                return 0;
        check_rewritten(a, size);
        check_identity(a);
        b_text = nul ? (ProfileText){nul + 1, size - a_len - 1} : (ProfileText){text, a_len};
        check_follow(&(ProfileText){text, a_len}, &b_text, NULL);
        check_follow(&(ProfileText){text, a_len}, &b_text, ignore);
        b = parse(b_text.text, b_text.len);
        if (!b)
                return 0;
        check_pair(a, b, NULL);
        check_pair(a, b, ignore);
        check_diff_texts(&(ProfileText){text, a_len}, &b_text, NULL);
        check_diff_texts(&(ProfileText){text, a_len}, &b_text, ignore);
        check_edited(text, a_len, ignore);
        return 0;
}
