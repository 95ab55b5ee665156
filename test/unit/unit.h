// What every unit test needs: cmocka with its prerequisites, and a folder of its own.
#pragma once

// cmocka.h wants these four first.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/fs.h"

// Fails the test with the error's words if r < 0.
#define assert_ok(r, err)                                                                          \
        do {                                                                                       \
                if ((r) < 0)                                                                       \
                        fail_msg("%s", (err).text);                                                \
        } while (0)

#define assert_contains(text, part)                                                                \
        do {                                                                                       \
                const char *text_ = (text), *part_ = (part);                                       \
                if (!strstr(text_, part_))                                                         \
                        fail_msg("\"%s\" does not contain \"%s\"", text_, part_);                  \
        } while (0)

// Setup and teardown for cmocka_unit_test_setup_teardown: *state is the path of an empty folder of
// the test's own, removed with everything in it.
static inline int unit_make_folder(void **state)
{
        const char *root = getenv("TMPDIR");
        char *path = fs_join(root ? root : "/tmp", "packuilon-unit-XXXXXX");

        *state = mkdtemp(path);
        return *state ? 0 : -1;
}

static inline int unit_remove_folder(void **state)
{
        int r = fs_remove_tree(*state, NULL);

        free(*state);
        return r;
}

#define unit_test_in_folder(test)                                                                  \
        cmocka_unit_test_setup_teardown(test, unit_make_folder, unit_remove_folder)
