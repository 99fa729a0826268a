"""The digest of the code: it counts every file that decides a run's figures, and a missing file is an error."""

import pytest

from utils.compare import provenance
from utils.versions import source_files


def test_the_code_digest_depends_on_each_file(monkeypatch):
    digests = {provenance.code_digest()}
    listed = provenance._IN_A_RUN
    for name in listed:
        monkeypatch.setattr(provenance, "_IN_A_RUN", tuple(n for n in listed if n != name))
        digests.add(provenance.code_digest())
    assert len(digests) == 1 + len(listed)


def test_a_file_that_was_moved_is_an_error(monkeypatch):
    monkeypatch.setattr(provenance, "_IN_A_RUN", ("run_worker", "moved"))
    with pytest.raises(FileNotFoundError, match=r"moved\.py"):
        provenance.code_digest()
    with pytest.raises(FileNotFoundError, match=r"moved: no Python files"):
        source_files("models", "moved")
