import json
import shutil

import datasets
import numpy as np
import pytest
from PIL import Image

from training.data.dataset import DataError
from training.data.images import ImageSplit, load_images
from training.data.lazy import LazyImages

CLASSES = ("blue", "green", "red")


def parts(split):
    return split.images, split.labels


def order(split):
    """The items in an order that does not depend on how they were shuffled."""
    keys = [image.tobytes() for image in split.images]
    return split.take(np.array(sorted(range(len(split)), key=keys.__getitem__)))


def rows(*splits):
    return {image.tobytes() for split in splits for image in split.images}


@pytest.fixture(scope="module")
def splits(draw):
    """Train, validation, test."""
    return draw(12, seed=1), draw(4, seed=2), draw(5, seed=3)


@pytest.fixture(scope="module")
def parquet(write_parquet, splits, tmp_path_factory):
    train, validation, test = map(parts, splits)
    return write_parquet(tmp_path_factory.mktemp("parquet"), train=train, validation=validation, test=test)


@pytest.fixture(scope="module")
def train_only(write_parquet, draw, tmp_path_factory):
    """60 images in classes of 30, 20 and 10."""
    whole = draw(30, seed=4)
    uneven = whole.take(np.r_[0:30, 30:50, 60:70])
    return write_parquet(tmp_path_factory.mktemp("train-only"), train=parts(uneven)), uneven


def test_splits_of_a_parquet_folder_are_taken_as_they_are(parquet, splits):
    data = load_images(parquet)
    for loaded, written in zip((data.train, data.validation, data.test), splits, strict=True):
        np.testing.assert_array_equal(loaded.images, written.images)
        np.testing.assert_array_equal(loaded.labels, written.labels)
        assert loaded.images.dtype == np.uint8
        assert loaded.labels.dtype == np.int64
    assert data.classes == CLASSES
    assert data.shape == (12, 12, 3)
    assert data.fingerprint.startswith("files-sha256:")


def test_data_set_is_named_for_its_folder(parquet, tmp_path):
    assert load_images(parquet).name == parquet.rsplit("/", 1)[1]


def test_class_folders_give_the_same_arrays_as_parquet(parquet, write_class_folders, splits, tmp_path):
    train, validation, test = map(parts, splits)
    folder = write_class_folders(tmp_path / "set", train=train, validation=validation, test=test)
    data, expected = load_images(folder), load_images(parquet)
    assert data.classes == CLASSES
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(data, name).images, getattr(expected, name).images)
        np.testing.assert_array_equal(getattr(data, name).labels, getattr(expected, name).labels)
    assert data.fingerprint == expected.fingerprint


def test_class_folders_at_the_top_are_all_training_images_to_hold_out_from(write_class_folders, draw, tmp_path):
    whole = draw(10)
    data = load_images(write_class_folders(tmp_path / "set", _=parts(whole)))
    assert data.classes == CLASSES
    assert rows(data.train, data.validation, data.test) == rows(whole)


@pytest.mark.parametrize("name", ["valid", "val"])
def test_other_names_of_the_validation_split_are_known(write_class_folders, splits, tmp_path, name):
    train, validation, test = splits
    folder = write_class_folders(
        tmp_path / "set", **{"train": parts(train), name: parts(validation), "test": parts(test)}
    )
    np.testing.assert_array_equal(load_images(folder).validation.images, validation.images)


def test_relative_path_from_the_home_folder_is_read(write_parquet, splits, tmp_path, monkeypatch):
    write_parquet(tmp_path / "set", train=parts(splits[0]))
    monkeypatch.setenv("HOME", str(tmp_path))
    data = load_images("~/set")
    assert rows(data.train, data.validation, data.test) == rows(splits[0])
    assert data.name == "set"


def test_held_out_splits_are_disjoint_and_lose_nothing(train_only):
    source, whole = train_only
    data = load_images(source)
    assert len(data.train) + len(data.validation) + len(data.test) == 60
    assert rows(data.train, data.validation, data.test) == rows(whole)


def test_held_out_splits_are_stratified(train_only):
    data = load_images(train_only[0], validation=0.25)
    assert np.bincount(data.test.labels).tolist() == [6, 4, 2]
    assert np.bincount(data.validation.labels).tolist() == [6, 4, 2]
    assert np.bincount(data.train.labels).tolist() == [18, 12, 6]


