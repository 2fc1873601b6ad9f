"""The Dockerfile without Docker: `python -m tests.support.docker_steps FOLDER (TARGET|NAME=VALUE)...`.

Run as root in namespaces of its own, see `tests/support/root.py`. Each stage is an overlay
over this machine's root, which stands for the base image. A RUN happens in a chroot,
a COPY takes what .dockerignore lets through. Each target is then started as its
container would be: its user without capabilities, a read-only root, /tmp and the
volumes writable, nothing of the repository in sight, and a network in which there is
nothing but the loopback. NAME=VALUE is a build argument. Prints a report as JSON.
"""

import http.client
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

from deploy.packages import packages
from tests.support.cut_off import cut_off

START_SECONDS = 60.0
READ_ONLY = ("/app", "/app/models/credit", "/opt/venv", "/etc", "/home/hotrow")
ROW = {"AMT_INCOME_TOTAL": 168000, "AMT_CREDIT": 600000, "AGE_YEARS": 44, "EXT_SOURCE_2": 0.61}
ASKED = {"/predict": ROW, "/explain": ROW, "/": None}
#: What an image has only if it is asked for.
EXTRAS = ("lz4.frame", "llvmlite", "grpc", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
#: Where `python` is looked for, as in the base image: first what this interpreter was made from.
STAND_IN = Path("/usr/local/stand-in")
PATH = f"{STAND_IN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: uv with its cache in the place of pip: the same hashes are checked, nothing is downloaded twice.
PIP = """#!/bin/sh
case "$*" in
    "-m pip --python /opt/venv install --no-cache-dir --require-hashes --requirement "*)
        shift 8
        exec {uv} pip install --quiet --python /opt/venv --require-hashes --compile-bytecode -r "$1" ;;
    *) exec {python} "$@" ;;
esac
"""
#: What a container's root is: the one mount there is. A debugger finds the files of a process by it.
PIVOT = 'cd "$0" && pivot_root . . && umount -l . && exec "$@"'
#: Settings of package clients that a RUN gets, as `docker build` would from its configuration.
CLIENT = ("PIP_", "UV_", "SSL_", "HTTPS_", "HOME")


class Step(NamedTuple):
    """One instruction of a stage, and the rest of its line."""

    instruction: str
    value: str


@dataclass
class Stage:
    """A stage while it is built: where its files are, and what its container would get."""

    root: Path
    layers: list[Path]
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0"
    volumes: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"


def parse(text: str) -> dict[str, tuple[str, list[Step]]]:
    """By the name of a stage: what it begins with, and its steps."""
    found: dict[str, tuple[str, list[Step]]] = {}
    for entry in DockerfileParser(fileobj=io.BytesIO(text.encode())).structure:
        instruction, value = entry["instruction"], entry["value"]
        if instruction == "FROM":
            base, _, name = value.partition(" AS ")
            steps: list[Step] = []
            found[name] = (base, steps)
        elif instruction != "COMMENT":
            steps.append(Step(instruction, value))
    return found


class Build:
    """Builds stages below a folder, each once."""

    def __init__(self, folder: Path, context: Path, arguments: Mapping[str, str]) -> None:
        self._folder = folder
        self._context = context
        self._arguments = arguments
        self._plan = parse((context / "Dockerfile").read_text())
        self._built: dict[str, Stage] = {}

    def stage(self, name: str) -> Stage:
        """A stage after its last step."""
        if name not in self._built:
            base, steps = self._plan[name]
            stage = self._start(name, self.stage(base) if base in self._plan else None)
            for step in steps:
                getattr(self, "_" + step.instruction.lower())(stage, step.value)
            self._built[name] = stage
        return self._built[name]

    def _start(self, name: str, parent: Stage | None) -> Stage:
        upper, work, root = (self._folder / name / part for part in ("upper", "work", "root"))
        for folder in (upper, work, root):
            folder.mkdir(parents=True)
        layers = parent.layers if parent else [Path("/")]
        options = f"lowerdir={':'.join(map(str, layers))},upperdir={upper},workdir={work}"
        mount("-t", "overlay", "overlay", "-o", options, str(root))
        mount("--rbind", "/dev", str(root / "dev"))
        mount("-t", "proc", "proc", str(root / "proc"))
        if parent is None:
            self._make_base(root)
        known = (
            replace(parent, environment=dict(parent.environment), arguments={}) if parent else Stage(root, [])
        )
        return replace(known, root=root, layers=[upper, *layers])

    def _make_base(self, root: Path) -> None:
        """What this machine has and the base image has not, or the other way round."""
        for file in ("etc/passwd", "etc/group"):
            lines = (root / file).read_text().splitlines(keepends=True)
            (root / file).write_text("".join(line for line in lines if line.split(":")[2] != "1000"))
        python = Path(sys.base_prefix, "bin", "python3").resolve()
        for folder in python.relative_to("/").parents:
            (root / folder).chmod(0o755)
        stand_in = root / STAND_IN.relative_to("/") / "python"
        stand_in.parent.mkdir(parents=True)
        stand_in.write_text(PIP.format(python=python, uv=Path(sys.prefix, "bin", "uv")))
        stand_in.chmod(0o755)

    def _workdir(self, stage: Stage, value: str) -> None:
        stage.folder = value
        self._inside(stage, value).mkdir(parents=True, exist_ok=True)

    def _env(self, stage: Stage, value: str) -> None:
        for pair in shlex.split(value):
            name, _, text = pair.partition("=")
            stage.environment[name] = text.replace("$PATH", stage.environment["PATH"])

    def _arg(self, stage: Stage, value: str) -> None:
        (pair,) = shlex.split(value)
        name, _, default = pair.partition("=")
        stage.arguments[name] = self._arguments.get(name, default)

    def _run(self, stage: Stage, value: str) -> None:
        client = {
            n: v for n, v in os.environ.items() if n.startswith(("PIP_", "UV_", "SSL_", "HTTPS_", "HOME"))
        }
        script = f"cd {stage.folder} && {value}"
        command = ["chroot", str(stage.root), "/bin/sh", "-euc", script]
        subprocess.run(
            command, env=client | stage.arguments | stage.environment, check=True, stdout=sys.stderr
        )

    def _copy(self, stage: Stage, value: str) -> None:
        *sources, to = value.split()
        target = self._inside(stage, to)
        if sources[0].startswith("--from="):
            origin = self.stage(sources[0].removeprefix("--from="))
            shutil.copytree(self._inside(origin, sources[1]), target, symlinks=True)
            return
        for source in map(Path, sources):
            for file in self._sent(source):
                of_a_folder = file != source
                goal = target / file.relative_to(source) if of_a_folder else target / file.name
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self._context / file, goal)

    def _sent(self, source: Path) -> list[Path]:
        """The files of the context under a name that .dockerignore lets through."""
        lines = (self._context / ".dockerignore").read_text().splitlines()
        patterns = [line for line in lines if line and not line.startswith("#")]
        files = [Path(file) for file in exclude_paths(str(self._context), patterns)]
        found = [f for f in files if f.is_relative_to(source) and (self._context / f).is_file()]
        if not found:
            raise FileNotFoundError(f"expected {source} in the context, got nothing: see .dockerignore")
        return found

    def _volume(self, stage: Stage, value: str) -> None:
        stage.volumes = value.split()

    def _user(self, stage: Stage, value: str) -> None:
        stage.user = value

    def _healthcheck(self, stage: Stage, value: str) -> None:
        stage.health = json.loads(value.partition("CMD ")[2] or "[]")  # NONE

    def _entrypoint(self, stage: Stage, value: str) -> None:
        stage.entrypoint = json.loads(value)

    def _stopsignal(self, stage: Stage, value: str) -> None:
        stage.stop_signal = value

    def _nothing(self, stage: Stage, value: str) -> None:
        """It changes neither files nor how the container runs."""

    _label = _expose = _nothing

    def _inside(self, stage: Stage, path: str) -> Path:
        return stage.root / Path(stage.folder, path).relative_to("/")


