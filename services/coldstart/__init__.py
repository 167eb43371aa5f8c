"""Cold start: answer the first image fast, with the gateway's engine and task, without BentoML."""
