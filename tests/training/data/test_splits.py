import numpy as np
import pytest
from scipy.stats import binomtest

from training.data.dataset import DataError, stratified_sample
from training.data.splits import (
    draw_stratified,
    hold_out,
    limited,
    selection_of,
    split_validation,
    validation_fraction,
)
from training.export.calibration import conformal_threshold

# As in 327 validation texts of Reuters R52: two classes hold most of them, and many have a single one.
LONG_TAIL = np.repeat(np.arange(52), [143, 80, 13, 10, 10, 9, 5, 5, 5, 4, 4, 3, 3, 2, 2, *[1] * 29, *[0] * 8])


def frequency_in(draw, count, seeds):
    """How often each of `count` items is among those that `draw` gives for a seed."""
    counted = np.zeros(count)
    for seed in range(seeds):
        counted[draw(seed)] += 1
    return counted / seeds


def test_every_item_is_in_each_half_of_validation_about_half_of_the_time():
    found = frequency_in(lambda seed: split_validation(LONG_TAIL, seed)[1], len(LONG_TAIL), 600)
    np.testing.assert_allclose(found, 0.5, atol=5 * np.sqrt(0.25 / 600))


def test_both_halves_have_the_same_share_of_every_class_and_nothing_in_common():
    for seed in range(20):
        halves = split_validation(LONG_TAIL, seed)
        assert sorted(np.concatenate(halves)) == list(range(len(LONG_TAIL)))
        assert [len(half) for half in halves] == [(len(LONG_TAIL) + 1) // 2, len(LONG_TAIL) // 2]
        selection, calibration = (np.bincount(LONG_TAIL[half], minlength=52) for half in halves)
        assert np.abs(selection - calibration).max() <= 2
    again = split_validation(LONG_TAIL), split_validation(LONG_TAIL)
    np.testing.assert_array_equal(again[0][1], again[1][1])


def test_the_selection_half_alone_is_other_data(colours):
    selected = selection_of(colours)
    np.testing.assert_array_equal(selected.validation.images, colours.validation.images[colours.division[0]])
    assert len(selected.train) == len(colours.train)
    assert selected.fingerprint != colours.fingerprint


def test_classes_of_even_size_are_divided_as_before_the_division_was_recorded():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 50))
    selection, _ = split_validation(labels)
    np.testing.assert_array_equal(selection, np.sort(stratified_sample(labels, 250, seed=0)))


@pytest.mark.parametrize("coverage", [0.9, 0.99])
def test_label_sets_of_a_long_tail_cover_new_items_as_often_as_they_say(coverage):
    def scores(labels, random):
        """Probabilities of two outcomes, the true one first: networks are less sure of rare classes."""
        true = random.beta(np.where(labels < 5, 8, 1.5), 1)
        return np.stack((true, 1 - true), axis=1), np.zeros(len(labels), np.int64)

    covered, seeds = 0, 1500
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        new, *validation = random.permutation(np.append(LONG_TAIL, random.choice(LONG_TAIL)))
        _, calibration = split_validation(np.array(validation), seed)
        threshold = conformal_threshold(*scores(np.array(validation)[calibration], random), coverage)
        covered += scores(np.array([new]), random)[0][0, 0] >= threshold
    count = len(LONG_TAIL) // 2 + 1
    exact = np.ceil(count * coverage - 1e-9) / count
    low, high = binomtest(int(covered), seeds).proportion_ci(0.999)
    assert low <= exact <= high


def test_a_draw_is_as_large_as_asked_for_and_each_item_as_likely():
    found = frequency_in(lambda seed: draw_stratified(LONG_TAIL, 33, seed), len(LONG_TAIL), 1000)
    np.testing.assert_allclose(found, 33 / len(LONG_TAIL), atol=5 * np.sqrt(0.09 / 1000))
    assert found.sum() == pytest.approx(33)
    assert len(draw_stratified(np.empty(0, np.int64), 0, 0)) == 0


def test_rare_classes_are_held_out_as_often_as_others_while_training_keeps_them():
    labels = np.repeat(np.arange(12), [100, *[3] * 10, 1])

    def taken(seed):
        kept, held_out = hold_out("here", "validation", len(labels), 0.1, seed, labels)
        assert set(labels[kept]) == set(range(12))
        assert sorted([*kept, *held_out]) == list(range(len(labels)))
        return held_out

    found = frequency_in(taken, len(labels), 1000)
    np.testing.assert_allclose(found[:-1], 14 / len(labels), atol=5 * np.sqrt(0.09 / 1000))
    assert found[-1] == 0


def test_items_without_labels_are_held_out_too():
    kept, taken = hold_out("here", "test", 50, 0.2, 0)
    assert (len(kept), len(taken)) == (40, 10)
    for count in (0, 1):
        with pytest.raises(DataError, match=rf"too few items \({count}\) to hold out a test split"):
            hold_out("here", "test", count, 0.2, 0)


def test_a_limit_keeps_every_class_in_training_alone():
    assert set(LONG_TAIL[limited("train", LONG_TAIL, 60, 0)]) == set(LONG_TAIL)
    drawn = limited("validation", LONG_TAIL, 60, 0)
    assert len(drawn) == 60
    assert (LONG_TAIL[drawn] < 2).sum() == pytest.approx(60 * 223 / len(LONG_TAIL), abs=2)
    assert len(limited("test", LONG_TAIL, 1000, 0)) == len(LONG_TAIL)


@pytest.mark.parametrize(
    ("count", "items"), [(8, 2), (100, 25), (199, 49), (220, 50), (400, 50), (500, 50), (1484, 148.4), (45_000, 4500)]
)
def test_a_tenth_is_held_out_for_validation_or_50_items_or_a_quarter(count, items):
    assert count * validation_fraction(count, 0.1) == pytest.approx(items)
