"""ClaimFilter entries through the consumer's write path."""
