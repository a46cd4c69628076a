from training.detection.options import DEFAULTS, defaults


def test_few_images_are_seen_more_often_in_smaller_batches_with_more_patience():
    few, some, many = defaults(100), defaults(300), defaults(10_000)
    assert few.epochs > some.epochs > many.epochs == DEFAULTS.epochs
    assert few.batch_size < many.batch_size == DEFAULTS.batch_size
    assert few.patience > many.patience > 0
