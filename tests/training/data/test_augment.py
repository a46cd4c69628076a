import numpy as np
import pytest
import torch

from training.data.augment import Augment, PhotoAugment, cutmix, mixup, to_pixels

IDENTITY = Augment(flip=False, translate=0, cutout=0)


def images(count=16, height=9, width=7, channels=3, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (count, height, width, channels), dtype=np.uint8))


def augmented(augment, batch, epoch=0, seed=0, first=0):
    indices = torch.arange(first, first + len(batch))
    return augment(batch, indices, epoch, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
def test_batch_becomes_float_pixels_in_channels_last_order(channels):
    pixels = augmented(Augment(), images(channels=channels))
    assert pixels.shape == (16, channels, 9, 7)
    assert pixels.dtype == torch.float32
    assert 0 <= pixels.min() < pixels.max() <= 1
    assert pixels.is_contiguous(memory_format=torch.channels_last)


def test_to_pixels_scales_each_byte_and_moves_the_channels():
    batch = images()
    pixels = to_pixels(batch)
    assert pixels.shape == (16, 3, 9, 7)
    assert pixels.dtype == torch.float32
    np.testing.assert_allclose(pixels[3, 2].numpy(), batch[3, :, :, 2].numpy() / 255, rtol=1e-6)


def test_nothing_switched_on_gives_exactly_the_pixels_of_evaluation():
    batch = images()
    assert torch.equal(augmented(IDENTITY, batch), to_pixels(batch))


def test_each_image_is_mirrored_in_every_other_epoch():
    batch = images(count=200)
    flip = Augment(flip=True, translate=0, cutout=0)
    plain, mirrored = to_pixels(batch), to_pixels(batch).flip(3)
    by_epoch = []
    for epoch in range(4):
        pixels = augmented(flip, batch, epoch)
        is_mirrored = (pixels == mirrored).flatten(1).all(1)
        assert ((pixels == plain).flatten(1).all(1) == ~is_mirrored).all()
        by_epoch.append(is_mirrored)
    assert torch.equal(by_epoch[0], ~by_epoch[1])
    assert torch.equal(by_epoch[0], by_epoch[2])
    assert torch.equal(by_epoch[1], by_epoch[3])
    # Mirrored and unmirrored images are mixed: a batch is never mirrored as a whole.
    assert 70 <= by_epoch[0].sum() <= 130


def test_mirroring_follows_the_image_and_not_its_index_in_the_batch():
    batch = images(count=20)
    flip = Augment(flip=True, translate=0, cutout=0)
    whole = augmented(flip, batch)
    assert torch.equal(augmented(flip, batch[5:], first=5), whole[5:])


def test_same_generator_seed_gives_the_same_batch_and_another_does_not():
    batch = images()
    assert torch.equal(augmented(Augment(), batch, seed=4), augmented(Augment(), batch, seed=4))
    assert not torch.equal(augmented(Augment(), batch, seed=4), augmented(Augment(), batch, seed=5))


def test_translation_shifts_by_at_most_its_limit_and_mirrors_the_border():
    ramp = torch.arange(8, dtype=torch.uint8).view(1, 1, 8, 1).expand(300, 8, 8, 1)
    pixels = augmented(Augment(flip=False, translate=2, cutout=0), ramp) * 255
    rows = {tuple(row.round().int().tolist()) for row in pixels[:, 0, 0]}
    assert rows == {
        (2, 1, 0, 1, 2, 3, 4, 5),
        (1, 0, 1, 2, 3, 4, 5, 6),
        (0, 1, 2, 3, 4, 5, 6, 7),
        (1, 2, 3, 4, 5, 6, 7, 6),
        (2, 3, 4, 5, 6, 7, 6, 5),
    }


def test_cutout_blanks_a_square_of_at_most_its_side():
    white = torch.full((100, 16, 16, 3), 255, dtype=torch.uint8)
    blank = augmented(Augment(flip=False, translate=0, cutout=5), white) == 0.5
    assert torch.equal(blank.all(1), blank.any(1))
    areas = blank[:, 0].flatten(1).sum(1)
    assert areas.min() >= 1
    assert areas.max() == 25
    heights, widths = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert torch.equal(heights * widths, areas)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_images_smaller_than_the_shift_and_the_square_stay_in_range(size):
    batch = images(count=64, height=size, width=size)
    pixels = augmented(Augment(translate=4, cutout=8), batch)
    assert pixels.shape == (64, 3, size, size)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_mirrored_agrees_with_the_augmentation():
    batch = images(count=50)
    for epoch in range(2):
        pixels = augmented(Augment(translate=0, cutout=0), batch, epoch)
        mirrored = Augment().mirrored(torch.arange(50), epoch)
        assert torch.equal(mirrored, (pixels != to_pixels(batch)).flatten(1).any(1))
    assert not Augment(flip=False).mirrored(torch.arange(50), 0).any()


def test_cutmix_pastes_one_rectangle_of_the_partner_into_each_image_and_returns_the_remaining_fraction():
    shares = []
    for seed in range(50):
        # Every image has its own colour, so that each pixel shows which image it is from.
        original = torch.arange(12.0).view(12, 1, 1, 1).expand(12, 3, 16, 10).clone()
        pixels, partner, kept = cutmix(original.clone(), torch.Generator().manual_seed(seed))
        assert sorted(partner.tolist()) == list(range(12))
        own = pixels == original
        for row in range(12):
            if partner[row] == row:
                continue
            pasted = ~own[row, 0]
            assert torch.equal(~own[row], pasted.expand(3, -1, -1))
            assert (pixels[row][:, pasted] == partner[row]).all()
            assert pasted.sum() == pasted.any(1).sum() * pasted.any(0).sum()
            assert pasted.float().mean().item() == pytest.approx(1 - kept)
        shares.append(kept)
    assert min(shares) < 0.3
    assert max(shares) > 0.9


@pytest.mark.parametrize(
    ("shape", "translate", "cutout"),
    [((28, 28, 1), 4, 8), ((32, 32, 3), 4, 8), ((128, 128, 3), 16, 32), ((224, 224, 3), 28, 56), ((96, 64, 3), 8, 16)],
)
def test_shifts_and_squares_keep_their_proportion_in_larger_images(shape, translate, cutout):
    scaled = Augment(flip=False, cutmix=0.5).scaled_to(shape)
    assert scaled == Augment(flip=False, translate=translate, cutout=cutout, cutmix=0.5)


def cropped(augment, batch, size=(10, 10), epoch=0, seed=0):
    indices, rng = torch.arange(len(batch)), torch.Generator().manual_seed(seed)
    return augment(batch, indices, epoch, size, rng)


CROP = PhotoAugment(flip=False, jitter=0, trivial=False)


@pytest.mark.parametrize("channels", [1, 3])
def test_photographs_become_bytes_of_the_size_that_is_asked_for(channels):
    pixels = cropped(PhotoAugment(), images(4, 30, 40, channels), size=(12, 16))
    assert (pixels.shape, pixels.dtype) == ((4, 12, 16, channels), torch.uint8)


def test_crops_follow_from_the_generator_and_leave_the_global_one_alone():
    batch = images(6, 30, 30)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = cropped(PhotoAugment(), batch, seed=4)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(cropped(PhotoAugment(), batch, seed=4), first)
    assert not torch.equal(cropped(PhotoAugment(), batch, seed=5), first)


def test_a_crop_of_a_ramp_keeps_at_least_its_fraction_and_its_direction():
    ramp = torch.arange(64, dtype=torch.uint8).view(1, 1, 64, 1).expand(200, 64, 64, 3)
    rows = cropped(CROP, ramp, size=(16, 16))[:, 0, :, 0].float()
    widths = (rows[:, -1] - rows[:, 0]) / 15 * 16
    assert (rows.diff(dim=1) >= 0).all()
    # An area of 0.6 has a width of at least its root, but for the aspect.
    assert widths.min() > 64 * (0.6 * 0.75) ** 0.5 - 4
    assert widths.max() > 60


def test_whole_photographs_are_merely_resized_and_mirrored_in_every_other_epoch():
    batch = images(40, 20, 20)
    whole = PhotoAugment(crop=1.0, jitter=0, trivial=False)
    by_epoch = [
        (cropped(whole, batch, (20, 20), epoch).float() - batch.flip(2)).abs().flatten(1).mean(1) for epoch in (0, 1)
    ]
    mirrored = whole.mirrored(torch.arange(40), 0)
    assert (by_epoch[0][mirrored] < by_epoch[1][mirrored]).all()
    assert (by_epoch[0][~mirrored] > by_epoch[1][~mirrored]).all()


def test_mixup_blends_with_one_partner():
    pixels = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 3, 4, 4)
    mixed, partner, kept = mixup(pixels, torch.Generator().manual_seed(1))
    assert 0.5 <= kept <= 1
    assert sorted(partner.tolist()) == list(range(8))
    torch.testing.assert_close(mixed, pixels * kept + pixels[partner] * (1 - kept))