def test_classes_of_a_few_images_are_held_out_by_chance(write_parquet, draw, tmp_path):
    split = draw(20)
    keep = np.concatenate((np.arange(20), np.arange(20, 24), np.arange(40, 44)))
    source = write_parquet(tmp_path / "set", train=(split.images[keep], split.labels[keep]))
    counts = [np.bincount(load_images(source, seed=seed).validation.labels, minlength=3) for seed in range(8)]
    assert len({tuple(count) for count in counts}) > 1
    assert {0, 1} <= {int(count[1]) for count in counts}


def test_held_out_splits_follow_the_seed(train_only):
    first, again, other = (load_images(train_only[0], seed=seed) for seed in (7, 7, 8))
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(first, name).images, getattr(again, name).images)
        assert rows(getattr(first, name)) != rows(getattr(other, name))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_labels_stay_with_their_images_in_held_out_splits(train_only):
    data = load_images(train_only[0])
    for split in (data.train, data.validation, data.test):
        brightest = split.images.astype(int).sum((1, 2)).argmax(1)
        np.testing.assert_array_equal(split.labels, 2 - brightest)


def test_given_validation_split_becomes_the_test_split_where_there_is_none(write_parquet, splits, tmp_path):
    train, validation, _ = splits
    data = load_images(write_parquet(tmp_path / "set", train=parts(train), validation=parts(validation)))
    np.testing.assert_array_equal(data.test.images, validation.images)
    assert rows(data.train, data.validation) == rows(train)


def test_given_test_split_is_kept_and_validation_held_out_from_train(write_parquet, splits, tmp_path):
    train, _, test = splits
    data = load_images(write_parquet(tmp_path / "set", train=parts(train), test=parts(test)))
    np.testing.assert_array_equal(data.test.images, test.images)
    assert rows(data.train, data.validation) == rows(train)
    assert len(data.validation) == 9


