"""What plug-ins add: through `register` and through entry points of the group `kobs`."""

import argparse
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kobs import hooks
from kobs.observe import Vocabulary, subsystems, vocabulary


class Plugin:
    @hooks.hook
    def kobs_vocabularies(self) -> list[Vocabulary]:
        return [Vocabulary("of a plugin", ())]

    @hooks.hook
    def kobs_detectors(self) -> dict[str, Any]:
        return {"mine": len}

    @hooks.hook
    def kobs_exporters(self) -> dict[str, Any]:
        return {"csv": print}

    @hooks.hook
    def kobs_payload_types(self) -> list[Any]:
        from kobs import ProcessCreated

        return [ProcessCreated]

    @hooks.hook
    def kobs_commands(self, subparsers: Any) -> None:
        subparsers.add_parser("mine").set_defaults(run=lambda args: 7)

    def not_a_hook(self) -> None: ...


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    made = Plugin()
    hooks.register(made)
    yield made
    hooks.unregister(made)


def test_everything_a_plugin_gives(plugin: Plugin) -> None:
    assert "of a plugin" in subsystems()
    assert vocabulary("of a plugin").rules == ()
    assert hooks.detectors()["mine"] is len
    assert hooks.exporters()["csv"] is print
    assert [cls.__name__ for cls in hooks.payload_types()] == ["ProcessCreated"]
    parser = argparse.ArgumentParser()
    hooks.add_commands(parser.add_subparsers())
    assert parser.parse_args(["mine"]).run(None) == 7


def test_registered_twice_is_once_and_unregistered_is_gone() -> None:
    plugin = Plugin()
    hooks.register(plugin)
    hooks.register(plugin)
    assert len(hooks.vocabularies()) == 1
    hooks.unregister(plugin)
    hooks.unregister(plugin)
    assert hooks.vocabularies() == []


PROGRAM = """
import sys
from kobs import hooks
assert hooks.detectors() == {EXPECTED}, hooks.detectors()
print("pluggy" in sys.modules)
"""


def run(program: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    source = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    return subprocess.run(
        [sys.executable, "-c", source + program], capture_output=True, text=True, check=False
    )


def test_pluggy_is_not_imported_where_there_is_no_plugin() -> None:
    done = run(PROGRAM.replace("{EXPECTED}", "{}"))
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_plugins_by_entry_point_and_one_that_is_broken(tmp_path: Path) -> None:
    (tmp_path / "good_plugin.py").write_text(
        "from kobs.hooks import hook\n@hook\ndef kobs_detectors(): return {'good': 1}\n"
    )
    (tmp_path / "bad_plugin.py").write_text("raise RuntimeError('broken on purpose')\n")
    info = tmp_path / "plugins-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[kobs]\ngood = good_plugin\nbad = bad_plugin\n")
    done = run(PROGRAM.replace("{EXPECTED}", "{'good': 1}"), tmp_path)
    assert done.stdout.strip() == "True", done.stderr
    assert "the plug-in 'bad' (bad_plugin) could not be loaded and is left out" in done.stderr


def test_a_plugin_in_an_archive(tmp_path: Path) -> None:
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(
            "zipped_plugin.py",
            "from kobs.hooks import hook\n@hook\ndef kobs_detectors(): return {'zipped': 1}\n",
        )
        file.writestr("plugins-1.dist-info/METADATA", "Name: plugins\nVersion: 1\n")
        file.writestr("plugins-1.dist-info/entry_points.txt", "[kobs]\nz = zipped_plugin\n")
    done = run(PROGRAM.replace("{EXPECTED}", "{'zipped': 1}"), archive)
    assert done.stdout.strip() == "True", done.stderr


def test_a_plugin_that_another_finder_knows(tmp_path: Path) -> None:
    (tmp_path / "found_plugin.py").write_text(
        "from kobs.hooks import hook\n@hook\ndef kobs_detectors(): return {'found': 1}\n"
    )
    finder = """
import importlib.metadata
class Found(importlib.metadata.Distribution):
    def read_text(self, name):
        return {"METADATA": "Name: p", "entry_points.txt": "[kobs]\\nf = found_plugin"}.get(name)
    def locate_file(self, path): raise NotImplementedError
class Finder(importlib.metadata.DistributionFinder):
    def find_spec(self, *_): return None
    def find_distributions(self, context): yield Found()
sys.meta_path.append(Finder())
"""
    done = run(finder + PROGRAM.replace("{EXPECTED}", "{'found': 1}"), tmp_path)
    assert done.stdout.strip() == "True", done.stderr
