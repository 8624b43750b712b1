"""What is shipped and what it rests on: locked versions, licences, types, the contents of the wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any, cast

import pytest

from devicevault_cli.cli.app import COMMANDS

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINNED = re.compile(r"([A-Za-z0-9._-]+)==([A-Za-z0-9._!+-]+)")
PERMITTED = re.compile(r"\b(MIT|BSD|Apache|PSF|ISC|LGPL|Python Software Foundation|Zlib|MPL)", re.IGNORECASE)
"""dvctl is under the GPL's third version: what it needs at run time has to go with that."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    """The versions of requirements/constraints.txt: every line pins one."""
    lines = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    pins = [PINNED.fullmatch(line) for line in lines if line and not line.startswith("#")]
    assert all(pins), lines
    return {normal(pin[1]): pin[2] for pin in pins if pin}


def needed_by(names: list[str]) -> set[str]:
    """The distributions that these requirements bring with them, their own included, as far as they are installed."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    waiting = [(Requirement(each), "") for each in names]
    while waiting:
        wanted, extra = waiting.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        key = normal(wanted.name)
        if key in found and not wanted.extras:
            continue
        found.add(key)
        for extra in wanted.extras or {""}:
            waiting += [(Requirement(each), extra) for each in distribution(key).requires or ()]
    return found


def test_the_lock_holds_every_requirement_and_what_it_brings() -> None:
    wanted = [*PROJECT["dependencies"], *EXTRAS["docs"], *EXTRAS["mysql"], *EXTRAS["test"]]
    pins = locked()
    assert not needed_by(wanted) - pins.keys(), "make lock"
    direct = {normal(re.split(r"[\[<>=~!; ]", each)[0]) for extra in EXTRAS.values() for each in extra}
    assert not direct - pins.keys(), "make lock"


def test_the_wheel_is_built_with_the_typer_that_dvctl_runs_with() -> None:
    """The manual pages are made from the app while the wheel is built."""
    assert [need for need in PYPROJECT["build-system"]["requires"] if need.startswith("typer")] == [
        need for need in PROJECT["dependencies"] if need.startswith("typer")
    ]


def test_what_is_tested_is_what_is_locked() -> None:
    pins = locked()
    assert {key: version(key) for key in needed_by(PROJECT["dependencies"])} == {
        key: pins[key] for key in needed_by(PROJECT["dependencies"])
    }


def test_what_is_needed_at_run_time_may_go_with_the_licence() -> None:
    for key in needed_by([*PROJECT["dependencies"], *EXTRAS["mysql"]]):
        about = cast(Message, distribution(key).metadata)
        stated = [about.get("License-Expression"), about.get("License"), *(about.get_all("Classifier") or [])]
        licences = [each for each in stated if each and PERMITTED.search(each)]
        assert licences, (key, stated)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the build back end that is declared."""
    folder = tmp_path_factory.mktemp("wheel")
    code = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"
    answer = subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_what_it_should(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {name for name in names if name.startswith("devicevault_cli/")}
    tracked = subprocess.run(
        ["git", "ls-files", "devicevault_cli"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    pages = {f"devicevault_cli/runbooks/{page.name}" for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert package == {*tracked.stdout.splitlines(), *pages}
    assert "devicevault_cli/py.typed" in package
    shared = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    pages = {name for name in shared if name.startswith("share/man/man1/")}
    wanted = {"dvctl", *(f"dvctl-{words.replace(' ', '-')}" for words in COMMANDS)}
    assert wanted <= {Path(page).stem for page in pages}
    assert shared - pages == {
        "share/bash-completion/completions/dvctl",
        "share/zsh/site-functions/_dvctl",
        "share/fish/vendor_completions.d/dvctl.fish",
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.partition("/")[0] for name in names} == {
        "devicevault_cli", f"{wheel.name.split('-py3')[0]}.dist-info", f"{wheel.name.split('-py3')[0]}.data"
    }  # fmt: skip


def test_the_topics_come_with_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Where there is no checkout beside the package."""
    shutil.unpack_archive(wheel, tmp_path, "zip")
    code = "from devicevault_cli.operations import topics; print(topics.__file__, *topics.names())"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path))
    assert {page.stem for page in (ROOT / "docs" / "runbooks").glob("*.md")} - {"README"} <= set(done.stdout.split())


def test_the_source_distribution_holds_all_that_is_tracked(tmp_path: Path) -> None:
    """But the machinery of version control: tests and deploy can be used from it."""
    code = "import sys, hatchling.build; print(hatchling.build.build_sdist(sys.argv[1]))"
    answer = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = {name for name in tracked.stdout.splitlines() if not name.startswith(".")}
    assert any(name.startswith("deploy/") for name in wanted)
    assert wanted <= names


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    from devicevault_cli import __version__

    with zipfile.ZipFile(wheel) as archive:
        about = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    assert f"Version: {__version__}\n" in about
    assert "License-Expression: GPL-3.0-or-later\n" in about
    assert "Requires-Python: >=3.11\n" in about
