// URLs: what we accept, how they are put together and shown; and file://, which is read here, so
// that libcurl never needs (or gets, through a redirect) access to files.
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "net/http_internal.h"
#include "util/alloc.h"
#include "util/fs.h"
#include "util/strutil.h"

#define FILE_SCHEME "file://"
#define URL_SHOWN_MAX 200
#define ESCAPE_SIZE ((size_t)3) // "%2F"

DEFINE_CLEANUP(CURLU, curl_url_cleanup)
DEFINE_CLEANUP(char, curl_free)

bool http_is_file_url(const char *url)
{
        return strncasecmp(url, FILE_SCHEME, strlen(FILE_SCHEME)) == 0;
}

char *http_visible_url(const char *url)
{
        _cleanup_free_ char *shown = str_visible(url, strlen(url), URL_SHOWN_MAX);
        const char *host = strstr(shown, "://"), *end, *at = NULL;

        if (!host)
                return TAKE_PTR(shown);
        host += strlen("://");
        end = host + strcspn(host, "/?#");
        for (const char *c = host; c < end; c++) {
                if (*c == '@')
                        at = c;
        }
        if (!at)
                return TAKE_PTR(shown);
        return xasprintf("%.*s%s", (int)(host - shown), shown, at + 1);
}

static int parse_url(const char *url, CURLU **ret, Error *err)
{
        _cleanup_(curl_url_cleanup_p) CURLU *parsed = curl_url();
        _cleanup_free_ char *shown = http_visible_url(url);

        if (!parsed)
                return error_set(err, ENOMEM, "%s: out of memory", shown);
        if (strlen(url) > HTTP_URL_MAX)
                return error_set(err, EINVAL, "%s: longer than %zu bytes", shown, HTTP_URL_MAX);
        if (str_has_control(url, strlen(url)) || strchr(url, ' '))
                return error_set(err, EINVAL, "%s: blanks or control characters in a URL", shown);
        if (curl_url_set(parsed, CURLUPART_URL, url, 0) != CURLUE_OK)
                return error_set(err, EINVAL, "%s is not an absolute http, https or file URL",
                                 shown);
        *ret = TAKE_PTR(parsed);
        return 0;
}

int http_check_url(const char *url, Error *err)
{
        static const char *const schemes[] = {"http", "https", "file"};
        _cleanup_(curl_url_cleanup_p) CURLU *parsed = NULL;
        _cleanup_(curl_free_p) char *scheme = NULL;
        _cleanup_free_ char *shown = NULL;
        int r = parse_url(url, &parsed, err);

        if (r < 0)
                return r;
        if (curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK) {
                for (size_t i = 0; i < ELEMENTSOF(schemes); i++) {
                        if (strcasecmp(scheme, schemes[i]) == 0)
                                return 0;
                }
        }
        shown = http_visible_url(url);
        return error_set(err, EINVAL, "%s: only http, https and file URLs can be read", shown);
}

// Appends `text` with what is outside RFC 3986 §2.3 and `also_plain` percent-encoded.
static char *put_escaped(char *out, const char *text, const char *also_plain)
{
        static const char hex[] = "0123456789ABCDEF";

        for (; *text; text++) {
                unsigned char byte = (unsigned char)*text;

                if ((byte < 0x80 && isalnum(byte)) || strchr("-._~", byte) ||
                    strchr(also_plain, byte)) {
                        *out++ = (char)byte;
                } else {
                        *out++ = '%';
                        *out++ = hex[byte >> 4];
                        *out++ = hex[byte & 0x0F];
                }
        }
        *out = '\0';
        return out;
}

char *http_join_url(const char *dir_url, const char *path)
{
        size_t dir_len = strlen(dir_url);
        char *url = xmalloc(dir_len + 1 + strlen(path) * ESCAPE_SIZE + 1), *out = url;

        memcpy(out, dir_url, dir_len);
        out += dir_len;
        if (dir_len == 0 || dir_url[dir_len - 1] != '/')
                *out++ = '/';
        (void)put_escaped(out, path, "/"); // which separates the elements of the path
        return url;
}

char *http_escape(const char *text)
{
        char *escaped = xmalloc(strlen(text) * ESCAPE_SIZE + 1);

        (void)put_escaped(escaped, text, "");
        return escaped;
}

int http_file_get(const char *url, const char *etag, Buf *body, char **ret_etag, Error *err)
{
        _cleanup_(curl_url_cleanup_p) CURLU *parsed = NULL;
        _cleanup_(curl_free_p) char *path = NULL;
        _cleanup_free_ char *now = NULL;
        struct stat st;
        int r = parse_url(url, &parsed, err);

        if (r < 0)
                return r;
        if (curl_url_get(parsed, CURLUPART_PATH, &path, CURLU_URLDECODE) != CURLUE_OK ||
            str_has_control(path, strlen(path)))
                return error_set(err, EINVAL, "%s does not name a file", url);
        // Before the file is read: should it change meanwhile, the next call sees another state.
        if (stat(path, &st) < 0)
                return error_sys(err, "cannot open %s", path);
        now = xasprintf("\"%llx.%lx-%llx-%llx\"", (unsigned long long)st.st_mtim.tv_sec,
                        (unsigned long)st.st_mtim.tv_nsec, (unsigned long long)st.st_size,
                        (unsigned long long)st.st_ino);
        if (etag && strcmp(etag, now) == 0)
                return HTTP_FILE_SAME;
        r = fs_read_file(path, body, err);
        if (r < 0)
                return r;
        *ret_etag = TAKE_PTR(now);
        return 0;
}
