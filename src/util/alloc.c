#include "util/alloc.h"

#include <stdio.h>
#include <string.h>

static void out_of_memory(void) __attribute__((noreturn));

static void out_of_memory(void)
{
        static const char words[] = "out of memory\n";
        ssize_t ignored = write(STDERR_FILENO, words, sizeof words - 1);

        (void)ignored;
        abort();
}

void *xmalloc(size_t size)
{
        void *ptr = malloc(size ? size : 1);

        if (!ptr)
                out_of_memory();
        return ptr;
}

void *xcalloc(size_t count, size_t size)
{
        void *ptr = calloc(count ? count : 1, size ? size : 1);

        if (!ptr)
                out_of_memory();
        return ptr;
}

void *xreallocarray(void *ptr, size_t count, size_t size)
{
        void *grown = reallocarray(ptr, count ? count : 1, size ? size : 1);

        if (!grown)
                out_of_memory();
        return grown;
}

char *xstrdup(const char *text)
{
        return text ? xstrndup(text, strlen(text)) : NULL;
}

char *xstrndup(const char *text, size_t len)
{
        char *copy = xmalloc(len + 1);

        if (len)
                memcpy(copy, text, len);
        copy[len] = '\0';
        return copy;
}

char *xvasprintf(const char *fmt, va_list args)
{
        char *text = NULL;

        if (vasprintf(&text, fmt, args) < 0)
                out_of_memory();
        return text;
}

char *xasprintf(const char *fmt, ...)
{
        va_list args;
        char *text;

        va_start(args, fmt);
        text = xvasprintf(fmt, args);
        va_end(args);
        return text;
}

void replace_string(char **slot, const char *text)
{
        char *copy = xstrdup(text);

        free(*slot);
        *slot = copy;
}
