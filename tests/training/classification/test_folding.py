import copy

import pytest
import timm
import torch
from torch import nn

from training.classification.folding import FoldedConv, FoldedNorm, fold
from training.classification.network import Transfer


def network(name="test_efficientnet", frozen=0, **options):
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=0, **options)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after a training: not the identity
            for values in (module.weight, module.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
            for values in (module.bias, module.running_mean):
                nn.init.normal_(values, std=0.2)
    return Transfer(backbone, 32, 5, 0.0, frozen)


# Depthwise with the padding of TensorFlow, and plain convolutions with shortcuts.
@pytest.fixture(params=[("tf_efficientnet_lite0", {}), ("resnet18", {}), ("test_efficientnet", {})], ids=lambda x: x[0])
def plain(request):
    name, options = request.param
    return network(name, **options).eval()


PIXELS = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(1))


def test_a_folded_network_answers_and_learns_as_one_in_evaluation_mode(plain):
    folded = fold(plain)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded.eval()(PIXELS), plain(PIXELS), rtol=1e-3, atol=1e-4)
    for each in (plain, folded):
        each(PIXELS).square().sum().backward()
    expected = dict(plain.named_parameters())
    found = dict(folded.named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in found.items():
        close = (parameter.grad - expected[name].grad).norm() / expected[name].grad.norm().clamp_min(1e-3)
        assert close < 1e-2, name


def test_its_state_fits_the_network_it_was_made_of_and_training_leaves_the_statistics(plain):
    folded = fold(plain).train()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    optimizer = torch.optim.SGD(folded.parameters(), lr=1e-3)
    folded(PIXELS).square().sum().backward()
    optimizer.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)  # a copy was trained
    plain.load_state_dict(folded.state_dict())
    after = plain.state_dict()
    assert not torch.equal(after["head.weight"], before["head.weight"])
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {name for name, _ in plain.named_parameters()}
    torch.testing.assert_close(plain.eval()(PIXELS), folded.eval()(PIXELS), rtol=1e-3, atol=1e-4)


def test_frozen_groups_stay_frozen():
    plain = network(frozen=2)
    kept = {name for name, parameter in plain.named_parameters() if not parameter.requires_grad}
    assert kept
    assert {name for name, parameter in fold(plain).named_parameters() if not parameter.requires_grad} == kept


def test_a_copy_uses_its_own_normalisations():
    folded = fold(network()).eval()
    copied = copy.deepcopy(folded)
    with torch.no_grad():
        for module in copied.modules():
            if isinstance(module, FoldedNorm):
                module.bias += 1
    assert not torch.allclose(copied(PIXELS), folded(PIXELS))
    assert sum(isinstance(module, FoldedConv) for module in copied.modules()) > 5


def test_a_backbone_that_normalises_before_it_convolves_is_refused():
    with pytest.raises(ValueError, match="--freeze-norms"):
        fold(network("densenet121"))
