// What Packer finds when it starts: its build file, a TMPDIR of its own, argument vector and
// environment.
#pragma once

#include "builder/packer_run.h"
#include "util/error.h"

typedef struct PackerWorkspace {
        char *image_file;    // the image name as a file name
        char *template_name; // "managed"
        char *tmp_dir;       // STATE_DIR/tmp/<build id>, 0700
        char *cwd;           // the template's folder
        char **argv;
        char **envp;
} PackerWorkspace;

// PACKER_RUN_REFUSED as packer_run_start.
int packer_workspace_make(const PackerRunSpec *spec, PackerWorkspace *ret, Error *err) must_check;

// Removes the TMPDIR with all that is in it; the build file stays, as upstream's does.
void packer_workspace_done(PackerWorkspace *workspace);
