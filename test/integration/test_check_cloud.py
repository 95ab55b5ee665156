"""What `packuilon check` finds out from the cloud: a login, and whether the source images are there."""

import json
import time
import uuid

import pytest
from rig.checks import check, fake_packer, words_of
from rig.cloud import PASSWORD, PROJECT, USER, Cloud
from rig.rabbit import make_certificates
from rig.site import SOURCE_IMAGE

TOKENS, IMAGES = "/v3/auth/tokens", "/image/v2/images"
QUICK = 25  # with an answer that does not come, which has 10 s, and Packer not asked


@pytest.fixture
def cloud():
    server = Cloud()
    server.password = PASSWORD
    server.add_image(SOURCE_IMAGE)
    yield server
    server.close()


@pytest.fixture
def site(local_site, cloud):
    local_site.profiles.write_index()
    local_site.openrc(**cloud.openrc())
    fake_packer(local_site)
    return local_site


def asked(cloud):
    return [path for _, path in cloud.calls if path.startswith("/image")]


def the_fault(site, what):
    """The only line that is not well."""
    lines = check(site, expect=1)
    faults = [(key, text) for key, found in lines.items() for word, text in found if word == "FAIL"]
    assert [key for key, _ in faults] == [what], faults
    assert PASSWORD not in str(lines)
    return faults[0][1]


# ---- all is well -------------------------------------------------------------------------------


def test_a_good_cloud(site, cloud):
    other = cloud.add_image()
    site.source_images({"sl7x-x86_64": SOURCE_IMAGE, "rocky": {"8x": other, "9x": SOURCE_IMAGE}})
    lines = check(site)
    assert lines["openstack login"] == [
        ("ok", f"{cloud.url}/v3 accepts the credentials: user {USER}, project {PROJECT}")
    ]
    assert lines["Glance"] == [("ok", "2 source images are there")]
    assert sorted(asked(cloud)) == sorted(f"{IMAGES}/{image}" for image in (SOURCE_IMAGE, other))
    assert len(cloud.logins) == 1
    assert PASSWORD not in str(lines) and not any(token in str(lines) for token in cloud.tokens)


def test_connections_are_kept(site, cloud):
    images = {f"os{n}": cloud.add_image() for n in range(60)}
    site.source_images(images)
    assert check(site)["Glance"] == [("ok", "60 source images are there")]
    assert len(asked(cloud)) == 60
    assert len(cloud.connections) <= 5


def test_a_limit_on_the_number(site, cloud):
    site.source_images({f"os{n}": cloud.add_image() for n in range(252)})
    lines = check(site)
    assert words_of(lines, "Glance") == ["ok", "warn"]
    assert "250 source images are there" in lines["Glance"][0][1]
    assert "2 more os keys" in lines["Glance"][1][1]
    assert len(asked(cloud)) == 250


def test_a_clouds_yaml(site, cloud):
    path = site.root / "clouds.yaml"
    auth = {"auth_url": f"{cloud.url}/v3", "username": USER, "password": PASSWORD}
    auth["project_name"] = PROJECT
    path.write_text(json.dumps({"clouds": {"c": {"auth": auth, "region_name": "RegionOne"}}}))
    openrc = site.root / "openrc.sh"
    openrc.write_text(f"export OS_CLOUD=c OS_CLIENT_CONFIG_FILE={path}\n")
    assert words_of(check(site), "Glance") == ["ok"]


# ---- the login ---------------------------------------------------------------------------------


def test_wrong_password(site, cloud):
    cloud.password = "another"
    text = the_fault(site, "openstack login")
    assert "401: The request you have made requires authentication." in text
    assert "OS_PASSWORD" in text and "openrc.sh" in text and "OS_PROJECT_NAME" not in text
    assert not asked(cloud)


def test_no_such_project(site, cloud):
    cloud.no_projects.add(PROJECT)
    text = the_fault(site, "openstack login")
    assert "user and password are right" in text and "OS_PROJECT_NAME" in text


def test_refused_application_credential(site, cloud):
    cloud.refuse_login = True
    path = site.root / "openrc.sh"
    secret = "the-secret-of-a-credential"
    path.write_text(
        f"export OS_AUTH_URL={cloud.url} OS_APPLICATION_CREDENTIAL_ID=i\n"
        f"export OS_AUTH_TYPE=v3applicationcredential OS_APPLICATION_CREDENTIAL_SECRET={secret}\n"
    )
    text = the_fault(site, "openstack login")
    assert "has expired" in text and secret not in text
    assert len(cloud.logins) == 1


