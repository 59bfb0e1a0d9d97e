"""Contacts from CSV files as people have them."""

import csv
import io

import phonenumbers
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bulksms.contacts.csv_text import CsvError
from bulksms.contacts.numbering_plan import PhoneError, e164, international, national
from bulksms.contacts.phone import PhoneNormaliser
from bulksms.contacts.reader import ContactReader, NewContact, RejectedRow

E164 = phonenumbers.PhoneNumberFormat.E164
FI = PhoneNormaliser("FI")


def read(
    data: bytes, message: str = "Hello", chunk_rows: int = 3
) -> tuple[ContactReader, list[NewContact], list[RejectedRow]]:
    reader = ContactReader(io.BytesIO(data), message, FI, chunk_rows=chunk_rows)
    chunks = list(reader)
    return reader, [c for chunk in chunks for c in chunk.contacts], [r for chunk in chunks for r in chunk.rejected]


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("0401234567", "+358401234567"),
        ("040-123 4567", "+358401234567"),
        ("(040) 123.4567", "+358401234567"),
        ("+358 40 1234567", "+358401234567"),
        ("00358401234567", "+358401234567"),
        ("358401234567", "+358401234567"),
        ("tel:+358401234567", "+358401234567"),
        ("＋358401234567", "+358401234567"),
        ("040\u00a0123\u20114567", "+358401234567"),
        ("+1 202 555 0123", "+12025550123"),
        ("+46 70 123 45 67", "+46701234567"),
    ],
)
def test_phone_numbers_are_normalised(written: str, number: str) -> None:
    assert FI.normalise(written) == number


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "empty"),
        ("abc", "not a phone number"),
        ("12", "too short"),
        ("+3584012345678901", "too long"),
        ("+999123456", "unknown country code|too short"),
        ("3,58401E+11", "spreadsheet"),
        ("0401234567 ext 5", "not a phone number"),
        ("٠٤٠١٢٣٤٥٦٧", "not a phone number"),
    ],
)
def test_an_invalid_number_is_rejected_with_its_reason(written: str, reason: str) -> None:
    with pytest.raises(PhoneError, match=reason):
        FI.normalise(written)


def _by_library(written: str, region: str) -> str | None:
    try:
        number = phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.format_number(number, E164) if phonenumbers.is_valid_number(number) else None


def _by_plan(written: str, region: str) -> str | None:
    try:
        return e164(international(written[1:]) if written.startswith("+") else national(written, region))
    except PhoneError:
        return None


def _examples(region: str) -> list[str]:
    """A valid number of each type, in E.164 and as it is dialled."""
    types = phonenumbers.PhoneNumberType.values()
    numbers = [one for kind in types if (one := phonenumbers.example_number_for_type(region, kind))]
    forms = (E164, phonenumbers.PhoneNumberFormat.NATIONAL)
    written = [phonenumbers.format_number(number, form) for number in numbers for form in forms]
    return ["+" * text.startswith("+") + phonenumbers.normalize_digits_only(text) for text in written]


@settings(max_examples=2_000)
@given(st.data())
def test_the_numbering_plans_agree_with_the_library(data: st.DataObject) -> None:
    region = data.draw(st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)))
    written = data.draw(st.sampled_from(_examples(region)))
    at = data.draw(st.integers(1, len(written)))
    digits, cut = data.draw(st.text("0123456789", max_size=3)), data.draw(st.integers(0, 2))
    written = written[:at] + digits + written[at + cut :]
    assume(not written.startswith("+0"))  # has no calling code; the library then tries it without the plus
    assert _by_plan(written, region) == _by_library(written, region)


