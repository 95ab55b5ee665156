"""The main job, end to end: a changed profile becomes an image; with our programs at both ends, and
with upstream's Python programs at either."""

import json
import socket

import pika
import pytest

from rig.processes import free_ports
from rig.profiles import OS_KEY, profile
from rig.site import QUEUE, SOURCE_IMAGE

ENTRY = "nubes.cloud.template.json"
IMAGE = f"nubesvms-{OS_KEY}"


@pytest.fixture
def whole_site(make_site, transport, request):
    """Profiles on a web server, the real Packer, both kinds of queue."""
    vhost = request.getfixturevalue("vhost") if transport == "amqp" else None
    site = make_site(vhost=vhost, web=True)
    site.use_real_packer()
    site.file_template()
    return site


def test_changed_profile_becomes_an_image(whole_site, sample_profile):
    site = whole_site
    site.profiles.add(ENTRY, sample_profile)
    site.profiles.add("other.cloud.template.json", profile("other"))
    site.scan()
    assert site.queue_count() == 0, "the first run records the baseline"

    site.profiles.recompile()
    site.scan()
    assert site.queue_count() == 0, "recompiled is not changed"

    site.profiles.change(ENTRY, "/software/packages/nginx", {})
    site.scan()
    site.worker()
    (build,) = site.wait_state("succeeded")
    assert build.entry == ENTRY
    assert "/software/packages/nginx" in build.changes
    assert (site.root / "images" / IMAGE).read_text().startswith(f"{IMAGE} from {SOURCE_IMAGE}")
    assert site.exit_line(build)[1] == 0

    status = json.loads(site.packuilon("status", "--json").out)
    (shown,) = status["builds"]
    assert (shown["state"], shown["image"]) == ("succeeded", IMAGE)
    assert status["queue"]["waiting"] == 0
    assert IMAGE in site.packuilon("status").out
    show = site.packuilon("show", build.id).out
    assert "/software/packages/nginx" in show
    assert "succeeded" in show
    assert "Build finished at" in site.packuilon("log", build.id).out


def test_several_changes_are_all_built(whole_site):
    site = whole_site
    names = [f"p{number}" for number in range(8)]
    for name in names:
        site.profiles.add(f"{name}.cloud.template.json", profile(name), index=False)
    site.profiles.write_index()
    site.scan()
    for name in names[:5]:
        site.profiles.change(f"{name}.cloud.template.json", "/software/packages/nginx", {})
    site.scan()
    site.worker()
    builds = site.wait_state("succeeded", 5)
    assert {build.personality for build in builds} == set(names[:5])
    site.scan()
    assert site.queue_count() == 0


def test_first_run_may_build(whole_site):
    site = whole_site
    site.set("cdb2rabbit", FIRST_RUN="build")
    site.profiles.add(ENTRY, profile())
    site.scan()
    site.worker()
    site.wait_state("succeeded")


def test_new_profile_is_built(whole_site):
    site = whole_site
    site.profiles.add("other.cloud.template.json", profile("other"))
    site.scan()
    site.profiles.add(ENTRY, profile())
    site.scan()
    site.worker()
    (build,) = site.wait_state("succeeded")
    assert build.personality == "nubesvms"


def test_dry_run_queues_nothing_and_says_why(whole_site):
    site = whole_site
    site.profiles.add(ENTRY, profile())
    site.scan()
    site.profiles.change(ENTRY, "/software/packages/nginx", {})
    shown = site.scan("--dry-run")
    assert ENTRY in shown.out
    assert "/software/packages/nginx" in shown.out
    assert site.queue_count() == 0
    site.scan()
    assert site.queue_count() == 1, "the dry run left everything as it was"


def test_listener_builds_what_a_packet_announces(whole_site):
    site = whole_site
    (port,) = free_ports(1, socket.SOCK_DGRAM)
    site.set("cdb2rabbit", CDP_LISTEN=f"127.0.0.1:{port}", POLL_SECONDS=0)
    site.profiles.add(ENTRY, profile())
    site.scan()
    site.listener()
    site.worker()
    site.profiles.change(ENTRY, "/software/packages/nginx", {})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"cdb\x001486571445", ("127.0.0.1", port))
    (build,) = site.wait_state("succeeded")
    assert build.entry == ENTRY


def test_listener_polls(whole_site):
    site = whole_site
    (port,) = free_ports(1, socket.SOCK_DGRAM)
    site.set("cdb2rabbit", CDP_LISTEN=f"127.0.0.1:{port}", POLL_SECONDS=1)
    site.profiles.add(ENTRY, profile())
    site.scan()
    site.listener()
    site.worker()
    site.profiles.change(ENTRY, "/software/packages/nginx", {})
    site.wait_state("succeeded")


# ---- by hand ---------------------------------------------------------------------------------


