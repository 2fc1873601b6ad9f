"""What Hotrow is compared with, each written the way its users write it.

Run one as `python -m loadtest.bench.peers NAME PORT BUNDLE`. This module is the only
one that knows FastAPI and pandas; they are no part of the product.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from loadtest.harness.subject import LoadTestError


def asgi_hello(_: Path) -> ASGIApp:
    """A raw ASGI app with a constant response: what uvicorn itself costs."""

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"11")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"Hello world"})

    return app


def starlette_hello(_: Path) -> ASGIApp:
    """Starlette's first example."""

    async def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse("Hello world")

    return Starlette(routes=[Route("/", hello)])


def fastapi_lightgbm(bundle: Path) -> ASGIApp:
    """FastAPI + pydantic + pandas + LightGBM: what most people write."""
    import lightgbm
    import pandas  # type: ignore[import-untyped]  # its stubs are a package for this line alone
    from fastapi import FastAPI

    manifest = json.loads((bundle / "bundle.json").read_text())
    booster = lightgbm.Booster(model_file=str(bundle / "model.txt"))
    row_type, encode = _pydantic_row(manifest["features"])
    threshold = manifest["decision"]["threshold"]
    app = FastAPI()

    @app.post("/predict")
    def predict(row: row_type) -> dict[str, Any]:  # type: ignore[valid-type]
        frame = pandas.DataFrame([encode(row)])
        probability = float(booster.predict(frame)[0])
        return {"probability": probability, "decision": "accept" if probability < threshold else "refuse"}

    return app


def fastapi_onnx(bundle: Path) -> ASGIApp:
    """FastAPI + pydantic + numpy + ONNX Runtime: what people write who have read on."""
    from fastapi import FastAPI

    manifest = json.loads((bundle / "bundle.json").read_text())
    score = _scorer(bundle, manifest)
    row_type, encode = _pydantic_row(manifest["features"])
    app = FastAPI()

    @app.post("/predict")
    async def predict(row: row_type) -> dict[str, Any]:  # type: ignore[valid-type]
        return score(list(encode(row).values()))

    return app


def _scorer(bundle: Path, manifest: dict[str, Any]) -> Callable[[list[float]], dict[str, Any]]:
    """The numbers of a row to a response, by numpy and ONNX Runtime."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Without it the pool leaves the processor it is pinned to, and is measured there.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), options)
    threshold = manifest["decision"]["threshold"]

    def score(numbers: list[float]) -> dict[str, Any]:
        features = np.array([numbers], dtype=np.float64)
        margin = session.run(["margin"], {"features": features})[0][0, 0]
        probability = float(1.0 / (1.0 + np.exp(-margin)))
        return {"probability": probability, "decision": "accept" if probability < threshold else "refuse"}

    return score


def _pydantic_row(features: list[dict[str, Any]]) -> tuple[type, Callable[[Any], dict[str, float]]]:
    """A pydantic model of the bundle's features, and the codes the booster was trained on."""
    from typing import Literal

    from pydantic import Field, create_model

    fields: dict[str, Any] = {}
    for feature in features:
        if feature["kind"] == "category":
            annotation: Any = Literal[tuple(feature["categories"])]
            fields[feature["name"]] = (annotation | None, None)
        else:
            bounds: Any = {"ge": feature.get("minimum"), "le": feature.get("maximum")}
            fields[feature["name"]] = (float | None, Field(None, **bounds))
    codes = {f["name"]: {c: i for i, c in enumerate(f.get("categories", ()))} for f in features}

    def encode(row: Any) -> dict[str, float]:
        values = row.model_dump()
        return {
            name: float("nan")
            if value is None
            else float(codes[name].get(value, value) if codes[name] else value)
            for name, value in values.items()
        }

    return create_model("Row", **fields), encode


def robyn(bundle: Path) -> Callable[[int], None]:
    """Robyn with a JSON body, numpy and ONNX Runtime."""
    # Its environment is another: to the type checker it does not exist.
    from robyn import Request as RobynRequest  # type: ignore[import-not-found]
    from robyn import Robyn

    score = _plain_scorer(bundle)
    app = Robyn(__file__)

    def predict(request: RobynRequest) -> dict[str, Any]:
        return score(request.json())

    app.post("/predict")(predict)
    return lambda port: app.start(host="127.0.0.1", port=port)


def blacksheep(bundle: Path) -> ASGIApp:
    """BlackSheep with a JSON body, numpy and ONNX Runtime."""
    from blacksheep import Application  # type: ignore[import-not-found]  # as above
    from blacksheep import Request as BlackSheepRequest
    from blacksheep import json as response

    score = _plain_scorer(bundle)
    app = Application()

    async def predict(request: BlackSheepRequest) -> Any:
        return response(score(await request.json()))

    app.router.post("/predict")(predict)
    served: ASGIApp = app
    return served


def _plain_scorer(bundle: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A row to a response as `fastapi_onnx` has it; nothing is validated."""
    manifest = json.loads((bundle / "bundle.json").read_text())
    scored = _scorer(bundle, manifest)
    names = [feature["name"] for feature in manifest["features"]]
    codes = [{c: i for i, c in enumerate(f.get("categories", ()))} for f in manifest["features"]]

    def score(row: dict[str, Any]) -> dict[str, Any]:
        values = [row.get(name) for name in names]
        return scored(
            [
                float("nan") if value is None else code.get(value, value)
                for value, code in zip(values, codes, strict=True)
            ]
        )

    return score


PEERS: dict[str, Callable[[Path], Any]] = {
    "asgi_hello": asgi_hello,
    "starlette_hello": starlette_hello,
    "fastapi_lightgbm": fastapi_lightgbm,
    "fastapi_onnx": fastapi_onnx,
    "robyn": robyn,
    "blacksheep": blacksheep,
}
#: These have pins of their own and live in an environment of their own.
APART = ("robyn", "blacksheep")
APART_PYTHON = Path(".venv-peers/bin/python")


def is_hello(name: str) -> bool:
    """Whether a peer answers `GET /` with a constant."""
    return name.endswith("_hello")


def hello_request() -> bytes:
    """The request that the hello worlds answer, as bytes."""
    return b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def command(name: str, port: int, bundle: Path) -> list[str]:
    """The command line of one peer; raises `LoadTestError` if its environment is missing."""
    executable = sys.executable
    if name in APART:
        if not APART_PYTHON.exists():
            raise LoadTestError(
                f"expected {name} in the environment {APART_PYTHON.parents[1]}, got none: run `make peers`"
            )
        executable = str(APART_PYTHON)
    return [executable, "-m", "loadtest.bench.peers", name, str(port), str(bundle)]


def main(name: str, port: str, bundle: str) -> None:
    """Serve one peer as `uvicorn --no-access-log` does, Robyn as it does itself."""
    app = PEERS[name](Path(bundle))
    if name == "robyn":
        sys.argv[1:] = ["--log-level", "ERROR"]
        app(int(port))
        return
    uvicorn.run(app, port=int(port), access_log=False, loop="uvloop", http="httptools", log_level="error")


if __name__ == "__main__":
    main(*sys.argv[1:])
