#include "../unit.h"

#include <errno.h>
#include <sys/stat.h>

#include "core/config.h"
#include "core/profile.h"
#include "util/macro.h"
#include "util/strutil.h"

#define PATH "/etc/x/c.ini"

static Config *parse(const char *text)
{
        Config *config = NULL;
        Error err = ERROR_NONE;

        assert_ok(config_parse(PATH, text, strlen(text), &config, &err), err);
        return config;
}

// The text after "/etc/x/c.ini:".
static void assert_fails(const char *text, const char *expected)
{
        Config *config = NULL;
        Error err = ERROR_NONE;

        assert_true(config_parse(PATH, text, strlen(text), &config, &err) < 0);
        assert_null(config);
        assert_true(str_starts_with(err.text, PATH ":"));
        assert_string_equal(err.text + strlen(PATH ":"), expected);
}

static void assert_warns(const char *text, const char *expected)
{
        _cleanup_config_ Config *config = parse(text);

        if (!expected) {
                if (config->warnings)
                        fail_msg("%s", config->warnings[0]);
                return;
        }
        assert_int_equal(strv_count(config->warnings), 1);
        assert_true(str_starts_with(config->warnings[0], PATH ":"));
        assert_string_equal(config->warnings[0] + strlen(PATH ":"), expected);
}

static Config *load_sample(const char *name)
{
        _cleanup_free_ char *folder = fs_join(getenv("TEST_DATA"), "config");
        _cleanup_free_ char *path = fs_join(folder, name);
        Config *config = NULL;
        Error err = ERROR_NONE;

        assert_ok(config_load(path, &config, &err), err);
        return config;
}

static void test_defaults(void **state)
{
        _cleanup_config_ Config *config = parse("");
        size_t n_ignored = 0;

        (void)state;
        assert_string_equal(config->path, PATH);
        assert_string_equal(config->global.queue, "build-queue");
        assert_int_equal(config->global.transport, TRANSPORT_LOCAL);
        assert_null(config->global.rabbit_host);
        assert_int_equal(config->global.rabbit_port, 5672);
        assert_string_equal(config->global.rabbit_user, "guest");
        assert_string_equal(config->global.rabbit_pw, "guest");
        assert_string_equal(config->global.rabbit_vhost, "/");
        assert_false(config->global.rabbit_tls);
        assert_string_equal(config->global.state_dir, "/var/lib/packuilon");
        assert_null(config->global.success_address);

        assert_null(config->scan.profile_info_url);
        assert_string_equal(config->scan.profile_match, "");
        assert_string_equal(config->scan.cache_dir, "/var/lib/packuilon/profiles");
        assert_int_equal(config->scan.first_run, FIRST_RUN_RECORD);
        while (profile_default_ignore_paths[n_ignored])
                n_ignored++;
        assert_int_equal(strv_count(config->scan.ignore_paths), n_ignored);
        assert_int_equal(config->scan.parallel, 8);
        assert_int_equal(config->scan.max_profile_bytes, 64 << 20);
        assert_int_equal(config->scan.max_index_bytes, 256 << 20);
        assert_int_equal(config->scan.poll_seconds, 3600);
        assert_string_equal(config->scan.cdp_listen, "0.0.0.0:7777");
        assert_null(config->scan.cdp_allow);
        assert_int_equal(config->scan.http_timeout_seconds, 60);

        assert_int_equal(config->build.slots, 4);
        assert_string_equal(config->build.log_dir, "/var/log/packuilon");
        assert_string_equal(config->build.build_file_dir, "/var/lib/packuilon/build-files");
        assert_null(config->build.auth_file);
        assert_null(config->build.template_map);
        assert_string_equal(config->build.packer_path, "packer");
        assert_string_equal(config->build.image_name, "${personality}-${os}");
        assert_int_equal(config->build.build_timeout_seconds, 4 * 60 * 60);
        assert_int_equal(config->build.stop_grace_seconds, 10 * 60);
        assert_int_equal(config->build.max_attempts, 3);
        assert_int_equal(config->build.retry_seconds, 60);
        assert_int_equal(config->build.lease_seconds, 30 * 60);
        assert_int_equal(config->build.log_keep_days, 90);
        assert_int_equal(config->build.max_log_bytes, 64 << 20);
        assert_null(config->warnings);
}

