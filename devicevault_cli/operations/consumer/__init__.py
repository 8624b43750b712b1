"""The consumer: read -> decode -> persist -> settle, the retry policy around it, and what others see of it."""
