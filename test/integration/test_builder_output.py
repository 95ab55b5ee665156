"""rabbit2packer: Packer's output on its way into the log; secrets, floods, limits."""

import json
import os
from pathlib import Path

from rig.processes import run
from rig.rabbit import PASSWORD
from rig.site import resident_bytes

SECRET = "s3cr\"et\\w<ith>&ev'rything☃"


def all_text(site):
    """Everything that is kept of a build, but what Packer itself was given."""
    text = "".join(path.read_text(errors="replace") for path in site.logs())
    text += "".join(daemon.log() for daemon in site.daemons)
    text += "".join(str(dict(build)) for build in site.builds())
    text += "".join(str(dict(event)) for build in site.builds() for event in site.events(build))
    return text


def test_secrets_reach_no_log(site):
    site.openrc(OS_PASSWORD=SECRET, OS_APPLICATION_CREDENTIAL_SECRET="another-secret-0123")
    site.template(
        "managed",
        "launch",
        "env OS_PASSWORD",
        "env-json OS_PASSWORD",
        "env OS_APPLICATION_CREDENTIAL_SECRET",
        f"fail cannot log in with {SECRET}",
    )
    site.worker("-v")
    site.publish_profile()
    (build,) = site.wait_state("failed")
    (packer,) = site.packer_runs()
    assert packer.env["OS_PASSWORD"] == SECRET
    text = all_text(site)
    for form in (SECRET, json.dumps(SECRET)[1:-1], "another-secret-0123"):
        assert form not in text
    assert "value is <redacted> here" in site.log_text(build)
    assert "<redacted>" in build.reason


def test_the_queues_password_reaches_no_log(rabbit_site):
    rabbit_site.template("managed", f"say login {PASSWORD}", "succeed")
    rabbit_site.worker("-v")
    rabbit_site.publish_profile()
    rabbit_site.wait_state("succeeded")
    assert PASSWORD not in all_text(rabbit_site)


def test_auth_file_is_read_again_when_it_changes(local_site):
    local_site.openrc(OS_PASSWORD="first-password")
    local_site.worker()
    local_site.publish_profile("one")
    local_site.wait_state("succeeded", 1)
    local_site.openrc(OS_PASSWORD="second-password")
    local_site.publish_profile("two")
    local_site.wait_state("succeeded", 2)
    passwords = [packer.env["OS_PASSWORD"] for packer in local_site.packer_runs()]
    assert passwords == ["first-password", "second-password"]


def test_upstreams_old_names_are_exported(local_site):
    local_site.openrc(OS_PASSWORD="x" * 8, OS_PROJECT_ID="1234", OS_USER_DOMAIN_NAME="Default")
    local_site.worker()
    local_site.publish_profile()
    local_site.wait_state("succeeded")
    (packer,) = local_site.packer_runs()
    assert packer.env["OS_TENANT_ID"] == "1234"
    assert packer.env["OS_DOMAIN_NAME"] == "Default"


def test_flood_stops_at_the_limit(site):
    limit = 1_000_000
    site.set("rabbit2packer", MAX_LOG_BYTES=limit)
    site.template("managed", "flood 50000000", "succeed")
    worker = site.worker()
    site.publish_profile()
    (build,) = site.wait_state("succeeded")
    log = site.logs()[0]
    assert limit <= log.stat().st_size < limit + 1000
    assert "MAX_LOG_BYTES" in site.log_text(build)
    assert site.exit_line(build)[1] == 0
    assert build.artifact, "what comes behind the limit is still read"
    assert resident_bytes(worker.pid) < 64 * 1024 * 1024


def test_output_is_kept_byte_by_byte(local_site):
    data = bytes(range(256)) * 40 + b"no newline at the end"
    (local_site.root / "data").write_bytes(data)
    local_site.template("managed", f"cat {local_site.root}/data", "exit 3")
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("failed")
    log = local_site.logs()[0].read_bytes()
    assert log.startswith(data + b"\n")
    assert local_site.exit_line(build)[1] == 3


def test_log_grows_while_packer_runs(site):
    go = site.root / "go"
    site.template("managed", "say first", f"wait {go}", "succeed")
    site.worker()
    site.publish_profile()
    build = site.wait_build(
        lambda build: build.log_path and "first" in site.log_text(build), "a line in the log"
    )
    assert "Build finished" not in site.log_text(build)
    go.touch()
    site.wait_state("succeeded")


def test_stderr_is_in_the_log(local_site):
    local_site.template("managed", "err something on stderr", "succeed")
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("succeeded")
    assert "something on stderr" in local_site.log_text(build)


def test_what_packer_left_in_tmpdir_is_removed(local_site):
    local_site.template("managed", "tmp packer-shell035386251", "succeed")
    local_site.worker()
    local_site.publish_profile()
    local_site.wait_state("succeeded")
    (packer,) = local_site.packer_runs()
    assert not list(Path(packer.env["TMPDIR"]).iterdir())


def test_build_file_is_ours_alone(local_site):
    local_site.worker()
    local_site.publish_profile()
    local_site.wait_state("succeeded")
    (path,) = (local_site.root / "build-files").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_full_disk_does_not_lose_the_build(local_site):
    """The log cannot be written: the build goes on, and its end is known."""
    local_site.worker()
    go = local_site.root / "go"
    local_site.template("managed", f"wait {go}", "flood 5000000", "succeed")
    local_site.publish_profile()
    local_site.wait_packer()
    worker = local_site.daemons[0]
    size = 2_000_000
    # Files of the worker cannot grow beyond this; the journal does not come near it.
    limited = run(["prlimit", f"--fsize={size}", "--pid", str(worker.pid)])
    assert limited.code == 0, limited
    go.touch()
    (build,) = local_site.wait_state("succeeded")
    assert os.path.getsize(build.log_path) <= size
