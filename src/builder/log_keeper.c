#include "builder/log_keeper.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define SECONDS_PER_DAY 86400

// "<image>.<template>.json.<epoch>.log"
static bool is_build_log(const char *name)
{
        const char *dot = strrchr(name, '.');
        const char *digits;

        if (!dot || dot == name || strcmp(dot, ".log") != 0)
                return false;
        digits = dot;
        while (digits > name && isdigit((unsigned char)digits[-1]))
                digits--;
        return digits < dot && digits - name > 6 && memcmp(digits - 6, ".json.", 6) == 0;
}

int log_keeper_run(const char *log_dir, int64_t keep_days, size_t *ret_removed, Error *err)
{
        time_t oldest = time(NULL) - (time_t)(keep_days * SECONDS_PER_DAY);
        const struct dirent *entry;
        size_t removed = 0;
        DIR *dir;

        *ret_removed = 0;
        if (!keep_days)
                return 0;
        dir = opendir(log_dir);
        if (!dir)
                return error_sys(err, "cannot look for old logs in %s", log_dir);
        while ((entry = readdir(dir))) {
                struct stat info;

                if (!is_build_log(entry->d_name) ||
                    fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0 ||
                    !S_ISREG(info.st_mode) || info.st_mtime >= oldest)
                        continue;
                if (unlinkat(dirfd(dir), entry->d_name, 0) == 0)
                        removed++;
        }
        (void)closedir(dir);
        *ret_removed = removed;
        return 0;
}
