import io
import zipfile

import numpy as np

from service.tasks.autoencoder.archives import Archive, npy_header


def test_members_written_whole_and_bit_by_bit_can_be_read():
    archive, parts = Archive(), []
    for number in range(3):
        archive.add(f"{number}.bin", bytes([number]) * 10)
        parts.append(archive.take())
    with archive.member("rows.csv", compress=True) as file:
        for number in range(1000):
            file.write(f"{number}\n".encode())
        parts.append(archive.take())
    parts.append(archive.close())
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as back:
        assert back.testzip() is None
        assert back.namelist() == ["0.bin", "1.bin", "2.bin", "rows.csv"]
        assert back.read("2.bin") == b"\x02" * 10
        assert back.read("rows.csv").count(b"\n") == 1000


def test_bytes_that_were_taken_are_not_kept():
    archive = Archive()
    archive.add("a", bytes(1000))
    assert len(archive.take()) > 1000
    assert archive.take() == b""


def test_an_array_written_in_parts_is_an_npz():
    array = np.arange(60, dtype=np.float32).reshape(10, 6)
    archive = Archive()
    with archive.member("latents.npy") as file:
        file.write(npy_header((10, 6), np.float32))
        for row in array:
            file.write(row.tobytes())
    with np.load(io.BytesIO(archive.take() + archive.close())) as back:
        np.testing.assert_array_equal(back["latents"], array)


def test_the_same_contents_are_the_same_bytes():
    def make():
        archive = Archive()
        archive.add("a", b"x")
        return archive.take() + archive.close()

    assert make() == make()
