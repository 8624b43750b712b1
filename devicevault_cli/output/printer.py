"""The one printer: data to stdout in the format asked for, everything else to stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any, TypeAlias

from devicevault_cli.errors import Cancelled, DvctlError, NotConfirmed
from devicevault_cli.output.best_effort import BestEffort
from devicevault_cli.output.escapes import csv_cell, to_json, visible
from devicevault_cli.output.progress import Progress
from devicevault_cli.output.systemd import is_journal
from devicevault_cli.output.table import columns_of, fit, heading, is_count, label, lines_of, show, table, text
from devicevault_cli.output.terminal import Terminal
from devicevault_cli.output.view import View
from devicevault_cli.redact import scrub
from devicevault_cli.times import now_iso

Row: TypeAlias = Mapping[str, Any]
Answer: TypeAlias = Mapping[str, Any]

_BOLD, _YELLOW, _RED = "1", "33", "31"


COUNTED = (
    "columns_differing", "consumers", "devices", "given_up", "lost_reasons", "not_dispatched", "reasons", "rejected",
    "times_differing", "would_reject",
)  # fmt: skip
"""Keys of mappings whose names are data: in `csv` one cell, so that the head is always the same."""


def log_head(time: str, level: str, logger: str) -> dict[str, str]:
    """What every line of the log as JSON begins with."""
    return {"time": time, "level": level, "logger": logger}


class Printer:
    """Prints answers as `table`, `json`, `jsonl`, `csv` or `ids`. Untrusted text is inert in all of them."""

    def __init__(self, terminal: Terminal, output: str = "table", *, errors: str = "text", quiet: bool = False) -> None:
        """errors: `json` writes each message as an object, `log` as a line of the log as JSON.  quiet: no notes, hints
        or progress.
        """
        self.terminal = terminal
        self.output = output
        self.quiet = quiet
        self.errors = errors
        self._ascii = "utf" not in (getattr(terminal.stdout, "encoding", None) or "utf-8").lower()
        self._progress: Progress | None = None
        self._lock = RLock()
        self.stderr = BestEffort(terminal.stderr)

    # --- data ---------------------------------------------------------------------------------------------------------

    def answer(
        self,
        answer: Answer,
        rows: str | None = None,
        columns: Sequence[str] | None = None,
        *,
        ids: Callable[[Answer], Iterable[object]] | None = None,
        lines: Callable[[Answer], Iterable[str]] | None = None,
        view: Callable[[Answer, View], Iterable[str]] | None = None,
        keys: Sequence[str] = (),
    ) -> None:
        """Print one finished answer.

        rows: the key of the list that is what was asked for; `jsonl` and `csv` print its elements one a line.
        columns: which of the rows' keys a table shows (all). ids: what `-o ids` prints (`id` of each row).
        lines: what a person reads instead of the tables.  view: the same as finished lines, inert and in colour.
        keys: the head of a `csv` without rows (columns).
        """
        listed = [_as_row(item) for item in answer[rows]] if rows else [answer]
        if self.output == "json":
            self._line(to_json(answer, ascii_only=self._ascii))
        elif self.output == "jsonl":
            self._lines(to_json(row, ascii_only=self._ascii) for row in listed)
        elif self.output == "csv":
            flat = [_flat(row) for row in listed]
            self._lines(self._csv_lines(flat, columns_of(flat) or list(keys or columns or ())))
        elif self.output == "ids":
            self._lines(visible(str(name)) for name in (ids(answer) if ids else (row["id"] for row in listed)))
        elif view:
            self._lines(view(answer, self.view))
        else:
            self._lines(map(visible, lines(answer)) if lines else self._tables(answer, rows, columns))

    @property
    def view(self) -> View:
        """What a picture on stdout may use."""
        return View(self.terminal.width, self.terminal.colour(self.terminal.stdout_is_tty), self._ascii)

    def stream(
        self,
        rows: Iterable[Row],
        columns: Mapping[str, int],
        key: str = "entries",
        *,
        view: Callable[[Iterable[Row], View], Iterable[str]] | None = None,
    ) -> None:
        """Print rows as they come, each at once: for what has no end, or is too long to hold.

        columns: which keys, and how wide a table shows each (the last one takes what it needs). As `json` it is one
        document too, `{key: [...]}`, closed also when the reader interrupts.
        view: what a person reads instead, as finished lines, inert and in colour.
        """
        if self.output == "json":
            self._json_list(rows, key)
        elif self.output == "csv":
            self._flush(self._csv_lines(rows, list(columns)))
        elif self.output == "jsonl":
            self._flush(to_json(row, ascii_only=self._ascii) for row in rows)
        elif self.output == "ids":
            self._flush(visible(str(row["id"])) for row in rows)
        else:
            self._flush(view(rows, self.view) if view else self._fixed_lines(rows, columns))

    # --- words --------------------------------------------------------------------------------------------------------

    def note(self, *lines: str) -> None:
        """Tell something: plans, results of changes, where a file was written."""
        for line in () if self.quiet else lines:
            self._tell("note", line, visible(line))

    def head(self, line: str) -> None:
        """Tell what the notes below are about."""
        if not self.quiet:
            self._tell("note", line, self._paint(visible(line), _BOLD))

    def plan(self, lines: Iterable[str]) -> None:
        """Tell what would be changed; on a terminal folded between words."""
        for line in lines:
            self._tell("plan", line, *self._folded(line))

    def strong(self, text: str) -> None:
        """Tell what must not be overlooked, as part of a plan."""
        self._tell("plan", text, *(self._paint(line, _BOLD) for line in self._folded(text)))

    def _folded(self, line: str) -> Iterable[str]:
        """A line for stderr, inert; on a terminal folded between words."""
        if not self.terminal.stderr_is_tty:
            return (visible(line),)
        view = View(self.terminal.width_of(self.terminal.stderr), coloured=False)
        return view.folded(visible(line), indent=" " * (len(line) - len(line.lstrip()) + 2))

    def table(self, rows: Sequence[Row], columns: Sequence[str] | None = None) -> None:
        """Show rows beside the answer, as part of a plan."""
        coloured = self.terminal.colour(self.terminal.stderr_is_tty)
        for line in table(rows, columns or columns_of(rows), self.terminal.width, colour=coloured):
            self.line(line)

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Show names and values beside the answer: the numbers of a plan."""
        for line in lines_of([[label(name), show(name, facts[name])] for name in facts], self.terminal.width):
            self.line(f"  {line}")

    def warn(self, text: str) -> None:
        """Something is not as it should be, and dvctl goes on."""
        self._tell("warning", text, f"{self._priority(4)}{self._paint('warning:', _YELLOW)} {visible(text)}")

    def hint(self, text: str) -> None:
        """What to type next."""
        if not self.quiet:
            self._tell("hint", text, f"{self._paint('hint:', _BOLD)} {visible(text)}")

    def step(self, command: str, why: str) -> None:
        """A command to type next and what it does; below it on a terminal on which both do not fit into a line."""
        narrow = self.terminal.stderr_is_tty and len(f"hint: {command}  # {why}") > self.terminal.width
        between = "\n      " if narrow else "  "
        if not self.quiet:
            line = f"{self._paint('hint:', _BOLD)} {visible(command)}{between}# {visible(why)}"
            self._tell("hint", f"{command}  # {why}", line)

    def error(self, text: str, hint: str | None = None, code: int | None = None) -> None:
        """Why dvctl stops, with its exit code; the text may quote a URL that somebody typed in the wrong place."""
        text = scrub(text)
        if self.errors == "json":
            self.line(to_json({"error": text, "hint": hint, "exit_code": code}))
            return
        if self.errors == "log":
            self.line(self._logged("error", 3, text, {"hint": hint, "exit_code": code}))
            return
        self.line(f"{self._priority(3)}{self._paint('error:', _RED)} {visible(text)}")
        if hint:
            self.line(f"{self._paint('hint:', _BOLD)} {visible(hint)}")

    def _tell(self, kind: str, text: str, *lines: str) -> None:
        """Write finished lines, or their text as one object."""
        if self.errors == "json":
            lines = (to_json({kind: text}),)
        elif self.errors == "log":
            level, number = ("warning", 4) if kind == "warning" else ("info", 6)
            lines = (self._logged(level, number, text, {}),)
        for line in lines:
            self.line(line)

    def _logged(self, level: str, number: int, text: str, about: Mapping[str, object]) -> str:
        """A line of the log as JSON: what a daemon tells before its log begins, and why it ends."""
        head = log_head(now_iso(), level, "dvctl")
        return f"{self._priority(number)}{to_json({**head, **about, 'message': text})}"

    def _priority(self, number: int) -> str:
        """What the journal reads as the priority of a line; it takes every other line for information."""
        return f"<{number}>" if is_journal(self.terminal.stderr) else ""

    def line(self, line: str) -> None:
        """Write a finished line to stderr, as it is; one that stderr does not take is dropped."""
        with self._lock:  # no other thread draws progress between the two
            self._clear()
            self.stderr.line(line)

    # --- asking and waiting -------------------------------------------------------------------------------------------

    def confirm(self, question: str) -> None:
        """Ask a yes/no question. Raises Cancelled unless the answer is yes, NotConfirmed where nobody can answer."""
        if not self.agreed(question):
            raise Cancelled

    def agreed(self, question: str) -> bool:
        """Whether the answer to a yes/no question is yes. Raises NotConfirmed where nobody can answer."""
        return self._ask(f"{question} [y/N] ").lower() in ("y", "yes")

    def ask(self, question: str, default: str = "") -> str:
        """The answer to a question, '' where the default is taken. Raises Cancelled at the end of the input."""
        return self._ask(f"{question}{f' [{default}]' if default else ''}: ", ends=True)

    def confirm_name(self, question: str, name: str) -> None:
        """Ask for a name to be typed. Raises Cancelled unless it is, NotConfirmed where nobody can answer."""
        if self._ask(f"{question} Type {name} to continue: ", f"--confirm {name}") not in (name, visible(name)):
            raise Cancelled

    @contextmanager
    def progress(self, label: str, total: int | None = None) -> Iterator[Progress]:
        """A moving line on a terminal, nothing elsewhere: `with printer.progress("reading", n) as at: at(done)`."""
        stream = self.terminal.stderr if self.terminal.stderr_is_tty and not self.quiet else None
        progress = Progress(stream, label, total, self.terminal.width_of(self.terminal.stderr), self._lock)
        outer, self._progress = self._progress, progress
        try:
            yield progress
        finally:
            progress.close()
            self._progress = outer

    def _ask(self, question: str, flag: str = "--yes", *, ends: bool = False) -> str:
        if not self.terminal.can_ask:
            raise not_confirmed(self.terminal, flag)
        self._clear()
        self.terminal.stderr.write(visible(question))
        self.terminal.stderr.flush()
        answer = self.terminal.stdin.readline()
        if not answer.endswith("\n"):
            # Ctrl-D, which the terminal does not show: what follows begins on a line of its own.
            self.terminal.stderr.write("\n")
            if ends and not answer:
                raise Cancelled
        return answer.strip()

    def _clear(self) -> None:
        """Erase the progress line before anything else is written."""
        if self._progress:
            self._progress.clear()

    def _paint(self, text: str, colour: str, *, stdout: bool = False) -> str:
        is_tty = self.terminal.stdout_is_tty if stdout else self.terminal.stderr_is_tty
        return f"\x1b[{colour}m{text}\x1b[0m" if self.terminal.colour(is_tty) else text

    # --- how the formats are written ----------------------------------------------------------------------------------

    def _line(self, line: str) -> None:
        self._clear()
        self.terminal.stdout.write(f"{line}\n")

    def _lines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._line(line)

    def _flush(self, lines: Iterable[str]) -> None:
        """A follower's reader wants each line now, not when a buffer is full."""
        for line in lines:
            self._line(line)
            self.terminal.stdout.flush()

    def _csv_lines(self, rows: Iterable[Row], columns: Sequence[str]) -> Iterator[str]:
        import csv

        buffer = _Line()
        writer = csv.writer(buffer, lineterminator="")
        writer.writerow(map(csv_cell, columns))
        head = buffer.text
        for row in rows:
            writer.writerow([csv_cell(row.get(column)) for column in columns])
            yield from [head, buffer.text] if head else [buffer.text]
            head = ""
        if head:
            yield head

    def _json_list(self, rows: Iterable[Row], key: str) -> None:
        out = self.terminal.stdout
        begin = before = f"{{{to_json(key)}: ["
        try:
            for row in rows:
                self._clear()
                out.write(f"{before}{to_json(row, ascii_only=self._ascii)}")
                out.flush()
                before = ", "
        except DvctlError:
            # Nothing was read: then nothing is printed either.
            begin = "" if before == begin else begin
            raise
        finally:
            if begin:
                out.write(f"{begin if before == begin else ''}]}}\n")

    def _fixed_lines(self, rows: Iterable[Row], columns: Mapping[str, int]) -> Iterator[str]:
        """The heading waits for the first row: where there is an error instead, it stands alone."""
        widths = fit(list(columns.values()), self.terminal.width)
        head = self._paint(lines_of([[heading(key) for key in columns]], 0, sizes=widths)[0], _BOLD, stdout=True)
        for row in rows:
            if head:
                yield head
                head = ""
            yield from lines_of([[show(key, row.get(key)) for key in columns]], 0, sizes=widths)

    def _tables(self, answer: Answer, rows: str | None, columns: Sequence[str] | None) -> Iterator[str]:
        """Single values first, then each list as a table."""
        width = self.terminal.width
        lists = {key: value for key, value in answer.items() if _is_table(value) or key == rows}
        single = [cells for key, value in answer.items() if key not in lists for cells in _single(key, value)]
        yield from lines_of(single, width)
        for key, value in lists.items():
            listed = [_as_row(item) for item in value]
            if single or len(lists) > 1:
                yield ""
                yield self._paint(heading(key) + ("" if listed else ": none"), _BOLD, stdout=True)
            elif not listed:
                yield f"no {label(key)}"
            if listed:
                chosen = columns if columns and key == rows else columns_of(listed)
                yield from table(listed, chosen, width, colour=self.terminal.colour(self.terminal.stdout_is_tty))


