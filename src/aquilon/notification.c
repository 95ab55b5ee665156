#include "aquilon/notification.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "util/alloc.h"
#include "util/macro.h"
#include "util/strutil.h"

#define TYPE_MAX ((size_t)128)
#define TEXT_MAX ((size_t)255) // Nova's own limit for names and metadata
#define PAIRS_MAX ((size_t)64)
#define ADDRESSES_MAX ((size_t)64)
#define SERVER_ID_MAX ((size_t)64)

static const struct {
        const char *type;
        NotificationKind kind;
} kinds[] = {
        {"compute.instance.create.end", NOTIFICATION_CREATED},
        {"compute.instance.delete.start", NOTIFICATION_DELETED},
};

DEFINE_CLEANUP(json_t, json_decref)
#define _cleanup_json_ _cleanup_(json_decref_p)

// ---- life ---------------------------------------------------------------------------------

static void pairs_done(NotificationPairs *pairs)
{
        for (size_t at = 0; at < pairs->n; at++) {
                free(pairs->items[at].key);
                free(pairs->items[at].value);
        }
        free(pairs->items);
}

void notification_done(Notification *notification)
{
        pairs_done(&notification->metadata);
        pairs_done(&notification->image);
        for (size_t at = 0; at < notification->n_addresses; at++) {
                free(notification->addresses[at].address);
                free(notification->addresses[at].mac);
                free(notification->addresses[at].label);
        }
        free(notification->addresses);
        free(notification->type);
        free(notification->server);
        free(notification->name);
        free(notification->hostname);
        free(notification->vmhost);
        free(notification->project);
        *notification = (Notification){0};
}

// ---- values -------------------------------------------------------------------------------

// A string, or a number in its place. NULL for null, for what is neither, and for what is no plain
// text of at most TEXT_MAX bytes.
static char *take_text(const json_t *value)
{
        if (json_is_integer(value))
                return xasprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
        if (json_is_boolean(value))
                return xstrdup(json_is_true(value) ? "true" : "false");
        if (!json_is_string(value) || json_string_length(value) > TEXT_MAX ||
            str_has_control(json_string_value(value), json_string_length(value)))
                return NULL;
        return xstrdup(json_string_value(value));
}

static char *take_member(const json_t *object, const char *key)
{
        return take_text(json_object_get(object, key));
}

// A number, or one in a string; 0 when it is none that is above zero.
static int64_t take_number(const json_t *object, const char *key)
{
        const json_t *value = json_object_get(object, key);
        int64_t number = json_is_integer(value) ? json_integer_value(value) : 0;

        if (json_is_string(value) &&
            str_parse_int(json_string_value(value), 0, INT32_MAX, &number, NULL) < 0)
                return 0;
        return number > 0 && number <= INT32_MAX ? number : 0;
}

// ---- metadata -----------------------------------------------------------------------------

static bool is_wanted(const char *key)
{
        return strncasecmp(key, "AQ_", 3) == 0 || strcmp(key, "PACKUILON_BUILD_ID") == 0;
}

static void add_pair(NotificationPairs *pairs, const char *key, const json_t *value)
{
        if (!is_wanted(key) || strlen(key) > TEXT_MAX || str_has_control(key, strlen(key)) ||
            pairs->n >= PAIRS_MAX)
                return;
        pairs->items = xreallocarray(pairs->items, pairs->n + 1, sizeof *pairs->items);
        pairs->items[pairs->n++] =
                (NotificationPair){.key = xstrdup(key), .value = take_text(value)};
}

// An object; from old releases a list of objects with "key" and "value", or an empty one.
static void take_pairs(const json_t *value, NotificationPairs *pairs)
{
        const char *key;
        json_t *item;
        size_t at;

        json_object_foreach((json_t *)(uintptr_t)value, key, item) add_pair(pairs, key, item);
        json_array_foreach(value, at, item)
        {
                key = json_string_value(json_object_get(item, "key"));
                if (key)
                        add_pair(pairs, key, json_object_get(item, "value"));
        }
}

