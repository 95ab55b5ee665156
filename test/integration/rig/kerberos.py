"""A real KDC, and a real Apache whose mod_auth_gssapi stands in front of a broker."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from .processes import free_ports
from .waiting import wait_for

KEEPER = Path(__file__).with_name("keeper.py")
REALM = "TEST.EXAMPLE"
CLIENT = "nova2aquilon"
APACHE, MODULES = "/usr/sbin/apache2", "/usr/lib/apache2/modules"

KRB5_CONF = """\
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    clockskew = 1
    default_ccache_name = FILE:{root}/no-such-cache
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
[domain_realm]
    localhost = {realm}
"""
KDC_CONF = """\
[kdcdefaults]
    kdc_listen = 127.0.0.1:{port}
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_name = {root}/principal
        key_stash_file = {root}/stash
        acl_file = {root}/acl
        max_life = 1h
    }}
"""
APACHE_CONF = """\
ServerRoot {root}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {root}/apache.pid
ErrorLog {root}/apache-error.log
Mutex file:{root}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule auth_gssapi_module {modules}/mod_auth_gssapi.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_http_module {modules}/mod_proxy_http.so
LoadModule ssl_module {modules}/mod_ssl.so
SSLEngine on
SSLCertificateFile {certificates}/server.pem
SSLCertificateKeyFile {certificates}/server.key
ProxyPass /private/aqd.cgi {backend}
<Location /private>
    AuthType GSSAPI
    AuthName broker
    GssapiCredStore keytab:{keytab}
    Require valid-user
</Location>
"""


def keep(argv, environment, log):
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, KEEPER, str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
            start_new_session=True,
        )  # fmt: skip


def answers(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Kerberos:
    def __init__(self, root):
        self.root = Path(root)
        self.root.mkdir()
        (self.port,) = free_ports(1)
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "KRB5_CONFIG": str(self.root / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.root / "kdc.conf"),
            "KRB5RCACHENAME": f"file2:{self.root}/replays",  # Apache's, else in /var/tmp
        }
        values = {"realm": REALM, "root": self.root, "port": self.port}
        (self.root / "krb5.conf").write_text(KRB5_CONF.format(**values))
        (self.root / "kdc.conf").write_text(KDC_CONF.format(**values))
        self.run("kdb5_util", "create", "-s", "-P", "master", "-r", REALM)
        self.keytab, self.http_keytab = self.root / "client.keytab", self.root / "http.keytab"
        for name, keytab in ((CLIENT, self.keytab), ("HTTP/localhost", self.http_keytab)):
            self.admin(f"addprinc -randkey {name}")
            self.admin(f"ktadd -k {keytab} {name}")
        self._kdc = keep(["krb5kdc", "-n"], self.environment, self.root / "kdc.log")
        wait_for(lambda: answers(self.port), "the KDC is up")

    def run(self, *argv, **extra):
        result = subprocess.run(
            argv, env={**self.environment, **extra}, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{argv}: {result.stderr}"
        return result.stdout

    def admin(self, command):
        return self.run("kadmin.local", "-r", REALM, "-q", command)

    def kinit(self, cache, *options):
        self.run("kinit", *options, "-c", str(cache), "-k", "-t", str(self.keytab), CLIENT)

    def accepts(self, cache):
        """True while the KDC gives something for the ticket in a cache (it allows for clocks that
        differ, so that is a little longer than the ticket says)."""
        copy = f"{cache}.copy"
        shutil.copy(cache, copy)
        argv = ["kvno", "-q", "-c", copy, "HTTP/localhost"]
        result = subprocess.run(argv, env=self.environment, capture_output=True, check=False)
        return result.returncode == 0

    def close(self):
        self._kdc.terminate()
        self._kdc.wait(30)


class Apache:
    """https://localhost:PORT/private/aqd.cgi, with a login by Negotiate, in front of `backend`."""

    def __init__(self, root, kerberos, certificates, backend):
        self.root = Path(root)
        self.root.mkdir()
        (self.port,) = free_ports(1)
        self.url = f"https://localhost:{self.port}/private/aqd.cgi"
        (self.root / "apache.conf").write_text(
            APACHE_CONF.format(
                root=self.root, port=self.port, modules=MODULES, backend=backend,
                certificates=certificates, keytab=kerberos.http_keytab,
            )
        )  # fmt: skip
        self._server = keep(
            [APACHE, "-f", str(self.root / "apache.conf"), "-DFOREGROUND"],
            kerberos.environment, self.root / "apache-output.log",
        )  # fmt: skip
        wait_for(lambda: answers(self.port), "Apache is up")

    def close(self):
        self._server.terminate()
        self._server.wait(30)
