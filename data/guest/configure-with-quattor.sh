#!/bin/sh
# Runs in the build server, as root: waits until Aquilon knows it, then configures it as its profile
# says. Every wait has an end, and a build that cannot succeed fails at once and says why.
#
# Environment: PROFILE_URL (must be given), the folder of the profiles.
#   NAME_SECONDS, PROFILE_SECONDS, POLL_SECONDS   how long to wait for the host's name and for its
#                     profile, and between two tries: 600, 1800 and 10
#   FETCH_SECONDS     how long one try to fetch the profile may take: 300
#   CONFIGURE_SECONDS how long the configuration may take: 7200
#   CCM_CONF          the file that is written: /etc/ccm.conf
#   METADATA_URL      Nova's metadata service; empty: it is not asked
#
# Exit status: 0 configured, 2 usage, 3 no host name, 4 Aquilon's registration has failed,
# 5 no profile, 6 the configuration has failed.
set -eu

NAME_SECONDS=${NAME_SECONDS:-600}
PROFILE_SECONDS=${PROFILE_SECONDS:-1800}
POLL_SECONDS=${POLL_SECONDS:-10}
FETCH_SECONDS=${FETCH_SECONDS:-300}
CONFIGURE_SECONDS=${CONFIGURE_SECONDS:-7200}
CCM_CONF=${CCM_CONF:-/etc/ccm.conf}
METADATA_URL=${METADATA_URL-http://169.254.169.254/openstack/latest/meta_data.json}

say() {
    printf 'configure-with-quattor: %s\n' "$*" >&2
}

give_up() { # STATUS TEXT...
    status=$1
    shift
    say "$@"
    exit "$status"
}

now() {
    date +%s
}

# What does not end when it is told to is killed.
within() { # SECONDS COMMAND...
    timeout -k 10 "$@"
}

# ---- what Nova knows --------------------------------------------------------------------------

# A value of the server's metadata, where nova2aquilon writes what came of the registration; nothing
# when there is none. The document is one line of JSON; what is taken from it has no quotes or
# backslashes, or is cut there.
metadata() { # KEY
    [ -n "$METADATA_URL" ] && command -v curl >/dev/null || return 0
    curl -sf --max-time 5 "$METADATA_URL" 2>/dev/null |
        sed -n "s/.*\"$1\": *\"\\([^\"\\\\]*\\).*/\\1/p" | head -n 1
}

stop_if_refused() {
    [ "$(metadata AQ_STATUS)" = FAILED ] || return 0
    give_up 4 "the registration with Aquilon has failed: $(metadata AQ_STATUS_REASON)"
}

# ---- the host's name --------------------------------------------------------------------------

is_host_name() {
    case $1 in
    *[!A-Za-z0-9.-]* | .* | -* | *..*) return 1 ;;
    *.*) return 0 ;;
    *) return 1 ;;
    esac
}

addresses() {
    hostname -I 2>/dev/null || ip -o addr show scope global | awk '{ sub("/.*", "", $4); print $4 }'
}

# The name that it was registered with, or that its address has.
find_name() {
    name=$(metadata HOSTNAMES)
    name=${name%%,*}
    is_host_name "$name" && return 0
    for address in $(addresses); do
        name=$(getent hosts "$address" | awk '{ print $2; exit }') || name=
        is_host_name "$name" && return 0
    done
    return 1
}

wait_for_name() {
    end=$(($(now) + NAME_SECONDS))
    until find_name; do
        stop_if_refused
        [ "$(now)" -lt "$end" ] ||
            give_up 3 "no address of this server ($(addresses | tr '\n' ' ')) has a name, after" \
                "$NAME_SECONDS s"
        sleep "$POLL_SECONDS"
    done
    say "this is $name"
}

# ---- its profile ------------------------------------------------------------------------------

write_ccm_conf() {
    cat >"$CCM_CONF.new" <<END
profile $PROFILE_URL/$name.json
cache_root /var/lib/ccm
retrieve_retries 3
retrieve_wait 10
retrieve_timeout 30
END
    mv "$CCM_CONF.new" "$CCM_CONF"
}

# It appears when the host has been registered and compiled. 3 is quattor-fetch's word for "disabled".
wait_for_profile() {
    end=$(($(now) + PROFILE_SECONDS))
    while :; do
        status=0
        within "$FETCH_SECONDS" quattor-fetch || status=$?
        [ "$status" -ne 0 ] || return 0
        [ "$status" -ne 3 ] || give_up 5 "quattor-fetch is disabled in this image (/etc/noquattor)"
        stop_if_refused
        [ "$(now)" -lt "$end" ] ||
            give_up 5 "no profile $PROFILE_URL/$name.json after $PROFILE_SECONDS s" \
                "(quattor-fetch ended with $status; AQ_STATUS: $(metadata AQ_STATUS))"
        sleep "$POLL_SECONDS"
    done
}

# -------------------------------------------------------------------------------------------------

[ -n "${PROFILE_URL:-}" ] || give_up 2 "PROFILE_URL is not set"
PROFILE_URL=${PROFILE_URL%/}
wait_for_name
write_ccm_conf
wait_for_profile
status=0
within "$CONFIGURE_SECONDS" quattor-configure --all || status=$?
[ "$status" -eq 0 ] || give_up 6 "quattor-configure ended with $status"
say "configured"
