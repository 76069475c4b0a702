"""Check the playbook's pre-flight and readiness lists.

Each item passes, fails, or is a question that a person answers.
"""

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

from kwela import files
from kwela.campaign.decide.gate_obstacles import gate_obstacles
from kwela.campaign.decide.json_files import read_json
from kwela.campaign.decide.judge_requirements import unmet_requirement
from kwela.campaign.money.plan import ALARM_USD, DATASET_GB, money_obstacle
from kwela.campaign.run import notify
from kwela.errors import KwelaError
from kwela.machines import doctor
from kwela.machines import provider as providers
from kwela.machines.provider import Alarm, Machine, Provider
from kwela.playbook import PlaybookConfig

PASS, FAIL, ASK = "pass", "fail", "ask"
CONFIRMED = "readiness.json"
NEEDED_GB = 60.0  # archives, clips, codes, checkpoints
TENSORBOARD_PORT = 6006
PRICE_TOLERANCE = 0.1  # a share of the price
MOST_HOURS = 24  # to send the data set one way

# What no machine can know: name -> the question.
QUESTIONS = {
    "ssh": "Have you logged in with ssh -i your-key.pem ubuntu@your-instance-ip?",
    "stop-scripts": "Have you tried stop-gpu.sh and start-gpu.sh?",
    "approval": "Has the stakeholder approved the budget?",
    "no-go-plan": "Is there a plan for NO-GO?",
    "notify": "Nobody is told of flags and verdicts: set notify.webhook or sns_topic. Is that meant so?",
}
TEST_MESSAGE = {"text": "kwela campaign check: a test; flags and verdicts will come this way"}


@dataclass(frozen=True)
class ReadinessItem:
    """A line of the lists. state: pass, fail or ask."""

    name: str
    state: str
    detail: str


def _item(name: str, passes: bool, detail: str) -> ReadinessItem:
    return ReadinessItem(name, PASS if passes else FAIL, detail)


def check_readiness(
    settings: PlaybookConfig,
    config_folder: Path,
    instance_name: str,
    region: str | None,
    mbps: float | None,
) -> list[ReadinessItem]:
    """Return every item of both lists. mbps: the network's speed in Mbit/s, None if it isn't known."""
    return [
        *_cloud_items(settings, instance_name, region),
        _disk_item(settings),
        _auto_shutdown_item(),
        _tensorboard_item(),
        _bandwidth_item(mbps),
        _scripts_item(config_folder),
        *_machine_items(),
        _music_item(settings),
        *_gate_items(settings),
        *_notify_items(settings),
        *_questions(settings),
    ]


def confirm(settings: PlaybookConfig, names: list[str], user: str) -> None:
    """Record that `user` answered yes to these of the questions."""
    path = settings.checkpoint_dir / CONFIRMED
    files.write(path, json.dumps({**read_json(path), **dict.fromkeys(names, user)}, indent=1) + "\n")


def readiness_text(items: list[ReadinessItem]) -> str:
    """Return the items as a table for a terminal."""
    marks = {PASS: "✓ pass", FAIL: "✗ fail", ASK: "? ask"}
    width = max(len(item.name) for item in items)
    return "\n".join(f"{marks[item.state]}  {item.name:{width}}  {item.detail}" for item in items)


def _questions(settings: PlaybookConfig) -> Iterator[ReadinessItem]:
    confirmed = read_json(settings.checkpoint_dir / CONFIRMED)
    for name, question in QUESTIONS.items():
        if name == "notify" and notify.receivers(settings.notify):
            continue
        if user := confirmed.get(name):
            yield ReadinessItem(name, PASS, f"confirmed by {user}")
        else:
            yield ReadinessItem(name, ASK, f"{question} (--confirm {name})")


