"""Classifiers as Hugging Face exports them, with random weights: adopted, and compared with the original."""

import json
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
from tokenizers import Tokenizer

from quartet.adopt.command_line import main
from service.app import create_app
from service.settings import Settings
from service.tasks.registry import read_manifest
from tests.quartet.adopt.text import tokenizers

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LONGEST = 16
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
LABELS = ("sport", "markets", "weather")
TEXTS = [
    "fox",
    "The quick brown fox",
    "[",
    "한국 dogs",
    "an [PAD] inside, and a [MASK]",
    "oil prices rose " * 3,
    "The quick brown fox jumps over the lazy dog. " * 20,
]


class Export(NamedTuple):
    """A model in a folder, and what it answers to token ids of its own."""

    folder: Path
    tokenizer: Tokenizer
    logits: Callable[[list[int]], torch.Tensor]

    def probabilities(self, text: str) -> np.ndarray:
        """The original's answer to a text alone."""
        self.tokenizer.enable_truncation(LONGEST)
        return torch.softmax(self.logits(self.tokenizer.encode(text).ids), -1).numpy()


def export(
    folder: Path,
    make: Callable[[int], Any],
    tokenizer: Tokenizer,
    inputs: tuple[str, ...] = ("input_ids", "attention_mask"),
    *,
    fixed: bool = False,
) -> Export:
    torch.manual_seed(0)
    model = make(tokenizer.get_vocab_size()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.5)
    folder.mkdir(exist_ok=True)
    model.config.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    shape = (1, LONGEST) if fixed else (2, 7)
    example = {"input_ids": torch.full(shape, 5), "attention_mask": torch.ones(shape, dtype=torch.long)}
    example["token_type_ids"] = torch.zeros_like(example["input_ids"])
    axes = {name: {0: "batch", 1: "length"} for name in inputs} | {"logits": {0: "batch"}}
    with warnings.catch_warnings():
        # The older exporter takes a fiftieth of the time.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (),
            str(folder / "model.onnx"),
            kwargs={name: example[name] for name in inputs},
            input_names=list(inputs),
            output_names=["logits"],
            opset_version=18,
            dynamo=False,
            dynamic_axes=None if fixed else axes,
        )

    def logits(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            return model(
                input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)
            ).logits[0]

    return Export(folder, tokenizer, logits)


def bert(words: int) -> Any:
    config = transformers.BertConfig(
        vocab_size=words,
        pad_token_id=1,
        id2label=dict(enumerate(LABELS)),
        max_position_embeddings=LONGEST,
        attn_implementation="eager",
        **SIZES,
    )
    return transformers.BertForSequenceClassification(config)


def roberta(words: int) -> Any:
    config = transformers.RobertaConfig(
        vocab_size=words,
        pad_token_id=1,
        num_labels=3,
        max_position_embeddings=LONGEST + 2,
        attn_implementation="eager",
        **SIZES,
    )
    return transformers.RobertaForSequenceClassification(config)


