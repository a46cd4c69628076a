import json

import numpy as np
import pytest
import torch

from course.neuron import RECORD, UNITS, backpropagation, descent, losses, main, solves_xor
from tests.server import ROOT


def test_the_gradients_are_those_of_autograd():
    step = backpropagation(rate=0.1)
    hidden, out = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    parameters = {
        "hidden weights": (hidden.weight, [[0.5, -0.1], [-0.3, 0.4]]),
        "hidden biases": (hidden.bias, [0.1, 0.0]),
        "output weights": (out.weight, [[0.6, -0.8]]),
        "output bias": (out.bias, [0.1]),
    }
    with torch.no_grad():
        for parameter, value in parameters.values():
            parameter.copy_(torch.tensor(value))
    logit = out(torch.relu(hidden(torch.tensor([1.0, 2.0]))))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.ones(1))
    loss.backward()
    assert step["before"]["loss"] == pytest.approx(loss.item(), abs=1e-6)
    for name, (parameter, value) in parameters.items():
        assert parameter.grad is not None
        gradient = parameter.grad.numpy()
        assert np.allclose(np.reshape(step["gradients"][name], gradient.shape), gradient, atol=1e-6), name
        assert np.allclose(np.reshape(step["new"][name], gradient.shape), value - 0.1 * gradient, atol=1e-6), name
    assert step["after"]["loss"] < step["before"]["loss"]


def test_only_a_hidden_layer_solves_xor():
    assert solves_xor(units=0, seeds=20, steps=300) == solves_xor(units=1, seeds=20, steps=300) == 0
    assert solves_xor(units=8, seeds=20, steps=1500) > 0.9


def test_losses_and_descents():
    assert losses([0.5]) == {"0.5": [0.25, pytest.approx(np.log(2))]}
    assert descent(0.5, steps=1) == [-1.8, 0.0]
    assert abs(descent(1.05)[-1]) > abs(descent(1.05)[0])


def test_the_report_has_its_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["--seeds", "3", "--steps", "5"])
    folder = tmp_path / "runs" / "course-neuron"
    text = (folder / "README.md").read_text()
    for picture in folder.glob("*.png"):
        assert f"]({picture.name})" in text
    assert set(json.loads((folder / RECORD).read_text())["solved"]) == set(map(str, UNITS))


def test_the_record_is_what_the_code_computes():
    record = json.loads((ROOT / "docs" / "course" / "neuron" / RECORD).read_text())
    assert record["backpropagation"]["after"]["loss"] == pytest.approx(backpropagation()["after"]["loss"])
    assert record["losses"]["0.9"] == pytest.approx(losses([0.9])["0.9"])
