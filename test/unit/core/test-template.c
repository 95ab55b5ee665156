#include "../unit.h"

#include <errno.h>

#include <jansson.h>

#include "core/template.h"
#include "util/alloc.h"

#define IMAGE_ID "7eb100a3-680b-4544-99cc-950b8c4f6c74"

// A test's identity and values, with room to change one.
typedef struct Case {
        char personality[300], archetype[20], os[20], version[20], arch[20], branch[40];
        Identity identity;
        TemplateValues values;
} Case;

static void case_init(Case *c)
{
        *c = (Case){
                .personality = "nubesvms",
                .archetype = "core",
                .os = "sl",
                .version = "7x",
                .arch = "x86_64",
                .branch = "prod",
        };
        c->identity = (Identity){
                .personality = c->personality,
                .archetype = c->archetype,
                .os_name = c->os,
                .os_version = c->version,
                .os_arch = c->arch,
                .domain = c->branch,
        };
        c->values = (TemplateValues){
                .name = "nubesvms-sl7x",
                .image = IMAGE_ID,
                .os = "sl7x-x86_64",
                .build_id = "b-1",
                .identity = &c->identity,
        };
}

static int render(const char *folder, const char *name, const char *text, const Case *c,
                  RenderedTemplate *ret, Error *err)
{
        _cleanup_free_ char *path = fs_join(folder, name);
        Error write_err = ERROR_NONE;
        int r = fs_write_atomic(path, text, strlen(text), 0600, FS_NO_SYNC, &write_err);

        assert_ok(r, write_err);
        return template_render(path, &c->values, ret, err);
}

static void assert_json(const char *text, const char *want)
{
        json_error_t why;
        json_auto_t *is = json_loads(text, JSON_REJECT_DUPLICATES, &why);
        json_auto_t *should = json_loads(want, JSON_REJECT_DUPLICATES, &why);

        assert_non_null(is);
        assert_non_null(should);
        if (!json_equal(is, should))
                fail_msg("%s\nis not\n%s", text, want);
}

static void assert_renders(const char *folder, const Case *c, const char *text, const char *want)
{
        _cleanup_(rendered_template_done) RenderedTemplate rendered = {0};
        Error err = ERROR_NONE;
        int r = render(folder, "managed.json", text, c, &rendered, &err);

        assert_ok(r, err);
        assert_int_equal(rendered.kind, TEMPLATE_JSON);
        assert_null(rendered.vars);
        assert_int_equal(rendered.text_len, strlen(rendered.text));
        assert_json(rendered.text, want);
}

#define METADATA                                                                                   \
        "\"AQ_PERSONALITY\":\"nubesvms\",\"AQ_OS\":\"sl\",\"AQ_OSVERSION\":\"7x-x86_64\","         \
        "\"AQ_ARCHETYPE\":\"core\",\"AQ_DOMAIN\":\"prod\",\"PACKUILON_BUILD_ID\":\"b-1\""

static void test_upstream_form(void **state)
{
        Case c;

        case_init(&c);
        assert_renders(*state, &c,
                       "{\n  \"builders\":\n  [\n    {\n      \"image_name\": \"$NAME AQ\",\n"
                       "      \"source_image\": \"$IMAGE\",\n"
                       "      \"instance_metadata\": { $METADATA },\n      \"flavor\": 1.5\n    }\n"
                       "  ],\n  \"post-processors\": [ { \"inline\": [\"rename.sh $NAME AQ\"] } ]\n"
                       "}\n",
                       "{\"builders\":[{\"image_name\":\"nubesvms-sl7x AQ\",\"source_image\":"
                       "\"" IMAGE_ID "\",\"instance_metadata\":{" METADATA "},\"flavor\":1.5}],"
                       "\"post-processors\":[{\"inline\":[\"rename.sh nubesvms-sl7x AQ\"]}]}");
}

