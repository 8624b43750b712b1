"""Entries of the stream: pending, show, tail, claim, ack, publish, export, trim."""
