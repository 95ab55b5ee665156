// A value, a NUL byte, a template. The template is rendered with a harmless value and with that
// one: the two results may differ in texts, never in structure.
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/hcl_variables.h"
#include "core/template_json.h"
#include "util/strutil.h"

#define RESULT_MAX_BYTES (1024U * 1024)

static void must(int ok)
{
        if (!ok)
                abort();
}

static json_t *render(const char *text, size_t len, const char *value)
{
        const TemplateToken items[] = {{"NAME", "name", value}, {"OS", "os", ""}};
        json_auto_t *metadata = json_pack("{s:s}", "AQ_OS", value);
        TemplateTokens tokens = {items, 2, metadata};
        _cleanup_buf_ Buf out = BUF_INIT(RESULT_MAX_BYTES);
        Error err = ERROR_NONE;
        json_t *result;
        int r = template_json_render("fuzz.json", text, len, &tokens, &out, &err);

        must(r == 0 || (r < 0 && err.code == -r && strstr(err.text, "fuzz.json")));
        if (r < 0)
                return NULL;
        result = json_loadb(buf_str(&out), out.len, JSON_REJECT_DUPLICATES, NULL);
        must(json_is_object(result));
        return result;
}

// Names may hold tokens and fall together: members are compared where both have them.
static void compare_shape(json_t *a, json_t *b)
{
        const char *key;
        size_t index;
        json_t *value;

        must(json_typeof(a) == json_typeof(b));
        must(!json_is_array(a) || json_array_size(a) == json_array_size(b));
        json_array_foreach(a, index, value) compare_shape(value, json_array_get(b, index));
        json_object_foreach(a, key, value)
        {
                // A name with a token in it may have met another one.
                if (json_object_get(b, key) && json_object_size(a) == json_object_size(b))
                        compare_shape(value, json_object_get(b, key));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *value = (const char *)data, *text;
        const char *nul = size ? memchr(value, '\0', size) : NULL;
        json_auto_t *plain = NULL, *hostile = NULL;
        size_t len;

        if (!nul || !str_is_utf8(value, (size_t)(nul - value)))
                return 0;
        text = nul + 1;
        len = size - (size_t)(text - value);
        strv_free(hcl_declared_variables(text, len));
        plain = render(text, len, "x");
        hostile = render(text, len, value);
        // A value can be refused where "x" is not; nothing is refused for "x" alone.
        must(plain || !hostile);
        if (plain && hostile)
                compare_shape(plain, hostile);
        return 0;
}
