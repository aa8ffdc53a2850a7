"""Reading a page of the report as a browser would, for the tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Page(HTMLParser):
    """What a page consists of, in the order of the file."""

    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    """Tag, name, value."""
    texts: list[tuple[str, str]] = field(default_factory=list)
    """The innermost open tag, and a piece of text within it."""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    @classmethod
    def of(cls, text: str) -> Page:
        page = cls()
        page.feed(text)
        page.close()
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append((self.tags[-1] if self.tags else "", data))

    def values(self, name: str) -> list[str]:
        """Of an attribute, wherever it occurs."""
        return [value for _, found, value in self.attributes if found == name]

    @property
    def text(self) -> str:
        """What a reader sees, and style and script besides."""
        return "".join(data for _, data in self.texts)
