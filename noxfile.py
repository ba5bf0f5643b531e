"""The checks of .ci/run one by one, for work on the package: `nox -s tests`, `nox --list`."""

import nox

nox.options.sessions = ["tests", "lint", "types", "docs"]
nox.options.default_venv_backend = "venv"


@nox.session
def tests(session: nox.Session) -> None:
    """Every operation on every tier of this machine, against the installed package."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The numbers in the documents."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", "--doctest-glob=*.md", "docs", "README.md")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff over everything, clang-format over the C sources."""
    session.install("ruff>=0.6", "clang-format==14.0.6")
    session.run("ruff", "check", ".")
    files = session.run(
        "git", "ls-files", "csrc/*.c", "csrc/*.h", "tests/c/*.c", "tests/c/*.h", external=True, silent=True
    )
    session.run("clang-format", "--dry-run", "-Werror", *(files or "").split())


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strictly."""
    session.install("mypy>=1.11", "numpy>=2.0")
    session.run("mypy", "--strict", "src/xent")


@nox.session(venv_backend="none")
def sanitizers(session: nox.Session) -> None:
    """The C code under ASan and UBSan, the thread pool under TSan; needs gcc and clang."""
    session.run("bash", "tests/c/sanitizers.sh", *session.posargs)


@nox.session(venv_backend="none")
def hashes(session: nox.Session) -> None:
    """The same bits from gcc, clang and an aarch64 build under qemu."""
    session.run("bash", "tools/compiler_hashes.sh")


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks, on the grid of shapes."""
    session.install(".[test,bench]")
    session.run("python", "-m", "pytest", "benchmarks", *session.posargs)
