// Two passes: the lines become entries with the values as written, then [DEFAULT] is spread over
// the sections and the references are filled in, which may point forward.
#include "util/ini.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "util/alloc.h"
#include "util/buf.h"
#include "util/strutil.h"

#define TEXT_MAX ((size_t)1024 * 1024)
#define VALUE_MAX ((size_t)64 * 1024)
#define VALUES_MAX ((size_t)4 * 1024 * 1024)
#define ENTRIES_MAX 4096
#define SECTIONS_MAX 256
#define LEVELS_MAX 10
#define NAME_SHOWN_MAX 60

#define DEFAULT_SECTION "DEFAULT"

// The entries of a section are neighbours, since it is opened only once.
typedef struct Section {
        char *name;
        unsigned line;
        size_t first, n_entries;
} Section;

typedef struct Parser {
        const char *name; // of the file
        Error *err;
        unsigned line;
        Section *sections; // the last one is open
        size_t n_sections;
        Ini raw;
        Buf value;     // of the last entry, while it may go on
        bool has_key;  // it may
        size_t indent; // of the last key or section
} Parser;

typedef struct Span {
        const char *at;
        size_t len;
} Span;

static bool is_blank(char c)
{
        return c == ' ' || (c >= '\t' && c <= '\r');
}

static Span trim(Span span)
{
        while (span.len > 0 && is_blank(span.at[0])) {
                span.at++;
                span.len--;
        }
        while (span.len > 0 && is_blank(span.at[span.len - 1]))
                span.len--;
        return span;
}

static char *visible(Span span)
{
        return str_visible(span.at, span.len, NAME_SHOWN_MAX);
}

static char *lower_copy(Span span)
{
        char *copy = xstrndup(span.at, span.len);

        for (char *at = copy; *at; at++) {
                if (*at >= 'A' && *at <= 'Z')
                        *at = (char)(*at - 'A' + 'a');
        }
        return copy;
}

static void entry_done(IniEntry *entry)
{
        free(entry->section);
        free(entry->key);
        free(entry->value);
}

void ini_done(Ini *ini)
{
        for (size_t i = 0; i < ini->n_entries; i++)
                entry_done(&ini->entries[i]);
        free(ini->entries);
        *ini = (Ini){.n_entries = 0};
}

static void parser_done(Parser *parser)
{
        for (size_t i = 0; i < parser->n_sections; i++)
                free(parser->sections[i].name);
        free(parser->sections);
        ini_done(&parser->raw);
        buf_done(&parser->value);
}

static IniEntry *add_entry(Ini *ini)
{
        ini->entries = xreallocarray(ini->entries, ini->n_entries + 1, sizeof *ini->entries);
        return &ini->entries[ini->n_entries++];
}

static int value_too_long(const Parser *parser)
{
        return error_set(parser->err, EFBIG, "%s:%u: the value is over %zu bytes", parser->name,
                         parser->line, VALUE_MAX);
}

// Whatever the last key's value was, it is complete now.
static void close_value(Parser *parser)
{
        Span value = trim((Span){.at = buf_str(&parser->value), .len = parser->value.len});

        if (!parser->has_key)
                return;
        parser->raw.entries[parser->raw.n_entries - 1].value = xstrndup(value.at, value.len);
        buf_clear(&parser->value);
        parser->has_key = false;
}

static int open_section(Parser *parser, Span name)
{
        Section *section;

        for (size_t i = 0; i < parser->n_sections; i++) {
                const Section *other = &parser->sections[i];
                _cleanup_free_ char *shown = NULL;

                if (strlen(other->name) != name.len || memcmp(other->name, name.at, name.len) != 0)
                        continue;
                shown = visible(name);
                return error_set(parser->err, EINVAL,
                                 "%s:%u: the section [%s] is there already, in line %u",
                                 parser->name, parser->line, shown, other->line);
        }
        if (parser->n_sections == SECTIONS_MAX)
                return error_set(parser->err, EFBIG, "%s:%u: more than %d sections", parser->name,
                                 parser->line, SECTIONS_MAX);
        parser->sections =
                xreallocarray(parser->sections, parser->n_sections + 1, sizeof *parser->sections);
        section = &parser->sections[parser->n_sections++];
        *section = (Section){
                .name = xstrndup(name.at, name.len),
                .line = parser->line,
                .first = parser->raw.n_entries,
        };
        return 0;
}

