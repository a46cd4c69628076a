import numpy as np

from service.inference.cards import GoldenCard
from service.inference.session import Session
from training.classification.graph import ClassifierGraph
from training.classification.labels import predict
from training.export.calibration import Scaling, softmax
from training.export.graph import export, torch_outputs


def test_graph_gives_the_softmax_of_the_scaled_logits(exported_cnn, colours):
    outputs = torch_outputs(exported_cnn.graph, colours.test.images, ("probabilities",))
    logits = predict(exported_cnn.graph.network, colours.test.images)
    np.testing.assert_allclose(outputs["probabilities"], softmax(logits / 1.7), atol=1e-6)


def test_graph_of_a_network_without_state_in_training_mode_is_evaluated(tiny_cnn, colours, tmp_path):
    # Batch normalisation in training mode would make a row depend on its batch.
    graph = ClassifierGraph(tiny_cnn().train(), Scaling())
    export(
        graph,
        colours.test.images,
        tmp_path / "m.onnx",
        input_name="images",
        output_names=("probabilities",),
        max_batch=7,
        card=GoldenCard(rows=1, atol=1e-4),
    )
    session = Session(tmp_path / "m.onnx", "cpu")
    whole = session.run({"images": colours.test.images[:7]})[0]
    alone = session.run({"images": colours.test.images[3:4]})[0]
    np.testing.assert_allclose(alone[0], whole[3], atol=1e-5)
