"""The page: Gradio around the form and the verdict, on the server's own app and port."""

import os

# Read when gradio and huggingface_hub are imported: nothing of ours calls home
# or keeps what was typed in the browser.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["GRADIO_RUN_HISTORY"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Gradio asks matplotlib, where there is one, for its backend in every call; unset, it searches.
os.environ.setdefault("MPLBACKEND", "agg")

from contextlib import suppress
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.applications import Starlette
from starlette.routing import Mount

from server.scorer import Scorer
from server.service import Service
from ui.decide import Decider, Shown
from ui.examples import examples_of
from ui.form import form_html
from ui.surface import PageMount
from ui.values import texts_of
from ui.wording import Wording

_HERE = Path(__file__).parent
_FAVICON = _HERE / "favicon.svg"

#: Plex Sans comes with Gradio and is served from this host; its file of weight 600
#: lacks letters, so the page has two weights.
_FONT = (gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif")
_MONOSPACE = (gr.themes.LocalFont("IBM Plex Mono", weights=(400,)), "ui-monospace", "monospace")

_OURS: dict[str, Any] = {"apply_default_css": False}


def add_page(app: Starlette) -> Starlette:
    """Mount the page at `/`, behind the routes the app has."""
    service: Service = app.state.service
    # Inside the first call, the import would keep every other request waiting.
    with suppress(ImportError):
        import_module("matplotlib")
    gr.mount_gradio_app(
        app,  # any Starlette will do: FastAPI's own parts are not used
        build(service.default),
        path="/",
        run_history=False,
        show_error=False,
        footer_links=[],
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        favicon_path=str(_FAVICON),
        theme=gr.themes.Base(font=_FONT, font_mono=_MONOSPACE),
        head=f"<style>{(_HERE / 'page.css').read_text()}</style>",
    )
    # Gradio has mounted all of itself at "/"; only what the page needs stays reachable.
    mounted = app.router.routes.pop()
    assert isinstance(mounted, Mount)
    app.router.routes.append(PageMount(mounted.app, service.settings.max_body_bytes))
    return app


def build(scorer: Scorer) -> gr.Blocks:
    """The page of one model."""
    words = Wording.of(scorer.bundle)
    decider = Decider(scorer)

    async def decide(value: Any) -> dict[str, Any]:
        return decider.decide(value)._asdict()

    blocks: gr.Blocks = gr.Blocks(title=f"{words.title} · Hotrow", analytics_enabled=False, fill_width=True)
    with blocks:
        gr.HTML(_header(words.title, scorer.bundle.label), js_on_load=None, **_OURS, elem_id="header")
        with gr.Row(elem_id="columns"):
            verdict = _verdict(decider.idle())
            form = _form(scorer, words.case)
        # Without the queue and as a coroutine: one request, on the loop's thread, no hop.
        # Of submissions while one is under way the last counts; the default drops them.
        form.submit(
            decide,
            form,
            verdict,
            queue=False,
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
    return blocks


def _form(scorer: Scorer, case: str) -> gr.HTML:
    """The form; `form.js` keeps its value, the turn and the text of every field."""
    examples = examples_of(scorer.predictor)
    schema = scorer.bundle.schema
    return gr.HTML(
        value={},
        # The markup is a property, not the template: Gradio runs templates as code.
        html_template="${markup}",
        js_on_load=(_HERE / "form.js").read_text(),
        **_OURS,
        elem_id="form",
        markup=form_html(schema, examples, case),
        examples=[texts_of(schema, example.row) for example in examples],
    )


def _verdict(shown: Shown) -> gr.HTML:
    """The answer; its value is what the page shows."""
    return gr.HTML(
        value=shown._asdict(),
        html_template="${value.html}",
        js_on_load=(_HERE / "verdict.js").read_text(),
        **_OURS,
        elem_id="verdict",
    )


def _header(title: str, model: str) -> str:
    return (
        f'<header class="top"><h1>{escape(title)}</h1>'
        f"<p>Model <strong>{escape(model)}</strong>, served by Hotrow</p></header>"
    )
