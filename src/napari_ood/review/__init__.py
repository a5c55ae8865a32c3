"""What people say about regions: verdicts, kept safe on disk, and how far they agree."""