def test_manual_trigger(site):
    site.source_images({"sl7x-x86_64": "sl7-image", OS_KEY: "rocky-image"})
    site.packuilon("build", "--personality", "by-hand")
    site.packuilon(
        "build", "--personality", "by-hand", "--archetype", "cloud", "--os", "rocky",
        "--os_ver", "8x", "--arch", "x86_64", "--sandbox", "jbloggs/try",
    )  # fmt: skip
    site.worker()
    builds = site.wait_state("succeeded", 2)
    assert {build.image for build in builds} == {"by-hand-sl7x-x86_64", f"by-hand-{OS_KEY}"}
    metadata = {
        run.build_file["builders"][0]["source_image"]: run.build_file["builders"][0][
            "instance_metadata"
        ]
        for run in site.packer_runs()
    }
    assert metadata["rocky-image"]["AQ_SANDBOX"] == "jbloggs/try"
    assert metadata["rocky-image"]["AQ_ARCHETYPE"] == "cloud"
    assert metadata["sl7-image"]["AQ_DOMAIN"] == "prod"
    assert metadata["sl7-image"]["AQ_ARCHETYPE"] == "ral-tier1"


# ---- next to upstream's programs -------------------------------------------------------------


def upstream_worker_takes(vhost):
    """One message, as upstream's rabbit2packer.py takes it: declare, basic_get, ack, json.loads."""
    connection = pika.BlockingConnection(vhost.node.parameters(vhost.name))
    channel = connection.channel()
    channel.queue_declare(queue=QUEUE, durable=True)
    method, _, body = channel.basic_get(QUEUE)
    if method:
        channel.basic_ack(method.delivery_tag)
    connection.close()
    return json.loads(body) if method else None


def upstream_publishes(vhost, body):
    """As upstream's programs do: declared durable, delivery mode 2, nothing else."""
    connection = pika.BlockingConnection(vhost.node.parameters(vhost.name))
    channel = connection.channel()
    channel.queue_declare(queue=QUEUE, durable=True)
    channel.basic_publish(
        exchange="",
        routing_key=QUEUE,
        body=body,
        properties=pika.BasicProperties(delivery_mode=2),
    )
    connection.close()


def test_upstreams_worker_understands_our_scanner(rabbit_site, sample_profile):
    site = rabbit_site
    site.profiles.add(ENTRY, sample_profile)
    site.scan()
    changed = site.profiles.change(ENTRY, "/software/packages/nginx", {})
    site.scan()
    assert upstream_worker_takes(site.vhost) == changed
    assert upstream_worker_takes(site.vhost) is None


def test_message_is_the_file_byte_by_byte(rabbit_site, sample_profile):
    site = rabbit_site
    site.set("cdb2rabbit", FIRST_RUN="build")
    site.profiles.add(ENTRY, sample_profile)
    site.scan()
    body, properties = site.vhost.get(QUEUE)
    assert body == sample_profile
    assert properties.content_type == "application/json"
    assert properties.delivery_mode == 2
    assert properties.message_id
    assert properties.timestamp
    assert properties.app_id
    assert properties.headers["x-packuilon-entry"] == ENTRY


def test_upstreams_worker_understands_our_manual_trigger(rabbit_site):
    site = rabbit_site
    site.packuilon("build", "--personality", "by-hand", "--domain", "prod")
    body = upstream_worker_takes(site.vhost)
    assert body["system"]["personality"]["name"] == "by-hand"
    assert body["system"]["os"]["distribution"]["name"] == "sl"
    assert body["system"]["os"]["version"]["name"] == "7x"
    assert body["system"]["os"]["architecture"] == "x86_64"
    assert body["metadata"]["template"]["branch"] == {"name": "prod", "type": "domain"}


def test_our_worker_understands_upstreams_scanner(rabbit_site, sample_profile):
    rabbit_site.worker()
    upstream_publishes(rabbit_site.vhost, sample_profile)
    (build,) = rabbit_site.wait_state("succeeded")
    assert build.image == IMAGE
    rabbit_site.wait_queue_empty()


def test_our_worker_understands_upstreams_manual_trigger(rabbit_site):
    """The skeleton of upstream's packuilon.py: no host name in it."""
    rabbit_site.source_images({"sl7x-x86_64": "x"})
    rabbit_site.worker()
    skeleton = {
        "metadata": {"template": {"branch": {"name": "prod", "type": "domain"}}},
        "system": {
            "personality": {"name": "by-hand"},
            "archetype": {"name": "ral-tier1"},
            "os": {
                "distribution": {"name": "sl"},
                "version": {"name": "7x"},
                "architecture": "x86_64",
            },
        },
    }
    upstream_publishes(rabbit_site.vhost, json.dumps(skeleton))
    (build,) = rabbit_site.wait_state("succeeded")
    assert build.image == "by-hand-sl7x-x86_64"
