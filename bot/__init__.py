"""Firedoor: incident response for AI agents, run from Slack."""

__version__ = "0.1.0"
