#include "../unit.h"

#include <errno.h>

#include "scan/index.h"
#include "util/alloc.h"
#include "util/fs.h"

#define SAMPLE_MAX ((size_t)64 * 1024)
#define HEAD "<?xml version='1.0' encoding='utf-8'?>\n<profiles>\n"
#define TAIL "</profiles>"

static void read_sample(const char *name, Buf *text)
{
        _cleanup_free_ char *path = xasprintf("%s/index/%s", getenv("TEST_DATA"), name);
        Error err = ERROR_NONE;
        int r = fs_read_file(path, text, &err);

        assert_ok(r, err);
}

static void parse(const char *text, Index *index)
{
        Error err = ERROR_NONE;
        int r = index_parse(text, strlen(text), index, &err);

        assert_ok(r, err);
}

static void assert_entry(const IndexEntry *entry, const char *name, int64_t mtime)
{
        assert_int_equal(entry->name_len, strlen(name));
        assert_memory_equal(entry->name, name, strlen(name));
        assert_int_equal(entry->mtime, mtime);
}

static void test_aquilon(void **state)
{
        _cleanup_buf_ Buf text = BUF_INIT(SAMPLE_MAX);
        _cleanup_index_ Index index = {.n_entries = 0};

        (void)state;
        read_sample("aquilon/profiles-info.1.xml", &text);
        parse(text.data, &index);
        assert_int_equal(index.n_entries, 13);
        assert_int_equal(index.n_refused, 0);
        assert_entry(&index.entries[0], "centos-7-aq.cloud.template.json", 1627553908);
        assert_entry(&index.entries[12], "clusters/example-hacluster.json", 1627551234);
}

static void test_scdb(void **state)
{
        _cleanup_buf_ Buf text = BUF_INIT(SAMPLE_MAX);
        _cleanup_index_ Index index = {.n_entries = 0};

        (void)state;
        read_sample("scdb/profiles-info.xml", &text);
        parse(text.data, &index);
        assert_int_equal(index.n_entries, 14);
        assert_entry(&index.entries[10], "clusters", INT64_C(1795416060796));
}

static void test_no_entries(void **state)
{
        static const char *const texts[] = {
                HEAD TAIL,
                "<profiles></profiles>",
                ("\xEF\xBB\xBF<?xml version='1.0'?>\r\n<!-- a > b -->\r\n"
                 "<profiles>\r\n</profiles>\r\n"),
                "<profiles version='2'>\n</profiles>\n\n",
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_index_ Index index = {.n_entries = 0};

                parse(texts[i], &index);
                assert_int_equal(index.n_entries, 0);
                assert_int_equal(index.n_refused, 0);
        }
}

static void test_names_are_taken_as_they_are(void **state)
{
        _cleanup_index_ Index index = {.n_entries = 0};

        (void)state;
        parse(HEAD "<profile mtime='1'>a&b.json</profile>\n"
                   "<profile mtime='2'>it's<x>.json</profile>\r\n"
                   "  <profile  mtime = \"3\" >a&amp;b.json</profile>  \n"
                   "<profile mtime='9223372036854775807'>\xC3\xA9.json</profile>\n" TAIL,
              &index);
        assert_int_equal(index.n_refused, 0);
        assert_int_equal(index.n_entries, 4);
        assert_entry(&index.entries[0], "a&b.json", 1);
        assert_entry(&index.entries[1], "it's<x>.json", 2);
        assert_entry(&index.entries[2], "a&amp;b.json", 3);
        assert_entry(&index.entries[3], "\xC3\xA9.json", INT64_MAX);
}

static void test_all_in_one_line(void **state)
{
        _cleanup_index_ Index index = {.n_entries = 0};

        (void)state;
        parse("<profiles><profile mtime='1'>a.json</profile><profile mtime='2'>b.json</profile>"
              "<profile mtime='x'>c.json</profile><profile mtime='4'>d.json</profile></profiles>",
              &index);
        assert_int_equal(index.n_entries, 3);
        assert_entry(&index.entries[2], "d.json", 4);
        assert_int_equal(index.n_refused, 1);
        assert_int_equal(index.refusals[0].line, 1);
}