static void test_metadata_places(void **state)
{
        static const char *const texts[] = {
                "{\"m\":{$METADATA}}",
                "{\"m\":{ ${METADATA} }}",
                "{\"m\":$METADATA}",
                "{\"m\" : ${METADATA} }",
                "{\"m\":\"$METADATA\"}",
                "{\"m\":\"${METADATA}\"}",
                // A name that is there already: the later member counts.
                "{\"m\":{\"AQ_OS\":\"mine\", $METADATA}}",
        };
        Case c;

        case_init(&c);
        for (size_t at = 0; at < ELEMENTSOF(texts); at++)
                assert_renders(*state, &c, texts[at], "{\"m\":{" METADATA "}}");
        assert_renders(*state, &c, "{\"m\":[$METADATA, {\"a\":[1], $METADATA, \"b\\\"\":{}}]}",
                       "{\"m\":[{" METADATA "},{\"a\":[1]," METADATA ",\"b\\\"\":{}}]}");
        assert_renders(*state, &c, "{$METADATA,\"AQ_OS\":\"mine\",\"AQ_OSVERSION\":\"x\"}",
                       "{\"AQ_PERSONALITY\":\"nubesvms\",\"AQ_OS\":\"mine\",\"AQ_OSVERSION\":\"x\","
                       "\"AQ_ARCHETYPE\":\"core\",\"AQ_DOMAIN\":\"prod\","
                       "\"PACKUILON_BUILD_ID\":\"b-1\"}");
}

static void test_metadata_of_what_is_known(void **state)
{
        char broker_os[] = "rocky", broker_version[] = "8x-x86_64", sandbox[] = "jb/test";
        Case c;

        case_init(&c);
        c.identity.archetype = c.identity.domain = NULL;
        c.identity.sandbox = sandbox;
        c.identity.os_arch = NULL;
        assert_renders(*state, &c, "{$METADATA}",
                       "{\"AQ_PERSONALITY\":\"nubesvms\",\"AQ_OS\":\"sl\",\"AQ_OSVERSION\":\"7x\","
                       "\"AQ_SANDBOX\":\"jb/test\",\"PACKUILON_BUILD_ID\":\"b-1\"}");
        c.identity.broker_os = broker_os;
        c.identity.broker_os_version = broker_version;
        assert_renders(*state, &c, "{$METADATA}",
                       "{\"AQ_PERSONALITY\":\"nubesvms\",\"AQ_OS\":\"rocky\",\"AQ_OSVERSION\":"
                       "\"8x-x86_64\",\"AQ_SANDBOX\":\"jb/test\",\"PACKUILON_BUILD_ID\":\"b-1\"}");
        c.identity = (Identity){.personality = c.personality};
        c.values.build_id = NULL;
        assert_renders(*state, &c, "{$METADATA}", "{\"AQ_PERSONALITY\":\"nubesvms\"}");
}

static void test_whole_tokens(void **state)
{
        char sandbox[] = "jb/test", hostname[] = "host";
        Case c;

        case_init(&c);
        c.identity.sandbox = sandbox;
        c.identity.hostname = hostname;
        assert_renders(
                *state, &c,
                "{\"a\":\"$PERSONALITY|$OS|$ARCHETYPE|$DOMAIN|$SANDBOX|$HOSTNAME|$BUILD_ID\","
                "\"b\":\"$NAMEX $NAME_ $NAME2 $name ${NAME ${NAME:-x} $ $$ ${} $1 $\","
                "\"c\":\"x${NAME}X $NAME-$NAME$NAME\",\"$OS-key\":true,\"d\":[null,1]}",
                "{\"a\":\"nubesvms|sl7x-x86_64|core|prod|jb/test|host|b-1\","
                "\"b\":\"$NAMEX $NAME_ $NAME2 $name ${NAME ${NAME:-x} $ $$ ${} $1 $\","
                "\"c\":\"xnubesvms-sl7xX nubesvms-sl7x-nubesvms-sl7xnubesvms-sl7x\","
                "\"sl7x-x86_64-key\":true,\"d\":[null,1]}");
        c.identity.hostname = NULL;
        assert_renders(*state, &c, "{\"a\":\"[$HOSTNAME]\"}", "{\"a\":\"[]\"}");
}

