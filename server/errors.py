"""What can go wrong, and the status each case is answered with.

HotrowError
├── BundleError            a model folder that must not be served
├── SettingsError          an option or environment variable that makes no sense
├── NotInstalled           a library that a command needs is not there
├── BatchRefused           a file that cannot be scored as it is
├── TableRefused           a text that is no table, or one of other columns
└── Problem                a request that is refused, as RFC 9457 writes it
    ├── MalformedRequest       400  not HTTP, or HTTP that could be read in two ways
    ├── MalformedBody          400  not the JSON that was asked for
    ├── Unauthorized           401  nobody knows who asks
    ├── Forbidden              403  it is known, and may not
    ├── NotFound               404  no such path or model
    ├── MethodNotAllowed       405
    ├── RequestTimeout         408  a part of a request, for too long
    ├── NoLog                  409  nothing is logged here, so nothing can be looked up
    ├── BodyTooLarge           413
    ├── UriTooLong             414
    ├── UnsupportedMedia       415  media type or content encoding
    ├── ExpectationFailed      417
    ├── UnacceptableRow        422  JSON, but not a row of this model
    ├── HeadTooLarge           431
    ├── ModelFailure           500  the model gave a score that is no number
    ├── UnknownTransferCoding  501
    ├── NotOffered             501  what this model or server does not do
    ├── Unavailable            503  overloaded, draining or not ready
    │   └── MemoryExhausted    503  no memory for this request
    └── DeadlineExceeded       504  the client no longer waits
"""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

PROBLEM_JSON = "application/problem+json"
#: The header of a response that is the last of its connection, as ASGI writes headers.
CLOSE = (b"connection", b"close")

# How many of a kind are told one by one; the others are counted. A hostile body of 100,000
# unknown names is not answered with 100,000 lines.
#: Names in a sentence, and the characters of each.
MAX_NAMES, MAX_NAME_CHARACTERS = 12, 60
#: Characters of a whole message, whatever names, paths and values it tells of.
MAX_MESSAGE_CHARACTERS = 2000
#: Of a longer one so many at its end are kept: there it says what to do.
_END_CHARACTERS = 500
#: Bad values or fields in a sentence.
MAX_IN_SENTENCE = 10
#: Bad values of a matrix, of whose rows the first tell enough.
MAX_OF_MATRIX = 100
#: Bad fields of a request in its problem document, and bad values of a block of a file.
MAX_LISTED_ERRORS = 1000
#: Bad values of a file in its report.
MAX_REPORTED = 100_000


def first_line(error: BaseException) -> str:
    """The first line of what a library's exception says, or its kind if it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__


def listed(names: Sequence[str], limit: int = MAX_NAMES) -> str:
    """Names in words: the first of them, and how many more there are."""
    more = len(names) - limit
    return ", ".join(map(shown, names[:limit])) + (f" and {more} more" if more > 0 else "")


def number_of(count: int, noun: str) -> str:
    """So many of a thing with a regular plural, as a sentence has it: 1 row, 2,000 rows."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def not_acceptable(count: int, noun: str) -> str:
    """The refusal of so many of a kind: 1 field is not acceptable."""
    return f"{number_of(count, noun)} {'is' if count == 1 else 'are'} not acceptable"


def shown(name: str) -> str:
    """A name as a sentence shows it: on one line, not endless, its outer blanks to be seen."""
    short = name if len(name) <= MAX_NAME_CHARACTERS else f"{name[:MAX_NAME_CHARACTERS]}…"
    return short if short and short == short.strip() and short.isprintable() else repr(short)


def brief(message: str) -> str:
    """A message without its middle if it is endless: what came may be a name of a million characters."""
    if len(message) <= MAX_MESSAGE_CHARACTERS:
        return message
    begin = MAX_MESSAGE_CHARACTERS - _END_CHARACTERS - 1
    return f"{message[:begin]}…{message[-_END_CHARACTERS:]}"


class HotrowError(Exception):
    """Base of every error whose message is written for the user, and which is none of endless length."""

    def __init__(self, message: str = "") -> None:
        super().__init__(brief(message))


class BundleError(HotrowError):
    """A model folder is missing, damaged or not what its parity report says."""


class SettingsError(HotrowError):
    """A setting has a value that cannot be used."""


class BatchRefused(HotrowError):
    """A file that cannot be scored as it is."""


