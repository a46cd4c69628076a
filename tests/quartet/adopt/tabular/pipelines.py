"""Graphs as skl2onnx 1.20 writes them, with few columns."""

from onnx import ModelProto, parser

# Imputer, scaler, one-hot encoders that ignore other words, logistic regression; `port` has missing values.
SURVIVAL = """
<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 1], producer_name: "skl2onnx", producer_version: "1.20.0">
pipeline (float[N,1] age, float[N,1] fare, string[N,1] sex, string[N,1] port)
  => (string[N] output_label, float[N,2] output_probability)
  <int64[2] shape_tensor = {-1, 5}>
{
  merged = Concat <axis: int = 1> (age, fare)
  sexout = ai.onnx.ml.OneHotEncoder <cats_strings: strings = ["female", "male"], zeros: int = 1> (sex)
  portout = ai.onnx.ml.OneHotEncoder <cats_strings: strings = ["Busan", "Inchon", "nan"], zeros: int = 1> (port)
  encoded = Concat <axis: int = -1> (sexout, portout)
  filled = ai.onnx.ml.Imputer <imputed_value_floats: floats = [50.0, 30.0], replaced_value_float: float = nan> (merged)
  flat = Reshape (encoded, shape_tensor)
  scaled = ai.onnx.ml.Scaler <offset: floats = [50.0, 30.0], scale: floats = [0.05, 0.1]> (filled)
  features = Concat <axis: int = 1> (flat, scaled)
  label, probabilities = ai.onnx.ml.LinearClassifier <
    classlabels_strings: strings = ["no", "yes"],
    coefficients: floats = [-1.5, 1.5, -0.2, 0.1, 0.7, -0.3, -0.6, 1.5, -1.5, 0.2, -0.1, -0.7, 0.3, 0.6],
    intercepts: floats = [0.1, -0.1], multi_class: int = 0, post_transform: string = "LOGISTIC"> (features)
  output_label = Identity (label)
  output_probability = Identity (probabilities)
}
"""

# An integer and a word, each known to encoders that accept no other; integer classes.
STRICT = """
<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 2]>
pipeline (int64[N,1] deck, string[N,1] sex, int64[N,1] age) => (int64[N] label, float[N,2] probabilities)
  <int64[2] shape_tensor = {-1, 1}>
{
  deck_out = ai.onnx.ml.OneHotEncoder <cats_int64s: ints = [3, 5, 8], zeros: int = 0> (deck)
  code = ai.onnx.ml.LabelEncoder <keys_strings: strings = ["f", "m"], values_int64s: ints = [0, 1]> (sex)
  code_out = Reshape (code, shape_tensor)
  flat = Flatten <axis: int = 1> (deck_out)
  code_float = Cast <to: int = 1> (code_out)
  years = Cast <to: int = 1> (age)
  features = Concat <axis: int = 1> (flat, code_float, years)
  label, probabilities = ai.onnx.ml.LinearClassifier <
    classlabels_ints: ints = [2, 5], coefficients: floats = [-1.0, 0.5, 2.0, 0.3, -0.01, 1.0, -0.5, -2.0, -0.3, 0.01],
    intercepts: floats = [0.0, 0.0], post_transform: string = "LOGISTIC"> (features)
}
"""

# A matrix, scaled, to one regression tree whose thresholds are in scaled units: 40 and 60, and 5.
TREE = """
<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 1]>
tree (float[N,2] X) => (float[N,1] variable)
{
  scaled = ai.onnx.ml.Scaler <offset: floats = [50.0, 0.0], scale: floats = [0.1, 2.0]> (X)
  variable = ai.onnx.ml.TreeEnsembleRegressor <
    n_targets: int = 1, nodes_featureids: ints = [0, 0, 1, 0, 0, 0, 0], nodes_modes: strings =
    ["BRANCH_LEQ", "BRANCH_LEQ", "BRANCH_LEQ", "LEAF", "LEAF", "LEAF", "LEAF"],
    nodes_values: floats = [-1.0, 1.0, 10.0, 0.0, 0.0, 0.0, 0.0], nodes_treeids: ints = [0, 0, 0, 0, 0, 0, 0],
    nodes_nodeids: ints = [0, 1, 2, 3, 4, 5, 6], nodes_truenodeids: ints = [1, 3, 5, 0, 0, 0, 0],
    nodes_falsenodeids: ints = [2, 4, 6, 0, 0, 0, 0], nodes_missing_value_tracks_true: ints = [1, 0, 0, 0, 0, 0, 0],
    target_ids: ints = [0, 0, 0, 0], target_nodeids: ints = [3, 4, 5, 6], target_treeids: ints = [0, 0, 0, 0],
    target_weights: floats = [1.0, 2.0, 3.0, 4.0]> (scaled)
}
"""

# Counts the words of a text.
WORDS = """
<ir_version: 10, opset_import: ["" : 21]>
words (string[N,1] review) => (float[N,2] score)
{
  score = TfIdfVectorizer <max_gram_length: int = 1, max_skip_count: int = 0, min_gram_length: int = 1,
    mode: string = "TF", ngram_counts: ints = [0], ngram_indexes: ints = [0, 1],
    pool_strings: strings = ["good", "bad"]> (review)
}
"""


# As PyTorch exports a network: a matrix, to scores.
NETWORK = """
<ir_version: 10, opset_import: ["" : 18]>
network (float[batch,2] input) => (float[batch,3] scores)
  <float[2,3] weight = {1.0, -1.0, 0.5, 0.2, 0.3, -0.4}, float[3] bias = {0.1, 0.0, -0.1}>
{
  scores = Gemm (input, weight, bias)
}
"""

# In float64, which pandas has by default, with matrices of numbers and of words, and a ZipMap.
MATRICES = """
<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 1]>
pipeline (double[N,2] numbers, string[N,2] words) => (string[N] label, seq(map(string, float[])) probability)
  <double[2] mean = {50.0, 3.0}, double[2] deviation = {10.0, 2.0}, int64[1] zero = {0}, int64[1] one = {1},
   int64[2] flat = {-1, 4}, int64[1] row = {-1}, string[2] classes = {"no", "yes"},
   double[6,2] weight = {1.0, -1.0, 0.5, -0.5, 0.3, -0.3, -0.3, 0.3, 0.6, -0.6, -0.6, 0.6}>
{
  centred = Sub (numbers, mean)
  scaled = Div (centred, deviation)
  first = Gather <axis: int = 1> (words, zero)
  second = Gather <axis: int = 1> (words, one)
  first_out = ai.onnx.ml.OneHotEncoder <cats_strings: strings = ["f", "m"], zeros: int = 1> (first)
  second_out = ai.onnx.ml.OneHotEncoder <cats_strings: strings = ["a", "b"], zeros: int = 1> (second)
  encoded = Concat <axis: int = -1> (first_out, second_out)
  flattened = Reshape (encoded, flat)
  wide = Cast <to: int = 11> (flattened)
  features = Concat <axis: int = 1> (scaled, wide)
  scores = MatMul (features, weight)
  index = ArgMax <axis: int = 1> (scores)
  probabilities = Softmax <axis: int = -1> (scores)
  chosen = ai.onnx.ml.ArrayFeatureExtractor (classes, index)
  label = Reshape (chosen, row)
  probability = ai.onnx.ml.ZipMap <classlabels_strings: strings = ["no", "yes"]> (probabilities)
}
"""


def parse(text: str) -> ModelProto:
    """The graph of a text."""
    return parser.parse_model(text)
