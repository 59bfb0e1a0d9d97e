"""Amounts of credit as exact decimals in whole tenths; decimal strings on the wire."""

from decimal import Decimal, InvalidOperation

TENTH = Decimal("0.1")
LARGEST = Decimal("10") ** 12


class MoneyError(ValueError):
    """The amount is not a valid number of credits in whole tenths."""


def parse_credits(text: str) -> Decimal:
    """Parse an amount in credits, such as `12.5`.

    Raises MoneyError if it is not a plain decimal number, not in whole tenths, or too large for an account.
    """
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise MoneyError(f"{text!r} is not a number of credits, such as 12.5") from None
    if not amount.is_finite() or abs(amount) >= LARGEST:
        raise MoneyError(f"{text!r} is too large: an account holds less than {LARGEST:,f} credits")
    if amount % TENTH:
        raise MoneyError(f"{text!r} must be in whole tenths of a credit, such as 12.5")
    return amount.quantize(TENTH)
