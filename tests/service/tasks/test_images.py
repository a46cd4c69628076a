"""Decoding against Pillow's own transpose and composition; headers that are refused; the resize."""

import io
import struct
import zlib

import numpy as np
import psutil
import pytest
from PIL import Image, ImageOps

from service.errors import ImageTooLarge, UndecodableImage
from service.tasks.cards import ImageInput
from service.tasks.images import FORMATS, EncodedImage, NotPlain, decode_for, fit, place
from tests.pictures import encode, photograph, png_header

ORIENTATION = 0x0112


def decode(data: bytes, channels: int = 3) -> np.ndarray:
    return EncodedImage.open(data).decode(channels)


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = value
    return exif


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The mean absolute difference, for images of one shape."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(np.int64) - b.astype(np.int64)).mean())


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_as_pillow_transposes_it(kind: str, orientation: int):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(photograph(12, 20), kind, exif=with_orientation(orientation), **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_jpeg(orientation: int):
    data = encode(photograph(48, 80), "JPEG", quality=95, exif=with_orientation(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    # Two decoders may round a colour differently; a wrong rotation is off by tens.
    assert difference(decode(data), expected) < 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_lying_on_its_side_is_scaled_by_its_own_axes(orientation: int):
    data = encode(photograph(400, 64), "JPEG", quality=95, exif=with_orientation(orientation))
    pixels = EncodedImage.open(data).decode(3, 32, 32)
    tall = orientation < 5
    assert pixels.shape == ((200, 32, 3) if tall else (32, 200, 3))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [0, 9, 1000])
def test_an_orientation_that_does_not_exist_is_ignored(kind: str, orientation: int):
    data = encode(photograph(48, 80), kind, exif=with_orientation(orientation))
    assert difference(decode(data), np.asarray(Image.open(io.BytesIO(data)))) < 2


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_invalid_exif_is_ignored():
    plain = encode(photograph(48, 80), "JPEG")
    junk = b"Exif\x00\x00" + b"MM\x00*\xff\xff\xff\xff junk"
    marked = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(junk) + 2) + junk + plain[2:]
    np.testing.assert_array_equal(decode(marked), decode(plain))


def test_an_orientation_of_a_text_type_is_ignored():
    plain = encode(photograph(48, 80), "JPEG")
    # One entry of type ASCII where a SHORT belongs.
    tiff = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HHHI", 1, ORIENTATION, 2, 2) + b"6\x00\x00\x00" + bytes(4)
    junk = b"Exif\x00\x00" + tiff
    marked = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(junk) + 2) + junk + plain[2:]
    np.testing.assert_array_equal(decode(marked), decode(plain))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_over_white(mode: str):
    colour = photograph(16, 24, 3 if mode == "RGBA" else 1)
    alpha = np.linspace(0, 255, 24).astype(np.uint8)[None, :, None].repeat(16, axis=0)
    data = encode(Image.fromarray(np.concatenate([colour, alpha], axis=-1)))
    share = alpha / 255
    expected = (colour * share + 255 * (1 - share)).round()
    pixels = decode(data)
    assert pixels.shape == (16, 24, 3)
    assert np.abs(pixels - expected).max() <= 1
    assert (pixels[:, 0] == 255).all()


def test_a_palette_with_a_transparent_colour():
    image = Image.new("P", (4, 2))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1, 0, 1, 1, 1, 1, 1])
    opaque = decode(encode(image))
    assert opaque[0].tolist() == [[255, 0, 0], [0, 0, 255], [255, 0, 0], [0, 0, 255]]
    for data in (
        encode(image, transparency=0),
        encode(image, transparency=b"\x00\xff"),
        encode(image, "GIF", transparency=0),
    ):
        assert decode(data)[0].tolist() == [[255, 255, 255], [0, 0, 255], [255, 255, 255], [0, 0, 255]]


def test_transparency_is_white_in_grey_too():
    image = Image.new("RGBA", (5, 3), (0, 0, 0, 0))
    np.testing.assert_array_equal(decode(encode(image), 1), np.full((3, 5, 1), 255))


