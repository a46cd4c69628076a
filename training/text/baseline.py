"""The linear baseline that a network must beat: tf-idf of words and word pairs, and a linear classifier."""

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from training.text.data import TextData


def linear_baseline(data: TextData) -> float:
    """Test accuracy of a linear support vector machine (Joachims 1998) trained on the training split."""
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        LinearSVC(random_state=0),
    )
    model.fit(data.train.texts, data.train.labels)
    return float(model.score(data.test.texts, data.test.labels))
