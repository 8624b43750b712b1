"""What differs between the databases: one module or package for each."""