def test_keystone_echoes_the_password(site, cloud):
    cloud.faults[TOKENS] = lambda handler: handler.refuse(f"{PASSWORD} is wrong")
    assert "<redacted> is wrong" in the_fault(site, "openstack login")


@pytest.mark.parametrize(
    "services, values",
    [({"compute"}, {}), ({"compute", "image"}, {"OS_REGION_NAME": "Gone"})],
)
def test_no_image_service(site, cloud, services, values):
    cloud.services = services
    site.openrc(**cloud.openrc(**values))
    text = the_fault(site, "openstack login")
    assert "no image service" in text and "OS_REGION_NAME" in text


def reply(code, text):
    return lambda handler: handler.reply(code, text)


@pytest.mark.parametrize(
    "fault, words",
    [
        (reply(404, "<html>"), "Keystone answered 404"),
        (reply(503, '{"error": {"message": "It rests."}}'), "Keystone answered 503: It rests."),
        (reply(201, "garbage"), "X-Subject-Token"),
        (lambda h: h.reply(201, "{ garbage", {"X-Subject-Token": "t"}), "is no token"),
        (lambda h: h.reply(201, "[" * 5_000_000, {"X-Subject-Token": "t"}), "limit of"),
    ],
    ids=["404", "503", "no-token", "garbage", "huge"],
)
def test_not_keystone(site, cloud, fault, words):
    cloud.faults[TOKENS] = fault
    text = the_fault(site, "openstack login")
    assert words in text and "OS_AUTH_URL" in text and cloud.url in text


def test_keystone_away(site):
    site.openrc(OS_AUTH_URL="http://127.0.0.1:1/v3", OS_PASSWORD=PASSWORD, OS_PROJECT_NAME=PROJECT)
    assert "http://127.0.0.1:1/v3" in the_fault(site, "openstack login")


def hang(handler):
    handler.server.closing.wait()
    handler.close_connection = True


def test_keystone_hangs(site, cloud):
    cloud.faults[TOKENS] = hang
    fake_packer(site, validate='test -z "$OS_AUTH_URL" || sleep 60')
    begun = time.monotonic()
    assert "timed out" in the_fault(site, "openstack login")
    assert time.monotonic() - begun < QUICK


def test_a_login_that_only_packer_knows(site, cloud):
    site.openrc(**cloud.openrc(OS_AUTH_TYPE="v3token", OS_TOKEN="geheim-geheim"))
    lines = check(site)
    assert words_of(lines, "openstack login") == ["ok"]
    assert words_of(lines, "Glance") == ["warn"] and "OS_AUTH_TYPE" in lines["Glance"][0][1]


def test_a_certificate_that_is_not_trusted(site, cloud):
    """A template may tell Packer not to mind."""
    make_certificates(site.root)
    cloud.use_tls(site.root / "server.pem", site.root / "server.key")
    site.openrc(**cloud.openrc())
    lines = check(site)
    assert words_of(lines, "openstack login") == ["ok"]
    assert words_of(lines, "Glance") == ["warn"]
    assert "certificate" in lines["Glance"][0][1] and "OS_CACERT" in lines["Glance"][0][1]
    site.openrc(**cloud.openrc(OS_CACERT=site.root / "ca.pem"))
    assert words_of(check(site), "Glance") == ["ok"]


def test_a_login_that_packer_does_not_take(site):
    fake_packer(site, validate='test -z "$OS_AUTH_URL" || { echo No thanks; exit 1; }')
    lines = check(site, expect=1)
    assert words_of(lines, "openstack login") == ["ok", "FAIL"]
    assert "No thanks" in lines["openstack login"][1][1]


def test_builders_that_need_no_cloud(site, cloud):
    site.file_template()
    assert words_of(check(site), "Glance") == ["warn"]
    assert not asked(cloud)
    (site.root / "openrc.sh").write_text("export OS_SOMETHING=else\n")
    lines = check(site)
    assert words_of(lines, "openstack login") == ["warn"]
    assert "Glance" not in lines


def test_no_auth_file(site, cloud):
    site.set("rabbit2packer", PACKER_AUTH_FILE=None)
    lines = check(site)
    assert "Glance" not in lines and "openstack login" not in lines
    assert not cloud.calls


# ---- the images --------------------------------------------------------------------------------