static void test_upstream_file(void **state)
{
        _cleanup_config_ Config *config = load_sample("upstream.ini");
        Error err = ERROR_NONE;

        (void)state;
        assert_int_equal(config->global.transport, TRANSPORT_AMQP);
        assert_string_equal(config->global.rabbit_host, "rabbit.example.org");
        assert_int_equal(config->global.rabbit_port, 5673);
        assert_string_equal(config->global.rabbit_pw, "se%cret");
        assert_string_equal(config->global.failure_address, "images-failed@example.org");
        assert_string_equal(config->scan.profile_dir_url, "http://aquilon.example.org/profiles");
        assert_string_equal(config->scan.profile_match, ".cloud.template.json");
        assert_int_equal(config->build.slots, 6);
        assert_string_equal(config->build.auth_file, "/etc/packer-utils/packer-auth.sh");
        assert_string_equal(config->build.template_map, "/etc/packer-utils/template-map.json");
        assert_ok(config_require_scan(config, &err), err);
        assert_ok(config_require_build(config, &err), err);
        assert_true(strv_count(config->warnings) >= 1); // and one if its mode lets everybody read
        assert_contains(config->warnings[0], ":28: [rally-image-testing]: no such section");
}

static void test_oldest_upstream_file(void **state)
{
        _cleanup_config_ Config *config = load_sample("upstream-2016.ini");
        Error err = ERROR_NONE;

        (void)state;
        assert_string_equal(config->global.queue, "images");
        assert_int_equal(config->global.transport, TRANSPORT_AMQP);
        assert_string_equal(config->global.rabbit_host, "rabbit.example.org");
        assert_string_equal(config->build.auth_file, "/etc/packer-utils/auth.sh");
        assert_string_equal(config->build.template_file, "/etc/packer-utils/template.json");
        assert_ok(config_require_scan(config, &err), err);
        assert_ok(config_require_build(config, &err), err);
        assert_null(config->warnings);
}

static void test_old_and_new_place_must_agree(void **state)
{
        _cleanup_config_ Config *config = parse(
                "[DEFAULT]\nQUEUE = all\n[cdb2rabbit]\nqueue_host = h\n[global]\nQUEUE = own\n"
                "RABBIT_HOST = h\n");

        (void)state;
        assert_string_equal(config->global.queue, "own");
        assert_string_equal(config->global.rabbit_host, "h");
        assert_fails("[global]\nRABBIT_HOST = a\nQUEUE_HOST = b\n",
                     "3: [global] RABBIT_HOST: line 2 says otherwise");
        assert_fails("[cdb2rabbit]\nQUEUE = a\n[rabbit2packer]\nQUEUE = b\n",
                     "4: [global] QUEUE: line 2 says otherwise");
}

static void test_transport_and_tls(void **state)
{
        _cleanup_config_ Config *local = parse("[global]\nTRANSPORT = Local\nRABBIT_HOST = h\n");
        _cleanup_config_ Config *tls = parse("[global]\nRABBIT_HOST = h\nRABBIT_TLS_CA = ca.pem\n");
        _cleanup_config_ Config *plain =
                parse("[global]\nRABBIT_HOST = h\nRABBIT_TLS_CA = ca.pem\nRABBIT_TLS = no\n");
        _cleanup_config_ Config *port =
                parse("[global]\nRABBIT_HOST = h\nRABBIT_TLS = yes\nRABBIT_PORT = 5999\n");

        (void)state;
        assert_int_equal(local->global.transport, TRANSPORT_LOCAL);
        assert_null(local->global.rabbit_host);
        assert_true(tls->global.rabbit_tls);
        assert_string_equal(tls->global.rabbit_tls_ca, "/etc/x/ca.pem");
        assert_int_equal(tls->global.rabbit_port, 5671);
        assert_false(plain->global.rabbit_tls);
        assert_int_equal(plain->global.rabbit_port, 5672);
        assert_int_equal(port->global.rabbit_port, 5999);
        assert_fails("[global]\nTRANSPORT = amqp\n",
                     "2: [global] TRANSPORT: amqp needs a RABBIT_HOST");
        assert_fails("[global]\nTRANSPORT = kafka\n",
                     "2: [global] TRANSPORT: \"kafka\" is neither local nor amqp");
}

