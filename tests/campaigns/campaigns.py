"""All campaigns by their names."""

from collections.abc import Mapping

from .campaign import Campaign
from .cancel import CancelCampaign
from .fuzz import FuzzCampaign
from .kills import KillCampaign
from .security import SecurityCampaign
from .soak import SoakCampaign

__all__ = ["CAMPAIGNS"]

CAMPAIGNS: Mapping[str, Campaign] = {
    campaign.name: campaign
    for campaign in (FuzzCampaign(), KillCampaign(), SoakCampaign(), CancelCampaign(), SecurityCampaign())
}
"""The campaigns that `scripts/campaign` runs."""
