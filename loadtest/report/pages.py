"""HTML pages of results, each one file that needs no network."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from loadtest.report.machine import sentence
from loadtest.report.noise import QUIET_SHARE
from loadtest.report.progress import rows
from loadtest.report.result_folder import (
    FLAME_GRAPH_FILE,
    INDEX_FILE,
    SPEEDSCOPE_FILE,
    STACKS_FILE,
    SUMMARY_FILE,
    TIMELINE_FILE,
)

HERE = Path(__file__).parents[1]

_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: Any) -> str:
    """A page of `loadtest/templates`."""
    return _templates.get_template(template).render(**values)


def write_index(summary: Mapping[str, Any], folder: Path) -> None:
    """Write a run's page: its figures, its timeline, its flame graph, and links to every file."""
    files = {
        "Locust's report": "locust.html",
        "Locust's figures (CSV)": "locust_stats.csv",
        "flame graph (SVG)": FLAME_GRAPH_FILE,
        "speedscope file, for speedscope.app": SPEEDSCOPE_FILE,
        "raw stacks, for flamegraph.pl or inferno": STACKS_FILE,
        "all figures and the environment (JSON)": SUMMARY_FILE,
    }
    page = render(
        "index.html",
        summary=summary,
        rows=rows(summary["totals"]),
        quiet_share=QUIET_SHARE,
        machine=sentence(summary["environment"]),
        files={label: file for label, file in files.items() if (folder / file).exists()},
        flame_graph=FLAME_GRAPH_FILE if (folder / FLAME_GRAPH_FILE).exists() else None,
        timeline=TIMELINE_FILE if (folder / TIMELINE_FILE).exists() else None,
    )
    (folder / INDEX_FILE).write_text(page)


def picture(file: Path) -> str:
    """A PNG as the address of an image that is part of the page."""
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
