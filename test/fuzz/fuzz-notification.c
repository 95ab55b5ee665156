#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "aquilon/request.h"
#include "util/macro.h"
#include "util/strutil.h"

static void check_pairs(const NotificationPairs *pairs)
{
        for (size_t at = 0; at < pairs->n; at++) {
                const char *value = pairs->items[at].value;

                if (value && (strlen(value) > 255 || str_has_control(value, strlen(value))))
                        abort();
        }
}

// What is encoded means the same, and is encoded the same again.
static void check_round(const Notification *first)
{
        _cleanup_free_ char *once = notification_encode(first), *twice = NULL;
        _cleanup_(notification_done) Notification second = {0};

        if (notification_decode(once, strlen(once), &second, NULL) != 0)
                abort();
        twice = notification_encode(&second);
        if (strcmp(once, twice) != 0)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const AquilonConfig config = {.source = AQUILON_SOURCE_BOTH};
        _cleanup_(notification_done) Notification notification = {0};
        _cleanup_(request_done) AquilonRequest request = {0};
        Error err = ERROR_NONE;
        int r = notification_decode((const char *)data, size, &notification, &err);

        if (r < 0 && (err.code != -r || !*err.text || notification.type))
                abort();
        if (r != 0)
                return 0;
        if (!notification.server || !*notification.server || strchr(notification.server, '/'))
                abort();
        check_pairs(&notification.metadata);
        check_pairs(&notification.image);
        check_round(&notification);
        r = request_from_notification(&notification, &config, &request, &err);
        if (r == 0 && (!request.personality || !request.address ||
                       (request.domain != NULL) == (request.sandbox != NULL)))
                abort();
        return 0;
}
