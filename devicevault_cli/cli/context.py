"""Composition root: from settings to the stream, the group and the repository, each opened once and only when used."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from devicevault_cli.errors import BadConfig, NotConfirmed
from devicevault_cli.output.terminal import Terminal

if TYPE_CHECKING:
    from devicevault_cli.broker.publisher import Publisher
    from devicevault_cli.cli.several import Planned
    from devicevault_cli.operations.dispatch.state import DispatchState
    from devicevault_cli.operations.monitoring.status import TableStatus
    from devicevault_cli.output.printer import Printer
    from devicevault_cli.pipelines import Pipeline
    from devicevault_cli.repository.repository import Repository
    from devicevault_cli.settings import Settings
    from devicevault_cli.streams.connect import Client
    from devicevault_cli.streams.dead_letters import DeadLetters
    from devicevault_cli.streams.group import Group
    from devicevault_cli.streams.model import EntryId
    from devicevault_cli.streams.stream import Stream


@dataclass(frozen=True)
class Context:
    """What a command is handed: settings, printer, and what it may open.

    `dry_run`, `yes`, `force` and `confirm_name` are what was typed; they are False and None where the command does not
    have the flag. `further`: the settings of more pipelines than one.  `words`: the command line.
    `all_streams`: the change is meant for every stream.  `whole`: of one stream among several, the context of all.
    `ids`: those of the file named by --ids, where it was read for several streams.  `plans`: where changes of several
    streams are collected, to be confirmed together.
    """

    settings: Settings
    terminal: Terminal
    printer: Printer
    command: str = "dvctl"
    verbose: bool = False
    further: tuple[Settings, ...] = ()
    words: tuple[str, ...] = ()
    dry_run: bool = False
    yes: bool = False
    force: bool = False
    confirm_name: str | None = None
    all_streams: bool = False
    whole: Context | None = None
    ids: Sequence[EntryId] | None = None
    plans: list[Planned] | None = None
    _closing: ExitStack = field(default_factory=ExitStack)

    @property
    def pipeline(self) -> Pipeline:
        """Which of the two pipelines this command works on."""
        return self.settings.pipeline

    @cached_property
    def pipelines(self) -> dict[str, Context]:
        """A context for each pipeline, by its name: none shares a connection with another, all are closed with this."""
        others = (replace(self, settings=settings, further=()) for settings in self.further)
        return {context.pipeline.name: context for context in (self, *others)}

    @cached_property
    def each_stream(self) -> Sequence[Context]:
        """A context for each stream, with a connection of its own; all use one table and one way to the broker."""
        streams = self.settings.streams
        if len(streams) == 1:
            return (self,)
        return tuple(replace(self, settings=self.settings.of_stream(name), whole=self, further=()) for name in streams)

    @property
    def is_first(self) -> bool:
        """False for every stream but the first: what the streams share is shown once."""
        return self.whole is None or self.settings.stream == self.whole.settings.streams[0]

    @cached_property
    def client(self) -> Client:
        """The connection to Redis."""
        from devicevault_cli.streams.connect import connect

        client = connect(self.settings.redis_url, self.settings.stream, command=self.command)
        self._closing.callback(client.close)
        return client

    @cached_property
    def stream(self) -> Stream:
        """The stream of the settings."""
        from devicevault_cli.streams.stream import Stream

        return Stream(self.client, self.settings.stream, shares_table=self.settings.shares_table)

    def stream_named(self, key: str) -> Stream:
        """Another stream, which a file names; with the connection of the settings where these have one stream."""
        if self.settings.streams == (key,):
            return self.stream
        return replace(self, settings=self.settings.of_stream(key), whole=self, further=()).stream

    @cached_property
    def group(self) -> Group:
        """The group of the settings."""
        from devicevault_cli.streams.group import Group

        return Group(self.stream, self.settings.group)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """The dead letters of the group."""
        from devicevault_cli.streams.dead_letters import DeadLetters

        return DeadLetters(self.stream, self.settings.group)

    @cached_property
    def repository(self) -> Repository:
        """The table of the pipeline."""
        if self.whole is not None:
            return self.whole.repository
        from devicevault_cli.repository import open_repository
        from devicevault_cli.repository.tables import TABLES

        repository = open_repository(self.settings.database_url, TABLES[self.pipeline.table])
        self._closing.callback(repository.close)
        return repository

    @property
    def whole_table(self) -> TableStatus:
        """The state of the table: counted anew, but once for several streams."""
        from devicevault_cli.operations.monitoring.status import table_status

        if self.whole is None:
            return table_status(self.pipeline.table, lambda: self.repository)
        return self.whole.counted_table

    @cached_property
    def counted_table(self) -> TableStatus:
        """As `whole_table`, counted once."""
        return self.whole_table

    @cached_property
    def publisher(self) -> Publisher | None:
        """The way to the broker; None: none is configured."""
        if self.whole is not None:
            return self.whole.publisher
        if self.settings.broker_url is None:
            return None
        from devicevault_cli.broker import open_publisher

        publisher = open_publisher(self.settings.broker_url)
        self._closing.callback(publisher.close)
        return publisher

    @cached_property
    def dispatch(self) -> DispatchState:
        """Whether storage dispatch is on, by the settings."""
        from devicevault_cli.operations.dispatch.state import dispatch_state

        return dispatch_state(self.settings)

    def required_publisher(self) -> Publisher:
        """The way to the broker, for a command that has to dispatch. Raises BadConfig where there is none."""
        if self.settings.no_dispatch:
            setting = self.settings["no_dispatch"]
            raise BadConfig(f"storage dispatch is switched off ({setting.detail})", hint="leave it out, or unset it")
        if self.publisher is None:
            raise BadConfig("no broker is configured", hint="give --broker-url, or set CELERY_BROKER_URL")
        return self.publisher

    @property
    def dispatches(self) -> bool:
        """Whether storage dispatch is on: the pipeline dispatches, a broker is configured, and --no-dispatch is off."""
        on = self.pipeline.dispatches and not self.settings.no_dispatch
        return on and self.settings.broker_url is not None

    @cached_property
    def broker(self) -> str | None:
        """What messages call the broker of a command that dispatches; None where it would not be used."""
        return self.dispatch.broker

    @property
    def target(self) -> str:
        """The servers that the command uses; no password is shown."""
        redis = self.settings["redis_url"].shown if "client" in self.__dict__ else None
        database = self.repository.where if "repository" in self.__dict__ else None
        broker = self.broker if "broker" in self.__dict__ else None
        return ", ".join(filter(None, (redis, database, broker)))

    def confirm(self, question: str, name: str | None = None) -> bool:
        """Ask, unless `--yes` is given; with `name`, have that typed, unless `--confirm` gives it.

        -> False on `--dry-run`.  Raises Cancelled where the answer is no.
        """
        if self.dry_run:
            return False
        if name is None:
            if not self.yes:
                self.printer.confirm(question)
        elif self.confirm_name is None:
            self.printer.confirm_name(question, name)
        elif self.confirm_name != name:
            raise NotConfirmed(
                f"--confirm {self.confirm_name} does not match {name}; no changes made", hint=f"type --confirm {name}"
            )
        return True

    def close(self) -> None:
        """Close what was opened."""
        self._closing.close()