static int open_key(Parser *parser, Span spelled, Span value)
{
        _cleanup_free_ char *key = lower_copy(spelled), *shown = visible(spelled);
        Section *section = &parser->sections[parser->n_sections - 1];
        IniEntry *entry;

        for (size_t i = section->first; i < parser->raw.n_entries; i++) {
                if (strcmp(parser->raw.entries[i].key, key) == 0)
                        return error_set(parser->err, EINVAL,
                                         "%s:%u: [%s] %s is set already, in line %u", parser->name,
                                         parser->line, section->name, shown,
                                         parser->raw.entries[i].line);
        }
        if (parser->raw.n_entries == ENTRIES_MAX)
                return error_set(parser->err, EFBIG, "%s:%u: more than %d keys", parser->name,
                                 parser->line, ENTRIES_MAX);
        entry = add_entry(&parser->raw);
        *entry = (IniEntry){
                .section = xstrdup(section->name),
                .key = TAKE_PTR(key),
                .line = parser->line,
                .from_default = strcmp(section->name, DEFAULT_SECTION) == 0,
        };
        section->n_entries++;
        parser->has_key = true;
        return buf_append(&parser->value, value.at, value.len) < 0 ? value_too_long(parser) : 0;
}

static int parse_key_line(Parser *parser, Span line)
{
        size_t key_len = 0;
        Span key, value;

        if (parser->n_sections == 0)
                return error_set(parser->err, EINVAL, "%s:%u: a [section] must come before this",
                                 parser->name, parser->line);
        while (key_len < line.len && line.at[key_len] != '=' && line.at[key_len] != ':')
                key_len++;
        if (key_len == line.len)
                return error_set(parser->err, EINVAL,
                                 "%s:%u: neither a [section] nor KEY = VALUE nor a comment",
                                 parser->name, parser->line);
        key = trim((Span){.at = line.at, .len = key_len});
        value = trim((Span){.at = line.at + key_len + 1, .len = line.len - key_len - 1});
        if (key.len == 0)
                return error_set(parser->err, EINVAL, "%s:%u: no key before the \"%c\"",
                                 parser->name, parser->line, line.at[key_len]);
        return open_key(parser, key, value);
}

static int continue_value(Parser *parser, Span line)
{
        if (buf_append_str(&parser->value, "\n") < 0 ||
            buf_append(&parser->value, line.at, line.len) < 0)
                return value_too_long(parser);
        return 0;
}

static int parse_line(Parser *parser, Span whole)
{
        Span line = trim(whole);
        size_t indent = (size_t)(line.at - whole.at);
        const char *bracket;

        if (memchr(whole.at, '\0', whole.len))
                return error_set(parser->err, EINVAL, "%s:%u: a NUL byte", parser->name,
                                 parser->line);
        if (!str_is_utf8(whole.at, whole.len))
                return error_set(parser->err, EILSEQ, "%s:%u: this line is not UTF-8", parser->name,
                                 parser->line);
        if (line.len > 0 && (line.at[0] == '#' || line.at[0] == ';'))
                return 0;
        if (line.len == 0)
                return parser->has_key ? continue_value(parser, line) : 0;
        if (parser->has_key && indent > parser->indent)
                return continue_value(parser, line);

        close_value(parser);
        parser->indent = indent;
        bracket = line.at[0] == '[' ? memchr(line.at, ']', line.len) : NULL;
        if (bracket && bracket > line.at + 1)
                return open_section(
                        parser, (Span){.at = line.at + 1, .len = (size_t)(bracket - line.at - 1)});
        return parse_key_line(parser, line);
}

