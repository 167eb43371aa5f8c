"""The parts of a service that BentoML needs: APIs, form checks, log filter, model references."""
