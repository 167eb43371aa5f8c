"""The batch API: files of requests, run durably at bulk priority, as the OpenAI API has it."""
