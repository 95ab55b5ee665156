// Allocation that succeeds or aborts.
//
// Small allocations of our own cannot sensibly fail: the state is on disk and the service is
// restarted. Every size that comes from outside is compared with a limit before it gets here.
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include "util/macro.h"

void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull, alloc_size(1)));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull, alloc_size(1, 2)));

// As realloc(ptr, count * size); aborts on overflow of the product.
void *xreallocarray(void *ptr, size_t count, size_t size)
        __attribute__((returns_nonnull, warn_unused_result));

// NULL gives NULL, so that optional strings copy without a test.
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t len) __attribute__((returns_nonnull));
char *xasprintf(const char *fmt, ...) printf_like(1, 2) __attribute__((returns_nonnull));
char *xvasprintf(const char *fmt, va_list args) printf_like(1, 0) __attribute__((returns_nonnull));

// Frees what *slot held and stores a copy of text (NULL stays NULL).
void replace_string(char **slot, const char *text);
