"""Read contacts from a CSV of any encoding, delimiter and line ending, as a stream in bounded memory."""

import csv
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pyroaring import BitMap64

from bulksms.contacts.csv_escape import unescape_formula
from bulksms.contacts.csv_text import MAX_LINE, CsvError, Lines, find_delimiter, open_text
from bulksms.contacts.numbering_plan import PhoneError
from bulksms.contacts.phone import PhoneNormaliser
from bulksms.message import MAX_CHARACTERS, MAX_SEGMENTS, Template, count_segments, normalise_column

NAME, NUMBER = "contact name", "phone number"
_ALIASES = {"contact number": NUMBER}  # the name of this column in results.csv

_MAX_COLUMNS = 200
_MAX_NAME = 200
_MAX_VALUE_SHOWN = 100
_MAX_CHUNK = 4_000_000  # characters


class NewContact(NamedTuple):
    """A valid row: number in E.164, values of the message's placeholders, length of its message in segments."""

    contact_number: str
    contact_name: str
    fields: list[str] | None
    segments: int


class RejectedRow(NamedTuple):
    """A row that was not accepted: the line it starts on (the header is line 1), the invalid value, and the reason."""

    line: int
    value: str
    reason: str
    duplicate: bool = False


class Chunk(NamedTuple):
    """Consecutive rows of the file."""

    contacts: list[NewContact]
    rejected: list[RejectedRow]


