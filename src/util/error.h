// How functions fail, for the whole program.
//
// A function that can fail returns int: 0 is success, a negative errno is failure, a positive
// value is an outcome that its header names and that only the direct caller sees. The words for a
// failure go into an Error that the caller owns, by value, on its stack: nothing to release, and it
// works when memory is short. Library code neither logs nor exits; whoever asked decides.
//
//     Error err = ERROR_NONE;
//     r = config_load(path, &config, &err);
//     if (r < 0)
//             return error_prefix(&err, "cannot start");
//
// Negative codes of our own functions are passed up, not compared.
#pragma once

#include "util/macro.h"

#define ERROR_TEXT_MAX 512

typedef struct Error {
        int code;                  // positive errno, 0 when nothing failed
        char text[ERROR_TEXT_MAX]; // UTF-8, cut at the end if it did not fit; no newline at the end
} Error;

#define ERROR_NONE ((Error){.code = 0})

// Sets code and text; returns -code. err may be NULL.
int error_set(Error *err, int code, const char *fmt, ...) printf_like(3, 4);

// The same with code = errno and ": <strerror>" after the text.
int error_sys(Error *err, const char *fmt, ...) printf_like(2, 3);

// Puts "<prefix>: " in front of the text already there; returns -err->code (-EIO when err is NULL
// or empty).
int error_prefix(Error *err, const char *fmt, ...) printf_like(2, 3);

// The static analyser does not see into error.c; without this it follows paths on which a function
// failed with 0 and left its results unset.
#ifdef __clang_analyzer__
#define error_set(...) ((void)error_set(__VA_ARGS__), -1)
#define error_sys(...) ((void)error_sys(__VA_ARGS__), -1)
#define error_prefix(...) ((void)error_prefix(__VA_ARGS__), -1)
#endif
