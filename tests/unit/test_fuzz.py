"""Fuzz tests: any input gives a result or an expected error. Bounded, and the same in each run."""

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bulksms.contacts.csv_escape import escape_formula, unescape_formula
from bulksms.contacts.csv_text import CsvError
from bulksms.contacts.phone import PhoneNormaliser
from bulksms.contacts.reader import ContactReader
from bulksms.message import MAX_SEGMENTS, MessageError, Template, count_segments
from common.web.problems import Problem
from common.web.requests import NOT_JSON, not_json
from salesapi.salesapi import callback
from webapi.webapi import websocket_messages

FI = PhoneNormaliser("FI")
fuzz = settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

_KNOWN = ["Contact Name", "phone_number", "0401234567", "+358401234567", '"', '""', "\x00", "'=1", "{city}"]
_CELLS = st.one_of(st.text(max_size=20), st.sampled_from(_KNOWN))
_TABLES = st.builds(
    lambda rows, separator, newline: newline.join(separator.join(row) for row in rows),
    st.lists(st.lists(_CELLS, max_size=5), max_size=12),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)
_HEADERS = st.one_of(
    st.sampled_from(["", "Contact Name,Phone Number\n", "sep=;\nPhone Number;Contact Name\n", '"Contact Name,\n']),
    st.characters().map(lambda sign: f"sep={sign}\nContact Name{sign}Phone Number\n"),
)
_ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-7", "cp1252"])
_FILES = st.one_of(
    st.binary(max_size=300),
    st.builds(
        lambda header, table, encoding, tail: (header + table).encode(encoding, "replace") + tail,
        _HEADERS,
        _TABLES,
        _ENCODINGS,
        st.binary(max_size=4),
    ),
)


@fuzz
@given(_FILES, st.sampled_from(["Hello", "Hi {Contact Name}"]))
@example(b"Contact Name,Phone Number\n" + b'"a\n",' * 100_000, "Hello")
@example(b'Contact Name,Phone Number\n"' + b"\n" * 300_000, "Hello")
@example(b'sep="\nContact Name"Phone Number\n', "Hello")
@example(b"sep=\x00\nContact Name\x00Phone Number\n", "Hello")
@example(b"\xff\xfe" + "Contact Name,Phone Number\nA,\ud800".encode("utf-16-le", "surrogatepass"), "Hello")
def test_any_file_gives_contacts_that_add_up_or_a_csv_error(file: bytes, message: str) -> None:
    try:
        reader = ContactReader(io.BytesIO(file), message, FI, chunk_rows=2)
        chunks = list(reader)
    except (CsvError, MessageError) as error:
        str(error).encode()
        return
    assert reader.rows == reader.accepted + reader.rejected + reader.duplicates
    assert reader.accepted == sum(len(chunk.contacts) for chunk in chunks)
    for contact in (one for chunk in chunks for one in chunk.contacts):
        assert contact.contact_number[1:].isdigit()
        assert 1 <= contact.segments <= MAX_SEGMENTS
        written = "\t".join([contact.contact_name, *(contact.fields or ())])
        assert "\x00" not in written
        written.encode()


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
_REPORTS = st.fixed_dictionaries(
    {},
    optional={
        "message_id": st.one_of(st.text(max_size=120), st.from_regex(r"[0-9a-fx]{31,33}-[0-9]{0,11}", fullmatch=True)),
        "status": st.one_of(st.sampled_from(["sent", "failed", "delivered", "undelivered", "queued"]), _JSON),
        "timestamp": st.one_of(st.datetimes().map(lambda at: f"{at.isoformat()}Z"), _JSON),
        "error_code": _JSON,
    },
)
_WATCHES = st.fixed_dictionaries({"workspace_id": st.one_of(st.uuids().map(str), st.lists(st.uuids().map(str)), _JSON)})


def _bodies(shaped: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Bodies from random bytes to almost valid ones."""
    texts = st.one_of(shaped, st.lists(shaped, max_size=3), _JSON).map(json.dumps).map(str.encode)
    cut = st.builds(
        lambda body, at, more: body[:at] + more + body[at:], texts, st.integers(0, 80), st.binary(max_size=3)
    )
    return st.one_of(st.binary(max_size=100), texts, cut)


@fuzz
@given(_bodies(_REPORTS))
@example(b'{"x":' + b"[" * 100_000)
def test_any_body_gives_reports_or_a_problem(body: bytes) -> None:
    try:
        steps, foreign = callback.decode(body)
    except Problem as problem:
        problem.response()
        return
    assert 1 <= len(steps) + foreign <= 1_000
    for step in steps:
        assert 0 <= step.seq < 2**31
        assert "\x00" not in (step.error_code or "")


@fuzz
@given(_bodies(_WATCHES), st.booleans())
def test_any_message_names_workspaces_or_is_an_error(data: bytes, as_text: bool) -> None:
    try:
        watch = websocket_messages.decode(data.decode(errors="replace") if as_text else data)
    except NOT_JSON as error:
        not_json(error).encode()
        return
    assert len(watch.ids) <= 100
    assert watch.ids or watch.workspace_id is None


_SIGNS = ["{", "}", "{{", "}}", "{City}", "{ city }", "{}", "\x00", "€"]
_PIECES = st.one_of(st.text(max_size=200), st.sampled_from(_SIGNS))


@fuzz
@given(st.lists(_PIECES, max_size=8).map("".join), st.lists(st.text(max_size=300), min_size=5, max_size=5))
def test_any_text_gives_a_message_or_a_reason(text: str, values: list[str]) -> None:
    try:
        template = Template(text, ["City", "Contact Name"])
    except MessageError:
        return
    rendered = template.render(values)
    counted = count_segments(rendered)
    assert counted.characters >= len(rendered)
    assert counted.segments >= (1 if rendered else 0)
    assert Template.parse(text).render(values) == rendered


@fuzz
@given(st.text(st.sampled_from("=+-@\t\r\n',;|\"ax ＝é"), max_size=12))
def test_an_escaped_cell_is_not_a_formula_and_can_be_unescaped(text: str) -> None:
    cell = escape_formula(text)
    assert unescape_formula(cell) == text
    for separator in ',;|\t\r\n"':
        assert not any(part.startswith(tuple("=+-@＝")) for part in cell.split(separator))


@pytest.mark.parametrize("text", ["=1+1", "+358", "-1", "@SUM(A1)", "\tx", "\rx", "x;=1+1", 'x","=1+1', "'=1"])
def test_formula_cells_get_a_quote(text: str) -> None:
    assert "'" in escape_formula(text)
    assert escape_formula(text) != text
    assert escape_formula("O'Brien - Näkki, Jr. 50%") == "O'Brien - Näkki, Jr. 50%"
