"""Completion scripts for bash, zsh and fish: commands and options stand in them, so that no Python starts for these."""
