"""The playbook's pre-flight and readiness lists: each item passes, fails, or is asked of a person, who confirms it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kwela import files
from kwela.campaign.decide.json_files import read_json
from kwela.campaign.decide.judge_requirements import unmet_requirement
from kwela.campaign.money.plan import ALARM_USD, DATASET_GB
from kwela.errors import KwelaError
from kwela.machines import doctor
from kwela.machines.aws import alarm, bill, instance
from kwela.playbook import PlaybookConfig

PASS, FAIL, ASK = "pass", "fail", "ask"
CONFIRMED = "readiness.json"
NEEDED_GB = 60.0  # archives, clips, codes, checkpoints

# What no machine can know: name -> the question.
QUESTIONS = {
    "ssh": "Have you logged in with ssh -i your-key.pem ubuntu@your-instance-ip?",
    "stop-scripts": "Have you tried stop-gpu.sh and start-gpu.sh?",
    "approval": "Has the stakeholder approved the budget?",
    "no-go-plan": "Is there a plan for NO-GO?",
}


@dataclass(frozen=True)
class Item:
    name: str
    state: str  # pass, fail, ask
    detail: str


def items(
    settings: PlaybookConfig, home: Path, name: str, region: str | None, mbps: float | None
) -> list[Item]:
    """Every item of both lists. home: the config's folder; name: the instance's; mbps: of the network, None unknown."""
    found = [*_cloud(settings, name, region), _disk(settings), *_services(), _bandwidth(mbps), _scripts(home)]
    found += [*_local(), _music(settings)]
    confirmed = read_json(settings.checkpoint_dir / CONFIRMED)
    for key, question in QUESTIONS.items():
        said = confirmed.get(key)
        asked = Item(key, ASK, f"{question} (--confirm {key})")
        found.append(Item(key, PASS, f"confirmed by {said}") if said else asked)
    return found


def confirm(settings: PlaybookConfig, keys: list[str], who: str) -> None:
    """Remember who answered yes to which of QUESTIONS."""
    path = settings.checkpoint_dir / CONFIRMED
    files.write(path, json.dumps({**read_json(path), **dict.fromkeys(keys, who)}, indent=1) + "\n")


def table(found: list[Item]) -> str:
    marks = {PASS: "✓ pass", FAIL: "✗ fail", ASK: "? ask"}
    width = max(len(item.name) for item in found)
    return "\n".join(f"{marks[item.state]}  {item.name:{width}}  {item.detail}" for item in found)


def _cloud(settings: PlaybookConfig, name: str, region: str | None) -> list[Item]:
    try:
        session = instance.connect(region)
        with instance.one_line():
            account = session.client("sts").get_caller_identity()["Account"]
    except KwelaError as error:
        unknown = "needs the account"
        rest = [
            Item(each, FAIL, unknown)
            for each in ("billing alarm", "confirmed e-mail", "key pair", "instance")
        ]
        return [Item("AWS account", FAIL, str(error)), *rest]

    def ask(what: str, look: Callable[[], tuple[bool, str]]) -> Item:
        try:
            good, detail = look()
        except KwelaError as error:
            good, detail = False, str(error)
        return Item(what, PASS if good else FAIL, detail)

    return [
        Item("AWS account", PASS, f"{account}, {session.region_name}"),
        ask("billing alarm", lambda: _alarm(alarm.look(session, name))),
        ask("confirmed e-mail", lambda: _email(alarm.look(session, name))),
        ask("key pair", lambda: _key(session)),
        ask("instance", lambda: _instance(instance.find(session, name))),
        *_price(settings, session, name),
    ]


def _alarm(there: alarm.Alarm) -> tuple[bool, str]:
    if there.dollars is None:
        return False, f"none: kwela aws alarm --email YOU (at ${ALARM_USD:.0f})"
    return there.dollars <= ALARM_USD, f"at ${there.dollars:,.0f}; the playbook asks for ${ALARM_USD:,.0f}"


def _email(there: alarm.Alarm) -> tuple[bool, str]:
    if not there.emails:
        return False, "none: kwela aws alarm --email YOU"
    return any(there.emails.values()), ", ".join(
        f"{address} {'confirmed' if yes else 'has not followed the link yet'}"
        for address, yes in there.emails.items()
    )


def _key(session: Any) -> tuple[bool, str]:
    with instance.one_line():
        known = [pair["KeyName"] for pair in session.client("ec2").describe_key_pairs()["KeyPairs"]]
    return bool(known), ", ".join(known) or "none: aws ec2 create-key-pair makes one"


def _instance(there: instance.Machine | None) -> tuple[bool, str]:
    if there is None:
        return False, "none: kwela aws launch --key-name YOURS"
    return True, f"{there.id}, {there.type}, {there.market}, {there.state}"


def _price(settings: PlaybookConfig, session: Any, name: str) -> Iterator[Item]:
    """Whether the campaign bills what the instance costs, to 10 %; nothing where its price isn't known."""
    with contextlib.suppress(KwelaError):
        there = instance.find(session, name)
        if there is None or not (paid := bill.price(session, there)):
            return
        key = "spot_cost_per_hour" if there.market == "spot" else "gpu_cost_per_hour"
        billed = getattr(settings, key)
        said = f"{there.type}, {there.market}, costs ${paid:.3f} an hour; {key} is {billed:g}"
        near = abs(billed / paid - 1) <= 0.1
        yield Item("price", PASS if near else FAIL, said if near else f"{said}: set it to {paid:.3f}")


