"""`GET /openapi.json` and `GET /docs`: the document, and a page of it that needs no other host.

The page is Swagger UI 5.35.0 from the npm package `swagger-ui-dist`, unchanged,
with its licence, in `static/swagger-ui`.
"""

import html
from functools import cache, lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from server.api.body import JSON
from server.errors import NotFound
from server.scoring.served_model import ServedModel
from server.scoring.service import Service

STATIC = Path(__file__).parent / "static"
_FILES = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "docs.css": "text/css",
    "docs.js": "text/javascript",
}
#: The page loads what this server gives it and nothing else, whatever the document says.
_POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="stylesheet" href="docs/docs.css">
</head>
<body>
<header>
<h1>{title}</h1>
<p>Ask <code>/predict</code> for one row; the document below says the rest.</p>
{examples}
</header>
<main id="swagger-ui"></main>
<script src="docs/swagger-ui-bundle.js"></script>
<script type="module" src="docs/docs.js"></script>
</body>
</html>
"""


def docs_routes() -> list[Route]:
    """The document, the page and the page's files."""
    return [
        Route("/openapi.json", openapi),
        Route("/docs", docs),
        Route("/docs/{file}", static_file),
    ]


async def openapi(request: Request) -> Response:
    """`GET /openapi.json`."""
    service: Service = request.app.state.service
    content = _document(service.models[0], service.keys is not None, service.settings.root_path)
    return Response(content, media_type=JSON)


@lru_cache(1)
def _document(model: ServedModel, has_keys: bool, root: str) -> bytes:
    # Imported when it is first asked for: a server that nobody asks need not make it.
    from server.api.openapi import document

    return document(model.bundle, has_keys=has_keys, root=root)


async def docs(request: Request) -> Response:
    """`GET /docs`."""
    from server.api.code_samples import examples

    service: Service = request.app.state.service
    bundle = service.default.bundle
    address = str(request.base_url).rstrip("/")
    shown = "\n".join(
        f"<details{' open' if not position else ''}><summary>{language}</summary>"
        f'<pre data-language="{language}">{html.escape(text)}</pre></details>'
        for position, (language, text) in enumerate(examples(bundle, address).items())
    )
    title = html.escape(f"Hotrow: {bundle.manifest.get('title', bundle.name)}")
    page = _PAGE.format(title=title, examples=shown)
    return Response(page, headers={"Content-Security-Policy": _POLICY}, media_type="text/html")


async def static_file(request: Request) -> Response:
    """One of the page's files."""
    name = request.path_params["file"]
    if name not in _FILES:
        raise NotFound("expected a file of the page, got another name")
    headers = {"Cache-Control": "max-age=86400"}
    return Response(_content(name), headers=headers, media_type=_FILES[name])


@cache
def _content(name: str) -> bytes:
    folder = STATIC / "swagger-ui" if name.startswith("swagger") else STATIC
    return (folder / name).read_bytes()
