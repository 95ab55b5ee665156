#include "core/message.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <jansson.h>

#include "core/identity.h"
#include "util/alloc.h"

#define UUID_BYTES 16

void message_done(Message *message)
{
        free(message->body);
        free(message->message_id);
        free(message->app_id);
        free(message->entry);
        free(message->content_id);
        free(message->changes);
        free(message->reason);
        *message = (Message){0};
}

void message_free(Message *message)
{
        if (!message)
                return;
        message_done(message);
        free(message);
}

void message_copy(const Message *from, Message *to)
{
        *to = (Message){.body = xmalloc(from->body_len + 1),
                        .body_len = from->body_len,
                        .message_id =
                                from->message_id ? xstrdup(from->message_id) : message_new_id(),
                        .app_id = xstrdup(from->app_id),
                        .entry = xstrdup(from->entry),
                        .content_id = xstrdup(from->content_id),
                        .changes = xstrdup(from->changes),
                        .reason = xstrdup(from->reason),
                        .timestamp = from->timestamp};
        if (from->body_len)
                memcpy(to->body, from->body, from->body_len);
        to->body[from->body_len] = '\0';
}

char *message_new_id(void)
{
        uint8_t b[UUID_BYTES];

        // Never short for up to 256 bytes, and Linux has it since 3.17.
        if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
                abort();
        // RFC 4122, 4.4: version 4, variant 1.
        b[6] = (uint8_t)((b[6] & 0x0FU) | 0x40U);
        b[8] = (uint8_t)((b[8] & 0x3FU) | 0x80U);
        return xasprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                         b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11],
                         b[12], b[13], b[14], b[15]);
}

// {"template": {"branch": …}}, or {} when neither is given.
static int make_metadata(const SkeletonValues *values, json_t **ret, Error *err)
{
        const char *slash;

        if (values->domain && values->sandbox)
                return error_set(err, EINVAL, "domain and sandbox exclude each other");
        if (values->domain) {
                *ret = json_pack("{s:{s:{s:s, s:s}}}", "template", "branch", "name", values->domain,
                                 "type", "domain");
                return 0;
        }
        if (!values->sandbox) {
                *ret = json_object();
                return 0;
        }
        slash = strchr(values->sandbox, '/');
        if (!slash || slash == values->sandbox || !slash[1] || strchr(slash + 1, '/'))
                return error_set(err, EINVAL, "sandbox \"%s\" is not OWNER/NAME", values->sandbox);
        *ret = json_pack("{s:{s:{s:s%, s:s, s:s}}}", "template", "branch", "author",
                         values->sandbox, (size_t)(slash - values->sandbox), "name", slash + 1,
                         "type", "sandbox");
        return 0;
}

// A value that the worker would reject is told to the one who typed it.
static int check_skeleton(const char *body, Error *err)
{
        _cleanup_profile_ Profile *profile = NULL;
        _cleanup_(identity_done) Identity identity = {0};
        int r = profile_parse(body, strlen(body), &profile, err);

        return r < 0 ? r : identity_from_profile(profile, &identity, err);
}

int message_skeleton(const SkeletonValues *values, char **ret_body, Error *err)
{
        json_auto_t *metadata = NULL, *system = NULL, *profile = NULL;
        _cleanup_free_ char *body = NULL;
        int r = make_metadata(values, &metadata, err);

        if (r < 0)
                return r;
        // "s*" leaves a member out whose value is NULL.
        system = json_pack("{s:{s:s*}, s:{s:s*}, s:{s:s*, s:{s:s*}, s:{s:s*}}}", "personality",
                           "name", values->personality, "archetype", "name", values->archetype,
                           "os", "architecture", values->arch, "distribution", "name", values->os,
                           "version", "name", values->os_version);
        profile = json_pack("{s:O*, s:O*}", "metadata", metadata, "system", system);
        if (!metadata || !system || !profile)
                return error_set(err, EINVAL, "a value is not valid UTF-8");
        body = json_dumps(profile, JSON_COMPACT);
        if (!body)
                return error_set(err, ENOMEM, "no memory for the skeleton profile");
        r = check_skeleton(body, err);
        if (r < 0)
                return r;
        *ret_body = TAKE_PTR(body);
        return 0;
}
