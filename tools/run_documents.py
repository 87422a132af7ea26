"""Run the Python code in Markdown files and notebooks.

Usage: python tools/run_documents.py README.md docs/*.md notebooks/*.ipynb

The ```python blocks of a Markdown file run in order in a new interpreter; blocks with >>> prompts are doctests. A
notebook runs from top to bottom in a new kernel. The exit status is 1 if a document fails.
"""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
import time
from pathlib import Path

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_markdown(path: Path) -> None:
    """Execute the blocks of a file in this interpreter; raise at the first failure."""
    text = path.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "__main__"}
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        if ">>> " in block[1]:
            test = doctest.DocTestParser().get_doctest(block[1], names, path.name, str(path), line)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            if runner.run(test, clear_globs=False).failed:
                raise SystemExit(1)
            names.update(test.globs)
        else:
            # Leading blank lines make the line numbers of tracebacks match the file.
            exec(compile("\n" * line + block[1], str(path), "exec"), names)


def run_notebook(path: Path) -> None:
    """Execute a notebook in a new kernel, in its own directory; raise at the first failing cell."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()


def main(arguments: list[str]) -> int:
    """Run each document in a new interpreter, and print how long it took."""
    if arguments[:1] == ["--one"]:
        path = Path(arguments[1])
        (run_notebook if path.suffix == ".ipynb" else run_markdown)(path)
        return 0
    failures = 0
    for argument in arguments:
        start = time.perf_counter()
        failed = subprocess.run([sys.executable, __file__, "--one", argument], check=False).returncode != 0
        failures += failed
        print(f"{'FAILED' if failed else 'ok':6} {argument} ({time.perf_counter() - start:.1f} s)", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
