"""What the documents say is what the programs do: options, keys, defaults, files."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rig.processes import BIN_DIR, REPOSITORY
from test_cli import BUILD_KEYS, COMMANDS, PROGRAMS

PAGES = {
    "packuilon": "packuilon.1",
    "cdb2rabbit": "cdb2rabbit.8",
    "rabbit2packer": "rabbit2packer.8",
    "nova2aquilon": "nova2aquilon.8",
    "packuilon-config": "packuilon-config.5",
}
EXAMPLE = REPOSITORY / "data" / "config.ini"
SECTIONS = {"GLOBAL": "global", "SCAN": "cdb2rabbit", "BUILD": "rabbit2packer", "AQUILON": "nova2aquilon"}


def source(path):
    return (REPOSITORY / path).read_text()


def page(name):
    return source(f"doc/{PAGES[name]}.scd")


# ---- configuration -----------------------------------------------------------------------------


def table():
    """{(section, key): default or None} of the keys that are read, and the set of those not."""
    read, unread = {}, set()
    for match in re.finditer(
        r'^ +\{(\w+), "(\w+)", (VALUE_\w+), [^"]*?(NULL|"[^"]*"), ', source("src/core/config_keys.c"),
        re.M,
    ):  # fmt: skip
        section, key = SECTIONS[match[1]], match[2]
        if match[3] == "VALUE_UNREAD":
            unread.add((section, key))
        else:
            read[section, key] = None if match[4] == "NULL" else match[4].strip('"')
    return read, unread


def example():
    """{(section, key): value} of the example, also of what is behind "#"."""
    values, section = {}, None
    for line in EXAMPLE.read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif match := re.fullmatch(r"#?([A-Z0-9_]+) = (.*)", line):
            assert (section, match[1]) not in values
            values[section, match[1]] = match[2]
    return values


def manual():
    """{(section, key): text} of the manual page."""
    found, section, keys = {}, None, []
    for line in page("packuilon-config").splitlines():
        if match := re.fullmatch(r"# \[(\w+)\]", line):
            section = match[1].lower()
        elif line.startswith("# "):
            section = None
        elif section and re.fullmatch(r"(\*[A-Z0-9_]+\*(, )?)+", line):
            keys = [(section, key) for key in re.findall(r"[A-Z0-9_]+", line)]
            found.update(dict.fromkeys(keys, ""))
        elif line.startswith("\t"):
            for key in keys:
                found[key] += " " + line.strip()
        elif line:
            keys = []
    return found


def test_the_table_of_keys_is_found():
    read, unread = table()
    assert len(read) > 30 and len(unread) == 3
    assert read["cdb2rabbit", "PARALLEL"] == "8"


def test_every_key_is_in_the_manual():
    read, unread = table()
    assert set(manual()) == set(read) | unread


def test_every_key_is_in_the_example():
    assert set(example()) == set(table()[0])


def test_the_example_shows_the_defaults():
    shown = example()
    for key, default in table()[0].items():
        if default:
            assert shown[key] == default or not commented(key), key


def commented(key):
    return re.search(rf"^#{key[1]} = ", EXAMPLE.read_text(), re.M)


def test_the_manual_tells_the_defaults():
    described = manual()
    for key, default in table()[0].items():
        if default and default != "+":
            assert "Default" in described[key], key
            assert default.removesuffix("s") in described[key] or key[1] == "RABBIT_USER", key


def test_the_manual_lists_the_ignored_paths():
    block = re.search(
        r"profile_default_ignore_paths\[\] = \{(.*?)NULL", source("src/core/profile_paths.c"), re.S
    )
    paths = re.findall(r'"([^"]+)"', block[1])
    assert len(paths) > 10
    listed = re.search(r"## The built-in IGNORE_PATHS\n\n```\n(.*?)```", page("packuilon-config"), re.S)
    assert listed[1].split() == paths


@pytest.mark.parametrize("all_keys", [False, True])
def test_the_example_is_valid(local_site, all_keys):
    text = EXAMPLE.read_text()
    if all_keys:
        text = re.sub(r"^#([A-Z0-9_]+ = )", r"\1", text, flags=re.M)
        # Files that are read at once; and RABBIT_PW is there already.
        text = re.sub(r"^(RABBIT_PW|AQ_PW|AQ_TOKEN)_FILE.*\n", "", text, flags=re.M)
    text = re.sub(r"^#?STATE_DIR.*", f"STATE_DIR = {local_site.state_dir}", text, flags=re.M)
    local_site.write_config(text)
    local_site.config_path.chmod(0o600)
    result = local_site.packuilon("status")
    assert result.err == "", "no warnings"


# ---- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [[name] for name in PROGRAMS] + [["packuilon", name] for name in COMMANDS], ids=" ".join
)
def test_every_option_is_in_the_manual(local_site, command):
    whole = page(command[0])
    text = re.search(r"^# OPTIONS$.*?(?=^# )", whole, re.S | re.M)[0]
    if len(command) > 1:
        text += re.search(rf"^## {' '.join(command)}\b.*?(?=^##? )", whole, re.S | re.M)[0]
    help_text = local_site.program(*command, "--help").out
    options = re.findall(r"^ +(?:-(\w), )?--([\w-]+)(?:=(\S+))?", help_text, re.M)
    assert len(options) >= 4
    for letter, name, argument in options:
        entry = rf"\*--{name}\*=_{argument}_" if argument else rf"\*--{name}\*(?!=)"
        assert re.search(rf"\*-{letter}\*, {entry}" if letter else entry, text), name
    for name in re.findall(r"\*--([\w-]+)\*", text):
        assert name in [option for _, option, _ in options], f"--{name} is only in the manual"


def test_every_command_is_in_the_manual(local_site):
    help_text = local_site.program("packuilon", "--help").out
    commands = re.findall(r"^  ([a-z]+) +[A-Z]", help_text, re.M)
    assert set(commands) == set(re.findall(r"^## packuilon (\w+)", page("packuilon"), re.M))
    assert set(commands) == set(COMMANDS)


def test_the_manual_tells_the_json():
    for key in BUILD_KEYS:
        assert re.search(rf"^\|  .*\b{key}\b", page("packuilon"), re.M), key


def test_the_manual_tells_the_states():
    block = re.search(r"state_names\[N_BUILD_STATES\] = \{(.*?)\};", source("src/core/build_state.c"), re.S)
    names = set(re.findall(r'"(\w+)"', block[1]))
    assert len(names) >= 8
    listed = re.search(r"^# STATES$.*?^# JSON$", page("packuilon"), re.S | re.M)[0]
    assert set(re.findall(r"^\|  (\w+)", listed, re.M)) == names


# ---- pages, files, units -----------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_manual_pages_are_sound(name):
    built = BIN_DIR / "doc" / PAGES[name]
    if not shutil.which("mandoc") or not built.exists():
        pytest.skip("no mandoc, or built without manual pages")
    result = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "error", built], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "HACKING.md"])
def test_files_that_are_named_are_there(name):
    text = source(name)
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    paths = re.findall(r"`((?:src/|doc/|data/|test/|scripts/|bench/)[\w./-]*[\w/])`", text)
    modules = re.findall(r"`((?:util|core|net|cloud|scan|builder|aquilon|bin)/[\w-]+\.[ch])`", text)
    assert links or paths or modules
    for path in links + paths + [f"src/{module}" for module in modules]:
        if not re.search("NAME|LAYER|MODULE", path):  # these stand for any
            assert (REPOSITORY / path).exists(), path


def test_make_targets_of_the_documents_exist():
    makefile = source("Makefile")
    for name in ["README.md", "HACKING.md"]:
        for target in re.findall(r"(?:^    |`(?:sudo )?)make ([\w-]+)", source(name), re.M):
            assert re.search(rf"^[\w -]*\b{target}\b[\w -]*:", makefile, re.M), target


def test_commands_of_the_readme_exist(local_site):
    found = re.findall(
        r"(?:`|^ {7}|-u packuilon )packuilon ([a-z]+) ?((?:--?[\w-]+)?)", source("README.md"), re.M
    )
    assert len(found) > 3
    for command, option in found:
        help_text = local_site.program("packuilon", command, "--help").out
        assert option in help_text


@pytest.mark.parametrize("name", ["source-images.json", "template-map.json", "demo/demo.json"])
def test_examples_are_json(name):
    json.loads((REPOSITORY / "data" / name).read_text())


def test_example_templates_work(local_site, tmp_path):
    """As Packer reads them, with the maps of the examples."""
    for name in ["template-map.json", "source-images.json"]:
        shutil.copy(REPOSITORY / "data" / name, local_site.root / name)
    shutil.rmtree(local_site.template_dir)
    shutil.copytree(REPOSITORY / "data" / "templates", local_site.template_dir)
    shutil.copytree(REPOSITORY / "data" / "guest", local_site.root / "guest")
    local_site.use_real_packer()
    local_site.profiles.write_index()
    out = local_site.packuilon("check").out
    good = [line for line in out.splitlines() if line.startswith("ok ")]
    named = {Path(line.split(": ")[1]).name for line in good if " template: " in line}
    assert named == {"managed.json", "managed.pkr.hcl"}
    assert "FAIL" not in out


def test_units_are_sound(tmp_path):
    analyze = shutil.which("systemd-analyze")
    units = sorted((BIN_DIR / "data").glob("*.service"))
    if not analyze or not units:
        pytest.skip("no systemd-analyze, or no units built")
    for unit in units:
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.M)
        text = re.sub(r"^Documentation=.*\n", "", text, flags=re.M)
        (tmp_path / unit.name).write_text(text)
    shutil.copy(REPOSITORY / "data/systemd/cdb2rabbit-scan.timer", tmp_path)
    files = [tmp_path / unit.name for unit in units] + [tmp_path / "cdb2rabbit-scan.timer"]
    result = subprocess.run([analyze, "verify", *files], capture_output=True, text=True)
    complaints = [line for line in result.stderr.splitlines() if str(tmp_path) in line]
    assert complaints == []
