"""``python -m services.cold_start``: the public name of ``services.coldstart``."""

from services.coldstart.__main__ import MODEL, begin, main, run

__all__ = ["MODEL", "begin", "main", "run"]

if __name__ == "__main__":
    run()
