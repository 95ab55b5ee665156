"""`packuilon check`, and what it says."""

import re


def check(site, expect=0, **options):
    """{what was looked at: [(word, words)]}"""
    result = site.packuilon("check", expect=expect, **options)
    lines = {}
    for line in result.out.splitlines():
        match = re.fullmatch(r"(ok|warn|FAIL) +([^:]+): (.+)", line)
        assert match, line
        lines.setdefault(match[2], []).append((match[1], match[3]))
    return lines


def words_of(lines, what):
    return [word for word, _ in lines[what]]


def fake_packer(site, *, version="Packer v1.11.2", validate="exit 0"):
    path = site.root / "some-packer"
    path.write_text(f'#!/bin/sh\ncase $1 in\nversion) echo "{version}";;\n*) {validate};;\nesac\n')
    path.chmod(0o755)
    site.set("rabbit2packer", PACKER_PATH=path)
