import pytest
import torch

from models import build_model
from models.ensemble import Ensemble, join
from utils.errors import UserError


@pytest.fixture(scope="module")
def pair():
    return [build_model("yolov5n", nc=2, names=["a", "b"], seed=seed).eval() for seed in (0, 1)]


def test_predictions_are_put_together(pair):
    x = torch.rand(2, 3, 64, 96)
    both = Ensemble(pair).eval()
    with torch.no_grad():
        first, second = pair[0](x), pair[1](x)
        out = both(x)
    assert out.shape == (2, 2 * first.shape[1], 7)
    assert torch.equal(out, torch.cat((first, second), 1))
    with torch.no_grad():
        assert torch.equal(both.augmented(x), torch.cat((pair[0].augmented(x), pair[1].augmented(x)), 1))


def test_what_it_says_of_itself(pair):
    both = Ensemble(pair)
    assert (both.names, both.nc, both.max_stride) == ({0: "a", 1: "b"}, 2, 32)
    six = build_model("yolov5n6", nc=2, names=["a", "b"])
    assert Ensemble([pair[0], six]).max_stride == 64


def test_one_model_stays_itself(pair):
    assert join(pair[:1]) is pair[0]
    assert isinstance(join(pair), Ensemble)


def test_models_of_other_classes_do_not_fit(pair):
    with pytest.raises(UserError, match="model 1 has 2 of them, model 2 has 3"):
        join([pair[0], build_model("yolov5n", nc=3)])


def test_models_of_other_images_do_not_fit(pair):
    with pytest.raises(UserError, match="model 1 has 3 channels, model 2 1"):
        join([pair[0], build_model("yolov5n", nc=2, ch=1)])


def test_other_names_are_said(pair, caplog):
    join([pair[0], build_model("yolov5n", nc=2, names=["x", "y"])])
    assert "names its classes differently" in caplog.text
