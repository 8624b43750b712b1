"""Entries of the stream: list, show, claim, acknowledge, publish, export, trim."""
