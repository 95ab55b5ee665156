"""Secrets: what the auth file and RABBIT_PW hold is nowhere but where it is needed."""

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from rig.processes import descendants
from rig.profiles import profile
from rig.rabbit import PASSWORD
from rig.site import is_alive
from rig.waiting import wait_for

SECRET = "s3cr\"et\\w<ith>&ev'rything☃"
OTHER = "another/secret+0123="


def forms(secret):
    """As it stands in a text, in JSON of several writers, and in a URL."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    go = json.dumps(secret, ensure_ascii=False)[1:-1]
    for char in "<>&":
        go = go.replace(char, f"\\u{ord(char):04x}")
    yield go
    yield quote(secret, safe="")


def assert_absent(where, data):
    for secret in (SECRET, OTHER, PASSWORD):
        for form in forms(secret):
            assert form.encode() not in data, f"{form} is in {where}"


def command_lines():
    return {
        f"argv of {pid}": Path(f"/proc/{pid}/cmdline").read_bytes()
        for pid in descendants()
        if is_alive(pid)
    }


def our_files(site):
    """All that is kept, but for what Packer itself was given and the files of the site's owner."""
    folders = [site.state_dir, site.log_dir, site.root / "build-files", site.root / "cache"]
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return paths + [daemon.log_path for daemon in site.daemons]


def look_everywhere(site):
    found = {str(path): path.read_bytes() for path in our_files(site)}
    assert any(name.endswith("builds.db-wal") for name in found)
    assert any("/build-files/" in name for name in found)
    for where, data in {**found, **command_lines()}.items():
        assert_absent(where, data)


def test_secrets_are_nowhere(rabbit_site):
    """Looked for while a build runs, after it has failed with a secret in its words, after one whose
    artifact is a secret, and in what the operator's command prints."""
    site = rabbit_site
    go = site.root / "go"
    site.openrc(OS_PASSWORD=SECRET, OS_APPLICATION_CREDENTIAL_SECRET=OTHER)
    said = [f"say {form}" for secret in (SECRET, OTHER, PASSWORD) for form in forms(secret)]
    site.template("managed", "launch", *said, f"wait {go}", f"save {OTHER}", f"fail no {SECRET}")
    # The record keeps what Packer got; none of it is ours.
    site.worker("-v")
    site.publish_profile("one")
    (packer,) = site.wait_packer()
    site.wait_build(
        lambda build: build.log_path and "redacted" in site.log_text(build), "the build speaks"
    )
    assert packer.env["OS_PASSWORD"] == SECRET
    # Its own build file holds the fake Packer's script, and with it the words to say.
    (site.root / "build-files").rename(site.root / "moved")
    (site.root / "build-files").mkdir()
    (site.root / "build-files" / "none").touch()
    look_everywhere(site)
    go.touch()
    (failed,) = site.wait_state("failed")
    assert "<redacted>" in failed.reason
    site.template("managed", f"succeed {SECRET}")
    (site.root / "build-files" / "none").unlink()
    site.publish_profile("two")
    (build,) = site.wait_state("succeeded")
    assert "<redacted>" in build.artifact
    site.template("managed", "succeed")
    site.publish_profile("two")
    site.wait_state("succeeded", 2)
    look_everywhere(site)
    for command in (["status"], ["show", "1"], ["log", "1"], ["show", "2"]):
        result = site.packuilon(*command)
        assert_absent(command, (result.out + result.err).encode())


def test_refused_template_does_not_tell(local_site):
    """A template with a secret in it that cannot be parsed is refused without quoting the secret."""
    site = local_site
    site.openrc(OS_PASSWORD=SECRET)
    text = '{"builders": [{"password": ' + json.dumps(SECRET) + ' "type": }]}'
    (site.root / "managed.json").write_text(text)
    site.worker()
    site.publish_profile()
    site.wait_state("failed")
    look = {str(path): path.read_bytes() for path in our_files(site)}
    for where, data in look.items():
        assert_absent(where, data)


