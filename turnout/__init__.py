"""Turnout: SLO- and quality-aware model routing on BentoML."""
