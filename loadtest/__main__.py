"""`python -m loadtest`: load the server, record it, measure it, compare."""

import importlib
from collections.abc import Sequence
from importlib.util import find_spec

from server.cli import CommandParser, run
from server.errors import NotInstalled

#: Each command is a module of a folder below, with `add_options(parser)` and `main(options)`.
COMMANDS = {
    "run": "load the server with Locust, record it with py-spy, write a folder of results",
    "compare": "two runs: what differs beyond the noise, and in which functions",
    "same-code": "whether compare finds no difference where there is none, and one that is planted",
    "bench": "CPU per request and latency beside other servers, in one run",
    "bench batch": "the batch command beside the script most people write",
    "bench compiled": "compiled trees beside ONNX Runtime and the forest's own library, bits compared",
    "bench export": "exact graphs beside LightGBM, XGBoost and the stock converter",
    "bench exporting": "seconds and memory of the export of small and of large models",
    "bench latency": "p50 and p99 with the log, without it and busy polling, beside raw ASGI and nginx",
    "bench log": "what reports of a long log take",
    "bench page": "from a slider of the page to the verdict on screen",
    "bench pipelines": "a row through a pipeline beside the booster at its end alone",
    "bench ray": "what Ray Serve's way to a replica costs",
    "bench reasons": "what reasons cost beside the answer alone, one row and many",
    "bench single": "one row by compiled trees beside ONNX Runtime, bits compared",
    "bench rows": "what many rows in one request, and reasons, cost a client",
    "open": "requests at a fixed rate, latency from the intended send time",
    "sweep": "latency against rate up to saturation",
    "memory": "what the server keeps under load, with memray",
    "start": "seconds until a server is ready, and the memory of its processes at rest",
    "pieces": "what the parts of one response, and the guards on the wire, cost in process",
    "overhead": "what metrics and log add to a response, both on and both off in turn",
    "simulate": "what a number of replicas does at a rate, some of them failing",
    "faults": "kill, fill, flood and feed it nonsense, and keep records of what clients see",
    "soak": "load for half an hour with faults in between: memory, descriptors, records",
    "gate": "fail if a request has become dearer than the committed figure allows",
}
#: Of a command of one word; that of `bench WHAT` is `bench.WHAT`.
MODULES = {
    "run": "loop.run",
    "compare": "loop.compare",
    "same-code": "loop.same_code",
    "bench": "bench.servers",
    "open": "latency.fixed_rate",
    "sweep": "latency.sweep",
    "memory": "loop.memory",
    "start": "capacity.start",
    "pieces": "bench.pieces",
    "overhead": "bench.overhead",
    "simulate": "capacity.simulate",
    "faults": "faults.command",
    "soak": "faults.soak",
    "gate": "bench.gate",
}
#: What a command starts as a process of its own, and so does not import.
STARTED = {"run": "locust", "same-code": "locust", "memory": "memray", "bench": "lightgbm"}


def main(arguments: Sequence[str]) -> int:
    """Parse the command and its options, and run it."""
    words = 2 if " ".join(arguments[:2]) in COMMANDS else 1
    asked = " ".join(arguments[:words])
    parser = CommandParser("python -m loadtest", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # Only the command that is asked for is imported: each has heavy libraries of its own.
    for name, meaning in COMMANDS.items():
        command = commands.add_parser(name, help=meaning, description=meaning)
        if name == asked:
            module = importlib.import_module(f"loadtest.{MODULES.get(name) or name.replace(' ', '.')}")
            module.add_options(command)
    options = parser.parse_args([asked, *arguments[words:]] if asked else [])
    if options.command in STARTED and find_spec(STARTED[options.command]) is None:
        raise NotInstalled(STARTED[options.command])
    code: int = module.main(options)
    return code


if __name__ == "__main__":
    run(main)
