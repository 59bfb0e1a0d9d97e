"""No upload costs more than ten times what an honest one of its size does, in CPU time and in memory."""

import io
import time
import tracemalloc
from collections.abc import Callable
from functools import cache, partial

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bulksms.contacts.csv_text import CsvError
from bulksms.contacts.phone import PhoneNormaliser
from bulksms.contacts.reader import ContactReader
from bulksms.message import MessageError, count_segments

FI = PhoneNormaliser("FI")
_SIZE = 40_000  # bytes of a file and its message
_MOST = 10  # times as much as an honest upload
_HEADER = "Contact Name,Phone Number,a\n"
_HONEST = "Hei {Contact Name}, salmon soup today!"

# One row, in which %d is a number that differs from row to row.
_NUMBERS = [
    "%07d", "+35840%07d", "040%07d", "+4670%07d", "+54911%08d", "+54 0 11 15 %07d", "+44 (0)7911 %06d", "00800%08d",
    "1%08d", "1%d", "+", "+999%06d", "tel:+1202555%04d", "1,5E+11",
]  # fmt: skip
_TEXTS = [
    "", "x", " -" * 40, "'" * 50, "\t'=" * 30, '"x', '"a""b"', '"a\n\n\nb"', "," * 190, "," * 60_000, "\x00",
    "😀" * 13, "😀" * 60_000, "€", "€" * 30, "ä" * 60_000, "ж" * 20,
]  # fmt: skip
_CELLS = st.sampled_from(_NUMBERS + _TEXTS)
_ROWS = st.builds(
    lambda cells, newline: ",".join(cells) + newline,
    st.lists(_CELLS, min_size=1, max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
_MESSAGES = st.sampled_from(
    ["Hello", _HONEST, "{a}" * 1_500, "{a}" * 50, "{a}" * 50 + "€" * 700, "{a}" + "ж" * 600, "{a}{{" * 40, "x" * 1_500]
)
_ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"])


def _upload(row: str, encoding: str) -> bytes:
    """A file of up to _SIZE bytes, of at least one row."""
    size = max(1, len(row.encode(encoding, "replace")))
    rows = (row % ((number,) * row.count("%")) for number in range(max(1, _SIZE // size)))
    return (_HEADER + "".join(rows)).encode(encoding, "replace")


def _read(file: bytes, message: str) -> None:
    try:
        for _ in ContactReader(io.BytesIO(file), message, FI):
            pass
    except (CsvError, MessageError):
        pass


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@cache
def _honest() -> tuple[bytes, float, int]:
    """An honest upload, its CPU seconds, and its peak memory."""
    file = _upload("Toivo Virtanen %d,+35840%07d,Oulu\n", "utf-8")
    _read(file, _HONEST)
    work = lambda: _read(file, _HONEST)  # noqa: E731
    return file, sorted(_seconds(work) for _ in range(5))[2], _peak(work)


def _cost(file: bytes, message: str) -> tuple[float, float]:
    """CPU seconds and memory per byte, as multiples of the honest upload's; of several measurements the least."""
    honest, seconds, peak = _honest()
    share = max(len(file) + len(message.encode()), _SIZE // 2) / len(honest)
    _read(file[:2_000], message)  # numbering plans of other countries are compiled once
    times = 0.0
    for _ in range(6):
        times = _seconds(lambda: _read(file, message)) / seconds / share
        if times <= _MOST:
            break
    return times, _peak(lambda: _read(file, message)) / peak / share


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(_ROWS, _MESSAGES, _ENCODINGS)
@example("A,+358401234567," + "😀" * 60_000 + "\n", "{a}" * 1_500, "utf-8")
@example("A,+358401234567," + "😀" * 9_000 + "\n", "{a}" * 50, "utf-8")
@example("A,+35840%07d," + "😀" * 13 + "\n", "{a}" * 50, "utf-8")
@example(",040%07d,€\n", "{a}" * 50 + "€" * 700, "utf-8")
@example("A,%d\n", "Hello", "utf-8")  # too short
@example("A,1%08d\n", "Hello", "utf-8")  # tried nationally and internationally
@example("A,+4670%07d\n", "Hello", "utf-8")
@example("A,+54 0 11 15 %07d\n", "Hello", "utf-8")  # its prefix is rewritten
@example("x\n", "Hello", "utf-8")
@example("\n", "Hello", "utf-8")
@example('"a\n",', "Hello", "utf-8")
def test_no_upload_costs_ten_times_an_honest_one(row: str, message: str, encoding: str) -> None:
    times, memory = _cost(_upload(row, encoding), message)
    assert times <= _MOST
    assert memory <= _MOST


def _count(text: str) -> None:
    for _ in range(200):
        count_segments(text)


def test_counting_segments_is_linear_whatever_the_characters() -> None:
    plain = _seconds(partial(_count, "ж" * 1_500))
    for text in ("€" * 1_500, "😀" * 750, "a€ж😀" * 300):
        least = min(_seconds(partial(_count, text)) for _ in range(5))
        assert least <= _MOST * max(plain, 0.001)