def test_a_missing_string_label_is_named_with_its_row(png, draw, tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    images = draw(3).images
    rows = {
        "image": [{"bytes": png(image), "path": None} for image in images],
        "label": ["a"] * (len(images) - 1) + [None],
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=rf"\[train\] row {len(images) - 1}: label None is none of"):
        load_images(str(tmp_path))


def test_string_labels_mean_the_same_class_in_every_split(png, draw, tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    full, two_classes = draw(12, seed=1), draw(4, seed=2).take(np.arange(4, 12))
    for name, split in (("train", full), ("test", two_classes)):
        datasets.Dataset.from_dict(
            {
                "image": [{"bytes": png(image), "path": None} for image in split.images],
                "label": [CLASSES[label] for label in split.labels],
            },
            features=features,
        ).to_parquet(tmp_path / f"{name}.parquet")
    data = load_images(str(tmp_path))
    assert data.classes == CLASSES
    np.testing.assert_array_equal(data.test.labels, two_classes.labels)


@pytest.mark.parametrize("source", ["/no/such/folder", "./no-such-folder", "~/no-such-folder"])
def test_wrong_path_is_named(source):
    with pytest.raises(DataError, match=f"{source}: no such folder"):
        load_images(source)


def test_images_of_a_format_that_is_not_read_say_so(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(10):
            (tmp_path / name / f"{number}.pgm").write_bytes(b"P5 2 2 255\n0000")
    with pytest.raises(
        DataError, match=r"\d\.pgm: The bytes are no image of a known format \(JPEG, PNG, .*: convert it"
    ):
        load_images(str(tmp_path))


def test_the_size_before_resizing_is_known(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("RGB", (60, 40) if number else (50, 40), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    data = load_images(str(tmp_path), size=32)
    assert (data.shape, data.original) == ((32, 32, 3), (40, 60))


def test_folder_without_data_is_named(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        load_images(str(tmp_path))


def test_missing_column_is_an_error_that_lists_what_there_is(tmp_path):
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"needs a column of images and one of class labels.*text \(Value\)"):
        load_images(str(tmp_path))


def test_set_without_a_train_split_is_an_error_that_lists_its_splits(write_parquet, splits, tmp_path):
    folder = write_parquet(tmp_path / "set", test=parts(splits[2]))
    with pytest.raises(DataError, match="no train split, only test"):
        load_images(folder)


def test_empty_class_folder_is_named(write_class_folders, splits, tmp_path):
    folder = write_class_folders(tmp_path / "set", train=parts(splits[0]))
    (tmp_path / "set" / "train" / "yellow").mkdir()
    with pytest.raises(DataError, match="train/yellow: the class folder holds no file"):
        load_images(folder)


@pytest.mark.parametrize("name", ["blue/test 1.png", "train_1/1.png", "test-strip/1.png", "validation/1.png"])
def test_names_that_sound_like_splits_are_files_and_classes_like_others(write_class_folders, draw, tmp_path, name):
    whole = draw(20)
    folder = write_class_folders(tmp_path / "set", _=parts(whole))
    source = next((tmp_path / "set").rglob("*.png"))
    copies = 1 if name.startswith("blue") else 5  # a class of its own needs enough images to hold some out
    for copy in range(copies):
        target = tmp_path / "set" / name.replace("1.png", f"{copy}.png")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(source.read_bytes())
    data = load_images(folder)
    assert len(data.train) + len(data.validation) + len(data.test) == len(whole) + copies
    assert set(data.classes) == {*CLASSES, name.split("/")[0]}
    assert data.held_out == {"validation", "test"}


def test_class_without_a_training_image_is_named(write_parquet, splits, tmp_path):
    train, _, test = splits
    folder = write_parquet(tmp_path / "set", train=parts(train.take(np.arange(24))), test=parts(test))
    with pytest.raises(DataError, match=r"\[train\]: no image of the class red"):
        load_images(folder)


def test_single_class_is_an_error(write_parquet, draw, tmp_path):
    folder = write_parquet(tmp_path / "set", classes=("blue",), train=parts(draw(10, classes=1)))
    with pytest.raises(DataError, match="two or more"):
        load_images(folder)


def test_label_outside_the_classes_is_named_with_its_row(write_parquet, splits, tmp_path):
    train, _, test = splits
    unlabelled = test.labels.copy()
    unlabelled[3] = -1
    folder = write_parquet(tmp_path / "set", train=parts(train), test=(test.images, unlabelled))
    with pytest.raises(DataError, match=r"\[test\] row 3: label -1"):
        load_images(folder)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("row", [0, 7])
@pytest.mark.parametrize("damage", ["no image", "truncated PNG", "truncated BMP"])
def test_unreadable_image_is_named_by_its_row(write_parquet, png, splits, tmp_path, split, damage, row):
    good = dict(zip(("train", "validation", "test"), map(parts, splits), strict=True))
    images = list(good[split][0])
    # A damaged PNG fails when it is opened, a damaged BMP only when it is decoded.
    images[row] = b"no image" if damage == "no image" else png(images[row], damage.split()[1])[:-60]
    folder = write_parquet(tmp_path / "set", **{**good, split: (images, good[split][1])})
    with pytest.raises(DataError, match=rf"\[{split}\] row {row}: "):
        load_images(folder)


def test_unreadable_image_in_a_class_folder_is_named_by_its_file(write_class_folders, splits, tmp_path):
    train, _, test = splits
    folder = write_class_folders(tmp_path / "set", train=parts(train), test=parts(test))
    (tmp_path / "set" / "train" / "green" / "0015.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"green/0015\.png"):
        load_images(folder)


def test_unreadable_image_is_named_by_its_row_in_the_file_even_if_splits_are_held_out(write_parquet, draw, tmp_path):
    whole = draw(10)
    images = list(whole.images)
    images[17] = b"no image"
    with pytest.raises(DataError, match=r"row 17\b"):
        load_images(write_parquet(tmp_path / "set", train=(images, whole.labels)))


def test_images_keep_their_size_where_all_have_the_same_small_one(write_parquet, draw, tmp_path):
    data = load_images(write_parquet(tmp_path / "set", train=parts(draw(10, size=17))))
    assert data.shape == (17, 17, 3)


def test_images_of_several_sizes_are_brought_to_the_default(write_parquet, draw, tmp_path):
    small, large = draw(10, size=10, seed=1), draw(10, size=14, seed=2)
    images = [*small.images, *large.images]
    data = load_images(
        write_parquet(tmp_path / "set", train=(images, np.r_[small.labels, large.labels])), validation=0.2
    )
    assert data.shape == (224, 224, 3)


def test_explicit_size_is_what_every_image_gets(parquet, splits):
    data = load_images(parquet, size=8)
    assert data.shape == (8, 8, 3)
    assert data.test.images.shape == (15, 8, 8, 3)
    np.testing.assert_array_equal(data.train.labels, splits[0].labels)
    # Resized, not cropped: the mean colour stays the same.
    np.testing.assert_allclose(data.train.images.mean((1, 2)), splits[0].images.mean((1, 2)), atol=12)


def test_default_size_is_that_of_the_upright_images(write_parquet, png, draw, tmp_path):
    whole = draw(10, size=20)
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side
    rotated = [png(image[:12], "JPEG", exif=exif) for image in whole.images]
    data = load_images(write_parquet(tmp_path / "set", train=(rotated, whole.labels)))
    assert data.shape == (20, 12, 3)


def test_grey_images_have_one_channel(write_parquet, draw, tmp_path):
    whole = draw(10)
    grey = whole.images[..., 0]
    data = load_images(write_parquet(tmp_path / "set", train=(grey, whole.labels)))
    assert data.shape == (12, 12, 1)
    assert rows(data.train, data.validation, data.test) == {image.tobytes() for image in grey}


def test_colour_files_that_hold_only_grey_have_one_channel_too(write_parquet, draw, tmp_path):
    whole = draw(10)
    grey = np.repeat(whole.images[..., :1], 3, axis=3)
    assert load_images(write_parquet(tmp_path / "set", train=(grey, whole.labels))).shape == (12, 12, 1)


def test_fingerprint_changes_with_one_pixel_or_one_label_and_not_with_the_path(write_parquet, splits, tmp_path):
    train, validation, test = splits

    def fingerprint(name, changed):
        folder = write_parquet(tmp_path / name, train=parts(train), validation=parts(validation), test=parts(changed))
        return load_images(folder).fingerprint

    pixel, label = test.images.copy(), test.labels.copy()
    pixel[4, 3, 2, 1] ^= 1
    label[4] = 2
    original = fingerprint("original", test)
    assert fingerprint("copy", test) == original
    assert fingerprint("pixel", ImageSplit(pixel, test.labels)) != original
    assert fingerprint("label", ImageSplit(test.images, label)) != original


def test_limit_applies_to_each_split_and_is_stratified(parquet):
    data = load_images(parquet, limit=9)
    for split in (data.train, data.validation, data.test):
        assert np.bincount(split.labels).tolist() == [3, 3, 3]


def test_limit_beyond_the_size_changes_nothing(parquet):
    assert load_images(parquet, limit=1000).fingerprint == load_images(parquet).fingerprint


def test_limit_just_below_the_size_of_a_split_is_kept(parquet):
    data = load_images(parquet, limit=35)
    assert (len(data.train), len(data.validation), len(data.test)) == (35, 12, 15)


def test_too_few_images_to_hold_out_from_are_a_data_error(write_parquet, draw, tmp_path):
    folder = write_parquet(tmp_path / "set", train=parts(draw(1)))
    with pytest.raises(DataError):
        load_images(folder)


def test_images_too_many_for_memory_are_decoded_on_demand(parquet, data_cache, monkeypatch):
    expected = load_images(parquet)
    monkeypatch.setattr("training.data.images.IN_MEMORY", 0)
    data = load_images(parquet)
    images = data.train.images
    assert isinstance(images, LazyImages)
    assert (images.shape, len(images)) == (expected.train.images.shape, len(expected.train))
    assert data.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(images[3], expected.train.images[3])
    np.testing.assert_array_equal(images[::5], expected.train.images[::5])
    some = np.array([7, 2, 30])
    np.testing.assert_array_equal(data.train.take(some).images[:], expected.train.images[some])
    np.testing.assert_array_equal(np.stack(list(images)), expected.train.images)


def test_an_archive_of_class_folders(write_class_folders, splits, tmp_path, data_cache):
    train, validation, test = map(parts, splits)
    folder = write_class_folders(tmp_path / "pets" / "Set", Train=train, Val=validation, TEST=test)
    (tmp_path / "pets" / "Set" / "Train" / "blue" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "pets" / "Set" / "Train" / "blue" / "notes.txt").write_text("x")
    source = shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path / "pets")
    data = load_images(source)
    assert (data.name, data.classes, data.fingerprint) == ("pets", CLASSES, load_images(folder).fingerprint)
    np.testing.assert_array_equal(data.test.labels, test[1])
    assert "1 files in the class folders are not images" in data.inspection.notes[0]


def test_a_table_of_labels_beside_the_images(write_class_folders, draw, tmp_path):
    write_class_folders(tmp_path / "classes", _=parts(draw(10)))
    folder = tmp_path / "set"
    (folder / "pictures").mkdir(parents=True)
    lines = ["Image;Label"]
    for number, path in enumerate(sorted((tmp_path / "classes").rglob("*.png"))):
        path.rename(folder / "pictures" / f"{number}.PNG")
        lines.append(f"{number}.png;{path.parent.name}")
    (folder / "labels.csv").write_text("\n".join([*lines, "99.png;red"]))
    with pytest.raises(DataError, match=r"labels\.csv:32: the image 99\.png is not in the folder"):
        load_images(str(folder))
    data = load_images(str(folder), bad="drop")
    assert data.classes == CLASSES
    assert len(data.train) + len(data.validation) + len(data.test) == 30


def test_metadata_as_the_hub_has_it_beside_the_images(write_class_folders, draw, tmp_path):
    write_class_folders(tmp_path / "set" / "all", _=parts(draw(10)))
    files = sorted((tmp_path / "set").rglob("*.png"))
    lines = [{"file_name": str(path.relative_to(tmp_path / "set")), "label": path.parent.name} for path in files]
    (tmp_path / "set" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = load_images(str(tmp_path / "set"))
    assert (data.classes, data.held_out) == (CLASSES, {"validation", "test"})


def test_unreadable_images_are_named_together_and_can_be_dropped(write_class_folders, draw, tmp_path):
    folder = write_class_folders(tmp_path / "set", _=parts(draw(10)))
    files = sorted((tmp_path / "set").rglob("*.png"))
    for path in files[3:5]:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 unusable items(.|\n)*--bad drop"):
        load_images(folder)
    data = load_images(folder, bad="drop")
    assert len(data.train) + len(data.validation) + len(data.test) == 28
    assert str(files[3]) in data.inspection.dropped[0]


def test_pictures_alone_need_no_labels_where_the_task_needs_none(write_class_folders, draw, tmp_path):
    write_class_folders(tmp_path / "set", _=parts(draw(10)))
    for number, path in enumerate(sorted((tmp_path / "set").rglob("*.png"))):
        path.rename(tmp_path / "set" / f"{number}.png")
    for folder in filter(lambda path: path.is_dir(), list((tmp_path / "set").iterdir())):
        folder.rmdir()
    with pytest.raises(DataError, match=r"no class folders of images and no parquet files, but 30 \.png"):
        load_images(str(tmp_path / "set"))
    data = load_images(str(tmp_path / "set"), labelled=False)
    assert data.classes == ("image",)
    assert (len(data.train), len(data.validation), len(data.test)) == (18, 6, 6)


def test_what_was_found_is_described(write_class_folders, draw, tmp_path):
    whole = draw(40)
    uneven = whole.take(np.r_[0:40, 40:41, 80:82])
    again = uneven.take(np.arange(4))
    data = load_images(write_class_folders(tmp_path / "set", train=parts(uneven), test=parts(again)))
    assert data.inspection.notes == [
        "images: train 33, validation 10 (held out), test 4",
        "47 images of 3 classes: blue 44, red 2, green 1",
    ]
    said = "\n".join(data.inspection.warnings)
    assert "'green': it is trained on, and nothing measures it" in said
    assert "94% of the images are 'blue'" in said
    assert "of the 4 test images are also training images" in said
