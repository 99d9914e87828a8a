"""The ledger: every signed entry in one transparency log of static files (c2sp.org/tlog-tiles), which anyone can check
with nothing but the files and the public key."""
