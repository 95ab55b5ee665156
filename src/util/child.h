// Child processes: argument vectors, never a shell line.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/buf.h"
#include "util/error.h"

typedef struct ChildSpec {
        const char *const *argv; // NULL-terminated; argv[0] is looked up in PATH unless it has a /
        const char *const *envp; // NULL-terminated; NULL inherits ours
        const char *cwd;         // NULL: ours
        int in_fd;               // becomes stdin; 0: /dev/null
        int out_fd;              // becomes stdout and stderr; -1: /dev/null
        bool keep_stderr;        // … stdout alone: stderr is ours
        bool new_session;        // setsid(): the child leads a session and a process group
        int death_signal;        // sent to the child when our process dies; 0: none
        int kept_fd; // one more descriptor that stays open in the child, under its number; 0: none
} ChildSpec;

// Starts the program with default signal handling, an empty signal mask and no inherited file
// descriptors. A program that cannot be executed is an error here (with its reason), not a strange
// exit status later. The caller reaps *ret_pid.
int child_spawn(const ChildSpec *spec, pid_t *ret_pid, Error *err) must_check;

// Where a program of ours is that is no command: beside the running one, which is so in the folder
// that it was built in, or else where it is installed. The caller frees.
char *child_own_program(const char *name);

// Runs a short command to its end and collects up to out->max bytes of stdout and stderr (the rest
// is read and dropped). After timeout_ms the whole group is killed: -ETIMEDOUT. Blocks.
// *ret_status is as waitpid gives it. spec->out_fd and new_session are ignored.
int child_capture(const ChildSpec *spec, int64_t timeout_ms, Buf *out, int *ret_status,
                  Error *err) must_check;

// The exit code a shell would give: the code, or 128 + signal.
int child_exit_code(int status);
