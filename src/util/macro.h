// Small macros every file may use: cleanup attributes, ownership transfer, format checking.
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))
#define must_check __attribute__((warn_unused_result))

// An owning local: the function is called with the variable's address when it leaves scope.
#define _cleanup_(fn) __attribute__((cleanup(fn)))

// Hands ownership on: gives the pointer and leaves NULL behind, so that a cleanup does nothing.
#define TAKE_PTR(ptr)                                                                              \
        __extension__({                                                                            \
                __typeof__(ptr) *take_from_ = &(ptr);                                              \
                __typeof__(ptr) taken_ = *take_from_;                                              \
                *take_from_ = NULL;                                                                \
                taken_;                                                                            \
        })

// The same for file descriptors, with -1 as the empty value.
#define TAKE_FD(fd)                                                                                \
        __extension__({                                                                            \
                int *take_from_ = &(fd);                                                           \
                int taken_ = *take_from_;                                                          \
                *take_from_ = -1;                                                                  \
                taken_;                                                                            \
        })

#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

// Defines `name##_p`, the form that _cleanup_ wants, for a free function that takes the pointer.
#define DEFINE_CLEANUP(type, free_fn)                                                              \
        static inline __attribute__((unused)) void free_fn##_p(type **ptr)                         \
        {                                                                                          \
                if (*ptr)                                                                          \
                        free_fn(*ptr);                                                             \
        }

static inline void free_p(void *ptr)
{
        free(*(void **)ptr);
}

static inline void close_p(const int *fd)
{
        if (*fd >= 0)
                (void)close(*fd);
}

#define _cleanup_free_ _cleanup_(free_p)
#define _cleanup_close_ _cleanup_(close_p)
