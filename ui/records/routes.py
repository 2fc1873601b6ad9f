"""The routes of looked-up decisions, behind the page's login."""

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.errors import Problem
from ui.cases.decide import case_number
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


class Desk:
    """The calls of the page's tab; a refusal is told in the answer, never raised.

    `found` gives the HTML of a number in a language, `reviewed` takes what somebody (the second
    argument) says of a decision, and gives its id.
    """

    def __init__(
        self,
        found: Callable[[str, Language], Awaitable[str]],
        reviewed: Callable[[Any, str], Awaitable[str]],
    ) -> None:
        self._found, self._reviewed = found, reviewed

    async def look_up(self, asked: Any, _: str) -> dict[str, Any]:
        """`{"number", "language"}` to what was found, as HTML."""
        given = asked if isinstance(asked, dict) else {}
        return await self._shown(case_number(given.get("number")), given)

    async def review(self, asked: Any, user: str) -> dict[str, Any]:
        """What a person says of a decision, to the decision with it."""
        try:
            id_ = await self._reviewed(asked, user)
        except Problem as problem:
            return {"problem": problem.detail}
        return await self._shown(id_, asked)

    async def _shown(self, number: str, given: dict[str, Any]) -> dict[str, Any]:
        try:
            html = await self._found(number, language_of(given.get("language")))
        except Problem as problem:
            return {"problem": problem.detail}
        return {"html": html}
