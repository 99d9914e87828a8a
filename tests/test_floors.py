"""Imports go down only, and the lowest floor does nothing but think."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    **dict.fromkeys(("agent", "errors"), 0),
    "domain": 1,
    "ports": 2,
    "files": 2,
    **dict.fromkeys(("sources", "actions", "adapters", "sandbox", "reach"), 3),
    **dict.fromkeys(("store", "config", "documents", "ledger"), 4),
    "engine": 5,
    **dict.fromkeys(("slack", "web", "drill", "doctor"), 6),
    **dict.fromkeys(("wiring", "clients", "embedded", "settings", "serving", "cli", "commands", "__main__"), 7),
}
SIBLINGS = 3  # of this floor none imports another
OUTSIDE_THE_PURE = frozenset(
    {
        *("asyncio", "concurrent", "ctypes", "http", "io", "logging", "multiprocessing", "os", "pathlib", "pickle"),
        *("random", "secrets", "select", "selectors", "shelve", "shutil", "signal", "socket", "sqlite3", "ssl"),
        *("subprocess", "sys", "tempfile", "threading", "time", "urllib.request", "uuid"),
    }
)
IMPURE_CALLS = frozenset({"now", "utcnow", "today", "open", "print", "input", "exec", "eval", "__import__"})
NO_NOUNS = frozenset({"utils", "util", "helpers", "common", "manager", "service", "base"})

FILES = sorted((ROOT / "bot").rglob("*.py"))


def room(module: str) -> str:
    """`bot.domain.alert` -> `domain`; the package itself -> ''."""
    return [*module.split("."), ""][1]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of everything imported anywhere in the file; `from bot import x` counts as `bot.x`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, level=level, names=names):
                assert level == 0, f"{path}:{node.lineno}: a relative import"
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    here = room(name_of(path))
    if not here:
        return
    assert here in FLOORS, f"{path}: bot/{here} stands on no floor; give it one here"
    for line, module in imports(path):
        there = room(module)
        if not module.startswith("bot.") or there == here or there not in FLOORS:
            continue  # `from bot import __version__` has no floor
        assert FLOORS[there] <= FLOORS[here], f"{path}:{line}: {here} imports {there}, which stands above it"
        siblings = FLOORS[there] == FLOORS[here] == SIBLINGS
        assert not siblings, f"{path}:{line}: {here} imports its sibling {there}"


@pytest.mark.parametrize("path", [p for p in FILES if room(name_of(p)) in ("domain", "errors")], ids=name_of)
def test_the_domain_only_thinks(path: Path) -> None:
    for line, module in imports(path):
        top = module.split(".")[0]
        assert top == "bot" or top in sys.stdlib_module_names, f"{path}:{line}: {module} is no standard library"
        outside = OUTSIDE_THE_PURE & {top, ".".join(module.split(".")[:2])}
        assert not outside, f"{path}:{line}: {module} reaches outside"
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in IMPURE_CALLS, f"{path}:{node.lineno}: {called}() is not pure"


@pytest.mark.parametrize("path", [p for p in FILES if room(name_of(p)) == "agent"], ids=name_of)
def test_what_an_agent_takes_with_it_is_this_package_and_python(path: Path) -> None:
    for line, module in imports(path):
        own = f"{module}.".startswith("bot.agent.")
        assert own or module.split(".")[0] in sys.stdlib_module_names, f"{path}:{line}: an agent may not have {module}"


def test_the_agents_client_loads_nothing_else_of_firedoor() -> None:
    say = "import bot.agent, sys; print(*sorted(name for name in sys.modules if name.split('.')[0] == 'bot'))"
    found = subprocess.run([sys.executable, "-S", "-c", say], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {name for name in found.stdout.split() if not f"{name}.".startswith("bot.agent.")} == {"bot"}


def test_modules_are_nouns_of_the_field() -> None:
    assert [str(p.relative_to(ROOT)) for p in FILES if NO_NOUNS & set(p.relative_to(ROOT).with_suffix("").parts)] == []
