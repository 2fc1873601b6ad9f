"""The decisions that belong to an id: what somebody asks who wants to know why."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monitoring.errors import LogError
from monitoring.logs.erasure import parsed, unsearched_files
from monitoring.logs.files import log_files, masks_of, open_lines
from monitoring.logs.lines import served_bundles
from monitoring.logs.subject import DataSubject
from server.log.reviews import reviews_in
from server.model.bundle import Bundle
from server.model.logged_rows import logged_rows
from server.model.predictor import Predictor
from server.model.replayed import replayed
from server.model.row_names import count_of, name_of_row, with_rows


class Search:
    """The lines of one subject in some logs; `unsearched` says, a sentence each, what was not looked at."""

    def __init__(self, paths: Sequence[Path], subject: DataSubject) -> None:
        self._files = log_files(paths)
        self._subject = subject
        self.unsearched = unsearched_files(paths, self._files)

    def lines(self) -> Iterator[dict[str, Any]]:
        """Each line as the log has it, of a batch with the subject's rows alone.

        What people decided of these rows stands behind it, as `reviews`.
        """
        reviews: dict[str, list[dict[str, Any]]] = {}
        for folder in dict.fromkeys(file.parent for file in self._files):
            for review in reviews_in(folder):
                reviews.setdefault(str(review["of"]), []).append(review)
        for record in self._lines():
            names = [name_of_row(record, row) for row in range(count_of(record))] if reviews else []
            found = [review for name in names for review in reviews.get(name, ())]
            yield record | {"reviews": found} if found else record

    def _lines(self) -> Iterator[dict[str, Any]]:
        for file in self._files:
            try:
                with open_lines(file) as lines:
                    yield from self._found(lines)
            except LogError as error:
                self.unsearched.append(str(error))

    def _found(self, lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
        for line in lines:
            record = parsed(line) if self._subject.may_be_in(line) else None
            if record is not None and (rows := sorted(self._subject.rows(record))):
                yield with_rows(record, rows)


class Checked:
    """Computes lines again, each with the bundle that answered it: the named one, or one of `models/`.

    `sentences` say of each row whether it is equal to the bit.
    """

    def __init__(self, paths: Sequence[Path], directory: Path | None) -> None:
        bundles = [Bundle.load(directory)] if directory is not None else served_bundles()
        self._bundles = {bundle.label: bundle for bundle in bundles}
        self._predictors: dict[str, Predictor] = {}
        self._masks = masks_of(log_files(paths))
        self.sentences: list[str] = []

    def add(self, record: Mapping[str, Any]) -> None:
        """Check every row of a line."""
        label = str(record.get("model", ""))
        predictor = self._predictor(label)
        if predictor is None:
            self.sentences.append(
                f"{record['id']}: not computed again, as {label} is not in models/: name it with --model"
            )
            return
        hidden = self._masks.get(str(record["id"]).partition("-")[0], {})
        for number, logged in enumerate(logged_rows(record)):
            again = replayed(logged, predictor, hidden)
            where = name_of_row(record, number)
            if again.problem:
                self.sentences.append(f"{where}: not computed again: {again.problem}")
            elif again.is_equal:
                self.sentences.append(f"{where}: computed again with {label}: equal to the bit")
            else:
                self.sentences.append(
                    f"{where}: computed again with {label}: DIFFERENT: logged {logged.output} "
                    f"({logged.outcome}), now {again.output} ({again.outcome})"
                )

    def _predictor(self, label: str) -> Predictor | None:
        if label not in self._predictors and label in self._bundles:
            self._predictors[label] = Predictor(self._bundles[label])
        return self._predictors.get(label)
