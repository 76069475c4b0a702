"""Mutate the pure functions of the house and count the mutants that their tests kill.

A mutant is one module with one small change, for example `<=` for `<`, `-` for `+`, 21 for 20, or a call of
`.casefold()` left out; tests/mutations.py makes them. Its tests should fail. A mutant that passes them
survives: either the change makes no difference, or no test states what the changed line is for.
`tests/mutation.md` holds the last scores and judges each survivor.

    python tests/mutate.py --seed 1 --count 400            draw mutants over all modules
    python tests/mutate.py --seed 1 --count 40 --module stats
    python tests/mutate.py --module split --list           name the mutants, run none
    python tests/mutate.py --mutant split-012              run one and show its diff

This is not part of the test suite: 400 mutants take a quarter of an hour or more.

- TARGETS says which module is mutated, and which test files run against it. These tests must be fast.
- The working tree is never edited. The parent imports the third-party packages once and forks for each
  mutant; the child compiles the changed source in place of the module's, and runs pytest on its tests.
- Strings are not mutated: tests pin figures and the key words of a message, not its prose.
- A mutant that runs for three times as long as the tests of the unchanged module counts as killed.
- Hypothesis draws the same examples for every mutant, and does not shrink them.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.machinery
import importlib.util
import os
import random
import resource
import signal
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mutations import changed_sources

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Target:
    """A module and the tests that must kill its mutants.

    tests: files, relative to `tests/`. select: which of their tests run, as pytest's `-k` takes it; it leaves
    out what is slow or has nothing to do with the module. skip: functions, methods and constants that are not
    mutated, since they read files, only print, or only document.
    """

    module: str
    tests: tuple[str, ...]
    select: str = ""
    skip: tuple[str, ...] = ()


_KNOWN, _RECORDED = "judge/test_known_answers.py", "judge/test_recorded_features.py"
TARGETS = {
    "stats": Target("kwela.stats", ("test_stats.py",), "not covers_the_truth"),
    "symbolic_features": Target(
        "kwela.judge.midi.symbolic_features",
        (_RECORDED, _KNOWN, "judge/test_midi_quality.py"),
        "symbolic or (test_midi_quality and not generated_music)",
    ),
    "key_profiles": Target("kwela.judge.midi.key_profiles", (_RECORDED, _KNOWN), "symbolic or key"),
    "rendering_features": Target("kwela.judge.midi.rendering_features", (_RECORDED, _KNOWN), "rendering"),
    "audio_features": Target(
        "kwela.judge.authenticity.features",
        (_RECORDED, _KNOWN, "judge/test_audio_features.py"),
        "(audio_features or (recorded and audio)) and not less_than_60_ms",
        skip=("DOCUMENTED",),
    ),
    "audio_rhythm": Target(
        "kwela.judge.authenticity.rhythm",
        (_RECORDED, _KNOWN, "judge/test_audio_features.py"),
        "audio and not less_than_60_ms",
    ),
    "quality": Target("kwela.judge.midi.quality", ("judge/test_midi_quality.py",), "not generated_music"),
    "memorisation": Target(
        "kwela.judge.midi.memorisation", ("judge/test_midi_memorisation.py",), "not half_a_million"
    ),
    "copies": Target(
        "kwela.judge.shared.copies",
        ("judge/test_damage_sound.py", _RECORDED),
        "copy or chroma or stretch or match or (recorded and damage)",
        skip=("chroma_of_file",),
    ),
    "damage_sound": Target(
        "kwela.judge.damage.audio_metrics",
        ("judge/test_damage_sound.py", _RECORDED),
        "damage and not copy and not chroma and not stretch and not test_looping_share",
        skip=("describe", "_native"),
    ),
    "cloud_scores": Target(
        "kwela.judge.clouds.metrics",
        ("judge/test_clouds_distances.py",),
        skip=("score_windows", "_clouds_later"),
    ),
    "split": Target("kwela.corpus.pairs.split", ("corpus/test_split.py",)),
    "evidence": Target("kwela.export.evidence", ("export/test_evidence.py",), skip=("machine",)),
    "plan": Target(
        "kwela.campaign.money.plan",
        ("campaign/test_campaign_plan.py",),
        "not simulated and not only_money",
        skip=("plan_text", "_range_text", "DATASET_GB"),
    ),
    "gate": Target("kwela.campaign.decide.gate", ("campaign/test_campaign_gate.py",)),
    "flags": Target("kwela.campaign.decide.red_flags", ("campaign/test_campaign_flags.py",)),
}


@dataclass(frozen=True)
class Mutant:
    """One changed source. name: target and number, as `--mutant` takes it."""

    name: str
    target: str
    line: int
    function: str
    source: str


def mutants_of(name: str) -> list[Mutant]:
    """All mutants of a target, in the order of their place in the file."""
    source = path_of(TARGETS[name]).read_text(encoding="utf-8")
    changes = changed_sources(source, TARGETS[name].skip)
    return [
        Mutant(f"{name}-{number:03}", name, line, function, changed)
        for number, (changed, line, function) in enumerate(changes)
    ]


def path_of(target: Target) -> Path:
    """The file of a target's module."""
    return ROOT / "src" / Path(*target.module.split(".")).with_suffix(".py")


