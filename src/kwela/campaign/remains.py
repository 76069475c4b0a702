"""What a session that ended without a word has left in the checkpoint folder, beside the ledger itself."""

from __future__ import annotations

from pathlib import Path

from kwela.campaign.clock import Time


def ledger_copy(folder: Path) -> str:
    """The ledger as the newest whole checkpoint carries it; "" without one."""
    if not any(folder.glob("*.pt")):
        return ""
    from kwela.engine import checkpoint  # a second to import

    newest = checkpoint.latest_valid(folder)
    return str(checkpoint.load(newest)["extra"].get("ledger", "")) if newest else ""


def last_sign(folder: Path, now: Time) -> float:
    """Unix seconds at which training last wrote something before this machine started; 0.0 if it didn't."""
    started = now.wall - now.up
    signs = [folder / name for name in ("metrics.jsonl", "status.json", "last.pt")]
    written = [sign.stat().st_mtime for sign in signs if sign.exists()]
    return max((when for when in written if when < started), default=0.0)  # later ones: copied here since
