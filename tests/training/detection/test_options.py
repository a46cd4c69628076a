from training.detection.options import DEFAULTS, NetworkSettings, defaults


def test_few_images_are_seen_more_often_in_smaller_batches_with_more_patience():
    few, some, many = defaults(100), defaults(300), defaults(10_000)
    assert few.epochs > some.epochs > many.epochs == DEFAULTS.epochs
    assert few.batch_size < many.batch_size == DEFAULTS.batch_size
    assert few.patience > many.patience > 0


def test_with_few_images_more_of_the_default_backbone_is_frozen():
    assert NetworkSettings().for_images(100).freeze == 4
    assert NetworkSettings().for_images(10_000).freeze == 2
    assert NetworkSettings(backbone="resnet18").for_images(100).freeze == 2
    assert NetworkSettings(freeze=0).for_images(100).freeze == 0