static int parse_lines(Parser *parser, const char *text, size_t len)
{
        static const char bom[] = "\xEF\xBB\xBF";
        size_t at = 0;

        if (len >= sizeof bom - 1 && memcmp(text, bom, sizeof bom - 1) == 0)
                at = sizeof bom - 1;
        while (at < len) {
                const char *newline = memchr(text + at, '\n', len - at);
                size_t end = newline ? (size_t)(newline - text) : len;
                int r;

                parser->line++;
                r = parse_line(parser, (Span){.at = text + at, .len = end - at});
                if (r < 0)
                        return r;
                at = end + 1;
        }
        close_value(parser);
        return 0;
}

static const Section *find_section(const Parser *parser, const char *name)
{
        for (size_t i = 0; i < parser->n_sections; i++) {
                if (strcmp(parser->sections[i].name, name) == 0)
                        return &parser->sections[i];
        }
        return NULL;
}

static bool has_key(const IniEntry *entries, size_t n_entries, const char *key)
{
        for (size_t i = 0; i < n_entries; i++) {
                if (strcmp(entries[i].key, key) == 0)
                        return true;
        }
        return false;
}

static int copy_entry(const Parser *parser, const IniEntry *from, const char *section, Ini *ret)
{
        if (ret->n_entries == ENTRIES_MAX)
                return error_set(parser->err, EFBIG,
                                 "%s:%u: with [DEFAULT] in every section more than %d keys",
                                 parser->name, from->line, ENTRIES_MAX);
        *add_entry(ret) = (IniEntry){
                .section = xstrdup(section),
                .key = xstrdup(from->key),
                .value = xstrdup(from->value),
                .line = from->line,
                .from_default = from->from_default,
        };
        return 0;
}

static int copy_section(const Parser *parser, const Section *section, const Section *defaults,
                        Ini *ret)
{
        const IniEntry *own = parser->raw.entries + section->first;
        int r = 0;

        if (!parser->raw.entries) // nor are there defaults
                return 0;
        for (size_t i = 0; i < section->n_entries && r == 0; i++)
                r = copy_entry(parser, &own[i], section->name, ret);
        for (size_t i = 0; defaults && i < defaults->n_entries && r == 0; i++) {
                const IniEntry *entry = &parser->raw.entries[defaults->first + i];

                if (!has_key(own, section->n_entries, entry->key))
                        r = copy_entry(parser, entry, section->name, ret);
        }
        return r;
}

// The entries of one section while their references are filled in.
typedef struct Resolver {
        const char *name; // of the file
        Error *err;
        IniEntry *entries;
        size_t n_entries;
        uint8_t *levels; // of each entry: 0 while its value is as written, else 1 + its references
        size_t *total;   // bytes of all values of the file
} Resolver;

static int resolve(Resolver *resolver, size_t at, unsigned depth);

// "%(key)s" at the start; its length, or 0.
static size_t reference_len(const char *text, Span *ret_key)
{
        size_t key_len;

        if (text[0] != '%' || text[1] != '(')
                return 0;
        key_len = strcspn(text + 2, ")(%\n");
        if (key_len == 0 || text[2 + key_len] != ')' || text[3 + key_len] != 's')
                return 0;
        *ret_key = (Span){.at = text + 2, .len = key_len};
        return key_len + sizeof "%()s" - 1;
}

static int over_limit(const Resolver *resolver, const IniEntry *entry)
{
        return error_set(resolver->err, EFBIG, "%s:%u: [%s] %s is too long with its references",
                         resolver->name, entry->line, entry->section, entry->key);
}

// Appends the value of another key; returns its levels.
static int append_reference(Resolver *resolver, const IniEntry *from, Span spelled, unsigned depth,
                            Buf *out)
{
        _cleanup_free_ char *key = lower_copy(spelled);
        int levels;

        for (size_t i = 0; i < resolver->n_entries; i++) {
                if (strcmp(resolver->entries[i].key, key) != 0)
                        continue;
                levels = resolve(resolver, i, depth + 1);
                if (levels >= 0 && buf_append_str(out, resolver->entries[i].value) < 0)
                        return over_limit(resolver, from);
                return levels;
        }
        // The name is not shown, since it may be a part of a password.
        return error_set(resolver->err, EINVAL,
                         "%s:%u: [%s] %s refers by %%(…)s to a key that is neither in this section "
                         "nor in [DEFAULT]; write %%%% for a percent sign",
                         resolver->name, from->line, from->section, from->key);
}