def not_confirmed(terminal: Terminal, flag: str) -> NotConfirmed:
    """The refusal of a change that nobody can be asked about."""
    which = "stderr" if terminal.stdin_is_tty else "stdin"
    return NotConfirmed(
        f"confirmation required, but {which} is not a terminal; use {flag}",
        hint=f"add {flag}, or --dry-run to see the plan",
    )


class _Line:
    """What csv.writer wrote last."""

    text = ""

    def write(self, text: str) -> None:
        self.text = text


def _as_row(value: Any) -> Row:
    return value if isinstance(value, Mapping) else {"id": value}


def _flat(row: Row) -> dict[str, Any]:
    """A row of single values: `a.b` for a mapping, the length of a list of mappings, other lists in one cell."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping) and key in COUNTED:
            flat[key] = " ".join(f"{name}={number}" for name, number in value.items())
        elif isinstance(value, Mapping):
            flat |= {f"{key}.{name}": item for name, item in _flat(value).items()}
        elif isinstance(value, list | tuple):
            flat[key] = len(value) if _is_table(value) else " ".join(map(str, value))
        else:
            flat[key] = value
    return flat


def _single(key: str, value: Any) -> Iterator[list[str]]:
    """A line for a value, a line each for what a mapping holds."""
    name = label(key)
    if is_count(value):
        yield from ([f"{name} {text(part)}", show("", number)] for part, number in value.items())
    elif isinstance(value, Mapping) and value:
        for part, item in value.items():
            yield [f"{name} {label(str(part))}", show(str(part), item)]
    else:
        yield [name, show(key, value)]


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
