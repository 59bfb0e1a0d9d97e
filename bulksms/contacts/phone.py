"""Normalise phone numbers to E.164 (`+358401234567`); validity is decided by `phonenumbers`."""

import re
from contextlib import suppress
from typing import Any

import phonenumbers
from phonenumbers import PhoneMetadata

from bulksms.contacts.numbering_plan import TYPES, PhoneError, e164, international, national

_DASHES_AND_SPACES = re.compile(r"[\s\u00ad\u2010-\u2015\u2212\u200b-\u200f\u202a-\u202e\u2060\ufeff.()/\-]+")
_DIGITS = re.compile(r"\+?[0-9]+\Z")
_SHORTEST_INTERNATIONAL = 7  # digits, with the calling code (Niue: +683 4000)
_SCIENTIFIC = re.compile(r"\s*[0-9][.,]?[0-9]*[eE]\+?[0-9]+\s*\Z")


class PhoneNormaliser:
    """Normalises numbers; national forms are read as numbers of `region` (ISO 3166-1)."""

    def __init__(self, region: str) -> None:
        self.region = region
        if region not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError(f"{region!r} is not a supported region: use a country code of ISO 3166-1 such as FI")
        code = phonenumbers.country_code_for_region(region)
        self._international = f"+{code}"
        self._pattern = _valid_pattern(region)
        metadata: Any = PhoneMetadata.metadata_for_region(region)
        prefix = metadata.national_prefix
        # Only the prefix 0 is handled here: others may also be ordinary digits (as in the US).
        self._national = prefix if prefix == "0" else None

    def normalise(self, raw: str) -> str:
        """The number in E.164.

        Spaces, dashes, dots, slashes and parentheses are ignored; `00` is read as `+`. A number without either that is
        not valid nationally is tried as an international one, since spreadsheets drop the plus. Raises PhoneError.
        """
        number = self._by_pattern(raw)
        return number if number is not None else self._by_plan(raw)

    def _by_pattern(self, raw: str) -> str | None:
        """A valid number of the default region, by one pattern: most numbers of most files."""
        digits = raw if raw[1:].isalnum() else _DASHES_AND_SPACES.sub("", raw)
        if digits.startswith(self._international):
            national = digits[len(self._international) :]
        elif self._national and digits.startswith(self._national) and not digits.startswith("00"):
            national = digits[1:]
        else:
            return None
        return self._international + national if self._pattern.match(national) else None

    def _by_plan(self, raw: str) -> str:
        if _SCIENTIFIC.match(raw):
            raise PhoneError("a spreadsheet has changed this number to scientific notation: format the column as text")
        text = _DASHES_AND_SPACES.sub("", raw.strip().removeprefix("tel:").replace("＋", "+"))
        if text.startswith("00"):
            text = "+" + text[2:]
        if not text:
            raise PhoneError("empty")
        if not _DIGITS.match(text):
            raise PhoneError("not a phone number")
        if text.startswith("+"):
            return e164(international(text[1:]))
        try:
            return e164(national(text, self.region))
        except PhoneError:
            if text.startswith("0") or len(text) < _SHORTEST_INTERNATIONAL:
                raise
            with suppress(PhoneError):
                return e164(international(text))
            raise


def _valid_pattern(region: str) -> re.Pattern[str]:
    """A pattern for exactly the national numbers that the library considers valid in the region.

    Valid means: of a possible length, matching the general description and one of the types. Of regions that share a
    calling code only the main one is matched; numbers of the others, and regions whose numbers are rewritten before
    they are matched, are left to the library.
    """
    metadata: Any = PhoneMetadata.metadata_for_region(region)
    if (
        metadata.national_prefix_transform_rule
        or phonenumbers.region_code_for_country_code(metadata.country_code) != region
    ):
        return re.compile(r"(?!)")
    types = [getattr(metadata, name) for name in TYPES]
    patterns = "|".join(kind.national_number_pattern for kind in types if kind and kind.national_number_pattern)
    lengths = "|".join(f".{{{length}}}" for length in metadata.general_desc.possible_length)
    rules = [
        f"(?={metadata.leading_digits or ''})",
        rf"(?=(?:{lengths})\Z)",
        rf"(?=(?:{metadata.general_desc.national_number_pattern})\Z)",
        rf"(?:{patterns})\Z",
    ]
    return re.compile("".join(rules), re.ASCII)
