"""The one rule for names that become parts of paths: studies, searches, runs, artefacts, directories."""

from typing import TypeGuard

MAX_NAME_BYTES = 200
"""limit of file systems, less the suffixes that are added to a name"""
_RULE = (
    f"a plain file name: 1 to {MAX_NAME_BYTES} bytes of printable characters, without slashes, a leading dot "
    "or spaces at its ends, that no desktop or editor uses (Thumbs.db, name~)"
)


def check_name(what: str, name: object) -> str:
    """Return a name if it is safe as one part of a path.

    Raises:
        ValueError: it is not; the message begins with `what` it names.
    """
    if is_name(name) and not is_foreign(name):
        return name
    raise ValueError(f"{what} must be {_RULE}; got {name!r:.120}")


def is_name(name: object) -> TypeGuard[str]:
    """Whether a name follows the rule."""
    return (
        isinstance(name, str)
        and name[:1] not in ("", ".")
        and name.isprintable()
        and name == name.strip()
        and "/" not in name
        and "\\" not in name
        and len(name.encode()) <= MAX_NAME_BYTES
    )


def is_foreign(name: str) -> bool:
    """Whether a file belongs to a file system, a desktop or an editor, and not to a store."""
    return name.startswith(".") or not name or name.endswith("~") or name.casefold() in _LEFT_BY_OTHERS


_LEFT_BY_OTHERS = {
    *("lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "aquota.user", "aquota.group"),
    *("$recycle.bin", "system volume information", "@eadir", "#recycle", "#snapshot", "__macosx"),
}


def entitle(name: str, title: str) -> str:
    """Return a name with its title for readers, if it has one: "pets (images@75d61863)"."""
    return f"{title} ({name})" if title else name
