"""What dvctl does: use cases over the two libraries, handed what they use."""
