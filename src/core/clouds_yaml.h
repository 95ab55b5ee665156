// OpenStack's clouds.yaml and secure.yaml: one cloud's login as the OS_ variables that an openrc
// would set.
#pragma once

#include "core/auth_file.h"

// Does nothing if the environment sets OS_AUTH_URL or does not set OS_CLOUD. Otherwise adds the
// variables of that cloud, but for those that are set, from OS_CLIENT_CONFIG_FILE (and secure.yaml
// beside it) or the first of ~/.config/openstack/clouds.yaml and /etc/openstack/clouds.yaml. No
// value is ever in an error text.
int clouds_yaml_apply(AuthEnv *env, Error *err) must_check;

// The same from this file alone.
int clouds_yaml_read(const char *path, const char *cloud, AuthEnv *env, Error *err) must_check;
