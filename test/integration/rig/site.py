"""A site: configuration, profiles, maps, templates, and the programs at work on them."""

import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

from .processes import BIN_DIR, TOOL_DIR, Daemon, run, sanitizer_environment, sanitizer_reports
from .profiles import OS_KEY, ProfileTree, pan_json, profile
from .rabbit import PASSWORD, USER
from .waiting import DEADLINE, wait_for

QUEUE = "build-queue"
SOURCE_IMAGE = "11111111-2222-3333-4444-555555555555"
FINAL_STATES = {"succeeded", "failed", "cancelled", "skipped", "superseded", "interrupted"}
LAST_LINE = re.compile(r"^rabbit2packer: Build finished at (\d+) \(epoch\) with exit code (\d+)$")


class Build(dict):
    """A row of the history; its columns as attributes."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class PackerRun:
    """What the fake Packer noted of one run."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def _text(self, name):
        path = self.folder / name
        return path.read_text() if path.exists() else None

    @property
    def argv(self):
        return self._text("argv").split("\0")[:-1]

    @property
    def env(self):
        return dict(line.split("=", 1) for line in self._text("env").split("\0")[:-1])

    @property
    def cwd(self):
        return self._text("cwd")

    @property
    def build_file(self):
        return json.loads(self._text("build-file"))

    @property
    def build_file_text(self):
        return self._text("build-file")

    @property
    def vars(self):
        return json.loads(self._text("var-file"))

    @property
    def pid(self):
        return int(self.folder.name.split("-")[1])

    @property
    def started(self):
        return int(self._text("started"))

    @property
    def ended(self):
        """Nanoseconds, or None while it runs (or when it was killed)."""
        text = self._text("ended")
        return int(text) if text else None