@pytest.mark.parametrize("region", ["FI", "SE", "US", "GB", "IT"])
@given(st.data())
def test_the_fast_pattern_agrees_with_the_numbering_plan(region: str, data: st.DataObject) -> None:
    normaliser = PhoneNormaliser(region)
    code = phonenumbers.country_code_for_region(region)
    heads = st.sampled_from(["0", "+", "", f"+{code}", f"+{code}4", f"+{code}7", "04", "05", "07", "00"])
    raw = data.draw(heads) + data.draw(st.text("0123456789", min_size=2, max_size=12))
    short = normaliser._by_pattern(raw)
    if short is not None:
        assert normaliser._by_plan(raw) == short


_SAMPLE = "{name}{d}{number}{d}City{n}Åke{d}0401234567{d}Oulu{n}{n}Bo{d}040 123 4568{d}Kemi{n}"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_encoding_delimiter_and_line_ending(encoding: str, delimiter: str, newline: str) -> None:
    text = _SAMPLE.format(name="contact_NAME", number=" Phone  number", d=delimiter, n=newline)
    reader, contacts, _ = read(text.encode(encoding), "Moi {Contact Name}, {city}!")
    assert [(c.contact_number, c.contact_name, c.fields) for c in contacts] == [
        ("+358401234567", "Åke", ["Åke", "Oulu"]),
        ("+358401234568", "Bo", ["Bo", "Kemi"]),
    ]
    assert (reader.rows, reader.accepted, reader.segments) == (2, 2, 2)


def test_rejected_rows_have_their_line_and_reason() -> None:
    data = b'Contact Name,Phone Number\n"two\nlines",0401234567\nB,+358401234567\nC\nD,12\nE\x00,0401234568\n'
    reader, contacts, rejected = read(data)
    assert [c.contact_name for c in contacts] == ["two\nlines"]
    assert [(r.line, r.reason.split(" ")[0], r.duplicate) for r in rejected] == [
        (4, "duplicate", True),
        (5, "too", False),
        (6, "too", False),
        (7, "the", False),
    ]
    assert (reader.rows, reader.accepted, reader.rejected, reader.duplicates) == (5, 1, 3, 1)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"Contact Name,Phone Number\n", "no rows"),
        (b"Contact Name\nA\n", "'Phone Number' is missing; the header has Contact Name"),
        (b"Contact Name,Phone Number,phone_number\nA,1,2\n", "twice"),
        (b"PK\x03\x04" + bytes(100), "Excel"),
        (bytes(range(256)) * 10, "line 1|binary"),
        (b"Contact Name,Phone Number\n" + b"x" * 70_000, "line 2 is longer"),
        (b'Contact Name,Phone Number\n"A,0401234567\n', "line 2: a quote"),
        (b'Contact Name,Phone Number\n"A,0401234567\nB,0401234568\n', "line 2: a quote"),
        (b",".join([b"c"] * 300) + b"\n", "columns"),
    ],
)
def test_an_unusable_file_is_refused_with_its_reason(data: bytes, words: str) -> None:
    with pytest.raises(CsvError, match=words):
        read(data)


_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
_NUMBERS = st.one_of(st.from_regex(r"\+35840[0-9]{7}", fullmatch=True), st.text("0123456789+ -", max_size=15))


@given(
    st.lists(st.tuples(_NAMES, _NUMBERS), min_size=1, max_size=30),
    st.sampled_from(",;\t"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.booleans(),
)
def test_any_written_csv_is_read_and_its_counts_add_up(
    rows: list[tuple[str, str]], delimiter: str, encoding: str, number_first: bool
) -> None:
    """I2 at the door."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    for name, number in [("Contact Name", "Phone Number"), *rows]:
        writer.writerow([number, name] if number_first else [name, number])
    written = sum(1 for row in rows if any(row))
    try:
        reader, contacts, rejected = read(text.getvalue().encode(encoding))
    except CsvError:
        assert not written
        return
    assert reader.rows == written == reader.accepted + reader.rejected + reader.duplicates
    assert len(contacts) == reader.accepted == len({c.contact_number for c in contacts})
    assert len(rejected) == reader.rejected + reader.duplicates
    assert all(c.contact_number[0] == "+" and c.contact_number[1:].isdigit() for c in contacts)
