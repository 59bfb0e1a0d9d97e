"""Inserts measured results into a Markdown page, between `<!-- name -->` and `<!-- /name -->`."""

from pathlib import Path


def replace_section(page: Path, name: str, text: str) -> None:
    """Replace the text between the marks. Raises ValueError if the page has no such section."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, found, rest = page.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{page.name} has no section {name}")
    page.write_text(before + begin + text + end + after)
