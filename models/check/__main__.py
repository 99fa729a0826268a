"""Check the modules that a plug-in file registers: ``python -m models.check my_block.py``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run by its path, so that it stands in the user's folder and not in the repository's
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from utils import cli
from utils.errors import UserError
from utils.log import LOG, start_log

if TYPE_CHECKING:
    from models.check.conformance import CheckResult

_FEW = 5  # maximum number of modules with a line per check; more modules get one line each, and their failures


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """Flags of models.check."""

    files: tuple[str, ...] = cli.option((), "Python files that register modules", positional=True, nargs="*", type=str)
    all: bool = cli.option(False, "check every module that Attune registers, too")
    modules: tuple[str, ...] = cli.option((), "check only the modules of these names", nargs="+", type=str)
    timm: bool = cli.option(False, "check timm's fifty popular networks as backbones, too")

    def __post_init__(self) -> None:
        if not self.files and not self.all and not self.modules and not self.timm:
            raise UserError("name a file that registers a module: python -m models.check my_block.py (or --all, or --modules CoT SE)")


def main(argv: Sequence[str] | None = None) -> None:
    """Check modules and print the results. Exits with status 1 if a check fails.

    Raises:
        UserError: a wrong flag, no such file, a file that cannot be imported or registers nothing.
    """
    config, _ = cli.parse(CheckConfig, argv, description=__doc__ or "")
    start_log()
    names = _names(config)
    from models.check.conformance import examine

    failures, skips = 0, 0
    for name in names:
        findings = list(examine(name))
        bad = [f for f in findings if f.state == "FAILED"]
        failures, skips = failures + len(bad), skips + sum(f.state == "skipped" for f in findings)
        LOG.info("\n".join(_report(name, findings, bad, brief=len(names) > _FEW)))
    modules = f"{len(names)} module{'s' if len(names) != 1 else ''}"
    LOG.info(f"{modules}: {f'{failures} checks failed' if failures else 'all checks hold'}{f', {skips} skipped' if skips else ''}")
    if failures:
        sys.exit(1)


def _names(config: CheckConfig) -> list[str]:
    """The modules to check: those of the files, the shipped ones, or the named ones of both.

    Published backbones are functions; their classes, registered with a small example, are checked instead.
    """
    from models import list_modules, load_plugins
    from models.registry import lookup

    shipped = set(list_modules())
    load_plugins(config.files)
    names = [name for name in list_modules() if name not in shipped]
    if config.files and not names:
        raise UserError(f"{', '.join(config.files)}: registers no module; put @register(preserve) of models.registry above the class")
    if config.all:
        names += [name for name in list_modules() if name in shipped and isinstance(lookup(name).build, type)]
    if config.timm:
        from models.check.popular import register_popular

        names += register_popular()
    for name in config.modules:
        lookup(name)
    return list(config.modules) or names


def _report(name: str, findings: Sequence[CheckResult], bad: Sequence[CheckResult], *, brief: bool) -> Iterator[str]:
    if brief:
        cost = findings[-1].note if findings[-1].check == "cost" else ""
        yield f"{name:24} {f'{len(bad)} FAILED' if bad else 'ok':10} {cost}"
    else:
        yield name
    for finding in bad if brief else findings:
        yield f"    {finding.check:20} {finding.state:8} {finding.note}"


if __name__ == "__main__":
    cli.run(main)
