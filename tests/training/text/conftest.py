import csv
import json

import datasets
import numpy as np
import pytest

# Two languages, each with the words of its two classes and some neutral ones.
ENGLISH = (("oil", "crude", "barrel", "opec"), ("wheat", "corn", "harvest", "grain"), ("the", "of", "said", "prices"))
KOREAN = (
    ("영화", "재미있다", "최고", "감동"),
    ("지루하다", "실망", "최악", "돈낭비"),
    ("정말", "이", "그리고", "배우가"),
)


def make_texts(words, count, seed):
    """Texts of 3 to 20 words and their classes."""
    random = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(count):
        label = int(random.integers(2))
        telling = random.choice(words[label], random.integers(1, 4))
        rest = random.choice(words[2], random.integers(2, 17))
        texts.append(" ".join(random.permutation(np.concatenate((telling, rest)))))
        labels.append(label)
    return texts, labels


def write_parquet(folder, words=ENGLISH, classes=("crude", "grain"), **counts):
    folder.mkdir(parents=True)
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(classes))})
    for seed, (name, count) in enumerate(counts.items()):
        texts, labels = make_texts(words, count, seed)
        part = datasets.Dataset.from_dict({"text": texts, "label": labels}, features=features)
        part.to_parquet(folder / f"{name}-00000-of-00001.parquet")
    return str(folder)


def write_csv(path, words=ENGLISH, classes=("crude", "grain"), count=60, columns=("text", "label")):
    texts, labels = make_texts(words, count, 0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows((text, classes[label]) for text, label in zip(texts, labels, strict=True))
    return str(path)


def write_jsonl(path, words=ENGLISH, classes=("crude", "grain"), count=60):
    texts, labels = make_texts(words, count, 0)
    rows = [{"text": text, "label": classes[label]} for text, label in zip(texts, labels, strict=True)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def source(tmp_path):
    return write_parquet(tmp_path / "data", train=120, test=40)
