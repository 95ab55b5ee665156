// What every program and sub-command has in common: options, help, the configuration file, and how
// errors become an exit status.
//
//     static const ProgramOption options[] = {
//             {"dry-run", 'n', NULL, "say what would be queued, queue nothing",
//              offsetof(Options, dry_run)},
//     };
//     static const Program program = {
//             .name = "cdb2rabbit",
//             .summary = "Queue a message for each profile that changed.",
//             .options = options,
//             .n_options = ELEMENTSOF(options),
//             .options_size = sizeof(Options),
//             .require = config_require_scan,
//             .run = run,
//     };
//
//     int main(int argc, char **argv)
//     {
//             return program_main(&program, argc, argv);
//     }
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/config.h"
#include "util/error.h"
#include "util/macro.h"

// Exit status, and (the last two) what `run` may return besides 0.
typedef enum ProgramStatus {
        PROGRAM_DONE = 0,   // nothing to do is done, too
        PROGRAM_FAILED = 1, // something failed; err's text, if any, is still to be said
        PROGRAM_USAGE = 2,  // the command line makes no sense: err says why, and --help is named
} ProgramStatus;

// An option of one program; -c, -v, --help and --version are there for all.
typedef struct ProgramOption {
        const char *name;     // long form, without dashes
        char letter;          // short form, 0: none
        const char *argument; // word for the argument in --help; NULL: the option has none
        const char *help;
        // Of a `const char *` (with argument, NULL unless given) or a `bool` in the options struct.
        size_t offset;
} ProgramOption;

typedef struct Invocation {
        const Config *config;
        const void *options;    // the program's own struct
        char *const *arguments; // what follows the options, NULL-terminated
} Invocation;

typedef struct Program {
        const char *name;      // as the user types it: "cdb2rabbit", "packuilon build"
        const char *arguments; // for the usage line: "ID"; NULL: none are taken
        unsigned min_arguments, max_arguments;
        const char *summary; // one sentence
        const char *details; // what else --help says; ends with a newline; NULL: nothing
        const ProgramOption *options;
        size_t n_options;
        size_t options_size;
        bool tells_warnings; // run says the configuration's warnings in its own way
        // Which part of the configuration must be there; NULL: any file that can be read will do.
        int (*require)(const Config *config, Error *err);
        // Does the work: 0, a ProgramStatus, or a negative errno, which means PROGRAM_FAILED.
        int (*run)(const Invocation *invocation, Error *err);
        // Instead of run: sub-commands, NULL-terminated, named "<name> <command>".
        const struct Program *const *commands;
} Program;

// The whole of main(): returns the exit status. Warnings of the configuration are logged.
int program_main(const Program *program, int argc, char **argv);

// What program_main does first; for a program that does without it. All of ours read passwords: no
// core file holds them, and no other process of our user may trace us.
void program_protect_secrets(void);
