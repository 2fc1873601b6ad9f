"""Request bodies for a load: a bundle's golden rows, as a client would send them."""

import urllib.request
from pathlib import Path

import numpy as np
import orjson

from loadtest.harness.traffic import Traffic
from server.model.bundle import Bundle
from server.model.schema import Matrix


def golden_bodies(bundle: Bundle) -> list[bytes]:
    """The JSON of every golden row."""
    return [orjson.dumps(golden.fields) for golden in bundle.golden_rows()]


def golden_matrix(bundle: Bundle, rows: int) -> Matrix:
    """`rows` different rows, float64 [rows, F]: golden ones whose numbers are moved a little."""
    random = np.random.default_rng(0)
    golden = np.array([np.frombuffer(bundle.schema.encode(row.fields)) for row in bundle.golden_rows()])
    matrix = golden[random.integers(0, len(golden), rows)]
    for i, feature in enumerate(bundle.schema.features):
        if feature.kind == "number":
            low, high = feature.range
            matrix[:, i] = np.clip(matrix[:, i] * random.uniform(0.9, 1.1, rows), low, high)
    return matrix


def bodies_of_server(model_url: str, directory: Path | None = None) -> list[bytes]:
    """Bodies that a running server accepts: a bundle's golden rows, or drawn from its features."""
    if directory is not None:
        return golden_bodies(Bundle.load(directory))
    with urllib.request.urlopen(model_url, timeout=10) as response:
        features = orjson.loads(response.read())["features"]
    return [prepared.body for prepared in Traffic(features, bad_share=0.0).draw(1000)]


def http_requests(bodies: list[bytes], host: str, path: str = "/predict") -> list[bytes]:
    """The bytes of a keep-alive POST for each body."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
    return [head.encode() + b"%d\r\n\r\n%b" % (len(body), body) for body in bodies]


def wrk_script(bodies: list[bytes], file: Path) -> Path:
    """A wrk script that posts the bodies in turn."""
    quoted = ",\n".join(f"[==[{body.decode()}]==]" for body in bodies)
    file.write_text(
        f"""local bodies = {{
{quoted}
}}
local requests, next_request = {{}}, 0
init = function(args)
  local headers = {{ ["Content-Type"] = "application/json" }}
  for i, body in ipairs(bodies) do requests[i] = wrk.format("POST", nil, headers, body) end
end
request = function()
  next_request = next_request % #requests + 1
  return requests[next_request]
end
"""
    )
    return file


def paced(script: Path, mean_ms: float) -> None:
    """Have a wrk script pause before each request, for up to twice as long as the mean."""
    with script.open("a") as file:
        file.write(f"delay = function() return math.random() * {2 * mean_ms:g} end\n")
