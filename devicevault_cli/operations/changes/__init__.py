"""Every change: plan, confirm, apply, journal."""
