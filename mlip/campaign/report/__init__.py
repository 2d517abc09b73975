"""The report of a campaign: one HTML page, with figures as pictures and tables, from the folder of its rounds."""

from mlip.campaign.report.campaign_page import write_campaign_report

__all__ = ["write_campaign_report"]
