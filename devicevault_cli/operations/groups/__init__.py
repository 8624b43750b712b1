"""The consumer group: position, consumers, snapshots."""
