"""The rig itself: a rig that finds no fault is worth nothing."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request

import pika
import pytest

from rig import processes
from rig.profiles import profile
from rig.waiting import DeadlineExceeded, wait_for
from rig.web import Fault


def build_file(site, *script):
    return site.template("x", text=json.dumps({"fake": script}) if script else "{}")


def fake_packer(site, *script, deadline=20):
    path = build_file(site, *script)
    return processes.run([site.packer, "build", "-color=false", path], deadline=deadline)


def test_deadline_is_kept():
    with pytest.raises(DeadlineExceeded, match="the moon"):
        wait_for(lambda: False, "the moon", deadline=0.05)


def test_process_left_behind_is_seen(tmp_path):
    # The shell ends; what it started becomes ours.
    subprocess.run(["sh", "-c", "sleep 1000 & echo $! > pid"], cwd=tmp_path, check=True)
    pid = int((tmp_path / "pid").read_text())
    assert pid in processes.descendants()
    subprocess.run(["kill", "-9", str(pid)], check=True)


def test_crash_is_seen():
    with pytest.raises(processes.Crash, match="SIGSEGV"):
        processes.run(["sh", "-c", "kill -SEGV $$"])


def test_rabbit_delivers(vhost):
    vhost.publish("q", "hello", message_id="7")
    assert vhost.count("q") == 1
    body, properties = vhost.get("q")
    assert (body, properties.message_id) == (b"hello", "7")
    assert vhost.get("q") is None
    assert vhost.count("no-such-queue") is None


def test_rabbit_closes_connections(vhost):
    channel = vhost.channel
    assert vhost.close_connections(but_ours=True) == 0
    assert vhost.close_connections(but_ours=False) == 1
    with pytest.raises(pika.exceptions.AMQPError):
        channel.queue_declare("q")


@pytest.mark.slow
def test_rabbit_restarts_with_its_messages(own_rabbit):
    vhost = own_rabbit.add_vhost()
    vhost.publish("q", "kept")
    own_rabbit.stop()
    assert not own_rabbit.is_up()
    own_rabbit.spawn(os.getpid())
    assert vhost.get("q")[0] == b"kept"
    own_rabbit.kill()
    assert not own_rabbit.is_up()


def test_web_server(make_site):
    site = make_site(web=True)
    site.profiles.add("a.json", profile())
    reply = urllib.request.urlopen(f"{site.url}/profiles-info.xml")
    assert b">a.json</profile>" in reply.read()
    again = urllib.request.Request(
        f"{site.url}/profiles-info.xml", headers={"If-None-Match": reply.headers["ETag"]}
    )
    with pytest.raises(urllib.error.HTTPError, match="304"):
        urllib.request.urlopen(again)
    site.web.once["a.json"] = Fault.status(500)
    with pytest.raises(urllib.error.HTTPError, match="500"):
        urllib.request.urlopen(f"{site.url}/a.json")
    assert urllib.request.urlopen(f"{site.url}/a.json").status == 200
    assert site.web.requested("a.json") == 2


def test_fake_packer_succeeds_and_notes(local_site):
    result = fake_packer(local_site)
    assert result.code == 0
    assert "--> openstack: An image was created: " in result.out
    (run,) = local_site.packer_runs()
    assert run.argv[1] == "build"
    assert run.ended > run.started


def test_fake_packer_fails(local_site):
    result = fake_packer(local_site, "launch", "fail Quota exceeded")
    assert result.code == 1
    assert "Build 'openstack' errored after" in result.out


def test_fake_packer_is_cancelled(local_site):
    path = build_file(local_site, "launch", "hang")
    with subprocess.Popen([local_site.packer, "build", path], stdout=subprocess.PIPE) as process:
        local_site.wait_packer()
        process.send_signal(signal.SIGINT)  # does nothing to the real one, either
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out.endswith(b"Cleanly cancelled builds after being interrupted.\n")


def test_fake_packer_ignores_term(local_site):
    path = build_file(local_site, "ignore-term", "say deaf", f"wait {local_site.root}/go")
    with subprocess.Popen([local_site.packer, "build", path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"deaf\n"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        (local_site.root / "go").touch()
        assert process.wait(20) == 0