def test_broken_auth_file_does_not_tell(local_site):
    site = local_site
    path = site.root / "openrc.sh"
    path.write_text(f"export OS_PASSWORD='{OTHER}\nexport OS_AUTH_URL=$(exit 1\necho {OTHER} >&2\n")
    site.set("rabbit2packer", PACKER_AUTH_FILE=path)
    worker = site.worker("-v")
    site.publish_profile()
    worker.wait_log("taking no builds until this is mended")
    for where in our_files(site):
        assert_absent(where, where.read_bytes())
    assert str(path) in worker.log()


def test_default_password_is_an_ordinary_word(local_site):
    """With the local queue nobody set a password: "guest" in Packer's output is not one."""
    local_site.template("managed", "say the guest is up", "succeed")
    local_site.worker()
    local_site.publish_profile()
    (build,) = local_site.wait_state("succeeded")
    assert "the guest is up" in local_site.log_text(build)


# ---- modes -----------------------------------------------------------------------------------


def test_modes_of_all_that_is_made(local_site):
    """Whatever the umask: profiles and templates may hold secrets."""
    site = local_site
    go = site.root / "go"
    site.template("managed", "launch", f"wait {go}", "succeed")
    site.profiles.add("one.cloud.template.json", profile("one"))
    site.set("cdb2rabbit", FIRST_RUN="build")
    before = os.umask(0)
    try:
        site.scan()
        site.worker()
    finally:
        os.umask(before)
    site.wait_packer()
    site.wait_state("building")
    site.packuilon("status")
    folders = [site.state_dir, site.log_dir, site.root / "build-files", site.root / "cache"]
    found = {path for folder in folders for path in [folder, *folder.rglob("*")]}
    assert len(found) > 10
    for path in found:
        allowed = {0o700, 0o750} if path.is_dir() else {0o600, 0o640}
        assert path.stat().st_mode & 0o7777 in allowed, f"{path}: {path.stat().st_mode:o}"
    (packer_tmp,) = (site.state_dir / "tmp").iterdir()
    assert packer_tmp.stat().st_mode & 0o777 == 0o700
    go.touch()
    site.wait_state("succeeded")


# ---- core files ------------------------------------------------------------------------------


def core_limit(pid):
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max core file size"):
            return line.split()[4:6]
    raise AssertionError(f"no limits of {pid}")


def test_no_core_files(local_site):
    """Neither of the worker nor of Packer, who has the secrets in its environment."""
    go = local_site.root / "go"
    local_site.template("managed", f"wait {go}", "succeed")
    worker = local_site.worker()
    scanner = local_site.listener()
    local_site.publish_profile()
    (packer,) = local_site.wait_packer()
    for pid in (worker.pid, scanner.pid, packer.pid):
        assert core_limit(pid) == ["0", "0"]
    go.touch()


def test_memory_cannot_be_read_by_others_of_its_user(local_site):
    """By a build's script, for example: the kernel gives such a process's files to root."""
    nobody = 65534
    site = local_site
    command = [site.bin_dir.parent / "worker.sh"]
    if os.geteuid() == 0:
        for path in [site.root.parent, site.root, *site.root.rglob("*")]:
            os.chown(path, nobody, nobody, follow_symlinks=False)
        environment = site.environment()
        site.environment = lambda **extra: {**environment, **extra}
        ids = f"--reuid={nobody} --regid={nobody} --clear-groups"
        prefix = f"exec setpriv {ids} "
    else:
        prefix = "exec "
    worker = run_worker_through(site, command[0], prefix)
    assert os.stat(f"/proc/{worker.pid}/environ").st_uid == 0
    site.publish_profile()
    if os.geteuid() == 0:
        for path in site.state_dir.rglob("*"):
            os.chown(path, nobody, nobody)
    site.wait_state("succeeded")


def run_worker_through(site, script, prefix):
    """A worker that a shell script becomes."""
    from rig.processes import BIN_DIR, Daemon

    script.write_text(f'#!/bin/sh\n{prefix}{BIN_DIR}/rabbit2packer "$@"\n')
    script.chmod(0o755)
    daemon = Daemon(
        [script, "-c", site.config_path],
        log=site.root / "rabbit2packer.log",
        env=site.environment(),
        cwd=site.root,
    )
    os.chmod(daemon._notify_path, 0o777)
    site.daemons.append(daemon)
    return daemon.wait_ready()
