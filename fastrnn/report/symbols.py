"""How symbols are shown: each has a visible sign and a name, so that nothing in a text acts on the page."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.vocabulary import Text, Vocabulary, code_points

#: The signs of two control characters that are usual in texts.
SIGNS = {"\n": "↵", "\t": "⇥"}

#: Abbreviations of the control characters from 0 on (ISO 6429). Few fonts have Unicode's pictures of them.
CONTROLS = (  # noqa: SIM905  (a list would have a line for each)
    "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI "
    "DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
).split()
DELETE = 0x7F

#: The sign of a document's end, and of the unknown symbol.
END, UNKNOWN = "∎", "�"

#: The most characters of a token's name that are shown.
LONGEST_NAME = 40


@dataclass(frozen=True)
class Sign:
    """How a symbol is shown.

    Attributes
    ----------
    text
        What stands in the text.
    name
        Its name, such as ``U+0065 LATIN SMALL LETTER E``.
    is_itself
        Whether ``text`` is the symbol, and not something that stands for it.
    ends_line
        Whether a new line begins after it.
    """

    text: str
    name: str
    is_itself: bool = True
    ends_line: bool = False

    @property
    def label(self) -> str:
        """The sign where it stands alone: a space is visible, and an accent has something to stand on."""
        if self.text == " ":
            return "␣"
        return f"◌{self.text}" if unicodedata.category(self.text[0]).startswith("M") else self.text


def sign_of_character(character: str) -> Sign:
    """The sign of a character: itself, the abbreviation of a control character, or an escape as in a repr."""
    code = ord(character)
    name = f"U+{code:04X} {unicodedata.name(character, '')}".rstrip()
    if character == " ":
        return Sign(" ", name)
    if code < len(CONTROLS) or code == DELETE:
        control = "DEL" if code == DELETE else CONTROLS[code]
        text = SIGNS.get(character, control)
        return Sign(text, f"{name} control character {control}", is_itself=False, ends_line=character == "\n")
    text = character if character.isprintable() else repr(character)[1:-1]
    return Sign(text, name, is_itself=text == character)


def sign_of_byte(byte: int) -> Sign:
    """The sign of a byte: a character of ASCII as `sign_of_character` has it, or two digits."""
    if byte < 0x80:
        sign = sign_of_character(chr(byte))
        return Sign(sign.text, f"byte 0x{byte:02x}", sign.is_itself, sign.ends_line)
    return Sign(f"{byte:02x}", f"byte 0x{byte:02x}", is_itself=False)


class Signs:
    """The signs of a vocabulary's symbols, each made when it is first needed."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._made: dict[int, Sign] = {}
        self._names = vocabulary.tokens if isinstance(vocabulary, TokenVocabulary) else None

    def of_id(self, symbol: int) -> Sign:
        """The sign of an id of the vocabulary."""
        if symbol == self._vocabulary.boundary_id:
            return Sign(END, "the end of a document", is_itself=False, ends_line=True)
        if symbol == self._vocabulary.unknown_id:
            return Sign(UNKNOWN, "the unknown symbol", is_itself=False)
        return self.of_code(int(self._vocabulary.symbols[symbol]))

    def of_text(self, text: Text) -> list[Sign]:
        """The signs of a text's symbols, also of those that are not in the vocabulary."""
        return [self.of_code(code) for code in code_points(text, surrogates=True).tolist()]

    def of_code(self, code: int) -> Sign:
        """The sign of a code point, byte or token."""
        sign = self._made.get(code)
        if sign is None:
            sign = self._made[code] = self._sign(code)
        return sign

    def _sign(self, code: int) -> Sign:
        unit = self._vocabulary.unit
        if unit == "character":
            return sign_of_character(chr(code))
        if unit == "byte":
            return sign_of_byte(code)
        if self._names is None or not 0 <= code < len(self._names):
            return Sign(str(code), f"token {code}")
        name = self._names[code]
        cut = name if len(name) <= LONGEST_NAME else name[:LONGEST_NAME] + "…"
        text = "".join(sign_of_character(c).text for c in cut) or "∅"
        return Sign(text, f"token {code}", is_itself=text == name)
