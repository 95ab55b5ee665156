#include "cloud/keystone.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "net/http.h"
#include "util/alloc.h"
#include "util/strutil.h"

#define WORDS_MAX 200
#define MS_PER_SECOND 1000

DEFINE_CLEANUP(json_t, json_decref)
#define _cleanup_json_ _cleanup_(json_decref_p)

// The value of the first variable that is set and not empty.
static const char *first_of(const AuthEnv *env, const char *name, const char *other)
{
        const char *value = auth_env_get(env, name);

        if ((!value || !*value) && other)
                value = auth_env_get(env, other);
        return value && *value ? value : NULL;
}

static int need(const AuthEnv *env, const char *name, const char *other, const char **ret,
                Error *err)
{
        *ret = first_of(env, name, other);
        return *ret ? 0 : error_set(err, EINVAL, "the auth file does not set %s", name);
}

int keystone_token_url(const AuthEnv *env, char **ret, Error *err)
{
        _cleanup_free_ char *base = NULL;
        const char *given;
        int r;

        r = need(env, "OS_AUTH_URL", NULL, &given, err);
        if (r == 0)
                r = http_check_url(given, err);
        if (r < 0)
                return r;
        base = xstrdup(given);
        for (size_t len = strlen(base); len > 0 && base[len - 1] == '/'; len--)
                base[len - 1] = '\0';
        *ret = xasprintf("%s%s/auth/tokens", base, str_ends_with(base, "/v3") ? "" : "/v3");
        return 0;
}

// ---- the request --------------------------------------------------------------------------

// {"name": …} or {"id": …}, whichever is set.
static json_t *reference(const char *id, const char *name, json_t *domain)
{
        json_t *object = json_object();

        if (id) {
                (void)json_object_set_new(object, "id", json_string(id));
                json_decref(domain);
                return object;
        }
        (void)json_object_set_new(object, "name", json_string(name));
        if (domain)
                (void)json_object_set_new(object, "domain", domain);
        return object;
}

static json_t *domain_of(const AuthEnv *env, const char *id_name, const char *name_name)
{
        const char *id = first_of(env, id_name, "OS_DEFAULT_DOMAIN_ID");
        const char *name = first_of(env, name_name, "OS_DEFAULT_DOMAIN_NAME");

        return reference(id || name ? id : "default", name, NULL);
}

static json_t *user_of(const AuthEnv *env)
{
        const char *id = first_of(env, "OS_USER_ID", NULL);

        return reference(id, first_of(env, "OS_USERNAME", NULL),
                         id ? NULL : domain_of(env, "OS_USER_DOMAIN_ID", "OS_USER_DOMAIN_NAME"));
}

static int project_scope(const AuthEnv *env, json_t **ret, Error *err)
{
        const char *id = first_of(env, "OS_PROJECT_ID", "OS_TENANT_ID");
        const char *name = first_of(env, "OS_PROJECT_NAME", "OS_TENANT_NAME"), *ignored;
        int r = id ? 0 : need(env, "OS_PROJECT_NAME", "OS_TENANT_NAME", &ignored, err);

        if (r < 0)
                return r;
        *ret = json_pack(
                "{s:o}", "project",
                reference(id, name,
                          id ? NULL
                             : domain_of(env, "OS_PROJECT_DOMAIN_ID", "OS_PROJECT_DOMAIN_NAME")));
        return 0;
}

static int password_request(const AuthEnv *env, bool scoped, json_t **ret, Error *err)
{
        const char *password, *ignored;
        json_t *user, *scope;
        int r = need(env, "OS_PASSWORD", NULL, &password, err);

        if (r == 0)
                r = need(env, "OS_USERNAME", "OS_USER_ID", &ignored, err);
        if (r < 0)
                return r;
        if (scoped)
                r = project_scope(env, &scope, err);
        else
                scope = json_string("unscoped");
        if (r < 0)
                return r;
        user = user_of(env);
        (void)json_object_set_new(user, "password", json_string(password));
        *ret = json_pack("{s:{s:{s:[s], s:{s:o}}, s:o}}", "auth", "identity", "methods", "password",
                         "password", "user", user, "scope", scope);
        return *ret ? 0 : error_set(err, EINVAL, "the auth file's values are not UTF-8");
}

// Which may name no scope: it is that of the credential.
static int credential_request(const AuthEnv *env, json_t **ret, Error *err)
{
        const char *id = first_of(env, "OS_APPLICATION_CREDENTIAL_ID", NULL);
        const char *name = first_of(env, "OS_APPLICATION_CREDENTIAL_NAME", NULL);
        const char *secret;
        json_t *credential;
        int r = need(env, "OS_APPLICATION_CREDENTIAL_SECRET", NULL, &secret, err);

        if (r < 0)
                return r;
        if (!id && !name)
                return error_set(err, EINVAL,
                                 "the auth file does not set OS_APPLICATION_CREDENTIAL_ID");
        credential = reference(id, name, NULL);
        if (!id)
                (void)json_object_set_new(credential, "user", user_of(env));
        (void)json_object_set_new(credential, "secret", json_string(secret));
        *ret = json_pack("{s:{s:{s:[s], s:o}}}", "auth", "identity", "methods",
                         "application_credential", "application_credential", credential);
        return *ret ? 0 : error_set(err, EINVAL, "the auth file's values are not UTF-8");
}

