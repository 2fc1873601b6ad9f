"""Who may log in: from the setting, or from a file that only its owner reads."""

from pathlib import Path

from server.errors import SettingsError
from server.settings import Settings


def logins_of(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Pairs of user and password, of the setting and of the file.

    Raises `SettingsError` for a file that cannot be read or has a line that is no
    login; its content is never repeated.
    """
    return (*settings.ui_auth, *(_read(settings.ui_auth_file) if settings.ui_auth_file is not None else ()))


def _read(path: Path) -> list[tuple[str, str]]:
    """A login a line; a password may hold colons and commas. Empty lines and those with # are passed over."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"expected HOTROW_UI_AUTH_FILE to be a text file, got: {error}") from None
    logins = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        user, _, password = line.partition(":")
        if not user or not password:
            raise SettingsError(f"expected USER:PASSWORD in line {number} of {path}, got something else")
        logins.append((user, password))
    if not logins:
        raise SettingsError(f"expected a login in {path}, got none: the page would be open to everybody")
    return logins
