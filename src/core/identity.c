#include "core/identity.h"

#include <errno.h>
#include <string.h>

#include "util/alloc.h"
#include "util/buf.h"
#include "util/strutil.h"

#define VALUE_MAX_BYTES 255
#define VISIBLE_MAX 80
// File names end at 255 bytes, and a log's has template and time behind the image.
#define IMAGE_NAME_MAX_BYTES 200

// ".." between slashes: a template may have the value in the name of a file.
static bool has_parent_element(const char *value, size_t len)
{
        const char *at = value, *end = value + len, *slash;

        do {
                slash = memchr(at, '/', (size_t)(end - at));
                if ((slash ? slash : end) - at == 2 && memcmp(at, "..", 2) == 0)
                        return true;
                at = slash ? slash + 1 : end;
        } while (slash);
        return false;
}

static int check_value(const char *path, const char *value, size_t len, Error *err)
{
        _cleanup_free_ char *shown = str_visible(value, len, VISIBLE_MAX);

        if (!value || len == 0)
                return error_set(err, EBADMSG, "%s is empty", path);
        if (len > VALUE_MAX_BYTES)
                return error_set(err, EBADMSG, "%s is %zu bytes long, more than %d: \"%s\"", path,
                                 len, VALUE_MAX_BYTES, shown);
        if (str_has_control(value, len))
                return error_set(err, EBADMSG, "%s has control characters: \"%s\"", path, shown);
        if (memmem(value, len, "{{", 2))
                return error_set(err, EBADMSG,
                                 "%s holds \"{{\", which Packer would interpret: "
                                 "\"%s\"",
                                 path, shown);
        if (has_parent_element(value, len))
                return error_set(err, EBADMSG, "%s holds \"..\" as in a path: \"%s\"", path, shown);
        return 0;
}

// The string at `path`, unchecked but for its type; NULL when there is none.
static int find_string(const Profile *profile, const char *path, const ProfileNode **ret,
                       Error *err)
{
        const ProfileNode *node = profile_get(profile, path);

        if (node && node->type != PROFILE_STRING)
                return error_set(err, EBADMSG, "%s is not a string", path);
        *ret = node;
        return 0;
}

static int take_value(const Profile *profile, const char *path, char **ret, Error *err)
{
        const ProfileNode *node = NULL;
        int r = find_string(profile, path, &node, err);

        if (r < 0 || !node)
                return r;
        r = check_value(path, node->text, node->text_len, err);
        if (r < 0)
                return r;
        *ret = xstrndup(node->text, node->text_len);
        return 0;
}

// "sl7x-x86_64/vmlinuz" or "/sl7x-x86_64/vmlinuz"
static int take_pxe_os(const Profile *profile, char **ret, Error *err)
{
        static const char path[] = "/system/aii/nbp/pxelinux/kernel";
        const ProfileNode *node = NULL;
        const char *at, *end, *slash;
        int r = find_string(profile, path, &node, err);

        if (r < 0 || !node)
                return r;
        at = node->text;
        end = at + node->text_len;
        while (at < end && *at == '/')
                at++;
        if (at == end)
                return 0;
        slash = memchr(at, '/', (size_t)(end - at));
        if (slash)
                end = slash;
        r = check_value(path, at, (size_t)(end - at), err);
        if (r < 0)
                return r;
        *ret = xstrndup(at, (size_t)(end - at));
        return 0;
}

static int take_branch(const Profile *profile, Identity *identity, Error *err)
{
        static const char author_path[] = "/metadata/template/branch/author";
        _cleanup_free_ char *type = NULL, *name = NULL, *author = NULL;
        int r = take_value(profile, "/metadata/template/branch/type", &type, err);

        if (r == 0)
                r = take_value(profile, "/metadata/template/branch/name", &name, err);
        if (r == 0)
                r = take_value(profile, author_path, &author, err);
        if (r < 0 || !type || !name)
                return r;
        if (strcmp(type, "domain") == 0) {
                identity->domain = TAKE_PTR(name);
                return 0;
        }
        if (strcmp(type, "sandbox") != 0)
                return 0;
        if (!author)
                return error_set(err, EBADMSG, "%s is missing; a sandbox is AUTHOR/NAME",
                                 author_path);
        identity->sandbox = xasprintf("%s/%s", author, name);
        return check_value("author and name in /metadata/template/branch", identity->sandbox,
                           strlen(identity->sandbox), err);
}

