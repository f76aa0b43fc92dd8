"""What sources sign of what they report: kept for the auditor, sealed and erasable; undone when a key was stolen."""
