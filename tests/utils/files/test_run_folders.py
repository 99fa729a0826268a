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
