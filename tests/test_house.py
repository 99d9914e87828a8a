"""What the repository as a whole keeps: where packages come from, what is documented, which links lead somewhere."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.domain import containment

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

# Where a package came from, and where a machine keeps its files, is nobody's business here. In pieces, so that this
# file holds none of them.
FORBIDDEN = [
    re.compile(pattern.replace("~", ""))
    for pattern in (
        r"(?<!no-emit-)(?:extra-)?index~-url",
        r"(?<!no-emit-)find~-links",
        r"(?<!no-emit-)trusted~-host",
        r"files\.pythonho~sted",
        r"pypi\.~(?:org|python)",
        r"py~pi[./-](?:simple|proxy|mirror|more)",
        r"artifac~tory|dev~pi|nex~us/repository",
        r"(?<![\w./-])/(?:ho~me|Us~ers|wo~rk|ro~ot|far~m)/",
        r"(?<![\w./-])/t~mp/\w",
        r"/opt/(?:whe~els|py~pi)",
    )
]
# Declared, and never imported by name: what loads it.
LOADED_BY_OTHERS = {
    "httptools": "uvicorn",
    "uvloop": "uvicorn",
    "wsproto": "uvicorn",
    "mypy": "make test",
    "ruff": "make test",
    "pytest-timeout": "pytest",
    "pytest-xdist": "pytest",
    "types-pyyaml": "mypy",
    "types-jmespath": "mypy",
}


def _tracked() -> list[Path]:
    """The files under version control; those of an export without it are all there are."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        return [path for path in ROOT.rglob("*") if path.is_file() and not {".venv", "out"} & set(path.parts)]
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def _declared(*extras: str) -> set[str]:
    lines = [*PROJECT["dependencies"], *(one for extra in extras for one in PROJECT["optional-dependencies"][extra])]
    return {_normal(re.split(r"[\[<>=!~ ]", line)[0]) for line in lines}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(*folders: str) -> set[str]:
    """Distributions that Python files import from, by their declared names."""
    modules: set[str] = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                modules.add(node.module.partition(".")[0])
    owners = importlib.metadata.packages_distributions()
    outside = modules - sys.stdlib_module_names - {"bot", "tests", "bench"}
    return {_normal(owners[module][0]) if module in owners else module for module in outside}


def test_no_file_says_where_packages_come_from_or_where_a_machine_keeps_its_files() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in _tracked()
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        for pattern in FORBIDDEN
        if (match := pattern.search(line))
    ]
    assert not found, "\n".join(found)


def test_every_requirement_is_pinned_and_hashed() -> None:
    text = (ROOT / "requirements.txt").read_text("utf-8")
    requirements = re.split(r"\n(?=[A-Za-z0-9])", "\n".join(line for line in text.splitlines() if "#" not in line))
    pinned = {_normal(re.split(r"[\[=]", one.strip())[0]) for one in requirements if "==" in one}
    assert all("==" in one and "--hash=sha256:" in one for one in requirements if one.strip())
    assert _declared("test") | {"setuptools"} <= pinned


def test_what_is_imported_is_declared_and_what_is_declared_is_used() -> None:
    run, test = _imported("bot"), _imported("tests", "bench")
    assert run <= _declared(), "the package imports what pyproject.toml does not name"
    assert test <= _declared("test"), "tests import what pyproject.toml does not name"
    assert _declared("test") - run - test <= LOADED_BY_OTHERS.keys() <= _declared("test")


def test_every_dependency_has_its_reason() -> None:
    given = {"slack-bolt", "apscheduler", "boto3", "hvac", "jinja2", "pyyaml", "pytest", "freezegun"}
    page = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    reasons = dict(re.findall(r"^\| ([a-z0-9-]+) \| (.+) \|$", page, re.MULTILINE))
    assert reasons.keys() == (_declared("test") - given) | {"setuptools"}


def _links() -> Iterator[tuple[Path, str]]:
    for page in (path for path in _tracked() if path.suffix == ".md" and path.parts[-2:-1] != ("templates",)):
        text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for goal in re.findall(r"\]\(([^)\s]+)\)", text):
            if not goal.startswith(("https://", "http://", "mailto:")):
                yield page, goal


def test_every_link_of_the_documentation_leads_somewhere() -> None:
    broken = []
    for page, goal in _links():
        name, _, anchor = goal.partition("#")
        target = (page.parent / name).resolve() if name else page
        text = target.read_text("utf-8") if target.is_file() and target.suffix == ".md" else ""
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
        if not target.exists() or (anchor and anchor not in anchors):
            broken.append(f"{page.relative_to(ROOT)}: {goal}")
    assert not broken, "\n".join(broken)


def test_every_decision_and_page_can_be_found_from_its_index() -> None:
    for folder, index in (("docs/adr", "docs/adr/README.md"), ("docs", "docs/README.md")):
        pages = {
            path.resolve() for path in (ROOT / folder).rglob("*.md") if folder != "docs" or "adr" not in path.parts
        }
        named = {(page.parent / goal).resolve() for page, goal in _links() if page == ROOT / index}
        assert pages - {(ROOT / index).resolve()} <= named


def test_the_table_of_containment_is_the_codes_own() -> None:
    code = dict(re.findall(r"^    (.+?) \.+ (\w+)$", containment.__doc__ or "", re.MULTILINE))
    page = (ROOT / "docs" / "reference" / "containment.md").read_text("utf-8")
    assert code
    assert dict(re.findall(r"^\| (.+?) \| `(\w+)` \|$", page, re.MULTILINE)) == code
    assert set(code.values()) == {str(state) for state in containment.Containment}


def test_files_that_the_documentation_names_exist() -> None:
    """How-tos speak of files that exist."""
    missing = []
    for page in (ROOT / "docs").rglob("*.md"):
        for name in re.findall(r"`((?:bot|tests|docs)/[\w./-]+\.\w+)`", page.read_text("utf-8")):
            if not (ROOT / name).exists():
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("name", ["python3.99", "/bin/false"])
def test_a_missing_python_is_said_clearly(name: str, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text("utf-8"), "utf-8")
    for needed in ("requirements.txt", "pyproject.toml"):
        (tmp_path / needed).touch()
    answer = subprocess.run(
        ["make", "drill", f"PYTHON={name}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert "Python 3.11" in answer.stderr
