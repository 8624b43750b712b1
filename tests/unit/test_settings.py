"""Settings: which source wins, and what each pipeline reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from devicevault_cli.errors import BadConfig, DvctlError, Usage
from devicevault_cli.settings import NAMES, Setting, Settings, load, load_each

YAML = """
redis: {url: 'redis://yaml:6379/1'}
results_stream: yaml:results
storage_results_stream: yaml:storage
celery: {broker: 'amqp://guest:hidden@mq//'}
database: {engine: postgres, name: dv, user: u, password: 'p@ss/w:rd', host: db, port: 5433}
"""
PROFILE = """
[production]
redis-url = "redis://profile:6379/1"
stream = "profile:results"
group = "profile-group"
config = "{config}"
"""


class Home:
    """A folder with the two files, and the environment that leads to them."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "devicevault" / "config" / "config.yaml"
        self.profiles = folder / "dvctl" / "config.toml"
        for path in (self.config, self.profiles):
            path.parent.mkdir(parents=True)
        self.config.write_text(YAML)
        self.profiles.write_text(PROFILE.format(config=self.config))
        self.environ = {"XDG_CONFIG_HOME": str(folder)}

    def load_each(self, environ: dict[str, str] | None = None, **flags: str | None) -> tuple[Settings, ...]:
        return load_each(flags, self.environ | (environ or {}))

    def load(self, environ: dict[str, str] | None = None, **flags: str | None) -> Settings:
        return load(flags, self.environ | (environ or {}))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_defaults_are_those_of_the_contract(home: Home) -> None:
    settings = home.load()
    assert (settings.redis_url, settings.stream, settings.group, settings.output) == (
        "redis://localhost:6379/1",
        "device:results",
        "devicevault",
        "table",
    )
    assert settings.consumer is None
    assert {each.source for each in settings.all} == {"default"}
    storage = home.load(pipeline="storage")
    assert (storage.stream, storage.group) == ("storage:results", "devicevault-storage")


def test_each_source_outweighs_those_below_it(home: Home) -> None:
    below = {"config": str(home.config)}
    from_yaml = home.load(config=below["config"])["redis_url"]
    from_profile = home.load(profile="production")["redis_url"]
    variable = {"DEVICEVAULT_REDIS_URL": "redis://environment/1"}
    from_environment = home.load(variable | {"DVCTL_PROFILE": "production"})["redis_url"]
    typed = home.load(variable, profile="production")["redis_url"]
    from_flag = home.load(variable, profile="production", redis_url="redis://flag/1")["redis_url"]
    found = [(each.value, each.source) for each in (from_yaml, from_profile, from_environment, typed, from_flag)]
    assert found == [
        ("redis://yaml:6379/1", "config.yaml"),
        ("redis://profile:6379/1", "profile"),
        ("redis://environment/1", "environment"),
        ("redis://profile:6379/1", "profile"),
        ("redis://flag/1", "flag"),
    ]


def test_a_profile_may_name_the_config_file(home: Home) -> None:
    settings = home.load({"DVCTL_PROFILE": "production"})
    assert settings["config"].source == "profile"
    assert settings["database_url"].source == "config.yaml"
    assert settings.group == "profile-group"


@pytest.mark.parametrize(
    ("pipeline", "variable", "name"),
    [
        ("results", "DEVICEVAULT_RESULTS_STREAM", "stream"),
        ("results", "DEVICEVAULT_RESULTS_GROUP", "group"),
        ("results", "DEVICEVAULT_RESULTS_CONSUMER", "consumer"),
        ("storage", "DEVICEVAULT_STORAGE_RESULTS_STREAM", "stream"),
        ("storage", "DEVICEVAULT_STORAGE_RESULTS_GROUP", "group"),
        ("storage", "DEVICEVAULT_STORAGE_RESULTS_CONSUMER", "consumer"),
    ],
)
def test_the_pipeline_decides_which_variables_count(home: Home, pipeline: str, variable: str, name: str) -> None:
    other = {"results": "storage", "storage": "results"}[pipeline]
    assert home.load({variable: "mine"}, pipeline=pipeline)[name].value == "mine"
    assert home.load({variable: "mine"}, pipeline=other)[name].value != "mine"
    assert home.load({variable: "mine", "DVCTL_PIPELINE": pipeline})[name].value == "mine"


def test_the_pipeline_decides_which_key_of_the_file_counts(home: Home) -> None:
    assert home.load(config=str(home.config)).stream == "device:results"
    assert home.load(config=str(home.config), pipeline="storage").stream == "yaml:storage"


def test_an_empty_variable_counts_as_not_set_and_an_empty_flag_as_a_mistake(home: Home) -> None:
    assert home.load({"DEVICEVAULT_REDIS_URL": ""})["redis_url"].source == "default"
    with pytest.raises(Usage, match="--redis-url is empty"):
        home.load(redis_url="")


