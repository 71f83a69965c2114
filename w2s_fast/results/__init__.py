"""What came out: outcomes, their scores and rows, kept predictions, summaries."""
