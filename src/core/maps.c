#include "core/maps.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "core/template.h"
#include "util/alloc.h"
#include "util/buf.h"
#include "util/fs.h"
#include "util/strutil.h"

#define MAP_MAX_BYTES (1024U * 1024)
#define IMAGE_ID_MAX_BYTES 255
#define TEMPLATES_MAX 16 // of one image
#define VISIBLE_KEY_MAX 80
#define DEFAULT_ENTRY "DEFAULT"

typedef struct Map {
        const char *path;
        Buf text;
        json_t *root;
} Map;

#define MAP_INIT ((Map){.text = BUF_INIT(MAP_MAX_BYTES)})

static void map_done(Map *map)
{
        json_decref(map->root);
        buf_done(&map->text);
}

#define _cleanup_map_ _cleanup_(map_done)

static int map_load(const char *path, Map *map, Error *err)
{
        json_error_t why;
        int r = fs_read_file(path, &map->text, err);

        if (r < 0)
                return r;
        map->path = path;
        map->root = json_loadb(buf_str(&map->text), map->text.len, JSON_REJECT_DUPLICATES, &why);
        if (!map->root)
                return error_set(err, EINVAL, "%s: line %d, column %d: %s", path, why.line,
                                 why.column, why.text);
        if (!json_is_object(map->root))
                return error_set(err, EINVAL, "%s: line 1: the map must be a JSON object", path);
        return 0;
}

// The line on which `key` stands as a member's name, at or behind *from, which is moved on; 0 when
// it is written with escapes. jansson does not keep lines.
static size_t key_line(const Map *map, const char *key, const char **from)
{
        _cleanup_free_ char *quoted = xasprintf("\"%s\"", key);
        const char *text = buf_str(&map->text), *at = *from;
        size_t line = 1;

        while ((at = strstr(at, quoted))) {
                const char *behind = at + strlen(quoted);

                if (behind[strspn(behind, " \t\r\n")] != ':') {
                        at = behind;
                        continue;
                }
                for (const char *before = text; before < at; before++)
                        line += *before == '\n';
                *from = behind;
                return line;
        }
        return 0;
}

// "FILE: line L: "outer" / "inner": what"; inner may be NULL.
static int fail_entry(const Map *map, const char *outer, const char *inner, const char *what,
                      Error *err)
{
        const char *from = buf_str(&map->text);
        size_t line = key_line(map, outer, &from);
        _cleanup_free_ char *shown = str_visible(outer, strlen(outer), VISIBLE_KEY_MAX);
        _cleanup_free_ char *shown_inner =
                inner ? str_visible(inner, strlen(inner), VISIBLE_KEY_MAX) : NULL;
        _cleanup_free_ char *place = NULL;

        if (inner && line > 0) {
                size_t inner_line = key_line(map, inner, &from);

                line = MAX(line, inner_line);
        }
        place = line > 0 ? xasprintf("%s: line %zu", map->path, line) : xstrdup(map->path);
        if (inner)
                return error_set(err, EINVAL, "%s: \"%s\" / \"%s\": %s", place, shown, shown_inner,
                                 what);
        return error_set(err, EINVAL, "%s: \"%s\": %s", place, shown, what);
}

// An image ID and the names it was found by; `inner` is NULL in flat maps.
typedef struct SourceImage {
        const char *outer, *inner;
        const json_t *value;
} SourceImage;

static int check_image_id(const Map *map, const SourceImage *image, Error *err)
{
        size_t len = json_string_length(image->value);

        if (!json_is_string(image->value))
                return fail_entry(map, image->outer, image->inner, "the image ID is not a string",
                                  err);
        if (len == 0 || len > IMAGE_ID_MAX_BYTES ||
            str_has_control(json_string_value(image->value), len))
                return fail_entry(map, image->outer, image->inner,
                                  "the image ID is empty, over 255 bytes or has control characters",
                                  err);
        return 0;
}

// The entry whose name, or whose outer and inner names in one, are `key`; the flat form comes
// first.
static bool find_image(const Map *map, const char *key, SourceImage *ret)
{
        const char *outer;
        json_t *value;
        bool found = false;

        json_object_foreach(map->root, outer, value)
        {
                const char *inner = key + strlen(outer);

                if (!str_starts_with(key, outer))
                        continue;
                if (!json_is_object(value) && *inner == '\0') {
                        *ret = (SourceImage){.outer = outer, .value = value};
                        return true;
                }
                if (found || !json_object_get(value, inner))
                        continue;
                *ret = (SourceImage){outer, inner, json_object_get(value, inner)};
                found = true;
        }
        return found;
}

// {"sl": {"7x": "ID"}}: a nested map that does not tell architectures apart.
static bool find_image_of_any_arch(const Map *map, const Identity *identity, SourceImage *ret)
{
        const json_t *versions, *value;

        if (!identity->os_name || !identity->os_version)
                return false;
        versions = json_object_get(map->root, identity->os_name);
        value = json_object_get(versions, identity->os_version);
        if (!value)
                return false;
        *ret = (SourceImage){identity->os_name, identity->os_version, value};
        return true;
}

static int take_image(const Map *map, const SourceImage *image, char **ret_image_id, char **ret_os,
                      Error *err)
{
        int r = check_image_id(map, image, err);

        if (r < 0)
                return r;
        *ret_image_id = xstrdup(json_string_value(image->value));
        *ret_os = xasprintf("%s%s", image->outer, image->inner ? image->inner : "");
        return 0;
}

