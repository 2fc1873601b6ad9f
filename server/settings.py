"""Every setting, once: its name, default, meaning and how it is read.

An environment variable `HOTROW_<NAME>` sets a field, a command-line option wins.
"""

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from server.errors import SettingsError

logger = logging.getLogger(__name__)

PREFIX = "HOTROW_"


def _setting(default: Any, parse: Callable[[str], Any], meaning: str, *, secret: bool = False) -> Any:
    metadata = {"parse": parse, "meaning": meaning, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


def _paths(text: str) -> tuple[Path, ...]:
    paths = tuple(Path(part) for part in text.split(",") if part)
    if not paths:
        raise ValueError("a folder, or several separated by commas")
    return paths


def whole(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """A function that reads a whole number; it raises `ValueError`, which says what was expected."""

    def parse(text: str) -> int:
        if (
            text.isascii()
            and text.isdigit()
            and minimum <= int(text)
            and (maximum is None or int(text) <= maximum)
        ):
            return int(text)
        raise ValueError(
            f"a whole number of at least {minimum}" + (f" and at most {maximum}" if maximum else "")
        )

    return parse


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 86_400.0:
        raise ValueError("a number of seconds between 0 and 86400")
    return value


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("on or off")
    return text == "on"


def _rules(text: str) -> tuple[tuple[str, str], ...]:
    pairs = tuple(part.rpartition("=") for part in text.split(",") if part)
    if not all(name and rule in ("keep", "drop", "hash", "bucket") for name, _, rule in pairs):
        raise ValueError("FIELD=keep, drop, hash or bucket, separated by commas")
    return tuple((name, rule) for name, _, rule in pairs)


def _logins(text: str) -> tuple[tuple[str, str], ...]:
    pairs = tuple(part.partition(":") for part in text.split(",") if part)
    if not all(user and password for user, _, password in pairs):
        raise ValueError("USER:PASSWORD, several separated by commas")
    return tuple((user, password) for user, _, password in pairs)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    if not names or any("/" in name or " " in name for name in names):
        raise ValueError("host names without scheme or path, separated by commas")
    return names


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip().rstrip("/").lower() for origin in text.split(",") if origin.strip())
    if not origins or any(o != "*" and not re.fullmatch(r"https?://[^/ ]+", o) for o in origins):
        raise ValueError("origins such as https://app.example.com, separated by commas, or *")
    return origins


def _mode(text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError("three octal digits, such as 660")
    return int(text, 8)


def _root(text: str) -> str:
    if not re.fullmatch(r"(/[\w.~-]+)*/?", text):
        raise ValueError("a path such as /scoring")
    return text.rstrip("/")


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text

    return parse


#: Settings that are lists of folders: their options may be given several times.
FOLDERS = ("model", "challenger")
#: Settings that had another name: the old one is still read, with a warning.
RENAMED = {"HOTROW_FAST_DOOR": "HOTROW_FAST_PATH"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the server runs; the defaults are those of docs/reference.md."""

    model: tuple[Path, ...] = _setting(
        (Path("models/credit"),), _paths, "model folders, separated by commas; the first answers `/predict`"
    )
    challenger: tuple[Path, ...] = _setting(
        (),
        lambda text: tuple(Path(part) for part in text.split(",") if part),
        "folders of other versions that score beside the answers, separated by commas, at most 8",
    )
    host: str = _setting("127.0.0.1", str, "address to listen on")
    port: int = _setting(
        8000, whole(0, 65_535), "port to listen on; 0 takes a free one (the page of `python -m ui`: 7860)"
    )
    workers: int = _setting(1, whole(1, 256), "worker processes")
    log_dir: Path = _setting(Path("logs"), Path, "folder of the prediction log, one file per worker")
    log_mode: str = _setting(
        "async",
        _one_of("off", "async", "strict"),
        "`off`, `async` (written within 100 ms) or `strict` (written before the response)",
    )
    log_queue_bytes: int = _setting(
        16 * 2**20, whole(2**16), "log lines held in memory at most; beyond, lines are dropped and counted"
    )
    log_file_bytes: int = _setting(
        256 * 2**20, whole(0), "size at which a log file is closed and a new one begun; 0: never"
    )
    log_file_seconds: float = _setting(
        86_400.0, _seconds, "age at which a log file is closed and a new one begun; 0: never"
    )
    log_keep_days: int = _setting(
        0, whole(0, 36_500), "days after which closed log files are deleted; 0: they stay"
    )
    log_total_bytes: int = _setting(
        0, whole(0), "size of all log files above which the oldest closed ones are deleted; 0: no limit"
    )
    log_mask: tuple[tuple[str, str], ...] = _setting(
        (),
        _rules,
        "what hides fields in the log, over what the bundle says: `FIELD=drop`, `hash`, `bucket` or `keep`, "
        "separated by commas",
    )
    outcomes: bool = _setting(
        False, _switch, "`on`: `POST /outcomes` writes what became of decisions down beside the log"
    )
    log_key_file: Path | None = _setting(
        None, Path, "file with the key of hashed fields and of the log's seals, outside of the log's folder"
    )
    drift_window_rows: int = _setting(
        5000, whole(100), "rows of a drift window, per worker; the drift shown is of the last one or two"
    )
    max_body_bytes: int = _setting(2**20, whole(1), "largest accepted request body of one row")
    max_batch_bytes: int = _setting(
        2**24, whole(1), "largest accepted request body of many rows: `/predict/batch` and `/v2`"
    )
    max_batch_rows: int = _setting(10_000, whole(1), "rows accepted in one request")
    max_inflight: int = _setting(
        128,
        whole(1),
        "whole requests of a kind (rows, batches, explanations, others) in flight in a worker, of which an "
        "eighth may wait for their turn; beyond, they get 503 (a plain row that comes alone never waits)",
    )
    fast_path: bool = _setting(
        True, _switch, "`on`, or `off`: `/predict` takes the ASGI path through Starlette too"
    )
    row_backend: Literal["auto", "onnx"] = _setting(
        "auto",
        _one_of("auto", "onnx"),
        "what scores one row: `auto`, compiled trees with equal bits as soon as they are made, if llvmlite "
        "and onnx are installed; or `onnx`",
    )
    line_backend: Literal["auto", "python"] = _setting(
        "auto",
        _one_of("auto", "python"),
        "what makes the lines of the prediction log: `auto`, compiled code with equal bytes as soon as it "
        "is made, if llvmlite is installed; or `python`",
    )
    batch_backend: Literal["onnx", "compiled"] = _setting(
        "onnx",
        _one_of("onnx", "compiled"),
        "what scores requests of more than 32 rows: `onnx`, or `compiled` trees with equal bits, as soon as "
        "they are compiled",
    )
    busy_poll: bool = _setting(
        False,
        _switch,
        "`on`: workers never sleep, one processor each, for the shortest answers to few connections",
    )
    request_timeout_seconds: float = _setting(
        10.0,
        _seconds,
        "time a client has to send a whole request, or another 4,000 bytes of its body a second",
    )
    uds: Path | None = _setting(None, Path, "Unix socket to listen on, in place of host and port")
    uds_mode: int = _setting(0o660, _mode, "who may connect to the Unix socket, in octal digits")
    tls_cert: Path | None = _setting(
        None, Path, "certificate chain in PEM: HTTPS alone is spoken; read again when the file changes"
    )
    tls_key: Path | None = _setting(None, Path, "private key of the certificate in PEM, without a password")
    tls_client_ca: Path | None = _setting(
        None, Path, "certificates in PEM of which clients must show one's (mutual TLS); none: no client need"
    )
    root_path: str = _setting(
        "",
        _root,
        "prefix of every path, as `/scoring`, where a proxy does not take it away; both are answered",
    )
    trusted_proxies: str = _setting(
        "127.0.0.1",
        str,
        "addresses and networks, separated by commas, whose `X-Forwarded-For` and `-Proto` are believed",
    )
    keys_file: Path | None = _setting(
        None,
        Path,
        "file of the callers' keys, as digests (`python -m server.keys`): requests without one are refused",
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (), _names, "names that requests must be addressed to, separated by commas (health apart); none: any"
    )
    cors_origins: tuple[str, ...] = _setting(
        (),
        _origins,
        "origins whose pages may call the API from a browser, separated by commas; none: no other",
    )
    keep_alive_seconds: float = _setting(
        75.0, _seconds, "idle time after which a connection is closed; more than the load balancer's"
    )
    drain_seconds: float = _setting(10.0, _seconds, "time that requests in flight get at shutdown")
    ui_auth: tuple[tuple[str, str], ...] = _setting(
        (),
        _logins,
        "who may see the page of `python -m ui`: `USER:PASSWORD`, separated by commas; "
        "the API's routes stay open",
        secret=True,
    )
    ui_auth_file: Path | None = _setting(
        None, Path, "file of such logins, one a line: passwords with commas, and none in the environment"
    )

    @classmethod
    def read(cls, environment: Mapping[str, str], **options: Any) -> "Settings":
        """Settings from environment variables and options; options that are not None win.

        Raises `SettingsError` for a variable of the prefix that is no setting or
        has a value that cannot be used.
        """
        known = {PREFIX + f.name.upper(): f for f in fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in environment.items():
            if not variable.startswith(PREFIX):
                continue
            if variable in RENAMED:
                logger.warning("%s is called %s now: rename it.", variable, RENAMED[variable])
                variable = RENAMED[variable]
                if variable in environment:
                    continue
            if variable not in known:
                raise SettingsError(f"unknown setting {variable}: {_instead(variable, known)}")
            setting = known[variable]
            try:
                values[setting.name] = setting.metadata["parse"](text)
            except ValueError as error:
                got = "something else" if setting.metadata["secret"] else repr(text)
                raise SettingsError(f"expected {variable} to be {error}, got {got}") from None
        return cls(**values | {name: value for name, value in options.items() if value is not None})


def _instead(variable: str, known: Iterable[str]) -> str:
    nearest = get_close_matches(variable, known, 1)
    return f"did you mean {nearest[0]}?" if nearest else "docs/reference.md lists all of them"


def parse_setting(name: str) -> Callable[[str], Any]:
    """The parser of one setting, for a command-line option of the same name."""
    parse: Callable[[str], Any] = Settings.__dataclass_fields__[name].metadata["parse"]
    return parse
