"""How `bench/flows.py` exports, judges and times one entry of other people's flows."""
