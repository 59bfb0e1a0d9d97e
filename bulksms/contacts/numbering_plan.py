"""The numbering plans of all calling codes: which digits are a valid number, by the metadata of `phonenumbers`.

The rules are those of the library's `parse` and `is_valid_number`, which take twenty times as long for one number: a
file of foreign, or of invalid, numbers would cost many times what others do.
"""

import re
from functools import cache
from typing import Any, NamedTuple

import phonenumbers
from phonenumbers import PhoneMetadata

TYPES = (
    "fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip", "pager", "uan",
    "voicemail",
)  # fmt: skip

_NON_GEOGRAPHICAL = "001"  # the region of calling codes such as +800
_LONGEST_CODE = 3  # digits of a calling code
_SHORTEST, _LONGEST = 2, 17  # digits of a national number


class PhoneError(ValueError):
    """The text is not a valid phone number; the message says why."""


class Number(NamedTuple):
    """A calling code and the digits of a national number, which may be valid or not."""

    code: int
    national: str


class _Plan:
    """The numbering plan of a region."""

    def __init__(self, metadata: Any) -> None:
        general = metadata.general_desc
        self._general = re.compile(general.national_number_pattern or "(?!)")
        self._lengths = frozenset(general.possible_length)
        self._local_lengths = frozenset(general.possible_length_local_only)
        self._types = [
            (re.compile(one.national_number_pattern), frozenset(one.possible_length) or self._lengths)
            for name in TYPES
            if (one := getattr(metadata, name)) and one.national_number_pattern
        ]
        self._prefix = re.compile(metadata.national_prefix_for_parsing or "(?!)")
        self._transform = metadata.national_prefix_transform_rule
        self.leading = re.compile(metadata.leading_digits) if metadata.leading_digits else None
        self.international = re.compile(metadata.international_prefix or "(?!)")

    def is_viable(self, national: str) -> bool:
        """Whether the general description matches."""
        return self._general.fullmatch(national) is not None

    def is_valid(self, national: str) -> bool:
        """Whether it is a number of one of the types."""
        length = len(national)
        return (
            length in self._lengths
            and self.is_viable(national)
            and any(length in lengths and pattern.fullmatch(national) for pattern, lengths in self._types)
        )

    def without_prefix(self, national: str) -> str:
        """The number without a national prefix; a number that is viable only with it keeps it."""
        found = self._prefix.match(national)
        if found is None:
            return national
        groups = found.groups()
        if self._transform and groups[-1] is not None:
            rest = self._prefix.sub(self._transform, national, count=1)
        else:
            rest = national[found.end() :]
        return national if self.is_viable(national) and not self.is_viable(rest) else rest

    def significant(self, national: str) -> str:
        """The number without its national prefix, if what remains has a possible length."""
        rest = self.without_prefix(national)
        length = len(rest)
        if length in self._local_lengths:
            return national
        return rest if length in self._lengths or length > max(self._lengths) else national

    def length_error(self, national: str) -> str | None:
        """What is wrong with the number's length, if anything is."""
        if len(national) < min(self._lengths):
            return "too short"
        return "too long" if len(national) > max(self._lengths) else None


@cache
def _plan(code: int, region: str) -> _Plan:
    if region == _NON_GEOGRAPHICAL:
        return _Plan(PhoneMetadata.metadata_for_nongeo_region(code))
    return _Plan(PhoneMetadata.metadata_for_region(region))


@cache
def _plans(code: int) -> tuple[_Plan, ...]:
    """The plans of the regions of a calling code, the main one first; empty if nobody has the code."""
    return tuple(_plan(code, region) for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code, ()))


def international(digits: str) -> Number:
    """Divide the digits after a plus. Raises PhoneError."""
    if len(digits) <= _SHORTEST:
        raise PhoneError("too short")
    for length in range(1, _LONGEST_CODE + 1):
        code = int(digits[:length])
        if plans := _plans(code):
            return Number(code, plans[0].significant(digits[length:]))
    raise PhoneError("unknown country code")


def national(digits: str, region: str) -> Number:
    """Divide digits without a plus, as someone in the region dials them. Raises PhoneError."""
    code = phonenumbers.country_code_for_region(region)
    plan = _plan(code, region)
    dialled = plan.international.match(digits)
    if dialled and digits[dialled.end() : dialled.end() + 1] not in ("", "0"):
        return international(digits[dialled.end() :])
    if digits.startswith(str(code)):
        rest = plan.without_prefix(digits[len(str(code)) :])
        if (not plan.is_viable(digits) and plan.is_viable(rest)) or plan.length_error(digits) == "too long":
            return Number(code, plan.significant(rest))
    return Number(code, plan.significant(digits))


def e164(number: Number) -> str:
    """The number in E.164. Raises PhoneError if it is not valid."""
    code, digits = number
    plans = _plans(code)
    if len(digits) < _SHORTEST:
        raise PhoneError("too short")
    if len(digits) <= _LONGEST and _is_valid(plans, digits):
        return f"+{code}{digits}"
    if error := plans[0].length_error(digits):
        raise PhoneError(error)
    raise PhoneError(f"not a valid number in {phonenumbers.region_code_for_country_code(code)}")


def _is_valid(plans: tuple[_Plan, ...], digits: str) -> bool:
    """Whether it is valid in the region that it belongs to: by its leading digits, else where a type matches."""
    if len(plans) == 1:
        return plans[0].is_valid(digits)
    for plan in plans:
        if plan.leading is None:
            if plan.is_valid(digits):
                return True
        elif plan.leading.match(digits):
            return plan.is_valid(digits)
    return False
