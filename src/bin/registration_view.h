// How registrations are shown, in `packuilon status` and `packuilon registrations`.
#pragma once

#include "bin/build_view.h"
#include "core/store_registrations.h"

Colour registration_view_colour(RegistrationState state);

// What there is to say about it now: the step it is at, or why it failed. The caller frees; NULL:
// nothing.
char *registration_view_detail(const Registration *registration);

// The fields of packuilon(1), "JSON"; unknown ones are null.
json_t *registration_view_json(const Registration *registration);

// Opens the registrations of a site for reading. STORE_NOT_FOUND: nova2aquilon never ran here.
int registration_view_open(const Config *config, Store **ret, Error *err) must_check;

// The part of `packuilon status`: how many are in which state, and those that failed.
typedef struct RegistrationSummary {
        int64_t n[N_REGISTRATION_STATES];
        bool is_there; // nova2aquilon ran here
        json_t *failing;
} RegistrationSummary;

int registration_summary_gather(const Config *config, RegistrationSummary *ret,
                                Error *err) must_check;
void registration_summary_print(const RegistrationSummary *summary);
json_t *registration_summary_json(const RegistrationSummary *summary);
void registration_summary_done(RegistrationSummary *summary);
