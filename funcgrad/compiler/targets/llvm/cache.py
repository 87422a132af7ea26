"""Object code on disk, so that a kernel compiled once is never compiled again on this machine.

An entry is a file named by the SHA-256 of everything its content depends on. It holds a checksum of its
content, is written under a temporary name and renamed into place, so that readers see a whole entry or none;
several processes may share the directory, and the last writer of an entry wins with the same bytes. An entry
that is damaged counts as missing.

Loading object code is running it. The directory must therefore belong to the user and be writable by nobody
else; otherwise it is not used, with a warning. No I/O error ever reaches the caller: without a cache, code is
compiled again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from funcgrad.compiler.targets.llvm import toolchain
from funcgrad.config import config
from funcgrad.errors import warn

CODEGEN_VERSION = 1  # raise when the same key text may mean different code
LIMIT_BYTES = 512 << 20
_MAGIC = b"funcgrad-object-1\n"
_PRUNE_EVERY = 64  # writes of this process between two looks at the directory's size
_writes = 0


def directory() -> Path:
    """`config.compilation_cache_dir`, else `$FUNCGRAD_CACHE_DIR`, else `~/.cache/funcgrad`."""
    chosen = config.compilation_cache_dir or os.environ.get("FUNCGRAD_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "funcgrad"


def key(content: str) -> str:
    """The name of the entry for `content`: LLVM IR, or any text that determines the code on this target."""
    return hashlib.sha256(f"{CODEGEN_VERSION}\n{_fingerprint()}\n{content}".encode()).hexdigest()


def get(key: str) -> bytes | None:
    """Return the entry, or None if it is missing or damaged."""
    root = _usable_directory()
    if root is None:
        return None
    path = root / key
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + 32
    content = data[head:]
    if not data.startswith(_MAGIC) or hashlib.sha256(key.encode() + content).digest() != data[len(_MAGIC) : head]:
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # pruning removes what was not used for longest
    return content


def put(key: str, content: bytes) -> None:
    """Store an entry, if possible."""
    global _writes
    root = _usable_directory()
    if root is None:
        return
    checksum = hashlib.sha256(key.encode() + content).digest()
    with contextlib.suppress(OSError):
        _write_atomically(root / key, _MAGIC + checksum + content)
        _writes += 1
        if _writes % _PRUNE_EVERY == 1:
            prune(root)


def compiled(text: str, *, optimize: bool = False) -> bytes:
    """Return the object code of LLVM IR, optimized or not, from the cache, or compile and cache it."""
    with toolchain.lock:
        name = key(f"{optimize}\n{text}" if optimize else text)
        found = get(name)
        if found is None:
            found = toolchain.compile_ir(text, optimize=optimize)
            put(name, found)
        return found


def prune(root: Path, limit: int | None = None) -> None:
    """Remove the least recently used entries until at most `limit` bytes are left (default `LIMIT_BYTES`)."""
    limit = LIMIT_BYTES if limit is None else limit
    entries = []
    with os.scandir(root) as scan:
        for entry in scan:
            with contextlib.suppress(OSError):
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(info.st_mode):
                    entries.append((info.st_mtime, info.st_size, entry.path))
    excess = sum(size for _, size, _ in entries) - limit
    for _, size, path in sorted(entries):
        if excess <= 0:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
            excess -= size


@functools.cache
def _fingerprint() -> str:
    return toolchain.fingerprint()


def _write_atomically(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _usable_directory() -> Path | None:
    try:
        return _checked(directory())
    except (OSError, RuntimeError):  # RuntimeError: there is no home directory
        return None


@functools.lru_cache(maxsize=8)
def _checked(root: Path) -> Path | None:
    """Create the directory if it does not exist, and return it if only this user can write to it."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "getuid"):
        return root
    info = os.stat(root)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        warn(
            f"compilation cache {root} is not used: it must belong to user {os.getuid()} with mode 0700 "
            f"(it belongs to {info.st_uid}, mode {stat.S_IMODE(info.st_mode):04o})\n"
            f"  fix: chmod 700 {root}, or set FUNCGRAD_CACHE_DIR to a directory of your own"
        )
        return None
    return root
