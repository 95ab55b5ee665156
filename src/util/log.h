// Messages for the operator, on stderr.
//
// Only programs (src/bin) and the objects that run for as long as a program (scanner, worker)
// log; library code returns an Error instead. Under systemd each line carries its level as the
// "<n>" prefix that the journal reads; on a terminal or in a file it is plain text.
#pragma once

#include "util/macro.h"

typedef enum LogLevel {
        LOG_LEVEL_ERROR = 3, // syslog's numbers
        LOG_LEVEL_WARNING = 4,
        LOG_LEVEL_NOTICE = 5,
        LOG_LEVEL_INFO = 6,
        LOG_LEVEL_DEBUG = 7,
} LogLevel;

// Messages less important than `level` are dropped. Default LOG_LEVEL_INFO.
void log_set_level(LogLevel level);

// The word in front of each line when stderr is not the journal; borrowed for ever.
void log_set_program(const char *name);

// Control characters, which may come from outside, are shown as \xNN, so that one message stays
// one line.
void log_write(LogLevel level, const char *fmt, ...) printf_like(2, 3);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_write(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
