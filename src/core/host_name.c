#include "core/host_name.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "util/alloc.h"
#include "util/buf.h"
#include "util/strutil.h"

#define HOST_NAME_MAX_BYTES ((size_t)253) // RFC 1035 §2.3.4, in text
#define LABEL_MAX_BYTES ((size_t)63)
#define SHOWN_MAX 260

// True if it is a label of `len` bytes.
static bool is_label(const char *text, size_t len)
{
        if (len == 0 || len > LABEL_MAX_BYTES || text[0] == '-' || text[len - 1] == '-')
                return false;
        for (size_t at = 0; at < len; at++) {
                unsigned char byte = (unsigned char)text[at];

                if (byte >= 0x80 || (!isalnum(byte) && byte != '-'))
                        return false;
        }
        return true;
}

bool host_name_is_valid(const char *text)
{
        size_t n_labels = 0;

        if (strlen(text) > HOST_NAME_MAX_BYTES)
                return false;
        for (const char *at = text;; at++) {
                size_t len = strcspn(at, ".");

                if (!is_label(at, len))
                        return false;
                n_labels++;
                at += len;
                if (!*at)
                        return n_labels >= 2;
        }
}

int host_name_normalize(const char *text, char **ret, Error *err)
{
        size_t len = strlen(text);
        _cleanup_free_ char *name = xstrndup(text, len > 0 && text[len - 1] == '.' ? len - 1 : len);
        _cleanup_free_ char *shown = NULL;

        for (char *at = name; *at; at++)
                *at = (char)tolower((unsigned char)*at);
        if (!host_name_is_valid(name)) {
                shown = str_visible(text, len, SHOWN_MAX);
                return error_set(err, EINVAL, "\"%s\" is not a host name with its domain", shown);
        }
        *ret = TAKE_PTR(name);
        return 0;
}

static int add_dashed(Buf *out, const char *text)
{
        int r = 0;

        for (; *text && r == 0; text++)
                r = buf_append(out, *text == '.' || *text == ':' ? "-" : text, 1);
        return r;
}

static int add_placeholder(const HostNameValues *values, const char *name, size_t len, Buf *out,
                           Error *err)
{
        const struct {
                const char *name, *value;
        } known[] = {
                {"address", values->address}, {"name", values->name}, {"server", values->server}};
        _cleanup_free_ char *shown = NULL;

        for (size_t at = 0; at < ELEMENTSOF(known); at++) {
                if (strlen(known[at].name) == len && memcmp(known[at].name, name, len) == 0)
                        return add_dashed(out, known[at].value ? known[at].value : "");
        }
        shown = str_visible(name, len, SHOWN_MAX);
        return error_set(err, EINVAL,
                         "${%s} is unknown; there are ${address}, ${name} and ${server}", shown);
}

int host_name_expand(const char *pattern, const HostNameValues *values, char **ret, Error *err)
{
        _cleanup_buf_ Buf out = BUF_INIT(HOST_NAME_MAX_BYTES + 1);
        int r = 0;

        for (const char *at = pattern, *end; *at && r == 0; at = end) {
                if (!str_starts_with(at, "${")) {
                        end = at + 1 + strcspn(at + 1, "$");
                        r = buf_append(&out, at, (size_t)(end - at));
                        continue;
                }
                end = strchr(at, '}');
                if (!end)
                        return error_set(err, EINVAL, "\"${\" without \"}\"");
                r = add_placeholder(values, at + 2, (size_t)(end - at - 2), &out, err);
                end++;
        }
        if (r == -EFBIG)
                return error_set(err, EINVAL, "the host name is longer than %zu bytes",
                                 HOST_NAME_MAX_BYTES);
        return r < 0 ? r : host_name_normalize(buf_str(&out), ret, err);
}
