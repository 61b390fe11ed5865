"""Mails that people were sent."""