// Each of these lines is refused alone, with these words.
static void test_refused_one_by_one(void **state)
{
        static const struct {
                const char *line, *reason;
        } cases[] = {
                {"<profile mtime='1'>../x.json</profile>", "not a plain path"},
                {"<profile mtime='1'>/etc/x.json</profile>", "not a plain path"},
                {"<profile mtime='1'>a//b.json</profile>", "not a plain path"},
                {"<profile mtime='1'>a\tb.json</profile>", "not a plain path"},
                {"<profile mtime='1'>\xFF.json</profile>", "not a plain path"},
                {"<profile mtime='1'></profile>", "no name"},
                {"<profile mtime='1'>x.json", "</profile> is missing"},
                {"<profile mtime='1'", "something unexpected"},
                {"<profile mtime='1' x='2'>x.json</profile>", "something unexpected"},
                {"<profile mtime='1", "does not end"},
                {"<profile mtime=''>x.json</profile>", "mtime is empty"},
                {"<profile mtime='", "mtime is empty"},
                {"<profile mtime=1>x.json</profile>", "not quoted"},
                {"<profile mtime=", "not quoted"},
                {"<profile mtime>x.json</profile>", "no mtime"},
                {"<profile name='1'>x.json</profile>", "no mtime"},
                {"<profile mtime='-1'>x.json</profile>", "not a whole number"},
                {"<profile mtime='1.5'>x.json</profile>", "not a whole number"},
                {"<profile mtime='9223372036854775808'>x.json</profile>", "out of range"},
                {"<profile>x.json</profile>", "not a <profile> element"},
                {"<cluster mtime='1'>x.json</cluster>", "not a <profile> element"},
                {"rubbish", "not a <profile> element"},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *text =
                        xasprintf(HEAD "<profile mtime='7'>before.json</profile>\n%s\n"
                                       "<profile mtime='8'>after.json</profile>\n" TAIL,
                                  cases[i].line);
                _cleanup_index_ Index index = {.n_entries = 0};

                parse(text, &index);
                assert_int_equal(index.n_entries, 2);
                assert_entry(&index.entries[1], "after.json", 8);
                assert_int_equal(index.n_refused, 1);
                assert_int_equal(index.refusals[0].line, 4);
                assert_contains(index.refusals[0].text, cases[i].reason);
        }
}

static void test_many_refused(void **state)
{
        _cleanup_buf_ Buf text = BUF_INIT(SAMPLE_MAX);
        _cleanup_index_ Index index = {.n_entries = 0};
        size_t n = INDEX_MAX_REFUSALS + 5;

        (void)state;
        assert_int_equal(buf_append_str(&text, HEAD), 0);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(buf_append_str(&text, "rubbish\n"), 0);
        assert_int_equal(buf_append_str(&text, TAIL), 0);
        parse(text.data, &index);
        assert_int_equal(index.n_refused, n);
        assert_non_null(index.refusals[INDEX_MAX_REFUSALS - 1].text);
}

static void test_refused_as_a_whole(void **state)
{
        static const struct {
                const char *text, *reason;
        } cases[] = {
                {"", "<profiles> is missing"},
                {" \n", "<profiles> is missing"},
                {"<!DOCTYPE html><html><body>503</body></html>", "it begins: <!DOCTYPE html>"},
                {"<html><profiles></profiles>", "<profiles> is missing"},
                {"<?xml version='1.0'", "<profiles> is missing"},
                {"<!-- <profiles></profiles>", "<profiles> is missing"},
                {"<profilesx></profiles>", "<profiles> is missing"},
                {"<profiles", "<profiles> is missing"},
                {HEAD, "cut short"},
                {HEAD "<profile mtime='1'>a.json</profile>\n", "cut short"},
                {HEAD "<profile mtime='1'>a.json</profile>\n</profile", "cut short"},
                {HEAD TAIL "\nand more", "cut short"},
                {"\x1f\x8b\x08", "<profiles> is missing"},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                Index index = {.n_entries = 42};
                Error err = ERROR_NONE;

                assert_int_equal(index_parse(cases[i].text, strlen(cases[i].text), &index, &err),
                                 -EBADMSG);
                assert_contains(err.text, cases[i].reason);
                assert_int_equal(index.n_entries, 42); // untouched
        }
}

static void test_every_cut_is_refused(void **state)
{
        _cleanup_buf_ Buf text = BUF_INIT(SAMPLE_MAX);

        (void)state;
        read_sample("aquilon/profiles-info.1.xml", &text);
        for (size_t len = 0; len < text.len; len++) {
                Index index;
                Error err = ERROR_NONE;

                assert_int_equal(index_parse(text.data, len, &index, &err), -EBADMSG);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_aquilon),
                cmocka_unit_test(test_scdb),
                cmocka_unit_test(test_no_entries),
                cmocka_unit_test(test_names_are_taken_as_they_are),
                cmocka_unit_test(test_all_in_one_line),
                cmocka_unit_test(test_refused_one_by_one),
                cmocka_unit_test(test_many_refused),
                cmocka_unit_test(test_refused_as_a_whole),
                cmocka_unit_test(test_every_cut_is_refused),
        };

        return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
