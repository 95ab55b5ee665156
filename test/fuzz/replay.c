// Stands in for libFuzzer: runs the target over every file of a corpus folder, as a TAP test.
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/buf.h"
#include "util/fs.h"

#define INPUT_MAX ((size_t)16 * 1024 * 1024)

static int is_visible(const struct dirent *entry)
{
        return entry->d_name[0] != '.';
}

static int replay(const char *folder, const char *name)
{
        _cleanup_free_ char *path = fs_join(folder, name);
        _cleanup_buf_ Buf input = BUF_INIT(INPUT_MAX);
        Error err = ERROR_NONE;
        uint8_t *exact;

        if (fs_read_file(path, &input, &err) < 0) {
                printf("# %s\n", err.text);
                return -1;
        }
        // A block of just that size, so that a sanitizer sees a read beyond the end.
        exact = malloc(input.len ? input.len : 1);
        if (!exact)
                return -1;
        for (size_t i = 0; i < input.len; i++)
                exact[i] = (uint8_t)input.data[i];
        (void)LLVMFuzzerTestOneInput(exact, input.len);
        free(exact);
        return 0;
}

int main(int argc, char **argv)
{
        struct dirent **entries = NULL;
        int count = argc == 2 ? scandir(argv[1], &entries, is_visible, alphasort) : -1;

        if (count <= 0) {
                printf("Bail out! no corpus in %s\n", argc == 2 ? argv[1] : "(no folder given)");
                return EXIT_FAILURE;
        }
        printf("1..%d\n", count);
        for (int i = 0; i < count; i++) {
                int r = replay(argv[1], entries[i]->d_name);

                printf("%s %d - %s\n", r < 0 ? "not ok" : "ok", i + 1, entries[i]->d_name);
                (void)fflush(stdout); // before the next input crashes
                free(entries[i]);
        }
        free(entries);
        return EXIT_SUCCESS;
}
