"""Text for messages: one short line, whatever came."""


def short(value: object, limit: int = 100) -> str:
    """The text on one printable line of at most ``limit`` characters.

    >>> short("a\\nb\\x1b[31m  c")
    'a b [31m c'
    >>> short("x" * 1000, 10)
    'xxxxxxxxx…'
    """
    text = value if isinstance(value, str) else str(value)
    # Far more than is shown, far less than a message must be searched.
    text = "".join(c if c.isprintable() else " " for c in text[: 20 * limit])
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
