"""Escape CSV cells that a spreadsheet might run as a formula, and undo the escaping on reading.

OWASP: a cell that starts with `= + - @`, a tab, a line break or their full-width forms may be run as a formula, and so
may text after a separator or a quote, if the spreadsheet uses another separator. A single quote before it makes it
text.
https://owasp.org/www-community/attacks/CSV_Injection
"""

import re

_DANGEROUS = "=+\\-@\t\r\n＝＋－＠"
_UNESCAPED = re.compile(rf"""(^|[,;|\t\r\n"])('*)(?=[{_DANGEROUS}])""")
_ESCAPED = re.compile(rf"""(^|[,;|\t\r\n"])'('*)(?=[{_DANGEROUS}])""")


def escape_formula(text: str) -> str:
    """Escape a cell so that no spreadsheet runs it; `unescape_formula` is the inverse."""
    return _UNESCAPED.sub(r"\1'\2", text)


def unescape_formula(cell: str) -> str:
    """Remove the quotes before formula characters that `escape_formula`, or a person, has added."""
    return _ESCAPED.sub(r"\1\2", cell) if "'" in cell else cell
