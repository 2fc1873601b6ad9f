"""The commands by name: the module each runs, what it does, the libraries it needs beyond the server's."""

from typing import NamedTuple


class Command(NamedTuple):
    """A word after `hotrow`."""

    module: str
    what: str
    #: The extra of the package that brings what it needs, "" if the server's set does.
    extra: str = ""
    #: What it imports of that.
    libraries: tuple[str, ...] = ()
    #: Whether it may import modules of yours from the folder you are in: classes of a pickle, say.
    imports_yours: bool = False


COMMANDS = {
    "serve": Command("server", "the API: hotrow serve MODEL …"),
    "ui": Command(
        "ui", "the API and the page: hotrow ui MODEL …", "ui", ("gradio", "markdown_it", "lightgbm")
    ),
    "models": Command("server.models", "check, publish and roll back what a running server serves"),
    "keys": Command("server.keys", "keys for callers"),
    "grpc": Command(
        "server.grpc", "the Open Inference Protocol over gRPC, beside a server", "grpc", ("grpc",)
    ),
    "export": Command(
        "export", "a model file to a bundle", "export", ("onnx", "onnxmltools", "sklearn", "lightgbm"), True
    ),
    "train": Command(
        "train", "a table to a bundle and a report", "train", ("lightgbm", "optuna", "polars"), True
    ),
    "batch": Command("server.batch", "a file with the answers added", "batch", ("polars", "rich")),
    "report": Command(
        "monitoring report", "a report of the prediction log", "monitoring", ("duckdb", "polars")
    ),
    "drift": Command("monitoring drift", "what has drifted in a log", "monitoring", ("duckdb", "polars")),
    "replay": Command("monitoring replay", "a log scored again", "monitoring", ("duckdb", "polars")),
    "verify-log": Command(
        "monitoring verify-log", "whether a log is whole", "monitoring", ("duckdb", "polars")
    ),
    "erase": Command("monitoring erase", "rows taken out of a log", "monitoring", ("duckdb", "polars")),
    "find": Command("monitoring find", "the lines of an id or a caller", "monitoring", ("duckdb", "polars")),
    "challenge": Command(
        "monitoring challenge", "what a challenger would have cost", "monitoring", ("duckdb", "polars")
    ),
    "outcomes": Command("monitoring outcomes", "outcomes that came", "monitoring", ("duckdb", "polars")),
    "performance": Command(
        "monitoring performance", "how good scores were", "monitoring", ("duckdb", "polars")
    ),
    "fairness": Command("monitoring fairness", "decisions by group", "monitoring", ("duckdb", "polars")),
    "simulate-month": Command(
        "monitoring simulate-month", "a month with a fault to find", "monitoring", ("duckdb", "polars")
    ),
    "loadtest": Command("loadtest", "load, record, measure, break", "loadtest", ("locust", "rich")),
}
#: Those that this package answers itself.
OWN = {
    "doctor": "what is installed, and what is missing for which command",
    "completion": 'completion for a shell: eval "$(hotrow completion bash)"',
}