class ContactReader:
    """Iterates over the contacts of a file in chunks of rows; the totals are updated while it is read.

    `rows` = `accepted` + `rejected` + `duplicates`. `segments` is the sum over the accepted.
    """

    def __init__(
        self,
        file: BinaryIO,
        message: str,
        normaliser: PhoneNormaliser,
        *,
        chunk_rows: int = 10_000,
        max_rows: int = 2_000_000,
    ) -> None:
        """Read the header and check the message against it. Raises CsvError, MessageError."""
        self.rows = self.accepted = self.rejected = self.duplicates = self.segments = self.max_segments = 0
        self._normaliser = normaliser
        self._chunk_rows = chunk_rows
        self._max_rows = max_rows
        self._seen = BitMap64()  # the numbers read so far, in two to eight bytes each
        self._lines = Lines(open_text(file))
        self._records = self._open(self._lines)
        columns = self._header()
        self.template = Template(message, columns)
        names = _names(columns)
        self._name_at, self._number_at = names.index(NAME), names.index(NUMBER)
        self._fields_at = [names.index(column) for column in self.template.columns]
        self._width = max(self._name_at, self._number_at, *self._fields_at, 0) + 1
        self._constant = count_segments(self.template.render(())).segments if self.template.is_constant else 0

    def __iter__(self) -> Iterator[Chunk]:
        chunk = Chunk([], [])
        count, began = 0, self._lines.total
        for line, record in self._rows():
            count += 1
            row = self._read(line, record)
            if isinstance(row, NewContact):
                chunk.contacts.append(row)
            else:
                chunk.rejected.append(row)
            if count == self._chunk_rows or self._lines.total - began > _MAX_CHUNK:
                yield self._counted(chunk)
                chunk, count, began = Chunk([], []), 0, self._lines.total
        if count:
            yield self._counted(chunk)
        if not self.rows:
            raise CsvError("the file has a header but no rows: add a line for each contact")

    def _counted(self, chunk: Chunk) -> Chunk:
        self.accepted += len(chunk.contacts)
        duplicates = sum(row.duplicate for row in chunk.rejected)
        self.duplicates += duplicates
        self.rejected += len(chunk.rejected) - duplicates
        self.rows += len(chunk.contacts) + len(chunk.rejected)
        if self._constant:
            self.segments += self._constant * len(chunk.contacts)
            self.max_segments = self._constant
        else:
            self.segments += sum(contact.segments for contact in chunk.contacts)
            self.max_segments = max(self.max_segments, *(c.segments for c in chunk.contacts), 0)
        if self.rows > self._max_rows:
            raise CsvError(f"the file has more than {self._max_rows} rows: split it into several campaigns")
        return chunk

    def _open(self, lines: Lines) -> "Iterator[list[str]]":
        first = lines.peek()
        delimiter = find_delimiter(first)
        if first.lower().startswith("sep="):
            next(lines)  # the line in which Excel states the delimiter
        return csv.reader(lines, delimiter=delimiter)

    def _header(self) -> list[str]:
        try:
            record = next(self._records)
        except StopIteration:
            raise CsvError("the file is empty: it needs a header with Contact Name and Phone Number") from None
        except csv.Error as error:
            raise CsvError(f"line 1: {error}") from None
        columns = [column.strip() for column in record]
        if len(columns) > _MAX_COLUMNS:
            raise CsvError(f"line 1: the file has {len(columns)} columns; at most {_MAX_COLUMNS} can be read")
        names = _names(columns)
        present = ", ".join(_shown(column)[:50] for column in columns[:20] if column) or "nothing"
        for required, title in ((NAME, "Contact Name"), (NUMBER, "Phone Number")):
            if required not in names:
                raise CsvError(f"line 1: the column {title!r} is missing; the header has {present}")
        for name, column in zip(names, columns, strict=True):
            if name and names.count(name) > 1:
                raise CsvError(f"line 1: the column {column!r} appears twice: rename one of them")
        return columns

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows that are not blank, each with the line it starts on."""
        lines = self._lines
        start = end = lines.count
        quotes = 0
        record: list[str] = []
        while True:
            line = end + 1
            try:
                record = next(self._records)
            except StopIteration:
                break
            except csv.Error as error:
                raise CsvError(f"line {line}: {error}: is a closing quote missing?") from None
            start, end = line, lines.count
            quotes, lines.quotes, lines.size = lines.quotes, 0, 0
            if any(record):
                yield line, record
        if quotes % 2 and (end > start or record[-1].endswith(("\r", "\n"))):
            raise CsvError(f"line {start}: a quote is opened but never closed")

    def _read(self, line: int, record: list[str]) -> NewContact | RejectedRow:
        if len(record) < self._width:
            return RejectedRow(line, _shown(",".join(record)), "too few columns")
        raw, name = unescape_formula(record[self._number_at]), unescape_formula(record[self._name_at].strip())
        try:
            number = self._normaliser.normalise(raw)
        except PhoneError as error:
            return RejectedRow(line, _shown(raw), str(error))
        if "\x00" in name or len(name) > _MAX_NAME:
            return RejectedRow(line, _shown(name), f"the name is longer than {_MAX_NAME} characters or contains NUL")
        fields: list[str] | None = None
        segments = self._constant
        if not segments:
            fields = [record[at].strip() for at in self._fields_at]
            length = self.template.length(fields)
            if length > 2 * MAX_CHARACTERS:  # even if every other one is an escape: it cannot be sent
                return RejectedRow(line, _shown(" ".join(fields)), _too_long(length))
            fields = [unescape_formula(field) for field in fields]
            segments = count_segments(self.template.render(fields)).segments
            if not 1 <= segments <= MAX_SEGMENTS:
                return RejectedRow(
                    line, _shown(" ".join(fields)), f"the message takes {segments} segments for this contact"
                )
            if any("\x00" in field for field in fields):
                return RejectedRow(line, _shown(" ".join(fields)), "a value for the message contains NUL")
        digits = int(number[1:])
        if digits in self._seen:
            return RejectedRow(line, _shown(raw), "duplicate number", True)
        self._seen.add(digits)
        return NewContact(number, name, fields, segments)


def _names(columns: list[str]) -> list[str]:
    """The normalised names of the columns."""
    names = [normalise_column(column) for column in columns]
    return names if NUMBER in names else [_ALIASES.get(name, name) for name in names]


def _too_long(length: int) -> str:
    return (
        f"the message has {length} characters for this contact; at most {MAX_CHARACTERS} fit in {MAX_SEGMENTS} segments"
    )


def _shown(value: str) -> str:
    return value[:_MAX_VALUE_SHOWN].replace("\x00", r"\x00")[:_MAX_VALUE_SHOWN]


csv.field_size_limit(MAX_LINE)
