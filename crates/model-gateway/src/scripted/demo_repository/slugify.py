"""Slugs: readable names for URLs."""

import re
import unicodedata


def slugify(text, separator="-", max_length=0):
    """Turn a title into a slug of at most `max_length` characters (0: no limit).

    A slug holds lower-case letters and digits in words, joined by `separator`;
    it neither begins nor ends with the separator.
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    words = re.findall(r"[a-z0-9]+", ascii_text.lower())
    slug = separator.join(words)
    if max_length and len(slug) > max_length:
        slug = slug[:max_length]
    return slug
