"""Field cases: what really happens to people, on real servers, through the public face."""
