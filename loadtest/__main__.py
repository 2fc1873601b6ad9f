"""`python -m loadtest`: load the server, record it, measure it, compare."""

import importlib
from collections.abc import Sequence
from importlib.util import find_spec

from server.cli import CommandParser, run
from server.errors import NotInstalled

#: Each command is a module of a folder below (`MODULES`), with `add_options(parser)` and `main(options)`.
COMMANDS = {
    "run": "load the server with Locust, record it with py-spy, write a folder of results",
    "compare": "two runs: what differs beyond the noise, and in which functions",
    "same-code": "whether compare finds no difference where there is none, and one that is planted",
    "bench": "CPU per request and latency beside other servers, in one run; or bench "
    "batch | compiled | export | exporting | latency | log | page | pipelines | ray | reasons | rows",
    "open": "requests at a fixed rate, latency from the intended send time",
    "sweep": "latency against rate up to saturation",
    "memory": "what the server keeps under load, with memray",
    "start": "seconds until a server is ready, and the memory of its processes at rest",
    "pieces": "what the parts of one response cost in process",
    "overhead": "what metrics and log add to a response, both on and both off in turn",
    "guards": "what the guards on the wire add to a well-formed request",
    "simulate": "what a number of replicas does at a rate, some of them failing",
    "faults": "kill, fill, flood and feed it nonsense, and keep records of what clients see",
    "soak": "load for half an hour with faults in between: memory, descriptors, records",
    "gate": "fail if a request has become dearer than the committed figure allows",
}
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
    "guards": "bench.guards",
    "simulate": "capacity.simulate",
    "faults": "faults.command",
    "soak": "faults.soak",
    "gate": "bench.gate",
}
#: What else `bench` can measure, by its next argument: modules of `loadtest.bench` with `main(arguments)`.
BENCHES = {
    "batch": "the batch command beside the script most people write",
    "export": "exact graphs beside LightGBM, XGBoost and the stock converter",
    "exporting": "seconds and memory of the export of small and of large models",
    "latency": "p50 and p99 with the log, without it and busy polling, beside raw ASGI and nginx",
    "log": "what reports of a long log take",
    "pipelines": "a row through a pipeline beside the booster at its end alone",
    "page": "from a slider of the page to the verdict on screen",
    "ray": "what Ray Serve's way to a replica costs",
    "reasons": "what reasons cost beside the answer alone, one row and many",
    "compiled": "compiled trees beside ONNX Runtime and the forest's own library, bits compared",
    "rows": "what many rows in one request, and reasons, cost a client",
}
#: What a command starts as a process of its own, and so does not import.
STARTED = {"run": "locust", "same-code": "locust", "memory": "memray"}


def main(arguments: Sequence[str]) -> int:
    """Parse the command and its options, and run it."""
    if list(arguments[:1]) == ["bench"] and arguments[1:2] and arguments[1] in BENCHES:
        return int(importlib.import_module(f"loadtest.bench.{arguments[1]}").main(arguments[2:]))
    parser = CommandParser("python -m loadtest", description=__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # Only the command that is asked for is imported: each has heavy libraries of its own.
    for name, meaning in COMMANDS.items():
        command = commands.add_parser(name, help=meaning, description=meaning)
        if name in arguments[:1]:
            module = importlib.import_module(f"loadtest.{MODULES[name]}")
            module.add_options(command)
    options = parser.parse_args(arguments)
    if options.command in STARTED and find_spec(STARTED[options.command]) is None:
        raise NotInstalled(STARTED[options.command])
    code: int = module.main(options)
    return code


if __name__ == "__main__":
    run(main)