static void test_relative_paths_start_at_the_file(void **state)
{
        _cleanup_config_ Config *config =
                parse("[global]\nSTATE_DIR = state\n[rabbit2packer]\nLOG_DIR = /log\nPACKER_PATH = "
                      "bin/p\n"
                      "IMAGES_CONFIG=../images.json\n");
        _cleanup_config_ Config *here = NULL;
        Error err = ERROR_NONE;

        (void)state;
        assert_string_equal(config->global.state_dir, "/etc/x/state");
        assert_string_equal(config->scan.cache_dir, "/etc/x/state/profiles");
        assert_string_equal(config->build.log_dir, "/log");
        assert_string_equal(config->build.packer_path, "/etc/x/bin/p");
        assert_string_equal(config->build.images_config, "/etc/x/../images.json");
        assert_ok(config_parse("c.ini", "[global]\nSTATE_DIR=s", 20, &here, &err), err);
        assert_string_equal(here->global.state_dir, "s");
}

static void test_values(void **state)
{
        _cleanup_config_ Config *config =
                parse("[cdb2rabbit]\nFIRST_RUN = BUILD\nPARALLEL = 256\nMAX_PROFILE_BYTES = 1k\n"
                      "POLL_SECONDS = 0\nCDP_LISTEN = [2001:db8::1]:7778\n"
                      "CDP_ALLOW = 192.0.2.1, 2001:db8::2\n  192.0.2.3\n"
                      "PROFILE_INFO_URL = FILE:///srv/x\nHTTP_TIMEOUT = 2m\n"
                      "[rabbit2packer]\nBUILD_TIMEOUT = 90m\nLOG_KEEP_DAYS = 0\n"
                      "IMAGE_NAME = ${hostname} ${os}\nPACKER_PATH = packer.io\nLOG_DIR =\n");

        (void)state;
        assert_int_equal(config->scan.first_run, FIRST_RUN_BUILD);
        assert_int_equal(config->scan.parallel, 256);
        assert_int_equal(config->scan.max_profile_bytes, 1024);
        assert_int_equal(config->scan.poll_seconds, 0);
        assert_string_equal(config->scan.cdp_listen, "[2001:db8::1]:7778");
        assert_int_equal(strv_count(config->scan.cdp_allow), 3);
        assert_string_equal(config->scan.cdp_allow[2], "192.0.2.3");
        assert_string_equal(config->scan.profile_info_url, "FILE:///srv/x");
        assert_int_equal(config->scan.http_timeout_seconds, 120);
        assert_int_equal(config->build.build_timeout_seconds, 5400);
        assert_int_equal(config->build.log_keep_days, 0);
        assert_string_equal(config->build.image_name, "${hostname} ${os}");
        assert_string_equal(config->build.packer_path, "packer.io");
        // Without a value: the default.
        assert_string_equal(config->build.log_dir, "/var/log/packuilon");
}

