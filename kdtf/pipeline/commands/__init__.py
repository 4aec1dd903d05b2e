"""Command lines of the main job: read and checked before anything heavy is imported or written."""
