#include "bin/program.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "util/alloc.h"
#include "util/log.h"
#include "util/strutil.h"

#define HELP_COLUMN 28 // where the words for an option begin
#define HELP_GAP 2

#define FIRST_LONG 0x100 // getopt_long's value for the first long option; letters are below

typedef enum CommonOption {
        COMMON_CONFIG,
        COMMON_VERBOSE,
        COMMON_HELP,
        COMMON_VERSION,
} CommonOption;

static const ProgramOption common_options[] = {
        [COMMON_CONFIG] = {"config", 'c', "FILE", "read FILE instead of " CONFIG_DEFAULT_PATH, 0},
        [COMMON_VERBOSE] = {"verbose", 'v', NULL, "say more on stderr", 0},
        [COMMON_HELP] = {"help", 'h', NULL, "print this help and end", 0},
        [COMMON_VERSION] = {"version", 0, NULL, "print the version and end", 0},
};

// What the command line said, as far as it has been read.
typedef struct CommandLine {
        const char *config_path;
        void *options;
        bool over; // --help or --version: nothing is to be run
} CommandLine;

static int run_command(const Program *program, int argc, char **argv, const char *config_path);

// ---- help ---------------------------------------------------------------------------------

static void print_option(const ProgramOption *option)
{
        char letter[] = {'-', option->letter, ',', ' ', '\0'};
        int width = printf("  %s--%s%s%s", option->letter ? letter : "    ", option->name,
                           option->argument ? "=" : "", option->argument ? option->argument : "");

        if (width > HELP_COLUMN - HELP_GAP)
                printf("\n%*s", HELP_COLUMN, "");
        else
                printf("%*s", HELP_COLUMN - width, "");
        printf("%s\n", option->help);
}

static void print_commands(const Program *program)
{
        printf("\nCommands:\n");
        for (const Program *const *command = program->commands; *command; command++)
                printf("  %-*s%s\n", HELP_COLUMN - HELP_GAP,
                       (*command)->name + strlen(program->name) + 1, (*command)->summary);
}

static void print_help(const Program *program)
{
        if (program->commands)
                printf("Usage: %s [OPTION]... COMMAND [OPTION]... [ARGUMENT]...\n", program->name);
        else
                printf("Usage: %s [OPTION]...%s%s\n", program->name, program->arguments ? " " : "",
                       program->arguments ? program->arguments : "");
        printf("\n%s\n", program->summary);
        if (program->commands)
                print_commands(program);
        printf("\nOptions:\n");
        for (size_t at = 0; at < program->n_options; at++)
                print_option(&program->options[at]);
        for (size_t at = 0; at < ELEMENTSOF(common_options); at++)
                print_option(&common_options[at]);
        if (program->details)
                printf("\n%s", program->details);
}

// `text` is NULL when getopt_long has said it.
static int usage_error(const Program *program, const char *text)
{
        if (text)
                log_error("%s", text);
        log_error("try '%s --help'", program->name);
        return PROGRAM_USAGE;
}

// ---- the command line ---------------------------------------------------------------------

static const ProgramOption *option_at(const Program *program, size_t at)
{
        return at < program->n_options ? &program->options[at]
                                       : &common_options[at - program->n_options];
}

// The tables of getopt_long. An option's value is its place: own ones first, then the common ones.
typedef struct GetoptTables {
        struct option *names;
        char *letters;
} GetoptTables;

static void getopt_tables_done(GetoptTables *tables)
{
        free(tables->names);
        free(tables->letters);
}

static GetoptTables getopt_tables(const Program *program)
{
        size_t n = program->n_options + ELEMENTSOF(common_options);
        GetoptTables tables = {.names = xcalloc(n + 1, sizeof *tables.names),
                               .letters = xcalloc(2 * n + 2, 1)};
        char *letter = tables.letters;

        if (program->commands)
                *letter++ = '+'; // what follows the command is the command's
        for (size_t at = 0; at < n; at++) {
                const ProgramOption *option = option_at(program, at);

                tables.names[at] = (struct option){
                        .name = option->name,
                        .has_arg = option->argument ? required_argument : no_argument,
                        .val = FIRST_LONG + (int)at,
                };
                if (!option->letter)
                        continue;
                *letter++ = option->letter;
                if (option->argument)
                        *letter++ = ':';
        }
        return tables;
}

// The place of the option that getopt_long found by its name or letter.
static size_t option_place(const Program *program, int found)
{
        size_t at = 0;

        if (found >= FIRST_LONG)
                return (size_t)(found - FIRST_LONG);
        while (option_at(program, at)->letter != found)
                at++;
        return at;
}

static void take_own_option(const ProgramOption *option, void *options)
{
        void *field = (char *)options + option->offset;

        if (option->argument)
                *(const char **)field = optarg;
        else
                *(bool *)field = true;
}

