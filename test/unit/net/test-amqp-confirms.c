#include "../unit.h"

#include <errno.h>

#include "net/amqp_confirms.h"
#include "util/alloc.h"

typedef struct Fates {
        Confirms confirms;
        unsigned good[4 * PUBLISH_WINDOW];
        unsigned bad[4 * PUBLISH_WINDOW];
        char last_error[ERROR_TEXT_MAX];
        unsigned again; // publishes this many more from within the callback
        uint64_t next_token;
} Fates;

static void add(Fates *fates)
{
        _cleanup_free_ char *id = xasprintf("id-%llu", (unsigned long long)fates->next_token);

        confirms_add(&fates->confirms, fates->next_token++, id);
}

static void on_done(uint64_t token, const Error *err, void *userdata)
{
        Fates *fates = userdata;

        if (err) {
                fates->bad[token]++;
                (void)snprintf(fates->last_error, sizeof fates->last_error, "%s", err->text);
        } else {
                fates->good[token]++;
        }
        if (fates->again) {
                fates->again--;
                add(fates);
        }
}

static int set_up(void **state)
{
        Fates *fates = xcalloc(1, sizeof *fates);

        confirms_init(&fates->confirms, on_done, fates);
        *state = fates;
        return 0;
}

static int tear_down(void **state)
{
        Fates *fates = *state;

        confirms_done(&fates->confirms);
        free(fates);
        return 0;
}

static void add_some(Fates *fates, unsigned n)
{
        while (n--)
                add(fates);
}

static void expect(const Fates *fates, uint64_t token, unsigned good, unsigned bad)
{
        if (fates->good[token] != good || fates->bad[token] != bad)
                fail_msg("token %d: confirmed %u times, failed %u times", (int)token,
                         fates->good[token], fates->bad[token]);
}

static void test_one_by_one(void **state)
{
        Fates *fates = *state;

        add_some(fates, 3);
        assert_int_equal(fates->confirms.n_waiting, 3);
        confirms_settle(&fates->confirms, 2, false, NULL);
        expect(fates, 0, 0, 0);
        expect(fates, 1, 1, 0);
        expect(fates, 2, 0, 0);
        assert_int_equal(fates->confirms.n_waiting, 2);
}

static void test_multiple_takes_all_up_to_the_tag(void **state)
{
        Fates *fates = *state;

        add_some(fates, 5);
        confirms_settle(&fates->confirms, 2, false, NULL);
        confirms_settle(&fates->confirms, 4, true, NULL);
        for (uint64_t token = 0; token < 4; token++)
                expect(fates, token, 1, 0);
        expect(fates, 4, 0, 0);
}

static void test_unknown_tags_are_ignored(void **state)
{
        Fates *fates = *state;

        confirms_settle(&fates->confirms, 0, true, NULL);
        confirms_settle(&fates->confirms, 1, false, NULL);
        add_some(fates, 2);
        confirms_settle(&fates->confirms, 3, true, NULL);
        confirms_settle(&fates->confirms, UINT64_MAX, true, NULL);
        assert_int_equal(fates->confirms.n_waiting, 2);
        confirms_settle(&fates->confirms, 1, false, NULL);
        confirms_settle(&fates->confirms, 1, false, NULL); // twice
        expect(fates, 0, 1, 0);
}

static void test_oldest_holds_the_window(void **state)
{
        Fates *fates = *state;

        add_some(fates, PUBLISH_WINDOW - 1);
        assert_false(confirms_full(&fates->confirms));
        add(fates);
        assert_true(confirms_full(&fates->confirms));
        for (uint64_t tag = 2; tag <= PUBLISH_WINDOW; tag++)
                confirms_settle(&fates->confirms, tag, false, NULL);
        assert_int_equal(fates->confirms.n_waiting, 1);
        assert_true(confirms_full(&fates->confirms));
        confirms_settle(&fates->confirms, 1, false, NULL);
        assert_false(confirms_full(&fates->confirms));
        add_some(fates, PUBLISH_WINDOW);
        assert_true(confirms_full(&fates->confirms));
}

static void test_returned_message_fails_with_its_confirm(void **state)
{
        Fates *fates = *state;

        add_some(fates, 3);
        confirms_returned(&fates->confirms, "id-1", "312 NO_ROUTE");
        confirms_returned(&fates->confirms, "id-9", "nobody's");
        expect(fates, 1, 0, 0);
        confirms_settle(&fates->confirms, 3, true, NULL);
        expect(fates, 0, 1, 0);
        expect(fates, 1, 0, 1);
        expect(fates, 2, 1, 0);
        assert_contains(fates->last_error, "312 NO_ROUTE");
}

static void test_same_id_twice_returned_twice(void **state)
{
        Fates *fates = *state;

        confirms_add(&fates->confirms, 0, "same");
        confirms_add(&fates->confirms, 1, "same");
        confirms_returned(&fates->confirms, "same", "gone");
        confirms_returned(&fates->confirms, "same", "gone");
        confirms_settle(&fates->confirms, 2, true, NULL);
        expect(fates, 0, 0, 1);
        expect(fates, 1, 0, 1);
}

static void test_nack_fails_with_its_reason(void **state)
{
        Fates *fates = *state;
        Error err = ERROR_NONE;

        (void)error_set(&err, EIO, "no room");
        add_some(fates, 2);
        confirms_returned(&fates->confirms, "id-0", "returned as well");
        confirms_settle(&fates->confirms, 1, false, &err);
        expect(fates, 0, 0, 1);
        assert_string_equal(fates->last_error, "no room");
}

static void test_failing_all_starts_anew(void **state)
{
        Fates *fates = *state;
        Error err = ERROR_NONE;

        (void)error_set(&err, ECONNRESET, "it broke");
        add_some(fates, 4);
        confirms_settle(&fates->confirms, 2, false, NULL);
        confirms_fail_all(&fates->confirms, &err);
        expect(fates, 0, 0, 1);
        expect(fates, 1, 1, 0);
        expect(fates, 2, 0, 1);
        expect(fates, 3, 0, 1);
        assert_int_equal(fates->confirms.n_waiting, 0);
        confirms_fail_all(&fates->confirms, &err); // nothing to fail
        add(fates);
        confirms_settle(&fates->confirms, 1, false, NULL);
        expect(fates, 4, 1, 0);
}

static void test_callback_may_publish(void **state)
{
        Fates *fates = *state;

        add_some(fates, PUBLISH_WINDOW);
        fates->again = PUBLISH_WINDOW;
        confirms_settle(&fates->confirms, PUBLISH_WINDOW, true, NULL);
        assert_int_equal(fates->confirms.n_waiting, PUBLISH_WINDOW);
        confirms_settle(&fates->confirms, 2 * PUBLISH_WINDOW, true, NULL);
        for (uint64_t token = 0; token < 2 * PUBLISH_WINDOW; token++)
                expect(fates, token, 1, 0);
        assert_int_equal(fates->confirms.n_waiting, 0);
}

#define unit_test_confirms(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                unit_test_confirms(test_one_by_one),
                unit_test_confirms(test_multiple_takes_all_up_to_the_tag),
                unit_test_confirms(test_unknown_tags_are_ignored),
                unit_test_confirms(test_oldest_holds_the_window),
                unit_test_confirms(test_returned_message_fails_with_its_confirm),
                unit_test_confirms(test_same_id_twice_returned_twice),
                unit_test_confirms(test_nack_fails_with_its_reason),
                unit_test_confirms(test_failing_all_starts_anew),
                unit_test_confirms(test_callback_may_publish),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
