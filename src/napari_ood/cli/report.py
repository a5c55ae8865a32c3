"""What every command prints alike: errors, JSON lines, tables."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from napari_ood.errors import OodError

UNFORESEEN, USER_ERROR, CANCELLED = 1, 2, 130
PROBLEM = 1
"""Exit codes; ``doctor`` returns PROBLEM."""

STDOUT = Path("-")
"""What ``--json -`` gives."""


def complain(error: BaseException | str, debug: bool = False) -> int:
    """Print an error as one line on stderr and return its exit code; ``debug``: traceback first."""
    if debug and isinstance(error, BaseException):
        traceback.print_exception(error)
    if isinstance(error, OodError | str):
        text, code = str(error), USER_ERROR
    else:
        text = f"{type(error).__name__}: {error} (unforeseen: --debug shows where it happened)"
        code = UNFORESEEN
    print(f"napari-ood: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return code


def check_folder(file: Path | None) -> None:
    """Fail before the work, not after it, where a file cannot be written.

    Raises
    ------
    OodError
        If the file's folder does not exist, or must not be written.
    """
    if file is None or file == STDOUT:
        return
    folder = file.absolute().parent
    if not folder.is_dir():
        raise OodError(f"{file} cannot be written: its folder does not exist")
    if file.is_dir():
        raise OodError(f"{file} cannot be written: it is a folder, name a file")
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise OodError(f"{file} cannot be written: permission denied")


def print_json(record: Mapping[str, Any] | list[Any], indent: int | None = 2) -> None:
    """Print JSON; ``indent=None`` puts it on one line."""
    print(json.dumps(record, indent=indent), flush=True)


def write_record(record: Mapping[str, Any], file: Path | None) -> bool:
    """Write what ``--json`` asks for; whether it went to stdout, where it stays alone.

    Raises
    ------
    OodError
        If the file cannot be written.
    """
    if file is None:
        return False
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    if file == STDOUT:
        print(text, flush=True)
        return True
    try:
        file.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise OodError(f"cannot write {file}: {error.strerror or error}") from error
    return False


def print_table(rows: Iterable[tuple[str, str]]) -> None:
    """Print two columns, on a terminal with the second wrapped; an empty name continues a row."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for name, value in rows:
        lines = [value]
        if width + 2 + len(value) > columns > width + 20:
            lines = textwrap.wrap(value, columns - width - 2, break_long_words=False)
        for label, line in zip([name, *[""] * len(lines)], lines, strict=False):
            print(f"{label:<{width}}  {line}".rstrip())
