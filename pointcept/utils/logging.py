"""Where log lines go: the terminal, without breaking the progress bar, and the experiment's ``train.log``."""

import logging
import sys
from pathlib import Path

from tqdm import tqdm

from pointcept.utils.distributed import is_main_process

LOGGER_NAME = "pointcept"
LINE_FORMAT = "[%(asctime)s %(levelname)s] %(message)s"


def configure_logging(log_file: str | Path | None = None) -> None:
    """Sends the ``pointcept`` logger to the terminal and, in the main process, to a file as well.

    Other processes of the run show warnings and errors only. Calling it again replaces the earlier set-up.

    Args:
        log_file: appended to; its folder must exist.
    """
    remove_log_handlers()
    logger = logging.getLogger(LOGGER_NAME)
    logger.setLevel(logging.INFO)
    terminal = _TerminalHandler()
    terminal.setLevel(logging.INFO if is_main_process() else logging.WARNING)
    handlers: list[logging.Handler] = [terminal]
    if log_file is not None and is_main_process():
        handlers.append(_AppendHandler(log_file))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(LINE_FORMAT, datefmt="%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
    logger.propagate = False


def remove_log_handlers() -> None:
    """Undoes :func:`configure_logging`; handlers that others installed stay."""
    logger = logging.getLogger(LOGGER_NAME)
    for handler in list(logger.handlers):
        if isinstance(handler, _TerminalHandler | _AppendHandler):
            logger.removeHandler(handler)
    logger.propagate = True


class _TerminalHandler(logging.Handler):
    """Writes above a progress bar, if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class _AppendHandler(logging.Handler):
    """Opens the file for each line: lines are rare, and none is lost when the process is killed."""

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self._path = Path(path)

    def emit(self, record: logging.LogRecord) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self.format(record) + "\n")
