// The operator's command.
#include "bin/packuilon.h"

int main(int argc, char **argv)
{
        static const Program *const commands[] = {
                &packuilon_status,        &packuilon_show,
                &packuilon_log,           &packuilon_build,
                &packuilon_cancel,        &packuilon_retry,
                &packuilon_plan,          &packuilon_check,
                &packuilon_registrations, NULL,
        };
        static const Program program = {
                .name = "packuilon",
                .summary = "Watch and steer the image factory.",
                .details = "'packuilon COMMAND --help' tells the options of a command.\n",
                .commands = commands,
        };

        return program_main(&program, argc, argv);
}
