import os

import pytest

from utils.errors import UserError
from utils.files.run_folders import new_run_folder


def test_each_run_gets_a_folder_of_its_own(tmp_path):
    made = [new_run_folder(tmp_path / "runs", "exp").name for _ in range(3)]
    assert made == ["exp", "exp2", "exp3"]
    assert new_run_folder(tmp_path / "runs", "exp", exist_ok=True).name == "exp"


def test_a_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be created"):
        new_run_folder(tmp_path / "file", "exp")


def test_nothing_in_a_folder_used_again_leads_out_of_it(tmp_path):
    folder = tmp_path / "exp"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "final.pt").symlink_to("best.pt")  # within the folder, and its target is missing
    assert new_run_folder(tmp_path, "exp", exist_ok=True) == folder
    (folder / "findings.txt").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=r"findings.txt: is a link to .*precious, outside the folder"):
        new_run_folder(tmp_path, "exp", exist_ok=True)
    (folder / "findings.txt").unlink()
    os.mkfifo(folder / "results.csv")
    with pytest.raises(UserError, match="neither a file nor a folder"):
        new_run_folder(tmp_path, "exp", exist_ok=True)


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk" / "weights").mkdir(parents=True)
    (tmp_path / "exp").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "alias").symlink_to(tmp_path / "disk" / "weights")
    assert new_run_folder(tmp_path, "exp", exist_ok=True) == tmp_path / "exp"
