"""The cheap baseline of texts: logistic regression on tf-idf of characters."""

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from training.baseline import Baseline
from training.data.dataset import stratified_sample
from training.text.data import TextData, TextSplit

# Characters of the training texts times machines that are fitted in about half a minute on one core.
_MOST_CHARACTERS = 60_000_000
# With fewer texts even the runs of a single one count.
_FEW_TEXTS = 100


def fit_baseline(data: TextData) -> Baseline:
    """Logistic regression, one class against the rest, on tf-idf of runs of two to five characters within words.

    Of the training texts, a stratified sample is used where all would take much longer than half a minute.
    """
    train = data.train
    machines = 1 if len(data.classes) == 2 else len(data.classes)
    per_text = sum(map(len, train.texts)) * machines / len(train)
    used = train.take(np.sort(stratified_sample(train.labels, max(1_000, int(_MOST_CHARACTERS / per_text)), 0)))
    model = make_pipeline(
        TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2 if len(used) > _FEW_TEXTS else 1
        ),
        OneVsRestClassifier(LogisticRegression(C=10, solver="liblinear")),
    ).fit(used.texts, used.labels)

    def accuracy(split: TextSplit) -> float:
        return float((model.predict(split.texts) == split.labels).mean())

    sample = "" if len(used) == len(train) else ", on a sample"
    return Baseline(
        name=f"logistic regression on tf-idf of 2 to 5 characters{sample}",
        figure="accuracy",
        validation=accuracy(data.validation.take(data.division[0])),
        items=len(used),
        test=lambda: accuracy(data.test),
    )
