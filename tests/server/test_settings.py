import socket
from pathlib import Path

import pytest

from server.errors import SettingsError
from server.settings import PREFIX, Settings
from tests.support.servers import run


def test_defaults_are_used_without_environment() -> None:
    settings = Settings.read({"PATH": "/bin"})
    assert (settings.host, settings.port, settings.log_mode) == ("127.0.0.1", 8000, "async")


def test_environment_is_read_and_options_win() -> None:
    settings = Settings.read({PREFIX + "PORT": "9000", PREFIX + "MODEL": "a,b"}, port=9001, host=None)
    assert settings.port == 9001
    assert settings.model == (Path("a"), Path("b"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "x"), ("PORT", "-1"), ("PORT", "65536"), ("WORKERS", "0"), ("LOG_MODE", "on"), ("MODEL", ""),
     ("DRAIN_SECONDS", "soon"), ("DRAIN_SECONDS", "nan"), ("FAST_PATH", "1"), ("MAX_BODY_BYTES", "1e6")],
)  # fmt: skip
def test_bad_value_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"expected {PREFIX}{name} to be"):
        Settings.read({PREFIX + name: value})


def test_unknown_variable_is_refused() -> None:
    """A misspelt setting would otherwise be silently without effect."""
    with pytest.raises(SettingsError, match=r"unknown setting HOTROW_PROT: did you mean HOTROW_PORT\?"):
        Settings.read({"HOTROW_PROT": "9000"})


def test_old_name_is_read_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert not Settings.read({"HOTROW_FAST_DOOR": "off"}).fast_path
    assert "HOTROW_FAST_DOOR is called HOTROW_FAST_PATH now" in caplog.text
    assert Settings.read({"HOTROW_FAST_DOOR": "off", "HOTROW_FAST_PATH": "on"}).fast_path


def test_wrong_usage_exits_2() -> None:
    result = run("-m", "server", "--port", "http")
    assert result.returncode == 2
    assert "expected a whole number" in result.stderr


def test_taken_port_is_one_sentence_and_exit_3(three: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("-m", "server", "--model", str(three), "--port", str(port), HOTROW_LOG_MODE="off")
    assert result.returncode == 3
    assert result.stderr == (
        f"expected to listen on 127.0.0.1:{port}, got: Address already in use: "
        "choose another --host or --port.\n"
    )


def test_log_folder_that_cannot_be_written_is_exit_3(three: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run(
        "-m", "server", "--model", str(three), "--port", "0", HOTROW_LOG_DIR=str(tmp_path / "file" / "logs")
    )
    assert result.returncode == 3
    assert "HOTROW_LOG_DIR" in result.stderr
