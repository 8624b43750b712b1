"""The proof: every stream entry against every row, by identity, in bounded memory."""
