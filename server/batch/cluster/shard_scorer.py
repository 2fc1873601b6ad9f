"""One shard, scored in whatever process it falls to."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

from server.batch.cluster.shard_folder import ShardFolder
from server.batch.cluster.shards import Cut, read
from server.batch.formats import CSV
from server.batch.layout import FileLayout
from server.batch.results import BlockResult, described
from server.batch.scorer import BatchScorer, Output
from server.compiled.backend import Name
from server.errors import BatchRefused, BundleError, HotrowError
from server.model.bundle import Bundle
from server.model.predictor import Predictor

#: What the input is refused for, and what a node cannot do: neither is tried again on every node.
REFUSED, UNFIT = "refused", "unfit"


class ShardJob(NamedTuple):
    """What a process must know to score any shard of a job; paths are those of a common file system."""

    model: str
    model_sha256: str
    layout: FileLayout
    target: str
    output: Output
    backend: Name = "onnx"
    size: int = 0


def score_shard(job: ShardJob, cut: Cut) -> dict[str, Any]:
    """Read, score and write one shard, unless it is written; its description.

    What a user has to mend comes back as a sentence under `REFUSED` or `UNFIT`.
    """
    try:
        return _scored(job, cut)
    except BatchRefused as error:
        name = Path(cut.path).name
        return {REFUSED: str(error) if name in str(error) else f"{name}: {error}"}
    except HotrowError as error:
        return {UNFIT: str(error)}
    except OSError as error:
        reason = f"{error.filename or job.target}: {error.strerror}"
        return {UNFIT: f"expected every node to read {cut.path} and to write {job.target}, got: {reason}"}


def _scored(job: ShardJob, cut: Cut) -> dict[str, Any]:
    folder = ShardFolder(Path(job.target), job.output.kind)
    known = folder.description(cut.number)
    if known is not None:
        return known
    scorer, block = _scorer(job), read(cut, job.layout)
    result = scorer.score(block) if len(block.content) else BlockResult(b"", 0, 0, [])
    description = described(block, result) | {"file": Path(cut.path).name}
    if result.bad_rows and job.output.on_bad_row == "fail":
        return description  # nothing is written
    header = scorer.columns() if job.output.kind == CSV and result.content else b""
    return folder.write(cut.number, header + result.content, description)


@functools.lru_cache(maxsize=1)
def _scorer(job: ShardJob) -> BatchScorer:
    """The scorer of this process, its bundle verified as the server verifies it."""
    bundle = Bundle.load(job.model)
    if bundle.digest != job.model_sha256:
        raise BundleError(f"expected the same bundle at {job.model} on every node, got another on one")
    Predictor(bundle).check_golden_rows()
    return BatchScorer(bundle, job.layout, job.output, job.backend, job.size)
