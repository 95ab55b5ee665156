#include "builder/failure.h"

#include <ctype.h>
#include <string.h>

#include "util/alloc.h"
#include "util/macro.h"

#define SIGNATURE_MAX 200

typedef struct FailurePolicy {
        const char *name;
        int64_t max_attempts; // 0: as MAX_ATTEMPTS says
        int64_t delay_factor; // of RETRY_SECONDS
} FailurePolicy;

static const FailurePolicy policies[N_FAILURE_CLASSES] = {
        [FAILURE_TEMPLATE] = {"template", 1, 1},
        [FAILURE_MISSING] = {"missing", 1, 1},
        [FAILURE_PROVISION] = {"provision", 1, 1},
        // The worker stops taking builds instead; an attempt is not spent on it.
        [FAILURE_AUTH] = {"authentication", 0, 1},
        [FAILURE_QUOTA] = {"quota", 0, 5},
        [FAILURE_CAPACITY] = {"capacity", 0, 2},
        [FAILURE_API] = {"api", 0, 1},
        [FAILURE_CONNECT] = {"connect", 2, 1},
        [FAILURE_TIMEOUT] = {"timeout", 2, 1},
        [FAILURE_REGISTRATION] = {"registration", 2, 2},
        [FAILURE_OTHER] = {"other", 2, 1},
};

// The first that is found decides: what Packer itself says comes before what it quotes.
static const struct {
        const char *words;
        FailureClass class;
} signs[] = {
        // Ours, and it quotes what others say.
        {"the registration with Aquilon", FAILURE_REGISTRATION},
        {"Failed to parse template", FAILURE_TEMPLATE},
        {"Failed to initialize", FAILURE_TEMPLATE},
        {"Error initializing core", FAILURE_TEMPLATE},
        {"Template validation failed", FAILURE_TEMPLATE},
        {"nknown builder", FAILURE_TEMPLATE},
        {"Script exited with non-zero exit status", FAILURE_PROVISION},
        {"Error executing Ansible", FAILURE_PROVISION},
        {"BUILD_TIMEOUT", FAILURE_TIMEOUT},
        {"Timeout waiting for SSH", FAILURE_CONNECT},
        {"Timeout waiting for WinRM", FAILURE_CONNECT},
        {"ssh: handshake failed", FAILURE_CONNECT},
        {"Script disconnected unexpectedly", FAILURE_CONNECT},
        {"Quota exceeded", FAILURE_QUOTA},
        {"OverQuota", FAILURE_QUOTA},
        {"over limit", FAILURE_QUOTA},
        {"No valid host", FAILURE_CAPACITY},
        {"unexpected state 'ERROR'", FAILURE_CAPACITY},
        {"Authentication failed", FAILURE_AUTH},
        {"requires authentication", FAILURE_AUTH},
        {"Missing input for argument [auth_url]", FAILURE_AUTH},
        {"\"code\": 401", FAILURE_AUTH},
        {"dial tcp", FAILURE_API},
        {"connection refused", FAILURE_API},
        {"connection reset", FAILURE_API},
        {"i/o timeout", FAILURE_API},
        {"handshake timeout", FAILURE_API},
        {"Service Unavailable", FAILURE_API},
        {"Internal Server Error", FAILURE_API},
        {"Bad Gateway", FAILURE_API},
        {"Gateway Time", FAILURE_API},
        {"Too Many Requests", FAILURE_API},
        {"\"code\": 500", FAILURE_API},
        {"\"code\": 502", FAILURE_API},
        {"\"code\": 503", FAILURE_API},
        {"\"code\": 504", FAILURE_API},
        {"an not find requested image", FAILURE_MISSING},
        {"Unable to find", FAILURE_MISSING},
        {"could not be found", FAILURE_MISSING},
        {"No image was found", FAILURE_MISSING},
        {"\"code\": 400", FAILURE_MISSING},
        {"\"code\": 404", FAILURE_MISSING},
};

FailureClass failure_classify(const char *text)
{
        if (!text)
                return FAILURE_OTHER;
        for (size_t at = 0; at < ELEMENTSOF(signs); at++) {
                if (strstr(text, signs[at].words))
                        return signs[at].class;
        }
        return FAILURE_OTHER;
}

const char *failure_class_name(FailureClass class)
{
        return policies[class].name;
}

bool failure_may_retry(FailureClass class, int64_t attempt, const BuildConfig *config)
{
        int64_t max = config->max_attempts;

        if (policies[class].max_attempts)
                max = MIN(max, policies[class].max_attempts);
        return attempt < max;
}

int64_t failure_retry_delay_ms(FailureClass class, int64_t attempt, const BuildConfig *config,
                               uint32_t random)
{
        const int64_t longest = (int64_t)FAILURE_MAX_DELAY_SECONDS * 1000;
        int64_t delay = MIN(config->retry_seconds, FAILURE_MAX_DELAY_SECONDS) * 1000 *
                        policies[class].delay_factor;

        for (int64_t at = 1; at < attempt && delay < longest; at++)
                delay *= 2;
        delay = MIN(delay, longest);
        return delay / 2 + (int64_t)((uint64_t)delay * random >> 32);
}

// Letters that hexadecimal numbers have count as part of one only beside a digit or a dash, so
// that words stay.
static size_t number_len(const char *text)
{
        size_t len = strspn(text, "0123456789abcdef-");
        bool has_digit = strcspn(text, "0123456789") < len;

        return has_digit && !isalpha((unsigned char)text[len]) ? len : 0;
}

char *failure_signature(FailureClass class, const char *text)
{
        char *signature = xcalloc(1, SIGNATURE_MAX + 1);
        size_t len = strlen(policies[class].name);

        memcpy(signature, policies[class].name, len);
        signature[len++] = ' ';
        while (*text && len < SIGNATURE_MAX) {
                size_t number = number_len(text);

                signature[len++] = number ? '#' : *text;
                text += number ? number : 1;
        }
        return signature;
}
