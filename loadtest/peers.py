"""What Hotrow is compared with, each written the way its users write it.

Run one as `python -m loadtest.peers NAME PORT BUNDLE`. This module is the only
one that knows FastAPI and pandas; they are no part of the product.
"""

import json
import os
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


def asgi_hello(_: Path) -> ASGIApp:
    """A raw ASGI app with a constant answer: what uvicorn itself costs."""

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
    import pandas
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
    import numpy as np
    import onnxruntime
    from fastapi import FastAPI

    manifest = json.loads((bundle / "bundle.json").read_text())
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"))
    row_type, encode = _pydantic_row(manifest["features"])
    threshold = manifest["decision"]["threshold"]
    app = FastAPI()

    @app.post("/predict")
    async def predict(row: row_type) -> dict[str, Any]:  # type: ignore[valid-type]
        features = np.array([list(encode(row).values())], dtype=np.float64)
        margin = session.run(["margin"], {"features": features})[0][0, 0]
        probability = float(1.0 / (1.0 + np.exp(-margin)))
        return {"probability": probability, "decision": "accept" if probability < threshold else "refuse"}

    return app


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
            bounds = {"ge": feature.get("minimum"), "le": feature.get("maximum")}
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


PEERS: dict[str, Callable[[Path], ASGIApp]] = {
    "asgi_hello": asgi_hello,
    "starlette_hello": starlette_hello,
    "fastapi_lightgbm": fastapi_lightgbm,
    "fastapi_onnx": fastapi_onnx,
}


def main(name: str, port: str, bundle: str) -> None:
    """Serve one peer as `uvicorn --no-access-log` does."""
    os.environ["OMP_NUM_THREADS"] = "1"
    uvicorn.run(
        PEERS[name](Path(bundle)),
        port=int(port),
        access_log=False,
        loop="uvloop",
        http="httptools",
        log_level="error",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
