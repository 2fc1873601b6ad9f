"""`python -m tests.support.cut_off_scenario FOLDER`: what people run, with no network, with what came."""

import http.client
import json
import socket
import sys
from pathlib import Path
from typing import Any

from loadtest.harness.subject import free_port, python, running
from tests.support.bundles import CREDIT
from tests.support.cut_off import cut_off
from tests.support.servers import address, run, serving

ROW = {"AMT_INCOME_TOTAL": 168000, "AMT_CREDIT": 600000, "AGE_YEARS": 44, "EXT_SOURCE_2": 0.61}


def ask(url: str, path: str) -> int:
    """The status of a row that is posted, or of a page that is read."""
    connection = http.client.HTTPConnection(*address(url), timeout=60)
    posted = path in ("/predict", "/explain")
    headers = {"Content-Type": "application/json"}
    connection.request("POST" if posted else "GET", path, json.dumps(ROW) if posted else None, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def listening() -> set[str]:
    """The addresses at which this network is listened to; /proc/net/tcp has them as proc(5) says."""
    lines = [
        line.split()
        for file in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{file}").read_text().splitlines()
    ]
    local = [words[1].split(":")[0] for words in lines if words[3] == "0A"]
    return {
        socket.inet_ntoa(bytes.fromhex(address)[::-1]) if len(address) == 8 else address for address in local
    }


def main(folder: Path) -> None:
    """The server, the page and the batch command."""
    cut_off()
    found: dict[str, list[Any]] = {}
    with serving(CREDIT, folder, "--workers", "2") as subject:
        addresses = listening()
        found["server"] = [ask(subject.url, path) for path in ("/predict", "/explain", "/docs", "/metrics")]
    port = free_port()
    command = python("-m", "ui", "--port", str(port), "--log-dir", str(folder / "ui-logs"))
    with running("ui", command, f"http://127.0.0.1:{port}", "/readyz") as subject:
        addresses |= listening()
        found["ui"] = [ask(subject.url, path) for path in ("/", "/predict", "/explain")]
    (folder / "rows.csv").write_text("AMT_INCOME_TOTAL,AMT_CREDIT,AGE_YEARS\n168000,600000,44\n")
    scored = run(
        "-m", "server.batch", str(folder / "rows.csv"), str(folder / "scored.csv"), "--allow-missing"
    )  # fmt: skip
    sys.stderr.write(scored.stderr)
    found["batch"] = [scored.returncode]
    found["listening"] = sorted(addresses)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
