"""Worker processes and what runs inside them. Nothing here is public."""