// What a value holds stays text: no end of the string, no second expansion.
static void test_hostile_values(void **state)
{
        Case c;

        case_init(&c);
        c.values.name = "q\"}, $IMAGE ${OS} $METADATA \\ {x} 'é'";
        assert_renders(*state, &c, "{\"a\":\"<$NAME>\"}",
                       "{\"a\":\"<q\\\"}, $IMAGE ${OS} $METADATA \\\\ {x} 'é'>\"}");
}

static void test_shell_text(void **state)
{
        static const char *const refused[] = {
                "{\"provisioners\":[{\"inline\":[\"echo $NAME\"]}]}",
                "{\"provisioners\":[{\"override\":{\"x\":{\"inline\":\"echo $NAME\"}}}]}",
                "{\"provisioners\":[{\"inline_shebang\":\"$NAME\"}]}",
                "{\"provisioners\":[{\"execute_command\":\"$NAME\"}]}",
                "{\"post-processors\":[[{\"command\":\"$NAME\"}]]}",
                "{\"provisioners\":[{\"extra_arguments\":[\"$NAME\"]}]}",
                "{\"builders\":[{\"user_data\":\"#!/bin/sh\\n${NAME}\"}]}",
                "{\"x\":\"{{ upper `$NAME` }}\"}",
                "{\"x\":\"{{ a }} {{ upper `$NAME` }}\"}",
        };
        static const char *const unsafe[] = {"a b", "a;b", "a$(b)", "`a`", "a'b", "a\"b", "a*",
                                             "-a",  "a&b", "a|b",   "a>b", "~",   "é",    "a\\b"};
        Case c;

        case_init(&c);
        for (size_t value = 0; value < ELEMENTSOF(unsafe); value++) {
                c.values.name = unsafe[value];
                for (size_t at = 0; at < ELEMENTSOF(refused); at++) {
                        RenderedTemplate rendered = {0};
                        Error err = ERROR_NONE;

                        assert_int_equal(render(*state, "m.json", refused[at], &c, &rendered, &err),
                                         -EBADMSG);
                        assert_contains(err.text, "m.json: ");
                        assert_contains(err.text, "$NAME is \"");
                        assert_null(rendered.text);
                }
        }
        c.values.name = "a b";
        assert_renders(*state, &c,
                       "{\"environment_vars\":[\"N=$NAME\"],\"user_data_file\":\"$NAME\","
                       "\"x\":\"{{ a }} $NAME {{ b }}\",\"inline\":[\"echo $OS $OTHER\"]}",
                       "{\"environment_vars\":[\"N=a b\"],\"user_data_file\":\"a b\","
                       "\"x\":\"{{ a }} a b {{ b }}\",\"inline\":[\"echo sl7x-x86_64 $OTHER\"]}");
        c.values.name = "Az09_.,:/@%+=-";
        assert_renders(*state, &c, "{\"inline\":\"$NAME {{ $NAME }}\"}",
                       "{\"inline\":\"Az09_.,:/@%+=- {{ Az09_.,:/@%+=- }}\"}");
}

