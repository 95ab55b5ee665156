#!/bin/sh
# Runs in the build server: waits until Aquilon knows it, then configures it as its profile says.
# Every wait has an end, so that a build that cannot succeed fails and says why.
set -eu

WAIT_SECONDS=1800

give_up() {
    echo "configure-with-quattor: $*" >&2
    exit 1
}

# Runs a command every 10 s until it succeeds.
wait_for() {
    what=$1
    shift
    end=$(($(date +%s) + WAIT_SECONDS))
    until "$@"; do
        [ "$(date +%s)" -lt "$end" ] || give_up "$what: not within $WAIT_SECONDS s"
        sleep 10
    done
}

has_name() {
    address=$(hostname -I | cut -d ' ' -f 1)
    name=$(getent hosts "$address" | awk '{ print $2; exit }')
    [ -n "$name" ]
}

wait_for "the address has no name in the DNS" has_name
echo "configure-with-quattor: this is $name"

cat >/etc/ccm.conf <<END
profile $PROFILE_URL/$name.json
cache_root /var/lib/ccm
retrieve_retries 3
retrieve_wait 30
END

# The profile appears when the host has been registered with Aquilon and compiled.
wait_for "no profile could be fetched" quattor-fetch
quattor-configure --all
