"""The argument FILE of commands that read a snapshot: what is said where it is missing, and where it is looked for."""

from collections.abc import Callable
from pathlib import Path

from devicevault_cli.errors import Usage


def given(command: str, *, rows: bool | None = False) -> Callable[[Path | None], Path]:
    """A callback that raises Usage, with the snapshots there are, where no file is given.

    rows: whether the command reads files with rows, or (None) also these.
    """

    def callback(file: Path | None) -> Path:
        if file is None:
            from devicevault_cli.operations.groups.snapshots import there

            hint = f"run `dvctl {command} --help` to see every option"
            raise Usage(f"missing argument FILE; {there(rows=rows)}", hint=hint)
        return file

    return callback


def require_file(file: Path, *, rows: bool | None = False) -> None:
    """Raises Usage, with the nearest of the snapshots there are, for a file that does not exist."""
    from devicevault_cli.nearest import nearest
    from devicevault_cli.operations.groups.snapshots import newest, there

    if file.exists():
        return
    paths = {path.name: path for path in newest(1000, rows=rows)}
    close = [str(paths[name]) for name in nearest(file.name, paths)]
    meant = f"did you mean {' or '.join(close)}?" if close else there(rows=rows)
    raise Usage(f"there is no file {file}; {meant}")


def found(file: Path) -> Path:
    """The file; a bare name that does not exist here is looked up in the snapshot directory. Raises Usage."""
    from devicevault_cli.directories import NoStateDirectory, snapshot_directory

    if not file.exists() and file.name == str(file):
        try:
            saved = snapshot_directory() / file
        except NoStateDirectory:
            saved = file
        if saved.exists():
            return saved
    require_file(file, rows=None)
    return file.absolute()
