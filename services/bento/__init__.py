"""What BentoML itself needs of a service: its APIs, forms, log filter and model references."""
