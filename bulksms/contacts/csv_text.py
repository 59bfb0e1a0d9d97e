"""Decode a CSV into lines: detect the encoding and the delimiter, limit the length of every line."""

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO, TextIO

MAX_LINE = 64 * 1024  # characters
MAX_RECORD = 4 * MAX_LINE  # characters of a row, whose quoted values may hold line breaks
_PIECE = 1 << 20  # bytes

_DELIMITERS = ",;\t"

_OTHER_FORMATS = {
    b"PK\x03\x04": "an Excel workbook or a ZIP archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "a gzip archive",
}
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class CsvError(ValueError):
    """The file cannot be read as contacts; the message has the line, what is wrong and how to correct it."""


def open_text(file: BinaryIO) -> TextIO:
    """Open the file as text from its start. Raises CsvError if it is not a text file."""
    encoding = _encoding(file)
    file.seek(0)
    return io.TextIOWrapper(_Unclosed(file), encoding=encoding, newline="")  # type: ignore[type-var]  # reads only


def _encoding(file: BinaryIO) -> str:
    """Detect the encoding: byte order mark, NULs of UTF-16, valid UTF-8, else Windows-1252."""
    file.seek(0)
    head = file.read(4096)
    for magic, kind in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise CsvError(f"this is {kind}, not a CSV: open it and save it as CSV (UTF-8)")
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            return encoding
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 8:
        if min(even, odd) > len(head) // 16:
            raise CsvError("this is a binary file, not a CSV: save it as CSV (UTF-8)")
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8" if _is_utf8(file) else "cp1252"


def _is_utf8(file: BinaryIO) -> bool:
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while piece := file.read(_PIECE):
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


class _Unclosed(io.BufferedIOBase):
    """A view of the file that does not close it with the text wrapper."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def read1(self, size: int | None = -1) -> bytes:
        return self._file.read(size or -1)

    read = read1


class Lines(Iterator[str]):
    """The physical lines of a text, none longer than MAX_LINE; counts lines, and the size of the current row."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._peeked: str | None = None
        self.count = self.total = 0  # lines and characters so far
        self.quotes = self.size = 0  # quotes and characters since the last row

    def peek(self) -> str:
        """The next line, without consuming it."""
        if self._peeked is None:
            self._peeked = self._readline()
        return self._peeked

    def __next__(self) -> str:
        line, self._peeked = (self._readline() if self._peeked is None else self._peeked), None
        if not line:
            raise StopIteration
        self.count += 1
        self.quotes += line.count('"')
        self.size += len(line)
        self.total += len(line)
        if self.size > MAX_RECORD:
            raise CsvError(
                f"line {self.count}: the row is longer than {MAX_RECORD} characters: is a closing quote missing?"
            )
        return line

    def _readline(self) -> str:
        try:
            line = self._text.readline(MAX_LINE + 1)
        except UnicodeError as error:
            raise CsvError(f"line {self.count + 1}: {error}: save the file as CSV (UTF-8)") from None
        if len(line) > MAX_LINE:
            raise CsvError(f"line {self.count + 1} is longer than {MAX_LINE} characters: is it a CSV?")
        return line


def find_delimiter(header: str) -> str:
    """The delimiter: the character in Excel's `sep=` line, else the most frequent candidate in the header."""
    if header.lower().startswith("sep=") and len(header.rstrip("\r\n")) == 5 and header[4] not in '"\0':
        return header[4]
    return max(_DELIMITERS, key=header.count)
