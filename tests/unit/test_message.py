"""Segments and placeholders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksms.message import _GSM_BASIC, _GSM_EXTENSION, Encoding, MessageError, Template, count_segments


@pytest.mark.parametrize(
    ("text", "encoding", "characters", "segments"),
    [
        ("a" * 160, "GSM-7", 160, 1),
        ("a" * 161, "GSM-7", 161, 2),
        ("a" * 306, "GSM-7", 306, 2),
        ("a" * 307, "GSM-7", 307, 3),
        ("€" * 80, "GSM-7", 160, 1),
        ("a" * 152 + "€" + "a" * 7, "GSM-7", 161, 2),
        ("€" * 77, "GSM-7", 154, 1),
        ("€" * 153, "GSM-7", 306, 3),  # 76 to a segment: an escape is never split from its character
        ("ä" * 160, "GSM-7", 160, 1),
        ("ж" * 70, "UCS-2", 70, 1),
        ("ж" * 71, "UCS-2", 71, 2),
        ("ж" * 134, "UCS-2", 134, 2),
        ("😀" * 35, "UCS-2", 70, 1),
        ("😀" * 67, "UCS-2", 134, 3),  # 33 to a segment: a surrogate pair is never split
    ],
)
def test_segments(text: str, encoding: str, characters: int, segments: int) -> None:
    assert count_segments(text) == (encoding, characters, segments)


@given(st.text(st.sampled_from(sorted(_GSM_BASIC | _GSM_EXTENSION | {"ж", "😀"})), max_size=700))
def test_segments_agree_with_a_character_by_character_division(text: str) -> None:
    gsm = all(c in _GSM_BASIC | _GSM_EXTENSION for c in text)
    one, many = (160, 153) if gsm else (70, 67)
    widths = (
        [2 if c in _GSM_EXTENSION or c > "\uffff" else 1 for c in text] if gsm else [1 + (c > "\uffff") for c in text]
    )
    parts, filled = 1, 0
    for width in widths:
        if filled + width > many:
            parts, filled = parts + 1, 0
        filled += width
    expected = parts if sum(widths) > one else int(bool(text))
    found = count_segments(text)
    assert (found.segments, found.characters) == (expected, sum(widths))
    assert found.encoding == (Encoding.GSM7 if gsm else Encoding.UCS2)


def test_placeholders_ignore_case_and_spacing() -> None:
    template = Template("Hi {contact name}, {{x}} {Contact_Name} of {CITY}", ["Contact Name", "Phone Number", "City"])
    assert template.columns == ("contact name", "city")
    assert template.render(["Bo", "Oulu"]) == "Hi Bo, {x} Bo of Oulu"
    assert Template.parse(template.text).render(["Bo", "Oulu"]) == "Hi Bo, {x} Bo of Oulu"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("{City}", "city"),
        ("a { b", "character 3"),
        ("}", "character 1"),
        ("a\x00", "NUL"),
    ],
)
def test_an_invalid_text_is_refused(text: str, words: str) -> None:
    with pytest.raises(MessageError, match=words):
        Template(text, ["Contact Name"])
