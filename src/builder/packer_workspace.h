// What Packer finds when it starts: its build file, a TMPDIR of its own, argument vector and
// environment.
#pragma once

#include "builder/packer_run.h"
#include "util/error.h"

#define PACKER_TMP_FOLDER "tmp" // of STATE_DIR

typedef struct PackerWorkspace {
        char *image_file;    // the image name as a file name
        char *template_name; // "managed"
        char *tmp_dir;       // STATE_DIR/tmp/<folder>, 0700, empty when Packer starts
        char *cwd;           // the template's folder
        char **argv;
        char **envp;
} PackerWorkspace;

// PACKER_RUN_REFUSED as packer_run_start.
int packer_workspace_make(const PackerRunSpec *spec, PackerWorkspace *ret, Error *err) must_check;

// Empties the TMPDIR, which the next run takes over: a short name, for Packer makes sockets there,
// and one folder less to make and remove for each build. The build file stays, as upstream's does.
void packer_workspace_done(PackerWorkspace *workspace);

// Removes the folders that are empty, at the worker's end.
void packer_workspace_tidy(const char *state_dir);
