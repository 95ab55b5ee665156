// The sub-commands of packuilon, one file each.
#pragma once

#include "bin/program.h"

extern const Program packuilon_build;
extern const Program packuilon_cancel;
extern const Program packuilon_retry;
extern const Program packuilon_check;
extern const Program packuilon_log;
extern const Program packuilon_plan;
extern const Program packuilon_registrations;
extern const Program packuilon_show;
extern const Program packuilon_status;