def mount(*arguments: str) -> None:
    """mount(8), in the namespace of this process."""
    subprocess.run(["mount", *arguments], check=True)


class Container:
    """A built stage, started as its container would be."""

    def __init__(self, stage: Stage, hidden: Path) -> None:
        self._stage = stage
        root = stage.root
        mount("-t", "tmpfs", "-o", "ro", "tmpfs", str(root / hidden.relative_to("/")))
        mount("-o", "remount,ro", str(root))
        mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(root / "tmp"))
        for volume in stage.volumes:
            place = root / Path(volume).relative_to("/")
            owner = place.stat()
            options = f"uid={owner.st_uid},gid={owner.st_gid},mode={owner.st_mode & 0o7777:o}"
            mount("-t", "tmpfs", "-o", options, "tmpfs", str(place))
        command = ["unshare", "--mount", "/bin/sh", "-ec", PIVOT, str(root), *self._command(stage.entrypoint)]
        self._process = subprocess.Popen(command, stdout=sys.stderr)
        self.pid = self._process.pid

    def _command(self, command: list[str]) -> list[str]:
        user = self._stage.user
        drop = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        variables = [f"{name}={value}" for name, value in self._stage.environment.items()]
        folder = f"--chdir={self._stage.folder}"
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", *drop]
        clean = ["env", "--ignore-environment", folder, *variables, *command]
        return [*as_user, *clean]

    def run(self, *command: str) -> int:
        """The exit code of a command in it, of the same user."""
        inside = ["chroot", str(self._stage.root), *self._command(list(command))]
        return subprocess.run(inside, capture_output=True, check=False).returncode

    def wait_until_healthy(self) -> bool:
        """Whether the HEALTHCHECK comes out well before `START_SECONDS` are over."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            if self.run(*self._stage.health) == 0:
                return True
            time.sleep(0.2)
        return False

    def status(self) -> dict[str, str]:
        """What the kernel says of its first process."""
        lines = (self._stage.root / f"proc/{self.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def stop(self) -> int:
        """Send the STOPSIGNAL; the exit code."""
        self._process.send_signal(signal.Signals[self._stage.stop_signal])
        return self._process.wait(timeout=20)


def recorded(profiler: Stage, pid: int, *capabilities: str) -> bool:
    """Whether py-spy in its image, as root with these capabilities alone, reads another user's process."""
    bounding = ",".join(("-all", *(f"+{name}" for name in capabilities)))
    as_root = ["setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", "--no-new-privs"]
    apart = ["unshare", "--mount", "chroot", str(profiler.root)]  # as containers are
    command = [*apart, *as_root, "/opt/venv/bin/py-spy", "dump", "--pid", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0 and "server/process/single.py" in done.stdout


def report(stage: Stage, hidden: Path, profiler: Stage) -> dict[str, Any]:
    """Start a target and say what came of it."""
    environment = stage.root / "opt/venv"
    found: dict[str, Any] = {
        "packages": {p.name: p.size_bytes for p in packages(environment)},
        "environment_bytes": sum(f.lstat().st_size for f in environment.rglob("*")),
        "files": sorted(str(f.relative_to(stage.root / "app")) for f in (stage.root / "app").rglob("*.*")),
    }
    container = Container(stage, hidden)
    found["healthy"] = container.wait_until_healthy()
    status = container.status()
    found["uid"], found["capabilities"] = status["Uid"].split()[0], int(status["CapBnd"], 16)
    found["can_write"] = [
        p for p in ("/app", "/opt/venv", "/etc", "/home/hotrow") if not container.run("touch", f"{p}/x")
    ]
    found["answers"] = {
        path: ask(int(stage.environment["HOTROW_PORT"]), path, body) for path, body in ASKED.items()
    }
    found["imports"] = [name for name in EXTRAS if container.run("python", "-c", f"import {name}") == 0]
    found["recorded"] = recorded(profiler, container.pid, "sys_ptrace"), recorded(profiler, container.pid)
    found["exit_code"] = container.stop()
    logs = stage.root / "app/logs"
    found["log_lines"] = sum(len(log.read_bytes().splitlines()) for log in logs.glob("*.jsonl"))
    return found


def ask(port: int, path: str, body: dict[str, float] | None) -> tuple[int, str]:
    """Status and body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Content-Type": "application/json"}
    connection.request("POST" if body else "GET", path, json.dumps(body) if body else None, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()[:200]


def main(folder: Path, words: list[str]) -> None:
    """Build the targets with the network there, run them with it cut off."""
    context = Path.cwd()
    mount("-t", "tmpfs", "tmpfs", str(folder))  # it goes with the namespace
    arguments = dict(word.split("=", 1) for word in words if "=" in word)
    targets = [word for word in words if "=" not in word]
    build = Build(folder, context, arguments)
    stages = {target: build.stage(target) for target in targets}
    profiler = build.stage("profiler")
    cut_off()
    print(json.dumps({target: report(stage, context, profiler) for target, stage in stages.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
