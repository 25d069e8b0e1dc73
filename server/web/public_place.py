"""Where people reach the server, which may be another address than the one that it listens on."""

from dataclasses import dataclass
from urllib.parse import urlsplit

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class PublicPlace:
    """An address in parts; None, and no prefix, where there is none.

    Attributes:
        origin: as browsers tell it, without the port that its scheme has anyway.
        host: the name in it.
        prefix: of all paths, that a proxy takes away; without a slash at its end.
    """

    origin: str | None = None
    host: str | None = None
    prefix: str = ""

    @classmethod
    def of(cls, url: str | None) -> "PublicPlace":
        """From a URL that was checked."""
        if url is None:
            return cls()
        parts = urlsplit(url)
        usual = {"http": 80, "https": 443}[parts.scheme]
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = "" if parts.port in {None, usual} else f":{parts.port}"
        return cls(f"{parts.scheme}://{host}{port}", parts.hostname or "", parts.path.rstrip("/"))

    def prefixed(self, headers: Headers) -> Headers:
        """Headers of an answer, with places of this server as they are seen from outside."""
        if not self.prefix:
            return headers
        prefix = self.prefix.encode("ascii")
        return [
            (name, prefix + value if name == b"location" and value[:1] == b"/" else value)
            for name, value in headers
        ]