static void test_refused_values(void **state)
{
        static const struct {
                const char *value, *words;
        } cases[] = {
                {"a{{env `X`}}", "NAME holds \"{{\""},
                {"{", "NAME holds"},
                {"a{", "NAME holds"},
                {"{a", "NAME holds"},
                {"a\nb", "NAME has control"},
                {"\x7F", "NAME has control"},
                {"\xFF", "NAME is not valid UTF-8"},
        };
        RenderedTemplate rendered = {0};
        Error err = ERROR_NONE;
        Case c;

        case_init(&c);
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                c.values.name = cases[at].value;
                assert_int_equal(render(*state, "m.json", "{}", &c, &rendered, &err), -EBADMSG);
                assert_contains(err.text, cases[at].words);
                assert_int_equal(render(*state, "m.pkr.hcl", "", &c, &rendered, &err), -EBADMSG);
        }
        case_init(&c);
        memset(c.personality, 'p', 256);
        c.personality[256] = '\0';
        assert_int_equal(render(*state, "m.json", "{}", &c, &rendered, &err), -EBADMSG);
        assert_contains(err.text, "AQ_PERSONALITY is longer than 255 bytes");
        case_init(&c);
        memcpy(c.version, "{{", 3);
        assert_int_equal(render(*state, "m.json", "{}", &c, &rendered, &err), -EBADMSG);
        assert_contains(err.text, "AQ_OSVERSION holds");
}

static void test_broken_templates(void **state)
{
        static const struct {
                const char *text, *words;
        } cases[] = {
                {"", "m.json: line "},
                {"[]", "m.json: line 1: a template must be a JSON object"},
                {"{\n \"a\": $NAME\n}", "m.json: line 2, column 7: "},
                {"{\n \"a\": { $METADATA } \"b\"\n}", "m.json: line 2, column 23: "},
                {"{\n \"a\": { $METADATA, }\n}", "m.json: line 2, column "},
                {"{ $METADATA", "m.json: line 1, column "},
                {"{ $METADATAX }", "m.json: line 1, column "},
                {"} $METADATA {", "m.json: line 1, column "},
                {"{\"a\": \"\\", "m.json: line 1, column "},
                {"{\"a\": \"\xFF\"}", "m.json: line 1, column "},
                {"{\"a\": \"x $METADATA\"}", "\"a\": $METADATA is an object"},
                {"{\"x$METADATA\": 1}", "\"x$METADATA\": $METADATA is an object"},
        };
        Case c;

        case_init(&c);
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                RenderedTemplate rendered = {0};
                Error err = ERROR_NONE;

                assert_int_equal(render(*state, "m.json", cases[at].text, &c, &rendered, &err),
                                 -EINVAL);
                assert_contains(err.text, cases[at].words);
                assert_null(rendered.text);
        }
}

static void test_limits(void **state)
{
        enum { LIMIT = 1024 * 1024 };
        _cleanup_free_ char *text = xmalloc(LIMIT + 2);
        _cleanup_free_ char *name = xmalloc(1001);
        RenderedTemplate rendered = {0};
        Error err = ERROR_NONE;
        Case c;

        case_init(&c);
        memset(text, ' ', LIMIT + 1);
        text[LIMIT + 1] = '\0';
        memcpy(text, "{}", 2);
        assert_int_equal(render(*state, "m.json", text, &c, &rendered, &err), -EFBIG);
        assert_contains(err.text, "m.json");
        text[LIMIT] = '\0';
        assert_int_equal(render(*state, "m.json", text, &c, &rendered, &err), 0);
        rendered_template_done(&rendered);

        memset(name, 'n', 1000);
        name[1000] = '\0';
        c.values.name = name;
        for (size_t at = 0; at + 7 < LIMIT; at += 6)
                memcpy(text + at, "$NAME ", 6);
        memcpy(text, "{\"a\":\"", 6);
        memcpy(text + LIMIT - 2, "\"}", 3);
        assert_int_equal(render(*state, "m.json", text, &c, &rendered, &err), -EFBIG);
        assert_contains(err.text, "\"a\" becomes too long");

        // Each string fits, all together do not.
        memcpy(text, "{\"a\":[\"", 7);
        for (size_t at = 7; at + 8 < LIMIT - 10; at += 8)
                memcpy(text + at, "$NAME\",\"", 8);
        memcpy(text + LIMIT - 10, "       \"]}", 11);
        text[LIMIT - 11] = text[LIMIT - 12] = ' ';
        assert_int_equal(render(*state, "m.json", text, &c, &rendered, &err), -EFBIG);
        assert_contains(err.text, "the result is over 4194304 bytes");
}