def adopt(tmp_path: Path, *options: str) -> int:
    given = str(tmp_path / "given" / "model.onnx")
    common = ("--name", "news", "--models", str(tmp_path / "models"), "--task", "text")
    return main(["adopt", given, *common, *options])


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    app = create_app(Settings(models=tmp_path / "models", device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):

        async def ask(*texts: str, **options: Any) -> Any:
            answer = await client.post("/v1/classify-text", params={"model": "news", **options}, json={"texts": texts})
            assert answer.status_code == 200, answer.text
            return answer.json()["results"]

        yield ask


def probabilities(result: dict[str, Any]) -> list[float]:
    return [label["probability"] for label in sorted(result["labels"], key=lambda label: label["index"])]


ALL = ("input_ids", "attention_mask", "token_type_ids")


@pytest.mark.parametrize(
    ("make", "tokenizer", "inputs", "fixed"),
    [
        (bert, tokenizers.wordpiece, ALL, False),
        (bert, tokenizers.wordpiece, ALL[:2], True),
        (bert, tokenizers.wordpiece, ALL[:1], False),
        (roberta, tokenizers.byte_level, ALL[:2], False),
        (roberta, tokenizers.unigram, ALL[:2], False),
    ],
)
async def test_texts_of_every_length_get_the_answers_of_the_original(tmp_path, make, tokenizer, inputs, fixed):
    original = export(tmp_path / "given", make, tokenizer(), inputs, fixed=fixed)
    assert adopt(tmp_path) == 0
    manifest = read_manifest(tmp_path / "models" / "news" / "1")
    assert manifest.max_length == LONGEST - 2
    # Without a mask, padding changes the answer, so that texts are not put together.
    assert manifest.max_batch == (1 if fixed or len(inputs) == 1 else 64)
    if make is bert:
        assert manifest.labels == LABELS
    wanted = [original.probabilities(text) for text in TEXTS]
    async with serving(tmp_path) as ask:
        # Together, they pad each other.
        for results in (await ask(*TEXTS), [(await ask(text))[0] for text in TEXTS]):
            np.testing.assert_allclose([*map(probabilities, results)], wanted, atol=2e-6)
        last = results[-1]
        assert (last["tokens"], last["cut_off"] > 100) == (LONGEST - 2, True)


async def test_an_explanation_replaces_each_word(tmp_path):
    export(tmp_path / "given", bert, tokenizers.wordpiece())
    assert adopt(tmp_path) == 0
    async with serving(tmp_path) as ask:
        (result,) = await ask("The 한국 fox", explain=True)
    assert [word["word"] for word in result["words"]] == ["The", "한국", "fox"]
    assert [word["known"] for word in result["words"]] == [True, False, True]
    # The unknown word is replaced by itself.
    assert result["words"][1]["weight"] == 0
    assert result["unknown"] == 1


async def test_a_text_without_tokens_has_no_labels(tmp_path):
    export(tmp_path / "given", bert, tokenizers.wordpiece())
    assert adopt(tmp_path) == 0
    async with serving(tmp_path) as ask:
        empty, full = await ask("\u200b", "fox")
    assert (empty["tokens"], empty["labels"]) == (0, [])
    assert len(full["labels"]) == 3


def test_samples_become_the_golden_texts(tmp_path):
    export(tmp_path / "given", bert, tokenizers.wordpiece())
    (tmp_path / "texts.txt").write_text("the dog\n\nOil prices rose\n")
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    assert adopt(tmp_path, "--samples", str(tmp_path / "texts.txt"), "--labels", str(tmp_path / "labels.txt")) == 0
    folder = tmp_path / "models" / "news" / "1"
    manifest = read_manifest(folder)
    assert (manifest.labels, manifest.golden.rows, manifest.adopted.samples) == (("a", "b", "c"), 2, "given")
    with np.load(folder / "golden.npz") as golden:
        assert (golden["ids"] == 0).any(), "the shorter text is padded"


def test_the_length_is_found_where_no_file_states_it(tmp_path):
    original = export(tmp_path / "given", bert, tokenizers.wordpiece())
    (original.folder / "config.json").unlink()
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    assert adopt(tmp_path, "--labels", str(tmp_path / "labels.txt")) == 0
    assert read_manifest(tmp_path / "models" / "news" / "1").max_length == LONGEST - 2
    assert adopt(tmp_path, "--labels", str(tmp_path / "labels.txt"), "--max-length", "9") == 0
    assert read_manifest(tmp_path / "models" / "news" / "2").max_length == 7


def test_what_is_no_classifier_of_texts_is_refused_with_what_to_do(tmp_path, capsys):
    original = export(tmp_path / "given", bert, tokenizers.wordpiece())
    config = json.loads((original.folder / "config.json").read_text())

    def refused(*options: str, **changed: Any) -> str:
        (original.folder / "config.json").write_text(json.dumps(config | changed))
        assert adopt(tmp_path, *options) == 1
        assert not list(tmp_path.glob("models/**/*.onnx"))
        return capsys.readouterr().err

    assert "a text may have several labels" in refused(problem_type="multi_label_classification")
    assert "has 2 labels; the graph has 3" in refused(id2label={"0": "a", "1": "b"})
    assert "There is no nowhere.json: give the model's tokenizer.json" in refused("--tokenizer", "nowhere.json")
