"""Credit as exact decimals: tenths of a credit, and decimal strings on the wire."""

from decimal import Decimal, InvalidOperation

TENTH = Decimal("0.1")
LARGEST = Decimal("10") ** 12


class MoneyError(ValueError):
    """The amount is not a number of credits in whole tenths."""


def parse_credits(text: str) -> Decimal:
    """Read an amount such as `12.5`, in credits.

    Raises MoneyError if it is no plain decimal number, not in whole tenths, or beyond what an account can hold.
    """
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise MoneyError(f"{text!r} is not a number of credits, such as 12.5") from None
    if not amount.is_finite() or abs(amount) >= LARGEST:
        raise MoneyError(f"{text!r} is beyond what an account can hold")
    if amount % TENTH:
        raise MoneyError(f"{text!r} is not in whole tenths of a credit")
    return amount.quantize(TENTH)