def _cloud_items(settings: PlaybookConfig, instance_name: str, region: str | None) -> list[ReadinessItem]:
    try:
        provider = providers.connect(region=region)
        account = f"{provider.account()}, {provider.region}"
    except KwelaError as error:
        others = "billing alarm", "confirmed e-mail", "key pair", "instance"
        unknown = [ReadinessItem(name, FAIL, "needs the account") for name in others]
        return [ReadinessItem("AWS account", FAIL, str(error)), *unknown]

    def checked(name: str, check: Callable[[], tuple[bool, str]]) -> ReadinessItem:
        try:
            return _item(name, *check())
        except KwelaError as error:
            return _item(name, False, str(error))

    return [
        ReadinessItem("AWS account", PASS, account),
        checked("billing alarm", lambda: _check_alarm(provider.alarm(instance_name))),
        checked("confirmed e-mail", lambda: _check_email(provider.alarm(instance_name))),
        checked("key pair", lambda: _check_keys(provider.key_names())),
        checked("instance", lambda: _check_instance(provider.find(instance_name))),
        *_price_items(settings, provider, instance_name),
        checked("schedule", lambda: _check_schedule(settings, provider.hours_a_day(instance_name))),
    ]


def _check_alarm(billing: Alarm) -> tuple[bool, str]:
    if billing.dollars is None:
        return False, f"none: kwela aws alarm --email YOU (at ${ALARM_USD:.0f})"
    detail = f"at ${billing.dollars:,.0f}; the playbook asks for ${ALARM_USD:,.0f}"
    return billing.dollars <= ALARM_USD, detail


def _check_email(billing: Alarm) -> tuple[bool, str]:
    if not billing.emails:
        return False, "none: kwela aws alarm --email YOU"
    return any(billing.emails.values()), ", ".join(
        f"{address} {'confirmed' if is_confirmed else 'has not followed the link yet'}"
        for address, is_confirmed in billing.emails.items()
    )


def _check_keys(keys: list[str]) -> tuple[bool, str]:
    return bool(keys), ", ".join(keys) or "none: aws ec2 create-key-pair makes one"


def _check_instance(rented: Machine | None) -> tuple[bool, str]:
    if rented is None:
        return False, "none: kwela aws launch --key-name YOURS"
    return True, f"{rented.id}, {rented.type}, {rented.market}, {rented.state}"


def _check_schedule(settings: PlaybookConfig, hours: float | None) -> tuple[bool, str]:
    planned = settings.hours_per_day
    if hours is None:
        return True, f"none, so 24 h a day; kwela aws schedule --hours {planned:g} stops it in the idle hours"
    detail = f"{hours:g} h a day; hours_per_day is {planned:g}"
    return abs(hours - planned) < 0.01, detail


def _price_items(settings: PlaybookConfig, provider: Provider, instance_name: str) -> Iterator[ReadinessItem]:
    """Yield whether the campaign bills what the instance costs, to 10 %; nothing for an unknown price."""
    rented = None
    with contextlib.suppress(KwelaError):
        rented = provider.find(instance_name)
    if rented is None:
        return
    with contextlib.suppress(KwelaError):
        if a_month := provider.disk_month(rented.disk_gb):
            billed = settings.disk_gb * settings.disk_usd_per_gb_month
            detail = f"{rented.disk_gb} GB cost ${a_month:.2f} a month; disk_gb x disk_usd_per_gb_month is "
            is_near = abs(billed / a_month - 1) <= PRICE_TOLERANCE
            right = f": set them to {rented.disk_gb} and {a_month / rented.disk_gb:.4g}"
            yield _item("disk price", is_near, f"{detail}{billed:.2f}{'' if is_near else right}")
    with contextlib.suppress(KwelaError):
        if not (price := provider.price(rented)):
            return
        key = "spot_cost_per_hour" if rented.market == "spot" else "gpu_cost_per_hour"
        billed = getattr(settings, key)
        detail = f"{rented.type}, {rented.market}, costs ${price:.3f} an hour; {key} is {billed:g}"
        is_near = abs(billed / price - 1) <= PRICE_TOLERANCE
        yield _item("price", is_near, detail if is_near else f"{detail}: set it to {price:.3f}")


