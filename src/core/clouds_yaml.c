#include "core/clouds_yaml.h"

#include <errno.h>
#include <string.h>
#include <yaml.h>

#include "util/alloc.h"
#include "util/buf.h"
#include "util/fs.h"
#include "util/strutil.h"

#define FILE_MAX ((size_t)1024 * 1024)
#define SHOWN_MAX 80

// Keys of a cloud, and of its "auth".
static const struct {
        const char *key, *variable;
} cloud_keys[] =
        {
                {"region_name", "OS_REGION_NAME"},
                {"interface", "OS_INTERFACE"},
                {"cacert", "OS_CACERT"},
                {"auth_type", "OS_AUTH_TYPE"},
},
  auth_keys[] = {
          {"auth_url", "OS_AUTH_URL"},
          {"username", "OS_USERNAME"},
          {"user_id", "OS_USER_ID"},
          {"password", "OS_PASSWORD"},
          {"project_name", "OS_PROJECT_NAME"},
          {"project_id", "OS_PROJECT_ID"},
          {"user_domain_name", "OS_USER_DOMAIN_NAME"},
          {"user_domain_id", "OS_USER_DOMAIN_ID"},
          {"project_domain_name", "OS_PROJECT_DOMAIN_NAME"},
          {"project_domain_id", "OS_PROJECT_DOMAIN_ID"},
          {"application_credential_id", "OS_APPLICATION_CREDENTIAL_ID"},
          {"application_credential_name", "OS_APPLICATION_CREDENTIAL_NAME"},
          {"application_credential_secret", "OS_APPLICATION_CREDENTIAL_SECRET"},
};

// ---- the document -------------------------------------------------------------------------

static const char *scalar(const yaml_node_t *node)
{
        if (!node || node->type != YAML_SCALAR_NODE)
                return NULL;
        return (const char *)node->data.scalar.value;
}

static yaml_node_t *member(yaml_document_t *document, const yaml_node_t *node, const char *key)
{
        if (!node || node->type != YAML_MAPPING_NODE)
                return NULL;
        for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
             pair < node->data.mapping.pairs.top; pair++) {
                const char *name = scalar(yaml_document_get_node(document, pair->key));

                if (name && strcmp(name, key) == 0)
                        return yaml_document_get_node(document, pair->value);
        }
        return NULL;
}

static void add(AuthEnv *env, const char *variable, const char *value)
{
        if (!value || !*value || auth_env_get(env, variable))
                return;
        auth_env_set(env, variable, value);
}

static int take_cloud(yaml_document_t *document, const char *path, const char *cloud, AuthEnv *env,
                      Error *err)
{
        const yaml_node_t *clouds =
                member(document, yaml_document_get_root_node(document), "clouds");
        const yaml_node_t *node = member(document, clouds, cloud), *auth;
        _cleanup_free_ char *shown = NULL;

        if (!node) {
                shown = str_visible(cloud, strlen(cloud), SHOWN_MAX);
                return error_set(err, ENOENT, "%s has no cloud \"%s\" (OS_CLOUD)", path, shown);
        }
        auth = member(document, node, "auth");
        for (size_t at = 0; at < ELEMENTSOF(auth_keys); at++)
                add(env, auth_keys[at].variable, scalar(member(document, auth, auth_keys[at].key)));
        for (size_t at = 0; at < ELEMENTSOF(cloud_keys); at++)
                add(env, cloud_keys[at].variable,
                    scalar(member(document, node, cloud_keys[at].key)));
        return 0;
}

static int parse(const char *path, const Buf *text, const char *cloud, AuthEnv *env, Error *err)
{
        yaml_parser_t parser;
        yaml_document_t document;
        int r;

        if (!yaml_parser_initialize(&parser))
                return error_set(err, ENOMEM, "%s: out of memory", path);
        yaml_parser_set_input_string(&parser, (const unsigned char *)buf_str(text), text->len);
        if (!yaml_parser_load(&parser, &document)) {
                // libyaml's words quote nothing of the text.
                r = error_set(err, EBADMSG, "%s:%zu: %s", path, parser.problem_mark.line + 1,
                              parser.problem ? parser.problem : "is not YAML");
                yaml_parser_delete(&parser);
                return r;
        }
        r = take_cloud(&document, path, cloud, env, err);
        yaml_document_delete(&document);
        yaml_parser_delete(&parser);
        return r;
}

int clouds_yaml_read(const char *path, const char *cloud, AuthEnv *env, Error *err)
{
        _cleanup_buf_ Buf text = BUF_INIT(FILE_MAX);
        int r = fs_read_file(path, &text, err);

        if (r < 0)
                return r;
        r = parse(path, &text, cloud, env, err);
        if (text.data)
                explicit_bzero(text.data, text.len);
        return r;
}

// ---- which files --------------------------------------------------------------------------

// The caller frees.
static char *find_clouds(const AuthEnv *env)
{
        const char *given = auth_env_get(env, "OS_CLIENT_CONFIG_FILE"), *home = getenv("HOME");
        _cleanup_free_ char *own = fs_join(home ? home : "/", ".config/openstack/clouds.yaml");

        if (given)
                return xstrdup(given);
        return access(own, R_OK) == 0 ? TAKE_PTR(own) : xstrdup("/etc/openstack/clouds.yaml");
}

int clouds_yaml_apply(AuthEnv *env, Error *err)
{
        const char *cloud = auth_env_get(env, "OS_CLOUD");
        _cleanup_free_ char *clouds = NULL, *folder = NULL, *secure = NULL;
        Error why = ERROR_NONE;
        int r;

        if (!cloud || !*cloud || auth_env_get(env, "OS_AUTH_URL"))
                return 0;
        clouds = find_clouds(env);
        folder = fs_folder_of(clouds);
        secure = fs_join(folder, "secure.yaml");
        r = clouds_yaml_read(clouds, cloud, env, err);
        if (r < 0)
                return r;
        r = clouds_yaml_read(secure, cloud, env, &why);
        if (r == -ENOENT) // no such file, or it is there for other clouds
                return 0;
        if (r < 0)
                *err = why;
        return r;
}