class Site:
    """With `vhost` the queue is RabbitMQ's, without it is the local one; with `web` (a WebServer on
    the profiles' folder) profiles come over HTTP, without from file:// URLs."""

    def __init__(self, root, *, vhost=None, web=None):
        self.root, self.vhost = Path(root), vhost
        self.root.mkdir(parents=True, exist_ok=True)
        self.profiles = ProfileTree(self.root / "profiles")
        self.web = web(self.profiles.folder) if web else None
        self.url = self.web.url if self.web else f"file://{self.profiles.folder}"
        self.state_dir, self.log_dir = self.root / "state", self.root / "logs"
        self.template_dir, self.bin_dir = self.root / "templates", self.root / "bin"
        self.tmp, self.reports = self.root / "tmp", self.root / "reports"
        for folder in (self.template_dir, self.bin_dir, self.tmp):
            folder.mkdir()
        self.packer = self.bin_dir / "packer"
        self.packer.symlink_to(TOOL_DIR / "fakepacker")
        self.record = Path(f"{self.packer}.record")
        self.record.mkdir()
        self.daemons = []
        self.more_environment = {}  # of the programs
        self.config_path = self.root / "config.ini"
        self.config = {
            "global": {"QUEUE": QUEUE, "STATE_DIR": self.state_dir},
            "cdb2rabbit": {
                "PROFILE_INFO_URL": f"{self.url}/{ProfileTree.INDEX}",
                "PROFILE_DIR_URL": self.url,
                "PROFILE_MATCH": ".cloud.template.json",
                "CACHE_DIR": self.root / "cache",
            },
            "rabbit2packer": {
                "THREAD_COUNT": 2,
                "LOG_DIR": self.log_dir,
                "BUILD_FILE_DIR": self.root / "build-files",
                "PACKER_TEMPLATE_MAP": self.root / "template-map.json",
                "IMAGES_CONFIG": self.root / "source-images.json",
                "PACKER_PATH": self.packer,
            },
        }
        if vhost:
            self.config["global"].update(
                TRANSPORT="amqp",
                RABBIT_HOST=vhost.node.host,
                RABBIT_PORT=vhost.node.port,
                RABBIT_USER=USER,
                RABBIT_PW=PASSWORD,
                RABBIT_VHOST=vhost.name,
            )
        else:
            self.config["global"]["TRANSPORT"] = "local"
        self.write_config()
        self.source_images({OS_KEY: SOURCE_IMAGE})
        self.template("managed")
        self.template_map({"DEFAULT": ["managed.json"]})

    # ---- configuration ----------------------------------------------------------------------

    def set(self, section, **values):
        """Changes the configuration; a value None leaves the key out."""
        self.config.setdefault(section, {}).update(values)
        self.write_config()

    def write_config(self, text=None):
        if text is None:
            text = ""
            for section, values in self.config.items():
                text += f"[{section}]\n"
                text += "".join(f"{k} = {v}\n" for k, v in values.items() if v is not None)
        self.config_path.write_text(text)

    def source_images(self, content):
        self._write_map("source-images.json", content)

    def template_map(self, content):
        self._write_map("template-map.json", content)

    def _write_map(self, name, content):
        text = content if isinstance(content, str) else json.dumps(content, indent=2)
        part = self.root / f"{name}.part"
        part.write_text(text)
        part.rename(self.root / name)
        # The maps' relative template names are taken from their folder.

    def template(self, name, *script, text=None):
        """A template NAME.json for the openstack builder. `script` is the fake Packer's."""
        if text is None:
            text = json.dumps(
                {
                    "builders": [
                        {
                            "type": "openstack",
                            "image_name": "$NAME",
                            "source_image": "$IMAGE",
                            "instance_metadata": "$METADATA",
                            "flavor": "m1.tiny",
                        }
                    ],
                    **({"fake": list(script)} if script else {}),
                },
                indent=2,
            ).replace('"$METADATA"', "{ $METADATA }")
        path = self.root / f"{name}.json"
        path.write_text(text)
        return path

    def openrc(self, **values):
        """The auth file, and the configuration that names it."""
        path = self.root / "openrc.sh"
        values = {"OS_AUTH_URL": "http://keystone.invalid:5000/v3", "OS_USERNAME": "image", **values}
        quoted = {k: "'" + str(v).replace("'", "'\\''") + "'" for k, v in values.items()}
        path.write_text("".join(f"export {k}={v}\n" for k, v in quoted.items()))
        path.chmod(0o600)
        self.set("rabbit2packer", PACKER_AUTH_FILE=path)

    def use_real_packer(self):
        self.set("rabbit2packer", PACKER_PATH=shutil.which("packer") or "/usr/bin/packer")

    def file_template(self, name="managed", target=None):
        """A template for the real Packer's file builder; returns what it writes."""
        target = target or self.root / "images" / "$NAME"
        target.parent.mkdir(exist_ok=True)
        self.template(
            name,
            text=json.dumps(
                {
                    "builders": [
                        {
                            "type": "file",
                            "target": str(target),
                            "content": "$NAME from $IMAGE by $PERSONALITY\n",
                        }
                    ]
                }
            ),
        )
        return target

    # ---- programs ---------------------------------------------------------------------------

    def environment(self, **extra):
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.root),
            "TMPDIR": str(self.tmp),
            "LC_ALL": "C.UTF-8",
            **sanitizer_environment(self.reports),
            **self.more_environment,
            **extra,
        }

    def program(self, name, *arguments, expect=0, stdin=b"", deadline=DEADLINE, env=None):
        """Runs one of our programs with this site's configuration to its end; expect=None takes
        any exit status."""
        result = run(
            [BIN_DIR / name, *arguments],
            env=env or self.environment(),
            cwd=self.root,
            stdin=stdin,
            deadline=deadline,
        )
        assert expect is None or result.code == expect, f"exit status {expect} expected\n{result}"
        return result

    def scan(self, *arguments, **options):
        return self.program("cdb2rabbit", "-c", self.config_path, *arguments, **options)

    def packuilon(self, command, *arguments, **options):
        return self.program("packuilon", command, "-c", self.config_path, *arguments, **options)

    def daemon(self, name, *arguments, ready=True):
        log = self.root / f"{name}.log"
        daemon = Daemon(
            [BIN_DIR / name, "-c", self.config_path, *arguments],
            log=log,
            env=self.environment(),
            cwd=self.root,
        )
        self.daemons.append(daemon)
        if ready:
            daemon.wait_ready()
        return daemon

    def worker(self, *arguments, ready=True):
        """rabbit2packer, running."""
        return self.daemon("rabbit2packer", *arguments, ready=ready)

    def listener(self, *arguments, ready=True):
        """cdb2rabbit --listen, running."""
        return self.daemon("cdb2rabbit", "--listen", *arguments, ready=ready)

    # ---- queue ------------------------------------------------------------------------------

    def publish(self, body, message_id=None, entry=None):
        """One message, as cdb2rabbit would send it; a document, or the text's bytes."""
        if not isinstance(body, bytes):
            body = pan_json(body)
        message = {"body": body.decode(), "message_id": message_id, "entry": entry}
        line = json.dumps({key: value for key, value in message.items() if value is not None})
        result = run([TOOL_DIR / "queue-publish", self.config_path], stdin=line.encode() + b"\n")
        assert result.code == 0, result
        events = [json.loads(event) for event in result.out.splitlines()]
        assert [event["error"] for event in events if event["event"] == "done"] == [None], result

    def publish_profile(self, personality="nubesvms", **values):
        self.publish(profile(personality, **values))

    def queue_count(self, suffix=""):
        """Messages in the queue; 0 also when there is no such queue."""
        queue = self.config["global"]["QUEUE"] + suffix
        if self.vhost:
            return self.vhost.count(queue) or 0
        rows = self.query("SELECT count(*) AS n FROM message WHERE queue = ?", queue)
        return rows[0]["n"] if rows else 0

    def wait_queue_empty(self):
        """A message goes once its builds are on disk, a moment after they are to be seen."""
        wait_for(lambda: self.queue_count() == 0, "the queue is empty")

    # ---- history ----------------------------------------------------------------------------

    def query(self, sql, *values):
        """Rows of the builds' database, [] when it is not there yet."""
        path = self.state_dir / "builds.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        try:
            connection.row_factory = sqlite3.Row
            return [Build(row) for row in connection.execute(sql, values)]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error) or "unable to open" in str(error):
                return []
            raise
        finally:
            connection.close()

    def builds(self, state=None):
        """Oldest first."""
        rows = self.query("SELECT * FROM build ORDER BY id")
        return [row for row in rows if state is None or row.state == state]

    def events(self, build):
        return self.query("SELECT * FROM build_event WHERE build = ? ORDER BY id", build.id)

    def wait_build(self, predicate=None, what="a finished build", deadline=DEADLINE):
        """The first build that the predicate holds for."""
        predicate = predicate or (lambda build: build.state in FINAL_STATES)
        try:
            return wait_for(lambda: next(filter(predicate, self.builds()), None), what, deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe()}") from None

    def wait_state(self, state, number=1, deadline=DEADLINE):
        """The builds of that state, once there are so many."""
        try:
            return wait_for(
                lambda: len(self.builds(state)) >= number and self.builds(state),
                f"{number} builds {state}",
                deadline,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe()}") from None

    def logs(self):
        return sorted(self.log_dir.glob("*.log")) if self.log_dir.exists() else []

    def log_text(self, build):
        return Path(build.log_path).read_text(errors="replace")

    def exit_line(self, build):
        """(epoch, exit code) of the log's last line, which packuilon-monitor reads."""
        match = LAST_LINE.match(self.log_text(build).splitlines()[-1])
        assert match, f"last line of {build.log_path}:\n{self.log_text(build)[-2000:]}"
        return int(match[1]), int(match[2])

    def packer_runs(self):
        """Runs of the fake Packer that have begun, oldest first."""
        folders = sorted(self.record.iterdir())
        return [PackerRun(folder) for folder in folders if (folder / "started").exists()]

    def wait_packer(self, number=1, deadline=DEADLINE):
        """The fake Packer's runs, once so many have begun."""
        try:
            return wait_for(
                lambda: len(self.packer_runs()) >= number and self.packer_runs(),
                f"{number} runs of Packer have begun",
                deadline,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe()}") from None

    # ---- the end ----------------------------------------------------------------------------

    def describe(self):
        """For a failed test."""
        text = "".join(
            f"--- log of {daemon.argv[0]} ({daemon.process.poll()})\n{daemon.log()[-6000:]}\n"
            for daemon in self.daemons
        )
        for build in self.builds():
            text += f"--- {dict(build)}\n"
        for path in self.logs():
            text += f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}\n"
        return text

    def leftovers(self):
        """What must not be there when all is over."""
        found = [str(path) for path in self.tmp.iterdir()]
        scratch = self.state_dir / "tmp"
        killed = any(daemon.process.returncode == -9 for daemon in self.daemons)
        if scratch.exists() and not killed:
            found += [str(path) for path in scratch.iterdir()]
        return found

    def close(self):
        """Ends what still runs. Returns complaints."""
        complaints = []
        for daemon in self.daemons:
            if daemon.is_running():
                daemon.signal(15)
                daemon.signal(15)
        for daemon in self.daemons:
            try:
                daemon.wait(10)
            except AssertionError as error:
                complaints.append(str(error))
            daemon.close()
        if self.web:
            self.web.close()
        complaints += sanitizer_reports(self.reports)
        complaints += [f"left behind: {path}" for path in self.leftovers()]
        return complaints

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)


def read_file(path):
    return Path(path).read_text(errors="replace")


def is_alive(pid):
    try:
        return "\nState:\tZ" not in read_file(f"/proc/{pid}/status")
    except OSError:
        return False


def resident_bytes(pid):
    return int(read_file(f"/proc/{pid}/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