def test_a_missing_image_names_its_keys(site, cloud):
    gone = str(uuid.uuid4())
    site.source_images(
        {"sl7x-x86_64": gone, "good": SOURCE_IMAGE, "rocky": {f"{n}x": gone for n in range(5)}}
    )
    text = the_fault(site, "Glance")
    assert text.startswith('source image of "sl7x-x86_64", "rocky0x", "rocky1x" and 3 more: ')
    assert gone in text and "openstack image list" in text
    assert sorted(asked(cloud)) == sorted([f"{IMAGES}/{gone}", f"{IMAGES}/{SOURCE_IMAGE}"])


@pytest.mark.parametrize(
    "status, words",
    [
        ("queued", "upload it"),
        ("saving", "wait"),
        ("deactivated", "--activate"),
        ("killed", "choose another"),
    ],
)
def test_an_image_that_is_not_active(site, cloud, status, words):
    cloud.images[SOURCE_IMAGE]["status"] = status
    text = the_fault(site, "Glance")
    assert f"image {SOURCE_IMAGE} is {status}: " in text and words in text


def test_each_fault_has_a_line(site, cloud):
    cloud.images[SOURCE_IMAGE]["status"] = "queued"
    refused, gone = str(uuid.uuid4()), str(uuid.uuid4())
    cloud.faults[f"{IMAGES}/{refused}"] = reply(403, "no")
    site.source_images({"a": SOURCE_IMAGE, "b": refused, "c": gone, "d": cloud.add_image()})
    lines = check(site, expect=1)["Glance"]
    assert [text.split(": ")[0] for _, text in lines] == [
        f'source image of "{key}"' for key in "abc"
    ]


def test_images_by_name(site, cloud):
    image = cloud.add_image(name="Rocky 8 & more")
    site.source_images({"rocky8x": "Rocky 8 & more"})
    assert f"put in {image}" in the_fault(site, "Glance")
    template = site.root / "managed.json"
    template.write_text(template.read_text().replace('"source_image"', '"source_image_name"'))
    assert check(site)["Glance"] == [("ok", "1 source image is there")]
    cloud.add_image(name="Rocky 8 & more", status="queued")
    assert words_of(check(site), "Glance") == ["ok"]
    cloud.add_image(name="Rocky 8 & more")
    assert "more than one" in the_fault(site, "Glance")
    site.source_images({"rocky8x": "no such name"})
    assert "no such name is no image id" in the_fault(site, "Glance")


def test_what_is_still_the_samples_is_not_asked_for(site, cloud):
    site.source_images({"sl7x-x86_64": "REPLACE-WITH-THE-ID-OF-AN-SL-7-IMAGE"})
    lines = check(site)
    assert "Glance" not in lines
    assert words_of(lines, "source images") == ["ok", "warn"]


@pytest.mark.parametrize(
    "fault, words",
    [
        (reply(503, "it rests"), "Glance answered 503"),
        (reply(401, "who are you?"), "Glance answered 401"),
        (reply(200, "{ garbage"), "is no image"),
        (reply(200, "[" * 100_000), "is no image"),
        (reply(200, '{"id": 7, "status": "active"}'), "is no image"),
        (reply(200, '{"id": "x", "status": "%s"}' % (100 * "a")), "is no image"),
        (reply(200, 5_000_000 * " "), "limit of"),
    ],
    ids=["503", "401", "garbage", "deep", "number", "long", "huge"],
)
def test_glance_fails(site, cloud, fault, words):
    site.source_images({f"os{n}": cloud.add_image() for n in range(20)})
    for image in cloud.images:
        cloud.faults[f"{IMAGES}/{image}"] = fault
    text = the_fault(site, "Glance")
    assert words in text and "20 of 20 source images were not looked up" in text
    assert len(asked(cloud)) <= 8, "it is not asked on and on"


def test_glance_hangs(site, cloud):
    cloud.faults[f"{IMAGES}/{SOURCE_IMAGE}"] = hang
    site.source_images({"bad": SOURCE_IMAGE, **{f"os{n}": cloud.add_image() for n in range(8)}})
    begun = time.monotonic()
    text = the_fault(site, "Glance")
    assert "timed out" in text and "1 of 9 source images were not looked up" in text
    assert time.monotonic() - begun < QUICK


@pytest.mark.slow
def test_glance_is_slow(site, cloud):
    def late(handler):
        handler.server.closing.wait(1)
        handler.serve(b"")

    images = [cloud.add_image() for _ in range(100)]
    site.source_images({f"os{n}": image for n, image in enumerate(images)})
    cloud.faults.update({f"{IMAGES}/{image}": late for image in images})
    text = the_fault(site, "Glance")
    assert "slow" in text and "of 100 source images were not looked up" in text
    assert 20 < len(asked(cloud)) < 100
