"""Looking at the group, the stream and the table."""
