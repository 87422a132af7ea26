"""What reverse mode saves, and what it computes again."""
