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
