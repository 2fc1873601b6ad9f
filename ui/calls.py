"""What the page's scripts ask for, beside Gradio: plain routes under `/page/`, without state."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from server.api.body import check_json, read_body
from server.errors import Problem
from server.model.json_text import object_or_empty
from server.model.schema import Row
from server.scoring.served_model import ServedModel
from server.scoring.service import Service
from ui.access.login import USER
from ui.access.surface import BARE_POLICY, Confined
from ui.cases.decide import Decider, case_number, read_form
from ui.cases.grids import Grids
from ui.records.pages import Language
from ui.records.register import Register
from ui.records.routes import PAPER_POLICY, language_of, paper_routes
from ui.script import later
from ui.several import predict_path
from ui.tabs.changes import Changes
from ui.tabs.many import many_routes
from ui.tabs.model import ModelTab
from ui.tabs.operations import Operations
from ui.tabs.reference import ReferencePlots
from ui.tabs.studio import Studio
from ui.tabs.what_if import WhatIf, cases_html, sliders_html
from ui.tabs.why import Why
from ui.words.problems import told

#: From the object of a call as it came, and who makes it, to what the script is told.
Answer = Callable[[dict[str, Any], str], Awaitable[dict[str, Any]]]


def call_routes(
    service: Service,
    model: ServedModel,
    register: Register,
    shares: Mapping[str, float],
    grids: Grids,
    guarded: Callable[[ASGIApp], ASGIApp],
) -> list[Route]:
    """The routes of a model's page, behind its login; `shares` are those of `ranked`."""
    order = list(shares)
    calls = {
        **_of_cases(service, model, order, grids),
        **_of_decisions(register),
        **_of_model(service, model, register, shares, grids),
    }
    plain = [Route(f"/page/{name}", _call(service, call), methods=["POST"]) for name, call in calls.items()]
    papers = paper_routes(register.paper)
    routes = [*plain, *many_routes(service, model), Route("/page/scripts/{name}", _script)]
    for route in routes:
        route.app = Confined(guarded(route.app), BARE_POLICY)
    for route in papers:
        route.app = Confined(guarded(route.app), PAPER_POLICY)
    return [*routes, *papers]


def _of_cases(
    service: Service, model: ServedModel, order: Sequence[str], grids: Grids
) -> Mapping[str, Answer]:
    """What is asked of the case in the form."""
    what_if = WhatIf(model.scorer, order, grids)
    why, changes = Why(model), Changes(model, order)
    decider = Decider(model, predict_path(service.bundles, model.bundle))

    async def decide(form: dict[str, Any], user: str) -> dict[str, Any]:
        return decider.decide(form, user)._asdict()

    async def suppose(form: dict[str, Any], _: str) -> dict[str, Any]:
        supposed = what_if.suppose(read_form(form).texts)
        return {"html": supposed.html, "said": supposed.said, "whole": supposed.row is not None}

    async def sliders(_: Any, __: str) -> dict[str, Any]:
        return {"html": sliders_html(model.bundle, order, grids), "cases": cases_html(model.scorer)}

    def of_row(told_of: Callable[[Row], Awaitable[dict[str, Any]]]) -> Answer:
        """What is told of the row in the form, nothing where it holds none."""

        async def answer(form: dict[str, Any], _: str) -> dict[str, Any]:
            row = what_if.suppose(read_form(form).texts).row
            return {"html": ""} if row is None else await told_of(row)

        return answer

    async def flip(row: Row) -> dict[str, Any]:
        html, drawn = await what_if.flip(row)
        return {"html": await changes.html(row) + html, **drawn}

    async def beside(row: Row) -> dict[str, Any]:
        return {"html": await changes.beside(row)}

    async def reasons(row: Row) -> dict[str, Any]:
        return {"html": why.reasons(row)}

    return {
        "decide": decide,
        "what-if": suppose,
        "sliders": sliders,
        "flip": of_row(flip),
        "changes": of_row(beside),
        "reasons": of_row(reasons),
    }


def _of_decisions(register: Register) -> Mapping[str, Answer]:
    """What is asked of a decision of the log; a refusal is told in the answer, never raised."""

    async def shown(
        of: Any, asked: dict[str, Any], html: Callable[[str, Language], Awaitable[str]]
    ) -> dict[str, Any]:
        try:
            return {"html": await html(case_number(of), language_of(asked.get("language")))}
        except Problem as problem:
            return told(problem.detail)

    async def look_up(asked: dict[str, Any], _: str) -> dict[str, Any]:
        """`{"number", "language"}` to what was found."""
        return await shown(asked.get("number"), asked, register.found_html)

    async def person(asked: dict[str, Any], _: str) -> dict[str, Any]:
        """`{"of", "language"}` to what people said of a decision, and the form for what another says."""
        return await shown(asked.get("of"), asked, register.person_html)

    async def review(asked: dict[str, Any], user: str) -> dict[str, Any]:
        """What a person says of a decision, to the decision with it."""
        try:
            id_ = await register.review(asked, user)
        except Problem as problem:
            return told(problem.detail)
        return await look_up({**asked, "number": id_}, user)

    return {"look-up": look_up, "person": person, "review": review}


def _of_model(
    service: Service, model: ServedModel, register: Register, shares: Mapping[str, float], grids: Grids
) -> Mapping[str, Answer]:
    """What is asked of the model at work, whatever stands in the form."""
    tab = ModelTab(model.scorer.predictor, shares, grids)
    reference = ReferencePlots(model.bundle, list(shares))
    operations = Operations(service, model.bundle, register.overrides)
    studio = Studio(service, model.bundle) if model.bundle.task == "binary" else None

    async def limits(_: Any, __: str) -> dict[str, Any]:
        return await studio.told() if studio is not None else {}

    async def look(_: Any, __: str) -> dict[str, Any]:
        return {"html": await operations.look()}

    async def what_it_is(_: Any, __: str) -> dict[str, Any]:
        return {"html": await tab.html()}

    async def spread(_: Any, __: str) -> dict[str, Any]:
        return {"html": reference.html(await operations.held())}

    return {"studio": limits, "operations": look, "model": what_it_is, "reference": spread}


async def _script(request: Request) -> Response:
    script = later(request.path_params["name"])
    if script is None:
        raise HTTPException(404)
    return Response(script, media_type="text/javascript")


def _call(service: Service, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """A route that takes a form and says how long the server worked on it."""

    async def route(request: Request) -> Response:
        check_json(request)
        body = await read_body(request, service.settings.max_body_bytes)
        started_ns = time.perf_counter_ns()
        form = object_or_empty(body)  # it comes from the network: else read as a form without texts
        content = orjson.dumps(await answer(form, request.scope.get(USER, "")))
        milliseconds = (time.perf_counter_ns() - started_ns) / 1e6
        headers = {"Server-Timing": f"page;dur={milliseconds:.3f}", "Cache-Control": "no-store"}
        return Response(content, media_type="application/json", headers=headers)

    return route
