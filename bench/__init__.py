"""How fast Firedoor is, beside the floor: what this machine, this database and a bare server need for the same thing.

Absolute times are noise on a shared machine. Each program measures both in one run; the ratio is what counts.
"""
