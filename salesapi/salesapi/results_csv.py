"""The results of a campaign as a CSV that any spreadsheet opens safely and `POST /create` reads again."""

import csv
import io
from collections.abc import AsyncIterator, Iterable

from bulksms.campaigns import Contact
from bulksms.contacts.csv_escape import neutral


async def lines(chunks: AsyncIterator[Iterable[Contact]]) -> AsyncIterator[str]:
    """The lines, a header first, every cell in double quotes.

    What people and the carrier wrote (the name, the error) is made harmless as OWASP says, see `neutral`. A number is
    left as it is: it is E.164, a plus and digits that we wrote ourselves, so the worst a spreadsheet can do is to show
    it without its plus; a quote before it would break every program that reads the file.
    """
    yield ",".join(f'"{name}"' for name in Contact._fields) + "\r\n"
    async for chunk in chunks:
        text = io.StringIO()
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows(
            contact._replace(contact_name=neutral(contact.contact_name), error_code=neutral(contact.error_code or ""))
            for contact in chunk
        )
        yield text.getvalue()
