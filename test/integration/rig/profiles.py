"""Profiles and their index, as a Quattor site's compiler and broker write them."""

import copy
import json
import os
import random
from pathlib import Path

SAMPLE = {
    "metadata": {"template": {"branch": {"name": "prod", "type": "domain"}}},
    "software": {
        "packages": {"bash": {}, "openssh-server": {}},
        "components": {"chkconfig": {"active": True, "service": {"sshd": {"on": "2345"}}}},
        "groups": {"names": ["core", "base"]},
    },
    "system": {
        "archetype": {"name": "cloud", "os": "rocky", "model": "8x-x86_64"},
        "network": {"hostname": "sample", "domainname": "cloud.template"},
        "os": {
            "architecture": "x86_64",
            "distribution": {"name": "rocky", "family": "el"},
            "version": {"name": "8x", "major": 8},
        },
        "personality": {"name": "nubesvms", "stage": "current"},
    },
}
OS_KEY = "rocky8x-x86_64"


def profile(personality="nubesvms", **values):
    """A profile of that personality; values are set by path: profile(**{"system/build": "x"})."""
    document = copy.deepcopy(SAMPLE)
    document["system"]["personality"]["name"] = personality
    document["system"]["network"]["hostname"] = personality
    for path, value in values.items():
        set_path(document, path, value)
    return document


def set_path(document, path, value):
    """value None removes the element."""
    *parents, last = path.strip("/").split("/")
    for name in parents:
        document = document.setdefault(name, {})
    if value is None:
        del document[last]
    else:
        document[last] = value


def pan_json(document):
    """The text as the pan compiler writes it: sorted keys, two spaces, no newline at the end."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False).encode()


class ProfileTree:
    """The broker's folder of profiles, with its index."""

    INDEX = "profiles-info.xml"

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True)
        self.mtimes = {}  # entry -> seconds
        self._now = 1627553908
        self._shuffle = random.Random(1)

    def _tick(self):
        self._now += 7
        return self._now

    def add(self, name, content, *, compiled=None, index=True):
        """A new or recompiled profile: a document, or the file's bytes as they are."""
        data = content if isinstance(content, bytes) else pan_json(content)
        mtime = compiled if compiled is not None else self._tick()
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(data)
        os.utime(part, (mtime, mtime))
        part.rename(path)
        self.mtimes[name] = mtime
        if index:
            self.write_index()

    def read(self, name):
        return json.loads((self.folder / name).read_bytes())

    def change(self, name, path, value):
        """Recompiles with one element changed; returns the new document."""
        document = self.read(name)
        set_path(document, path, value)
        self.add(name, document)
        return document

    def recompile(self, *names):
        """Same content, new mtime."""
        for name in names or list(self.mtimes):
            self.add(name, (self.folder / name).read_bytes(), index=False)
        self.write_index()

    def remove(self, name):
        (self.folder / name).unlink(missing_ok=True)
        del self.mtimes[name]
        self.write_index()

    def write_index(self, text=None):
        """As the broker does: single quotes, no newline at the end, an order that means nothing."""
        if text is None:
            entries = list(self.mtimes.items())
            self._shuffle.shuffle(entries)
            lines = ["<?xml version='1.0' encoding='utf-8'?>", "<profiles>"]
            lines += [f"<profile mtime='{mtime}'>{name}</profile>" for name, mtime in entries]
            text = "\n".join([*lines, "</profiles>"])
        if isinstance(text, str):
            text = text.encode()
        part = self.folder / (self.INDEX + "AbCdEf")
        part.write_bytes(text)
        mtime = self._tick()
        os.utime(part, (mtime, mtime))
        part.rename(self.folder / self.INDEX)
