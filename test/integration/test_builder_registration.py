"""A build and the registration of its server with Aquilon: it is in the history, and one that has
failed ends the build."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from rig.cloud import Cloud
from rig.processes import BIN_DIR
from rig.waiting import wait_for

HELPER = "ask-registration"
SERVER = "6488693d-96fa-47d4-ba80-59f18bf0136e"  # the fake Packer's


@pytest.fixture
def cloud(local_site):
    server = Cloud()
    local_site.openrc(
        OS_AUTH_URL=server.url, OS_PASSWORD="openrc-password", OS_PROJECT_NAME="images",
        OS_REGION_NAME="RegionOne",
    )  # fmt: skip
    local_site.set("rabbit2packer", AQ_STATUS_SECONDS=1)
    yield server
    server.close()


def registration(site, build):
    return [event.detail for event in site.events(build) if event.what == "registration"]


def test_a_failed_registration_ends_the_build(local_site, cloud):
    local_site.set("rabbit2packer", MAX_ATTEMPTS=1)
    local_site.template("managed", "launch", "hang")
    cloud.servers[SERVER] = {"AQ_PERSONALITY": "p"}
    worker = local_site.worker()
    local_site.publish_profile()
    wait_for(lambda: any("metadata" in path for _, path in cloud.calls), "the metadata is read")
    cloud.servers[SERVER].update(AQ_STATUS="FAILED", AQ_STATUS_REASON="missing: AQ_OS")
    build = local_site.wait_build()
    assert build.state == "failed"
    assert build.reason == (
        f"the registration with Aquilon of server {SERVER} has failed: missing: AQ_OS"
    )
    assert registration(local_site, build) == [build.reason]
    assert build.failure.startswith("registration ")
    assert local_site.packer_runs()[0].ended, "Packer has cleaned up"
    assert worker.stop() == 0


def test_it_is_tried_once_more(local_site, cloud):
    local_site.set("rabbit2packer", RETRY_SECONDS=0)
    local_site.template("managed", "launch", "hang")
    cloud.servers[SERVER] = {"AQ_STATUS": "FAILED"}
    local_site.publish_profile()
    local_site.worker("--until-idle", ready=False).wait(60)
    assert [build.state for build in local_site.builds()] == ["failed", "failed"]
    assert "no reason is given" in local_site.builds()[1].reason


def test_a_registration_is_in_the_history(local_site, cloud):
    go = local_site.root / "go"
    local_site.template("managed", "launch", f"wait {go}", "succeed")
    cloud.servers[SERVER] = {"AQ_STATUS": "SUCCESS", "HOSTNAMES": "h.example.org"}
    local_site.worker()
    local_site.publish_profile()
    build = local_site.wait_state("building")[0]
    wait_for(lambda: registration(local_site, build), "it is in the history")
    go.touch()
    local_site.wait_state("succeeded")
    assert registration(local_site, build) == [
        f"server {SERVER} is registered with Aquilon as h.example.org"
    ]
    assert "as h.example.org" in local_site.packuilon("show", str(build.id)).out
    calls = len(cloud.calls)
    assert sum("metadata" in path for _, path in cloud.calls[:calls]) < 5, "not asked for ever"


@pytest.mark.parametrize("trouble", ["login", "broken", "gone", "silent"])
def test_a_build_does_not_depend_on_it(local_site, cloud, trouble):
    go = local_site.root / "go"
    local_site.template("managed", "launch", f"wait {go}", "succeed")
    cloud.refuse_login = trouble == "login"
    cloud.broken = 503 if trouble == "broken" else None
    if trouble == "gone":
        cloud.gone.add(SERVER)
    worker = local_site.worker()
    local_site.publish_profile()
    wait_for(lambda: len(cloud.calls) >= 2, "it was asked")
    go.touch()
    build = local_site.wait_build()
    assert build.state == "succeeded" and not registration(local_site, build)
    assert worker.stop() == 0


def test_a_login_that_fails_is_tried_more_and_more_rarely(local_site, cloud):
    go = local_site.root / "go"
    local_site.template("managed", "launch", f"wait {go}", "succeed")
    cloud.servers[SERVER] = {"AQ_PERSONALITY": "p"}
    cloud.refuse_login = True
    worker = local_site.worker()
    local_site.publish_profile()
    wait_for(lambda: len(cloud.login_times) == 4, "four logins")
    gaps = [later - earlier for earlier, later in itertools.pairwise(cloud.login_times)]
    assert gaps[1] >= 1.5 and gaps[2] >= 3
    said = [line for line in worker.log().splitlines() if "registrations are not known" in line]
    assert len(said) == 1 and "refuses the login" in said[0]
    go.touch()
    assert local_site.wait_build().state == "succeeded"
    assert worker.stop() == 0


def test_it_can_be_switched_off(local_site, cloud):
    local_site.set("rabbit2packer", AQ_STATUS_SECONDS=0)
    cloud.servers[SERVER] = {"AQ_STATUS": "FAILED"}
    local_site.template("managed", "launch", "work 300", "succeed")
    local_site.publish_profile()
    local_site.worker("--until-idle", ready=False).wait(60)
    assert local_site.builds()[0].state == "succeeded"
    assert not cloud.calls


# ---- the process that asks ---------------------------------------------------------------------


def helpers(of):
    """Processes that ask Nova for this one."""
    children = Path(f"/proc/{of}/task/{of}/children")
    found = []
    for pid in children.read_text().split() if children.exists() else []:
        with contextlib.suppress(OSError):  # it has just ended
            if Path(f"/proc/{pid}/comm").read_text().strip() == HELPER[:15]:
                found.append(int(pid))
    return found


def has_ended(pid):
    """Reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture
def asking(local_site, cloud):
    """A worker that asks, and the file that ends its build."""
    go = local_site.root / "go"
    local_site.template("managed", "launch", f"wait {go}", "succeed")
    cloud.servers[SERVER] = {"AQ_PERSONALITY": "p"}
    worker = local_site.worker()
    assert not helpers(worker.pid)
    local_site.publish_profile()
    wait_for(lambda: len(cloud.calls) >= 2, "it was asked")
    return worker, go


def libraries(program):
    return subprocess.check_output(["ldd", BIN_DIR / program], text=True)


def test_what_asking_takes_is_not_in_the_workers_memory(asking):
    worker, go = asking
    (helper,) = helpers(worker.pid)
    assert "libcurl" in libraries(HELPER) and "libcurl" not in libraries("rabbit2packer")
    command_line = Path(f"/proc/{helper}/cmdline").read_bytes()
    assert b"openrc.sh" in command_line and b"openrc-password" not in command_line
    go.touch()


def test_one_login_serves_all_questions(asking, local_site, cloud):
    _, go = asking
    wait_for(lambda: sum("metadata" in path for _, path in cloud.calls) >= 3, "it was asked again")
    assert len(cloud.login_times) == 1
    go.touch()
    local_site.wait_state("succeeded")


def test_nobody_asks_when_all_is_known(asking, local_site, cloud):
    worker, go = asking
    cloud.servers[SERVER].update(AQ_STATUS="SUCCESS")
    wait_for(lambda: not helpers(worker.pid), "the helper is gone")
    go.touch()
    (build,) = local_site.wait_state("succeeded")
    assert registration(local_site, build)


def test_nobody_asks_when_the_build_is_over(asking, local_site):
    worker, go = asking
    go.touch()
    local_site.wait_state("succeeded")
    wait_for(lambda: not helpers(worker.pid), "the helper is gone")
    assert worker.stop() == 0


def test_a_helper_that_dies_is_started_again(asking, local_site, cloud):
    worker, go = asking
    (helper,) = helpers(worker.pid)
    os.kill(helper, signal.SIGKILL)
    cloud.servers[SERVER].update(AQ_STATUS="SUCCESS")
    build = local_site.wait_state("building")[0]
    wait_for(lambda: registration(local_site, build), "it is in the history")
    said = [line for line in worker.log().splitlines() if "registrations are not known" in line]
    assert len(said) == 1 and f"{HELPER} has ended" in said[0]
    assert not Path(f"/proc/{helper}").exists(), "it is reaped"
    go.touch()
    local_site.wait_state("succeeded")
    assert worker.stop() == 0


def test_a_helper_ends_with_the_worker(asking, local_site):
    worker, go = asking
    (helper,) = helpers(worker.pid)
    worker.kill()
    wait_for(lambda: has_ended(helper), "the helper has ended")
    go.touch()
    local_site.worker("--until-idle", ready=False).wait(60)


def test_builds_go_on_without_a_helper(local_site, cloud):
    """As when only rabbit2packer itself was copied to a host."""
    folder = local_site.root / "alone"
    folder.mkdir()
    shutil.copy(BIN_DIR / "rabbit2packer", folder)
    local_site.template("managed", "launch", "work 2500", "succeed")
    local_site.publish_profile()
    result = local_site.program(folder / "rabbit2packer", "--until-idle", "-c", local_site.config_path)
    assert local_site.builds()[0].state == "succeeded" and not cloud.calls
    said = [line for line in result.err.splitlines() if "registrations are not known" in line]
    assert len(said) == 1 and f"libexec/packuilon/{HELPER}" in said[0]


def ask(openrc, lines, deadline=30):
    """What the helper makes of its input; it has all answers before that ends."""
    process = subprocess.Popen(
        [BIN_DIR / HELPER, *([openrc] if openrc else [])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    answers = []
    process.stdin.write("".join(f"{line}\n" for line in lines))
    process.stdin.flush()
    for _ in lines:
        answers.append(process.stdout.readline())
        if not answers[-1]:
            break
    _, said = process.communicate(timeout=deadline)
    return [json.loads(answer) for answer in answers if answer], process.returncode, said


def test_the_helpers_answers(local_site, cloud):
    hostile = "\x1b[2J\n" + 600 * "x"
    cloud.servers["a"] = {"AQ_STATUS": "FAILED", "AQ_STATUS_REASON": hostile}
    cloud.servers["b"] = {"AQ_STATUS": "SUCCESS", "HOSTNAMES": "h"}
    cloud.gone.add("c")
    openrc = local_site.root / "openrc.sh"
    answers, code, said = ask(openrc, ["a", "b", "c", "d/../e"])
    assert code == 0 and not said
    by_server = {answer.pop("server"): answer for answer in answers}
    reason = by_server["a"].pop("reason")
    assert reason.startswith("\\x1b[2J\\x0axxx") and len(reason) < 300
    assert by_server == {
        "a": {"status": "FAILED"}, "b": {"status": "SUCCESS", "host": "h"}, "c": {"gone": True},
        "d/../e": {},
    }  # fmt: skip
    cloud.broken = 503
    (answer,), code, _ = ask(openrc, ["a"])
    assert code == 0 and "503" in answer["error"] and answer["no_login"]


def test_the_helper_says_what_is_wrong(local_site, cloud):
    openrc = local_site.root / "openrc.sh"
    assert ask(None, [])[1:] == (2, f"{HELPER}: rabbit2packer starts this program; it takes the name "
        "of an openrc, and ids of servers on its standard input\n")  # fmt: skip
    answers, code, said = ask(openrc, [300 * "x"])
    assert not answers and code == 1 and "cannot read what is asked" in said
    (answer,), code, _ = ask(local_site.root / "no-such", ["a"])
    assert code == 0 and "no-such" in answer["error"] and answer["no_login"]