static const char *find_exact(const NotificationPairs *pairs, const char *key)
{
        for (size_t at = 0; at < pairs->n; at++) {
                if (strcmp(pairs->items[at].key, key) == 0)
                        return pairs->items[at].value;
        }
        return NULL;
}

const char *notification_value(const NotificationPairs *pairs, const char *key)
{
        const char *value = find_exact(pairs, key);
        _cleanup_free_ char *lower = xstrdup(key);

        if (value)
                return value;
        for (char *at = lower; *at; at++)
                *at = (char)tolower((unsigned char)*at);
        return find_exact(pairs, lower);
}

// ---- addresses ----------------------------------------------------------------------------

static bool is_address(const char *text)
{
        struct in6_addr ignored;

        return inet_pton(AF_INET, text, &ignored) == 1 || inet_pton(AF_INET6, text, &ignored) == 1;
}

static bool is_mac(const char *text)
{
        if (strlen(text) != strlen("fa:16:3e:49:d8:38"))
                return false;
        for (size_t at = 0; text[at]; at++) {
                if (at % 3 == 2 ? text[at] != ':' : !isxdigit((unsigned char)text[at]))
                        return false;
        }
        return true;
}

static void take_addresses(const json_t *list, Notification *notification)
{
        json_t *item;
        size_t at;

        json_array_foreach(list, at, item)
        {
                _cleanup_free_ char *address = take_member(item, "address");
                _cleanup_free_ char *mac = take_member(item, "vif_mac");
                size_t n = notification->n_addresses;

                if (!address || !is_address(address) || n >= ADDRESSES_MAX)
                        continue;
                notification->addresses = xreallocarray(notification->addresses, n + 1,
                                                        sizeof *notification->addresses);
                notification->addresses[n] =
                        (NotificationAddress){.address = TAKE_PTR(address),
                                              .mac = mac && is_mac(mac) ? TAKE_PTR(mac) : NULL,
                                              .label = take_member(item, "label")};
                notification->n_addresses++;
        }
}

// ---- decoding -----------------------------------------------------------------------------

// jansson's words quote the text, which may hold a token.
static int load(const char *text, size_t len, const char *what, json_t **ret, Error *err)
{
        json_error_t why;

        *ret = json_loadb(text, len, 0, &why);
        if (!*ret)
                return error_set(err, EBADMSG, "%s is not JSON (line %d, column %d)", what,
                                 why.line, why.column);
        if (!json_is_object(*ret))
                return error_set(err, EBADMSG, "%s is JSON, but no object", what);
        return 0;
}

// The inner document, whichever format it came in.
static int open_envelope(const char *text, size_t len, json_t **ret, Error *err)
{
        _cleanup_json_ json_t *outer = NULL;
        const json_t *inner;
        int r;

        if (len > NOTIFICATION_MAX_BYTES)
                return error_set(err, EMSGSIZE, "the message has %zu bytes; %zu is the limit", len,
                                 NOTIFICATION_MAX_BYTES);
        r = load(text, len, "the message", &outer, err);
        if (r < 0)
                return r;
        inner = json_object_get(outer, "oslo.message");
        if (!inner) {
                *ret = TAKE_PTR(outer);
                return 0;
        }
        if (!json_is_string(inner))
                return error_set(err, EBADMSG, "the message's oslo.message is no string");
        return load(json_string_value(inner), json_string_length(inner), "the oslo.message", ret,
                    err);
}

static int take_type(const json_t *inner, Notification *notification, Error *err)
{
        const json_t *type = json_object_get(inner, "event_type");

        if (!json_is_string(type) || json_string_length(type) == 0)
                return error_set(err, EBADMSG,
                                 "the message has no event_type: it is no "
                                 "notification");
        notification->type =
                str_visible(json_string_value(type), json_string_length(type), TYPE_MAX);
        for (size_t at = 0; at < ELEMENTSOF(kinds); at++) {
                if (strcmp(notification->type, kinds[at].type) == 0) {
                        notification->kind = kinds[at].kind;
                        return 0;
                }
        }
        return NOTIFICATION_OTHER;
}

