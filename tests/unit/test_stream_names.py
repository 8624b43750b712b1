"""Names and ranges of streams, and the settings that hold several."""

from __future__ import annotations

from pathlib import Path

import pytest

from devicevault_cli.cli.values import StreamEntry, parse_entry, placed
from devicevault_cli.errors import BadConfig, Usage
from devicevault_cli.settings import Settings, load
from devicevault_cli.stream_names import MOST, expanded_names
from devicevault_cli.streams.model import EntryId

KEY = EntryId(1767225600000, 7)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("device:results", ("device:results",)),
        ("device:results:{3}", ("device:results:{3}",)),
        ("r:{0..2}", ("r:{0}", "r:{1}", "r:{2}")),
        ("r:{7..7}:x", ("r:{7}:x",)),
        ("r:{a..b}", ("r:{a..b}",)),
        ("r:{0..}", ("r:{0..}",)),
    ],
)
def test_a_range_stands_for_its_names(text: str, names: tuple[str, ...]) -> None:
    assert expanded_names(text) == names


@pytest.mark.parametrize("text", ["r:{3..1}", f"r:{{0..{MOST}}}", "r:{00..15}", "r:{0..1}:{0..1}"])
def test_a_range_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        expanded_names(text)


def test_the_largest_range() -> None:
    assert len(expanded_names(f"r:{{0..{MOST - 1}}}")) == MOST


def test_a_variable_holds_a_range() -> None:
    settings = load({}, {"DEVICEVAULT_RESULTS_STREAM": "r:{0..3}"})
    assert settings.streams == ("r:{0}", "r:{1}", "r:{2}", "r:{3}")
    assert settings["stream"].shown == "r:{0..3}"
    with pytest.raises(Usage, match="4 are configured"):
        _ = settings.stream


def test_flags_are_repeated() -> None:
    settings = load({"stream": ["a", "r:{0..1}"]}, {})
    assert settings.streams == ("a", "r:{0}", "r:{1}")
    assert settings["stream"].shown == "a, r:{0..1}"


@pytest.mark.parametrize("written", ['["a", "b"]', '"r:{0..1}"'])
def test_a_profile_holds_a_list_or_a_range(tmp_path: Path, written: str) -> None:
    (tmp_path / "dvctl").mkdir()
    (tmp_path / "dvctl" / "config.toml").write_text(f"[many]\nstream = {written}\n")
    settings = load({"profile": "many"}, {"XDG_CONFIG_HOME": str(tmp_path)})
    assert len(settings.streams) == 2
    assert settings["stream"].source == "profile"


@pytest.mark.parametrize("given", [["a", "a"], ["r:{0..3}", "r:{2}"], ["a", ""], ["a", " b"], ["r:{2..1}"]])
def test_streams_that_cannot_be_used(given: list[str]) -> None:
    with pytest.raises(Usage):
        load({"stream": given}, {})


def test_a_range_of_a_variable_that_cannot_be_used_is_a_matter_of_configuration() -> None:
    with pytest.raises(BadConfig, match="DEVICEVAULT_RESULTS_STREAM"):
        load({}, {"DEVICEVAULT_RESULTS_STREAM": "r:{2..1}"})


@pytest.mark.parametrize(
    ("typed", "configured", "shares"),
    [
        ("a", "", False),
        ("a", "b", False),
        ("r:{2}", "", True),
        ("r:{2}", "r:{0..3}", True),
        ("b:{x}", "b:{x}", False),
        ("plain", "plain", False),
    ],
)
def test_a_stream_shares_its_table(typed: str, configured: str, shares: bool) -> None:
    environ = {"DEVICEVAULT_RESULTS_STREAM": configured} if configured else {}
    assert load({"stream": typed}, environ).shares_table is shares


def test_a_stream_of_a_list_shares_its_table(tmp_path: Path) -> None:
    (tmp_path / "dvctl").mkdir()
    (tmp_path / "dvctl" / "config.toml").write_text('[many]\nstream = ["a", "b"]\n')
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "DVCTL_PROFILE": "many"}
    assert load({"stream": "a"}, environ).shares_table
    assert not load({"stream": "c"}, environ).shares_table
    assert load({}, environ).of_stream("b").shares_table


def test_settings_of_one_stream_name_it_as_a_flag() -> None:
    settings: Settings = load({}, {"DEVICEVAULT_RESULTS_STREAM": "r:{0..1}"}).of_stream("r:{1}")
    assert settings.stream == "r:{1}"
    assert (settings["stream"].source, settings["stream"].detail) == ("flag", "--stream")


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        (str(KEY), KEY),
        (f"r:{{1}} {KEY}", StreamEntry("r:{1}", KEY)),
        (f"a name with spaces {KEY}", StreamEntry("a name with spaces", KEY)),
    ],
)
def test_an_entry_is_typed_with_its_stream(text: str, entry: object) -> None:
    assert parse_entry(text) == entry


@pytest.mark.parametrize("text", ["r:{1}", "r:{1} 1-x", "", f"{KEY} r:{{1}}"])
def test_what_is_no_entry(text: str) -> None:
    with pytest.raises(Usage):
        parse_entry(text)


def test_an_entry_is_placed_on_one_of_the_streams() -> None:
    assert placed(KEY, ["a"]) == placed(StreamEntry("a", KEY), ["a", "b"]) == StreamEntry("a", KEY)
    with pytest.raises(Usage, match="not named"):
        placed(KEY, ["a", "b"])
    with pytest.raises(Usage, match="c is not a stream"):
        placed(StreamEntry("c", KEY), ["a", "b"])
