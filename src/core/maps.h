// The two maps a site keeps: source images (os key to Glance image) and templates (image name to
// Packer templates). Both are JSON objects, read again for each build.
#pragma once

#include "core/identity.h"
#include "util/error.h"

#define MAP_NOT_FOUND 1

// Looks the os keys of an identity up, in order; flat maps {"sl7x-x86_64": "ID"} and nested ones
// {"sl": {"7x-x86_64": "ID"}} (also {"sl": {"7x": "ID"}}), mixed as they come. MAP_NOT_FOUND when
// no key is there. *ret_os is the flat form of the key that was found. The caller frees both.
int source_images_lookup(const char *path, const Identity *identity, char **ret_image_id,
                         char **ret_os, Error *err) must_check;

// Template files of an image: its entry, else DEFAULT; relative names are taken from the map's
// folder. MAP_NOT_FOUND when neither is there. *ret_paths is freed with strv_free.
int template_map_lookup(const char *path, const char *image_name, char ***ret_paths,
                        Error *err) must_check;

// Reads the whole file and tells its first mistake, for `packuilon check`. `entry` (NULL: none) is
// called for each, with the flat form of its os key.
typedef void (*SourceImageFn)(const char *os, const char *image_id, void *userdata);
int source_images_check(const char *path, SourceImageFn entry, void *userdata, size_t *ret_n,
                        Error *err) must_check;
int template_map_check(const char *path, size_t *ret_n, Error *err) must_check;
