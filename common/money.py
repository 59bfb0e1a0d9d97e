"""Amounts of credit as exact decimals in whole tenths; decimal strings on the wire."""

import re
from decimal import Decimal

# The only form of an amount that is accepted, from whomever it comes; published in the API's documents.
PATTERN = r"^[0-9]{1,12}(\.[0-9])?$"

_AMOUNT = re.compile(PATTERN.strip("^$"))
_DIGITS = re.compile(r"[0-9]{13,}(\.[0-9])?")


class Credits(Decimal):
    """An amount above 0 as an argument of a job, where it is read with `read_credits`."""


class MoneyError(ValueError):
    """The amount is not a valid number of credits in whole tenths."""


def parse_credits(text: str) -> Decimal:
    """Parse an amount in credits, such as `12.5`.

    Raises MoneyError if it is not written in plain digits with at most one decimal, or has more than 12 digits.
    """
    if _AMOUNT.fullmatch(text):
        return Decimal(text).quantize(Decimal("0.1"))
    if _DIGITS.fullmatch(text):
        raise MoneyError(f"{text!r} is too large: an amount has at most 12 digits before the point")
    raise MoneyError(
        f"{text!r} is not an amount of credits: write it in the digits 0 to 9, with at most one decimal, such as 12.5"
    )


def read_credits(text: str) -> Credits:
    """Parse an amount above 0. Raises MoneyError."""
    if not (amount := parse_credits(text)):
        raise MoneyError("must be greater than 0")
    return Credits(amount)
