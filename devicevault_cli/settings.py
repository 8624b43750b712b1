"""Frozen settings, each with its source.

Highest first: flag, profile named by --profile, environment, profile named by DVCTL_PROFILE or else the default
profile of config.toml, config.yaml, default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from devicevault_cli.broker.url import parse_broker_url, redact_urls
from devicevault_cli.directories import expanded
from devicevault_cli.errors import BadConfig, DvctlError, Usage
from devicevault_cli.pipelines import PIPELINES, Pipeline
from devicevault_cli.redact import invisible, redact
from devicevault_cli.redis_url import check_redis_url, parse_redis_url
from devicevault_cli.stream_names import expanded_names, is_one_of_range

FORMATS = ("table", "json", "jsonl", "csv", "ids")
DEFAULT_REDIS_URL = "redis://localhost:6379/1"

_PREFIX = {"results": "DEVICEVAULT_RESULTS", "storage": "DEVICEVAULT_STORAGE_RESULTS"}
_ENVIRONMENT = {
    "pipeline": "DVCTL_PIPELINE",
    "profile": "DVCTL_PROFILE",
    "config": "DEVICEVAULT_CONFIG",
    "redis_url": "DEVICEVAULT_REDIS_URL",
    "database_url": "DEVICEVAULT_DATABASE_URL",
    "stream": "{prefix}_STREAM",
    "group": "{prefix}_GROUP",
    "consumer": "{prefix}_CONSUMER",
    "broker_url": "CELERY_BROKER_WRITE_URL CELERY_BROKER_URL DEVICEVAULT_BROKER_URL",
    "no_dispatch": "DVCTL_NO_DISPATCH",
    "output": "DVCTL_OUTPUT",
}
NAMES = tuple(_ENVIRONMENT)
OF_PROFILES = tuple(name for name in NAMES if name != "profile")
"""The settings that a profile may hold."""
_OF_PIPELINE = ("stream", "group", "consumer")
"""Settings that each pipeline has of its own."""
Given: TypeAlias = str | Sequence[str]
"""What a flag or a profile gives for a setting: of streams there may be several."""


def environment_variables(name: str, pipeline: str = "results") -> list[str]:
    """The environment variables of a setting, the one that counts most first."""
    return _ENVIRONMENT[name].format(prefix=_PREFIX[pipeline]).split()


def environment_variable(name: str, pipeline: str = "results") -> str:
    """The environment variable of a setting that is dvctl's own."""
    return environment_variables(name, pipeline)[-1]


