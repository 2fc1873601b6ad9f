"""Imports: arrows point to `server`, chains are short, heavy libraries have one home each."""

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

OURS = {"hotrow", "train", "export", "server", "ui", "loadtest", "monitoring", "deploy"}
MAY_IMPORT = {
    "hotrow": set(),
    "server": set(),
    "export": {"server"},
    "ui": {"server"},
    "loadtest": {"server", "export"},
    "monitoring": {"server"},
    "train": {"server", "export", "monitoring"},
    "deploy": {"server"},
}
#: `python -m server.batch` is a command of its own, not the API process.
BATCH = {str(path) for path in Path("server/batch").rglob("*.py")}
#: `python -m server.grpc` too.
GRPC = {str(path) for path in Path("server/grpc").rglob("*.py")}
#: Which folders may import a library; a library that is not named may be imported by all.
HOMES = {
    "lightgbm": {"train", "export", "loadtest"},
    "xgboost": {"export", "loadtest"},
    "catboost": {"export/catboost/model.py", "loadtest/harness/forests.py"},
    "onnx": {"export", "server/compiled/graph.py"},
    "llvmlite": {"server/compiled/machine.py", "server/compiled/trees.py"},
    "onnxmltools": {"export", "loadtest"},
    "skl2onnx": {"export"},
    "sklearn": {"train", "export", "loadtest"},
    "gradio": {"ui"},
    "openpyxl": {"ui/workbook/child.py", "ui/workbook/sheet.py", "tests"},
    "markdown_it": {"ui"},
    "locust": {"loadtest"},
    "duckdb": {"monitoring"},
    "ray": {"server/batch/cluster/ray_cluster.py", "deploy", "tests"},
    "polars": {"monitoring", "train", "export", "loadtest", *BATCH},
    "rich": {"monitoring", "train", "export", "loadtest", *BATCH},
    "fastexcel": {"export", *BATCH},
    "grpc": {*GRPC, "loadtest/bench/rows.py", "tests"},
    "google": {"export", "server/grpc/messages.py"},
    "pandas": {"loadtest", "export"},
    "pyarrow": {"server/batch/unpacked.py"},
    "fastapi": {"loadtest"},
    "jinja2": {"loadtest", "monitoring", "train", "ui"},
    "matplotlib": {"monitoring", "loadtest", "train"},
    "backports": {"server/zstandard.py"},
    "lz4": {"server/tables/arrow_columns.py"},
    "flatbuffers": {"server/tables/arrow_metadata.py", "server/tables/arrow_writer.py"},
    "opentelemetry": {"server/tracing/exporter.py", "tests"},
    "grafana_foundation_sdk": {"monitoring"},
}
#: What takes long to import.
HEAVY = {"fastapi", "gradio", "lightgbm", "matplotlib", "pandas", "ray", "scipy", "sklearn", "xgboost"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize(
    "path", [p for folder in sorted(OURS) for p in sorted(Path(folder).rglob("*.py"))], ids=str
)
def test_import_rule(path: Path) -> None:
    folder = path.parts[0]
    for name in imports(path):
        if name in OURS - {folder}:
            assert name in MAY_IMPORT[folder], f"{path} imports {name}"
        if name in HOMES:
            homes = HOMES[name]
            assert folder in homes or str(path) in homes, f"{path} imports {name}"


def test_api_process_imports_no_heavy_library() -> None:
    code = (
        "import sys, server.api.app, server.process.workers; print(*{m.split('.')[0] for m in sys.modules})"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(output.split())
    assert not loaded & (HEAVY | {"polars", "onnx"})
    assert "pickle" not in loaded or "joblib" not in loaded


def test_first_step_of_make_test_collects_without_a_heavy_library() -> None:
    """So that its first result is there at once, whatever the rest of the suite imports."""
    makefile = Path("Makefile").read_text()
    step = next(line.split(" := ")[1] for line in makefile.splitlines() if line.startswith("FIRST := "))
    options = ["--collect-only", "-q", *step.split()]
    code = f"import sys, pytest; pytest.main({options!r}); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *collected, modules = run.stdout.splitlines()
    assert any("tests collected" in line and "error" not in line for line in collected)
    assert not {name.split(".")[0] for name in modules.split()} & HEAVY


def test_local_batch_imports_no_ray() -> None:
    modules = "server.batch.__main__, server.batch.job, server.batch.cluster.ray_job"
    code = f"import sys, {modules}; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_server_runs_with_its_own_requirements_alone() -> None:
    """Every third-party import of `server/` is pinned in requirements/server.txt."""
    pinned = {
        line.split("==")[0].replace("-", "_").removesuffix("_zstd")  # of the namespace `backports`
        for line in Path("requirements/server.txt").read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }
    of_other_commands = {
        "polars",
        "rich",
        "ray",
        "fastexcel",
        "onnx",
        "llvmlite",
        "grpc",
        "google",
        "opentelemetry",
        "lz4",
        "pyarrow",
    }
    ours_or_standard = OURS | sys.stdlib_module_names | {"compression"}  # from Python 3.14 on
    for path in Path("server").rglob("*.py"):
        for name in set(imports(path)) - ours_or_standard - of_other_commands:
            assert name in pinned, f"{path} imports {name}"


#: The floors of a folder, from the lowest; a room imports from those before it alone. Names of one
#: word are folders or modules of it.
FLOORS = {
    "server": "version errors durable patience child settings cli private_names zstandard access model "
    "tables explain metrics tracing compiled log challenger scoring outcomes api wire batch process publish "
    "models keys grpc __main__",
    "loadtest": "harness report loop latency bench capacity faults locustfile __main__",
    "ui": "words workbook drawing cases access records tabs several script calls framework page announce "
    "__main__",
    "monitoring": "errors gauges tables change_point logs drift outcomes report dashboard operator_rules "
    "simulated_challenger simulated_rows simulated_month __main__",
    "export": "errors request reader forest lightgbm xgboost catboost onnx sklearn interpreter reading "
    "evaluation load verify assemble command arguments guard unguarded omissions __main__",
    "train": "errors tables synthetic_tables study golden examples card french reasons policy own_table "
    "own_pipeline pipeline __main__",
}


def rooms(top: str) -> Iterator[tuple[str, str, str]]:
    """Each import from one room of a folder to another: the file, its room, the other room."""
    for path in sorted(Path(top).rglob("*.py")):
        room = path.relative_to(top).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                if module.startswith(f"{top}.") and (other := module.split(".")[1]) != room:
                    yield str(path), room, other


#: The longest chain of imports, in modules: each step is one more file to open for whoever follows a call.
LONGEST_CHAIN = {"server": 11, "": 12}


def modules_imported(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(known)
            found |= inner or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(known)


@pytest.mark.parametrize("top", LONGEST_CHAIN)
def test_chains_of_imports_are_short(top: str) -> None:
    files = [path for folder in sorted(OURS) for path in sorted(Path(folder).rglob("*.py"))]
    known = {".".join(p.with_suffix("").parts).removesuffix(".__init__"): p for p in files}
    known = {name: path for name, path in known.items() if name.startswith(top)}
    # In order of the arrows; a circle raises `graphlib.CycleError`.
    graph = {name: modules_imported(path, known) - {name} for name, path in known.items()}
    chains: dict[str, list[str]] = {}
    for name in graphlib.TopologicalSorter(graph).static_order():
        chains[name] = [name, *max((chains[other] for other in graph[name]), key=len, default=[])]
    longest = max(chains.values(), key=len)
    assert len(longest) <= LONGEST_CHAIN[top], " > ".join(longest)


@pytest.mark.parametrize("top", FLOORS)
def test_imports_only_go_down(top: str) -> None:
    floors = FLOORS[top].split()
    for path, room, other in rooms(top):
        assert room in floors, f"{path}: give {top}/{room} a floor in FLOORS"
        assert floors.index(other) < floors.index(room), (
            f"{path} imports from {top}/{other}, which is above it"
        )


def test_few_places_catch_whatever_comes() -> None:
    """Elsewhere what nobody foresaw reaches the top with its traceback."""
    broad = [
        f"{path}:{node.lineno}"
        for folder in sorted(OURS)
        for path in sorted(Path(folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    ]
    assert len(broad) <= 16, broad


def test_a_class_name_has_one_meaning() -> None:
    homes: dict[str, list[str]] = {}
    for folder in sorted(OURS):
        for path in sorted(Path(folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    homes.setdefault(node.name, []).append(str(path))
    assert not {name: files for name, files in homes.items() if len(files) > 1}


def test_a_folder_is_seen_at_one_look() -> None:
    """At most 24 modules, and 40 of tests."""
    counts = Counter(path.parent for top in (*OURS, "tests") for path in Path(top).rglob("*.py"))
    full = {str(folder): n for folder, n in counts.items() if n > (40 if folder.parts[0] == "tests" else 24)}
    assert not full
