"""The bulk path: files of requests, run durably at bulk priority (OpenAI Batch API shapes)."""
