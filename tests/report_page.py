"""A parser for the pages of reports."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """The text of a page, the cells of its tables, and the addresses that it loads or links to."""

    VOID = ("meta", "path", "use", "br", "link", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.shown, self.rows, self.cell = [], [], "", [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [
            value
            for name, value in attributes
            if name in ("src", "href", "xlink:href") and not value.startswith("#")
        ]
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")
            self.cell = True

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag
        self.cell = self.cell and tag != "td"

    def handle_data(self, data):
        self.shown += data
        if self.cell:
            self.rows[-1][-1] += data
