"""Monitoring: status, check, doctor, top, incidents."""
