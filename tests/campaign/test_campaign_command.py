"""`kwela campaign` as it is typed: its answers, its JSON, and one line for each bad input."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from made_campaign import ROOT, config, run
from moto.server import ThreadedMotoServer

from kwela.campaign.money import costs, ledger, ledger_rows
from kwela.campaign.money.clock import FakeClock
from kwela.campaign.money.ledger import Ledger, Machine
from kwela.campaign.run import readiness
from kwela.machines import doctor
from scratch import Done, kwela


def campaign(folder: Path, *arguments: str) -> Done:
    return kwela(folder, "campaign", *arguments, "--config", "config.json")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"gpu_cost_per_hour": -1}, "gpu_cost_per_hour: must be at least 0 (got -1)"),
        ({"spot_cost_per_hour": -0.1}, "spot_cost_per_hour: "),
        (
            {"week_5_threshold_days": 1001},
            "the gate would come after the end: week_5_threshold_days 1001, plan_days 1000",
        ),
        (
            {"go_nogo_thresholds": {"min_authenticity_score": 35}},
            "go_nogo_thresholds.min_authenticity_score: ",
        ),
        ({"gate_at_fraction": 1.5}, "gate_at_fraction: must be below 1 (got 1.5)"),
        ({"budget": 500}, "budget: unknown key (did you mean budget_usd?)"),
        ({"flags": {"gpu_idle": {"percents": 3}}}, "flags.gpu_idle.percents: unknown key"),
        ({"started": "2126-01-01"}, "started: is in the future"),
        ({"notify": {"webhook": "mail me"}}, "notify.webhook: "),
    ],
)
def test_bad_settings_are_one_line_and_exit_2(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    config(tmp_path, **change)
    done = campaign(tmp_path, "run")
    assert done.status == 2 and done.err.startswith(f"error: config.json: {complaint}"), done.err
    assert done.err.count("\n") == 1 and not (tmp_path / "ck").exists()


def test_a_gate_cost_above_the_budget_is_only_plans_warning(tmp_path: Path) -> None:
    config(tmp_path, budget_usd=500, go_nogo_thresholds={"max_cost_usd": 600})
    done = campaign(tmp_path, "plan")
    assert done.status == 0 and "warning: the gate lets $600 pass, the budget is $500" in done.out


def test_plan_and_simulate_answer_as_json(tmp_path: Path) -> None:
    config(tmp_path)
    made = json.loads(campaign(tmp_path, "plan", "--throughput", "0.5", "--json").out)
    assert [row["market"] for row in made["rows"]] == ["on-demand", "spot", "spot"] * 2
    assert all(row["usd"][0] < row["usd"][1] < row["usd"][2] for row in made["rows"])
    (tmp_path / "config.json").write_text((ROOT / "ai-service/config.json").read_text())
    simulated = campaign(tmp_path, "simulate", "--runs", "50", "--json")
    assert simulated.err == ""  # the progress bar is for terminals
    done = json.loads(simulated.out)
    assert set(done) >= {"runs", "cost", "days", "outcomes", "scenarios"} and done["runs"] == 50
    assert done["scenarios"]["optimistic"] == pytest.approx(1772, rel=0.02)
    assert done["scenarios"]["realistic"] == pytest.approx(437, rel=0.02)
    assert done["scenarios"]["pessimistic"] == pytest.approx(273, rel=0.02)


def test_nothing_is_begun_that_could_not_go_on(tmp_path: Path) -> None:
    config(tmp_path)
    done = campaign(tmp_path, "run")
    assert done.status == 2 and "no data set yet" in done.err and not (tmp_path / "ck").exists()
    wrong = campaign(tmp_path, "run", "--preset", "tinny")
    assert wrong.status == 2 and wrong.err.count("\n") == 1 and not (tmp_path / "ck").exists()
    table = tmp_path / "datasets/amapiano_proxy/training_metadata.csv"
    table.parent.mkdir(parents=True)
    table.touch()
    config(tmp_path, model_name="./nowhere")
    lost = campaign(tmp_path, "run")
    assert lost.status == 2 and "no such folder" in lost.err and not (tmp_path / "ck").exists()
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck/last.pt").touch()
    strange = campaign(tmp_path, "run")
    assert strange.status == 2 and "a run that no campaign made" in strange.err


def test_a_rehearsal_has_a_folder_of_its_own(tmp_path: Path) -> None:
    config(tmp_path)
    book = Ledger(tmp_path / "ck-rehearsal" / ledger.NAME, FakeClock())
    book.open({"speed": 5000.0, "model_name": "tiny"}, 500.0, 0.0)
    assert "no campaign here yet" in campaign(tmp_path, "status").err
    assert campaign(tmp_path, "status", "--rehearsal").out.startswith(
        "REHEARSAL, no dollar is real: tiny, not started"
    )
    done = campaign(tmp_path, "run", "--resume")  # the playbook's line, after a rehearsal
    assert done.status == 2 and "no data set yet" in done.err and not (tmp_path / "ck").exists()


@pytest.mark.parametrize("command", ["status", "report"])
def test_where_no_campaign_is_a_line_says_so(tmp_path: Path, command: str) -> None:
    config(tmp_path)
    done = campaign(tmp_path, command)
    assert done.status == 2 and "no campaign here yet (kwela campaign run starts one)" in done.err


def test_extend_agrees_to_more_and_never_to_less(tmp_path: Path) -> None:
    config(tmp_path)
    book = Ledger(tmp_path / "ck" / ledger.NAME, FakeClock())
    book.open({}, 500.0, 0.0)
    assert campaign(tmp_path, "extend", "--to", "800").out.startswith("Budget $500.00 → $800.00")
    assert costs.add_up(ledger_rows.read_rows(tmp_path / "ck" / ledger.NAME)[0]).budget_usd == 800
    done = campaign(tmp_path, "extend", "--to", "700")
    assert done.status == 2 and done.err == "error: --to 700: the budget is $800.00 already\n"


@pytest.mark.parametrize("command", ["status", "report", "extend"])
def test_a_ledger_that_somebody_altered_is_one_line_and_exit_2(tmp_path: Path, command: str) -> None:
    config(tmp_path)
    path = tmp_path / "ck" / ledger.NAME
    book = Ledger(path, FakeClock())
    book.open({}, 500.0, 0.0)
    book.begin_span(Machine("i", "spot", 0.39))
    with path.open("a") as file:
        file.write(ledger_rows.sealed_line(book.rows[-1] | {"seconds": "3600"}))
    done = campaign(tmp_path, command, *(["--to", "800"] if command == "extend" else []))
    assert done.status == 2 and done.err.count("\n") == 1
    assert done.err.startswith(f"error: {path}: line 3: seconds: must be a number"), done.err


def test_status_is_one_screen_and_one_object(tmp_path: Path) -> None:
    config(tmp_path, budget_usd=500, week_5_threshold_days=35, gate_at_fraction=None)
    folder, clock = tmp_path / "ck", FakeClock()
    book = Ledger(folder / ledger.NAME, clock)
    book.open({}, 500.0, 25.0)
    book.begin_span(Machine("i", "spot", 0.39))
    for hour in range(1, 241):
        clock.sleep(3600)
        book.bill_until_now(10 * hour)
    rows = [{"step": 0, "epoch": 1, "split": "val", "val_loss": 3.5}]
    rows += [{"step": 10 * k, "epoch": 1, "split": "train", "loss": 4.5 - k / 240} for k in range(1, 241)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(json.dumps({"steps": 9600}))
    facts = json.loads(campaign(tmp_path, "status", "--json").out)
    spent = 25 + 240 * 0.39
    assert (
        facts["step"] == 2400 and facts["elapsed_hours"] == 240 and facts["cost_usd"] == pytest.approx(spent)
    )
    assert facts["forecast_usd"] == pytest.approx(25 + 960 * 0.39, rel=0.01) and facts["gate"] is None
    assert facts["days_to_gate"] == 25 and facts["flags"] == [] and facts["base_loss"] == 3.5
    screen = campaign(tmp_path, "status").out
    assert len(screen.splitlines()) <= 24
    for words in (
        "step 2,400 of 9,600",
        "█",
        "▁ 3.500",
        "$118.60 of $500.00",
        "in 25.0 days (day 35)",
        "forecast",
    ):
        assert words in screen
    config(tmp_path, budget_usd=500, week_5_threshold_days=35, gate_at_fraction=0.3)
    assert (
        "in 2.0 days (day 35, or at 30% of the steps)" in campaign(tmp_path, "status").out
    )  # 480 steps at 240 a day


# ------------------------------------------------------------------ check, against moto


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    yield
    server.stop()


def states(done: Done) -> dict[str, str]:
    return {item["name"]: item["state"] for item in json.loads(done.out)["checks"]}


def test_check_asks_the_account_and_the_person(tmp_path: Path, account: None) -> None:
    config(tmp_path)
    before = campaign(tmp_path, "check", "--json")
    state_of = states(before)
    assert before.status == 1 and before.err.startswith(
        "error: not ready: billing alarm, confirmed e-mail, key pair"
    )
    assert state_of["AWS account"] == "pass" and state_of["approval"] == state_of["bandwidth"] == "ask"
    assert state_of["gate's music"] == "pass"
    assert state_of["auto-shutdown"] in ("pass", "fail") and state_of["TensorBoard"] in ("pass", "fail")
    boto3.client("ec2", region_name="us-east-1").create_key_pair(KeyName="mine")
    assert kwela(tmp_path, "aws", "alarm", "--email", "you@example.com").status == 0
    after = states(campaign(tmp_path, "check", "--json", "--mbps", "50", "--confirm", "approval"))
    assert after["billing alarm"] == after["key pair"] == after["approval"] == after["bandwidth"] == "pass"
    assert states(campaign(tmp_path, "check", "--json"))["approval"] == "pass"  # remembered
    wrong = campaign(tmp_path, "check", "--confirm", "everything")
    assert wrong.status == 2 and "--confirm everything: no such question" in wrong.err


def test_a_flag_reaches_the_topic(tmp_path: Path, account: None) -> None:
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.sns.models import sns_backends

    from kwela.campaign.run.notify import Messenger
    from kwela.playbook import Notify

    topic = boto3.client("sns", region_name="us-east-1").create_topic(Name="campaign")["TopicArn"]
    log: list[str] = []
    messenger = Messenger(Notify(sns_topic=topic), log.append, tmp_path / "unsent")
    messenger.send({"text": "red flag gpu_idle: 12 % over 30 min"}, 0.0)
    messenger.finish(0.0)
    sent = sns_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].topics[topic].sent_notifications
    assert log == [] and len(sent) == 1 and "12 % over 30 min" in sent[0][1]


def test_without_credentials_check_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    config(tmp_path)
    done = campaign(tmp_path, "check")
    assert done.status == 1 and "✗ fail  AWS account" in done.out and "no AWS credentials" in done.out
    assert "? ask" in done.out


def test_check_names_a_driver_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_nvidia", lambda quick: ("Tesla T4", "470.82.01"))
    item_of = {item.name: item for item in readiness._machine_items()}
    assert (
        item_of["NVIDIA driver"].state == readiness.FAIL
        and "470.82.01 is too old" in item_of["NVIDIA driver"].detail
    )


# ------------------------------------------------------------------ reports


def test_a_go_leaves_a_report_and_checked_deliverables(tmp_path: Path) -> None:
    code, _, err = run(config(tmp_path), "--pace", "0.01")
    assert code == 0, err
    made = json.loads(campaign(tmp_path, "report", "--json").out)
    folder = tmp_path / "ck"
    assert (folder / "report/report.pdf").read_bytes().startswith(b"%PDF")
    page = (folder / "report/report.md").read_text()
    for words in (
        "Authenticity Score | 10-20%; untuned here 12.0% | 40-50% | 45.0% [37.0% .. 53.0%] (by version",
        "Generation Latency | 60-120s | 30-45s | 40.0s for 30 s on an unknown device | met",
        "dataset_report.json: not measured",
        "REHEARSAL",
        "samples.png",
        "loss.png",
        "cost.png",
        "not measured: there is no other run",
    ):
        assert words in page, words
    html = (folder / "report/report.html").read_text()
    assert html.count("data:image/png;base64,") == 3 and "http" not in html.split("</style>")[1]
    there = {item["what"]: item["there"] for item in made["deliverables"]}
    assert there["Fine-tuned model weights"] and there["Sample 3"] and there["README draft"]
    assert (
        not there["Sample 4"] and not there["Training log (TensorBoard)"]
    )  # three were asked for, none was logged
    index = (folder / "deliverables/INDEX.md").read_text()
    assert "| Sample 4 |" in index and "lacking" in index and "After GO" in index


def test_a_no_go_leaves_an_analysis_a_plan_and_a_request(tmp_path: Path) -> None:
    code, _, _ = run(config(tmp_path), "--score", "0.28", "--ci", "0.2", "0.37")
    assert code == 3
    made = json.loads(campaign(tmp_path, "report", "--json").out)
    assert all(item["there"] for item in made["deliverables"])
    folder = tmp_path / "ck/deliverables"
    assert (
        "28.0% [20.0% .. 37.0%], the lower end must be at least 35%"
        in (folder / "failure_analysis.md").read_text()
    )
    assert "$85,000 - $185,000" in (folder / "budget_request.md").read_text()
    assert "After NO-GO" in (folder / "INDEX.md").read_text()


# ------------------------------------------------------------------ the front door


@pytest.mark.full
def test_the_playbooks_commands_run_with_the_tiny_model(tmp_path: Path) -> None:
    """Days 4, 8 to 34, 35 and 36 to 56, as they are typed, with a real tiny MusicGen."""
    sys.path.insert(0, str(ROOT / "tests" / "corpus"))
    from made_mtt import make

    make(tmp_path / "datasets/magnatagatune")
    config(
        tmp_path,
        gate_at_fraction=0.6,
        num_epochs=20,  # with a few steps it may be worse than untuned, which is a NO-GO
        batch_size=2,
        gradient_accumulation_steps=1,
        log_every_n_steps=1,
    )
    one = os.environ | {"OMP_NUM_THREADS": "1"}

    def typed(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "ai-service" / words[0]), *words[1:]]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=one, timeout=300)

    assert typed("dataset_setup.py", "--config", "config.json", "--min-tags", "2").returncode == 0
    rehearse = ["--config", "config.json", "--preset", "tiny", "--speed", "50000"]
    held = typed("training_orchestrator.py", *rehearse)
    assert "Model: tiny\nDataset: ./datasets/amapiano_proxy\n" in held.stdout
    assert held.returncode == 5 and "evaluation" not in held.stderr.splitlines()[0], held.stderr
    assert (
        "authenticity not measured: kwela judge authenticity" in held.stderr
    )  # there are no reference clips
    state = json.loads(
        (tmp_path / "ck-rehearsal/orchestrator_state.json").read_text()
    )  # the playbook's daily check
    assert state["elapsed_time"] / 3600 * 0.1 == pytest.approx(state["cost_usd"], rel=1e-3)
    assert "Epoch 1/20 | Step 1 | Loss: " in (tmp_path / "training_logs/training.log").read_text()
    done = typed("training_orchestrator.py", *rehearse, "--resume", "--override", "heard by the panel")
    assert done.returncode == 0, done.stderr
    for line in (
        "Training complete!",
        "Best model saved: ck-rehearsal/best_model.pt",
        "Final validation loss: ",
        "Total elapsed: ",
        "Total cost: $",
    ):
        assert f"\n{line}" in done.stdout
    assert (tmp_path / "ck-rehearsal/best_model.pt").is_file() and (
        tmp_path / "ck-rehearsal/report/report.pdf"
    ).is_file()