static int fill(const Profile *profile, Identity *identity, Error *err)
{
        const struct {
                const char *path;
                char **slot;
        } values[] = {
                {"/system/personality/name", &identity->personality},
                {"/system/archetype/name", &identity->archetype},
                {"/system/os/distribution/name", &identity->os_name},
                {"/system/os/version/name", &identity->os_version},
                {"/system/os/architecture", &identity->os_arch},
                {"/system/archetype/os", &identity->broker_os},
                {"/system/archetype/model", &identity->broker_os_version},
                {"/system/network/hostname", &identity->hostname},
        };
        int r;

        for (size_t at = 0; at < ELEMENTSOF(values); at++) {
                r = take_value(profile, values[at].path, values[at].slot, err);
                if (r < 0)
                        return r;
        }
        if (!identity->personality)
                return error_set(err, EBADMSG, "%s is missing", values[0].path);
        r = take_pxe_os(profile, &identity->pxe_os, err);
        if (r < 0)
                return r;
        return take_branch(profile, identity, err);
}

int identity_from_profile(const Profile *profile, Identity *ret, Error *err)
{
        Identity identity = {0};
        int r = fill(profile, &identity, err);

        if (r < 0) {
                identity_done(&identity);
                return r;
        }
        *ret = identity;
        return 0;
}

void identity_done(Identity *identity)
{
        free(identity->personality);
        free(identity->archetype);
        free(identity->os_name);
        free(identity->os_version);
        free(identity->os_arch);
        free(identity->broker_os);
        free(identity->broker_os_version);
        free(identity->pxe_os);
        free(identity->hostname);
        free(identity->domain);
        free(identity->sandbox);
        *identity = (Identity){0};
}

static void add_key(char **keys, char *take_key)
{
        size_t at = 0;

        for (; keys[at]; at++) {
                if (strcmp(keys[at], take_key) == 0) {
                        free(take_key);
                        return;
                }
        }
        keys[at] = take_key;
}

char **identity_os_keys(const Identity *identity)
{
        char **keys = xcalloc(4, sizeof *keys);

        if (identity->os_name && identity->os_version && identity->os_arch)
                add_key(keys, xasprintf("%s%s-%s", identity->os_name, identity->os_version,
                                        identity->os_arch));
        if (identity->broker_os && identity->broker_os_version)
                add_key(keys, xasprintf("%s%s", identity->broker_os, identity->broker_os_version));
        if (identity->pxe_os)
                add_key(keys, xstrdup(identity->pxe_os));
        return keys;
}

static int add_placeholder(const Identity *identity, const char *os, const char *name, size_t len,
                           Buf *out, Error *err)
{
        const struct {
                const char *name, *value;
        } known[] = {
                {"personality", identity->personality}, {"os", os},
                {"archetype", identity->archetype},     {"domain", identity->domain},
                {"sandbox", identity->sandbox},         {"hostname", identity->hostname},
        };
        _cleanup_free_ char *shown = str_visible(name, len, VISIBLE_MAX);

        for (size_t at = 0; at < ELEMENTSOF(known); at++) {
                if (strlen(known[at].name) != len || memcmp(known[at].name, name, len) != 0)
                        continue;
                if (!known[at].value)
                        return error_set(err, EBADMSG,
                                         "IMAGE_NAME: the profile has no value for ${%s}", shown);
                return buf_append_str(out, known[at].value);
        }
        return error_set(err, EBADMSG,
                         "IMAGE_NAME: ${%s} is unknown; there are ${personality}, ${os}, "
                         "${archetype}, ${domain}, ${sandbox} and ${hostname}",
                         shown);
}

static int expand(const Identity *identity, const char *pattern, const char *os, Buf *out,
                  Error *err)
{
        int r = 0;

        for (const char *at = pattern, *end; *at && r == 0; at = end) {
                if (!str_starts_with(at, "${")) {
                        end = at + 1 + strcspn(at + 1, "$");
                        r = buf_append(out, at, (size_t)(end - at));
                        continue;
                }
                end = strchr(at, '}');
                if (!end)
                        return error_set(err, EBADMSG, "IMAGE_NAME: \"${\" without \"}\"");
                r = add_placeholder(identity, os, at + 2, (size_t)(end - at - 2), out, err);
                end++;
        }
        if (r == -EFBIG)
                return error_set(err, EBADMSG, "the image name is longer than %d bytes",
                                 IMAGE_NAME_MAX_BYTES);
        return r;
}

int identity_image_name(const Identity *identity, const char *pattern, const char *os, char **ret,
                        Error *err)
{
        _cleanup_buf_ Buf out = BUF_INIT(IMAGE_NAME_MAX_BYTES);
        int r = expand(identity, pattern, os, &out, err);

        if (r < 0)
                return r;
        // The pattern may bring in what the values may not have.
        r = check_value("the image name", buf_str(&out), out.len, err);
        if (r < 0)
                return r;
        *ret = buf_take(&out, NULL);
        return 0;
}

char *identity_file_name(const char *image_name)
{
        char *name = xstrdup(image_name);

        for (char *at = name; *at; at++) {
                bool plain = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                             (*at >= '0' && *at <= '9') || strchr("-_+@=", *at);

                if (!plain)
                        *at = '_';
        }
        return name;
}