static void test_ignore_paths(void **state)
{
        _cleanup_config_ Config *own = parse("[cdb2rabbit]\nIGNORE_PATHS = /a\n  /b, /c/*/d\n");
        _cleanup_config_ Config *more = parse("[cdb2rabbit]\nIGNORE_PATHS = + /a\n");
        _cleanup_config_ Config *none = parse("[cdb2rabbit]\nIGNORE_PATHS =\n");
        _cleanup_config_ Config *builtin = parse("");
        size_t n = strv_count(builtin->scan.ignore_paths);

        (void)state;
        assert_int_equal(strv_count(own->scan.ignore_paths), 3);
        assert_string_equal(own->scan.ignore_paths[2], "/c/*/d");
        assert_int_equal(strv_count(more->scan.ignore_paths), n + 1);
        assert_string_equal(more->scan.ignore_paths[0], profile_default_ignore_paths[0]);
        assert_string_equal(more->scan.ignore_paths[n], "/a");
        assert_non_null(none->scan.ignore_paths);
        assert_int_equal(strv_count(none->scan.ignore_paths), 0);
}

static void test_bad_values_are_told_with_their_place(void **state)
{
        static const struct {
                const char *text, *expected;
        } bad[] = {
                {"[rabbit2packer]\nTHREAD_COUNT = four",
                 "2: [rabbit2packer] THREAD_COUNT: \"four\" is not a whole number"},
                {"[rabbit2packer]\nthread_count = 0",
                 "2: [rabbit2packer] THREAD_COUNT: 0 is not between 1 and 256"},
                {"[rabbit2packer]\nBUILD_TIMEOUT = 4 hours",
                 "2: [rabbit2packer] BUILD_TIMEOUT: \"4 hours\" is not a time (such as 90, 90s, "
                 "15m, 2h or 7d)"},
                {"[rabbit2packer]\n\nMAX_LOG_BYTES = 1",
                 "3: [rabbit2packer] MAX_LOG_BYTES: 1 is not between 1024 and 68719476736 bytes"},
                {"[global]\nRABBIT_PORT = 70000",
                 "2: [global] RABBIT_PORT: 70000 is not between 1 and 65535"},
                {"[global]\nRABBIT_TLS = sometimes",
                 "2: [global] RABBIT_TLS: \"sometimes\" is neither yes nor no"},
                {"[global]\nQUEUE = amq.x",
                 "2: [global] QUEUE: names that start with \"amq.\" belong to the broker"},
                {"[global]\nSTATE_DIR = /a\n /b",
                 "2: [global] STATE_DIR: more than one line, or a control character"},
                {"[cdb2rabbit]\nFIRST_RUN = never",
                 "2: [cdb2rabbit] FIRST_RUN: \"never\" is neither record nor build"},
                {"[cdb2rabbit]\nCDP_ALLOW = 192.0.2.1, host",
                 "2: [cdb2rabbit] CDP_ALLOW: \"host\" is not an IP address"},
                {"[cdb2rabbit]\nPROFILE_INFO_URL = aquilon/profiles",
                 "2: [cdb2rabbit] PROFILE_INFO_URL: is not a URL that starts with http://, "
                 "https:// or file:///"},
                {"[global]\nSLACK_SUCCESS_HOOK = file:///x",
                 "2: [global] SLACK_SUCCESS_HOOK: is not a URL that starts with http:// or "
                 "https://"},
                {"[global]\nQUEUE", "2: neither a [section] nor KEY = VALUE nor a comment"},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_fails(bad[i].text, bad[i].expected);
}

static void test_more_bad_values(void **state)
{
        static const char *const bad[] = {
                "[cdb2rabbit]\nCDP_LISTEN = 7777",
                "[cdb2rabbit]\nCDP_LISTEN = :7777",
                "[cdb2rabbit]\nCDP_LISTEN = 0.0.0.0:65536",
                "[cdb2rabbit]\nCDP_LISTEN = ::1:7777",
                "[cdb2rabbit]\nCDP_LISTEN = [192.0.2.1]:7777",
                "[cdb2rabbit]\nCDP_LISTEN = localhost:7777",
                "[cdb2rabbit]\nPROFILE_INFO_URL = http://",
                "[cdb2rabbit]\nPROFILE_INFO_URL = http://a b",
                "[cdb2rabbit]\nPROFILE_INFO_URL = ftp://a/b",
                "[cdb2rabbit]\nPROFILE_INFO_URL = file://host/b",
                "[cdb2rabbit]\nIGNORE_PATHS = system/build",
                "[rabbit2packer]\nIMAGE_NAME = ${nonsense}",
                "[global]\nRABBIT_USER = a\001b",
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_config_ Config *config = NULL;
                Error err = ERROR_NONE;

                if (config_parse(PATH, bad[i], strlen(bad[i]), &config, &err) == 0)
                        fail_msg("accepted: %s", bad[i]);
                assert_contains(err.text, PATH ":2: [");
        }
}

static void test_long_queue_name(void **state)
{
        _cleanup_config_ Config *config = NULL;
        char text[160] = "[global]\nQUEUE = ";
        size_t start = strlen(text);

        (void)state;
        memset(text + start, 'q', 129);
        assert_fails(text, "2: [global] QUEUE: is longer than 128 bytes");
        text[start + 128] = '\0';
        config = parse(text);
        assert_int_equal(strlen(config->global.queue), 128);
}

static void test_warnings(void **state)
{
        (void)state;
        assert_warns("[global]\nQUEUE = q\n[rabbit2packer]\nADMIN_AUTH_FILE = /x\n", NULL);
        assert_warns("[DEFAULT]\nbase = /srv\n[global]\nSTATE_DIR = %(base)s\n", NULL);
        assert_warns("[global]\nRABBIT_PWD = x\n",
                     "2: [global] RABBIT_PWD: no such key; is RABBIT_PW meant?");
        assert_warns("[cdb2rabbit]\nPROFIL_MATCH = x\n",
                     "2: [cdb2rabbit] PROFIL_MATCH: no such key; is PROFILE_MATCH meant?");
        assert_warns("[cdb2rabbit]\nrabbit_host = x\n",
                     "2: [cdb2rabbit] RABBIT_HOST: not read here; it belongs into [global]");
        assert_warns("[global]\nCOLOUR = blue\n", "2: [global] COLOUR: no such key");
        assert_warns("[Global]\nQUEUE = q\nx = y\n",
                     "2: [Global]: no such section; its keys are not read");
}

static void test_an_overlong_key_is_only_unknown(void **state)
{
        char text[200] = "[global]\n";

        (void)state;
        memset(text + strlen(text), 'k', 100);
        memcpy(text + strlen(text), " = v", 5);
        {
                _cleanup_config_ Config *config = parse(text);

                assert_contains(config->warnings[0], "no such key");
        }
}

static void write_file(const char *path, const char *text, mode_t mode)
{
        Error err = ERROR_NONE;

        assert_ok(fs_write_atomic(path, text, strlen(text), mode, FS_NO_SYNC, &err), err);
}

static void test_password_file(void **state)
{
        _cleanup_free_ char *path = fs_join(*state, "c.ini"), *pw = fs_join(*state, "pw");
        _cleanup_config_ Config *config = NULL, *none = NULL;
        Error err = ERROR_NONE;

        write_file(path, "[global]\nRABBIT_HOST = h\nRABBIT_PW_FILE = pw\n", 0644);
        assert_int_equal(config_load(path, &none, &err), -ENOENT);
        assert_contains(err.text, "c.ini:3: [global] RABBIT_PW_FILE: cannot open ");
        write_file(pw, "\nx", 0600);
        assert_int_equal(config_load(path, &none, &err), -EINVAL);
        assert_contains(err.text, "has nothing in its first line");
        write_file(pw, "s\001crx", 0600);
        assert_int_equal(config_load(path, &none, &err), -EINVAL);
        assert_contains(err.text, "is not plain text");
        assert_null(strstr(err.text, "crx"));
        write_file(pw, "se cret\r\nmore\n", 0600);
        assert_ok(config_load(path, &config, &err), err);
        assert_string_equal(config->global.rabbit_pw, "se cret");
        assert_null(config->warnings);

        write_file(path, "[global]\nRABBIT_PW = s\nRABBIT_PW_FILE = pw\n", 0600);
        assert_int_equal(config_load(path, &none, &err), -EINVAL);
        assert_contains(err.text, "c.ini:3: [global] RABBIT_PW_FILE: there is a RABBIT_PW too, in "
                                  "line 2");
}

static void test_readable_password_is_a_warning(void **state)
{
        _cleanup_free_ char *path = fs_join(*state, "c.ini");
        _cleanup_config_ Config *open = NULL, *closed = NULL;
        Error err = ERROR_NONE;

        write_file(path, "[global]\nRABBIT_PW = s\n", 0644);
        assert_ok(config_load(path, &open, &err), err);
        assert_int_equal(strv_count(open->warnings), 1);
        assert_contains(open->warnings[0], "c.ini:2: [global] RABBIT_PW: everybody can read");
        write_file(path, "[global]\nRABBIT_PW = s\n", 0640);
        assert_ok(config_load(path, &closed, &err), err);
        assert_null(closed->warnings);
}

static void test_secrets_are_never_shown(void **state)
{
        static const char *const texts[] = {
                "RABBIT_PW = sEcReT\n",
                "[global]\nRABBIT_PW = sEcReT\nRABBIT_PW sEcReT\n",
                "[global]\nRABBIT_PW = x%(sEcReT)s\n",
                "[global]\nRABBIT_PW = sEcReT\n  sEcReT\n",
                "[global]\nRABBIT_PW = sEcReT\nRABBIT_PW = sEcReT\n",
                "[global]\nSLACK_SUCCESS_HOOK = sEcReT\n",
                "[cdb2rabbit]\nPROFILE_INFO_URL = //user:sEcReT@host/x\n",
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_config_ Config *config = NULL;
                Error err = ERROR_NONE;

                assert_true(config_parse(PATH, texts[i], strlen(texts[i]), &config, &err) < 0);
                if (strcasestr(err.text, "secret"))
                        fail_msg("shown: %s", err.text);
        }
}

static void test_missing_file_and_keys(void **state)
{
        _cleanup_free_ char *path = fs_join(*state, "none.ini");
        _cleanup_config_ Config *config = parse(""), *none = NULL;
        _cleanup_config_ Config *index = parse("[cdb2rabbit]\nPROFILE_INFO_URL = http://h/i\n");
        _cleanup_config_ Config *map = parse("[rabbit2packer]\nPACKER_TEMPLATE_MAP = m\n");
        Error err = ERROR_NONE;

        assert_int_equal(config_load(path, &none, &err), -ENOENT);
        assert_contains(err.text, "configuration: cannot open ");
        assert_int_equal(config_require_scan(config, &err), -EINVAL);
        assert_string_equal(err.text, PATH ": [cdb2rabbit] PROFILE_INFO_URL is not set, and "
                                           "cdb2rabbit needs it");
        assert_int_equal(config_require_scan(index, &err), -EINVAL);
        assert_contains(err.text, "PROFILE_DIR_URL is not set");
        assert_int_equal(config_require_build(config, &err), -EINVAL);
        assert_contains(err.text, "PACKER_TEMPLATE_MAP is not set");
        assert_int_equal(config_require_build(map, &err), -EINVAL);
        assert_contains(err.text, "IMAGES_CONFIG is not set");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_upstream_file),
                cmocka_unit_test(test_oldest_upstream_file),
                cmocka_unit_test(test_old_and_new_place_must_agree),
                cmocka_unit_test(test_transport_and_tls),
                cmocka_unit_test(test_relative_paths_start_at_the_file),
                cmocka_unit_test(test_values),
                cmocka_unit_test(test_ignore_paths),
                cmocka_unit_test(test_bad_values_are_told_with_their_place),
                cmocka_unit_test(test_more_bad_values),
                cmocka_unit_test(test_long_queue_name),
                cmocka_unit_test(test_warnings),
                cmocka_unit_test(test_an_overlong_key_is_only_unknown),
                unit_test_in_folder(test_password_file),
                unit_test_in_folder(test_readable_password_is_a_warning),
                cmocka_unit_test(test_secrets_are_never_shown),
                unit_test_in_folder(test_missing_file_and_keys),
        };

        return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
