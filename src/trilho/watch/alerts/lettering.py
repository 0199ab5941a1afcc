"""Letters for pictures: the library's own font where it has every letter, else one of the machine's."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

FONTS = ("LiberationSans-Regular.ttf", "DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "Helvetica.ttc")
PROBE_SIZE = 24


@dataclass(frozen=True)
class Lettering:
    """A font by its file's name, empty for the library's own."""

    file: str = ""

    @classmethod
    def of(cls, text: str) -> Lettering:
        """Choose the font that has the letters of a text; a machine without any gets letters without their marks."""
        if cls()._has(text):
            return cls()
        return next((found for file in FONTS if (found := cls(file))._there() and found._has(text)), cls())

    def font(self, size: int) -> FreeTypeFont | ImageFont:
        """Give the font in a size."""
        from PIL import ImageFont

        return ImageFont.truetype(self.file, size) if self.file else ImageFont.load_default(size)

    def spelt(self, text: str) -> str:
        """Give a text in letters that the font has: without marks where it must be, "?" where it has nothing like it.

        >>> Lettering().spelt("drift")
        'drift'
        """
        text = " ".join("".join(x for x in text if x.isprintable() or x.isspace()).split())
        if self._has(text):
            return text
        return "".join(letter if self._has(letter) else self._plain(letter) for letter in text)

    def _plain(self, letter: str) -> str:
        base = unicodedata.normalize("NFD", letter)[0]
        return base if self._has(base) else "?"

    def _has(self, text: str) -> bool:
        font = self.font(PROBE_SIZE)
        missing = bytes(font.getmask("\uffff"))
        return all(letter.isspace() or bytes(font.getmask(letter)) != missing for letter in set(text))

    def _there(self) -> bool:
        try:
            self.font(PROBE_SIZE)
        except OSError:
            return False
        return True
