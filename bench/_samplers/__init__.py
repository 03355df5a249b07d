"""What `bench/samplers.py` is made of."""