def _disk(settings: PlaybookConfig) -> Item:
    place = next(
        folder for folder in (settings.checkpoint_dir, *settings.checkpoint_dir.parents) if folder.exists()
    )
    free = shutil.disk_usage(place).free / 1e9
    return Item("disk", PASS if free >= NEEDED_GB else FAIL, f"{free:,.0f} GB free, {NEEDED_GB:.0f} needed")


def _services() -> list[Item]:
    try:
        asked = subprocess.run(
            ["systemctl", "is-active", "kwela-idle-watch.timer"], capture_output=True, text=True, timeout=10
        )
        state = asked.stdout.strip() or "not installed"
    except (OSError, subprocess.SubprocessError):
        state = "no systemd here"
    idle = Item(
        "auto-shutdown", PASS if state == "active" else FAIL, f"{state} (deploy_training.sh installs it)"
    )
    with socket.socket() as probe:
        probe.settimeout(2)
        open_ = probe.connect_ex(("127.0.0.1", 6006)) == 0
    board = (
        "answers on port 6006" if open_ else "nothing answers on port 6006 (deploy_training.sh installs it)"
    )
    return [idle, Item("TensorBoard", PASS if open_ else FAIL, board)]


def _bandwidth(mbps: float | None) -> Item:
    if mbps is None:
        return Item("bandwidth", ASK, f"{DATASET_GB:g} GB to download and send: how fast? (--mbps N)")
    hours = DATASET_GB * 8000 / mbps / 3600
    said = f"{DATASET_GB:g} GB in {hours:.1f} h each way at {mbps:g} Mbit/s"
    return Item("bandwidth", PASS if hours <= 24 else FAIL, said)


def _scripts(home: Path) -> Item:
    names = ["deploy_training.sh", "start-gpu.sh", "stop-gpu.sh"]
    lacking = [name for name in names if not os.access(home / name, os.X_OK)]
    return (
        Item("scripts", FAIL, f"not there: {', '.join(lacking)}")
        if lacking
        else Item("scripts", PASS, ", ".join(names))
    )


def _music(settings: PlaybookConfig) -> Item:
    why, how = unmet_requirement(settings.evaluation), settings.evaluation
    return Item("gate's music", FAIL if why else PASS, why or f"{how.reference_dir}, {how.contrast_dir}")


def _local() -> list[Item]:
    return [
        Item(
            check.name,
            PASS if check.ok else FAIL,
            check.detail if check.ok else f"{check.detail}: {check.fix}",
        )
        for check in doctor.examine(quick=True)
        if check.name in ("Python", "torch", "GPU", "NVIDIA driver")
    ]