class Setting(NamedTuple):
    """One value and its source; `detail` says which. `more`: further values, of streams.

    `flag`, `environment`, `profile`, `config.yaml`, `default`, and of the profile `config.toml`.
    """

    name: str
    value: str | None
    source: str
    detail: str = ""
    more: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[str, ...]:
        """Every value, as it was given."""
        return () if self.value is None else (self.value, *self.more)

    @property
    def shown(self) -> str | None:
        """The value without its password, or all values."""
        if not (self.value and self.name.endswith("_url")):
            return ", ".join(self.values) if self.more else self.value
        return redact_urls(self.value) if self.name == "broker_url" else redact(self.value)

    def __repr__(self) -> str:
        return f"Setting({self.name}={self.shown!r} from {self.source})"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting. The properties give usable values or raise BadConfig; `all` lists them with their sources.

    among: how many streams are configured, of which these settings may name one.
    """

    all: tuple[Setting, ...]
    among: int = 1

    def __getitem__(self, name: str) -> Setting:
        return next(setting for setting in self.all if setting.name == name)

    @property
    def pipeline(self) -> Pipeline:
        return PIPELINES[self._text("pipeline")]

    @property
    def redis_url(self) -> str:
        setting = self["redis_url"]
        url = setting.value or ""
        check_redis_url(url, f"the Redis URL (from {setting.detail or setting.source})")
        return url

    @property
    def redis_meaning(self) -> str:
        """What the URL of a cluster or of Sentinels says, for people; '' for any other, and for one that is wrong."""
        try:
            return parse_redis_url(self.redis_url).meaning
        except BadConfig:
            return ""

    @property
    def database_url(self) -> str:
        from devicevault_cli.repository.url import parse_url

        setting = self["database_url"]
        if setting.value is None:
            raise BadConfig(
                "no database is configured",
                hint="give --database-url, set DEVICEVAULT_DATABASE_URL, or name DeviceVault's file with --config",
            )
        if hidden := invisible(setting.value):
            raise BadConfig(f"the database URL (from {setting.detail or setting.source}) {hidden}")
        parse_url(setting.value)
        return setting.value

    @property
    def has_database(self) -> bool:
        return self["database_url"].value is not None

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams, a range as each of its names."""
        return _names(self["stream"])

    @property
    def stream(self) -> str:
        """The one stream. Raises Usage where several are configured."""
        first, *more = self.streams
        if more:
            setting = self["stream"]
            what = f"this works on one stream, and {len(more) + 1} are configured ({setting.detail or setting.source})"
            raise Usage(what, hint=f"name one, for example --stream '{first}'")
        return first

    def of_stream(self, stream: str) -> Settings:
        """The same settings for one of the streams, as if it had been typed."""
        one = Setting("stream", stream, "flag", "--stream")
        return Settings(tuple(one if setting.name == "stream" else setting for setting in self.all), len(self.streams))

    @property
    def shares_table(self) -> bool:
        """Whether other streams fill the same table: several are configured, or the name is one of a range."""
        return self.among > 1 or len(self.streams) > 1 or is_one_of_range(self.streams[0])

    @property
    def group(self) -> str:
        return self._text("group")

    @property
    def consumer(self) -> str | None:
        return self["consumer"].value

    @property
    def broker_url(self) -> str | None:
        """Celery's broker, or several separated by semicolons; None: none is configured."""
        setting = self["broker_url"]
        if setting.value is not None:
            parse_broker_url(setting.value, f"the broker URL (from {setting.detail or setting.source})")
        return setting.value

    @property
    def no_dispatch(self) -> bool:
        """Whether configurations are not to be handed to the storage workers."""
        return self._text("no_dispatch") == "true"

    @property
    def output(self) -> str:
        return self._text("output")

    def _text(self, name: str) -> str:
        value = self[name].value
        assert value is not None, name  # noqa: S101 - every setting but three has a default
        return value


def load(flags: Mapping[str, Given | None], environ: Mapping[str, str], *, profiles: bool = True) -> Settings:
    """Find every setting, for one pipeline. `flags`: by name, None where not given. profiles: False reads none.

    Raises Usage for a flag, BadConfig for the rest.
    """
    sources = _Sources(flags, environ)
    if profiles:
        sources.read_profile()
    chosen = sources.find("pipeline", default="results")
    first, *more = _pipelines(chosen)
    if more:
        message = f"only `dvctl consume` works on two pipelines ({chosen.detail} is {chosen.value})"
        raise _error_of(chosen)(message, hint="pass --pipeline results or --pipeline storage")
    return _settings(sources, first)


def load_each(
    flags: Mapping[str, Given | None], environ: Mapping[str, str], *, profiles: bool = True
) -> tuple[Settings, ...]:
    """As `load`, for each pipeline that is chosen: with `results,storage` each has settings of its own."""
    sources = _Sources(flags, environ)
    if profiles:
        sources.read_profile()
    each = tuple(_settings(sources, one) for one in _pipelines(sources.find("pipeline", default="results")))
    if len(each) > 1:
        _refuse_ambiguous(each)
    return each


