"""The routes of looked-up decisions, behind the page's login."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ui.records.pages import Language

#: Of a document that has its own style and loads nothing.
PAPER_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


def language_of(text: Any) -> Language:
    """A language of the page, English for anything else."""
    return "fr" if text == "fr" else "en"


def paper_routes(made: Callable[[str, str, Language], Awaitable[str]]) -> list[Route]:
    """`GET /page/letter` and `GET /page/record`: `made` from the kind, `id` and `language`."""

    def route(kind: str) -> Route:
        async def paper(request: Request) -> Response:
            asked = request.query_params
            content = await made(kind, asked.get("id", ""), language_of(asked.get("language")))
            return Response(content, media_type="text/html")

        return Route(f"/page/{kind}", paper)

    return [route("letter"), route("record")]
