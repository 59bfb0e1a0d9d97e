"""Cells of a CSV that a spreadsheet might take for a formula, made harmless and read back.

OWASP: a cell that starts with one of `= + - @`, a tab, a line break or their full-width kin may be run as a formula,
and so may what follows a separator or a quote, wherever a spreadsheet separates at another sign than we do. A single
quote before it makes it text. https://owasp.org/www-community/attacks/CSV_Injection
"""

import re

_DANGEROUS = "=+\\-@\t\r\n＝＋－＠"
_BARE = re.compile(rf"""(^|[,;|\t\r\n"])('*)(?=[{_DANGEROUS}])""")
_QUOTED = re.compile(rf"""(^|[,;|\t\r\n"])'('*)(?=[{_DANGEROUS}])""")


def neutral(text: str) -> str:
    """The text as a cell that no spreadsheet runs; `restored` undoes exactly this."""
    return _BARE.sub(r"\1'\2", text)


def restored(cell: str) -> str:
    """What a cell says, without the quotes that `neutral`, or a careful person, has put before a formula's sign."""
    return _QUOTED.sub(r"\1\2", cell) if "'" in cell else cell
