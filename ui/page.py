"""The page: Gradio around the tabs, on the server's own app and port."""

import os

# Read when gradio and huggingface_hub are imported: nothing of ours calls home
# or keeps what was typed in the browser.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Gradio asks matplotlib, where there is one, for its backend in every call; unset, it searches.
os.environ.setdefault("MPLBACKEND", "agg")

from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from server.api.app import livez
from server.explain.importance import ranked
from server.scoring.one_row import Scorer
from server.scoring.served_model import ServedModel
from server.scoring.service import Service
from ui.access.login import Login, Tries
from ui.access.login_file import logins_of
from ui.access.surface import Headed, PageMount
from ui.calls import call_routes
from ui.cases.examples import examples_of
from ui.cases.grids import Grids
from ui.drawing.verdict import verdict_of
from ui.framework import gr
from ui.records.register import Register
from ui.script import first_head, head, read
from ui.several import links, pages_below
from ui.tabs.form import form_html
from ui.tabs.head import TABS, head_html
from ui.tabs.look_up import look_up_html
from ui.tabs.many import many_html
from ui.tabs.what_if import what_if_html
from ui.tabs.why import why_html
from ui.words.labels import Labels
from ui.words.wording import Wording

_FAVICON = Path(__file__).parent / "favicon.svg"

#: Plex Sans comes with Gradio and is served from this host; its file of weight 600
#: lacks letters, so the page has two weights.
_FONT = (gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif")
_MONOSPACE = (gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace")

_OURS: dict[str, Any] = {"apply_default_css": False}


def add_page(app: Starlette) -> Starlette:
    """Mount the page of the first model at `/`, behind the routes the app has, and the others' below."""
    service: Service = app.state.service
    # Inside the first call, the import would keep every other request waiting.
    with suppress(ImportError):
        import_module("matplotlib")
    logins, tries, register = logins_of(service.settings), Tries(), Register(service)

    def routes_of(model: ServedModel) -> list[BaseRoute]:
        return _routes(service, model, register, lambda route: Login(route, logins, tries))

    first, *others = service.models
    below = {(m.bundle.name, m.bundle.version): [*routes_of(m), Route("/livez", livez)] for m in others}
    app.router.routes += [*([pages_below(below)] if below else []), *routes_of(first)]
    return app


def _routes(
    service: Service, model: ServedModel, register: Register, guarded: Callable[[ASGIApp], ASGIApp]
) -> list[BaseRoute]:
    """Everything that the page of one model answers."""
    predictor = model.scorer.predictor
    shares, grids = ranked(predictor), Grids(predictor)
    mounted_in = Starlette()
    gr.mount_gradio_app(
        mounted_in,  # any Starlette will do: FastAPI's own parts are not used
        build(service, model, list(shares)),
        path="/",
        run_history=False,
        show_error=False,
        footer_links=[],
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        favicon_path=str(_FAVICON),
        theme=gr.themes.Base(font=_FONT, font_mono=_MONOSPACE),
        head=head(),
    )
    # Gradio has mounted all of itself at "/"; only what the page needs stays reachable.
    mounted = mounted_in.router.routes.pop()
    assert isinstance(mounted, Mount)
    calls = call_routes(service, model, register, shares, grids, guarded)
    headed = Headed(mounted.app, first_head(Wording.of(model.scorer.bundle).title))
    return [*calls, PageMount(guarded(headed))]


def build(service: Service, model: ServedModel, order: Sequence[str]) -> gr.Blocks:
    """The page of a model: a panel for each tab, and what is called from them."""
    scorer = model.scorer
    words = Wording.of(scorer.bundle)
    blocks: gr.Blocks = gr.Blocks(
        title=f"{words.title.en} · Hotrow", analytics_enabled=False, fill_width=True
    )
    panels: dict[str, Callable[[], object]] = {
        "why": lambda: _html(why_html(), "why.js"),
        "what-if": lambda: _html(what_if_html(scorer.bundle), "what_if.js"),
        "many": lambda: _html(many_html(model, service.settings.max_batch_rows), "many.js"),
        "look-up": lambda: _html(look_up_html(), "look_up.js"),
        "operations": lambda: _shown("operations.js", "operations", ""),
        "model": lambda: _shown("model.js", "model", ""),
    }
    with blocks:
        others = links(service.bundles, scorer.bundle)
        _html(head_html(words.title, scorer.bundle.label, others), "tabs.js", elem_id="header")
        with gr.Column(elem_id="panel-decide", elem_classes="panel-of-tab"):
            _decide(scorer, words, order)
        for name in list(TABS)[1:]:
            with gr.Column(elem_id=f"panel-{name}", elem_classes="panel-of-tab"):
                panels[name]()
    return blocks


def _decide(scorer: Scorer, words: Wording, order: Sequence[str]) -> None:
    with gr.Row(elem_id="columns"):
        _shown("verdict.js", "verdict", verdict_of(scorer.bundle).idle())
        schema, labels = scorer.bundle.schema, Labels.of(scorer.bundle)
        examples = examples_of(scorer.predictor)
        _html(
            form_html(schema, examples, words.case, labels, order, scorer.bundle.context),
            "form.js",
            elem_id="form",
        )


def _html(markup: str, script: str = "", **more: Any) -> gr.HTML:
    """Markup of ours, and the script behind it."""
    return gr.HTML(
        **{"value": "", "markup": markup, **_OURS, **more},
        # The markup is a property, not the template: Gradio runs templates as code.
        html_template="${markup}",
        js_on_load=read(script) if script else None,
    )


def _shown(script: str, identity: str, value: str) -> gr.HTML:
    """A place that a script fills with the value: Gradio would patch it under the feet of the language."""
    return gr.HTML(
        value=value,
        html_template='<div class="shown"></div>',
        js_on_load=read(script),
        **_OURS,
        elem_id=identity,
    )