def diff_of(mutant: Mutant) -> str:
    """The mutant as a unified diff against the module."""
    path = path_of(TARGETS[mutant.target])
    before = path.read_text(encoding="utf-8").splitlines()
    name = path.relative_to(ROOT).as_posix()
    lines = difflib.unified_diff(before, mutant.source.splitlines(), name, mutant.name, n=0, lineterm="")
    return "\n".join(lines)


@dataclass(frozen=True)
class Ran:
    """status: pytest's exit status, negative where a signal ended it. cpu: seconds. modules: those it had
    imported.
    """

    status: int
    cpu: float
    modules: list[str]


class _Mutated(importlib.machinery.SourceFileLoader):
    """Compiles the mutant's source wherever Python asks for the module's."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        super().__init__(module, str(path))
        self.source = source

    def get_code(self, fullname: str) -> Any:
        return compile(self.source, self.path, "exec", dont_inherit=True)


class _Finder:
    def __init__(self, target: Target, source: str) -> None:
        self.target, self.source = target, source

    def find_spec(self, name: str, path: Any = None, module: Any = None) -> Any:
        if name != self.target.module:
            return None
        path = path_of(self.target)
        return importlib.util.spec_from_file_location(name, path, loader=_Mutated(name, path, self.source))


def run(target: Target, source: str | None, cpu_limit: float) -> Ran:
    """Run the tests of `target` in a forked child, with `source` in place of the module's own.

    cpu_limit: seconds of processor time after which the child is ended; ten times as much of the clock ends
    it too.
    """
    with tempfile.TemporaryFile("w+") as imported:
        child = os.fork()
        if not child:
            _be_child(target, source, cpu_limit, imported)
        status, cpu = _waited_for(child, 10 * cpu_limit)
        imported.seek(0)
        return Ran(status, cpu, imported.read().split())


def _waited_for(child: int, seconds: float) -> tuple[int, float]:
    """Exit status and CPU seconds of a child, which is killed with all its processes when `seconds` have
    passed.
    """
    deadline = time.monotonic() + seconds
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.01)


def _be_child(target: Target, source: str | None, cpu_limit: float, imported: IO[str]) -> None:
    status = 99
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        seconds = int(cpu_limit) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        if source is not None:
            sys.meta_path.insert(0, _Finder(target, source))  # type: ignore[arg-type]
        status = _pytest(target)
        if source is None:
            imported.write("\n".join(_third_party()))
            imported.flush()
    finally:
        os._exit(status)


def _pytest(target: Target) -> int:
    import pytest
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, phases=(Phase.explicit, Phase.generate)
    )
    settings.load_profile("mutants")
    files = [f"tests/{name}" for name in target.tests]
    wanted = ["-k", target.select] if target.select else []
    options = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return int(pytest.main([*options, *wanted, *files]))


def _third_party() -> list[str]:
    """What a child had imported and the parent may import for all: no module of kwela and none of the
    tests.
    """
    places = [Path(sysconfig.get_paths()[name]).resolve() for name in ("purelib", "platlib", "stdlib")]
    names = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if (
            file
            and name != "__main__"
            and any(Path(file).resolve().is_relative_to(place) for place in places)
        ):
            names.append(name)
    return names


def baseline(name: str) -> float:
    """CPU seconds of the tests of a target, unchanged, with the packages they import loaded here. Raises
    SystemExit
    where they fail."""
    first = run(TARGETS[name], None, 120)
    if first.status:
        raise SystemExit(f"{name}: its tests do not pass unchanged (pytest's exit status {first.status})")
    for module in first.modules:
        try:
            importlib.import_module(module)
        except Exception:  # some modules can only be imported in their own package's order
            continue
    return run(TARGETS[name], None, 120).cpu


def main() -> None:
    """Draw, run and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1, help="of the draw")
    parser.add_argument("--count", type=int, default=400, help="mutants to draw; 0: all")
    parser.add_argument("--module", action="append", choices=TARGETS, help="only this one (may be repeated)")
    parser.add_argument("--mutant", action="append", help="only this mutant, by its name (may be repeated)")
    parser.add_argument("--list", action="store_true", help="name the mutants and run none")
    asked = parser.parse_args()
    names = asked.module or list(dict.fromkeys(one.rpartition("-")[0] for one in asked.mutant or TARGETS))
    names = names if asked.module or asked.mutant else list(TARGETS)
    pool = [mutant for name in names for mutant in mutants_of(name)]
    if asked.mutant:
        drawn = [mutant for mutant in pool if mutant.name in asked.mutant]
    else:
        count = min(asked.count or len(pool), len(pool))
        drawn = sorted(random.Random(asked.seed).sample(pool, count), key=lambda mutant: mutant.name)
    if asked.list:
        for mutant in drawn:
            print(f"\n{mutant.name} in {mutant.function}\n{diff_of(mutant)}")
        return
    report(drawn, len(pool))


