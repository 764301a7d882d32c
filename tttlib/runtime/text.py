"""Text files as other systems write them: byte order marks, UTF-16, Latin-1, decomposed letters."""

from __future__ import annotations

import codecs
import unicodedata
from pathlib import Path

from tttlib.runtime.errors import unreadable

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode(content: bytes) -> str:
    r"""Return the text of `content`, whose encoding is told from its bytes.

    A byte order mark decides; without one, zero bytes mean UTF-16 and everything else is UTF-8, or
    Windows-1252 (which Latin-1 is part of) if it is not valid UTF-8. Line ends become ``\n`` and
    decomposed letters (as macOS writes them) become composed ones.
    """
    if content.startswith(_UTF16):
        text = content.decode("utf-16", errors="replace")
    elif b"\0" in content[:200]:
        order = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
        text = content.decode(order, errors="replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252", errors="replace")
    return composed(text.replace("\r\n", "\n").replace("\r", "\n"))


def read(path: Path) -> str:
    """Return the text of a file, see `decode`. Raises DamagedDataError if it cannot be read."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from error


def composed(name: str) -> str:
    """Return `name` with composed letters (Unicode NFC), so that equal names compare equal."""
    return unicodedata.normalize("NFC", name)
