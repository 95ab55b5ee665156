#include "aquilon/request.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "util/alloc.h"
#include "util/buf.h"
#include "util/strutil.h"

#define LIST_MAX ((size_t)256)

// What people write where they mean nothing.
static const char *const empty_words[] = {"", "none", "null"};

static const char *const request_keys[] = {"AQ_ARCHETYPE", "AQ_PERSONALITY", "AQ_OS",
                                           "AQ_OSVERSION", "AQ_DOMAIN",      "AQ_SANDBOX"};

static const char *get(const NotificationPairs *pairs, const char *key)
{
        const char *value = notification_value(pairs, key);

        for (size_t at = 0; value && at < ELEMENTSOF(empty_words); at++) {
                if (strcasecmp(value, empty_words[at]) == 0)
                        return NULL;
        }
        return value;
}

static const char *look_up(const Notification *notification, AquilonSource source, const char *key)
{
        const char *value = NULL;

        if (source != AQUILON_SOURCE_IMAGE)
                value = get(&notification->metadata, key);
        if (!value && source != AQUILON_SOURCE_METADATA)
                value = get(&notification->image, key);
        return value;
}

bool request_is_there(const Notification *notification, AquilonSource source)
{
        for (size_t at = 0; at < ELEMENTSOF(request_keys); at++) {
                if (look_up(notification, source, request_keys[at]))
                        return true;
        }
        return false;
}

static bool is_v4(const NotificationAddress *address)
{
        return !strchr(address->address, ':');
}

// Of the network with this label, or of any; an IPv4 address before an IPv6 one.
static const NotificationAddress *address_in(const Notification *notification, const char *label)
{
        const NotificationAddress *found = NULL;

        for (size_t at = 0; at < notification->n_addresses; at++) {
                const NotificationAddress *address = &notification->addresses[at];

                if (label && (!address->label || strcmp(address->label, label) != 0))
                        continue;
                if (!found || (is_v4(address) && !is_v4(found)))
                        found = address;
        }
        return found;
}

static const NotificationAddress *choose_address(const Notification *notification,
                                                 char *const *networks)
{
        const NotificationAddress *found = NULL;

        if (!networks || !*networks)
                return address_in(notification, NULL);
        STRV_FOREACH (label, networks) {
                if (!found)
                        found = address_in(notification, *label);
        }
        return found;
}

static void list_missing(Buf *missing, const char *key)
{
        // The list has room for all keys.
        if (buf_printf(missing, "%s%s", missing->len ? ", " : "", key) < 0)
                return;
}

static int check_complete(const AquilonRequest *request, AquilonSource source, Error *err)
{
        static const char *const places[] = {
                [AQUILON_SOURCE_METADATA] = "the server's metadata",
                [AQUILON_SOURCE_IMAGE] = "the properties of its image",
                [AQUILON_SOURCE_BOTH] = "the server's metadata and the properties of its image"};
        _cleanup_buf_ Buf missing = BUF_INIT(LIST_MAX);

        if (!request->archetype)
                list_missing(&missing, "AQ_ARCHETYPE");
        if (!request->personality)
                list_missing(&missing, "AQ_PERSONALITY");
        if (!request->os)
                list_missing(&missing, "AQ_OS");
        if (!request->os_version)
                list_missing(&missing, "AQ_OSVERSION");
        if (!request->domain && !request->sandbox)
                list_missing(&missing, "AQ_DOMAIN (or AQ_SANDBOX)");
        if (!missing.len)
                return 0;
        return error_set(err, EINVAL, "missing in %s: %s", places[source], buf_str(&missing));
}

static int check_address(const AquilonRequest *request, const Notification *notification,
                         const AquilonConfig *config, Error *err)
{
        if (request->address)
                return 0;
        if (!notification->n_addresses)
                return error_set(err, EINVAL, "the server has no address");
        return error_set(err, EINVAL, "the server has no address in a network of NETWORKS (%s%s)",
                         config->networks[0], config->networks[1] ? ", …" : "");
}

int request_from_notification(const Notification *notification, const AquilonConfig *config,
                              AquilonRequest *ret, Error *err)
{
        const NotificationAddress *address = choose_address(notification, config->networks);
        const AquilonSource source = config->source;
        int r;

        *ret = (AquilonRequest){
                .archetype = xstrdup(look_up(notification, source, "AQ_ARCHETYPE")),
                .personality = xstrdup(look_up(notification, source, "AQ_PERSONALITY")),
                .os = xstrdup(look_up(notification, source, "AQ_OS")),
                .os_version = xstrdup(look_up(notification, source, "AQ_OSVERSION")),
                .domain = xstrdup(look_up(notification, source, "AQ_DOMAIN")),
                .sandbox = xstrdup(look_up(notification, source, "AQ_SANDBOX")),
                .build_id = xstrdup(get(&notification->metadata, "PACKUILON_BUILD_ID")),
                .address = xstrdup(address ? address->address : NULL),
                .mac = xstrdup(address ? address->mac : NULL)};
        if (ret->sandbox)
                replace_string(&ret->domain, NULL);
        r = check_complete(ret, source, err);
        return r < 0 ? r : check_address(ret, notification, config, err);
}

void request_done(AquilonRequest *request)
{
        free(request->archetype);
        free(request->personality);
        free(request->os);
        free(request->os_version);
        free(request->domain);
        free(request->sandbox);
        free(request->build_id);
        free(request->address);
        free(request->mac);
        *request = (AquilonRequest){0};
}
