"""`python -m tests.cut_off_scenario FOLDER`: what people run, without a network; prints what came of it."""

import http.client
import json
import sys
from pathlib import Path

from loadtest.subject import free_port, python, running
from tests.bundles import CREDIT
from tests.cut_off import cut_off
from tests.servers import address, run, serving

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


def main(folder: Path) -> None:
    """The server, the page, and the commands that read files."""
    cut_off()
    found = {}
    with serving(CREDIT, folder, "--workers", "2") as subject:
        found["server"] = [ask(subject.url, path) for path in ("/predict", "/explain", "/docs", "/metrics")]
    port = free_port()
    command = python("-m", "ui", "--port", str(port), "--log-dir", str(folder / "ui-logs"))
    with running("ui", command, f"http://127.0.0.1:{port}", "/readyz") as subject:
        found["ui"] = [ask(subject.url, path) for path in ("/", "/predict", "/explain")]
    (folder / "rows.csv").write_text("AMT_INCOME_TOTAL,AMT_CREDIT,AGE_YEARS\n168000,600000,44\n")
    for name, arguments in {
        "batch": ("server.batch", str(folder / "rows.csv"), str(folder / "scored.csv")),
        "export": ("export", str(CREDIT), "--out", str(folder / "again")),
    }.items():
        done = run("-m", *arguments)
        found[name] = [done.returncode]
        sys.stderr.write(done.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
