#include "../unit.h"

#include "scan/catalog.h"
#include "util/alloc.h"
#include "util/buf.h"

#define TEXT_MAX ((size_t)64 * 1024 * 1024)

// An index in memory, and what is selected of it.
typedef struct Fixture {
        Buf text;
        Index index;
        Catalog catalog;
        char fingerprint[CATALOG_FINGERPRINT_SIZE];
} Fixture;

static void fixture_done(Fixture *fixture)
{
        catalog_done(&fixture->catalog);
        index_done(&fixture->index);
        buf_done(&fixture->text);
}

#define _cleanup_fixture_ _cleanup_(fixture_done)

static void fixture_init(Fixture *fixture, const char *entries, const char *match)
{
        Error err = ERROR_NONE;
        int r;

        *fixture = (Fixture){.text = BUF_INIT(TEXT_MAX)};
        assert_int_equal(buf_printf(&fixture->text, "<profiles>\n%s</profiles>", entries), 0);
        r = index_parse(fixture->text.data, fixture->text.len, &fixture->index, &err);
        assert_ok(r, err);
        catalog_init(&fixture->catalog, &fixture->index, match);
        catalog_fingerprint(&fixture->catalog, fixture->fingerprint);
}

#define ENTRY(mtime, name) "<profile mtime='" #mtime "'>" name "</profile>\n"

static const CatalogEntry *find(const Fixture *fixture, const char *name)
{
        return catalog_find(&fixture->catalog, name, strlen(name));
}

static void test_match_is_a_substring(void **state)
{
        static const char entries[] = ENTRY(1, "a.cloud.template.json") ENTRY(2, "b.json")
                ENTRY(3, "x.cloud.template.json.gz");

        (void)state;
        _cleanup_fixture_ Fixture some, all, none;

        fixture_init(&some, entries, ".cloud.template.json");
        assert_int_equal(some.catalog.n_entries, 2);
        assert_null(find(&some, "b.json"));
        fixture_init(&all, entries, "");
        assert_int_equal(all.catalog.n_entries, 3);
        assert_int_equal(find(&all, "b.json")->mtime, 2);
        fixture_init(&none, entries, "nothing like it");
        assert_int_equal(none.catalog.n_entries, 0);
        assert_null(find(&none, "b.json"));
}

static void test_other_kinds(void **state)
{
        _cleanup_fixture_ Fixture fixture;

        (void)state;
        fixture_init(&fixture,
                     ENTRY(1, "a.xml") ENTRY(2, "clusters") ENTRY(3, ".json") ENTRY(4, "a.json")
                             ENTRY(5, "a.xml.gz"),
                     "");
        assert_int_equal(fixture.catalog.n_entries, 1);
        assert_int_equal(fixture.catalog.n_other, 4);
}

static void test_name_is_without_gz(void **state)
{
        _cleanup_fixture_ Fixture fixture;
        const CatalogEntry *entry;

        (void)state;
        fixture_init(&fixture, ENTRY(1, "a.json.gz"), "");
        assert_null(find(&fixture, "a.json.gz"));
        entry = find(&fixture, "a.json");
        assert_non_null(entry);
        assert_int_equal(entry->entry_len, strlen("a.json.gz"));
}

static void test_plain_one_before_gz(void **state)
{
        _cleanup_fixture_ Fixture first, last;

        (void)state;
        fixture_init(&first, ENTRY(1, "a.json") ENTRY(9, "a.json.gz"), "");
        fixture_init(&last, ENTRY(9, "a.json.gz") ENTRY(1, "a.json"), "");
        assert_int_equal(find(&first, "a.json")->mtime, 1);
        assert_int_equal(find(&last, "a.json")->mtime, 1);
        assert_int_equal(first.catalog.n_repeats, 0);
        assert_string_equal(first.fingerprint, last.fingerprint);
}

