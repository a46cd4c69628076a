"""The transport of a connection: what is written, when, in how many pieces; and whose body is read when."""

import asyncio

import pytest

from service.transport import CoalescingTransport, StepLimit


class Wire:
    """A transport that records what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = self.ended = self.paused = self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_extra_info(self, name: str) -> str:
        return f"the {name}"


@pytest.fixture
async def wire() -> Wire:
    return Wire()


def coalescing(wire: Wire, requests: int) -> CoalescingTransport:
    return CoalescingTransport(wire, range(requests), asyncio.get_running_loop(), StepLimit(8))  # type: ignore[arg-type]


async def test_a_lone_request_is_answered_immediately(wire: Wire):
    transport = coalescing(wire, 1)
    transport.write(b"head")
    transport.write(b"body")
    assert wire.written == [b"head", b"body"]


async def test_concurrent_answers_are_written_in_one_piece_at_the_end_of_the_step(wire: Wire):
    transport = coalescing(wire, 2)
    transport.write(b"head")
    transport.write(b"body")
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [b"headbody"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert wire.written == [b"headbody", b"more"]


async def test_held_data_keeps_its_order_when_the_other_requests_are_done(wire: Wire):
    tasks = [1, 2]
    transport = CoalescingTransport(wire, tasks, asyncio.get_running_loop(), StepLimit(8))  # type: ignore[arg-type]
    transport.write(b"head")
    tasks.pop()
    transport.write(b"body")
    await asyncio.sleep(0)
    assert b"".join(wire.written) == b"headbody"


async def test_closing_sends_held_data(wire: Wire):
    transport = coalescing(wire, 2)
    transport.write(b"last words")
    transport.close()
    assert (wire.written, wire.closed) == ([b"last words"], True)
    await asyncio.sleep(0)
    assert wire.written == [b"last words"]


async def test_a_client_whose_body_is_not_taken_in_has_time_to_read_its_answer(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("service.transport._LINGER_SECONDS", 0.01)
    transport = coalescing(wire, 2)
    transport.unread = True
    transport.write(b"429")
    transport.close()
    assert (wire.written, wire.ended, wire.paused, wire.closed) == ([b"429"], True, True, False)
    assert transport.is_closing()
    transport.write(b"more")
    await asyncio.sleep(0.05)
    assert wire.closed
    assert wire.written == [b"429"]


async def test_closing_again_does_not_wait(wire: Wire):
    transport = coalescing(wire, 1)
    transport.unread = True
    transport.close()
    transport.close()
    assert wire.closed


async def test_a_client_that_is_gone_gets_nothing(wire: Wire):
    transport = coalescing(wire, 2)
    transport.write(b"too late")
    wire.close()
    await asyncio.sleep(0)
    assert wire.written == []


async def test_a_few_bodies_are_read_in_each_step_and_each_has_its_turn():
    reads = StepLimit(8)
    wires = [Wire() for _ in range(20)]
    transports = [
        CoalescingTransport(wire, [1], asyncio.get_running_loop(), reads)  # type: ignore[arg-type]
        for wire in wires
    ]
    for transport in transports:
        transport.pause_reading()
    for transport in transports:
        transport.resume_reading()
    transports[8].pause_reading()
    wires[9].close()
    read = []
    for _ in range(4):
        read.append([number for number, wire in enumerate(wires) if not wire.paused])
        await asyncio.sleep(0)
    assert read == [[*range(8)], [*range(8), *range(10, 17)], read[2], read[2]]
    assert read[2] == [*range(8), *range(10, 20)]
    transports[8].resume_reading()
    assert not wires[8].paused


async def test_everything_else_is_the_transports_own(wire: Wire):
    assert coalescing(wire, 1).get_extra_info("peername") == "the peername"