static void test_hcl2(void **state)
{
        static const char text[] = "variable \"name\" {}\nvariable \"metadata\" {\n"
                                   "  type = map(string)\n}\nvariable \"sandbox\" {}\n"
                                   "variable \"mine\" { default = 1 }\n# $NAME stays\n";
        _cleanup_(rendered_template_done) RenderedTemplate rendered = {0};
        Error err = ERROR_NONE;
        Case c;
        int r;

        case_init(&c);
        c.values.name = "a \"b\" ${c}";
        r = render(*state, "m.pkr.hcl", text, &c, &rendered, &err);
        assert_ok(r, err);
        assert_int_equal(rendered.kind, TEMPLATE_HCL2);
        assert_string_equal(rendered.text, text);
        assert_int_equal(rendered.text_len, strlen(text));
        assert_int_equal(rendered.vars_len, strlen(rendered.vars));
        assert_json(rendered.vars, "{\"name\":\"a \\\"b\\\" ${c}\",\"sandbox\":\"\","
                                   "\"metadata\":{" METADATA "}}");
}

static void test_hcl2_all_variables(void **state)
{
        _cleanup_(rendered_template_done) RenderedTemplate rendered = {0};
        Error err = ERROR_NONE;
        Case c;
        int r;

        case_init(&c);
        r = render(*state, "m.pkr.hcl",
                   "variable \"image\" {}\nvariable \"personality\" {}\nvariable \"os\" {}\n"
                   "variable \"archetype\" {}\nvariable \"domain\" {}\nvariable \"hostname\" {}\n"
                   "variable \"build_id\" {}\n",
                   &c, &rendered, &err);
        assert_ok(r, err);
        assert_json(rendered.vars, "{\"image\":\"" IMAGE_ID "\",\"personality\":\"nubesvms\","
                                   "\"os\":\"sl7x-x86_64\",\"archetype\":\"core\",\"domain\":"
                                   "\"prod\",\"hostname\":\"\",\"build_id\":\"b-1\"}");
}

static void test_missing_file(void **state)
{
        _cleanup_free_ char *path = fs_join(*state, "gone.json");
        RenderedTemplate rendered = {0};
        Error err = ERROR_NONE;
        Case c;

        case_init(&c);
        assert_int_equal(template_render(path, &c.values, &rendered, &err), -ENOENT);
        assert_contains(err.text, "gone.json");
}

static void test_name(void **state)
{
        static const struct {
                const char *path, *name;
        } cases[] = {
                {"/etc/packer-utils/templates/managed.json", "managed"},
                {"managed.pkr.hcl", "managed"},
                {"a/b.c/x", "x"},
                {"x.json.txt", "x.json.txt"},
        };

        (void)state;
        for (size_t at = 0; at < ELEMENTSOF(cases); at++) {
                _cleanup_free_ char *name = template_name(cases[at].path);

                assert_string_equal(name, cases[at].name);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_in_folder(test_upstream_form),
                unit_test_in_folder(test_metadata_places),
                unit_test_in_folder(test_metadata_of_what_is_known),
                unit_test_in_folder(test_whole_tokens),
                unit_test_in_folder(test_hostile_values),
                unit_test_in_folder(test_shell_text),
                unit_test_in_folder(test_refused_values),
                unit_test_in_folder(test_broken_templates),
                unit_test_in_folder(test_limits),
                unit_test_in_folder(test_hcl2),
                unit_test_in_folder(test_hcl2_all_variables),
                unit_test_in_folder(test_missing_file),
                cmocka_unit_test(test_name),
        };

        return cmocka_run_group_tests_name("template", tests, NULL, NULL);
}
