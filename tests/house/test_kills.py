"""Commands that end by a signal at a random moment leave a whole output or none, and the next run leaves no trace."""

import sys
from pathlib import Path

import pytest
from campaigns.campaign import Settings, run_campaign
from campaigns.kills import KillCampaign
from campaigns.material import make_material

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]

KILLS = 16  # of each command: four of each signal


def test_a_command_that_is_killed_tears_nothing_and_the_next_run_leaves_nothing(tmp_path: Path) -> None:
    make_material(tmp_path)
    summary = run_campaign(KillCampaign(), Settings(tmp_path, cases=KILLS))
    assert not summary.faults, summary.text()
    assert summary.cases == KILLS * len(KillCampaign().groups())