@pytest.mark.parametrize(
    ("flags", "environ", "error"),
    [
        ({"pipeline": "nonsense"}, {}, Usage),
        ({}, {"DVCTL_PIPELINE": "nonsense"}, BadConfig),
        ({"pipeline": "results,storage"}, {}, Usage),
        ({}, {"DVCTL_PIPELINE": "results,storage"}, BadConfig),
        ({"output": "xml"}, {}, Usage),
        ({}, {"DVCTL_OUTPUT": "xml"}, BadConfig),
        ({"profile": "absent"}, {}, BadConfig),
        ({"config": "/nowhere/config.yaml"}, {}, BadConfig),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    home: Home, flags: dict[str, str], environ: dict[str, str], error: type[DvctlError]
) -> None:
    with pytest.raises(error):
        home.load(environ, **flags)


def test_an_unknown_setting_of_a_profile_is_named(home: Home) -> None:
    home.profiles.write_text('[a]\nredis_uri = "redis://x/1"\n')
    with pytest.raises(BadConfig, match="redis_uri"):
        home.load(profile="a")


def test_without_a_database_the_error_says_how_to_give_one(home: Home) -> None:
    settings = home.load()
    assert not settings.has_database
    with pytest.raises(BadConfig) as caught:
        _ = settings.database_url
    for way in ("--database-url", "DEVICEVAULT_DATABASE_URL", "--config"):
        assert way in str(caught.value.hint)


@pytest.mark.parametrize("url", ["localhost:6379", "http://h/1", "redis://h:port/1", "redis://h x/1", "redis:/h"])
def test_a_redis_url_that_cannot_be_read_is_refused_and_not_repeated(home: Home, url: str) -> None:
    settings = home.load(redis_url=f"{url}?password=hidden")
    with pytest.raises(BadConfig) as caught:
        _ = settings.redis_url
    assert "hidden" not in f"{caught.value} {caught.value.hint}"


def test_no_repr_shows_a_password(home: Home) -> None:
    settings = home.load(config=str(home.config), redis_url="redis://:hidden@h/1")
    shown = f"{settings!r} {[each.shown for each in settings.all]}"
    assert "hidden" not in shown
    assert "p@ss" not in shown
    assert "p%40ss" not in shown
    assert "redis://:***@h/1" in shown


def test_every_setting_is_listed_once(home: Home) -> None:
    assert sorted(each.name for each in home.load().all) == sorted(NAMES)


# --- both pipelines


@pytest.mark.parametrize("value", ["results,storage", "storage,results", "storage, results"])
def test_both_pipelines_have_settings_of_their_own(home: Home, value: str) -> None:
    environ = {
        "DVCTL_PIPELINE": value,
        "DEVICEVAULT_RESULTS_GROUP": "one",
        "DEVICEVAULT_STORAGE_RESULTS_CONSUMER": "second",
        "DEVICEVAULT_CONFIG": str(home.config),
    }
    results, storage = home.load_each(environ)
    assert (results.pipeline.name, results.stream, results.group) == ("results", "device:results", "one")
    assert (storage.pipeline.name, storage.stream, storage.group) == ("storage", "yaml:storage", "devicevault-storage")
    assert (results.consumer, storage.consumer) == (None, "second")
    assert results.redis_url == storage.redis_url == "redis://yaml:6379/1"
    assert results["pipeline"] == Setting("pipeline", "results", "environment", "DVCTL_PIPELINE")


def test_one_pipeline_is_one_of_them(home: Home) -> None:
    (settings,) = home.load_each(pipeline="storage", stream="mine")
    assert settings == home.load(pipeline="storage", stream="mine")


@pytest.mark.parametrize("value", ["results,results", "results,", ",", "results;storage", "results,storage,other"])
@pytest.mark.parametrize("source", ["flag", "environment"])
def test_what_is_no_choice_of_pipelines(home: Home, value: str, source: str) -> None:
    typed, environ = (value, {}) if source == "flag" else (None, {"DVCTL_PIPELINE": value})
    with pytest.raises(Usage if source == "flag" else BadConfig):
        home.load_each(environ, pipeline=typed)


def test_where_one_pipeline_is_possible_the_error_says_how_to_choose_it(home: Home) -> None:
    home.profiles.write_text('[both]\npipeline = "results,storage"\n')
    assert len(home.load_each(profile="both")) == 2
    for environ, profile in (({"DVCTL_PIPELINE": "results,storage"}, None), ({}, "both")):
        with pytest.raises(BadConfig, match="results,storage") as caught:
            home.load(environ, profile=profile)
        assert caught.value.hint == "pass --pipeline results or --pipeline storage"
        assert home.load(environ, profile=profile, pipeline="storage").pipeline.name == "storage"


@pytest.mark.parametrize("name", ["stream", "group", "consumer"])
def test_a_name_for_both_pipelines_is_ambiguous(home: Home, name: str) -> None:
    variables = [f"DEVICEVAULT_{prefix}_{name.upper()}" for prefix in ("RESULTS", "STORAGE_RESULTS")]
    home.profiles.write_text(f'[one]\n{name} = "mine"\n')
    with pytest.raises(Usage, match="ambiguous") as typed:
        load_each({"pipeline": "results,storage", name: "mine"}, home.environ)
    with pytest.raises(BadConfig, match='profile "one"') as written:
        home.load_each({variables[0]: "a", "DVCTL_PROFILE": "one"}, pipeline="results,storage")
    for caught in (typed, written):
        assert all(variable in str(caught.value.hint) for variable in variables)
    each = home.load_each({variables[0]: "a", variables[1]: "b", "DVCTL_PROFILE": "one"}, pipeline="results,storage")
    assert [settings[name].value for settings in each] == ["a", "b"]


def test_one_stream_for_both_pipelines_is_a_mistake(home: Home) -> None:
    both = {"DEVICEVAULT_RESULTS_STREAM": "s", "DEVICEVAULT_STORAGE_RESULTS_STREAM": "s"}
    with pytest.raises(BadConfig, match="both pipelines would consume stream s"):
        home.load_each(both, pipeline="results,storage")
