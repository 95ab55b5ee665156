#include "core/profile_visible.h"

#include <string.h>
#include <strings.h>

#include "util/alloc.h"
#include "util/strutil.h"

// A value is looked through this far for words that tell of a secret.
#define SECRET_SEARCH_BYTES 4096

static bool has_word(const char *text, size_t len, const char *word)
{
        size_t word_len = strlen(word);

        for (size_t at = 0; at + word_len <= len; at++) {
                if (strncasecmp(text + at, word, word_len) == 0)
                        return true;
        }
        return false;
}

static bool has_any(const char *text, size_t len, const char *const *words)
{
        for (; *words; words++) {
                if (has_word(text, len, *words))
                        return true;
        }
        return false;
}

static bool ends_with(const char *text, size_t len, const char *end)
{
        size_t end_len = strlen(end);

        return len >= end_len && strncasecmp(text + len - end_len, end, end_len) == 0;
}

bool profile_key_names_secret(const char *key, size_t len)
{
        static const char *const words[] = {"passw", "passphrase", "secret",     "token",   "psk",
                                            "pwd",   "rootpw",     "credential", "private", NULL};

        return has_any(key, len, words) || ends_with(key, len, "key") ||
               ends_with(key, len, "keys") || ends_with(key, len, "pw");
}

bool profile_value_holds_secret(const ProfileNode *node)
{
        static const char *const words[] = {"passw", "passphrase",  "secret",
                                            "token", "private key", NULL};
        size_t len = MIN(node->text_len, SECRET_SEARCH_BYTES);

        return has_any(node->text, len, words) ||
               (len > 3 && node->text[0] == '$' && memchr(node->text + 1, '$', 3));
}

static char *visible_container(const ProfileNode *node)
{
        bool dict = node->type == PROFILE_DICT;

        if (node->n_children == 0)
                return xstrdup(dict ? "{}" : "[]");
        return xasprintf(dict ? "{%u}" : "[%u]", node->n_children);
}

char *profile_value_visible(const ProfileNode *node, size_t skip)
{
        _cleanup_free_ char *text = NULL;

        if (node->type == PROFILE_DICT || node->type == PROFILE_LIST)
                return visible_container(node);
        if (node->text_len == 0)
                return xstrdup("\"\"");
        text = str_visible(node->text + skip, node->text_len - skip, PROFILE_VALUE_VISIBLE_MAX);
        return skip > 0 ? xasprintf("…%s", text) : TAKE_PTR(text);
}
