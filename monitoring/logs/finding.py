"""The decisions that belong to an id: what somebody asks who wants to know why."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from monitoring.errors import LogError
from monitoring.logs.erasure import parsed, unsearched_files
from monitoring.logs.files import log_files, open_lines
from monitoring.logs.subject import DataSubject, with_rows


class Search:
    """The lines of one subject in some logs; `unsearched` says, a sentence each, what was not looked at."""

    def __init__(self, paths: Sequence[Path], subject: DataSubject) -> None:
        self._files = log_files(paths)
        self._subject = subject
        self.unsearched = unsearched_files(paths, self._files)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Each line as the log has it, of a batch with the subject's rows alone."""
        for file in self._files:
            try:
                with open_lines(file) as lines:
                    yield from self._found(lines)
            except LogError as error:
                self.unsearched.append(str(error))

    def _found(self, lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
        for line in lines:
            record = parsed(line) if self._subject.may_be_in(line) else None
            if record is not None and (found := with_rows(record, sorted(self._subject.rows(record)))):
                yield found
