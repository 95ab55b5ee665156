"""A site whose nova2aquilon is at work, with its neighbours."""

import sqlite3
import uuid

from . import aquilon
from .cloud import Cloud
from .site import Build
from .waiting import DEADLINE, wait_for

DOMAIN = "nubes.example.org"
OPEN = {"registering", "removing"}


class AquilonSite:
    """A Site with a broker, a cloud and a name server; names of hosts follow a pattern, unless the
    test wants the DNS."""

    def __init__(self, site, **values):
        self.site, self.vhost = site, site.vhost
        self.broker, self.cloud, self.dns = aquilon.Broker(), Cloud(), aquilon.NameServer()
        self.openrc = site.root / "nova-openrc.sh"
        self.write_openrc()
        site.set(
            "nova2aquilon",
            AQ_URL=self.broker.url,
            AQ_AUTH="none",
            HOST_NAME="host-${address}." + DOMAIN,
            DNS_SERVERS=self.dns.address,
            NOVA_AUTH_FILE=self.openrc,
            HTTP_TIMEOUT="20s",
            **values,
        )
        self._publisher = None

    def write_openrc(self, **values):
        values = self.cloud.openrc(**values)
        text = "".join(f"export {key}='{value}'\n" for key, value in values.items() if value)
        self.openrc.write_text(text)
        self.openrc.chmod(0o600)

    def set(self, **values):
        self.site.set("nova2aquilon", **values)

    def start(self, *arguments, ready=True):
        return self.site.daemon("nova2aquilon", *arguments, ready=ready)

    def run(self, **options):
        """To the end of all work."""
        return self.site.program(
            "nova2aquilon", "-c", self.site.config_path, "--until-idle", **options
        )

    # ---- notifications -----------------------------------------------------------------------

    @property
    def publisher(self):
        if not self._publisher:
            self._publisher = aquilon.Publisher(self.vhost)
        return self._publisher

    def send(self, body):
        self.publisher.send(body)

    def create(self, server=None, **values):
        server = server or str(uuid.uuid4())
        self.send(aquilon.created(server, **values))
        return server

    def delete(self, server, **values):
        self.send(aquilon.deleted(server, **values))

    # ---- what came of them -------------------------------------------------------------------

    def query(self, sql, *values):
        path = self.site.state_dir / "registrations.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            connection.row_factory = sqlite3.Row
            return [Build(row) for row in connection.execute(sql, values)]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()

    def rows(self, state=None):
        rows = self.query("SELECT * FROM registration ORDER BY id")
        return [row for row in rows if state is None or row.state == state]

    def row(self, server):
        rows = self.query("SELECT * FROM registration WHERE server = ?", server)
        return rows[0] if rows else None

    def counts(self):
        return {row.type: row.n for row in self.query("SELECT * FROM notification_count")}

    def history(self, server):
        return self.query(
            "SELECT e.* FROM registration_event AS e JOIN registration AS r"
            " ON r.id = e.registration WHERE r.server = ? ORDER BY e.id",
            server,
        )

    def steps(self, server):
        return [event.what for event in self.history(server)]

    def wait(self, server, state, deadline=DEADLINE):
        """The row, once it is so and nobody is still to be told."""

        def reached():
            row = self.row(server)
            return row if row and row.state == state and not row.debts else None

        try:
            return wait_for(reached, f"server {server} is {state}", deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe()}") from None

    def wait_quiet(self, deadline=DEADLINE):
        wait_for(
            lambda: not self.query(
                "SELECT 1 FROM registration WHERE debts <> 0 OR state IN ('registering', 'removing')"
            ),
            "nothing is at work",
            deadline,
        )

    def describe(self):
        text = self.site.describe()
        for row in self.rows()[:20]:
            text += f"--- {dict(row)}\n"
        with self.broker.lock:
            text += "".join(f"{call}\n" for call in self.broker.calls[-40:])
        return text

    def assert_registered(self, server, address="10.77.0.5"):
        """In the broker, whole and once."""
        host = f"host-{address.replace('.', '-')}.{DOMAIN}"
        machine = self.broker.machine_of(server)
        assert machine, self.describe()
        record = self.broker.hosts[host]
        assert record["machine"] == machine and record["ip"] == address
        assert record["made"] >= 1
        interface = self.broker.machines[machine]["interfaces"]["eth0"]
        assert "boot" in interface and "default_route" in interface and interface["mac"]
        assert not self.broker.violations
        return record

    def close(self):
        if self._publisher:
            try:
                self._publisher.close()
            except Exception:  # noqa: BLE001 - the broker may be gone, on purpose
                pass
        self.broker.close()
        self.cloud.close()
        self.dns.close()
