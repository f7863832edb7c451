"""campaign.yaml: what may stand in it, and the objects it stands for."""

from alfw.config.campaign import CampaignConfig, Plugins
from alfw.config.sections import InitialData, StageResources

__all__ = ["CampaignConfig", "InitialData", "Plugins", "StageResources"]
