from service.tasks.autoencoder.writers import Sink


def test_bytes_that_were_taken_are_not_kept():
    sink = Sink()
    sink.write(b"ab")
    sink.write(b"c")
    assert sink.take() == b"abc"
    assert sink.take() == b""