static int by_credential(const AuthEnv *env, bool *ret, Error *err)
{
        const char *type = first_of(env, "OS_AUTH_TYPE", NULL);

        *ret = first_of(env, "OS_APPLICATION_CREDENTIAL_ID", "OS_APPLICATION_CREDENTIAL_NAME") !=
               NULL;
        if (type && strcmp(type, "v3applicationcredential") == 0)
                *ret = true;
        else if (type && strcmp(type, "password") != 0 && strcmp(type, "v3password") != 0)
                return error_set(err, ENOTSUP,
                                 "the auth file's OS_AUTH_TYPE is neither password nor "
                                 "v3applicationcredential");
        return 0;
}

static int write_request(const json_t *document, char **ret, Error *err)
{
        *ret = json_dumps(document, JSON_COMPACT);
        return *ret ? 0 : error_set(err, ENOMEM, "out of memory");
}

int keystone_token_request(const AuthEnv *env, char **ret, Error *err)
{
        _cleanup_json_ json_t *document = NULL;
        bool with_credential;
        int r = by_credential(env, &with_credential, err);

        if (r < 0)
                return r;
        r = with_credential ? credential_request(env, &document, err)
                            : password_request(env, true, &document, err);
        return r < 0 ? r : write_request(document, ret, err);
}

int keystone_unscoped_request(const AuthEnv *env, char **ret, Error *err)
{
        _cleanup_json_ json_t *document = NULL;
        bool with_credential;
        int r = by_credential(env, &with_credential, err);

        if (r < 0)
                return r;
        *ret = NULL;
        if (with_credential)
                return 0;
        r = password_request(env, false, &document, err);
        return r < 0 ? r : write_request(document, ret, err);
}

// ---- the answer ---------------------------------------------------------------------------

// "2026-11-23T08:29:26.000000Z"
static int64_t parse_time(const char *text)
{
        struct tm parts = {0};

        if (!text || !strptime(text, "%Y-%m-%dT%H:%M:%S", &parts))
                return 0;
        return (int64_t)timegm(&parts) * MS_PER_SECOND;
}

static bool is_text(const json_t *value, const char *text)
{
        return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

static const char *endpoint_url(const json_t *service, const char *interface, const char *region)
{
        json_t *endpoint;
        size_t at;

        json_array_foreach(json_object_get(service, "endpoints"), at, endpoint)
        {
                if (is_text(json_object_get(endpoint, "interface"), interface) &&
                    (!region || is_text(json_object_get(endpoint, "region_id"), region) ||
                     is_text(json_object_get(endpoint, "region"), region)))
                        return json_string_value(json_object_get(endpoint, "url"));
        }
        return NULL;
}

static const char *service_url(const json_t *token, const char *type, const char *interface,
                               const char *region)
{
        const char *url = NULL;
        json_t *service;
        size_t at;

        json_array_foreach(json_object_get(token, "catalog"), at, service)
        {
                if (!url && is_text(json_object_get(service, "type"), type))
                        url = endpoint_url(service, interface, region);
        }
        return url;
}

// "publicURL" is how the oldest files write it.
static char *interface_of(const AuthEnv *env)
{
        const char *given = first_of(env, "OS_INTERFACE", "OS_ENDPOINT_TYPE");
        size_t len = given ? strlen(given) : 0;

        if (!given)
                return xstrdup("public");
        return xstrndup(given, str_ends_with(given, "URL") ? len - 3 : len);
}

int keystone_read_grant(const char *text, size_t len, KeystoneGrant *ret, Error *err)
{
        _cleanup_json_ json_t *document = json_loadb(text, len, 0, NULL);
        json_t *token = json_object_get(document, "token");

        if (!json_is_object(token))
                return error_set(err, EBADMSG, "Keystone's answer is no token");
        *ret = (KeystoneGrant){
                .expires_ms = parse_time(json_string_value(json_object_get(token, "expires_at"))),
                .token = json_incref(token)};
        return 0;
}

void keystone_grant_done(KeystoneGrant *grant)
{
        json_decref(TAKE_PTR(grant->token));
        grant->expires_ms = 0;
}

int keystone_service_url(const KeystoneGrant *grant, const AuthEnv *env, const char *type,
                         char **ret, Error *err)
{
        _cleanup_free_ char *interface = interface_of(env);
        const char *region = first_of(env, "OS_REGION_NAME", NULL);
        const char *url = service_url(grant->token, type, interface, region);
        size_t len;

        if (!url || http_check_url(url, NULL) < 0)
                return error_set(err, ENOENT,
                                 "Keystone's catalog has no %s service (interface %s%s%s)", type,
                                 interface, region ? ", region " : "", region ? region : "");
        for (len = strlen(url); len > 0 && url[len - 1] == '/'; len--)
                ;
        *ret = xstrndup(url, len);
        return 0;
}

static const char *name_in(const KeystoneGrant *grant, const char *what)
{
        return json_string_value(json_object_get(json_object_get(grant->token, what), "name"));
}

const char *keystone_user(const KeystoneGrant *grant)
{
        return name_in(grant, "user");
}

const char *keystone_project(const KeystoneGrant *grant)
{
        return name_in(grant, "project");
}

char *keystone_words(const char *text, size_t len)
{
        _cleanup_json_ json_t *document = json_loadb(text, len, 0, NULL);
        const json_t *message = json_object_get(json_object_get(document, "error"), "message");
        const char *words = json_string_value(message);

        return str_visible(words ? words : "", json_string_length(message), WORDS_MAX);
}
