"""The bench's figures as tables, held against what the project promises."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from loadtest.harness.percentiles import LABELS as PERCENTILE_LABELS
from loadtest.report.noise import QUIET_SHARE
from loadtest.report.terminal import console, print_machine, print_table, print_target

HOTROW = "hotrow"
LABELS = {
    "hotrow": "Hotrow: scored, metrics and log on",
    "asgi_hello": "raw ASGI hello world on uvicorn",
    "starlette_hello": "Starlette hello world",
    "fastapi_lightgbm": "FastAPI + pandas + LightGBM",
    "fastapi_onnx": "FastAPI + numpy + ONNX Runtime",
    "robyn": "Robyn + numpy + ONNX Runtime",
    "blacksheep": "BlackSheep + numpy + ONNX Runtime",
    "nginx": "nginx, a constant response to the same request",
}
PERCENTILES = ("p50_us", "p99_us", "p999_us", "max_us")


#: What the project promises at most of our CPU per request, over the peer's.
TARGETS = {
    "asgi_hello": 0.65,
    "starlette_hello": 0.80,
    "fastapi_lightgbm": 1 / 45,
    "fastapi_onnx": 1 / 7,
    "robyn": 1 / 2,
    "blacksheep": 1 / 2,
}
#: Our cost over what nothing can go below: HTTP over the kernel's sockets, and the model.
FLOOR_TIMES = 1.3
#: The same for latency at a fixed rate, over that of the raw ASGI hello world.
LATENCY_TARGETS = {"p99_us": 1.0, "p999_us": 1.0}


def print_report(document: Mapping[str, Any]) -> None:
    """Print the tables, each target with whether it is met, and the machine."""
    _print_cpu(document["details"]["rounds"])
    cpu = document["cpu_us_per_request"]
    for peer, at_most in TARGETS.items():
        if peer in cpu:
            print_target(f"CPU over that of {LABELS[peer]}", cpu[HOTROW] / cpu[peer], at_most)
    if "bare_run_us" in document:
        run = document["bare_run_us"]
        floor = cpu["nginx"] + run
        console.print(
            f"The floor: nginx's response and the bare run of the model, {run:.1f} us: {floor:.1f} us."
        )
        print_target("CPU over that floor", cpu[HOTROW] / floor, FLOOR_TIMES)
    runs = document["details"]["open_loop"]
    if runs:
        _print_latencies(runs)
        for key, at_most in LATENCY_TARGETS.items():
            ratio = runs[HOTROW]["corrected"][key] / runs["asgi_hello"]["corrected"][key]
            print_target(f"{PERCENTILE_LABELS[key]} over that of raw ASGI", ratio, at_most)
        for name, run in runs.items():
            if run["limited"]:
                console.print(
                    f"Not to be trusted: at the fixed rate of {name} the generator itself was the limit, "
                    f"{run['late']['p99_us']:,.0f} us late at p99, with "
                    f"{run['processor_share']:.0%} of a core."
                )
    others = document["details"]["others_cpu_share"]
    if others > QUIET_SHARE:
        console.print(f"Not to be trusted: other work took {others:.0%} of the machine.")
    print_machine(document["environment"])


def _print_cpu(rounds: Mapping[str, Any]) -> None:
    ours = float(np.median([r["cpu_us_per_request"] for r in rounds[HOTROW]]))
    rows = []
    for name, loads in rounds.items():
        cpu = [load["cpu_us_per_request"] for load in loads]
        rows.append(
            (
                LABELS[name],
                f"{np.median(cpu):,.1f}",
                f"{min(cpu):,.1f} to {max(cpu):,.1f}",
                f"{np.median(cpu) / ours:,.2f}",
                f"{np.median([load['requests_per_second'] for load in loads]):,.0f}",
            )
        )
    headings = ("server", "CPU us", "spread", "times ours", "requests/s")
    print_table("Server CPU for each request, median of the rounds", headings, rows)


def _print_latencies(runs: Mapping[str, Any]) -> None:
    rate = runs[HOTROW]["rate"]
    print_table(
        f"Latency at {rate:,.0f} requests/s, half of our peak, from the intended send time",
        ("server", *(PERCENTILE_LABELS[key] for key in PERCENTILES), "achieved/s"),
        (
            (
                LABELS[name],
                *(f"{run['corrected'][key]:,.0f} us" for key in PERCENTILES),
                f"{run['achieved']:,.0f}",
            )
            for name, run in runs.items()
        ),
    )
