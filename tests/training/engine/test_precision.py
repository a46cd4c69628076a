import pytest
import torch

from training.engine.precision import choose_precision


@pytest.mark.parametrize(
    ("amx", "bf16", "safe", "chosen"),
    [
        (True, True, {"cpu"}, ("bfloat16", "this CPU has AMX")),
        (False, True, {"cpu", "cuda"}, ("bfloat16", "this CPU has AVX512-BF16")),
        (False, False, {"cpu"}, ("float32", "")),
        (True, True, {"cuda"}, ("float32", "")),
        (True, True, (), ("float32", "")),
    ],
)
def test_bfloat16_where_it_is_fast_and_safe(monkeypatch, amx, bf16, safe, chosen):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    assert choose_precision("cpu", safe) == chosen


@pytest.mark.parametrize(("supported", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_has_it_or_not(monkeypatch, supported, chosen):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert choose_precision("cuda", {"cuda"})[0] == chosen
