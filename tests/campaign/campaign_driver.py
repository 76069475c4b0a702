"""A campaign in a process of its own, with a tiny training and judges that print what the options say.

python campaign_driver.py CONFIG [--speed N] [--score 0.45 --ci 0.37 0.53 | --refuse WHY] [--faulty 0.2]
[--imds URL]
    [--gpu PERCENT] [--gate-now] [--override WHY] [-- options of tiny_training.py]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kwela import playbook, terminal
from kwela.campaign.money import ledger
from kwela.campaign.money.clock import MachineClock
from kwela.campaign.run.commands import CampaignCommands
from kwela.campaign.run.orchestrator import Orchestrator
from kwela.campaign.run.running_campaign import Environment, RunningCampaign
from kwela.errors import KwelaError
from kwela.machines import interruption
from kwela.machines.aws import spot

HERE = Path(__file__).parent
SAY = "import sys; print(sys.argv[1])"
SAMPLE = """
import json, sys, pathlib, wave
out, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
names = [out / f"test_output_{k}.wav" for k in range(count)]
for k, name in enumerate(names):
    with wave.open(str(name), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        saw = [(t * (k + 3) * 41 % 65536).to_bytes(2, "little") for t in range(16000)]
        file.writeframes(b"".join(saw))
print(json.dumps({"samples": [{"wav": str(name)} for name in names], "seconds": 40.0, "first_audio_seconds": 4.0}))
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--score", type=float, default=0.45)
    parser.add_argument("--ci", type=float, nargs=2, default=(0.37, 0.53))
    parser.add_argument("--faulty", type=float, default=0.2)
    parser.add_argument("--refuse", default="")
    parser.add_argument("--imds", default="")
    parser.add_argument("--gpu", type=float)
    parser.add_argument("--gate-now", action="store_true")
    parser.add_argument("--resume", action="store_true", help="as the command has it: nothing to do")
    parser.add_argument("--override", default="")
    parser.add_argument("--unattended", action="store_true")
    parser.add_argument("--no-samples", action="store_true", help="making clips fails")
    args, training = parser.parse_known_args()
    settings = playbook.load(args.config)
    folder = settings.checkpoint_dir
    measured = {"status": "measured", "score": args.score, "ci": list(args.ci), "base": 0.12}
    refused = {"status": "refused", "why": args.refuse, "score": None, "ci": None}

    def say(what: object) -> Sequence[str]:
        return [sys.executable, "-c", SAY, json.dumps(what)]

    def sample(out: Path, count: int) -> Sequence[str]:
        script = "import sys; sys.exit('error: out of memory')" if args.no_samples else SAMPLE
        return [sys.executable, "-c", script, str(out), str(count)]

    faults = ("silent", "looping", "clipping")
    shares = [
        {"row": "base", "value": 0.3},
        {"row": "tuned", "value": args.faulty},
        {"row": "unseen", "value": 0.1},
    ]
    harmless = {"verdicts": dict.fromkeys(faults, "not worse"), "tables": dict.fromkeys(faults, shares)}
    train = [sys.executable, str(HERE / "tiny_training.py"), str(folder), str(folder / ledger.NAME)]
    commands = CampaignCommands(
        [*train, *[word for word in training if word != "--"]],
        lambda model, prompts, seed, out, stream: sample(out, len(prompts)),
        lambda tuned, base, out: say(refused if args.refuse else measured),
        lambda tuned, base, model, out: say(harmless),
    )
    environment = Environment("i-test", lambda: args.gpu, config_folder=args.config.parent)
    if args.imds:
        environment = replace(
            environment,
            watch=lambda call: interruption.watch(call, spot.Metadata(args.imds).notice, every=0.1),
        )
    try:
        campaign = RunningCampaign(settings, commands, MachineClock(args.speed), environment, args.speed)
        Orchestrator(campaign).run(gate_now=args.gate_now, override=args.override, unattended=args.unattended)
    except KwelaError as error:
        terminal.say(f"error: {error}", sys.stderr)
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main())