// Returns the levels of what was filled in.
static int interpolate(Resolver *resolver, const IniEntry *entry, unsigned depth, Buf *out)
{
        int levels = 0;

        for (const char *at = entry->value; *at;) {
                Span key;
                size_t len = reference_len(at, &key);

                if (len > 0) {
                        int r = append_reference(resolver, entry, key, depth, out);

                        if (r < 0)
                                return r;
                        levels = MAX(levels, r);
                        at += len;
                        continue;
                }
                len = at[0] == '%' ? 1 : strcspn(at, "%");
                if (buf_append(out, at, len) < 0)
                        return over_limit(resolver, entry);
                at += len + (at[0] == '%' && at[1] == '%' ? 1 : 0);
        }
        return levels;
}

// Fills in one value, once. Returns 1 + the levels of references below it.
static int resolve(Resolver *resolver, size_t at, unsigned depth)
{
        _cleanup_buf_ Buf out = BUF_INIT(VALUE_MAX);
        IniEntry *entry = &resolver->entries[at];
        int levels;

        if (resolver->levels[at] > 0)
                return resolver->levels[at];
        levels = depth > LEVELS_MAX ? LEVELS_MAX + 1 : interpolate(resolver, entry, depth, &out);
        if (levels < 0)
                return levels;
        if (levels > LEVELS_MAX)
                return error_set(resolver->err, ELOOP,
                                 "%s:%u: [%s] %s has more than %d levels of %%(…)s, or refers to "
                                 "itself",
                                 resolver->name, entry->line, entry->section, entry->key,
                                 LEVELS_MAX);
        *resolver->total += out.len;
        if (*resolver->total > VALUES_MAX)
                return error_set(resolver->err, EFBIG,
                                 "%s:%u: all values together are over %zu bytes", resolver->name,
                                 entry->line, VALUES_MAX);
        free(entry->value);
        entry->value = buf_take(&out, NULL);
        resolver->levels[at] = (uint8_t)(levels + 1);
        return levels + 1;
}

static int resolve_section(const Parser *parser, IniEntry *entries, size_t n_entries, size_t *total)
{
        _cleanup_free_ uint8_t *levels = xcalloc(n_entries, sizeof *levels);
        Resolver resolver = {
                .name = parser->name,
                .err = parser->err,
                .entries = entries,
                .n_entries = n_entries,
                .levels = levels,
                .total = total,
        };

        for (size_t i = 0; i < n_entries; i++) {
                int r = resolve(&resolver, i, 0);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int build(const Parser *parser, Ini *ret)
{
        const Section *defaults = find_section(parser, DEFAULT_SECTION);
        size_t total = 0;

        for (size_t i = 0; i < parser->n_sections; i++) {
                size_t first = ret->n_entries;
                int r;

                if (&parser->sections[i] == defaults)
                        continue;
                r = copy_section(parser, &parser->sections[i], defaults, ret);
                if (r == 0)
                        r = resolve_section(parser, ret->entries + first, ret->n_entries - first,
                                            &total);
                if (r < 0)
                        return r;
        }
        return 0;
}

int ini_parse(const char *name, const char *text, size_t len, Ini *ret, Error *err)
{
        _cleanup_(parser_done) Parser parser = {
                .name = name,
                .err = err,
                .value = BUF_INIT(VALUE_MAX),
        };
        _cleanup_(ini_done) Ini ini = {.n_entries = 0};
        int r;

        if (len > TEXT_MAX)
                return error_set(err, EFBIG, "%s: more than %zu bytes", name, TEXT_MAX);
        r = parse_lines(&parser, text, len);
        if (r == 0)
                r = build(&parser, &ini);
        if (r < 0)
                return r;
        *ret = ini;
        ini = (Ini){.n_entries = 0};
        return 0;
}
