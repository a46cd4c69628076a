import httpx
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import Unigram, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, Metaspace
from tokenizers.processors import TemplateProcessing

from service.app import create_app
from service.inference.manifest import MODEL
from service.inference.session import Session
from service.settings import Settings
from service.tasks.registry import read_manifest
from service.tasks.text.reading import PAD, UNKNOWN
from tests.training.text.conftest import ENGLISH, make_texts, write_parquet
from tests.training.text.test_recipe import run
from training.options import BackboneFitOptions, PublishOptions
from training.text.options import NetworkSettings, TokenSettings
from training.text.transformer import TransformerNetwork

transformers = pytest.importorskip("transformers")

WORDS = sorted({word for words in ENGLISH for word in words})
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
BERT = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
ROBERTA = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"}


def save(folder, encoder, tokenizer, names):
    first, last = names["cls_token"], names["sep_token"]
    special = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    tokenizer.post_processor = TemplateProcessing(single=f"{first} $A {last}", special_tokens=special)
    encoder.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return folder


def save_bert(folder, distilled=False):
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "-", *list(BERT.values())[1:], *WORDS, "##s"])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    torch.manual_seed(0)
    if distilled:
        config = transformers.DistilBertConfig(
            vocab_size=len(vocabulary), dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=12
        )
        return save(folder, transformers.DistilBertModel(config), tokenizer, BERT)
    config = transformers.BertConfig(vocab_size=len(vocabulary), **SIZES, max_position_embeddings=12)
    return save(folder, transformers.BertModel(config), tokenizer, BERT)


def save_roberta(folder):
    vocabulary = [(token, 0.0) for token in ROBERTA.values()] + [(f"\u2581{word}", -2.0) for word in WORDS]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=3))
    tokenizer.pre_tokenizer = Metaspace()
    torch.manual_seed(0)
    config = transformers.RobertaConfig(vocab_size=len(vocabulary), **SIZES, max_position_embeddings=14, pad_token_id=1)
    return save(folder, transformers.RobertaModel(config), tokenizer, ROBERTA)


@pytest.mark.parametrize("make", [save_bert, lambda folder: save_bert(folder, distilled=True), save_roberta])
def test_served_ids_give_what_the_pretrained_model_makes_of_its_own(tmp_path, make):
    network = TransformerNetwork(f"transformers:{make(tmp_path / 'model')}", 3).eval()
    assert network.most == 10
    text = "oil zebra wheat"
    ids = network.tokenizer.encode(text).ids
    assert ids.count(UNKNOWN) == 1
    assert PAD not in ids
    own = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")(text, return_tensors="pt")["input_ids"]
    assert network.own_ids[ids].tolist() == own[0, 1:-1].tolist()
    assert set(network.parameters()) - set(network.pretrained()) == set(network.head.parameters())
    wanted = torch.log_softmax(network.head(network.backbone(input_ids=own).last_hidden_state.mean(1)), -1)
    torch.testing.assert_close(network(torch.tensor([ids])), wanted)
    torch.testing.assert_close(network(torch.tensor([[*ids, PAD, PAD]])), wanted)


async def test_a_backbone_is_fine_tuned_exported_and_served(tmp_path):
    backbone = f"transformers:{save_bert(tmp_path / 'tiny')}"
    source = write_parquet(tmp_path / "data", train=120, test=40)
    fit = BackboneFitOptions(epochs=8, batch_size=8, lr=0.02, backbone_lr=0.01)
    publishing = PublishOptions(models=tmp_path / "models", yes=True)
    said = run(source, tmp_path, backbone=backbone, fit=fit, network=NetworkSettings(), linear=False, publish=True,
               publishing=publishing)  # fmt: skip
    assert "texts are truncated to 10" in said
    folder = tmp_path / "models" / "topics" / "1"
    manifest = read_manifest(folder)
    assert manifest.max_length == 10
    assert manifest.metrics.accuracy > 0.8
    assert manifest.training.settings["backbone"] == "transformers:tiny"
    assert "tiny, fine-tuned" in manifest.description
    Session(folder / MODEL, "cpu").check(folder, manifest)
    app = create_app(Settings(models=tmp_path / "models", device="cpu", threads=1))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://quartet") as client,
    ):
        texts, labels = make_texts(ENGLISH, 40, seed=9)
        answer = (await client.post("/v1/classify-text?top_k=1", json={"texts": texts})).json()
        found = [result["labels"][0]["label"] for result in answer["results"]]
        assert sum(one == ("crude", "grain")[label] for one, label in zip(found, labels, strict=True)) > 30
        (result,) = (await client.post("/v1/classify-text?explain=true", json={"text": "Oils zebra"})).json()["results"]
        assert (result["tokens"], result["unknown"]) == (3, 1)
        assert [word["word"] for word in result["words"]] == ["Oil", "s", "zebra"]


def test_what_cannot_be_a_backbone_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--backbone transformers:nowhere/at-all: "):
        TransformerNetwork("transformers:nowhere/at-all", 2)
    source = write_parquet(tmp_path / "data", train=20, test=10)
    backbone = f"transformers:{save_bert(tmp_path / 'tiny')}"
    for options, message in (
        ({"backbone": "bert"}, "--backbone bert: must be transformers: and a hub id or a folder"),
        ({"backbone": backbone}, "--embedding has no effect with --backbone"),
        ({"fit": BackboneFitOptions(backbone_lr=0.1)}, "--backbone-lr has no effect without --backbone"),
        ({"backbone": backbone, "network": NetworkSettings(), "tokens": TokenSettings(length=11)}, "10 tokens at most"),
    ):
        with pytest.raises(ValueError, match=message):
            run(source, tmp_path, **options)
