"""Several models: a page for each, and how one leads to the others."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from server.model.bundle import Bundle
from ui.access.surface import BELOW
from ui.words.text import Text, attribute, tag
from ui.words.wording import Wording

#: Below which the pages of all models but the first are, as `NAME/VERSION/`.
_OF = "/page/of"
#: From such a page to the first model's.
_UP = "../../../../"
_ONE = Text("{title} ({model})", "{title} ({model})")
_MODELS = Text("Models", "Modèles")


def pages_below(pages: Mapping[tuple[str, str], Sequence[BaseRoute]]) -> Mount:
    """Pages by name and version of their models, each with the routes it would have at `/`."""
    routers = {names: Router(routes, redirect_slashes=False) for names, routes in pages.items()}

    async def below(scope: Scope, receive: Receive, send: Send) -> None:
        name, _, rest = scope["path"].removeprefix(f"{_OF}/").partition("/")
        version, slash, inner = rest.partition("/")
        router: ASGIApp | None = routers.get((name, version))
        if router is None:
            raise HTTPException(404)
        if not slash:  # what the page asks for is relative
            router = RedirectResponse(f"{quote(version)}/")
        where = {"path": f"/{inner}", "raw_path": quote(f"/{inner}").encode(), "root_path": ""}
        await router({**scope, **where, BELOW: _below(name, version)}, receive, send)

    return Mount(_OF, app=below)


def links(bundles: Sequence[Bundle], shown: Bundle) -> str:
    """The served models as links; nothing if there is one. `shown` is that of this page."""
    if len(bundles) < 2:
        return ""
    up = "./" if shown is bundles[0] else _UP
    entries = []
    for bundle in bundles:
        address = "" if bundle is bundles[0] else f"{_below(bundle.name, bundle.version)[1:]}/"
        current = {"aria_current": "page"} if bundle is shown else {}
        title = Wording.of(bundle).title
        entries.append(tag("a", _ONE.put(title=title, model=bundle.label), href=up + address, **current))
    return f'<nav class="models" {attribute("aria-label", _MODELS)}>{"".join(entries)}</nav>'


def predict_path(bundles: Sequence[Bundle], bundle: Bundle) -> str:
    """Where programs send the rows that this page decides."""
    if bundle is bundles[0]:
        return "/predict"
    return f"/models/{quote(bundle.name, safe='')}/versions/{quote(bundle.version, safe='')}/predict"


def _below(name: str, version: str) -> str:
    return f"{_OF}/{quote(name)}/{quote(version)}"
