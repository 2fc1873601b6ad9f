"""Names of other libraries that we lean on without a promise of theirs, held against what is installed.

uvicorn and gunicorn are extended by inheritance, and so by names that their authors
may change in any release. A digest of their source would refuse a security release
for a comment; the names with their parameters change only when what we lean on does.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from server.errors import SettingsError


class PrivateNames(NamedTuple):
    """What we call, override, read or set of one class: methods with their parameters, attributes by name.

    An attribute counts as there if the class has it or its own methods use it.
    """

    owner: type[Any]
    methods: Mapping[str, str]
    attributes: str = ""

    def changed(self) -> Iterator[str]:
        """Each name that is gone or takes other parameters, in words."""
        name = self.owner.__name__
        for method, parameters in self.methods.items():
            found = inspect.getattr_static(self.owner, method, None)
            if not inspect.isfunction(found):
                yield f"{name}.{method} is gone"
            elif (now := " ".join(inspect.signature(found).parameters)) != f"self {parameters}".strip():
                yield f"{name}.{method} takes ({now.replace(' ', ', ')})"
        functions = [member for member in vars(self.owner).values() if inspect.isfunction(member)]
        known = {used for function in functions for used in function.__code__.co_names}
        for attribute in self.attributes.split():
            if attribute not in known and not hasattr(self.owner, attribute):
                yield f"{name}.{attribute} is gone"


def check_private_names(library: str, version: str, *classes: PrivateNames) -> None:
    """Raise `SettingsError`, which names what changed, if a library is not as we lean on it."""
    changed = [words for names in classes for words in names.changed()]
    if changed:
        raise SettingsError(
            f"expected {library} with the names we lean on, got {version}, where {'; '.join(changed)}: "
            "install the versions of requirements/server.txt"
        )