class TableRefused(HotrowError):
    """A text that is no table, or one of other columns; `option` is what `server.batch` offers beside."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class NotInstalled(HotrowError):
    """A library that a command needs, and that is not in the environment."""

    def __init__(self, library: str) -> None:
        target, folder = ("ray", ".venv-ray") if library == "ray" else ("tools", ".venv")
        is_checkout = (Path(__file__).parents[1] / "Makefile").exists()
        way = (
            f"run `make {target}`, and then this with {folder}/bin/python"
            if is_checkout
            else "`hotrow doctor` says what to install"
        )
        super().__init__(f"expected {library} to be installed, got an environment without it: {way}")


class BadValue(NamedTuple):
    """One bad value of a table: its row, its feature ("" for the whole row), and what was expected.

    `row` is the row's index in a table, and of a file the line (or row) it begins on,
    from 1. `file` is the file's name where there are several.
    """

    row: int
    feature: str
    detail: str
    file: str = ""


#: Why a field is refused: it is not there, is of another type (or no whole number), is no category of the
#: model, lies outside of the range, or is no field of the model.
Reason: TypeAlias = Literal["missing", "kind", "category", "range", "unknown"]


class FieldError(ValueError):
    """One bad value: what was expected and what kind came, and where, as a JSON Pointer (RFC 6901).

    A feature that refuses a value does not know where it stood: its `pointer` is "".
    """

    def __init__(self, pointer: str, detail: str, reason: Reason = "kind") -> None:
        super().__init__(detail)
        self.pointer, self.detail, self.reason = pointer, detail, reason

    def at(self, pointer: str, place: str = "") -> "FieldError":
        """The same of the value that stood there; `place` says so in words, before the detail."""
        return FieldError(pointer, place + self.detail, self.reason)


class Problem(HotrowError):
    """A refused request; `status` is the HTTP status of the response."""

    status = 500

    def __init__(
        self,
        detail: str,
        *,
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = str(self)
        self.errors = list(errors)
        self.headers = dict(headers or {})

    @property
    def title(self) -> str:
        """The status in words; fixed per status, as RFC 9457 3.1.3 asks."""
        return HTTPStatus(self.status).phrase

    def document(self) -> dict[str, Any]:
        """The members of the problem document (RFC 9457 section 3.1)."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            listed = self.errors[:MAX_LISTED_ERRORS]
            document["errors"] = [{"pointer": error.pointer, "detail": error.detail} for error in listed]
        return document

    def body(self) -> bytes:
        """The problem document as UTF-8 JSON."""
        import orjson  # here: commands word their errors where nothing is installed, too

        return orjson.dumps(self.document())


class MalformedRequest(Problem):
    """The bytes are not an HTTP/1.1 request, or one that two servers would read differently."""

    status = 400


class RequestTimeout(Problem):
    """A part of a request came, and the rest did not come in time."""

    status = 408


class UriTooLong(Problem):
    """The request target is longer than any path of this server."""

    status = 414


class ExpectationFailed(Problem):
    """An `Expect` header asks for something else than `100-continue`."""

    status = 417


class HeadTooLarge(Problem):
    """There are too many headers, or too many bytes of them."""

    status = 431


class UnknownTransferCoding(Problem):
    """The body is coded in a way that is not read."""

    status = 501


class MalformedBody(Problem):
    """The body is not JSON, or not JSON of the expected form."""

    status = 400


class Unauthorized(Problem):
    """It is not said, or not known, who asks."""

    status = 401


class Forbidden(Problem):
    """Who asks is known, and may ask for something else."""

    status = 403


class NotFound(Problem):
    """Nothing is served at that path."""

    status = 404


class MethodNotAllowed(Problem):
    """The path exists and does not take this method."""

    status = 405


class NoLog(Problem):
    """What was decided is looked up in the log, and this server keeps none."""

    status = 409

    def __init__(self) -> None:
        super().__init__("expected a prediction log to look in, got HOTROW_LOG_MODE=off")


class BodyTooLarge(Problem):
    """The body is larger than the limit set for the server."""

    status = 413


class UnsupportedMedia(Problem):
    """The body has a media type or an encoding that is not read."""

    status = 415


class UnacceptableRow(Problem):
    """The body is JSON, but not a row (or batch) this model can score."""

    status = 422


class ModelFailure(Problem):
    """The model returned something that is not a probability or a number."""

    status = 500


class NotOffered(Problem):
    """The path is known, and this server or this model does not do what it asks."""

    status = 501


class Unavailable(Problem):
    """The server cannot answer now; `Retry-After` says when to try again."""

    status = 503

    def __init__(self, detail: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(detail, headers={"Retry-After": str(retry_after_seconds)})


class MemoryExhausted(Unavailable):
    """There is no memory for this request now; for a smaller one, or later, there may be."""

    def __init__(self) -> None:
        super().__init__("expected memory for this request, got no more of it")


class DeadlineExceeded(Problem):
    """The time the client said it would wait had passed before the model could run."""

    status = 504
