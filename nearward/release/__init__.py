"""What must happen before a synthetic table leaves."""
