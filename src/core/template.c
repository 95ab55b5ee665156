#include "core/template.h"

#include <errno.h>
#include <string.h>

#include <jansson.h>

#include "core/hcl_variables.h"
#include "core/template_json.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/fs.h"
#include "util/strutil.h"

#define TEMPLATE_MAX_BYTES (1024U * 1024)
#define RESULT_MAX_BYTES (4U * 1024 * 1024)
#define METADATA_VALUE_MAX_BYTES 255
#define VISIBLE_MAX 80
#define HCL2_SUFFIX ".pkr.hcl"
#define JSON_SUFFIX ".json"

// Values come from profiles, and from the map of source images.
static int check_value(const char *name, const char *value, Error *err)
{
        const char *what = NULL;
        size_t len = strlen(value);
        _cleanup_free_ char *shown = NULL;

        // A brace at an end could make "{{" with one that the template has there.
        if (strstr(value, "{{") || value[0] == '{' || (len > 0 && value[len - 1] == '{'))
                what = "holds \"{{\" or a brace at its end, which Packer would interpret";
        else if (str_has_control(value, len))
                what = "has control characters";
        else if (!str_is_utf8(value, len))
                what = "is not valid UTF-8";
        if (!what)
                return 0;
        shown = str_visible(value, len, VISIBLE_MAX);
        return error_set(err, EBADMSG, "the value of %s %s: \"%s\"", name, what, shown);
}

static int add_metadata(json_t *metadata, const char *key, const char *value, Error *err)
{
        int r;

        if (!value)
                return 0;
        if (strlen(value) > METADATA_VALUE_MAX_BYTES)
                return error_set(err, EBADMSG, "the value of %s is longer than %d bytes", key,
                                 METADATA_VALUE_MAX_BYTES);
        r = check_value(key, value, err);
        if (r < 0)
                return r;
        if (json_object_set_new(metadata, key, json_string(value)) < 0)
                return error_set(err, ENOMEM, "no memory for the metadata");
        return 0;
}

// The operating system as Aquilon calls it: the broker's own names, else those that sites derive
// from them.
static void aquilon_os(const Identity *identity, char **ret_os, char **ret_version)
{
        const char *arch = identity->os_arch;

        *ret_version = NULL;
        if (identity->broker_os && identity->broker_os_version) {
                *ret_os = xstrdup(identity->broker_os);
                *ret_version = xstrdup(identity->broker_os_version);
                return;
        }
        *ret_os = xstrdup(identity->os_name);
        if (identity->os_version)
                *ret_version = xasprintf("%s%s%s", identity->os_version, arch ? "-" : "",
                                         arch ? arch : "");
}

static int fill_metadata(const TemplateValues *values, json_t *metadata, Error *err)
{
        const Identity *identity = values->identity;
        _cleanup_free_ char *os = NULL, *os_version = NULL;

        aquilon_os(identity, &os, &os_version);
        const struct {
                const char *key, *value;
        } members[] = {
                {"AQ_PERSONALITY", identity->personality},
                {"AQ_OS", os},
                {"AQ_OSVERSION", os_version},
                {"AQ_ARCHETYPE", identity->archetype},
                {"AQ_DOMAIN", identity->domain},
                {"AQ_SANDBOX", identity->sandbox},
                {"PACKUILON_BUILD_ID", values->build_id},
        };

        for (size_t at = 0; at < ELEMENTSOF(members); at++) {
                int r = add_metadata(metadata, members[at].key, members[at].value, err);

                if (r < 0)
                        return r;
        }
        return 0;
}

// The var-file: Packer refuses variables that the template does not declare.
static int render_vars(const Buf *text, const TemplateTokens *tokens, Buf *out, Error *err)
{
        _cleanup_strv_ char **declared = hcl_declared_variables(buf_str(text), text->len);
        json_auto_t *vars = json_object();

        STRV_FOREACH (name, declared) {
                if (strcmp(*name, "metadata") == 0)
                        (void)json_object_set(vars, *name, tokens->metadata);
                for (size_t at = 0; at < tokens->n_items; at++) {
                        const TemplateToken *token = &tokens->items[at];

                        if (strcmp(*name, token->variable) == 0)
                                (void)json_object_set_new(vars, *name, json_string(token->value));
                }
        }
        return template_json_write(vars, out, err);
}

static int render(const char *path, const TemplateTokens *tokens, RenderedTemplate *rendered,
                  Error *err)
{
        _cleanup_buf_ Buf text = BUF_INIT(TEMPLATE_MAX_BYTES), out = BUF_INIT(RESULT_MAX_BYTES);
        int r = fs_read_file(path, &text, err);

        if (r < 0)
                return r;
        if (!str_ends_with(path, HCL2_SUFFIX)) {
                r = template_json_render(path, buf_str(&text), text.len, tokens, &out, err);
                if (r < 0)
                        return r;
                rendered->kind = TEMPLATE_JSON;
                rendered->text = buf_take(&out, &rendered->text_len);
                return 0;
        }
        r = render_vars(&text, tokens, &out, err);
        if (r < 0)
                return r;
        rendered->kind = TEMPLATE_HCL2;
        rendered->vars = buf_take(&out, &rendered->vars_len);
        rendered->text = buf_take(&text, &rendered->text_len);
        return 0;
}

static const char *or_empty(const char *value)
{
        return value ? value : "";
}

int template_render(const char *path, const TemplateValues *values, RenderedTemplate *ret,
                    Error *err)
{
        const Identity *identity = values->identity;
        const TemplateToken items[] = {
                {"NAME", "name", values->name},
                {"IMAGE", "image", values->image},
                {"PERSONALITY", "personality", or_empty(identity->personality)},
                {"OS", "os", or_empty(values->os)},
                {"ARCHETYPE", "archetype", or_empty(identity->archetype)},
                {"DOMAIN", "domain", or_empty(identity->domain)},
                {"SANDBOX", "sandbox", or_empty(identity->sandbox)},
                {"HOSTNAME", "hostname", or_empty(identity->hostname)},
                {"BUILD_ID", "build_id", or_empty(values->build_id)},
        };
        json_auto_t *metadata = json_object();
        TemplateTokens tokens = {items, ELEMENTSOF(items), metadata};
        RenderedTemplate rendered = {0};
        int r;

        for (size_t at = 0; at < ELEMENTSOF(items); at++) {
                r = check_value(items[at].name, items[at].value, err);
                if (r < 0)
                        return r;
        }
        r = fill_metadata(values, metadata, err);
        if (r < 0)
                return r;
        r = render(path, &tokens, &rendered, err);
        if (r < 0)
                return r;
        *ret = rendered;
        return 0;
}

void rendered_template_done(RenderedTemplate *rendered)
{
        free(rendered->text);
        free(rendered->vars);
        *rendered = (RenderedTemplate){0};
}

char *template_name(const char *path)
{
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        size_t len = strlen(name);

        if (str_ends_with(name, HCL2_SUFFIX))
                len -= strlen(HCL2_SUFFIX);
        else if (str_ends_with(name, JSON_SUFFIX))
                len -= strlen(JSON_SUFFIX);
        return xstrndup(name, len);
}
