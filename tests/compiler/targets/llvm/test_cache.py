"""The object cache: whole entries or none, shared by processes, private to the user, never an error."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from funcgrad.compiler.targets.llvm import cache, toolchain

IR = "define i64 @answer() {\n  ret i64 42\n}\n"


@pytest.fixture
def root(tmp_path, monkeypatch):
    path = tmp_path / "objects"
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(path))
    cache._checked.cache_clear()
    yield path
    cache._checked.cache_clear()


def test_entries_are_read_back(root):
    assert cache.get("a" * 64) is None
    cache.put("a" * 64, b"object")
    assert cache.get("a" * 64) == b"object"
    assert cache.get("b" * 64) is None
    assert root.stat().st_mode & 0o777 == 0o700


def test_code_is_compiled_once(root, monkeypatch):
    first = cache.compiled(IR)
    monkeypatch.setattr(toolchain, "compile_ir", lambda text: pytest.fail("compiled again"))
    assert cache.compiled(IR) == first


def test_the_key_depends_on_text_versions_and_processor(root, monkeypatch):
    keys = {cache.key(IR), cache.key(IR + " ")}
    monkeypatch.setattr(cache, "CODEGEN_VERSION", cache.CODEGEN_VERSION + 1)
    keys.add(cache.key(IR))
    monkeypatch.setattr(cache, "_fingerprint", lambda: "another processor")
    keys.add(cache.key(IR))
    assert len(keys) == 4
    assert toolchain.host().cpu in toolchain.fingerprint() and toolchain.host().features in toolchain.fingerprint()


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "garbage", "renamed"])
def test_a_damaged_entry_is_missing_and_made_anew(root, damage):
    good = cache.compiled(IR)
    path = root / cache.key(IR)
    data = path.read_bytes()
    if damage == "renamed":  # a whole entry under another entry's name
        cache.put("c" * 64, b"other object")
        data = (root / ("c" * 64)).read_bytes()
    changed = {
        "empty": b"",
        "truncated": data[:-1],
        "flipped": data[:-1] + bytes([data[-1] ^ 1]),
        "garbage": b"x" * 999,
    }
    path.write_bytes(changed.get(damage, data))
    assert cache.get(cache.key(IR)) is None
    assert cache.compiled(IR) == good == cache.get(cache.key(IR))


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_directory_others_may_enter_is_refused_with_a_warning(root, mode):
    root.mkdir()
    root.chmod(mode)
    with pytest.warns(UserWarning, match="not used: it must belong to user .* mode 0700"):
        cache.put("a" * 64, b"object")
    assert cache.get("a" * 64) is None
    assert not list(root.iterdir())


def test_the_warning_comes_once(root):
    root.mkdir(mode=0o755)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            assert cache.compiled(IR)
    assert len(seen) == 1


def test_a_directory_of_another_user_is_refused(root, monkeypatch):
    cache.put("a" * 64, b"object")
    cache._checked.cache_clear()
    monkeypatch.setattr(os, "getuid", lambda: root.stat().st_uid + 1)
    with pytest.warns(UserWarning, match="not used"):
        assert cache.get("a" * 64) is None


def test_a_link_in_place_of_the_directory_is_judged_by_its_target(root, tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    root.symlink_to(tmp_path / "open")
    with pytest.warns(UserWarning, match="not used"):
        cache.put("a" * 64, b"object")


def test_io_errors_do_not_surface(root, monkeypatch):
    root.parent.joinpath("file").write_text("")
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(root.parent / "file" / "below"))
    assert cache.compiled(IR)
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(root))

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cache.put("a" * 64, b"object")
    assert cache.get("a" * 64) is None
    assert not list(root.iterdir()), "a temporary file was left behind"
    monkeypatch.setattr(cache.Path, "mkdir", full)
    cache._checked.cache_clear()
    assert cache.compiled(IR)


def test_a_read_only_directory_is_read(root):
    cache.put("a" * 64, b"object")
    root.chmod(0o500)
    try:
        cache.put("b" * 64, b"object")
        assert cache.get("a" * 64) == b"object"
    finally:
        root.chmod(0o700)


def test_pruning_removes_the_least_recently_used(root):
    for age, name in enumerate("abcd"):
        cache.put(name * 64, bytes(1000))
        os.utime(root / (name * 64), (1e9 - age, 1e9 - age))
    assert cache.get("d" * 64)  # a use: now the youngest
    cache.prune(root, limit=2500)
    assert sorted(path.name[0] for path in root.iterdir()) == ["a", "d"]


def test_processes_racing_for_one_entry_all_get_it(root):
    script = (
        "import ctypes\n"
        "from funcgrad.compiler.targets.llvm import cache\n"
        "from funcgrad.compiler.targets.llvm import toolchain\n"
        f"text = {IR!r}\n"
        "for i in range(30):\n"
        "    key = format(i, '064x')\n"
        "    content = bytes([i]) * 200_000\n"
        "    found = cache.get(key)\n"
        "    assert found in (None, content), 'a torn entry'\n"
        "    cache.put(key, content)\n"
        "    assert cache.get(key) == content\n"
        "library = toolchain.link(cache.compiled(text), ['answer'])\n"
        "assert ctypes.CFUNCTYPE(ctypes.c_int64)(library.address('answer'))() == 42\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == 0, errors.decode()
    assert not [path for path in root.iterdir() if path.name.startswith(".")]