static bool is_server_id(const char *text)
{
        size_t len = strlen(text);

        for (const char *at = text; *at; at++) {
                if ((unsigned char)*at >= 0x80 || (!isalnum((unsigned char)*at) && *at != '-'))
                        return false;
        }
        return len > 0 && len <= SERVER_ID_MAX;
}

static int take_payload(const json_t *inner, Notification *notification, Error *err)
{
        const json_t *payload = json_object_get(inner, "payload");

        if (!json_is_object(payload))
                return error_set(err, EBADMSG, "%s has no payload", notification->type);
        notification->server = take_member(payload, "instance_id");
        if (!notification->server || !is_server_id(notification->server))
                return error_set(err, EBADMSG, "%s has no instance_id", notification->type);
        notification->name = take_member(payload, "display_name");
        notification->hostname = take_member(payload, "hostname");
        notification->vmhost = take_member(payload, "host");
        notification->project = take_member(inner, "_context_project_name");
        notification->vcpus = take_number(payload, "vcpus");
        notification->memory_mb = take_number(payload, "memory_mb");
        take_pairs(json_object_get(payload, "metadata"), &notification->metadata);
        take_pairs(json_object_get(payload, "image_meta"), &notification->image);
        take_addresses(json_object_get(payload, "fixed_ips"), notification);
        return 0;
}

int notification_decode(const char *text, size_t len, Notification *ret, Error *err)
{
        _cleanup_json_ json_t *inner = NULL;
        Notification notification = {0};
        int r = open_envelope(text, len, &inner, err);

        if (r < 0)
                return r;
        r = take_type(inner, &notification, err);
        if (r == 0)
                r = take_payload(inner, &notification, err);
        if (r < 0) {
                notification_done(&notification);
                return r;
        }
        *ret = notification;
        return r;
}

// ---- encoding -----------------------------------------------------------------------------

// json_object_set_new takes the value also when it fails, which it does for NULL.
static void put(json_t *object, const char *key, const char *text)
{
        (void)json_object_set_new(object, key, text ? json_string(text) : json_null());
}

static json_t *pairs_json(const NotificationPairs *pairs)
{
        json_t *object = json_object();

        for (size_t at = 0; at < pairs->n; at++)
                put(object, pairs->items[at].key, pairs->items[at].value);
        return object;
}

static json_t *addresses_json(const Notification *notification)
{
        json_t *list = json_array();

        for (size_t at = 0; at < notification->n_addresses; at++) {
                const NotificationAddress *address = &notification->addresses[at];
                json_t *item = json_object();

                put(item, "address", address->address);
                put(item, "vif_mac", address->mac);
                put(item, "label", address->label);
                (void)json_array_append_new(list, item);
        }
        return list;
}

static json_t *payload_json(const Notification *notification)
{
        json_t *payload = json_object();

        put(payload, "instance_id", notification->server);
        put(payload, "display_name", notification->name);
        put(payload, "hostname", notification->hostname);
        put(payload, "host", notification->vmhost);
        (void)json_object_set_new(payload, "vcpus", json_integer(notification->vcpus));
        (void)json_object_set_new(payload, "memory_mb", json_integer(notification->memory_mb));
        (void)json_object_set_new(payload, "metadata", pairs_json(&notification->metadata));
        (void)json_object_set_new(payload, "image_meta", pairs_json(&notification->image));
        (void)json_object_set_new(payload, "fixed_ips", addresses_json(notification));
        return payload;
}

char *notification_encode(const Notification *notification)
{
        _cleanup_json_ json_t *inner = json_object(), *outer = json_object();
        _cleanup_free_ char *inner_text = NULL;

        put(inner, "event_type", notification->type);
        put(inner, "_context_project_name", notification->project);
        (void)json_object_set_new(inner, "payload", payload_json(notification));
        inner_text = json_dumps(inner, JSON_COMPACT);
        put(outer, "oslo.version", "2.0");
        put(outer, "oslo.message", inner_text);
        return json_dumps(outer, JSON_COMPACT);
}
