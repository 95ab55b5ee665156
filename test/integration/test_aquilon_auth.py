"""How nova2aquilon logs in to the broker: a real KDC and a real web server that wants Negotiate; basic
and bearer; a certificate authority of its own."""

import base64
import shutil

import pytest
from rig.kerberos import APACHE, Apache, Kerberos
from rig.rabbit import make_certificates
from rig.registrations import AquilonSite
from rig.waiting import wait_for

needs_kerberos = pytest.mark.skipif(
    not all(map(shutil.which, (APACHE, "krb5kdc", "kadmin.local", "kinit"))),
    reason="no KDC or no Apache (scripts/install-deps test)",
)


@pytest.fixture
def aq(rabbit_site):
    site = AquilonSite(rabbit_site)
    yield site
    site.close()


@pytest.fixture
def kerberos(aq, tmp_path):
    realm = Kerberos(tmp_path / "kdc")
    aq.site.more_environment["KRB5_CONFIG"] = realm.environment["KRB5_CONFIG"]
    yield realm
    realm.close()


@pytest.fixture
def protected(aq, kerberos, tmp_path):
    """The site's broker, behind Apache."""
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    make_certificates(certificates)
    server = Apache(tmp_path / "apache", kerberos, certificates, aq.broker.url)
    aq.set(AQ_URL=server.url, AQ_AUTH="negotiate", AQ_TLS_CA=certificates / "ca.pem")
    yield aq
    server.close()


@needs_kerberos
def test_negotiate_with_a_ticket_cache(protected, kerberos, tmp_path):
    cache = tmp_path / "cache"
    kerberos.kinit(cache)
    protected.set(KRB5_CCACHE=f"FILE:{cache}")
    server = protected.create()
    protected.run()
    protected.assert_registered(server)


@needs_kerberos
def test_negotiate_with_a_keytab(protected, kerberos):
    protected.set(KRB5_KEYTAB=kerberos.keytab)
    servers = [protected.create(address=f"10.77.1.{n}") for n in range(20)]
    protected.run()
    for n, server in enumerate(servers):
        protected.assert_registered(server, f"10.77.1.{n}")


@needs_kerberos
def test_an_expired_ticket_is_said_and_a_new_one_used(protected, kerberos, tmp_path):
    cache = tmp_path / "cache"
    kerberos.kinit(cache, "-l", "2s")
    protected.set(KRB5_CCACHE=f"FILE:{cache}")
    wait_for(lambda: not kerberos.accepts(cache), "the ticket has expired")
    server = protected.create()
    daemon = protected.start()
    daemon.wait_log("has expired")
    assert f"the Kerberos ticket in FILE:{cache} has expired" in daemon.log()
    assert "run kinit" in daemon.log()
    kerberos.kinit(cache)
    protected.wait(server, "registered")
    protected.assert_registered(server)
    assert daemon.stop() == 0


@needs_kerberos
def test_no_ticket_is_said(protected, tmp_path):
    protected.set(RETRY_FOR="0", KRB5_CCACHE=f"FILE:{tmp_path}/nothing")
    server = protected.create()
    protected.run()
    row = protected.row(server)
    assert row.state == "failed"
    assert "no Kerberos ticket" in row.reason and "401" in row.reason
    assert not protected.broker.calls


@needs_kerberos
def test_another_authority_is_refused(protected, kerberos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    make_certificates(other)
    protected.set(RETRY_FOR="0", KRB5_KEYTAB=kerberos.keytab, AQ_TLS_CA=other / "ca.pem")
    server = protected.create()
    protected.run()
    assert "certificate" in protected.row(server).reason
    assert not protected.broker.calls


def test_basic(aq):
    secret = aq.site.root / "aq-password"
    secret.write_text("pä;ss'word\n")
    aq.set(AQ_AUTH="basic", AQ_USER="nova", AQ_PW_FILE=secret)
    login = base64.b64encode("nova:pä;ss'word".encode()).decode()
    aq.broker.authorization = f"Basic {login}"
    server = aq.create()
    aq.run()
    aq.assert_registered(server)


def test_bearer(aq):
    secret = aq.site.root / "aq-token"
    secret.write_text("t0ken\n")
    aq.set(AQ_AUTH="bearer", AQ_TOKEN_FILE=secret)
    aq.broker.authorization = "Bearer t0ken"
    server = aq.create()
    aq.run()
    aq.assert_registered(server)


def test_a_refused_login_is_said(aq):
    secret = aq.site.root / "aq-token"
    secret.write_text("wrong\n")
    aq.set(AQ_AUTH="bearer", AQ_TOKEN_FILE=secret, RETRY_FOR="0")
    aq.broker.authorization = "Bearer t0ken"
    server = aq.create()
    result = aq.run()
    assert "check AQ_TOKEN_FILE" in aq.row(server).reason
    assert "wrong" not in result.err + aq.row(server).reason


@pytest.mark.parametrize(
    "values, missing",
    [
        ({"AQ_URL": None}, "AQ_URL"),
        ({"AQ_AUTH": "basic"}, "AQ_USER or AQ_PW_FILE"),
        ({"AQ_AUTH": "bearer"}, "AQ_TOKEN_FILE"),
        ({"AQ_AUTH": "magic"}, "negotiate, basic, bearer or none"),
        ({"AQ_SOURCE": "volume"}, "metadata, image or both"),
        ({"HOST_NAME": "host-${adress}.x.org"}, "${adress} is unknown"),
        ({"HOST_NAME": "no-domain-${name}"}, "not a host name with its domain"),
    ],
)
def test_configuration_that_cannot_be_right(aq, values, missing):
    aq.set(**values)
    result = aq.site.program("nova2aquilon", "-c", aq.site.config_path, expect=2)
    assert missing in result.err and str(aq.site.config_path) in result.err