int source_images_lookup(const char *path, const Identity *identity, char **ret_image_id,
                         char **ret_os, Error *err)
{
        _cleanup_map_ Map map = MAP_INIT;
        _cleanup_strv_ char **keys = identity_os_keys(identity);
        SourceImage image;
        int r = map_load(path, &map, err);

        if (r < 0)
                return r;
        STRV_FOREACH (key, keys) {
                if (find_image(&map, *key, &image))
                        return take_image(&map, &image, ret_image_id, ret_os, err);
        }
        if (find_image_of_any_arch(&map, identity, &image))
                return take_image(&map, &image, ret_image_id, ret_os, err);
        return MAP_NOT_FOUND;
}

// Whom source_images_check tells.
typedef struct Visitor {
        const Map *map;
        SourceImageFn entry;
        void *userdata;
        size_t n;
} Visitor;

static int visit_image(Visitor *visitor, const SourceImage *image, Error *err)
{
        _cleanup_free_ char *image_id = NULL, *os = NULL;
        int r = take_image(visitor->map, image, &image_id, &os, err);

        if (r < 0)
                return r;
        visitor->n++;
        if (visitor->entry)
                visitor->entry(os, image_id, visitor->userdata);
        return 0;
}

static int visit_images(Visitor *visitor, Error *err)
{
        SourceImage image = {0};
        json_t *value, *nested;
        int r;

        json_object_foreach(visitor->map->root, image.outer, value)
        {
                image.value = value;
                image.inner = NULL;
                r = json_is_object(value) ? 0 : visit_image(visitor, &image, err);
                if (r < 0)
                        return r;
                json_object_foreach(value, image.inner, nested)
                {
                        image.value = nested;
                        r = visit_image(visitor, &image, err);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

int source_images_check(const char *path, SourceImageFn entry, void *userdata, size_t *ret_n,
                        Error *err)
{
        _cleanup_map_ Map map = MAP_INIT;
        Visitor visitor = {.map = &map, .entry = entry, .userdata = userdata};
        int r = map_load(path, &map, err);

        if (r == 0)
                r = visit_images(&visitor, err);
        if (r == 0)
                *ret_n = visitor.n;
        return r;
}

static char *resolve(const char *map_path, const char *template)
{
        const char *slash = strrchr(map_path, '/');
        _cleanup_free_ char *dir = NULL;

        if (template[0] == '/' || !slash)
                return xstrdup(template);
        dir = xstrndup(map_path, MAX((size_t)(slash - map_path), 1U));
        return fs_join(dir, template);
}

static int add_template(const Map *map, const char *entry, const json_t *value, char **paths,
                        Error *err)
{
        size_t len = json_string_length(value), at = 0;
        _cleanup_free_ char *path = NULL, *name = NULL;

        if (!json_is_string(value))
                return fail_entry(map, entry, NULL, "a template is not a string", err);
        if (len == 0 || len >= PATH_MAX || str_has_control(json_string_value(value), len))
                return fail_entry(map, entry, NULL,
                                  "a template's path is empty, too long or has control characters",
                                  err);
        path = resolve(map->path, json_string_value(value));
        name = template_name(path);
        for (; paths[at]; at++) {
                _cleanup_free_ char *other = template_name(paths[at]);

                // Build files and logs are named after image and template.
                if (strcmp(name, other) == 0)
                        return fail_entry(map, entry, NULL, "two templates have the same file name",
                                          err);
        }
        paths[at] = TAKE_PTR(path);
        return 0;
}

static int take_templates(const Map *map, const char *entry, const json_t *value, char ***ret,
                          Error *err)
{
        _cleanup_strv_ char **paths = xcalloc(TEMPLATES_MAX + 1, sizeof *paths);
        size_t n = json_is_array(value) ? json_array_size(value) : 1;
        int r;

        if (n == 0)
                return fail_entry(map, entry, NULL, "the list of templates is empty", err);
        if (n > TEMPLATES_MAX)
                return fail_entry(map, entry, NULL, "more than 16 templates", err);
        for (size_t at = 0; at < n; at++) {
                const json_t *one = json_is_array(value) ? json_array_get(value, at) : value;

                r = add_template(map, entry, one, paths, err);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(paths);
        return 0;
}

int template_map_lookup(const char *path, const char *image_name, char ***ret_paths, Error *err)
{
        _cleanup_map_ Map map = MAP_INIT;
        const char *entry = image_name;
        const json_t *value;
        int r = map_load(path, &map, err);

        if (r < 0)
                return r;
        value = json_object_get(map.root, entry);
        if (!value) {
                entry = DEFAULT_ENTRY;
                value = json_object_get(map.root, entry);
        }
        if (!value)
                return MAP_NOT_FOUND;
        return take_templates(&map, entry, value, ret_paths, err);
}

static int check_readable(const Map *map, const char *entry, char *const *paths, Error *err)
{
        STRV_FOREACH (path, paths) {
                _cleanup_free_ char *what = NULL;

                if (access(*path, R_OK) == 0)
                        continue;
                what = xasprintf("cannot read template %s: %s", *path, strerror(errno));
                return fail_entry(map, entry, NULL, what, err);
        }
        return 0;
}

int template_map_check(const char *path, size_t *ret_n, Error *err)
{
        _cleanup_map_ Map map = MAP_INIT;
        const char *entry;
        json_t *value;
        int r = map_load(path, &map, err);

        if (r < 0)
                return r;
        json_object_foreach(map.root, entry, value)
        {
                _cleanup_strv_ char **paths = NULL;

                r = take_templates(&map, entry, value, &paths, err);
                if (r == 0)
                        r = check_readable(&map, entry, paths, err);
                if (r < 0)
                        return r;
        }
        *ret_n = json_object_size(map.root);
        return 0;
}
