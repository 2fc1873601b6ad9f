"""Python's clients: requests|urllib|httpx|aiohttp|curl ADDRESS golden FILE, or … large TIMES."""

import json
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

JSON = {"Content-Type": "application/json"}


def with_urllib(url: str, body: bytes) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, JSON)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def with_requests(url: str, body: bytes) -> tuple[int, bytes]:
    import requests

    answer = requests.post(url, data=body, headers=JSON, timeout=60)
    return answer.status_code, answer.content


def with_httpx(url: str, body: bytes) -> tuple[int, bytes]:
    import httpx

    answer = httpx.post(url, content=body, headers=JSON, timeout=60)
    return answer.status_code, answer.content


def with_curl(url: str, body: bytes) -> tuple[int, bytes]:
    command = ["curl", "--silent", "--show-error", "--http2", "--write-out", "%{http_code}", url]
    command += ["--header", "Content-Type: application/json", "--data-binary", "@-"]
    # Else curl asks first and sends nothing of what is refused.
    command += ["--header", "Expect:"]
    content = subprocess.run(command, input=body, capture_output=True, check=True).stdout
    return int(content[-3:]), content[:-3]


def main(client: str, address: str, task: str, argument: str) -> None:
    """Print the bits of each probability, or the status of each answer."""
    post = globals()[f"with_{client}"]
    if task == "large":
        for _ in range(int(argument)):
            print(post(f"http://{address}/predict", bytes(20_000_000))[0])
            print(post(f"http://{address}/predict/batch", bytes(40_000_000))[0])
        return
    for line in Path(argument).read_bytes().splitlines():
        _, content = post(f"http://{address}/predict", line)
        print(struct.pack(">d", json.loads(content)["probability"]).hex())


if __name__ == "__main__":
    main(*sys.argv[1:])
