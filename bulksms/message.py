"""The text of a campaign: its placeholders, its encoding, and the segments in which it is sent and charged."""

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

MAX_SEGMENTS = 10

# GSM 03.38, the default alphabet and its extension table: a character of the extension takes two septets.
_GSM_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENSION = frozenset("\f^{}\\[~]|€")
_GSM_SINGLE, _GSM_PART = 160, 153  # septets in a single segment, in each part of several
_UCS2_SINGLE, _UCS2_PART = 70, 67  # UTF-16 code units likewise

MAX_CHARACTERS = MAX_SEGMENTS * _GSM_PART  # no longer text fits
MAX_PLACEHOLDERS = 50

_PLAIN = re.compile(r"[A-Za-z0-9 \n\r@$_!\"#%&'()*+,\-./:;<=>?]*\Z")  # one septet each: most texts
_GSM = re.compile(f"[{re.escape(''.join(sorted(_GSM_BASIC | _GSM_EXTENSION)))}]*\\Z")
_ESCAPE = "\x1b"  # precedes a character of the extension table
_HIGH_SURROGATES = range(0xD8, 0xDC)  # high byte of the first unit of a pair


class MessageError(ValueError):
    """The text cannot be sent; the message says what is wrong and how to correct it."""


class Encoding(StrEnum):
    """The encoding of a text over the air."""

    GSM7 = "GSM-7"
    UCS2 = "UCS-2"


class Segments(NamedTuple):
    """A text's encoding, its length (septets of GSM-7, code units of UCS-2) and its number of segments."""

    encoding: Encoding
    characters: int
    segments: int


def count_segments(text: str) -> Segments:
    """Encode and divide a text into segments (GSM 03.38, 03.40); no character is split between two segments."""
    if _PLAIN.match(text):
        return Segments(Encoding.GSM7, len(text), _divide(len(text), _GSM_SINGLE, _GSM_PART))
    if _GSM.match(text):
        septets = text
        for character in _GSM_EXTENSION:
            septets = septets.replace(character, _ESCAPE + character)
        splits = septets.startswith  # whether a segment that ends before this septet would split a character
        count = _fill(len(septets), _GSM_SINGLE, _GSM_PART, lambda end: splits(_ESCAPE, end - 1))
        return Segments(Encoding.GSM7, len(septets), count)
    units = text.encode("utf-16-be", "surrogatepass")
    size = len(units) // 2
    count = _fill(size, _UCS2_SINGLE, _UCS2_PART, lambda end: units[2 * end - 2] in _HIGH_SURROGATES)
    return Segments(Encoding.UCS2, size, count)


def _divide(length: int, single: int, part: int) -> int:
    if length <= single:
        return 1 if length else 0
    return -(-length // part)


def _fill(size: int, single: int, part: int, would_split: Callable[[int], bool]) -> int:
    """Number of segments for `size` units; one that would end inside of a character of two ends before it."""
    if size <= single:
        return 1
    segments, end = 1, part
    while end < size:
        segments, end = segments + 1, end - would_split(end) + part
    return segments


def normalise_column(name: str) -> str:
    """A column name for comparison: letter case, underscores and runs of white space are ignored."""
    return " ".join(name.replace("_", " ").split()).casefold()


_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Template:
    """A text with placeholders such as `{Contact Name}`; `{{` and `}}` are literal braces.

    `columns` are the columns used, by normalised name, in the order of first use; `render` takes their values
    in that order.
    """

    def __init__(self, text: str, columns: Sequence[str] | None = None) -> None:
        """Raises MessageError: empty, unbalanced braces, a placeholder that is not in `columns`, too long."""
        if not text.strip():
            raise MessageError("the message is empty")
        if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise MessageError("the message contains a character that cannot be sent (NUL or an unpaired surrogate)")
        self.text = text
        self._literals, self.columns, self._order = _parse(text)
        if len(self._order) > MAX_PLACEHOLDERS:
            raise MessageError(
                f"the message has {len(self._order)} placeholders; at most {MAX_PLACEHOLDERS} are filled"
            )
        self._uses = [self._order.count(index) for index in range(len(self.columns))]
        self._fixed = sum(map(len, self._literals))
        if columns is not None:
            self._check(columns)
        constant = count_segments("".join(self._literals)).segments
        if constant > MAX_SEGMENTS:
            raise MessageError(f"the message takes {constant} segments; at most {MAX_SEGMENTS} can be sent")

    @classmethod
    def parse(cls, text: str) -> "Template":
        """A template whose text was validated before."""
        return cls(text)

    @property
    def is_constant(self) -> bool:
        """Whether every contact gets the same text."""
        return not self.columns

    def length(self, values: Sequence[str]) -> int:
        """The number of characters that `render` would return."""
        return self._fixed + sum(uses * len(value) for uses, value in zip(self._uses, values, strict=True))

    def render(self, values: Sequence[str]) -> str:
        """The text for one contact."""
        if not self._order:
            return self._literals[0]
        pieces = [self._literals[0]]
        for index, literal in zip(self._order, self._literals[1:], strict=True):
            pieces += (values[index], literal)
        return "".join(pieces)

    def _check(self, columns: Sequence[str]) -> None:
        known = {normalise_column(column) for column in columns}
        for column in self.columns:
            if column not in known:
                raise MessageError(
                    f"the placeholder {{{column}}} is not a column of the file; the columns are {', '.join(columns)} "
                    "(write {{ for a literal brace)"
                )


def _parse(text: str) -> tuple[list[str], tuple[str, ...], list[int]]:
    """The literals around the placeholders, the distinct columns, and the index of the column in each gap."""
    literals, columns, order = [""], dict[str, int](), list[int]()
    end = 0
    for token in _TOKEN.finditer(text):
        literals[-1] += text[end : token.start()]
        end = token.end()
        if token.group() in ("{{", "}}"):
            literals[-1] += token.group()[0]
        elif token.group(1) is not None and normalise_column(token.group(1)):
            order.append(columns.setdefault(normalise_column(token.group(1)), len(columns)))
            literals.append("")
        else:
            raise MessageError(
                f"there is a single brace at character {token.start() + 1}: write {{{{ or }}}} for a brace, "
                "or {Column Name} for a placeholder"
            )
    literals[-1] += text[end:]
    return literals, tuple(columns), order
