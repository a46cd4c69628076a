"""What the service answers, as dataclasses, a module for each task."""

from quartet.answers.autoencoder import (
    DecodedImage,
    Encoding,
    GeneratedImage,
    Generation,
    Reconstruction,
    SavedGeneration,
)
from quartet.answers.base import Answer, ImageAnswer, Picture, RatedAnswer, ServedBy
from quartet.answers.classification import Label, Labelled, Prediction
from quartet.answers.detection import Box, Detections, Threshold
from quartet.answers.models import Model
from quartet.answers.tabular import RowPrediction
from quartet.answers.text import TextPrediction, Word

__all__ = [
    "Answer",
    "Box",
    "DecodedImage",
    "Detections",
    "Encoding",
    "GeneratedImage",
    "Generation",
    "ImageAnswer",
    "Label",
    "Labelled",
    "Model",
    "Picture",
    "Prediction",
    "RatedAnswer",
    "Reconstruction",
    "RowPrediction",
    "SavedGeneration",
    "ServedBy",
    "TextPrediction",
    "Threshold",
    "Word",
]