def test_cmyk_jpeg():
    pixels = photograph(64, 64)
    data = encode(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    assert difference(decode(data), pixels) < 6


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_of_grey(channels: int):
    values = np.linspace(0, 65535, 256 * 4).astype(np.uint16).reshape(16, 64)
    for kind in ("PNG", "TIFF"):
        pixels = decode(encode(Image.fromarray(values), kind), channels)
        assert pixels.shape == (16, 64, channels)
        np.testing.assert_array_equal(pixels, (values >> 8)[..., None].repeat(channels, axis=-1))


def test_one_bit():
    bits = photograph(16, 16, 1)[..., 0] > 128
    np.testing.assert_array_equal(decode(encode(Image.fromarray(bits)))[..., 0], bits * 255)


def test_progressive_and_grey_jpeg():
    pixels = photograph(64, 96)
    assert difference(decode(encode(pixels, "JPEG", quality=95, progressive=True)), pixels) < 4
    grey = Image.fromarray(pixels).convert("L")
    data = encode(grey, "JPEG", quality=95)
    in_colour, in_grey = decode(data), decode(data, 1)
    assert in_grey.shape == (64, 96, 1)
    assert difference(in_colour, in_grey.repeat(3, axis=-1)) == 0
    assert difference(in_grey[..., 0], np.asarray(grey)) < 2


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)
        np.testing.assert_array_equal(decode(data), np.asarray(frames[0]))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format(kind: str, channels: int):
    pixels = photograph(40, 56)
    decoded = decode(encode(pixels, kind, **({"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {})), channels)
    expected = pixels if channels == 3 else np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    assert decoded.dtype == np.uint8
    assert difference(decoded, expected) < 12  # a GIF has 256 colours


def test_pillows_other_formats_stay_out_of_reach():
    for kind in ("PPM", "TGA", "ICO", "PCX"):
        with pytest.raises(UndecodableImage, match="no image of a known format"):
            EncodedImage.open(encode(photograph(16, 16), kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_a_truncated_file(kind: str, share: float):
    data = encode(np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8), kind)
    with pytest.raises(UndecodableImage):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    "data", [b"", b"not an image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF1234WEBP"]
)
def test_bytes_that_are_not_an_image(data: bytes):
    with pytest.raises(UndecodableImage):
        decode(data)


def test_any_flipped_byte_is_an_image_or_undecodable():
    rng = np.random.default_rng(0)
    for kind in FORMATS:
        good = encode(photograph(24, 24), kind)
        for _ in range(40):
            bad = bytearray(good)
            bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
            try:
                pixels = EncodedImage.open(bytes(bad), 100_000).decode(3)
            except (UndecodableImage, ImageTooLarge):
                continue
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3


def test_a_png_is_refused_by_its_header_before_it_is_decoded():
    process = psutil.Process()
    before = process.memory_info().rss
    webp = encode(np.zeros((4096, 4096), np.uint8), "WEBP", lossless=True, method=0)
    with pytest.raises(ImageTooLarge, match="4096 x 4096 pixels; at most 16000000"):
        EncodedImage.open(webp)
    with pytest.raises(ImageTooLarge, match="60000 x 60000"):
        EncodedImage.open(png_header(60_000, 60_000), 50_000_000)
    assert process.memory_info().rss - before < 20_000_000


def test_a_whole_png_over_the_limit_is_not_decoded(monkeypatch: pytest.MonkeyPatch):
    data = encode(Image.new("L", (1000, 1000)))

    def load(self: Image.Image) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ImageTooLarge, match="1000 x 1000 pixels; at most 999999 "):
        EncodedImage.open(data, 999_999)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_limit_is_on_the_pixels(kind: str):
    data = encode(photograph(50, 40), kind)
    assert EncodedImage.open(data, 2000).decode(3).shape == (50, 40, 3)
    with pytest.raises(ImageTooLarge, match="40 x 50"):
        EncodedImage.open(data, 1999)


def test_a_png_whose_text_is_a_bomb():
    text = zlib.compress(bytes(80_000_000))
    chunk = b"zTXt" + b"Comment\x00\x00" + text
    data = encode(photograph(8, 8))
    bomb = data[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    with pytest.raises(UndecodableImage):
        decode(bomb)


def test_fit_leaves_the_right_size_alone():
    pixels = photograph(8, 12)
    np.testing.assert_array_equal(fit(pixels, 8, 12), pixels)
    turned = fit(pixels.swapaxes(0, 1), 12, 8)
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, pixels.swapaxes(0, 1))


@pytest.mark.parametrize(("height", "width"), [(32, 96), (96, 32)])
def test_fit_takes_the_centre(height: int, width: int):
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[height // 2 - 16 : height // 2 + 16, width // 2 - 16 : width // 2 + 16] = photograph(32, 32)
    # The crop has the size of the output: nothing is resized, so the centre is returned unchanged.
    np.testing.assert_array_equal(fit(pixels, 32, 32), photograph(32, 32))


def test_fit_keeps_the_aspect_that_is_asked_for():
    y, x = np.mgrid[0:120, 0:120]
    circle = ((y - 59.5) ** 2 + (x - 59.5) ** 2 < 50**2)[..., None].repeat(3, axis=-1).astype(np.uint8) * 255
    fitted = fit(circle, 24, 48)  # the middle half of the height
    assert fitted.shape == (24, 48, 3)
    assert abs(int((fitted[12, :, 0] > 127).sum()) - 100 * 48 / 120) <= 1
    assert (fitted[:, 24, 0] > 127).all()


def test_fit_averages_what_it_shrinks():
    stripes = np.zeros((256, 256, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    # Nearest or plain bicubic sampling would give black, white or a pattern of both.
    inner = fit(stripes, 32, 32)[:, 2:-2]
    assert np.abs(inner.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("size", [(5, 9), (64, 48), (1, 1), (1, 300)])
@pytest.mark.parametrize("channels", [1, 3])
def test_fit_gives_what_the_model_takes(size: tuple[int, int], channels: int):
    fitted = fit(
        photograph(65, 65, channels)[: size[0], : size[1]] if max(size) < 65 else np.zeros((*size, channels), "u1"),
        32,
        24,
    )
    assert (fitted.shape, fitted.dtype) == ((32, 24, channels), np.uint8)
    assert fitted.flags.c_contiguous


def test_grey_is_resized_as_colour_is():
    grey = photograph(100, 70, 1)
    np.testing.assert_array_equal(fit(grey, 32, 32), fit(grey.repeat(3, axis=-1), 32, 32)[..., :1])


@pytest.mark.parametrize("size", [(512, 512), (431, 767), (1200, 90)])
def test_a_jpeg_decoded_small_is_like_one_decoded_whole(size: tuple[int, int]):
    image = EncodedImage.open(encode(photograph(*size), "JPEG", quality=95))
    small, whole = image.decode(3, 64, 64), image.decode(3)
    assert whole.shape == (*size, 3)
    assert small.size < whole.size
    assert min(small.shape[:2]) >= 64
    assert difference(fit(small, 32, 32), fit(whole, 32, 32)) < 2


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded():
    data = encode(photograph(64, 64), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    usual, many = (data[:last] + data[last:-2] * copies + data[-2:] for copies in (50, 200))
    assert EncodedImage.open(usual).decode(3).shape == (64, 64, 3)
    with pytest.raises(UndecodableImage, match="scans of 4096 pixels"):
        EncodedImage.open(many)


@pytest.mark.parametrize("exif", [b"garbage!", b"II*", b"II*\0", b"", bytes(20), b"MM\0*\xff\xff\xff\xff"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_with_damaged_exif_is_taken_for_upright(kind: str, exif: bytes):
    # If the JFIF header states a resolution, Pillow does not read the EXIF when it opens a JPEG.
    data = encode(photograph(16, 24), kind, exif=b"Exif\0\0" + exif, dpi=(72, 72))
    assert difference(decode(data), decode(encode(photograph(16, 24), kind))) == 0


@pytest.mark.parametrize("side", [28, 112, 224, 299])
def test_fit_takes_images_of_every_size(side: int):
    # At 29, 58, 116, … pixels rounding makes the crop slightly larger than the image.
    for height in (*range(1, 240), 450, 464, 492, 900, 928, 1019):
        for width in (height, 640):
            assert fit(np.zeros((height, width, 1), np.uint8), side, side).shape == (side, side, 1)


def test_a_plain_image_is_a_jpeg_of_few_pixels_over_all_scans():
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = photograph(100, 100)
    progressive = encode(pixels, "JPEG", progressive=True)
    assert EncodedImage.open_plain(encode(pixels, "JPEG"), 10_000) is not None
    assert EncodedImage.open_plain(progressive, 9_999 * progressive.count(b"\xff\xda")) is None
    assert EncodedImage.open_plain(progressive, 10_000 * progressive.count(b"\xff\xda")) is not None
    for other in (
        encode(pixels, "PNG"),
        encode(pixels, "JPEG", exif=exif.tobytes()),
        encode(Image.fromarray(pixels).convert("CMYK"), "JPEG"),
        b"\xff\xd8\xff",
        b"",
    ):
        assert EncodedImage.open_plain(other, 1_000_000) is None
    cut_off = EncodedImage.open_plain(encode(pixels, "JPEG")[:-500], 10_000)
    assert cut_off is not None
    with pytest.raises(NotPlain):
        cut_off.decode(3)


def torchvision_would(pixels: np.ndarray, short: int, side: int, resampling: Image.Resampling) -> np.ndarray:
    """Its `Resize` and `CenterCrop`, in Pillow's terms."""
    height, width = pixels.shape[:2]
    whole = (short, short * height // width) if width <= height else (short * width // height, short)
    resized = Image.fromarray(pixels).resize(whole, resampling)
    left, top = round((whole[0] - side) / 2), round((whole[1] - side) / 2)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


@pytest.mark.parametrize("size", [(100, 75), (75, 100), (83, 83), (64, 200), (301, 97)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_an_image_is_resized_and_cropped_as_by_torchvision(size: tuple[int, int], interpolation: str):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    wanted = ImageInput(height=56, width=56, channels=3, resize="image", crop=0.875, interpolation=interpolation)
    resampling = Image.Resampling[interpolation.upper()]
    # Half a pixel beside it, noise differs by tens.
    assert difference(place(pixels, wanted), torchvision_would(pixels, 64, 56, resampling)) < 0.5


def test_the_margin_around_a_crop_is_left_out():
    pixels = np.zeros((80, 120, 3), np.uint8)
    pixels[10:-10, 30:-30] = 200
    for resize in ("part", "image"):
        wanted = ImageInput(height=8, width=8, channels=3, resize=resize, crop=0.5)
        assert (place(pixels, wanted) == 200).all()
    assert place(pixels, ImageInput(height=8, width=8, channels=3)).min() < 100


def test_a_stretched_image_is_used_whole():
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 30:] = 255
    placed = place(pixels, ImageInput(height=10, width=10, channels=3, resize="stretch"))
    assert (placed[:, :4].max(), placed[:, 6:].min()) == (0, 255)


def test_a_jpeg_is_decoded_large_enough_for_its_crop():
    buffer = io.BytesIO()
    Image.new("RGB", (800, 600), "green").save(buffer, "JPEG")
    image = EncodedImage.open(buffer.getvalue())
    decoded = decode_for(image, ImageInput(height=64, width=64, channels=3, crop=0.5))
    assert 256 <= min(decoded.shape[:2]) < 600
    # As elsewhere in the training of an adopted model.
    whole = decode_for(image, ImageInput(height=64, width=64, channels=3, resize="stretch"))
    assert whole.shape == (600, 800, 3)