static void take_common_option(const Program *program, size_t place, CommandLine *line)
{
        switch ((CommonOption)place) {
        case COMMON_CONFIG:
                line->config_path = optarg;
                return;
        case COMMON_VERBOSE:
                log_set_level(LOG_LEVEL_DEBUG);
                return;
        case COMMON_HELP:
                print_help(program);
                break;
        case COMMON_VERSION:
                printf("%s " PACKUILON_VERSION "\n", program->name);
                break;
        }
        line->over = true;
}

// Reads options up to the first argument (of a program with commands) or all of them; optind is
// then the first argument.
static int parse_options(const Program *program, int argc, char **argv, CommandLine *line)
{
        _cleanup_(getopt_tables_done) GetoptTables tables = getopt_tables(program);
        _cleanup_free_ char *name = xstrdup(program->name);
        char *called_as = argv[0];
        int found;

        argv[0] = name; // getopt_long's messages begin with it
        optind = 0;     // a fresh start, also for a command after its program
        while (!line->over &&
               (found = getopt_long(argc, argv, tables.letters, tables.names, NULL)) >= 0) {
                size_t place;

                if (found == '?') {
                        argv[0] = called_as;
                        return usage_error(program, NULL);
                }
                place = option_place(program, found);
                if (place < program->n_options)
                        take_own_option(option_at(program, place), line->options);
                else
                        take_common_option(program, place - program->n_options, line);
        }
        argv[0] = called_as;
        return 0;
}

static int check_arguments(const Program *program, char *const *arguments, Error *err)
{
        size_t n = strv_count(arguments);

        if (n < program->min_arguments)
                return error_set(err, EINVAL, "missing argument: %s", program->arguments);
        if (n > program->max_arguments)
                return error_set(err, EINVAL, "unexpected argument: %s",
                                 arguments[program->max_arguments]);
        return 0;
}

// ---- running ------------------------------------------------------------------------------

static int finish_output(void)
{
        if (fflush(stdout) == 0 && !ferror(stdout))
                return PROGRAM_DONE;
        log_error("cannot write to standard output: %s", strerror(errno));
        return PROGRAM_FAILED;
}

static int load_config(const Program *program, const char *path, Config **ret, Error *err)
{
        int r = config_load(path, ret, err);

        if (r < 0)
                return r;
        STRV_FOREACH (warning, program->tells_warnings ? NULL : (*ret)->warnings)
                log_warning("%s", *warning);
        return program->require ? program->require(*ret, err) : 0;
}

static int run_program(const Program *program, const CommandLine *line, char *const *arguments)
{
        _cleanup_config_ Config *config = NULL;
        Error err = ERROR_NONE;
        Invocation invocation;
        int r, written;

        if (load_config(program, line->config_path, &config, &err) < 0) {
                log_error("%s", err.text);
                return PROGRAM_USAGE;
        }
        invocation =
                (Invocation){.config = config, .options = line->options, .arguments = arguments};
        r = program->run(&invocation, &err);
        if (r == PROGRAM_USAGE)
                return usage_error(program, err.text);
        if (r != PROGRAM_DONE && *err.text)
                log_error("%s", err.text);
        written = finish_output();
        return r != PROGRAM_DONE ? PROGRAM_FAILED : written;
}

static int run_command_line(const Program *program, int argc, char **argv, const char *config_path)
{
        _cleanup_free_ void *options = xcalloc(1, MAX(program->options_size, 1U));
        CommandLine line = {.config_path = config_path, .options = options};
        Error err = ERROR_NONE;
        int r = parse_options(program, argc, argv, &line);

        if (r != 0)
                return r;
        if (line.over)
                return finish_output();
        if (program->commands)
                return run_command(program, argc - optind, argv + optind, line.config_path);
        if (check_arguments(program, argv + optind, &err) < 0)
                return usage_error(program, err.text);
        return run_program(program, &line, argv + optind);
}

static int run_command(const Program *program, int argc, char **argv, const char *config_path)
{
        _cleanup_free_ char *text = NULL;

        if (!argc)
                return usage_error(program, "which command?");
        for (const Program *const *command = program->commands; *command; command++) {
                if (strcmp((*command)->name + strlen(program->name) + 1, argv[0]) == 0)
                        return run_command_line(*command, argc, argv, config_path);
        }
        text = xasprintf("no such command: %s", argv[0]);
        return usage_error(program, text);
}

// All of us read passwords. A core file would hold them, and so might one of a child that has them
// in its environment; nor may another process of our user, a build's script for example, trace us.
// Neither can fail in a way that matters more than what was to be done.
void program_protect_secrets(void)
{
        static const struct rlimit no_core = {0, 0};

        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)prctl(PR_SET_DUMPABLE, 0);
}

int program_main(const Program *program, int argc, char **argv)
{
        program_protect_secrets();
        log_set_program(program->name);
        return run_command_line(program, argc, argv, CONFIG_DEFAULT_PATH);
}