def _disk_item(settings: PlaybookConfig) -> ReadinessItem:
    folders = settings.checkpoint_dir, *settings.checkpoint_dir.parents
    existing = next(folder for folder in folders if folder.exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    return _item("disk", free_gb >= NEEDED_GB, f"{free_gb:,.0f} GB free, {NEEDED_GB:.0f} needed")


def _auto_shutdown_item() -> ReadinessItem:
    try:
        answer = subprocess.run(
            ["systemctl", "is-active", "kwela-idle-watch.timer"], capture_output=True, text=True, timeout=10
        )
        state = answer.stdout.strip() or "not installed"
    except (OSError, subprocess.SubprocessError):
        state = "no systemd here"
    return _item("auto-shutdown", state == "active", f"{state} (deploy_training.sh installs it)")


def _tensorboard_item() -> ReadinessItem:
    with socket.socket() as probe:
        probe.settimeout(2)
        answers = probe.connect_ex(("127.0.0.1", TENSORBOARD_PORT)) == 0
    if answers:
        return ReadinessItem("TensorBoard", PASS, f"answers on port {TENSORBOARD_PORT}")
    detail = f"nothing answers on port {TENSORBOARD_PORT} (deploy_training.sh installs it)"
    return ReadinessItem("TensorBoard", FAIL, detail)


def _bandwidth_item(mbps: float | None) -> ReadinessItem:
    if mbps is None:
        question = f"{DATASET_GB:g} GB to download and send: how fast? (--mbps N)"
        return ReadinessItem("bandwidth", ASK, question)
    hours = DATASET_GB * 8000 / mbps / 3600
    detail = f"{DATASET_GB:g} GB in {hours:.1f} h each way at {mbps:g} Mbit/s"
    return _item("bandwidth", hours <= MOST_HOURS, detail)


def _scripts_item(config_folder: Path) -> ReadinessItem:
    names = ["deploy_training.sh", "start-gpu.sh", "stop-gpu.sh"]
    missing = [name for name in names if not os.access(config_folder / name, os.X_OK)]
    if missing:
        return ReadinessItem("scripts", FAIL, f"not there: {', '.join(missing)}")
    return ReadinessItem("scripts", PASS, ", ".join(names))


def _music_item(settings: PlaybookConfig) -> ReadinessItem:
    reason, evaluation = unmet_requirement(settings.evaluation), settings.evaluation
    detail = reason or f"{evaluation.reference_dir}, {evaluation.contrast_dir}"
    return _item("gate's music", not reason, detail)


def _gate_items(settings: PlaybookConfig) -> list[ReadinessItem]:
    """Return why the gate can never say GO, an item each, or that nothing speaks against it."""
    problems = [*gate_obstacles(settings), *filter(None, [money_obstacle(settings)])]
    items = [ReadinessItem("gate", FAIL, problem) for problem in problems]
    return items or [ReadinessItem("gate", PASS, "nothing in the config rules out a GO")]


def _notify_items(settings: PlaybookConfig) -> Iterator[ReadinessItem]:
    """Yield for each receiver whether it can be reached, and whether a test message has got through."""
    failures, confirmed = notify.try_out(settings.notify), read_json(settings.checkpoint_dir / CONFIRMED)
    for channel, to in notify.receivers(settings.notify).items():
        name = f"notify: {channel}"
        if failures[channel]:
            yield ReadinessItem(name, FAIL, f"{to}: {failures[channel]}")
        elif user := confirmed.get(f"message to {to}"):
            yield ReadinessItem(name, PASS, f"a test message of {user} has got through")
        else:
            yield ReadinessItem(name, ASK, "it answers; does it take a message? (--try-notify sends one)")


def try_notify(settings: PlaybookConfig, user: str) -> list[str]:
    """Send a test message to each receiver. Returns a line for each, and records those that took it."""
    lines, taken = [], []
    failures = notify.try_out(settings.notify, message=TEST_MESSAGE)
    for channel, to in notify.receivers(settings.notify).items():
        lines.append(f"{channel}: {failures[channel] or 'a test message was taken'}")
        taken += [] if failures[channel] else [f"message to {to}"]
    confirm(settings, taken, user)
    return lines or ["notify: no receiver is set"]


def _machine_items() -> list[ReadinessItem]:
    return [
        _item(check.name, check.ok, check.detail if check.ok else f"{check.detail}: {check.fix}")
        for check in doctor.examine(quick=True)
        if check.name in ("Python", "torch", "GPU", "NVIDIA driver")
    ]
