"""Start weights: the control that loses what its variant loses, and what is measured before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from models import build_model
from models.weights.load import read_weights
from tests.tiny_model import TINY
from tests.utils.compare.forked import settings
from utils.compare.plan import make_plan, reconcile_plan
from utils.compare.start import as_checkpoint, measure_start, start_weights, transferred
from utils.compare.study import StudyPlan
from utils.config import Hyp
from utils.errors import UserError
from utils.training.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def plan(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyPlan:
    """A base, C3CoT in the place of its C3, and an insertion, from weights of other classes than the dataset's."""
    folder = tmp_path_factory.mktemp("reset")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    for name, edit in (("cot", {"replace": 2, "with": [1, "C3CoT", [64]]}), ("se", {"after": 2, "insert": [1, "SE", []]})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"base": "tiny.yaml", "edits": [edit]}))
    model = build_model(folder / "tiny.yaml", seed=5)
    save_checkpoint(folder / "w.pt", as_checkpoint(model.spec, model.names, {k: v + 1 for k, v in model.state_dict().items()}))
    cfgs = [str(folder / f"{name}.yaml") for name in ("tiny", "cot", "se")]
    config = settings(cfgs, tiny_dataset, folder, weights=str(folder / "w.pt"), control=("reset",))
    return reconcile_plan(make_plan(config, Hyp(), "python compare.py", 1), None, "")


def test_the_control_loses_what_its_variant_loses(plan: StudyPlan, tmp_path: Path) -> None:
    assert [v.name for v in plan.variants] == ["tiny", "cot", "se", "reset-cot"]  # an insertion loses nothing
    control = plan.variants[-1]
    original, names = read_weights(plan.weights), dict(enumerate(plan.data.names))
    reset = {k for k in original.state if k.startswith("model.2.m.") and ".cv2." in k}
    assert (control.control_of, set(control.reset)) == ("cot", reset)
    assert control.edits == (f"6 of {len(original.state)} tensors re-initialised, in rows 2",)
    assert control.spec == plan.baseline.spec

    (tmp_path / "models").mkdir()
    started, report = transferred(control, read_weights(start_weights(plan, control, 3, tmp_path)), names, seed=3)
    fresh = build_model(plan.baseline.cfg, len(names), seed=3).state_dict()
    head = {k for k in fresh if k.startswith("model.5.m.")}  # of other classes
    for key, tensor in started.state_dict().items():
        expected = fresh[key] if key in reset | head else original.state[key]
        assert torch.equal(tensor, expected), key
    assert report.transferred == transferred(plan.variant("cot"), original, names)[1].transferred


def test_a_variant_without_losses_has_no_control(plan: StudyPlan, caplog: pytest.LogCaptureFixture) -> None:
    from utils.compare.reset_control import reset_controls

    assert [c.name for c in reset_controls([v for v in plan.variants if not v.reset], plan)] == ["reset-cot"]
    assert "--control reset: nothing to reset for se: all weights that tiny keeps are kept" in caplog.text


def test_before_the_first_step(plan: StudyPlan) -> None:
    for name, lost in (("tiny", 0), ("cot", 6)):
        start = measure_start(plan, plan.variant(name), plan.weights, 0, torch.device("cpu"), 0)
        assert start is not None
        assert (start.of - start.tensors, start.own_classes) == (lost + 4, False)  # the head's 4 tensors are of 80 classes
        assert 0 <= start.ap < 0.1  # random weights
    assert measure_start(plan, plan.variant("tiny"), "", 0, torch.device("cpu"), 0) is None


def test_reset_needs_weights() -> None:
    from utils.compare.config import CompareConfig

    with pytest.raises(UserError, match="--control reset re-initialises the start weights that a variant loses; give them with --weights"):
        CompareConfig(cfgs=("a", "b"), control=("reset",))
    with pytest.raises(UserError, match="choose one"):
        CompareConfig(cfgs=("a", "b"), control=("params", "gflops"))
