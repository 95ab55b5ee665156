// Reads Packer's output as it passes: which phase the build is in, which artifacts it made, and in
// whose words it failed. Packer 1.6 to 1.16, plain output (-color=false).
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/buf.h"

#define PACKER_LINE_MAX 4096 // what is longer is read up to here

typedef struct PackerOutput {
        Buf line;           // the line that is coming in
        bool line_too_long; // its rest is skipped
        const char *phase;  // NULL, or one of the literals in packer_output.c
        bool in_artifacts;  // behind "The artifacts of successful builds are:"
        bool cancelled;     // "Cleanly cancelled builds after being interrupted."
        bool in_detail;     // … in one of them, which may be wrapped over lines
        bool in_error;      // behind a line "Error: …", whose details follow
        char *artifact;     // ids of what was made, separated by a space; NULL: none
        char *server;       // Nova's id of the server that it builds in
        char *saving_image; // Glance id of an image whose saving has begun
        char *error;        // the first "errored" or "Error:" text
} PackerOutput;

#define PACKER_OUTPUT_INIT ((PackerOutput){.line = BUF_INIT(PACKER_LINE_MAX)})

// Called with the new phase each time it changes.
typedef void (*PackerPhaseFn)(const char *phase, void *userdata);

// Takes the next bytes of output, in whatever pieces they come.
void packer_output_feed(PackerOutput *output, const char *data, size_t len, PackerPhaseFn on_phase,
                        void *userdata);

// The output has ended: a last line without newline is read too.
void packer_output_end(PackerOutput *output, PackerPhaseFn on_phase, void *userdata);

void packer_output_done(PackerOutput *output);