static void test_newest_of_repeats(void **state)
{
        _cleanup_fixture_ Fixture a, b, once;

        (void)state;
        fixture_init(&a, ENTRY(1, "a.json") ENTRY(3, "a.json") ENTRY(2, "a.json"), "");
        fixture_init(&b, ENTRY(2, "a.json") ENTRY(3, "a.json") ENTRY(1, "a.json"), "");
        fixture_init(&once, ENTRY(3, "a.json"), "");
        assert_int_equal(a.catalog.n_entries, 1);
        assert_int_equal(a.catalog.n_repeats, 2);
        assert_ptr_equal(a.catalog.repeats[0], &a.index.entries[1]);
        assert_int_equal(find(&a, "a.json")->mtime, 3);
        assert_string_equal(a.fingerprint, b.fingerprint);
        assert_string_equal(a.fingerprint, once.fingerprint);
}

static void test_fingerprint_is_of_the_set(void **state)
{
        static const char *const same[] = {
                ENTRY(1, "a.json") ENTRY(2, "bb.json") ENTRY(3, "c/c.json"),
                ENTRY(3, "c/c.json") ENTRY(1, "a.json") ENTRY(2, "bb.json"),
                ENTRY(2, "bb.json") ENTRY(9, "x.xml") ENTRY(3, "c/c.json") ENTRY(1, "a.json"),
        };
        static const char *const others[] = {
                "",
                ENTRY(1, "a.json") ENTRY(2, "bb.json"),
                ENTRY(1, "a.json") ENTRY(2, "bb.json") ENTRY(4, "c/c.json"),
                ENTRY(2, "a.json") ENTRY(1, "bb.json") ENTRY(3, "c/c.json"),
                ENTRY(1, "a.json") ENTRY(2, "bc.json") ENTRY(3, "c/c.json"),
                ENTRY(1, "a.json") ENTRY(2, "bb.json.gz") ENTRY(3, "c/c.json"),
                ENTRY(1, "a.json") ENTRY(2, "bb.json") ENTRY(3, "c/c.json") ENTRY(4, "d.json"),
        };
        _cleanup_fixture_ Fixture reference;

        (void)state;
        fixture_init(&reference, same[0], "");
        for (size_t i = 1; i < ELEMENTSOF(same); i++) {
                _cleanup_fixture_ Fixture fixture;

                fixture_init(&fixture, same[i], "");
                assert_string_equal(fixture.fingerprint, reference.fingerprint);
        }
        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                _cleanup_fixture_ Fixture fixture;

                fixture_init(&fixture, others[i], "");
                assert_string_not_equal(fixture.fingerprint, reference.fingerprint);
        }
        assert_int_equal(catalog_fingerprint_count(reference.fingerprint), 3);
        assert_int_equal(catalog_fingerprint_count(NULL), 0);
}

static void test_many(void **state)
{
        enum { N = 20000 };
        _cleanup_buf_ Buf entries = BUF_INIT(TEXT_MAX);
        _cleanup_fixture_ Fixture fixture;

        (void)state;
        for (int i = 0; i < N; i++)
                assert_int_equal(
                        buf_printf(&entries, "<profile mtime='%d'>host-%d.json</profile>\n", i, i),
                        0);
        fixture_init(&fixture, buf_str(&entries), "");
        assert_int_equal(fixture.catalog.n_entries, N);
        for (int i = 0; i < N; i++) {
                _cleanup_free_ char *name = xasprintf("host-%d.json", i);
                const CatalogEntry *entry = find(&fixture, name);

                assert_non_null(entry);
                assert_int_equal(entry->mtime, i);
        }
        assert_null(find(&fixture, "host-20000.json"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_match_is_a_substring),
                cmocka_unit_test(test_other_kinds),
                cmocka_unit_test(test_name_is_without_gz),
                cmocka_unit_test(test_plain_one_before_gz),
                cmocka_unit_test(test_newest_of_repeats),
                cmocka_unit_test(test_fingerprint_is_of_the_set),
                cmocka_unit_test(test_many),
        };

        return cmocka_run_group_tests_name("catalog", tests, NULL, NULL);
}
