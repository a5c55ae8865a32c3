"""The ``napari-ood`` command: one thin command per public function.

Exit codes: 0 done; 1 an error that napari-ood did not foresee (or, for ``doctor``, a problem);
2 an error the user can act on, told in one line; 130 cancelled with Ctrl-C.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper

from napari_ood.cli.parser import build_parser
from napari_ood.cli.report import CANCELLED, complain

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv
        Arguments without the program's name; None: those of this process.

    Returns
    -------
    int
        The exit code.
    """
    _replace_unprintable()
    args = build_parser().parse_args(argv)
    try:
        with _quiet(unless=args.debug):
            code: int = args.command(args)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        complain("cancelled")
        return CANCELLED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is wrong, and the interpreter must
        # not fail again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001  the last resort: one line, not a traceback
        return complain(error, args.debug)


def _replace_unprintable() -> None:
    """Let a terminal or pipe that is not UTF-8 (Windows) show ``?`` for µ, not fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def _quiet(unless: bool) -> Iterator[None]:
    """Keep the libraries' warnings and log lines off the terminal."""
    if unless:
        yield
        return
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
