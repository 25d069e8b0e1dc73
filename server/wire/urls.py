"""URLs that users give."""

from urllib.parse import urlsplit


def check_url(url: str) -> str:
    """An http or https URL with a host and without a password.

    Raises:
        ValueError
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("use a URL like https://example.org/hook")
    if parts.username is not None or parts.fragment:
        raise ValueError("leave user name, password and fragment out of the URL")
    if not url.isascii():
        raise ValueError("use ASCII characters only; xn-- for other host names")
    return url
