"""How is it shown? One printer for every format."""
