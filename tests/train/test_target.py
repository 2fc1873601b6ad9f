"""Where a bundle is written is looked at before the work begins."""

import shutil
from pathlib import Path

import pytest

from server.model.files import MANIFEST_FILE
from tests.support.bundles import CREDIT
from train.__main__ import main
from train.errors import TrainingRefused
from train.study.target import check_target, writable


def test_a_new_and_an_empty_folder_can_be_written_to_and_nothing_is_left(tmp_path: Path) -> None:
    check_target(tmp_path / "new" / "folder", replace=False)
    check_target(tmp_path, replace=False)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_only_if_that_was_asked_for(tmp_path: Path) -> None:
    shutil.copytree(CREDIT, tmp_path / "credit")
    with pytest.raises(TrainingRefused, match=r"got .*credit with credit@3 in it: .* --replace"):
        check_target(tmp_path / "credit", replace=False)
    check_target(tmp_path / "credit", replace=True)
    (tmp_path / "credit" / MANIFEST_FILE).write_text("{")
    with pytest.raises(TrainingRefused, match="a damaged bundle in it"):
        check_target(tmp_path / "credit", replace=False)


def test_a_file_and_a_folder_of_other_files_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out, replace in ((tmp_path / "file", True), (tmp_path, True), (tmp_path, False)):
        with pytest.raises(TrainingRefused, match="expected"):
            check_target(out, replace=replace)
    with pytest.raises(TrainingRefused, match="Not a directory"):
        check_target(tmp_path / "file" / "out", replace=False)
    with pytest.raises(TrainingRefused, match="got a file at"):  # data that is not there is not looked at
        main(["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "file")])
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingRefused, match=r"to write a bundle to /proc/bundle, got: "):
        check_target(Path("/proc/bundle"), replace=False)
    with pytest.raises(TrainingRefused, match="got: No space left on device: make room"), writable(tmp_path):
        raise OSError(28, "No space left on device")