def of_other_pipeline(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """The settings for the pipeline that `settings` is not for.

    A stream, group or consumer of a flag or profile is meant for the first one: the other has its own variables and
    defaults. Raises BadConfig.
    """
    other = next(name for name in PIPELINES if name != settings.pipeline.name)
    flags: dict[str, Given | None] = {
        setting.name: setting.value for setting in settings.all if setting.source == "flag"
    }
    kept = {name: value for name, value in flags.items() if name not in _OF_PIPELINE}
    found = load({**kept, "pipeline": other}, environ)
    own = load({"pipeline": other, "config": found["config"].value}, environ, profiles=False)
    names = {setting.name for setting in found.all if setting.source == "profile" and setting.name in _OF_PIPELINE}
    return Settings(tuple(own[setting.name] if setting.name in names else setting for setting in found.all))


def _settings(sources: _Sources, pipeline: Setting) -> Settings:
    sources.pipeline = str(pipeline.value)
    config = sources.read_config()
    kind = PIPELINES[sources.pipeline]
    stream = _streams(sources.find("stream", default=kind.stream))
    return Settings(
        (
            pipeline,
            sources.find("redis_url", default=DEFAULT_REDIS_URL),
            sources.find("database_url"),
            stream,
            _name(sources.find("group", default=kind.group)),
            _name(sources.find("consumer")),
            sources.find("broker_url"),
            _yes_or_no(sources.find("no_dispatch", default="false")),
            config,
            sources.profile_from,
            _one_of(FORMATS, sources.find("output", default="table")),
        ),
        _configured(sources, stream),
    )


def _configured(sources: _Sources, stream: Setting) -> int:
    """How many streams are configured where the one that is in force was typed; 1 where it is not among them."""
    if stream.source != "flag" or stream.more:
        return 1
    with suppress(DvctlError):
        names = _names(sources.find("stream", typed=False))
        return len(names) if stream.value in names else 1
    return 1


class _Sources:
    """Where a value may stand; the profile and config.yaml become known on the way."""

    def __init__(self, flags: Mapping[str, Given | None], environ: Mapping[str, str]) -> None:
        self.flags = flags
        self.environ = environ
        self.profile: Mapping[str, Given] = {}
        self.profile_from = Setting("profile", None, "default")
        self.config: Mapping[str, str] = {}
        self.config_from = ""
        self.pipeline = "results"

    def read_profile(self) -> None:
        """Find out which profile is asked for; its settings are known from now on."""
        from devicevault_cli.config_files import default_profile, load_profile

        profile = self.find("profile")
        if profile.value is None and (default := default_profile(self.environ)):
            profile = Setting("profile", default[0], "config.toml", f"default-profile in {default[1]}")
        if profile.value is not None:
            self.profile = load_profile(profile.value, self.environ)
            _refuse_unknown(self.profile, profile.value)
            self.profile_from = profile

    def read_config(self) -> Setting:
        """Where config.yaml is; its settings for the pipeline are known from now on."""
        config = self.find("config")
        if config.value is not None:
            from devicevault_cli.config_files import from_config_yaml, load_config_yaml

            path = expanded(config.value)
            self.config = from_config_yaml(load_config_yaml(path), path, self.pipeline)
            self.config_from = str(path)
        return config

    def find(self, name: str, default: str | None = None, *, typed: bool = True) -> Setting:
        """The setting; with `typed` False as if its flag were not given."""
        given = self.flags.get(name) if typed else None
        if given is not None:
            flag = f"--{name.replace('_', '-')}"
            first, *more = _several(given)
            if not all((first, *more)):
                raise Usage(f"{flag} is empty")
            return Setting(name, first, "flag", flag, tuple(more))
        variables = environment_variables(name, self.pipeline)
        # An empty variable is how many tools unset one.
        variable = next((variable for variable in variables if self.environ.get(variable)), variables[-1])
        value = self.environ.get(variable)
        named = self.profile_from
        if name in self.profile and (named.source == "flag" or not value):
            overrides = f", overrides {variable}" if value else ""
            by = named.source if named.source == "config.toml" else named.detail
            detail = f'profile "{named.value}" ({by}){overrides}'
            return setting_of(name, self.profile[name], detail)
        if value:
            return Setting(name, value, "environment", variable)
        if name in self.config:
            return Setting(name, self.config[name], "config.yaml", self.config_from)
        return Setting(name, default, "default")


def setting_of(name: str, given: Given, detail: str) -> Setting:
    """A setting of a profile."""
    first, *more = _several(given)
    return Setting(name, first, "profile", detail, tuple(more))


def _several(given: Given) -> Sequence[str]:
    return (given,) if isinstance(given, str) else given


def check_value(setting: Setting) -> None:
    """Raises BadConfig for a value that could not be used, whatever the other settings are."""
    if setting.name.endswith("_url"):
        getattr(Settings((setting,)), setting.name)
    elif setting.name == "stream":
        _streams(setting)
    elif setting.name in _OF_PIPELINE:
        _name(setting)
    elif setting.name == "pipeline":
        list(_pipelines(setting))
    elif setting.name == "no_dispatch":
        _yes_or_no(setting)
    elif setting.name == "output":
        _one_of(FORMATS, setting)
    elif setting.name == "config":
        from devicevault_cli.config_files import from_config_yaml, load_config_yaml

        path = expanded(str(setting.value))
        content = load_config_yaml(path)
        for pipeline in PIPELINES:
            from_config_yaml(content, path, pipeline)


def _name(setting: Setting) -> Setting:
    """Refuse what came in with a name by accident: Redis would take it for another stream, group or consumer."""
    for name in setting.values:
        if problem := name_problem(name):
            raise _error_of(setting)(f"the name of the {setting.name} (from {setting.detail}) {problem}")
    return setting


def _streams(setting: Setting) -> Setting:
    """Refuse names and ranges that cannot be used, and one stream twice: its entries would be read in two places."""
    names = _names(_name(setting))
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise _error_of(setting)(f"stream {twice} is named twice ({setting.detail})", hint="name each stream once")
    return setting


def _names(setting: Setting) -> tuple[str, ...]:
    try:
        return tuple(name for text in setting.values for name in expanded_names(text))
    except Usage as error:
        raise _error_of(setting)(f"{setting.detail}: {error}", hint=error.hint) from None


def name_problem(name: str) -> str | None:
    """What is wrong with a name, as the end of a sentence. Control characters within it are let through: what has such
    a name must be seen, and removed, by somebody."""
    if not name.strip():
        return "is empty"
    return None if name == name.strip() else invisible(name) or "begins or ends with a space"


def _one_of(choices: Any, setting: Setting) -> Setting:
    if setting.value not in choices:
        message = f"{setting.name} cannot be {str(setting.value)[:60]!r} ({setting.source})"
        raise _error_of(setting)(message, hint=f"one of: {', '.join(choices)}")
    return setting


_WORDS = dict.fromkeys(("1", "true", "yes", "on"), "true") | dict.fromkeys(("0", "false", "no", "off"), "false")


def _yes_or_no(setting: Setting) -> Setting:
    value = _WORDS.get(str(setting.value).lower())
    if value is None:
        raise BadConfig(f"{setting.detail}: {str(setting.value)[:60]!r} is neither 1 nor 0", hint="set it to 1 or 0")
    return setting._replace(value=value)


def _error_of(setting: Setting) -> type[DvctlError]:
    return Usage if setting.source == "flag" else BadConfig


def _pipelines(setting: Setting) -> Iterator[Setting]:
    """A setting for each pipeline of `results,storage`, in the order of PIPELINES. Raises Usage or BadConfig."""
    value = str(setting.value)
    names = [name.strip() for name in value.split(",")]
    if not set(names) <= PIPELINES.keys():
        hint = f"one of: {', '.join(PIPELINES)}; consume also takes {','.join(PIPELINES)}"
        raise _error_of(setting)(f"{setting.detail}: {value[:60]!r} is not a pipeline", hint=hint)
    if len(names) > len(set(names)):
        raise _error_of(setting)(f"{setting.detail}: {value[:60]!r} names a pipeline twice", hint="name each once")
    return (setting._replace(value=name) for name in PIPELINES if name in names)


def _refuse_ambiguous(each: Sequence[Settings]) -> None:
    """Raise Usage or BadConfig for a name that would be the same for every pipeline."""
    for name in _OF_PIPELINE:
        for settings in each:
            setting = settings[name]
            if setting.source in ("flag", "profile"):
                variables = " and ".join(environment_variable(name, pipeline) for pipeline in PIPELINES)
                what = f"{name} (from {setting.detail}) is ambiguous: two pipelines run"
                raise _error_of(setting)(what, hint=f"set {variables}, or consume one pipeline")
    if shared := set.intersection(*(set(settings.streams) for settings in each)):
        raise BadConfig(
            f"both pipelines would consume stream {min(shared)}",
            hint=f"check {' and '.join(environment_variable('stream', pipeline) for pipeline in PIPELINES)}",
        )


def _refuse_unknown(profile: Mapping[str, object], name: str) -> None:
    unknown = [key for key in profile if key not in OF_PROFILES]
    if unknown:
        known = ", ".join(OF_PROFILES)
        raise BadConfig(f"profile {name!r} holds an unknown setting: {unknown[0]!r}", hint=f"known are: {known}")