def report(drawn: list[Mutant], pool: int) -> None:
    """Run the mutants, module by module, and print the scores and the survivors."""
    sys.path[:0] = [str(ROOT / "src")]
    os.chdir(ROOT)
    os.environ["OMP_NUM_THREADS"] = "1"
    scores: dict[str, tuple[int, int]] = {}
    for name in dict.fromkeys(mutant.target for mutant in drawn):
        mine = [mutant for mutant in drawn if mutant.target == name]
        seconds, alive = baseline(name), 0
        for number, mutant in enumerate(mine, 1):
            ran = run(TARGETS[name], mutant.source, 3 * seconds + 3)
            if ran.status in (4, 5, 99):
                raise SystemExit(f"{mutant.name}: pytest did not run (exit status {ran.status})")
            if ran.status == 0:
                alive += 1
                print(f"\n{mutant.name} survived, in {mutant.function}\n{diff_of(mutant)}", flush=True)
            print(f"\r{name}: {number} of {len(mine)}, {alive} alive ", end="", file=sys.stderr, flush=True)
        print(f"(tests: {seconds:.1f} s of CPU)", file=sys.stderr)
        scores[name] = len(mine) - alive, len(mine)
    scores["all"] = sum(killed for killed, _ in scores.values()), len(drawn)
    print(f"\n{len(drawn)} of {pool} mutants")
    for name, (killed, count) in scores.items():
        print(f"{name:20} {killed:4} of {count:4} killed, {killed / count:.0%}")


if __name__ == "__main__":
    main()
